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
};

struct conf_schema {
    const struct conf_key *keys; /* ended by name == NULL */
};

/* The registry of all keys of veredus.conf. */
extern const struct conf_schema conf_root_schema;

/* Reads a file. On failure returns NULL and err names file, line, key and what is allowed.
 * conf_errors, if not NULL, receives every error found, a line each (not only the first). */
struct conf *conf_load(const char *path, struct buf *errors, struct error *);
/* Parses text as if it were the file `name`. */
struct conf *conf_parse(const char *name, struct slice text, const struct conf_schema *,
    struct buf *errors, struct error *);
void conf_free(struct conf *);
/* Writes the keys that `role` reads in canonical form, paths absolute; -1: all keys. The result
 * parses back to the same values: it is what master hands to that process in a sealed memfd. */
void conf_write(const struct conf *, int role, struct buf *out);
/* The commented default configuration. */
void conf_write_default(struct buf *out);
/* Prints "- old" / "+ new" lines for every value that differs; returns how many. */
size_t conf_diff(const struct conf *before, const struct conf *after, struct buf *out);
/* Type, default, range and help of a dotted key ("listen.timeout"); ERR_NOT_FOUND + nearest. */
int conf_explain(const char *dotted, struct buf *out, struct error *);

const struct conf_block *conf_root(const struct conf *);
/* The next block of this kind after prev (NULL: the first), or NULL. */
const struct conf_block *conf_next(const struct conf_block *parent, const char *kind,
    const struct conf_block *prev);
size_t conf_args(const struct conf_block *);
/* The i-th word before the brace. */
struct slice conf_arg(const struct conf_block *, size_t i);
/* "file:line" of the block, for messages. */
struct slice conf_where(const struct conf_block *);

/* Values, the declared default when unset. Asking for a key the block's schema does not have,
 * or with another type, is a programmer error (assert). A NULL block gives defaults of the
 * named kind: conf_default_block(conf, "tls"). */
const struct conf_block *conf_default_block(const char *kind);
bool conf_isset(const struct conf_block *, const char *key);
struct slice conf_string(const struct conf_block *, const char *key); /* STRING PATH TABLE CHOICE */
bool conf_bool(const struct conf_block *, const char *key);
int64_t conf_int(const struct conf_block *, const char *key); /* INT SIZE DURATION */
/* Words of a LIST; with repeated keys, all of them in order. */
size_t conf_list_len(const struct conf_block *, const char *key);
struct slice conf_list_at(const struct conf_block *, const char *key, size_t i);
