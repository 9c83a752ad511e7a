/*
 * What the parts of the configuration module share. Everything lives in the arena of its conf.
 */
#pragma once

#include "libutil/arena.h"
#include "libutil/conf.h"

enum { CONF_DEPTH = 8, CONF_WORDS = 4096, CONF_ERRORS = 50, CONF_FILE_MAX = 4 * 1024 * 1024 };

/* One key with its words. Every key with a default has an entry in every block. */
struct conf_entry {
    const struct conf_key *key;
    struct slice *words;
    size_t nwords;
    int64_t number; /* INT SIZE DURATION BOOL */
    bool is_default;
    const char *file;
    unsigned line;
    struct conf_entry *next;
};

struct conf_block {
    const struct conf_key *key; /* NULL: the root */
    const struct conf_schema *schema;
    struct slice *args;
    size_t nargs;
    struct slice where;
    struct conf_entry *entries, *last_entry;
    struct conf_block *children, *last_child, *next;
};

struct conf {
    struct arena arena;
    struct slice directory; /* where relative paths start */
    const char *file;       /* as messages name it */
    struct conf_block *root;
    struct conf_block *defaults; /* one block of each kind, with nothing set */
};

/* Collects errors: the first in err, all in lines. */
struct conf_report {
    struct buf *lines;
    struct error *err;
    unsigned count;
};

void conf_complain(struct conf_report *, const char *file, unsigned line, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

/* --- words ------------------------------------------------------------------------------------ */
enum conf_token { CONF_WORD, CONF_END_ENTRY, CONF_OPEN, CONF_CLOSE, CONF_EOF, CONF_BAD };

struct conf_lexer {
    struct slice text;
    size_t at;
    unsigned line;
    struct arena *arena;
    struct slice word;
    const char *why; /* of CONF_BAD */
};

/* block_may_open: whether '{' at the start of a word opens a block; otherwise it belongs to the
 * word, as in {domain}/{user}. */
enum conf_token conf_lex(struct conf_lexer *, bool block_may_open);
/* Skips the rest of an entry, with its block if it has one. */
void conf_lex_skip(struct conf_lexer *);

/* --- values ----------------------------------------------------------------------------------- */
/* Checks the words of an entry against its key and fills number; relative paths are completed
 * with directory. */
int conf_value_check(struct arena *, struct slice directory, struct conf_entry *, struct error *);
/* The canonical form of the value. */
void conf_value_print(const struct conf_entry *, struct buf *);
/* Quotes where needed. */
void conf_word_print(struct slice word, struct buf *);
/* "a number from 1 to 100": what a key takes. */
void conf_value_allowed(const struct conf_key *, struct buf *);
const char *conf_type_name(enum conf_type);

const struct conf_key *conf_key_find(const struct conf_schema *, struct slice name);
/* The key most like name, or NULL when none is near. */
const struct conf_key *conf_key_nearest(const struct conf_schema *, struct slice name);
const struct conf_entry *conf_entry_find(const struct conf_block *, const char *key);
/* Gives every key of the block that has a default and no value its default. */
void conf_fill_defaults(struct conf *, struct conf_block *);
void conf_add_entry(struct conf_block *, struct conf_entry *);

/* --- the registry's own rules (conf_check.c) ----------------------------------------------------
 */
/* Fills in what one value implies for another (a listener's protocol from its name). */
void conf_settle(struct conf *);
