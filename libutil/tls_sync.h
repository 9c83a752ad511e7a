/*
 * A blocking connection with or without TLS, for tools that have nothing else to do. Time limits
 * are those of the socket (SO_RCVTIMEO, SO_SNDTIMEO). Needs SIGPIPE ignored.
 */
#pragma once

#include "libutil/tls.h"

struct tls_sync;

/* Takes fd. */
struct tls_sync *tls_sync_new(int fd);
void tls_sync_free(struct tls_sync *);
/* As client; the certificate must be valid for `name` when the context requires that. */
int tls_sync_start(
    struct tls_sync *, struct tls_context *, const char *name, struct error *) MUST_USE;
/* Bytes read, 0 at the end, or an error code: ERR_TIMEOUT, ERR_IO. */
ssize_t tls_sync_read(struct tls_sync *, void *into, size_t room, struct error *) MUST_USE;
int tls_sync_write(struct tls_sync *, struct slice, struct error *) MUST_USE;
