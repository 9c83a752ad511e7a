#include "libmail/idn.h"

#include <idn2.h>

int idn_domain(struct slice domain, char out[256])
{
    char text[ADDRESS_DOMAIN_MAX * 2 + 1];
    char *ascii = NULL;
    if (!slice_to_cstr(domain, text, sizeof(text)))
        return ERR_LIMIT;
    int rc = idn2_to_ascii_8z(text, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
    bool fits = rc == IDN2_OK && slice_to_cstr(slice_of(ascii), out, 256);
    idn2_free(ascii);
    if (rc != IDN2_OK)
        return ERR_SYNTAX;
    return fits ? OK : ERR_LIMIT;
}

int idn_address(struct address *a)
{
    char domain[256], local[ADDRESS_MAX + 1];
    struct slice name = address_domain(a);
    if (slice_is_ascii(name))
        return OK;
    int rc = idn_domain(name, domain);
    struct address given = *a;
    if (rc == OK)
        rc = address_make(a, address_local_plain(&given, local), slice_of(domain));
    return rc;
}
