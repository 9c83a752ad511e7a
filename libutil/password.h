/* Password hashes of crypt(3): yescrypt is made, all that the library knows is verified. Both
 * take long on purpose: not for an event loop. */
#pragma once

#include "libutil/error.h"

enum { PASSWORD_MAX = 511, PASSWORD_HASH_MAX = 512 };

/* A yescrypt hash with the library's default cost. */
int password_hash(const char *password, char out[PASSWORD_HASH_MAX], struct error *) MUST_USE;
/* OK when the hash is that of the password, ERR_DENIED when not, ERR_TEMP when that cannot
 * be told: no memory, or a hash that is cut off. Compares in constant time. */
int password_verify(const char *password, const char *hash) MUST_USE;
/* Whether crypt(3) can verify such a hash at all. */
bool password_hash_known(const char *hash);
