#include "libutil/siphash.h"

static uint64_t rotate(uint64_t x, unsigned n)
{
    return x << n | x >> (64 - n);
}

static uint64_t load(const uint8_t *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)p[i] << 8 * i;
    return v;
}

static void store(uint64_t v, uint8_t *out)
{
    for (size_t i = 0; i < 8; i++)
        out[i] = (uint8_t)(v >> 8 * i);
}

static void rounds(uint64_t v[4], unsigned n)
{
    while (n--) {
        v[0] += v[1];
        v[1] = rotate(v[1], 13) ^ v[0];
        v[0] = rotate(v[0], 32);
        v[2] += v[3];
        v[3] = rotate(v[3], 16) ^ v[2];
        v[0] += v[3];
        v[3] = rotate(v[3], 21) ^ v[0];
        v[2] += v[1];
        v[1] = rotate(v[1], 17) ^ v[2];
        v[2] = rotate(v[2], 32);
    }
}

void siphash(const uint8_t key[SIPHASH_KEY], struct slice in, uint8_t out[SIPHASH_LEN])
{
    uint64_t k0 = load(key, 8), k1 = load(key + 8, 8);
    uint64_t v[4] = {0x736f6d6570736575u ^ k0, 0x646f72616e646f6du ^ k1 ^ 0xee,
        0x6c7967656e657261u ^ k0, 0x7465646279746573u ^ k1};
    const uint8_t *p = (const uint8_t *)in.p;
    size_t left = in.n;
    for (; left >= 8; p += 8, left -= 8) {
        uint64_t m = load(p, 8);
        v[3] ^= m;
        rounds(v, 2);
        v[0] ^= m;
    }
    uint64_t last = (uint64_t)in.n << 56 | load(p, left);
    v[3] ^= last;
    rounds(v, 2);
    v[0] ^= last;
    v[2] ^= 0xee;
    rounds(v, 4);
    store(v[0] ^ v[1] ^ v[2] ^ v[3], out);
    v[1] ^= 0xdd;
    rounds(v, 4);
    store(v[0] ^ v[1] ^ v[2] ^ v[3], out + 8);
}
