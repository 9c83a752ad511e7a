/* SEARCH (RFC 3501 §6.4.4): the keys as a tree, and their evaluation. */
#pragma once

#include "imapd/session/args.h"
#include "libstore/store.h"

enum search_op {
    SEARCH_AND, /* of the children; none: ALL */
    SEARCH_OR,
    SEARCH_NOT,
    SEARCH_SEQUENCE,
    SEARCH_UID,
    SEARCH_FLAGS, /* (flags & mask) == value */
    SEARCH_KEYWORD,
    SEARCH_BEFORE, /* internal date's day */
    SEARCH_ON,
    SEARCH_SINCE,
    SEARCH_SAVEDBEFORE, /* RFC 8514 */
    SEARCH_SAVEDON,
    SEARCH_SAVEDSINCE,
    SEARCH_EMAILID,    /* RFC 8474 */
    SEARCH_SENTBEFORE, /* the Date field's day */
    SEARCH_SENTON,
    SEARCH_SENTSINCE,
    SEARCH_LARGER,
    SEARCH_SMALLER,
    SEARCH_HEADER,
    SEARCH_BODY,
    SEARCH_TEXT,
    SEARCH_THREADID
};

struct search_key {
    struct search_key *next;
    enum search_op op;
    struct search_key *first; /* AND OR NOT */
    bool opens;               /* needs more than the index: tried after the others */
    uint32_t mask, value;     /* FLAGS */
    struct slice name;        /* KEYWORD EMAILID THREADID; HEADER: field name */
    struct slice text;        /* HEADER BODY TEXT: case-folded UTF-8 */
    int64_t day;
    uint64_t size;
    struct seq_set set;  /* SEQUENCE UID */
    struct uidset *seqs; /* of the set, filled in by the session */
};

enum { SEARCH_DEPTH_MAX = 50, SEARCH_KEYS_MAX = 1000 };

struct search {
    struct search_key *root;
    unsigned keys;
    struct slice bad_charset; /* p set: CHARSET that is not known */
};

/* "[CHARSET x] key key ..." up to the end. */
bool take_search(struct args *, struct search *);

/* The message that keys are tried on; zero it but for mb, then release after each message. */
struct search_message {
    struct store_mailbox *mb;
    struct store_msg msg;
    uint32_t seq;
    struct store_body body;
    bool has_body, failed;
    struct buf text; /* decoded header and body text, folded */
    bool has_text;
    size_t body_at; /* where the body text begins in it */
};

bool search_matches(struct search_message *, const struct search_key *);
void search_message_clear(struct search_message *);
