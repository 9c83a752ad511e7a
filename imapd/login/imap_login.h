/* IMAP before login: CAPABILITY NOOP LOGOUT ID STARTTLS LOGIN AUTHENTICATE (RFC 3501 §6.1, §6.2),
 * with synchronising and other literals (RFC 7888) and initial responses (RFC 4959). */
#pragma once

#include "libmail/loginfront.h"

extern const struct login_protocol imap_login_protocol;
