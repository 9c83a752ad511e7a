/*
 * Configuration: a block grammar and a registry. Every key is declared once (type, default,
 * unit, range, which processes read it, help); defaults, errors, the default file, the man
 * page and `veredus config explain` come from that row.
 *
 *     file   := { entry }
 *     entry  := word { word } ( newline | ';' | block )     an entry ends at newline, ';' or '}'
 *     block  := '{' { entry } '}'
 *     word   := bare characters, or "quoted" with \" \\ \n; '#' starts a comment
 *
 * No word is reserved in value position. `include PATH` reads another file in place.
 * A value the registry does not know, or out of range, is an error naming file, line, key and
 * what is allowed; an unknown key suggests the nearest. Nothing is applied in part.
 */
#pragma once

#include "libutil/buf.h"
#include "libutil/error.h"

struct conf;
struct conf_block;

enum conf_type {
    CONF_STRING,   /* one word */
    CONF_LIST,     /* one or more words */
    CONF_BOOL,     /* yes | no */
    CONF_INT,      /* a number in [min, max] */
    CONF_SIZE,     /* 512, 10K, 25M, 2G: bytes */
    CONF_DURATION, /* 500ms, 30s, 5m, 4h, 5d: milliseconds */
    CONF_CHOICE,   /* one of choices, separated by | */
    CONF_PATH,     /* an absolute path, or relative to the configuration file's directory */
    CONF_TABLE,    /* TYPE:ARGUMENT, see libutil/table.h */
    CONF_BLOCK     /* { } with its own keys; args are words before the brace */
};

struct conf_schema;

/* Judges one word of a value; on refusal err says what is allowed. */
typedef int conf_check_fn(struct slice word, struct error *);

struct conf_key {
    const char *name;
    enum conf_type type;
    const char *def;     /* default, in configuration syntax; NULL: none, "" for empty */
    int64_t min, max;    /* INT, SIZE, DURATION; for BLOCK: least and most arguments */
    const char *choices; /* CHOICE */
    uint64_t readers;    /* bit set of enum role (libutil/role.h) that are given this key */
    bool repeat;         /* may appear more than once (BLOCK, LIST) */
    const struct conf_schema *block;
    const char *help;
    const char *example;  /* shown in the default file when there is no default */
    conf_check_fn *check; /* STRING and LIST: every word must pass; may be NULL */
    bool required;        /* conf_check refuses a block without it */
    unsigned path_word;   /* LIST: this word (from 1) is a path, as in `to file PATH` */
};

struct conf_schema {
    const struct conf_key *keys; /* ended by name == NULL */
};

/* The registry of all keys of veredus.conf. */
extern const struct conf_schema conf_root_schema;

/* Reads a file and checks it as a whole (conf_check). On failure returns NULL and err names file,
 * line, key and what is allowed; errors, if not NULL, receives every error found, a line each. */
struct conf *conf_load(const char *path, struct buf *errors, struct error *);
/* Parses text as if it were the file `name`: grammar and single values only, as a daemon does
 * with the part that master hands it. */
struct conf *conf_parse(const char *name, struct slice text, const struct conf_schema *,
    struct buf *errors, struct error *);
/* What single values cannot show: required keys, duplicates, listeners that make no sense. */
int conf_check(const struct conf *, struct buf *errors, struct error *) MUST_USE;
void conf_free(struct conf *);
/* Writes the keys that `role` reads in canonical form, paths absolute. The result parses back to
 * the same values: it is what master hands to that process in a sealed memfd. Keys that are not
 * set are left out unless their default is a path. role -1: all keys, defaults included. */
void conf_write(const struct conf *, int role, struct buf *out);
/* The commented default configuration. */
void conf_write_default(struct buf *out);
/* Prints "- old" / "+ new" lines for every value that differs; returns how many. */
size_t conf_diff(const struct conf *before, const struct conf *after, struct buf *out);
/* Type, default, range and help of a dotted key ("listen.timeout"); ERR_NOT_FOUND + nearest. */
int conf_explain(const char *dotted, struct buf *out, struct error *);

const struct conf_block *conf_root(const struct conf *);
/* The next block of this kind after prev (NULL: the first), or NULL. */
const struct conf_block *conf_next(
    const struct conf_block *parent, const char *kind, const struct conf_block *prev);
size_t conf_args(const struct conf_block *);
/* The i-th word before the brace. */
struct slice conf_arg(const struct conf_block *, size_t i);
/* "file:line" of the block, for messages. */
struct slice conf_where(const struct conf_block *);

/* Values, the declared default when unset. Asking for a key the block's schema does not have,
 * or with another type, is a programmer error (assert). A NUL follows every value. */

/* A block of this kind (of the root) with nothing set, so that all keys give their defaults. */
const struct conf_block *conf_default_block(const struct conf *, const char *kind);
/* The first block of this kind of the root, or its defaults: for tls, outbound, log, ... */
const struct conf_block *conf_one(const struct conf *, const char *kind);
/* Whether the file sets it. */
bool conf_isset(const struct conf_block *, const char *key);
struct slice conf_string(const struct conf_block *, const char *key); /* STRING PATH TABLE CHOICE */
bool conf_bool(const struct conf_block *, const char *key);
int64_t conf_int(const struct conf_block *, const char *key); /* INT SIZE DURATION */
/* Words of a LIST; with repeated keys, all of them in order. */
size_t conf_list_len(const struct conf_block *, const char *key);
struct slice conf_list_at(const struct conf_block *, const char *key, size_t i);
