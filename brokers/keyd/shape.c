#include "brokers/keyd/shape.h"

#include "libutil/buf.h"

enum { TLS13_SPACES = 64, TLS12_RANDOMS = 64, NAMED_CURVE = 3, UNCOMPRESSED = 4 };

static bool is_tls13(struct slice tbs)
{
    static const char context[] = "TLS 1.3, server CertificateVerify"; /* its NUL is signed too */
    size_t head = TLS13_SPACES + sizeof(context);
    if (tbs.n != head + 32 && tbs.n != head + 48)
        return false;
    for (size_t i = 0; i < TLS13_SPACES; i++)
        if (tbs.p[i] != ' ')
            return false;
    return memcmp(tbs.p + TLS13_SPACES, context, sizeof(context)) == 0;
}

static bool is_tls12(struct slice tbs)
{
    static const struct {
        uint16_t group;
        uint8_t length;
        bool point; /* begins with the mark of an uncompressed point */
    } groups[] = {
        {23, 65, true}, {24, 97, true}, {25, 133, true}, {29, 32, false}, {30, 56, false}};
    struct reader r = reader_of(tbs);
    get_bytes(&r, TLS12_RANDOMS);
    uint8_t kind = get_u8(&r);
    uint16_t group = (uint16_t)(get_u8(&r) << 8);
    group |= get_u8(&r);
    uint8_t length = get_u8(&r);
    struct slice point = get_bytes(&r, length);
    if (!reader_done(&r) || kind != NAMED_CURVE)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(groups); i++)
        if (groups[i].group == group && groups[i].length == length)
            return !groups[i].point || point.p[0] == UNCOMPRESSED;
    return false;
}

enum shape shape_of(struct slice tbs)
{
    if (is_tls13(tbs))
        return SHAPE_TLS13;
    return is_tls12(tbs) ? SHAPE_TLS12 : SHAPE_OTHER;
}

bool shape_allows(enum shape shape, const char *key_type, const char *digest, const char *padding)
{
    static const char *const digests[] = {
        "SHA2-256", "SHA2-384", "SHA2-512", "SHA256", "SHA384", "SHA512"};
    bool rsa = strcmp(key_type, "RSA") == 0;
    bool digest_known = false;
    for (size_t i = 0; i < ARRAY_LEN(digests); i++)
        digest_known |= strcmp(digests[i], digest) == 0;
    if (strcmp(key_type, "ED25519") == 0)
        digest_known = *digest == '\0';
    if (shape == SHAPE_OTHER || !digest_known)
        return false;
    if (!rsa)
        return *padding == '\0';
    if (strcmp(padding, "pss") == 0)
        return true;
    return shape == SHAPE_TLS12 && strcmp(padding, "pkcs1") == 0; /* RFC 8446 §4.2.3 */
}
