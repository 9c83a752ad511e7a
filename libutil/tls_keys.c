/*
 * The OpenSSL provider "veredus-keys": RSA, EC and Ed25519 keys whose private half is in keyd.
 *
 * A key is the public half as an ordinary EVP_PKEY plus its id; it claims to have a private
 * half (keymgmt `has`), refuses to export it, so that libssl cannot move the key to the default
 * provider, and signs by asking tls_sign for a signature over the whole to-be-signed bytes.
 */
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/param_build.h>
#include <openssl/provider.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <openssl/x509.h>

#include "libutil/tls_private.h"

#define PROVIDER_NAME "veredus-keys"
#define PROPERTIES "provider=" PROVIDER_NAME

struct remote_key {
    EVP_PKEY *public_half; /* NULL until import */
    unsigned char id[SHA256_DIGEST_LENGTH];
};

struct signing {
    struct remote_key *key; /* libcrypto keeps it alive */
    char digest[32];
    char padding[16];
};

/* --- key management ------------------------------------------------------------------------ */

static void *key_new(void *provider)
{
    (void)provider;
    return NEW(struct remote_key);
}

static void key_free(void *data)
{
    struct remote_key *key = data;
    if (!key)
        return;
    EVP_PKEY_free(key->public_half);
    free(key);
}

static int key_has(const void *data, int selection)
{
    (void)selection;
    const struct remote_key *key = data;
    return key && key->public_half;
}

static int key_match(const void *a, const void *b, int selection)
{
    (void)selection;
    const struct remote_key *ka = a, *kb = b;
    return ka->public_half && kb->public_half && EVP_PKEY_eq(ka->public_half, kb->public_half) == 1;
}

static bool set_id(struct remote_key *key)
{
    unsigned char *der = NULL;
    int n = i2d_PUBKEY(key->public_half, &der);
    if (n <= 0)
        return false;
    bool ok = EVP_Digest(der, (size_t)n, key->id, NULL, EVP_sha256(), NULL) == 1;
    OPENSSL_free(der);
    return ok;
}

static int key_import(struct remote_key *key, const char *type, const OSSL_PARAM params[])
{
    if (key->public_half)
        return 0;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, "provider=default");
    /* fromdata does not change what it is given; its prototype lacks the const. */
    OSSL_PARAM *given = (OSSL_PARAM *)(uintptr_t)params;
    bool ok = ctx && EVP_PKEY_fromdata_init(ctx) == 1 &&
              EVP_PKEY_fromdata(ctx, &key->public_half, EVP_PKEY_PUBLIC_KEY, given) == 1 &&
              set_id(key);
    EVP_PKEY_CTX_free(ctx);
    return ok;
}

static int rsa_import(void *key, int selection, const OSSL_PARAM params[])
{
    (void)selection;
    return key_import(key, "RSA", params);
}

static int ec_import(void *key, int selection, const OSSL_PARAM params[])
{
    (void)selection;
    return key_import(key, "EC", params);
}

static int ed25519_import(void *key, int selection, const OSSL_PARAM params[])
{
    (void)selection;
    return key_import(key, "ED25519", params);
}

static int key_export(void *data, int selection, OSSL_CALLBACK *cb, void *arg)
{
    struct remote_key *key = data;
    if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) || !key->public_half)
        return 0;
    OSSL_PARAM *params = NULL;
    if (EVP_PKEY_todata(key->public_half, EVP_PKEY_PUBLIC_KEY, &params) != 1)
        return 0;
    int ok = cb(params, arg);
    OSSL_PARAM_free(params);
    return ok;
}

static int key_get_params(void *data, OSSL_PARAM params[])
{
    struct remote_key *key = data;
    return key->public_half && EVP_PKEY_get_params(key->public_half, params) == 1;
}

static const OSSL_PARAM *key_gettable(void *provider)
{
    (void)provider;
    static const OSSL_PARAM known[] = {OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_MANDATORY_DIGEST, NULL, 0), OSSL_PARAM_END};
    return known;
}

static const OSSL_PARAM *key_transfer_types(int selection)
{
    (void)selection;
    static const OSSL_PARAM types[] = {OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, NULL, 0),
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0), OSSL_PARAM_END};
    return types;
}

