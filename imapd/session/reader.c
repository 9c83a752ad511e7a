#include "imapd/session/session.h"

/* "{123}" or "{123+}" at the end of a line (RFC 3501 §4.3, RFC 7888). */
static bool literal_at_end(struct slice line, struct literal *lit)
{
    ptrdiff_t at = slice_rchr(line, '{');
    if (at < 0 || !slice_ends(line, "}"))
        return false;
    struct slice digits = slice_from_index(line, (size_t)at + 1);
    digits.n--;
    lit->sync = !slice_ends(digits, "+");
    if (!lit->sync)
        digits.n--;
    int rc = slice_u64(digits, 0, UINT64_MAX, &lit->size);
    if (rc == ERR_LIMIT)
        lit->size = UINT64_MAX;
    return digits.n > 0 && rc != ERR_SYNTAX;
}

/* Whether the literal announced at the end of `text` is an APPEND's message and not the name of
 * its mailbox: tag SP "APPEND" SP mailbox [SP flags] [SP date-time] SP literal. */
static bool is_append_message(struct slice text)
{
    struct slice rest = text;
    slice_cut(&rest, ' ');
    if (!slice_iis(slice_cut(&rest, ' '), "APPEND"))
        return false;
    return rest.n > 0 && (rest.p[0] != '{' || slice_chr(rest, '\n') >= 0);
}

static void answer_bad(struct session *s, struct slice text, const char *code, const char *why)
{
    struct slice tag = slice_cut(&text, ' ');
    bool usable = tag.n > 0 && tag.n <= 128;
    for (size_t i = 0; i < tag.n; i++)
        usable = usable && is_atom_char(tag.p[i]) && tag.p[i] != '+';
    buf_put(&s->io.out, usable ? tag : SLICE_LIT("*"));
    buf_printf(&s->io.out, " BAD %s%s\r\n", code, why);
    s->errors++;
}

static int skip_bytes(struct session *s, uint64_t left)
{
    struct slice part;
    int rc = OK;
    for (; left > 0 && rc == OK; left -= part.n)
        rc = io_some(&s->io, (size_t)MIN(left, 65536), s->timeout, &part);
    return rc;
}

int command_rest(struct session *s, const char *last, bool *is_last)
{
    struct slice line;
    struct literal lit = {.sync = false};
    bool is = true;
    int rc = OK;
    while (rc == OK && !lit.sync) {
        rc = io_line(&s->io, SESSION_LINE_MAX, s->timeout, &line);
        if (rc == ERR_LIMIT)
            is = false;
        if (rc)
            break;
        is = is && slice_is(line, last);
        if (!literal_at_end(line, &lit))
            break;
        if (!lit.sync)
            rc = lit.size > s->message_max ? ERR_CLOSED : skip_bytes(s, lit.size);
    }
    if (rc == ERR_LIMIT)
        rc = io_skip_line(&s->io, s->timeout);
    if (is_last)
        *is_last = is && rc == OK;
    return rc;
}

/* A literal too large: one the client already sends must be passed over. */
static int refuse_literal(struct session *s, struct slice text, const struct literal *lit)
{
    answer_bad(s, text, "[TOOBIG] ", "Literal too large");
    if (lit->sync)
        return ERR_LIMIT;
    if (lit->size > s->message_max)
        return ERR_CLOSED;
    int rc = skip_bytes(s, lit->size);
    if (rc == OK)
        rc = command_rest(s, "", NULL);
    return rc ? rc : ERR_LIMIT;
}

/* Appends the bytes of a literal. */
static int read_literal(struct session *s, const struct literal *lit, struct buf *text)
{
    if (lit->sync)
        buf_puts(&s->io.out, "+ OK\r\n");
    struct slice part;
    for (uint64_t left = lit->size; left > 0; left -= part.n) {
        int rc = io_some(&s->io, (size_t)left, s->timeout, &part);
        if (rc)
            return rc;
        buf_put(text, part);
    }
    return OK;
}

int command_read(struct session *s, struct buf *text, struct literal *message, bool *has_message)
{
    *has_message = false;
    for (;;) {
        struct slice line;
        size_t room = SESSION_COMMAND_MAX - buf_len(text);
        int rc = io_line(&s->io, MIN(room, (size_t)SESSION_LINE_MAX), s->timeout, &line);
        if (rc == ERR_LIMIT) {
            answer_bad(s, buf_slice(text), "", "Command line too long");
            rc = io_skip_line(&s->io, s->timeout);
            return rc ? rc : ERR_LIMIT;
        }
        if (rc)
            return rc;
        buf_put(text, line);
        if (line.n && memchr(line.p, 0, line.n)) {
            answer_bad(s, buf_slice(text), "", "NUL in command");
            return ERR_SYNTAX;
        }
        struct literal lit;
        if (!literal_at_end(line, &lit))
            return OK;
        if (is_append_message(buf_slice(text))) {
            *message = lit;
            *has_message = true;
            return OK;
        }
        if (lit.size > SESSION_LITERAL_MAX || lit.size > SESSION_COMMAND_MAX - buf_len(text))
            return refuse_literal(s, buf_slice(text), &lit);
        buf_puts(text, "\r\n");
        if ((rc = read_literal(s, &lit, text)) != OK)
            return rc;
    }
}
