#include "libutil/tls_sync.h"

#include <errno.h>
#include <openssl/err.h>
#include <unistd.h>

#include "libutil/tls_private.h"

struct tls_sync {
    int fd;
    SSL *ssl; /* NULL: plain */
};

struct tls_sync *tls_sync_new(int fd)
{
    struct tls_sync *s = NEW(struct tls_sync);
    s->fd = fd;
    return s;
}

void tls_sync_free(struct tls_sync *s)
{
    if (!s)
        return;
    ERR_clear_error();
    if (s->ssl && SSL_is_init_finished(s->ssl))
        SSL_shutdown(s->ssl);
    ERR_clear_error();
    SSL_free(s->ssl);
    fd_close(&s->fd);
    free(s);
}

static int failed(struct tls_sync *s, int result, const char *what, struct error *err)
{
    int saved = errno, kind = s->ssl ? SSL_get_error(s->ssl, result) : SSL_ERROR_SYSCALL;
    if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE ||
        (kind == SSL_ERROR_SYSCALL && (saved == EAGAIN || saved == EWOULDBLOCK)))
        return error_set(err, ERR_TIMEOUT, "the server does not answer");
    if (kind == SSL_ERROR_SYSCALL) {
        ERR_clear_error();
        errno = saved ? saved : ECONNRESET;
        error_sys(err, "%s", what);
        return err->code = ERR_IO;
    }
    long verify = s->ssl ? SSL_get_verify_result(s->ssl) : X509_V_OK;
    if (verify == X509_V_OK)
        return tls_error(err, ERR_IO, what);
    ERR_clear_error();
    return error_set(err, ERR_DENIED, "the server's certificate is not valid for its name: %s",
        X509_verify_cert_error_string(verify));
}

int tls_sync_start(struct tls_sync *s, struct tls_context *t, const char *name, struct error *err)
{
    s->ssl = SSL_new(t->ctx);
    if (!s->ssl || SSL_set_fd(s->ssl, s->fd) != 1)
        abort(); /* only memory can be short here */
    SSL_set_app_data(s->ssl, t);
    SSL_set_connect_state(s->ssl);
    SSL_set_tlsext_host_name(s->ssl, name);
    X509_VERIFY_PARAM *param = SSL_get0_param(s->ssl);
    if (X509_VERIFY_PARAM_set1_ip_asc(param, name) != 1)
        SSL_set1_host(s->ssl, name);
    ERR_clear_error();
    errno = 0;
    int result = SSL_do_handshake(s->ssl);
    return result == 1 ? OK : failed(s, result, "TLS handshake failed", err);
}

ssize_t tls_sync_read(struct tls_sync *s, void *into, size_t room, struct error *err)
{
    size_t n = 0;
    if (!s->ssl) {
        ssize_t got;
        do
            got = read(s->fd, into, room);
        while (got < 0 && errno == EINTR);
        return got < 0 ? failed(s, 0, "reading from the server", err) : got;
    }
    ERR_clear_error();
    errno = 0;
    int result = SSL_read_ex(s->ssl, into, room, &n);
    if (result == 1)
        return (ssize_t)n;
    int kind = SSL_get_error(s->ssl, result);
    if (kind == SSL_ERROR_ZERO_RETURN || (kind == SSL_ERROR_SYSCALL && errno == 0))
        return 0;
    return failed(s, result, "reading from the server", err);
}

int tls_sync_write(struct tls_sync *s, struct slice bytes, struct error *err)
{
    while (bytes.n) {
        size_t n = 0;
        ERR_clear_error();
        errno = 0;
        if (s->ssl) {
            int result = SSL_write_ex(s->ssl, bytes.p, bytes.n, &n);
            if (result != 1)
                return failed(s, result, "writing to the server", err);
        } else {
            ssize_t put = write(s->fd, bytes.p, bytes.n);
            if (put < 0 && errno != EINTR)
                return failed(s, 0, "writing to the server", err);
            n = put > 0 ? (size_t)put : 0;
        }
        bytes = slice_from_index(bytes, n);
    }
    return OK;
}