static const char *rsa_operation(int operation)
{
    return operation == OSSL_OP_SIGNATURE ? "RSA" : NULL;
}

static const char *ec_operation(int operation)
{
    return operation == OSSL_OP_SIGNATURE ? "ECDSA" : NULL;
}

static const char *ed25519_operation(int operation)
{
    return operation == OSSL_OP_SIGNATURE ? "ED25519" : NULL;
}

#define FN(f) ((void (*)(void))(f))
#define KEYMGMT(import, operation)                                                          \
    {                                                                                       \
        {OSSL_FUNC_KEYMGMT_NEW, FN(key_new)}, {OSSL_FUNC_KEYMGMT_FREE, FN(key_free)},       \
            {OSSL_FUNC_KEYMGMT_HAS, FN(key_has)}, {OSSL_FUNC_KEYMGMT_MATCH, FN(key_match)}, \
            {OSSL_FUNC_KEYMGMT_IMPORT, FN(import)},                                         \
            {OSSL_FUNC_KEYMGMT_IMPORT_TYPES, FN(key_transfer_types)},                       \
            {OSSL_FUNC_KEYMGMT_EXPORT, FN(key_export)},                                     \
            {OSSL_FUNC_KEYMGMT_EXPORT_TYPES, FN(key_transfer_types)},                       \
            {OSSL_FUNC_KEYMGMT_GET_PARAMS, FN(key_get_params)},                             \
            {OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, FN(key_gettable)},                          \
            {OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, FN(operation)},                        \
        {                                                                                   \
            0, NULL                                                                         \
        }                                                                                   \
    }

static const OSSL_DISPATCH rsa_keymgmt[] = KEYMGMT(rsa_import, rsa_operation);
static const OSSL_DISPATCH ec_keymgmt[] = KEYMGMT(ec_import, ec_operation);
static const OSSL_DISPATCH ed25519_keymgmt[] = KEYMGMT(ed25519_import, ed25519_operation);

/* --- signatures ---------------------------------------------------------------------------- */

static void *sign_new(void *provider, const char *properties)
{
    (void)provider;
    (void)properties;
    return NEW(struct signing);
}

static void sign_free(void *ctx)
{
    free(ctx);
}

static void *sign_dup(void *ctx)
{
    struct signing *copy = NEW(struct signing);
    *copy = *(struct signing *)ctx;
    return copy;
}

static int sign_set_params(void *ctx, const OSSL_PARAM params[])
{
    struct signing *op = ctx;
    const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PAD_MODE);
    if (!p)
        return 1;
    /* libssl sends a number, applications a word. */
    if (p->data_type == OSSL_PARAM_UTF8_STRING)
        return slice_to_cstr(slice_of(p->data), op->padding, sizeof(op->padding));
    int mode;
    if (!OSSL_PARAM_get_int(p, &mode))
        return 0;
    if (mode != RSA_PKCS1_PADDING && mode != RSA_PKCS1_PSS_PADDING)
        return 0;
    return slice_to_cstr(
        slice_of(mode == RSA_PKCS1_PADDING ? "pkcs1" : "pss"), op->padding, sizeof(op->padding));
}

static const OSSL_PARAM *sign_settable(void *ctx, void *provider)
{
    (void)ctx;
    (void)provider;
    /* The salt is always as long as the digest (RFC 8446 §4.2.3): taken, not needed. */
    static const OSSL_PARAM known[] = {
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL, 0), OSSL_PARAM_END};
    return known;
}

static int sign_init(void *ctx, const char *digest, void *key, const OSSL_PARAM params[])
{
    struct signing *op = ctx;
    op->key = key;
    op->padding[0] = '\0';
    if (key && EVP_PKEY_is_a(op->key->public_half, "RSA") &&
        !slice_to_cstr(SLICE_LIT("pkcs1"), op->padding, sizeof(op->padding)))
        return 0;
    if (!slice_to_cstr(slice_of(digest), op->digest, sizeof(op->digest)))
        return 0;
    return params ? sign_set_params(ctx, params) : 1;
}

