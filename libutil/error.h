/*
 * Errors as values. Functions return 0 or one of these negative codes; where a person will
 * read the reason they also fill a struct error that the caller owns.
 */
#pragma once

#include "libutil/base.h"

enum error_code {
    OK = 0,
    ERR_SYNTAX = -1,    /* the input does not follow its grammar */
    ERR_LIMIT = -2,     /* a declared maximum was exceeded */
    ERR_NOT_FOUND = -3, /* the thing asked for does not exist */
    ERR_EXISTS = -4,    /* it exists already */
    ERR_IO = -5,        /* the system refused: see the text */
    ERR_NO_SPACE = -6,  /* disk full */
    ERR_CORRUPT = -7,   /* checksum or structure of stored data is wrong */
    ERR_VERSION = -8,   /* made by another version */
    ERR_DENIED = -9,    /* not allowed */
    ERR_BUSY = -10,     /* locked or in use: try later */
    ERR_AGAIN = -11,    /* would block */
    ERR_CLOSED = -12,   /* the peer has gone */
    ERR_TIMEOUT = -13,  /* the deadline passed */
    ERR_TEMP = -14,     /* temporary failure of a helper */
    ERR_UNSUPPORTED = -15,
    ERR_QUOTA = -16 /* more than the owner may keep; a full disk is ERR_NO_SPACE */
};

struct error {
    int code;
    char text[512];
};

/* Sets code and text (truncated to fit) and returns code; err may be NULL. */
int error_set(struct error *err, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* As error_set, with ": strerror(errno)" appended. ENOSPC and EDQUOT become ERR_NO_SPACE,
 * ENOENT ERR_NOT_FOUND, EEXIST ERR_EXISTS, EACCES/EPERM ERR_DENIED, all else ERR_IO. */
int error_sys(struct error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* A short name for a code ("limit", "no-space"). */
const char *error_name(int code);
