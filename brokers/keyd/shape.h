/*
 * What keyd is willing to sign: the to-be-signed bytes of a TLS server handshake and nothing
 * else, so that a captured front process does not hold a general signing oracle.
 */
#pragma once

#include "libutil/slice.h"

enum shape {
    SHAPE_OTHER,
    SHAPE_TLS13, /* CertificateVerify of a server, RFC 8446 §4.4.3 */
    SHAPE_TLS12  /* ServerKeyExchange with named-curve ECDHE, RFC 8422 §5.4 */
};

enum shape shape_of(struct slice tbs);
/* Whether a signature of this kind belongs into such a handshake: digest and padding as in
 * libutil/tls.h. */
bool shape_allows(enum shape shape, const char *key_type, const char *digest, const char *padding);
