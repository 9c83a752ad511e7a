/*
 * Shared by stream.c and tls_stream.c only: the stream's parts, and the transport below it. The
 * transport is a table so that a program without TLS links no TLS library.
 */
#pragma once

#include "libutil/stream.h"

enum transfer {
    TRANSFER_DONE,
    TRANSFER_WANT_READ,
    TRANSFER_WANT_WRITE,
    TRANSFER_EOF,
    TRANSFER_FAILED /* stream->error says why */
};

enum stream_tls_text { STREAM_TLS_VERSION, STREAM_TLS_CIPHER, STREAM_TLS_SNI };

struct stream_transport {
    enum transfer (*handshake)(struct stream *);
    enum transfer (*read)(struct stream *, char *into, size_t room, size_t *n);
    enum transfer (*write)(struct stream *, struct slice from, size_t *n);
    void (*shutdown)(struct stream *);
    void (*free)(struct stream *);
    struct slice (*text)(const struct stream *, enum stream_tls_text);
    bool (*verified)(const struct stream *);
};

/*
 * OPEN -> BEFORE_TLS (what is pending is written in plain) -> HANDSHAKE -> OPEN;
 * any -> FINISHING (what is pending is written) -> CLOSING (on_close is due) -> CLOSED.
 */
enum stream_state {
    STREAM_OPEN,
    STREAM_BEFORE_TLS,
    STREAM_HANDSHAKE,
    STREAM_FINISHING,
    STREAM_CLOSING,
    STREAM_CLOSED
};

struct stream {
    struct loop *loop;
    struct io *io;
    const struct stream_ops *ops;
    void *arg;
    const struct stream_transport *transport, *tls_transport;
    void *tls; /* of the transport */
    struct buf in, out;
    struct timer read_timer, write_timer;
    int64_t read_ms, write_ms;
    struct error error; /* why it closes */
    enum stream_state state;
    unsigned depth; /* of our own calls on the stack; memory stays until they return */
    unsigned interest;
    enum transfer handshake_wants;
    int fd;
    bool paused;
    bool unwelcome; /* the peer sent while we do not read */
    bool eof;
    bool more;             /* the transport may hold input that poll does not announce */
    bool blocked;          /* output waits for room in the socket */
    bool write_wants_read; /* TLS only */
    bool read_wants_write;
    bool flush_due, drain_due, data_due, queued, freed;
};

/* Begins the change to TLS with s->tls and s->tls_transport set. */
void stream_begin_tls(struct stream *);
