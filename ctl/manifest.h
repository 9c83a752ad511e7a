/*
 * What one user's mail was at one moment, as text: a line for each folder, keyword, message and
 * setting (docs/backup.md). The same lines, each followed by its content, go between the process
 * that reads or writes a mailbox and the one that reads or writes a backup.
 */
#pragma once

#include "libstore/store.h"
#include "libutil/tls_digest.h"

enum { MANIFEST_VERSION = 1, MANIFEST_LINE = 4096, MANIFEST_NAME = 1024 };

enum entry_type {
    ENTRY_USER,         /* name, date */
    ENTRY_SUBSCRIPTION, /* name */
    ENTRY_FOLDER,       /* name, uidvalidity, uidnext, modseq, mailbox; what follows is in it */
    ENTRY_KEYWORD,      /* name, number: its bit */
    ENTRY_FILE,         /* name, size, hash: settings of the folder */
    ENTRY_MESSAGE,      /* msg, hash */
    ENTRY_END,          /* number: messages, size, damaged */
    ENTRY_COUNT
};

struct entry {
    enum entry_type type;
    char name[MANIFEST_NAME];
    uint32_t uidvalidity, uidnext;
    uint64_t modseq, number, size, damaged;
    uint64_t mailbox; /* for store_mailbox_id */
    int64_t date;
    struct store_msg msg;
    char hash[DIGEST_HEX]; /* of the content; empty: not known yet */
};

/* Appends the line with its LF. */
void entry_print(const struct entry *, struct buf *);
/* Total: any line is an entry or ERR_SYNTAX. */
int entry_parse(struct slice line, struct entry *) MUST_USE;

/* Appends name as one word: bytes that would end or disguise it as %XX. Without a '/', and not
 * beginning with '.', so that it also is a name for a file. */
void manifest_word(struct slice name, struct buf *);
/* The reverse; false when it is not one, or too long for size with its NUL. */
bool manifest_unword(struct slice word, char *out, size_t size);

/* Reads a manifest line by line: magic first, the digest of all lines last. */
struct manifest;
/* ERR_CORRUPT, ERR_VERSION. Takes `in`. */
int manifest_open(FILE *in, const char *what, struct manifest **, struct error *) MUST_USE;
/* 1: *e is the next entry; 0: the end, and everything checks; or an error code. */
int manifest_next(struct manifest *, struct entry *, struct error *) MUST_USE;
void manifest_close(struct manifest *);

/* A line without its LF into `line`; ERR_CLOSED at the end, ERR_LIMIT, ERR_SYNTAX (a NUL). */
int manifest_line(FILE *in, char line[MANIFEST_LINE], struct error *) MUST_USE;
