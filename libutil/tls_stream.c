/* The TLS transport of streams. */
#include <errno.h>
#include <openssl/err.h>

#include "libutil/stream_private.h"
#include "libutil/tls_private.h"

static enum transfer outcome(struct stream *s, int result, const char *what)
{
    int saved = errno;
    switch (SSL_get_error(s->tls, result)) {
    case SSL_ERROR_WANT_READ:
        return TRANSFER_WANT_READ;
    case SSL_ERROR_WANT_WRITE:
        return TRANSFER_WANT_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        return TRANSFER_EOF;
    case SSL_ERROR_SYSCALL:
        ERR_clear_error();
        errno = saved;
        if (saved == 0)
            return TRANSFER_EOF;
        error_sys(&s->error, "TLS %s", what);
        s->error.code = ERR_IO;
        return TRANSFER_FAILED;
    default:
        break;
    }
    char text[64];
    snprintf(text, sizeof(text), "TLS %s failed", what);
    long verify = SSL_get_verify_result(s->tls);
    if (verify != X509_V_OK &&
        ERR_GET_REASON(ERR_peek_error()) == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        ERR_clear_error();
        error_set(&s->error, ERR_DENIED, "the certificate is not valid for this name: %s",
            X509_verify_cert_error_string(verify));
    } else {
        tls_error(&s->error, ERR_IO, text);
    }
    return TRANSFER_FAILED;
}

static enum transfer tls_handshake(struct stream *s)
{
    ERR_clear_error();
    errno = 0;
    int result = SSL_do_handshake(s->tls);
    return result == 1 ? TRANSFER_DONE : outcome(s, result, "handshake");
}

static enum transfer tls_read(struct stream *s, char *into, size_t room, size_t *n)
{
    ERR_clear_error();
    errno = 0;
    int result = SSL_read_ex(s->tls, into, room, n);
    return result == 1 ? TRANSFER_DONE : outcome(s, result, "read");
}

static enum transfer tls_write(struct stream *s, struct slice from, size_t *n)
{
    ERR_clear_error();
    errno = 0;
    int result = SSL_write_ex(s->tls, from.p, from.n, n);
    return result == 1 ? TRANSFER_DONE : outcome(s, result, "write");
}

/* Sends close_notify; the peer's is not waited for (RFC 8446 §6.1 allows that). */
static void tls_shutdown(struct stream *s)
{
    ERR_clear_error();
    if (SSL_is_init_finished(s->tls))
        SSL_shutdown(s->tls);
    ERR_clear_error();
}

static void tls_free(struct stream *s)
{
    SSL_free(s->tls);
    s->tls = NULL;
}

static struct slice tls_text(const struct stream *s, enum stream_tls_text which)
{
    switch (which) {
    case STREAM_TLS_VERSION:
        return slice_of(SSL_get_version(s->tls));
    case STREAM_TLS_CIPHER:
        return slice_of(SSL_get_cipher_name(s->tls));
    case STREAM_TLS_SNI:
        return slice_of(SSL_get_servername(s->tls, TLSEXT_NAMETYPE_host_name));
    }
    return slice_of("");
}

static bool tls_verified(const struct stream *s)
{
    const struct tls_context *t = SSL_get_app_data((SSL *)s->tls);
    return t->verifies && SSL_get0_peer_certificate(s->tls) &&
           SSL_get_verify_result(s->tls) == X509_V_OK;
}

static const struct stream_transport tls_transport = {
    .handshake = tls_handshake,
    .read = tls_read,
    .write = tls_write,
    .shutdown = tls_shutdown,
    .free = tls_free,
    .text = tls_text,
    .verified = tls_verified,
};

void stream_start_tls(struct stream *s, struct tls_context *t, const char *server_name)
{
    SSL *ssl = SSL_new(t->ctx);
    if (!ssl || SSL_set_fd(ssl, stream_fd(s)) != 1) {
        /* Only memory can be short here, and that ends a process everywhere else too. */
        abort();
    }
    SSL_set_app_data(ssl, t);
    if (t->server) {
        SSL_set_accept_state(ssl);
    } else {
        SSL_set_connect_state(ssl);
        if (server_name && *server_name) {
            SSL_set_tlsext_host_name(ssl, server_name);
            SSL_set1_host(ssl, server_name);
        }
    }
    s->tls = ssl;
    s->tls_transport = &tls_transport;
    stream_begin_tls(s);
}
