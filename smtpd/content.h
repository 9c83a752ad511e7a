/*
 * The beginning of a message as it is stored: our Received field, fields that a submitted
 * message lacks (RFC 6409 §8), and an empty line where the sender forgot it.
 */
#pragma once

#include "libmail/received.h"
#include "libmail/smtp_grammar.h"

struct content_job {
    struct received received;
    struct slice hostname;
    struct slice sender; /* for a From field; empty: null sender */
    bool complete;       /* add Date, Message-ID and From where they are missing, drop Bcc */
};

/* What the header tells of the message. */
struct content_facts {
    struct slice message_id; /* of out, valid until it changes */
    bool bulk;               /* from a list or a machine */
    bool utf8;               /* holds other than ASCII characters */
};

/*
 * head is a message up to and including the end of its header, or all of it when it has none.
 * Appends what is to be stored in its place to out and sets *facts. 0, or ERR_DENIED with *why
 * filled: the message is refused. ERR_LIMIT: out is full.
 */
int content_begin(const struct content_job *, struct slice head, struct buf *out,
    struct content_facts *, struct smtp_refusal *why) MUST_USE;
/* Length of the header in text with the empty line that ends it; 0: not complete yet. *scanned
 * remembers how far text was searched. */
size_t content_header_end(struct slice text, size_t *scanned);
