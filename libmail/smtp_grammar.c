#include "libmail/smtp_grammar.h"

#include "libmail/date.h"
#include "libmail/orcpt.h"

enum { ENVID_MAX = 100, ORCPT_MAX = 500, XTEXT_VALUE_MAX = 500 };

struct smtp_command smtp_command_split(struct slice line)
{
    size_t n = 0;
    line = slice_trim(line);
    while (n < line.n && line.p[n] != ' ' && line.p[n] != '\t')
        n++;
    return (struct smtp_command){slice_first(line, n), slice_trim(slice_from_index(line, n))};
}

/* --- xtext, RFC 3461 §4 --- */

int xtext_decode(struct slice in, struct buf *out)
{
    for (size_t i = 0; i < in.n; i++) {
        char c = in.p[i];
        if (c == '+') {
            int high = i + 2 < in.n ? hex_digit_upper(in.p[i + 1]) : -1;
            int low = i + 2 < in.n ? hex_digit_upper(in.p[i + 2]) : -1;
            if (high < 0 || low < 0)
                return ERR_SYNTAX;
            c = (char)(high * 16 + low);
            i += 2;
        } else if (c < 33 || c > 126 || c == '=') {
            return ERR_SYNTAX;
        }
        if (buf_putc(out, c))
            return ERR_LIMIT;
    }
    return OK;
}

int xtext_encode(struct slice in, struct buf *out)
{
    for (size_t i = 0; i < in.n; i++) {
        unsigned char c = (unsigned char)in.p[i];
        int rc = c < 33 || c > 126 || c == '+' || c == '=' ? buf_printf(out, "+%02X", c)
                                                           : buf_putc(out, (char)c);
        if (rc)
            return ERR_LIMIT;
    }
    return OK;
}

/* --- parameters --- */

/* One "KEYWORD=value" and where it goes. */
struct param_state {
    unsigned extensions;
    unsigned seen;
    struct arena *arena;
    struct smtp_mail *mail;
    struct smtp_rcpt *rcpt;
    bool smtputf8; /* said in MAIL */
};

struct param {
    const char *keyword;
    unsigned extension;
    bool bare; /* takes no value */
    int (*set)(struct param_state *, struct slice value);
};

static int refuse(struct smtp_refusal *why, unsigned code, const char *dsn, const char *text)
{
    *why = (struct smtp_refusal){code, dsn, text};
    return ERR_SYNTAX;
}

static bool is_printable(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < 32 || s.p[i] > 126)
            return false;
    return true;
}

/* Decodes xtext into the arena; only printable ASCII may come out. */
static int decode(struct param_state *st, struct slice value, size_t max, struct slice *out)
{
    struct buf b;
    buf_init(&b, XTEXT_VALUE_MAX);
    int rc = xtext_decode(value, &b);
    if (rc == OK && (buf_len(&b) > max || !is_printable(buf_slice(&b))))
        rc = ERR_SYNTAX;
    if (rc == OK) {
        *out = arena_dup(st->arena, buf_slice(&b));
        rc = out->p ? OK : ERR_LIMIT;
    }
    buf_clear(&b);
    return rc;
}

/* RFC 6533 §3: with SMTPUTF8 the address may stand there as it is. */
static int decode_utf8(struct param_state *st, struct slice value, struct slice *out)
{
    struct buf b;
    if (!st->smtputf8 && !is_printable(value))
        return ERR_SYNTAX;
    buf_init(&b, ADDRESS_MAX);
    int rc = orcpt_utf8_decode(value, &b);
    if (rc == OK) {
        *out = arena_dup(st->arena, buf_slice(&b));
        rc = out->p ? OK : ERR_LIMIT;
    }
    buf_clear(&b);
    return rc == ERR_LIMIT ? ERR_SYNTAX : rc;
}

static int set_size(struct param_state *st, struct slice value)
{
    if (value.n == 0 || value.n > 20)
        return ERR_SYNTAX;
    int rc = slice_u64(value, 0, UINT64_MAX, &st->mail->size);
    if (rc == ERR_LIMIT)
        st->mail->size = UINT64_MAX;
    st->mail->has_size = true;
    return rc == ERR_LIMIT ? OK : rc;
}

static int set_body(struct param_state *st, struct slice value)
{
    st->mail->body = slice_iis(value, "8BITMIME") ? BODY_8BITMIME : BODY_7BIT;
    return st->mail->body == BODY_8BITMIME || slice_iis(value, "7BIT") ? OK : ERR_SYNTAX;
}

