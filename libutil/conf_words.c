#include "libutil/conf_words.h"

#include "libutil/net.h"

#define SHOWN(word) SLICE_FMT(slice_first((word), 80))

int conf_word_listen(struct slice word, struct error *err)
{
    struct net_listen parsed;
    return net_listen_parse(word, &parsed, err);
}

int conf_word_network(struct slice word, struct error *err)
{
    struct net_block block;
    return net_block_parse(word, &block, err);
}

int conf_word_ip(struct slice word, struct error *err)
{
    struct net_addr addr;
    if (net_addr_parse(word, &addr))
        return error_set(err, ERR_SYNTAX, "'%.*s' is not an IP address", SHOWN(word));
    return OK;
}

int conf_word_dns_server(struct slice word, struct error *err)
{
    struct slice port = word, addr = slice_cut(&port, '@');
    struct net_addr parsed;
    uint64_t v;
    if (net_addr_parse(addr, &parsed) || (port.p && slice_u64(port, 1, 65535, &v)))
        return error_set(err, ERR_SYNTAX,
            "'%.*s' is not a name server: must be ADDRESS or ADDRESS@PORT", SHOWN(word));
    return OK;
}

int conf_word_domain(struct slice word, struct error *err)
{
    if (!net_is_domain(word))
        return error_set(err, ERR_SYNTAX, "'%.*s' is not a domain name", SHOWN(word));
    return OK;
}

/* RFC 5321 §4.1.2: outside quotes a local part has none of the specials. */
static bool is_local_part(struct slice s)
{
    static const char specials[] = "()<>[]:;@\\,\"";
    bool quoted = s.n > 2 && s.p[0] == '"' && s.p[s.n - 1] == '"';
    for (size_t i = 0; i < s.n && !quoted; i++)
        if (s.p[i] != '\0' && strchr(specials, s.p[i]))
            return false;
    return s.n > 0;
}

int conf_word_address(struct slice word, struct error *err)
{
    ptrdiff_t at = slice_rchr(word, '@');
    bool ok = word.n <= 320 && is_local_part(at < 0 ? word : slice_first(word, (size_t)at));
    if (at > 0)
        ok = ok && net_is_domain(slice_from_index(word, (size_t)at + 1));
    for (size_t i = 0; i < word.n; i++)
        if ((unsigned char)word.p[i] <= ' ' || word.p[i] == '<' || word.p[i] == '>')
            ok = false;
    if (!ok)
        return error_set(
            err, ERR_SYNTAX, "'%.*s' is not an address: must be user@domain", SHOWN(word));
    return OK;
}

int conf_word_relative(struct slice word, struct error *err)
{
    bool ok = word.n > 0 && word.p[0] != '/';
    for (struct slice rest = word; ok && rest.p;) {
        struct slice part = slice_cut(&rest, '/');
        ok = part.n > 0 && !slice_is(part, ".") && !slice_is(part, "..");
    }
    if (!ok)
        return error_set(
            err, ERR_SYNTAX, "'%.*s' must be a relative path without . or ..", SHOWN(word));
    return OK;
}

int conf_word_mailbox(struct slice word, struct error *err)
{
    ptrdiff_t slash = slice_rchr(word, '/'), brace = slice_chr(word, '{');
    if (!slice_starts(word, "/"))
        return conf_word_relative(
            slice_ends(word, "/") ? slice_first(word, word.n - 1) : word, err);
    bool ok = slash > 0 && brace > slash &&
              slice_chr(slice_from_index(word, (size_t)brace + 1), '{') < 0 &&
              slice_starts(slice_from_index(word, (size_t)brace), "{user}") &&
              conf_word_relative(slice_from_index(word, 1), NULL) == OK;
    return ok ? OK
              : error_set(err, ERR_SYNTAX,
                    "'%.*s' must be a Maildir relative to the home, or an mbox file "
                    "/DIRECTORY/{user}",
                    SHOWN(word));
}

int conf_word_store(struct slice word, struct error *err)
{
    if (conf_word_relative(word, err))
        return ERR_SYNTAX;
    for (struct slice rest = slice_from_index(word, 0); rest.n;) {
        ptrdiff_t open = slice_chr(rest, '{');
        if (open < 0)
            break;
        rest = slice_from_index(rest, (size_t)open);
        if (!slice_starts(rest, "{user}") && !slice_starts(rest, "{domain}"))
            return error_set(
                err, ERR_SYNTAX, "'%.*s': only {user} and {domain} may be in braces", SHOWN(word));
        rest = slice_from_index(rest, 1);
    }
    if (slice_find(word, SLICE_LIT("{user}")) < 0)
        return error_set(err, ERR_SYNTAX, "'%.*s' must contain {user}", SHOWN(word));
    return OK;
}

int conf_word_relay(struct slice word, struct error *err)
{
    struct slice rest = word, host;
    bool bracketed;
    uint16_t port = 25;
    if (slice_starts(rest, "smtp:") || slice_starts(rest, "lmtp:"))
        rest = slice_from_index(rest, 5);
    if (net_hostport_parse(rest, &host, &bracketed, &port))
        return error_set(err, ERR_SYNTAX,
            "'%.*s' is not a destination: must be DOMAIN, [HOST] or [HOST]:PORT, with smtp: or "
            "lmtp: before it if wanted",
            SHOWN(word));
    return OK;
}

int conf_word_quota_folder(struct slice word, struct error *err)
{
    ptrdiff_t at = slice_rchr(word, '=');
    struct slice rule = slice_from_index(word, at < 0 ? word.n : (size_t)at + 1);
    uint64_t n;
    bool ok = at > 0 && at <= 250;
    if (ok && !slice_is(rule, "ignore")) {
        ok = slice_starts(rule, "+") && rule.n > 1;
        bool percent = slice_ends(rule, "%");
        bool unit = rule.n > 2 && strchr("KMGT", rule.p[rule.n - 1]);
        struct slice digits =
            slice_first(slice_from_index(rule, 1), rule.n - 1 - (percent || unit));
        ok = ok && slice_u64(digits, 0, percent ? 1000 : (uint64_t)1 << 40, &n) == OK;
    }
    for (size_t i = 0; i < word.n; i++)
        ok = ok && (unsigned char)word.p[i] >= ' ';
    if (!ok)
        return error_set(err, ERR_SYNTAX,
            "'%.*s' must be FOLDER=ignore, FOLDER=+N%% or FOLDER=+SIZE", SHOWN(word));
    return OK;
}

int conf_word_special_use(struct slice word, struct error *err)
{
    static const char *const uses[] = {"sent", "drafts", "trash", "junk", "archive"};
    ptrdiff_t at = slice_rchr(word, '=');
    for (size_t i = 0; at > 0 && i < ARRAY_LEN(uses); i++)
        if (slice_is(slice_from_index(word, (size_t)at + 1), uses[i]))
            return OK;
    return error_set(err, ERR_SYNTAX,
        "'%.*s' must be FOLDER=sent, =drafts, =trash, =junk or =archive", SHOWN(word));
}
