#include "libutil/crc32c.h"

#include <string.h>

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t update_fast(uint32_t crc, struct slice s)
{
    uint64_t wide = crc;
    for (; s.n >= 8; s = slice_from_index(s, 8)) {
        uint64_t word;
        memcpy(&word, s.p, sizeof(word));
        wide = __builtin_ia32_crc32di(wide, word);
    }
    crc = (uint32_t)wide;
    for (size_t i = 0; i < s.n; i++)
        crc = __builtin_ia32_crc32qi(crc, (unsigned char)s.p[i]);
    return crc;
}

static bool have_fast(void)
{
    return __builtin_cpu_supports("sse4.2");
}
#else
static uint32_t update_fast(uint32_t crc, struct slice s)
{
    (void)s;
    return crc;
}

static bool have_fast(void)
{
    return false;
}
#endif

/* Half a byte at a time: the table is small enough to be read at a glance. */
static uint32_t update_plain(uint32_t crc, struct slice s)
{
    static const uint32_t nibble[16] = {0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc,
        0x5125dad3, 0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
        0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75};
    for (size_t i = 0; i < s.n; i++) {
        crc ^= (unsigned char)s.p[i];
        crc = crc >> 4 ^ nibble[crc & 15];
        crc = crc >> 4 ^ nibble[crc & 15];
    }
    return crc;
}

uint32_t crc32c(uint32_t crc, struct slice s)
{
    crc = ~crc;
    return ~(have_fast() ? update_fast(crc, s) : update_plain(crc, s));
}
