#include "libutil/password.h"

#include <crypt.h>

static bool equal(const char *a, const char *b)
{
    size_t n = strlen(a);
    unsigned char differ = 0;
    if (n != strlen(b))
        return false;
    for (size_t i = 0; i < n; i++)
        differ |= (unsigned char)(a[i] ^ b[i]);
    return differ == 0;
}

static void wipe(struct crypt_data *data)
{
    explicit_bzero(data, sizeof(*data));
    free(data);
}

int password_hash(const char *password, char out[PASSWORD_HASH_MAX], struct error *err)
{
    if (strlen(password) > PASSWORD_MAX)
        return error_set(err, ERR_LIMIT, "a password may have at most %d bytes", PASSWORD_MAX);
    struct crypt_data *data = xcalloc(1, sizeof(*data));
    char *salt = crypt_gensalt_ra("$y$", 0, NULL, 0);
    const char *hash = salt ? crypt_r(password, salt, data) : NULL;
    bool ok = hash && hash[0] != '*' && strlen(hash) < PASSWORD_HASH_MAX;
    if (ok)
        memcpy(out, hash, strlen(hash) + 1);
    wipe(data);
    free(salt);
    return ok ? OK : error_set(err, ERR_UNSUPPORTED, "crypt(3) cannot make yescrypt hashes");
}

bool password_hash_known(const char *hash)
{
    int rc = crypt_checksalt(hash);
    return rc != CRYPT_SALT_INVALID && rc != CRYPT_SALT_METHOD_DISABLED;
}

int password_verify(const char *password, const char *hash)
{
    struct crypt_data *data = xcalloc(1, sizeof(*data));
    const char *got = crypt_r(password, hash, data);
    bool failed = !got || got[0] == '*';
    int rc = !failed && equal(got, hash) ? OK : ERR_DENIED;
    /* The library says the same of a hash that it does not know and of memory that it lacks. */
    if (failed && password_hash_known(hash))
        rc = ERR_TEMP;
    wipe(data);
    return rc;
}
