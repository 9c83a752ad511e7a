/*
 * What another IMAP server kept beside a Maildir, so that its clients need not notice the change:
 *
 *   Dovecot   dovecot-uidlist (version 1 and 3), dovecot-keywords with letters in file names,
 *             subscriptions
 *   Courier   courierimapuiddb, courierimapkeywords/, courierpop3dsizelist,
 *             courierimapsubscribed
 *
 * The files are read, never changed. Lines that make no sense are passed over: their messages
 * get new numbers.
 */
#pragma once

#include "libstore/store.h"
#include "libutil/map.h"

struct foreign_msg {
    struct foreign_msg *next;
    uint32_t uid;   /* 0: not told */
    uint64_t words; /* bits of foreign.words */
    bool has_guid;
    unsigned char guid[STORE_GUID];
    char *uidl; /* the POP3 unique id, where a file tells it; else NULL */
    uint64_t update;
};

struct foreign {
    bool dovecot, courier;         /* whose files there are; both: Dovecot's count */
    uint32_t uidvalidity, uidnext; /* uidvalidity 0: not told */
    struct map msgs;               /* base name -> struct foreign_msg */
    struct foreign_msg *list;
    char *words[STORE_KEYWORDS_MAX]; /* keywords; NULL: unused */
};

/* OK also when there is nothing. Errors are those of reading: numbers that exist but cannot be
 * read must not be replaced by new ones. */
int foreign_read(int dirfd, struct foreign *, struct error *) MUST_USE;
void foreign_clear(struct foreign *);
/* NULL: nothing is known about it. */
struct foreign_msg *foreign_get(const struct foreign *, const char *base);
/* Keywords as a file name (or NULL) and the files tell them, as bits of words. */
uint64_t foreign_words(const struct foreign *, const struct foreign_msg *, const char *name);
/* The unique id that POP3 clients know: false when there is none but ours. */
bool foreign_uidl(const struct foreign *, const struct foreign_msg *, char out[STORE_UIDL_MAX + 1]);

/* Appends the subscribed folders' names in UTF-8, one a line. */
int foreign_subscriptions(int dirfd, struct buf *out, struct error *) MUST_USE;
