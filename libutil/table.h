/*
 * Lookup tables. A specification TYPE:ARGUMENT names one:
 *
 *     hash:PATH btree:PATH  Berkeley DB file PATH.db, built from the text PATH
 *     lmdb:PATH             LMDB file PATH.lmdb, built likewise
 *     text:PATH             the text itself, reread when it changes
 *     static:VALUE          every key has this value
 *     inline:{k=v, k=v}     given in the configuration
 *
 * Text format: "key value..." or "key: value..." a line, '#' comments, a line that begins with
 * white space continues the one before (aliases(5) and Postfix maps alike). Keys are
 * lower-cased when built and when looked up.
 *
 * Built files are made aside, synced and renamed over the old ones; readers notice and reopen.
 */
#pragma once

#include "libutil/buf.h"
#include "libutil/error.h"

struct table;

struct table_driver {
    const char *type;
    bool built; /* has a compiled form made by table_build */
    int (*open)(struct table *, struct error *);
    void (*close)(struct table *);
    /* 0 with the value appended to out, ERR_NOT_FOUND, or a failure to be taken as temporary. */
    int (*get)(struct table *, struct slice key, struct buf *out, struct error *);
    /* Calls fn for each pair in any order until it returns non-zero. */
    int (*each)(struct table *, int (*fn)(struct slice key, struct slice value, void *arg),
        void *arg, struct error *);
    /* Writes the compiled form of source text; NULL when `built` is false. */
    int (*build)(const char *path, struct slice text, struct error *);
};

/* Opens a table by specification. dir_fd: where relative paths and reopening start (AT_FDCWD
 * for plain paths). The directory of the file is kept open so that the table can be reopened
 * after the process has lost the right to walk there. */
struct table *table_open(struct slice spec, struct error *) MUST_USE;
void table_close(struct table *);
/* Looks key up (lower-cased first), rereading a changed file. See get above. */
int table_get(struct table *, struct slice key, struct buf *out, struct error *) MUST_USE;
int table_each(struct table *, int (*fn)(struct slice key, struct slice value, void *arg),
    void *arg, struct error *) MUST_USE;
struct slice table_spec(const struct table *);
/* Whether spec names a known type with a well-formed argument; err lists the types. */
int table_check_spec(struct slice spec, struct error *) MUST_USE;
/* Whether the argument of this type is a path (hash, btree, lmdb, text). */
bool table_has_path(struct slice type);
/* Builds the compiled form of "hash:PATH" and the like from the text file PATH. */
int table_build(struct slice spec, struct error *) MUST_USE;
