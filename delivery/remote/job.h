/*
 * One deliver_start from qmgr to deliver_done: the message, its recipients, what became of each.
 * A job owns copies of all it needs and answers exactly once.
 */
#pragma once

#include "delivery/remote/route.h"
#include "libmail/proto/deliver.h"

struct session;

struct job_recipient {
    struct recipient to; /* into job->recipients */
    bool done;
    enum deliver_status status;
    bool site;
    char dsn[16], mta[256], text[481];
};

struct job {
    struct list link; /* remote->jobs */
    struct remote *remote;
    struct peer *peer;
    uint32_t id;
    uint64_t trace;
    struct log log;
    struct buf envelope_bytes, recipient_bytes, body;
    struct buf prefix; /* Delivered-To fields for recipient.via */
    int fd;            /* the body, when it is not inline; -1 */
    uint64_t size;     /* with the prefix */
    struct envelope envelope;
    struct job_recipient recipients[DELIVER_RECIPIENTS_MAX];
    size_t count;
    char nexthop[1025];
    struct nexthop hop;
    struct route *route;
    struct route_result found;
    size_t target;  /* index of the host being tried */
    uint32_t asked; /* the call about it that is under way; 0: none */
    bool reused;    /* on a connection that another message had opened */
    struct session *session;
    char trouble_dsn[16]; /* of the last host that could not be used */
    char trouble[481], trouble_mta[256];
};

void job_start(struct peer *, struct ipc_in *);
/* Drops it without an answer. */
void job_cancel(struct job *);

/* --- called by its session ----------------------------------------------------------------- */

/* Records the outcome for recipient i, unless it has one. */
void job_outcome(struct job *, size_t i, enum deliver_status, const char *dsn, const char *mta,
    const char *text);
/* The session is through with the message and has let go of the job. Recipients without an
 * outcome are deferred. */
void job_finished(struct job *);
/* The host cannot be used; nothing was handed over, and the session has let go of the job. */
void job_host_failed(struct job *, const struct target *, const char *dsn, const char *text);
/* As above: TLS failed, the same host may do without. */
void job_tls_failed(struct job *, const struct target *, const char *text);
/* The body from offset on, at most room bytes. -1: it cannot be read. */
ssize_t job_body(const struct job *, uint64_t offset, char *into, size_t room);
