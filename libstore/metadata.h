/*
 * Annotations of folders and of the mail directory (RFC 5464), and special uses of folders
 * (RFC 6154), which are the annotation /private/specialuse.
 *
 * Kept in veredus.metadata in the folder's directory (of the server: veredus.server in the mail
 * directory), written whole and renamed into place: a crash leaves the old or the new. The file
 * goes with the folder when that is renamed or deleted. Names are compared ignoring case.
 */
#pragma once

#include "libstore/store.h"

enum {
    METADATA_NAME_MAX = 255,
    METADATA_VALUE_MAX = 64 * 1024,
    METADATA_ENTRIES_MAX = 500, /* of one folder */
    METADATA_TOTAL_MAX = 1 << 20
};

struct metadata_entry {
    struct slice name, value; /* p NULL in a change: remove it */
};
struct metadata {
    struct metadata_entry *entries; /* sorted by name */
    size_t n;
    struct buf text; /* what the entries point into */
};

/* Begins with /private/ or /shared/, has no empty level, no '*', '%' nor anything but
 * printable ASCII (RFC 5464 §3.2). */
bool metadata_name_ok(struct slice name);
void metadata_clear(struct metadata *);
/* The value, p NULL when there is none. */
struct slice metadata_find(const struct metadata *, struct slice name);

/* folder empty: of the server. ERR_NOT_FOUND: no such folder. */
int store_metadata_get(
    struct store *, struct slice folder, struct metadata *, struct error *) MUST_USE;
/* All of the changes or none. ERR_LIMIT: too many entries, or too large. */
int store_metadata_set(struct store *, struct slice folder, const struct metadata_entry *changes,
    size_t n, struct error *) MUST_USE;

/* Special uses as bits, in the order of store_use_name. */
enum { STORE_USES = 7 };
/* "\\All", "\\Archive", "\\Drafts", "\\Flagged", "\\Junk", "\\Sent", "\\Trash"; NULL: no more. */
const char *store_use_name(unsigned i);
/* Bit of a use with or without its backslash; 0: unknown. */
unsigned store_use_bit(struct slice name);
/* What was assigned to a folder; *assigned: something was, if only "none". */
int store_use_get(
    struct store *, struct slice folder, unsigned *uses, bool *assigned, struct error *) MUST_USE;
int store_use_set(struct store *, struct slice folder, unsigned uses, struct error *) MUST_USE;
