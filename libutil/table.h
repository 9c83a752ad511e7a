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
 * white space continues the one before (aliases(5) and Postfix maps alike). A key may stand in
 * double quotes. Keys are lower-cased when built and when looked up. A key given twice (but in
 * aliases), without a value, with a NUL, or over a limit is an error that names the line.
 *
 * Built files are made aside, synced and renamed over the old ones; readers notice and reopen.
 * For that the directory of the file is kept open: it works after chroot, as long as Landlock
 * lets the process read there (table_directory). Berkeley DB and LMDB open by path only, so
 * their files are opened by bare name with the working directory moved there for that moment:
 * tables of a process belong to one thread.
 */
#pragma once

#include "libutil/buf.h"
#include "libutil/error.h"
#include "libutil/filemark.h"

struct table;

enum { TABLE_KEY_MAX = 500, TABLE_VALUE_MAX = 65536, TABLE_FILE_MAX = 256 * 1024 * 1024 };

/* Opens a table by specification. ERR_NOT_FOUND when its file does not exist. */
struct table *table_open(struct slice spec, struct error *) MUST_USE;
/* The same for aliases(5), as others keep them: of a key given twice the first counts. */
struct table *table_open_aliases(struct slice spec, struct error *) MUST_USE;
void table_close(struct table *);
/* Looks key up (lower-cased first), reopening a changed file. 0 with the value appended to out,
 * ERR_NOT_FOUND, or a failure to be taken as temporary (a damaged file, wrong text). */
int table_get(struct table *, struct slice key, struct buf *out, struct error *) MUST_USE;
/* Calls fn for each pair in any order until it returns non-zero. */
int table_each(struct table *, int (*fn)(struct slice key, struct slice value, void *arg),
    void *arg, struct error *) MUST_USE;
struct slice table_spec(const struct table *);
/* A number that changes when the content may have changed; looks at the file. */
uint64_t table_generation(struct table *);
/* What tells others, who may not read it, that the content has not changed since generation
 * `generation`; ERR_AGAIN when it has. The mark is the caller's, and empty for static and inline. */
int table_mark(struct table *, uint64_t generation, struct filemark *, struct error *) MUST_USE;
/* The directory that a process needs to read for this table; false for static and inline. */
bool table_directory(struct slice spec, char *out, size_t size);
/* Whether spec names a known type with a well-formed argument; err lists the types. */
int table_check_spec(struct slice spec, struct error *) MUST_USE;
/* Whether the argument of this type is a path (hash, btree, lmdb, text). */
bool table_has_path(struct slice type);
/* Builds the compiled form of "hash:PATH" and the like from the text file PATH. ERR_UNSUPPORTED
 * for types that are not built. */
int table_build(struct slice spec, struct error *) MUST_USE;
/* The same for aliases(5); repeated is called for each key given twice. */
typedef void table_repeated_fn(const char *name, unsigned line, struct slice key, void *arg);
int table_build_aliases(struct slice spec, table_repeated_fn *, void *arg, struct error *) MUST_USE;

/* Cuts the next entry, with its continuation lines, off *rest; comments and empty lines between
 * entries are skipped; p == NULL at the end. *line counts lines, *starts is the entry's. */
struct slice table_next_entry(struct slice *rest, unsigned *line, unsigned *starts);
int table_split_entry(struct slice entry, struct slice *key, struct slice *value) MUST_USE;

/* Changes one entry of the text behind a table (text, or what a built type is built from), and
 * builds again what is built. Comments and other entries stay. Writers are kept apart by a lock
 * on the directory; readers see the old file or the new, which has the old one's owner and mode.
 * ERR_EXISTS, ERR_NOT_FOUND, ERR_UNSUPPORTED for tables without a text. */
enum table_change { TABLE_ADD, TABLE_REPLACE, TABLE_DELETE };
int table_change(struct slice spec, enum table_change, struct slice key, struct slice value,
    struct error *) MUST_USE;
