/*
 * What FETCH can ask for (RFC 3501 §6.4.5), parsed, and the sections of a message.
 */
#pragma once

#include "imapd/session/args.h"
#include "libmail/mime.h"

enum fetch_kind {
    FETCH_UID,
    FETCH_FLAGS,
    FETCH_INTERNALDATE,
    FETCH_SIZE,
    FETCH_ENVELOPE,
    FETCH_BODY, /* the structure, not extensible */
    FETCH_BODYSTRUCTURE,
    FETCH_EMAILID, /* RFC 8474 */
    FETCH_THREADID,
    FETCH_SAVEDATE, /* RFC 8514 */
    FETCH_PREVIEW,  /* RFC 8970 */
    FETCH_RFC822,   /* sections under their old names */
    FETCH_RFC822_HEADER,
    FETCH_RFC822_TEXT,
    FETCH_SECTION /* BODY[...] */
};

enum section_text {
    SECTION_ALL,
    SECTION_HEADER,
    SECTION_FIELDS,
    SECTION_FIELDS_NOT,
    SECTION_TEXT,
    SECTION_MIME
};

enum { SECTION_DEPTH_MAX = 64, FETCH_ITEMS_MAX = 200, SECTION_FIELDS_MAX = 200 };

struct section {
    uint32_t *path; /* part numbers */
    size_t npath;
    enum section_text text;
    struct slice *fields; /* header names */
    size_t nfields;
};

struct fetch_item {
    enum fetch_kind kind;
    struct section section;
    bool partial;
    uint64_t offset, count;
};

struct fetch_items {
    struct fetch_item *items;
    size_t n;
    bool seen;  /* some item sets \Seen */
    bool flags; /* FLAGS is among them */
    bool uid;   /* UID is */
};

/* A macro, one item, or a list of them. */
bool take_fetch_items(struct args *, struct fetch_items *);

/* The bytes a section means in a message with CRLF line ends; p == NULL: there is no such part.
 * Header subsets are made in the arena. ERR_LIMIT when it is full. */
int section_find(struct slice message, const struct mime_part *root, const struct section *,
    struct arena *, struct slice *found) MUST_USE;
/* A message's header with its empty line, found without a parse. */
struct slice message_header(struct slice message);
/* The chosen fields of a header, ended by an empty line. */
int section_fields(
    struct slice header, const struct section *, struct arena *, struct slice *found) MUST_USE;
/* "BODY[1.HEADER.FIELDS (From)]<0>": the item's name in a response. */
void section_put_name(const struct fetch_item *, struct buf *out);