static int set_ret(struct param_state *st, struct slice value)
{
    st->mail->ret = slice_iis(value, "FULL") ? RET_FULL : RET_HDRS;
    return st->mail->ret == RET_FULL || slice_iis(value, "HDRS") ? OK : ERR_SYNTAX;
}

static int set_envid(struct param_state *st, struct slice value)
{
    return value.n ? decode(st, value, ENVID_MAX, &st->mail->envid) : ERR_SYNTAX;
}

/* RFC 4954 §5: AUTH=<> or an address in xtext; curl puts it in angle brackets nonetheless. */
static int set_auth(struct param_state *st, struct slice value)
{
    struct address a;
    if (slice_is(value, "<>")) {
        st->mail->auth = SLICE_LIT("<>");
        return OK;
    }
    if (slice_starts(value, "<") && slice_ends(value, ">"))
        value = slice_first(slice_from_index(value, 1), value.n - 2);
    int rc = decode(st, value, ADDRESS_MAX, &st->mail->auth);
    return rc ? rc : address_parse(&a, st->mail->auth, 0);
}

static int set_smtputf8(struct param_state *st, struct slice value)
{
    (void)value;
    st->mail->smtputf8 = true;
    return OK;
}

/* RFC 6710 §7: 0, or a digit from 1 to 9 that may have a minus. */
static int set_priority(struct param_state *st, struct slice value)
{
    struct slice digit = slice_from_index(value, slice_starts(value, "-"));
    if (digit.n != 1 || slice_i64(value, PRIORITY_MIN, PRIORITY_MAX, &st->mail->priority))
        return ERR_SYNTAX;
    return digit.n < value.n && st->mail->priority == 0 ? ERR_SYNTAX : OK;
}

/* RFC 4865 §3: one to nine digits, no leading zero. */
static int set_hold_for(struct param_state *st, struct slice value)
{
    uint64_t seconds;
    if (value.n > 9 || slice_starts(value, "0") || st->mail->hold_until ||
        slice_u64(value, 1, 999999999, &seconds))
        return ERR_SYNTAX;
    st->mail->hold_for = (int64_t)seconds * 1000;
    return OK;
}

static int set_hold_until(struct param_state *st, struct slice value)
{
    int64_t seconds;
    if (st->mail->hold_for || date_parse_rfc3339(value, &seconds) || seconds <= 0)
        return ERR_SYNTAX;
    st->mail->hold_until = seconds * 1000;
    return OK;
}

static int set_notify(struct param_state *st, struct slice value)
{
    static const struct {
        const char *word;
        unsigned bit;
    } words[] = {{"SUCCESS", NOTIFY_SUCCESS}, {"FAILURE", NOTIFY_FAILURE}, {"DELAY", NOTIFY_DELAY}};
    if (slice_iis(value, "NEVER")) {
        st->rcpt->notify = NOTIFY_NEVER;
        return OK;
    }
    do {
        struct slice word = slice_cut(&value, ',');
        unsigned bit = 0;
        for (size_t i = 0; i < ARRAY_LEN(words); i++)
            if (slice_iis(word, words[i].word))
                bit = words[i].bit;
        if (bit == 0)
            return ERR_SYNTAX;
        st->rcpt->notify |= bit;
    } while (value.p);
    return OK;
}

static int set_orcpt(struct param_state *st, struct slice value)
{
    struct slice address = value, decoded;
    struct slice type = slice_cut(&address, ';');
    if (type.n == 0 || address.n == 0 || value.n > ORCPT_MAX)
        return ERR_SYNTAX;
    for (size_t i = 0; i < type.n; i++)
        if (type.p[i] <= 32 || type.p[i] > 126 || strchr("()<>@,:\\\".[]+=", type.p[i]))
            return ERR_SYNTAX;
    bool utf8 = slice_iis(type, "utf-8");
    int rc = utf8 ? decode_utf8(st, address, &decoded)
                  : decode(st, address, ORCPT_MAX - type.n - 1, &decoded);
    if (rc)
        return rc;
    st->rcpt->orcpt = arena_printf(st->arena, "%.*s;%.*s", SLICE_FMT(type), SLICE_FMT(decoded));
    return st->rcpt->orcpt.p ? OK : ERR_LIMIT;
}

