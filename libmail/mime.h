/*
 * The structure of a message: its parts with their places in the stored bytes (RFC 2045, 2046).
 *
 * One pass over the message, in time linear in its size whatever it holds. Lines end with CRLF or
 * LF; offsets count stored bytes, sizes count every line end as CRLF, as IMAP and POP3 do.
 * Nothing is malformed: what cannot be a part is text of the part around it.
 *
 * All memory comes from the caller's arena; slices point into the message (which must live as
 * long) or into the arena.
 */
#pragma once

#include "libmail/header.h"
#include "libutil/arena.h"

enum {
    MIME_MAX_PARTS = 2000, /* what follows is left to the enclosing part */
    MIME_MAX_DEPTH = 50,   /* a deeper multipart or message is a leaf */
    MIME_MAX_PARAMS = 100  /* of one field */
};

struct mime_param {
    struct mime_param *next;
    struct slice name;  /* with RFC 2231 marks: "filename*0*" */
    struct slice value; /* unquoted and unfolded, otherwise as written */
};

enum mime_kind { MIME_LEAF, MIME_MULTIPART, MIME_MESSAGE };

struct mime_part {
    struct mime_part *parent;
    struct mime_part *first; /* children of a multipart; of a message: the message in it */
    struct mime_part *next;
    enum mime_kind kind;

    size_t header;        /* offset of the header */
    size_t body;          /* offset of the body: after the empty line */
    size_t end;           /* offset after the body; the delimiter's line end is not part of it */
    uint64_t header_size; /* with CRLF, the empty line included */
    uint64_t body_size;   /* with CRLF */
    uint64_t lines;       /* line ends in the body */

    struct slice type, subtype; /* as written; TEXT and PLAIN when absent or unusable */
    struct mime_param *params;
    bool typed; /* Content-Type was there and usable */
    /* The fields' values as written, trimmed; p == NULL: absent. */
    struct slice id, description, encoding, md5, language, location;
    struct slice disposition; /* the word alone */
    struct mime_param *disposition_params;
};

/* The part tree of a message. NULL when the arena's cap was reached. */
struct mime_part *mime_parse(struct slice message, struct arena *) MUST_USE;

/* The header and the body of a part as stored bytes. */
struct slice mime_header(struct slice message, const struct mime_part *);
struct slice mime_body(struct slice message, const struct mime_part *);
/* The n-th child from 1 of a multipart, or NULL. */
struct mime_part *mime_child(const struct mime_part *, uint64_t n);
/* A parameter by its bare name, any case: RFC 2231 pieces are joined and decoded to UTF-8. p ==
 * NULL: absent, or the arena is full. */
struct slice mime_param(const struct mime_param *, const char *name, struct arena *);

/* As header_iter_next, but passes over lines that are no field: the header of a part ends at its
 * empty line only. */
bool mime_field_next(struct header_iter *, struct header_field *);
/* The first field of this name (any case). */
bool mime_field_find(struct slice header, const char *name, struct header_field *);

/* Parses "word; name=value; ...": *word gets what is before the first ';', without comments.
 * Returns the parameters in their order, NULL when there are none. */
struct mime_param *mime_params_parse(struct slice value, struct slice *word, struct arena *);

/* Index of the first LF without a CR before it in this text; its length when there is none. */
size_t mime_bare_lf(struct slice text);
/* Appends stored text with every bare LF made CRLF. */
int mime_put_crlf(struct buf *out, struct slice text);
/* The length that would have. */
uint64_t mime_crlf_size(struct slice text);
