#include "libmail/coexist.h"

#include "libmail/address.h"

void coexist_init(struct coexist *c, const struct conf *conf)
{
    char name[ADDRESS_MAX + 1];
    map_init(&c->domains);
    for (const struct conf_block *b = NULL; (b = conf_next(conf_root(conf), "domain", b));)
        for (size_t i = 0; conf_bool(b, "coexist") && i < conf_args(b); i++)
            if (slice_to_cstr(conf_arg(b, i), name, sizeof(name))) {
                ascii_lower(name, strlen(name));
                map_set(&c->domains, slice_of(name), c);
            }
}

void coexist_clear(struct coexist *c)
{
    map_clear(&c->domains);
}

bool coexist_has(const struct coexist *c, struct slice address)
{
    char name[ADDRESS_MAX + 1];
    ptrdiff_t at = slice_rchr(address, '@');
    if (at < 0 || map_count(&c->domains) == 0 ||
        !slice_to_cstr(slice_from_index(address, (size_t)at + 1), name, sizeof(name)))
        return false;
    ascii_lower(name, strlen(name));
    return map_get(&c->domains, slice_of(name)) != NULL;
}
