/* POP3 before login: CAPA STLS USER PASS AUTH NOOP QUIT (RFC 1939 §4, RFC 2449, RFC 2595,
 * RFC 5034). */
#pragma once

#include "libmail/loginfront.h"

extern const struct login_protocol pop3_login_protocol;
