#include "libmail/base64.h"

#include "libutil/error.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+')
        return 62;
    return c == '/' ? 63 : -1;
}

int base64_decode(struct slice in, struct buf *out)
{
    size_t pad = 0;
    if (in.n % 4 != 0)
        return ERR_SYNTAX;
    while (pad < 2 && in.n > pad && in.p[in.n - pad - 1] == '=')
        pad++;
    size_t digits = in.n - pad;
    size_t n = in.n / 4 * 3 - pad;
    char *to = buf_reserve(out, n);
    if (!to)
        return n ? ERR_LIMIT : OK;
    uint32_t acc = 0;
    size_t used = 0;
    for (size_t i = 0; i < digits; i++) {
        int d = digit(in.p[i]);
        if (d < 0)
            return ERR_SYNTAX;
        acc = acc << 6 | (uint32_t)d;
        if (i % 4 != 0)
            to[used++] = (char)(acc >> (6 - 2 * (i % 4)) & 0xff);
    }
    if ((pad == 1 && (acc & 3)) || (pad == 2 && (acc & 15)))
        return ERR_SYNTAX;
    buf_claim(out, n);
    return OK;
}

int base64_encode(struct slice in, struct buf *out)
{
    size_t n = (in.n + 2) / 3 * 4;
    char *to = buf_reserve(out, n);
    if (!to)
        return n ? ERR_LIMIT : OK;
    const unsigned char *p = (const unsigned char *)in.p;
    for (size_t i = 0; i < in.n; i += 3) {
        size_t left = in.n - i;
        uint32_t v = (uint32_t)p[i] << 16;
        v |= left > 1 ? (uint32_t)p[i + 1] << 8 : 0;
        v |= left > 2 ? p[i + 2] : 0;
        *to++ = alphabet[v >> 18];
        *to++ = alphabet[v >> 12 & 63];
        *to++ = left > 1 ? alphabet[v >> 6 & 63] : '=';
        *to++ = left > 2 ? alphabet[v & 63] : '=';
    }
    buf_claim(out, n);
    return OK;
}
