/*
 * The client of keyd: signatures for TLS handshakes over the SIGN conversation, by a blocking
 * call with the conversation's deadline. The daemon declares the conversation raw:
 *
 *     {.conv = CONV_SIGN, .side = IPC_CLIENT, .proto = &sign_proto, .raw = true}
 *
 * and calls keysign_install once, before the first handshake. When keyd is restarted the new
 * channel that master gives is taken up at the next signature; until then handshakes fail. A
 * keyd that does not answer is not asked again for KEYSIGN_REST_MS: sessions that need no
 * signature must not be held up by those that do.
 */
#pragma once

#include "libutil/daemon.h"

enum { KEYSIGN_REST_MS = 30000 };

struct keysign {
    struct daemon *daemon;
    struct ipc_sync channel;
    bool open;
    int64_t rest_until; /* loop_now */
};

/* Makes keyd the signer of this process (tls_set_signer). k must outlive all handshakes. */
void keysign_install(struct keysign *k, struct daemon *);
void keysign_close(struct keysign *k);
/* The tls_sign_fn; arg is the keysign. */
int keysign_sign(void *arg, const unsigned char key_id[32], const char *digest, const char *padding,
    struct slice tbs, unsigned char *sig, size_t *sig_len);
