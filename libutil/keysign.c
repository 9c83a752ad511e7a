#include "libutil/keysign.h"

#include "libutil/proto/sign.h"
#include "libutil/tls.h"

void keysign_close(struct keysign *k)
{
    if (k->open)
        ipc_sync_close(&k->channel);
    k->open = false;
}

void keysign_install(struct keysign *k, struct daemon *d)
{
    *k = (struct keysign){.daemon = d};
    tls_set_signer(keysign_sign, k);
}

/* Takes up a newer channel if master has given one. */
static bool refresh(struct keysign *k, struct error *err)
{
    int fd = daemon_take_peer_fd(k->daemon, CONV_SIGN);
    if (fd >= 0) {
        keysign_close(k);
        k->rest_until = 0;
        k->open = ipc_sync_open(&k->channel, fd, &sign_proto, IPC_CLIENT, err) == OK;
        return k->open;
    }
    if (!k->open)
        error_set(err, ERR_TEMP, "there is no channel to keyd");
    else if (loop_now(k->daemon->loop) < k->rest_until)
        error_set(err, ERR_TEMP, "keyd did not answer in time lately");
    else
        return true;
    return false;
}

static int take_result(
    const struct sign_result *r, unsigned char *sig, size_t *sig_len, struct error *err)
{
    if (r->code != OK)
        return error_set(err, ERR_DENIED, "keyd answers: %s", error_name((int)r->code));
    if (r->signature.n > *sig_len || !r->signature.n)
        return error_set(err, ERR_LIMIT, "keyd's signature has a wrong length");
    memcpy(sig, r->signature.p, r->signature.n);
    *sig_len = r->signature.n;
    return OK;
}

int keysign_sign(void *arg, const unsigned char key_id[32], const char *digest, const char *padding,
    struct slice tbs, unsigned char *sig, size_t *sig_len)
{
    struct keysign *k = arg;
    struct error err = {0};
    struct sign_request ask = {.key_id = slice_from(key_id, 32),
        .digest = slice_of(digest),
        .padding = slice_of(padding),
        .tbs = tbs};
    struct ipc_in in;
    int rc = ERR_TEMP;
    if (refresh(k, &err)) {
        rc = ipc_sync_call(&k->channel, sign_request_type, 0, &ask, -1, &in, &err);
        if (rc == OK)
            rc = take_result(in.msg, sig, sig_len, &err);
        else if (rc == ERR_TIMEOUT) /* a late answer is known by its id, and dropped */
            k->rest_until = loop_now(k->daemon->loop) + KEYSIGN_REST_MS;
        else
            keysign_close(k);
    }
    if (rc != OK)
        log_event(&k->daemon->log, log_warning, .what = SLICE_LIT("signature"),
            .reason = slice_of(err.text));
    return rc;
}
