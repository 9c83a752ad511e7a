#include "libmail/received.h"

#include "libmail/date.h"
#include "libutil/error.h"

/* Text from a stranger inside a structured field: what could end a word, a comment or the field
 * becomes '?'. */
static int safe(struct slice s, struct buf *out)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bool bad = c <= 32 || c == 127 || strchr("()<>\\\";,", (char)c);
        if (buf_putc(out, bad ? '?' : (char)c))
            return ERR_LIMIT;
    }
    return OK;
}

/* RFC 5321 §4.1.3: an address inside brackets is tagged when it is IPv6. */
static int literal(struct slice ip, struct buf *out)
{
    if (buf_puts(out, slice_chr(ip, ':') >= 0 ? "[IPv6:" : "[") || safe(ip, out))
        return ERR_LIMIT;
    return buf_putc(out, ']');
}

static int print_from(const struct received *r, struct buf *out)
{
    if (r->uid >= 0)
        return buf_printf(out, "Received: by %.*s (Veredus, from userid %lld)", SLICE_FMT(r->by),
            (long long)r->uid);
    (void)buf_puts(out, "Received: from ");
    (void)safe(r->helo.n ? r->helo : SLICE_LIT("unknown"), out);
    (void)buf_puts(out, " (");
    (void)safe(r->client_name.n ? r->client_name : SLICE_LIT("unknown"), out);
    (void)buf_putc(out, ' ');
    (void)literal(r->client, out);
    (void)buf_putc(out, ')');
    if (r->tls.n)
        (void)buf_printf(out, "\r\n\t(using %.*s)", SLICE_FMT(r->tls));
    return buf_printf(out, "\r\n\tby %.*s (Veredus)", SLICE_FMT(r->by));
}

int received_print(const struct received *r, struct buf *out)
{
    char date[DATE_TEXT];
    date_print(r->when, date);
    (void)print_from(r, out);
    (void)buf_printf(out, " with %.*s id %.*s", SLICE_FMT(r->with), SLICE_FMT(r->qid));
    if (r->recipient.n) {
        (void)buf_puts(out, "\r\n\tfor <");
        (void)safe(r->recipient, out);
        (void)buf_putc(out, '>');
    }
    if (r->priority)
        (void)buf_printf(out, " PRIORITY %d", r->priority);
    (void)buf_printf(out, ";\r\n\t%s\r\n", date);
    return out->failed ? ERR_LIMIT : OK;
}

struct slice received_with(bool lmtp, bool ehlo, bool tls, bool auth, bool utf8)
{
    static const char *const words[4][4] = {{"ESMTP", "ESMTPA", "ESMTPS", "ESMTPSA"},
        {"LMTP", "LMTPA", "LMTPS", "LMTPSA"}, {"UTF8SMTP", "UTF8SMTPA", "UTF8SMTPS", "UTF8SMTPSA"},
        {"UTF8LMTP", "UTF8LMTPA", "UTF8LMTPS", "UTF8LMTPSA"}};
    if (!lmtp && !ehlo)
        return SLICE_LIT("SMTP");
    return slice_of(words[lmtp + (utf8 ? 2 : 0)][(tls ? 2 : 0) + (auth ? 1 : 0)]);
}
