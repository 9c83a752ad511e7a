/* What the table drivers share. */
#pragma once

#include "libutil/map.h"
#include "libutil/table.h"

/* One pair of a text; both parts live in the memory of its table_text. */
struct table_pair {
    struct slice key, value;
};

/* A parsed text: pairs in order, and an index by key. */
struct table_text {
    struct table_pair *pairs;
    size_t n, cap;
    struct map index; /* to pair number + 1 */
    char **chunks;
    size_t nchunks;
    bool aliases;                /* a key given twice is no error */
    table_repeated_fn *repeated; /* who is told; may be NULL */
    void *arg;
};

void table_text_init(struct table_text *);
void table_text_clear(struct table_text *);
/* Adds every pair of the text. Errors name the line of `name`. */
int table_text_parse(
    struct table_text *, const char *name, struct slice text, struct error *) MUST_USE;
/* Adds one pair, copied, the key lower-cased. */
int table_text_add(
    struct table_text *, struct slice key, struct slice value, struct error *) MUST_USE;
int table_text_get(const struct table_text *, struct slice key, struct buf *out);
int table_text_each(const struct table_text *,
    int (*fn)(struct slice key, struct slice value, void *arg), void *arg);

struct table_driver {
    const char *type;
    const char *suffix; /* of the file that is read; NULL: no file */
    int (*open)(struct table *, struct error *);
    void (*close)(struct table *);
    int (*get)(struct table *, struct slice key, struct buf *out, struct error *);
    int (*each)(struct table *, int (*fn)(struct slice key, struct slice value, void *arg),
        void *arg, struct error *);
    /* Writes the compiled form as a new file `name` of the working directory. */
    int (*build)(const char *name, const struct table_text *, struct error *);
};

/* What makes a file the same file with the same content. */
struct table_stamp {
    uint64_t dev, ino, size;
    int64_t mtime_ns, ctime_ns;
};

struct table {
    const struct table_driver *driver;
    char *spec;
    struct slice argument; /* in spec */
    int dir_fd;            /* -1 without a file */
    char name[256];        /* of the file in that directory */
    struct table_stamp stamp;
    uint64_t generation;
    bool is_open, aliases;
    void *state; /* the driver's */
};

extern const struct table_driver table_hash_driver, table_btree_driver, table_lmdb_driver,
    table_text_driver, table_static_driver, table_inline_driver;

/* Moves the working directory to dir_fd; the return value is for table_leave. -1: errno. */
int table_enter(int dir_fd);
void table_leave(int token);
/* Reads a whole file. */
int table_read_file(int dir_fd, const char *name, struct buf *out, struct error *) MUST_USE;

/* Splits a path into its directory, opened, and the name in it. */
int table_open_directory(
    struct slice path, int *dir_fd, char *name, size_t size, struct error *) MUST_USE;
/* The text between the braces of inline:{...}, and its pairs one by one. ERR_SYNTAX. */
int table_inline_body(struct slice argument, struct slice *body) MUST_USE;
int table_inline_next(struct slice *rest, struct slice *key, struct slice *value) MUST_USE;
