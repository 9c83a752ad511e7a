/* The dialogue of an import with an IMAP server, from the greeting to the counts. */
#pragma once

#include "libstore/store.h"
#include "libutil/tls.h"

enum { IMPORT_PASSWORD = 1024, IMPORT_MAPS = 32 };
enum import_tls { IMPORT_TLS_IMPLICIT, IMPORT_TLS_STARTTLS, IMPORT_TLS_NONE };

struct import_args {
    const char *user, *login;
    const char *folder;            /* NULL: all; names as here, with * and % */
    const char *maps[IMPORT_MAPS]; /* "THERE=HERE" */
    size_t nmaps;
    char host[256], password[IMPORT_PASSWORD];
    uint16_t port;
    enum import_tls tls;
    struct tls_context *context;
    bool dry, json;
    int fd;
};

/* Prints counts; returns the exit status. The password is wiped when it has been used. */
int import_run(struct import_args *, struct store *);
