/*
 * mbox files (RFC 4155 as far as it goes; quoting as "mboxrd"): one message after the other, each
 * behind a line "From SENDER DATE" that follows an empty line or begins the file.
 *
 * Reading is a stream in bounded memory, whatever the file holds. Status, X-Status and X-Keywords
 * fields are flags and keywords, not part of the message. Content-Length ("mboxcl") tells where a
 * message ends, in a file and where it is right.
 */
#pragma once

#include "libstore/store.h"

enum { MBOX_PIECE = 65536 };

struct mbox;

struct mbox_message {
    uint64_t line;                             /* where it begins, from 1 */
    int64_t date;                              /* of its From_ line */
    uint32_t flags;                            /* complete after mbox_piece has returned false */
    struct slice keywords[STORE_KEYWORDS_MAX]; /* so are these; valid until mbox_next */
    size_t nkeywords;
};

/* The stream stays the caller's. */
struct mbox *mbox_new(FILE *in);
void mbox_free(struct mbox *);
/* The next message, skipping what is left of the one before; false at the end of the file. */
bool mbox_next(struct mbox *, struct mbox_message **);
/* The next piece of the message, at most MBOX_PIECE bytes, valid until the next call. */
bool mbox_piece(struct mbox *, struct slice *);
/* Lines before the first message, which belong to none. */
uint64_t mbox_strays(const struct mbox *);

/* Whether a line of a message gets one '>' more in an mbox file: '>'s, perhaps none, and "From ".
 */
bool mbox_is_from(struct slice line);
/* Whether a header line is for programs that read the file, to note flags and lengths, and so does
 * not go into it from a message; `before` is what this said of the line before, which may go on. */
bool mbox_is_note(struct slice line, bool before);
/* Writes a message as it stands in an mbox file. content has CRLF line ends. ERR_IO: see errno. */
int mbox_write(FILE *out, struct slice content, const struct mbox_message *) MUST_USE;
