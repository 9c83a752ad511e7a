/* The right sides of aliases and included lists. Every input ends, and nothing is read beyond it.
 */
#include "libmail/aliases.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct alias_member m;
    unsigned flags = size ? data[0] & (ALIAS_BLANKS | ALIAS_COMMENTS) : 0;
    struct slice rest = slice_from_index(slice_from(data, size), 1);
    for (size_t before = rest.n + 1; alias_next(&rest, flags, &m); before = rest.n) {
        const char *end = m.text.p + m.text.n;
        bool plain = m.text.p >= m.plain && end <= m.plain + sizeof(m.plain);
        bool inside = m.text.p >= (const char *)data && end <= (const char *)data + size;
        if (rest.n >= before || (m.text.n && !plain && !inside) || m.kind > ALIAS_FILE)
            abort();
    }
    return 0;
}