static int sign_whole(void *ctx, unsigned char *sig, size_t *sig_len, size_t room,
    const unsigned char *tbs, size_t tbs_len)
{
    struct signing *op = ctx;
    int size = op->key ? EVP_PKEY_get_size(op->key->public_half) : 0;
    if (size <= 0)
        return 0;
    if (!sig) {
        *sig_len = (size_t)size;
        return 1;
    }
    *sig_len = room;
    return tls_sign(op->key->id, op->digest, op->padding, slice_from(tbs, tbs_len), sig, sig_len) ==
           OK;
}

static const OSSL_DISPATCH signature[] = {{OSSL_FUNC_SIGNATURE_NEWCTX, FN(sign_new)},
    {OSSL_FUNC_SIGNATURE_FREECTX, FN(sign_free)}, {OSSL_FUNC_SIGNATURE_DUPCTX, FN(sign_dup)},
    {OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, FN(sign_init)},
    {OSSL_FUNC_SIGNATURE_DIGEST_SIGN, FN(sign_whole)},
    {OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, FN(sign_set_params)},
    {OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS, FN(sign_settable)}, {0, NULL}};

/* --- the provider -------------------------------------------------------------------------- */

static const OSSL_ALGORITHM keymgmts[] = {{"RSA:rsaEncryption", PROPERTIES, rsa_keymgmt, NULL},
    {"EC:id-ecPublicKey", PROPERTIES, ec_keymgmt, NULL},
    {"ED25519", PROPERTIES, ed25519_keymgmt, NULL}, {NULL, NULL, NULL, NULL}};
static const OSSL_ALGORITHM signatures[] = {{"RSA:rsaEncryption", PROPERTIES, signature, NULL},
    {"ECDSA", PROPERTIES, signature, NULL}, {"ED25519", PROPERTIES, signature, NULL},
    {NULL, NULL, NULL, NULL}};

static const OSSL_ALGORITHM *query(void *provider, int operation, int *no_cache)
{
    (void)provider;
    *no_cache = 0;
    if (operation == OSSL_OP_KEYMGMT)
        return keymgmts;
    return operation == OSSL_OP_SIGNATURE ? signatures : NULL;
}

static const OSSL_DISPATCH provider_functions[] = {
    {OSSL_FUNC_PROVIDER_QUERY_OPERATION, FN(query)}, {0, NULL}};

static int provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *core,
    const OSSL_DISPATCH **out, void **context)
{
    (void)core;
    *out = provider_functions;
    *context = (void *)(uintptr_t)handle;
    return 1;
}

OSSL_PROVIDER *tls_keys_load(OSSL_LIB_CTX *libctx, struct error *err)
{
    OSSL_PROVIDER *p = NULL;
    if (OSSL_PROVIDER_add_builtin(libctx, PROVIDER_NAME, provider_init) == 1)
        p = OSSL_PROVIDER_load(libctx, PROVIDER_NAME);
    if (!p)
        tls_error(err, ERR_TEMP, "cannot load the key provider");
    return p;
}

EVP_PKEY *tls_keys_new(OSSL_LIB_CTX *libctx, EVP_PKEY *public_half, struct error *err)
{
    static const char *const types[] = {"RSA", "EC", "ED25519"};
    EVP_PKEY *key = NULL;
    OSSL_PARAM *params = NULL;
    EVP_PKEY_CTX *ctx = NULL;
    for (size_t i = 0; i < ARRAY_LEN(types) && !ctx; i++)
        if (EVP_PKEY_is_a(public_half, types[i]))
            ctx = EVP_PKEY_CTX_new_from_name(libctx, types[i], PROPERTIES);
    if (!ctx) {
        tls_error(err, ERR_UNSUPPORTED, "the certificate's key is not RSA, ECDSA or Ed25519");
        return NULL;
    }
    if (EVP_PKEY_todata(public_half, EVP_PKEY_PUBLIC_KEY, &params) != 1 ||
        EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)
        tls_error(err, ERR_CORRUPT, "cannot use the certificate's public key");
    OSSL_PARAM_free(params);
    EVP_PKEY_CTX_free(ctx);
    return key;
}
