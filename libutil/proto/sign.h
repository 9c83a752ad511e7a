/* Signatures from keyd. keyd is sent the bytes to be signed, never a digest, and
 * signs only what a TLS 1.2 or 1.3 server handshake looks like. */
#pragma once

#include "libutil/ipc.h"

#define SIGN_REQUEST_FIELDS(F, S)                                                                  \
    F(S, BYTES, key_id, 32) /* SHA-256 of the SubjectPublicKeyInfo, DER */                         \
    F(S, STR, digest, 32)   /* "SHA256" ... */                                                     \
    F(S, STR, padding, 16)  /* "pss", "pkcs1", "" for ECDSA */                                     \
    F(S, BYTES, tbs, 16384)
#define SIGN_RESULT_FIELDS(F, S)                                                                   \
    F(S, I64, code, 0) /* enum error_code */                                                       \
    F(S, BYTES, signature, 1024)
#define SIGN_PROTO(M)                                                                              \
    M(sign_request, 1, IPC_CLIENT, 2, 2000, IPC_NO_FD, SIGN_REQUEST_FIELDS)                        \
    M(sign_result, 2, IPC_SERVER, 0, 0, IPC_NO_FD, SIGN_RESULT_FIELDS)
IPC_DECLARE(sign, SIGN_PROTO)
