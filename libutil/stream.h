/*
 * A buffered, non-blocking connection, with or without TLS: what smtpd, the login fronts and
 * remote talk through. The owner sees bytes in and bytes out and never WANT_READ.
 *
 * Callbacks: on_data when unread input is there (consume what you can from stream_in; called
 * again when more arrives); on_drain when all output has been written (may be NULL); on_tls
 * when a handshake started by stream_start_tls ended; on_close on end of file, error or
 * timeout, exactly once, after which only stream_free may be called. A callback may call
 * stream_free itself. Callbacks run from the loop only, never inside a call of the owner's. A
 * failed on_tls is followed by on_close with the same error.
 *
 * Needs SIGPIPE ignored (daemon_run does). Input buffered while paused or full does not count
 * against stream_timeout.
 */
#pragma once

#include "libutil/buf.h"
#include "libutil/error.h"
#include "libutil/loop.h"

struct stream;
struct tls_context;

struct stream_ops {
    void (*on_data)(struct stream *, void *arg);
    void (*on_drain)(struct stream *, void *arg);
    void (*on_tls)(struct stream *, const struct error *failed, void *arg); /* NULL: success */
    /* code ERR_CLOSED: orderly end of input; ERR_TIMEOUT; ERR_IO: reset and the like. */
    void (*on_close)(struct stream *, const struct error *, void *arg);
};

/* Takes fd (made non-blocking). Holds at most max_in unread and max_out unwritten bytes; when
 * max_in are unread, reading stops until some are consumed. */
struct stream *stream_new(struct loop *, int fd, size_t max_in, size_t max_out,
    const struct stream_ops *, void *arg);
/* Closes without flushing. */
void stream_free(struct stream *);

/* The unread input; consume with buf_consume. */
struct buf *stream_in(struct stream *);
/* The output; append with buf_put and friends, then stream_flush. Exceeding max_out sets
 * failed, and the stream closes with ERR_LIMIT at the next flush. */
struct buf *stream_out(struct stream *);
/* Writes what it can now, the rest when possible. Cheap to call once per batch of replies. */
void stream_flush(struct stream *);
/* Flushes, sends close_notify under TLS, then closes and calls on_close with ERR_CLOSED. */
void stream_finish(struct stream *);
/* Stops or resumes reading (and on_data), as while an answer from another process is awaited. */
void stream_pause(struct stream *, bool paused);
/* Closes with ERR_TIMEOUT when nothing is read for ms (0: never). Restarted by each arrival
 * and by each call. */
void stream_timeout(struct stream *, int64_t ms);
/* Closes with ERR_TIMEOUT when pending output makes no progress for ms (default 5 min). */
void stream_write_timeout(struct stream *, int64_t ms);

/* Starts TLS as server (server_name NULL) or client (SNI server_name). All input buffered
 * before is discarded (RFC 3207 §6); pending output is flushed first. */
void stream_start_tls(struct stream *, struct tls_context *, const char *server_name);
bool stream_is_tls(const struct stream *);
/* "TLSv1.3", "TLS_AES_256_GCM_SHA384"; empty without TLS. */
struct slice stream_tls_version(const struct stream *);
struct slice stream_tls_cipher(const struct stream *);
/* The SNI name the client sent, or empty. */
struct slice stream_tls_sni(const struct stream *);
/* Clients: whether the peer's certificate was verified for the server name. */
bool stream_tls_verified(const struct stream *);
int stream_fd(const struct stream *);
/* Gives the descriptor up (plain streams only) with any unread input left in *rest; frees the
 * stream. */
int stream_take_fd(struct stream *, struct buf *rest);
