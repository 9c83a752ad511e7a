/* Envelope addresses and header address lists. An accepted address must parse back to itself. */
#include "libmail/address.h"
#include "libmail/address_list.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_normal_form(struct slice s, unsigned flags)
{
    struct address a, b;
    if (address_parse(&a, s, flags) || a.len == 0)
        return;
    if (address_parse(&b, address_text(&a), flags) || !address_equal(&a, &b))
        abort();
    char plain[ADDRESS_MAX + 1];
    if (address_make(&b, address_local_plain(&a, plain), address_domain(&a)) ||
        !address_equal(&a, &b))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice s = slice_from(data, size), rest = s;
    struct arena arena;
    struct address a;
    struct address_iter it;
    struct address_item item;
    check_normal_form(s, 0);
    check_normal_form(s, ADDRESS_UTF8 | ADDRESS_NO_DOMAIN);
    if (address_parse_path(&a, &rest, ADDRESS_NULL) == OK && a.len > ADDRESS_MAX)
        abort();
    arena_init(&arena, 1 << 20);
    address_iter_init(&it, s, &arena);
    while (address_iter_next(&it, &item) != 0)
        ;
    arena_reset(&arena);
    return 0;
}
