/*
 * The address lists of header fields (RFC 5322 §3.4, with the obsolete forms of §4.4): groups,
 * comments, routes, quoted and encoded display names. Tolerant: real fields are not always
 * right, and one bad element does not spoil the others.
 */
#pragma once

#include "libutil/arena.h"
#include "libutil/error.h"

enum address_item_kind { ADDRESS_ITEM, ADDRESS_GROUP_START, ADDRESS_GROUP_END };

struct address_item {
    enum address_item_kind kind;
    struct slice name;   /* display name (or the trailing comment) or group name, unquoted; RFC
                          * 2047 words are left encoded; p == NULL: none */
    struct slice route;  /* obsolete source route "@a,@b", or p == NULL */
    struct slice local;  /* unquoted */
    struct slice domain; /* without comments and space; empty when the element has none */
};

struct address_iter {
    struct slice rest;
    struct arena *arena;
    bool in_group;
};

/* Iterates over a field body (folded or not). Texts live in the arena. */
void address_iter_init(struct address_iter *, struct slice body, struct arena *);
/* 1: *item is set; 0: the end; ERR_SYNTAX: an element was skipped, go on; ERR_LIMIT: the arena
 * is full. */
int address_iter_next(struct address_iter *, struct address_item *item) MUST_USE;