static const struct param mail_params[] = {
    {"SIZE", SMTP_EXT_SIZE, false, set_size},
    {"BODY", SMTP_EXT_8BITMIME, false, set_body},
    {"RET", SMTP_EXT_DSN, false, set_ret},
    {"ENVID", SMTP_EXT_DSN, false, set_envid},
    {"AUTH", SMTP_EXT_AUTH, false, set_auth},
    {"SMTPUTF8", SMTP_EXT_SMTPUTF8, true, set_smtputf8},
    {"MT-PRIORITY", SMTP_EXT_MT_PRIORITY, false, set_priority},
    {"HOLDFOR", SMTP_EXT_FUTURERELEASE, false, set_hold_for},
    {"HOLDUNTIL", SMTP_EXT_FUTURERELEASE, false, set_hold_until},
    {NULL, 0, false, NULL},
};

static const struct param rcpt_params[] = {
    {"NOTIFY", SMTP_EXT_DSN, false, set_notify},
    {"ORCPT", SMTP_EXT_DSN, false, set_orcpt},
    {NULL, 0, false, NULL},
};

static int parse_param(
    struct param_state *st, const struct param *table, struct slice word, struct smtp_refusal *why)
{
    struct slice value = word;
    struct slice keyword = slice_cut(&value, '=');
    for (const struct param *p = table; p->keyword; p++) {
        if (!slice_iis(keyword, p->keyword) || !(st->extensions & p->extension))
            continue;
        unsigned bit = 1u << (p - table);
        if (st->seen & bit)
            return refuse(why, 501, "5.5.4", "Parameter given twice");
        st->seen |= bit;
        if (p->bare != (value.p == NULL))
            return refuse(why, 501, "5.5.4", "Bad parameter value");
        int rc = p->set(st, value);
        if (rc == ERR_LIMIT)
            return refuse(why, 452, "4.3.1", "Out of memory for this transaction");
        return rc ? refuse(why, 501, "5.5.4", "Bad parameter value") : OK;
    }
    return refuse(why, 555, "5.5.4", "Parameter not recognized");
}

static int parse_params(
    struct param_state *st, const struct param *table, struct slice args, struct smtp_refusal *why)
{
    while (args.n) {
        struct slice word = slice_cut(&args, ' ');
        if (word.n == 0)
            continue;
        int rc = parse_param(st, table, word, why);
        if (rc)
            return rc;
    }
    return OK;
}

/* "FROM:<path>" with any case and, tolerated, space behind the colon. */
static int parse_path(struct slice *args, const char *word, struct address *out, unsigned flags)
{
    if (!slice_istarts(*args, word))
        return ERR_NOT_FOUND;
    *args = slice_trim(slice_from_index(*args, strlen(word)));
    int rc = address_parse_path(out, args, flags);
    return rc == OK && args->n && args->p[0] != ' ' ? ERR_SYNTAX : rc;
}

int smtp_parse_mail(struct slice args, unsigned extensions, struct arena *arena,
    struct smtp_mail *out, struct smtp_refusal *why)
{
    struct param_state st = {extensions, 0, arena, out, NULL, false};
    *out = (struct smtp_mail){0};
    int rc =
        parse_path(&args, "FROM:", &out->sender, ADDRESS_UTF8 | ADDRESS_NULL | ADDRESS_NO_DOMAIN);
    if (rc == ERR_NOT_FOUND)
        return refuse(why, 501, "5.5.4", "Syntax: MAIL FROM:<address>");
    if (rc)
        return refuse(why, 501, "5.1.7",
            rc == ERR_LIMIT ? "Sender address too long" : "Bad sender address syntax");
    rc = parse_params(&st, mail_params, args, why);
    if (rc == OK && out->sender.utf8 && !out->smtputf8)
        return refuse(why, 553, "5.6.7", "Address needs SMTPUTF8");
    return rc;
}

int smtp_parse_rcpt(struct slice args, unsigned extensions, bool smtputf8, struct arena *arena,
    struct smtp_rcpt *out, struct smtp_refusal *why)
{
    struct param_state st = {extensions, 0, arena, NULL, out, smtputf8};
    *out = (struct smtp_rcpt){0};
    int rc = parse_path(&args, "TO:", &out->recipient, ADDRESS_UTF8 | ADDRESS_NO_DOMAIN);
    if (rc == ERR_NOT_FOUND)
        return refuse(why, 501, "5.5.4", "Syntax: RCPT TO:<address>");
    if (rc)
        return refuse(why, 501, "5.1.3",
            rc == ERR_LIMIT ? "Recipient address too long" : "Bad recipient address syntax");
    rc = parse_params(&st, rcpt_params, args, why);
    if (rc == OK && out->recipient.utf8 && !smtputf8)
        return refuse(why, 553, "5.6.7", "Address needs SMTPUTF8");
    return rc;
}
