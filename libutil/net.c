#include "libutil/net.h"

#include <arpa/inet.h>

int net_addr_parse(struct slice s, struct net_addr *out)
{
    char text[INET6_ADDRSTRLEN];
    if (s.n >= 2 && s.p[0] == '[' && s.p[s.n - 1] == ']')
        s = slice_first(slice_from_index(s, 1), s.n - 2);
    if (slice_istarts(s, "IPv6:"))
        s = slice_from_index(s, 5);
    if (!slice_to_cstr(s, text, sizeof(text)))
        return ERR_SYNTAX;
    *out = (struct net_addr){0};
    if (inet_pton(AF_INET, text, out->bytes) == 1) {
        out->bits = 32;
        return OK;
    }
    if (inet_pton(AF_INET6, text, out->bytes) != 1)
        return ERR_SYNTAX;
    out->bits = 128;
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    if (memcmp(out->bytes, mapped, sizeof(mapped)) == 0) {
        memmove(out->bytes, out->bytes + 12, 4);
        memset(out->bytes + 4, 0, 12);
        out->bits = 32;
    }
    return OK;
}

bool net_addr_is_loopback(const struct net_addr *a)
{
    static const uint8_t one[16] = {[15] = 1};
    return a->bits == 32 ? a->bytes[0] == 127 : memcmp(a->bytes, one, sizeof(one)) == 0;
}

static bool same_prefix(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    if (memcmp(a, b, bits / 8) != 0)
        return false;
    unsigned mask = 0xff00u >> bits % 8 & 0xff;
    return bits % 8 == 0 || ((a[bits / 8] ^ b[bits / 8]) & mask) == 0;
}

bool net_block_contains(const struct net_block *block, const struct net_addr *a)
{
    return block->addr.bits == a->bits && same_prefix(block->addr.bytes, a->bytes, block->prefix);
}

int net_block_parse(struct slice s, struct net_block *out, struct error *err)
{
    struct slice rest = s, addr = slice_cut(&rest, '/');
    uint64_t prefix;
    if (net_addr_parse(addr, &out->addr))
        return error_set(err, ERR_SYNTAX,
            "'%.*s' is not an address or network such as 192.0.2.0/24 or 2001:db8::/32",
            SLICE_FMT(slice_first(s, 80)));
    prefix = out->addr.bits;
    if (rest.p && slice_u64(rest, 0, out->addr.bits, &prefix))
        return error_set(err, ERR_SYNTAX, "'%.*s': the prefix must be from 0 to %u",
            SLICE_FMT(slice_first(s, 80)), out->addr.bits);
    out->prefix = (uint8_t)prefix;
    for (unsigned bit = out->prefix; bit < out->addr.bits; bit++)
        if (out->addr.bytes[bit / 8] & (0x80u >> bit % 8))
            return error_set(err, ERR_SYNTAX, "'%.*s' has bits set beyond its prefix",
                SLICE_FMT(slice_first(s, 80)));
    return OK;
}

static int parse_port(struct slice s, uint16_t *port)
{
    uint64_t v;
    int rc = slice_u64(s, 1, 65535, &v);
    if (rc == OK)
        *port = (uint16_t)v;
    return rc;
}

int net_hostport_parse(struct slice s, struct slice *host, bool *bracketed, uint16_t *port)
{
    struct slice rest = s;
    struct net_addr addr;
    *bracketed = slice_starts(s, "[");
    if (*bracketed) {
        rest = slice_from_index(s, 1);
        *host = slice_cut(&rest, ']');
        if (!rest.p || (net_addr_parse(*host, &addr) && !net_is_domain(*host)))
            return ERR_SYNTAX;
        if (rest.n == 0)
            return OK;
        return rest.p[0] == ':' ? parse_port(slice_from_index(rest, 1), port) : ERR_SYNTAX;
    }
    *host = slice_cut(&rest, ':');
    if (!net_is_domain(*host))
        return ERR_SYNTAX;
    return rest.p ? parse_port(rest, port) : OK;
}

int net_listen_parse(struct slice s, struct net_listen *out, struct error *err)
{
    struct slice addr = s;
    struct net_addr parsed;
    *out = (struct net_listen){0};
    if (slice_ends(addr, "s")) {
        out->tls = true;
        addr.n--;
    }
    ptrdiff_t colon = slice_rchr(addr, ':');
    if (colon >= 0) {
        out->host = slice_first(addr, (size_t)colon);
        bool bracketed = out->host.n > 2 && out->host.p[0] == '[';
        bool ok = slice_is(out->host, "*") || net_addr_parse(out->host, &parsed) == OK;
        /* Without brackets, 2001:db8::1:25 would be ambiguous. */
        if (slice_chr(out->host, ':') >= 0 && !bracketed)
            ok = false;
        if (bracketed)
            out->host = slice_first(slice_from_index(out->host, 1), out->host.n - 2);
        if (ok && parse_port(slice_from_index(addr, (size_t)colon + 1), &out->port) == OK)
            return OK;
    }
    return error_set(err, ERR_SYNTAX,
        "'%.*s' is not allowed: must be ADDRESS:PORT, such as *:25, 127.0.0.1:465s or [::1]:25 "
        "(port 1 to 65535; a final s means TLS from the first byte)",
        SLICE_FMT(slice_first(s, 80)));
}

static bool is_label_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || (unsigned char)c >= 0x80;
}

bool net_is_domain(struct slice s)
{
    if (s.n == 0 || s.n > 253)
        return false;
    for (struct slice rest = s; rest.p;) {
        struct slice label = slice_cut(&rest, '.');
        if (label.n == 0 || label.n > 63 || label.p[0] == '-' || label.p[label.n - 1] == '-')
            return false;
        for (size_t i = 0; i < label.n; i++)
            if (!is_label_char(label.p[i]))
                return false;
    }
    return true;
}
