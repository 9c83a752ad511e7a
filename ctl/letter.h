/*
 * A letter as sendmail(1) gets it on standard input: line ends of any kind become CRLF, the
 * header is read ahead, recipients can be taken from it (-t), and the rest is streamed.
 */
#pragma once

#include "libutil/buf.h"
#include "libutil/error.h"

enum { LETTER_HEADER_MAX = 1024 * 1024, LETTER_LINE_MAX = 32000 };

struct letter {
    int fd;
    bool dot_ends;     /* a line with a single dot is the end */
    bool ended;        /* no more input */
    bool cr;           /* the last octet was a CR whose line end is not decided yet */
    size_t line;       /* octets of the current line */
    bool dot;          /* the current line is "." so far, which is not in text yet */
    struct buf header; /* CRLF, without the empty line; fields only */
    struct buf text;   /* converted and not yet taken: begins where the header ends */
};

void letter_init(struct letter *, int fd, bool dot_ends);
void letter_clear(struct letter *);
/* Reads up to the end of the header; what is no field begins the text. ERR_IO, ERR_LIMIT. */
int letter_read_header(struct letter *, struct error *) MUST_USE;
/* Calls fn for every address in To, Cc and Bcc (or, where there are any, in their Resent- forms),
 * then takes Bcc and Resent-Bcc out of the header. Stops at fn's first failure. */
int letter_recipients(struct letter *,
    int (*fn)(struct slice local, struct slice domain, void *arg), void *arg,
    struct error *) MUST_USE;
/* Puts one more field in front of the header. */
int letter_add_field(struct letter *, const char *name, struct slice value) MUST_USE;
/* Converts more input into text; false at the end of the letter. */
bool letter_read(struct letter *, int *rc, struct error *);
