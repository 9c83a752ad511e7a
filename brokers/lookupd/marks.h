/*
 * By what smtpd knows that a verdict still holds: the state of each table, as a mark of its file. A
 * mark goes to every smtpd as soon as it is taken, and so ahead of what was found in that state.
 */
#pragma once

#include "brokers/lookupd/maps.h"
#include "libmail/proto/auth.h"
#include "libmail/proto/route.h"
#include "libutil/daemon.h"

struct mark {
    uint64_t generation; /* 0: none */
    struct filemark file;
};

struct marks {
    struct daemon *daemon;
    struct mark mark[ROUTE_SOURCES];
    uint64_t epoch;  /* changes with any of them */
    bool incomplete; /* a table has none */
};

void marks_init(struct marks *, struct daemon *);
/* Looks at the tables, and takes new marks of those that have changed. */
void marks_update(struct marks *, const struct maps *);
/* authd tells of the users table; NULL: it has gone, and what comes next is another. */
void marks_users(struct marks *, const struct auth_mark *, int *fd);
/* Whether answers of authd from this generation may be kept. */
bool marks_know_users(const struct marks *, uint64_t generation);
/* All that there is, for an smtpd that has come up. */
void marks_tell(struct marks *, struct peer *);
/* Whether it is an smtpd, and has got all marks. */
bool marks_known_to(const struct peer *);
