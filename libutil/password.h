/* Password hashes of crypt(3): yescrypt is made, all that the library knows is verified. Both
 * take long on purpose: not for an event loop. */
#pragma once

#include "libutil/error.h"

enum { PASSWORD_MAX = 511, PASSWORD_HASH_MAX = 512 };

/* A yescrypt hash with the library's default cost. */
int password_hash(const char *password, char out[PASSWORD_HASH_MAX], struct error *) MUST_USE;
/* Whether the hash is that of the password. Compares in constant time. */
bool password_matches(const char *password, const char *hash);
/* Whether crypt(3) can verify such a hash at all. */
bool password_hash_known(const char *hash);
