/*
 * The reading half of an IMAP client (RFC 9051 §7, RFC 3501 §7): responses become calls. Bytes
 * come from a function in pieces of any size; a message's content goes on as it comes, so
 * memory does not depend on it. Whatever a server sends ends in a call or an error.
 */
#pragma once

#include "libstore/store.h"

enum { IMAP_STRING_MAX = 65536, IMAP_KEYWORDS = 256 };

struct imap_message {
    uint32_t uid; /* 0: not told */
    uint32_t flags;
    struct slice keywords[IMAP_KEYWORDS];
    size_t nkeywords;
    int64_t date; /* 0: not told, or cannot be read */
    bool has_uid, has_body;
    uint64_t size;   /* of the body */
    struct buf text; /* holds the keywords */
};

struct imap_list {
    struct slice name;         /* as on the wire */
    char separator;            /* 0: none */
    bool noselect, subscribed; /* subscribed: of LSUB */
};

struct imap_events {
    /* More bytes into room: how many, 0 at the end, or an error code. */
    ssize_t (*more)(void *arg, void *room, size_t n, struct error *);
    void (*list)(void *arg, const struct imap_list *);
    /* The personal namespace (RFC 2342). */
    void (*namespace)(void *arg, struct slice prefix, char separator);
    /* One word of a CAPABILITY response or code. */
    void (*capability)(void *arg, struct slice word);
    /* A number that a SELECT tells: UIDVALIDITY, UIDNEXT, EXISTS. */
    void (*number)(void *arg, const char *what, uint64_t value);
    /* A message begins, has a piece of body, ends. An error code ends reading. */
    int (*begin)(void *arg, struct error *);
    int (*piece)(void *arg, struct slice, struct error *);
    int (*end)(void *arg, const struct imap_message *, struct error *);
    void *arg;
};

struct imap_client;

struct imap_client *imap_client_new(const struct imap_events *);
void imap_client_free(struct imap_client *);

/* PREAUTH: a greeting that says we are logged in (RFC 9051 §7.1.4). */
enum imap_result { IMAP_OK, IMAP_NO, IMAP_BAD, IMAP_CONTINUE, IMAP_PREAUTH };
/* Reads responses until the one for `tag` (NULL: the greeting), or a request to go on. *result is
 * how it ended and *text its words, valid until the next call. ERR_CLOSED: BYE or the end;
 * ERR_SYNTAX: that was no IMAP. */
int imap_client_read(struct imap_client *, const char *tag, enum imap_result *, struct slice *text,
    struct error *) MUST_USE;
/* Forgets what was read ahead, before TLS begins. */
void imap_client_forget(struct imap_client *);
