/*
 * The arguments of a command, read from the front of its text (RFC 3501 §9). The text holds
 * literals in place: "{5}" CRLF and the bytes.
 *
 * Each take_ function returns false and leaves a reason in `wrong` when what it wants is not
 * next; the first reason stays. Results live in the arena or in the text.
 */
#pragma once

#include "libstore/uidset.h"
#include "libutil/arena.h"

struct args {
    struct slice rest;
    struct arena *arena;
    const char *wrong;
    bool utf8; /* mailbox names are UTF-8: the client has enabled it */
};

enum { ARGS_KEYWORDS_MAX = 64, ARGS_KEYWORD_LENGTH = 128 };

/* Sets the reason; returns false. */
bool args_fail(struct args *, const char *wrong);
bool args_next_is(const struct args *, char c);
bool args_at_end(const struct args *);
/* Exactly one space; a byte c; the end. */
bool take_space(struct args *);
bool take_char(struct args *, char c);
bool take_end(struct args *);

/* A run of characters that are none of: space ( ) { % * " \ ] controls 8-bit. */
bool take_atom(struct args *, struct slice *);
/* Quoted or literal. */
bool take_string(struct args *, struct slice *);
/* Atom characters with ']', or a string. */
bool take_astring(struct args *, struct slice *);
/* NIL as p == NULL. */
bool take_nstring(struct args *, struct slice *);
/* A mailbox name as the store knows it: UTF-8, INBOX in capitals. */
bool take_mailbox(struct args *, struct slice *);
/* list-mailbox: as astring with % and *; still in modified UTF-7. */
bool take_pattern(struct args *, struct slice *);
bool take_number(struct args *, uint64_t max, uint64_t *);
/* "dd-Mon-yyyy", quoted or not: days since 1970. */
bool take_date(struct args *, int64_t *day);
/* "\"dd-Mon-yyyy hh:mm:ss +zzzz\"": seconds since 1970. */
bool take_date_time(struct args *, int64_t *when);

/* A sequence-set as it stands; 0 is '*'. */
struct seq_range {
    uint32_t from, to;
};
struct seq_set {
    struct seq_range *ranges;
    size_t n;
};
bool take_seq_set(struct args *, struct seq_set *);

/* "(flag flag)", or without parentheses when `bare` allows it. */
struct flag_list {
    uint32_t flags; /* STORE_SEEN... */
    struct slice *keywords;
    size_t nkeywords;
};
bool take_flags(struct args *, bool bare, struct flag_list *);
/* True when s may be a keyword: an atom of reasonable length. */
bool is_keyword(struct slice s);
bool is_atom_char(char c);
