#include "libmail/nfc.h"

#include <stdlib.h>
#include <string.h>
#include <uninorm.h>

#include "libmail/charset.h"

int nfc_text(struct slice s, char *out, size_t size)
{
    size_t n = s.n;
    uint8_t *normal = NULL;
    if (!utf8_valid(s))
        return ERR_SYNTAX;
    if (!slice_is_ascii(s)) {
        normal = u8_normalize(UNINORM_NFC, (const uint8_t *)s.p, s.n, NULL, &n);
        if (!normal)
            return ERR_SYNTAX;
    }
    bool fits = n < size && !memchr(normal ? (const char *)normal : s.p, 0, n);
    if (fits && n > 0)
        memcpy(out, normal ? (const char *)normal : s.p, n);
    if (fits)
        out[n] = '\0';
    free(normal);
    return fits ? OK : ERR_LIMIT;
}

int nfc_address(struct address *a)
{
    char given[ADDRESS_MAX + 1], local[ADDRESS_MAX + 1], domain[ADDRESS_MAX + 1];
    if (slice_is_ascii(address_local(a)) ||
        !slice_to_cstr(address_domain(a), domain, sizeof(domain)))
        return OK;
    int rc = nfc_text(address_local_plain(a, given), local, sizeof(local));
    return rc == OK ? address_make(a, slice_of(local), slice_of(domain)) : rc;
}
