#include "brokers/keyd/server.h"

#include "brokers/keyd/events.h"
#include "brokers/keyd/keys.h"
#include "libutil/file.h"
#include "libutil/proto/sign.h"

enum { PEM_MAX = 1 << 20 };

static int load_pair(
    struct daemon *d, bool locked, const char *key_path, const char *cert_path, struct error *err)
{
    struct buf key, cert;
    buf_init(&key, PEM_MAX);
    buf_init(&cert, PEM_MAX);
    int rc = file_read(key_path, &key, err);
    if (rc == OK && *cert_path)
        rc = file_read(cert_path, &cert, err);
    if (rc == OK)
        rc = keys_add(d->data, key_path, buf_slice(&key), cert_path, buf_slice(&cert), err);
    if (rc == OK)
        log_event(&d->log, key_loaded, .file = slice_of(key_path),
            .memory = slice_of(locked ? "locked" : "not locked"));
    buf_wipe(&key);
    buf_clear(&cert);
    return rc;
}

int server_configure(struct daemon *d, struct error *err)
{
    bool locked;
    d->data = keys_new(&locked);
    const struct conf_block *root = conf_root(d->conf);
    const struct conf_block *tls = NULL;
    int rc = OK;
    while (rc == OK && (tls = conf_next(root, "tls", tls))) {
        char key[4096], cert[4096];
        if (!conf_isset(tls, "key"))
            continue;
        if (!slice_to_cstr(conf_string(tls, "key"), key, sizeof(key)) ||
            !slice_to_cstr(conf_string(tls, "cert"), cert, sizeof(cert)))
            return error_set(err, ERR_LIMIT, "a path in tls is too long");
        rc = load_pair(d, locked, key, cert, err);
    }
    return rc;
}

static void log_refusal(struct peer *peer, int code, struct slice key_id)
{
    char hex[17] = "";
    for (size_t i = 0; i < 8 && i < key_id.n; i++)
        snprintf(hex + 2 * i, 3, "%02x", (unsigned char)key_id.p[i]);
    log_event(&peer->daemon->log, key_refused,
        .rule = slice_of(code == ERR_DENIED ? "handshake" : error_name(code)),
        .peer = slice_of(peer->role < ROLE_COUNT ? role_info(peer->role)->program : ""),
        .key = slice_of(hex));
}

void server_request(struct peer *peer, struct ipc_in *in)
{
    const struct sign_request *ask = in->msg;
    unsigned char sig[1024];
    size_t n = sizeof(sig);
    int code =
        keys_sign(peer->daemon->data, ask->key_id, ask->digest, ask->padding, ask->tbs, sig, &n);
    if (code != OK)
        log_refusal(peer, code, ask->key_id);
    struct sign_result result = {.code = code, .signature = slice_from(sig, code == OK ? n : 0)};
    ipc_reply(peer->ipc, in->id, in->trace, sign_result_type, &result, -1);
}
