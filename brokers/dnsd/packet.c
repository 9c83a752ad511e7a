#include "brokers/dnsd/packet.h"

#include <arpa/inet.h>
#include <ctype.h>

#include "libutil/proto/dns.h"

enum {
    HEADER = 12,
    CLASS_IN = 1,
    POINTER = 0xc0,
    JUMPS_MAX = 64,
    RECORDS_MAX = 1000,
    TEXT_MAX = 4096
};

struct cursor {
    struct slice message;
    size_t at;
    bool bad;
};

static unsigned take8(struct cursor *c)
{
    if (c->at >= c->message.n) {
        c->bad = true;
        return 0;
    }
    return (unsigned char)c->message.p[c->at++];
}

static unsigned take16(struct cursor *c)
{
    unsigned high = take8(c);
    return high << 8 | take8(c);
}

static uint32_t take32(struct cursor *c)
{
    uint32_t high = take16(c);
    return high << 16 | take16(c);
}

static void skip(struct cursor *c, size_t n)
{
    if (n > c->message.n - c->at)
        c->bad = true;
    else
        c->at += n;
}

/* Appends one label; host names only. */
static bool put_label(struct cursor *c, unsigned length, char *out, size_t *used)
{
    bool good = *used + length + 1 < PACKET_NAME_MAX;
    if (good && *used)
        out[(*used)++] = '.';
    for (unsigned i = 0; i < length; i++) {
        unsigned ch = take8(c);
        good = good && (isalnum((int)ch) || ch == '-' || ch == '_') && ch < 128;
        if (good)
            out[(*used)++] = (char)tolower((int)ch);
    }
    return good;
}

/* Reads a name and moves behind it. Text without final dot, "." for the root. False (and
 * not bad) when it is well formed but no host name. */
static bool take_name(struct cursor *c, char out[PACKET_NAME_MAX])
{
    struct cursor at = *c;
    size_t used = 0;
    bool good = true, jumped = false;
    for (int steps = 0; !at.bad; steps++) {
        unsigned length = take8(&at);
        if (length == 0)
            break;
        if ((length & POINTER) == POINTER) {
            size_t target = (length & ~(unsigned)POINTER) << 8 | take8(&at);
            if (!jumped)
                *c = at;
            jumped = true;
            at.at = target;
            at.bad |= target >= at.message.n || steps > JUMPS_MAX;
            continue;
        }
        at.bad |= length > 63 || steps > JUMPS_MAX * 2;
        if (!at.bad)
            good = put_label(&at, length, out, &used) && good;
    }
    if (!jumped)
        *c = at;
    c->bad |= at.bad;
    if (used == 0)
        out[used++] = '.';
    out[MIN(used, (size_t)PACKET_NAME_MAX - 1)] = '\0';
    return good && !c->bad;
}

static bool put_record(struct buf *out, uint32_t preference, struct slice data)
{
    struct dns_record record = {.preference = preference, .data = data};
    size_t before = buf_len(out);
    if (record_put(out, &dns_record_record, &record) == OK)
        return true;
    buf_truncate(out, before);
    out->failed = false;
    return false;
}

static bool put_address(struct slice data, int family, size_t length, struct buf *out)
{
    char text[INET6_ADDRSTRLEN];
    return data.n == length && inet_ntop(family, data.p, text, sizeof(text)) &&
           put_record(out, 0, slice_of(text));
}

static bool put_host(struct cursor c, bool with_preference, struct buf *out)
{
    char name[PACKET_NAME_MAX];
    uint32_t preference = with_preference ? take16(&c) : 0;
    return take_name(&c, name) && put_record(out, preference, slice_of(name));
}

/* The strings of a TXT record joined (RFC 7208 §3.3). */
static bool put_text(struct slice data, struct buf *out)
{
    char joined[TEXT_MAX];
    size_t used = 0;
    struct reader r = reader_of(data);
    while (r.rest.n) {
        struct slice part = get_bytes(&r, get_u8(&r));
        if (r.bad || used + part.n > sizeof(joined))
            return false;
        memcpy(joined + used, part.p, part.n);
        used += part.n;
    }
    return put_record(out, 0, slice_from(joined, used));
}

static bool put_data(unsigned type, struct cursor at, size_t length, struct buf *out)
{
    struct slice data = slice_first(slice_from_index(at.message, at.at), length);
    switch (type) {
    case DNS_A:
        return put_address(data, AF_INET, 4, out);
    case DNS_AAAA:
        return put_address(data, AF_INET6, 16, out);
    case DNS_MX:
        return put_host(at, true, out);
    case DNS_PTR:
        return put_host(at, false, out);
    case DNS_TXT:
        return put_text(data, out);
    default:
        return put_record(out, 0, data);
    }
}

static void take_record(struct cursor *c, unsigned wanted, struct packet *p, struct buf *out)
{
    char name[PACKET_NAME_MAX];
    take_name(c, name);
    unsigned type = take16(c), class = take16(c);
    uint32_t ttl = take32(c);
    size_t length = take16(c);
    struct cursor data = *c;
    skip(c, length);
    if (c->bad || type != wanted || class != CLASS_IN)
        return;
    if (!put_data(type, data, length, out))
        return;
    p->ttl = p->count ? MIN(p->ttl, ttl) : ttl;
    p->count++;
}

int packet_read(struct slice message, unsigned type, struct packet *p, struct buf *out)
{
    struct cursor c = {.message = message};
    char name[PACKET_NAME_MAX];
    *p = (struct packet){0};
    take16(&c);
    p->rcode = take16(&c) & 15;
    unsigned questions = take16(&c), answers = take16(&c);
    skip(&c, 4);
    for (unsigned i = 0; i < questions && !c.bad; i++) {
        take_name(&c, name);
        skip(&c, 4);
    }
    for (unsigned i = 0; i < answers && i < RECORDS_MAX && !c.bad; i++)
        take_record(&c, type, p, out);
    return c.bad ? ERR_SYNTAX : OK;
}

static void put_digits(const unsigned char bytes[16], char out[PACKET_NAME_MAX])
{
    static const char hex[] = "0123456789abcdef";
    size_t used = 0;
    for (int i = 15; i >= 0; i--) {
        out[used++] = hex[bytes[i] & 15];
        out[used++] = '.';
        out[used++] = hex[bytes[i] >> 4];
        out[used++] = '.';
    }
    memcpy(out + used, "ip6.arpa", sizeof("ip6.arpa"));
}

int packet_reverse_name(struct slice address, char out[PACKET_NAME_MAX])
{
    char text[INET6_ADDRSTRLEN];
    unsigned char b[16];
    if (!slice_to_cstr(address, text, sizeof(text)))
        return ERR_SYNTAX;
    if (inet_pton(AF_INET, text, b) == 1)
        snprintf(out, PACKET_NAME_MAX, "%u.%u.%u.%u.in-addr.arpa", b[3], b[2], b[1], b[0]);
    else if (inet_pton(AF_INET6, text, b) == 1)
        put_digits(b, out);
    else
        return ERR_SYNTAX;
    return OK;
}
