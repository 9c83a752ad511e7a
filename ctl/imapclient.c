#include "ctl/imapclient.h"

#include "libmail/date.h"

enum { BUFFER = 65536, DEPTH_MAX = 32 };
static const uint64_t literal_max = (uint64_t)1 << 31;

struct imap_client {
    struct imap_events on;
    char in[BUFFER];
    size_t at, n;
    int failed; /* sticks */
    struct error err;
    struct buf word; /* the token read last */
    struct buf text;
    struct imap_message msg;
};

enum token { T_ATOM, T_STRING, T_OPEN, T_CLOSE, T_EOL, T_END };

struct imap_client *imap_client_new(const struct imap_events *on)
{
    struct imap_client *c = NEW(struct imap_client);
    c->on = *on;
    buf_init(&c->word, IMAP_STRING_MAX);
    buf_init(&c->text, IMAP_STRING_MAX);
    buf_init(&c->msg.text, IMAP_STRING_MAX);
    return c;
}

void imap_client_free(struct imap_client *c)
{
    if (!c)
        return;
    buf_clear(&c->word);
    buf_clear(&c->text);
    buf_clear(&c->msg.text);
    free(c);
}

void imap_client_forget(struct imap_client *c)
{
    c->at = c->n = 0;
}

static int fail(struct imap_client *c, int code, const char *why)
{
    if (!c->failed)
        c->failed = error_set(&c->err, code, "%s", why);
    return c->failed;
}

static bool fill(struct imap_client *c)
{
    if (c->failed)
        return false;
    if (c->at < c->n)
        return true;
    ssize_t n = c->on.more(c->on.arg, c->in, sizeof(c->in), &c->err);
    c->at = c->n = 0;
    if (n < 0)
        c->failed = (int)n;
    else if (n == 0)
        fail(c, ERR_CLOSED, "the server closed the connection");
    else
        c->n = (size_t)n;
    return n > 0;
}

static int peek(struct imap_client *c)
{
    return fill(c) ? (unsigned char)c->in[c->at] : -1;
}

static int take(struct imap_client *c)
{
    return fill(c) ? (unsigned char)c->in[c->at++] : -1;
}

static bool is_atom(int ch)
{
    return ch > ' ' && ch != 0x7f && ch != '(' && ch != ')' && ch != '"' && ch != '{';
}

/* The size in "{N}" or "{N+}" and the line end after it; -1 when that is not what is there. */
static int64_t literal_size(struct imap_client *c)
{
    uint64_t size = 0;
    int ch, digits = 0;
    take(c);
    while ((ch = take(c)) >= '0' && ch <= '9' && size <= literal_max) {
        size = size * 10 + (unsigned)(ch - '0');
        digits++;
    }
    if (ch == '+')
        ch = take(c);
    if (digits == 0 || size > literal_max || ch != '}')
        return -1;
    ch = take(c);
    if (ch == '\r')
        ch = take(c);
    return ch == '\n' ? (int64_t)size : -1;
}

/* Goes through n bytes; with `body` hands them on, otherwise adds them to the token. */
static void read_literal(struct imap_client *c, uint64_t n, bool body)
{
    while (n && fill(c)) {
        size_t part = (size_t)MIN(n, (uint64_t)(c->n - c->at));
        struct slice s = slice_from(c->in + c->at, part);
        if (body && !c->failed) {
            int rc = c->on.piece(c->on.arg, s, &c->err);
            c->failed = c->failed ? c->failed : rc;
        } else {
            (void)!buf_put(&c->word, s); /* what is too long is cut, and read past */
        }
        c->at += part;
        n -= part;
    }
}

static void read_quoted(struct imap_client *c, bool body)
{
    int ch;
    take(c);
    while ((ch = take(c)) >= 0 && ch != '"') {
        if (ch == '\\')
            ch = take(c);
        if (ch == '\r' || ch == '\n' || ch < 0) {
            fail(c, ERR_SYNTAX, "a quoted string without an end");
            return;
        }
        buf_putc(&c->word, (char)ch);
    }
    if (body && !c->failed && buf_len(&c->word)) {
        int rc = c->on.piece(c->on.arg, buf_slice(&c->word), &c->err);
        c->failed = c->failed ? c->failed : rc;
    }
}

/* The next token; body: a string is a message's content. */
static enum token next(struct imap_client *c, bool body)
{
    buf_reset(&c->word);
    while (peek(c) == ' ')
        take(c);
    int ch = peek(c);
    if (ch < 0)
        return T_END;
    if (ch == '\r' || ch == '\n') {
        if (take(c) == '\r' && peek(c) == '\n')
            take(c);
        return T_EOL;
    }
    if (ch == '(' || ch == ')')
        return take(c) == '(' ? T_OPEN : T_CLOSE;
    if (ch == '"') {
        read_quoted(c, body);
        return c->failed ? T_END : T_STRING;
    }
    if (ch == '{') {
        int64_t size = literal_size(c);
        if (size < 0) {
            fail(c, ERR_SYNTAX, "a literal without a size");
            return T_END;
        }
        if (body)
            c->msg.size = (uint64_t)size;
        read_literal(c, (uint64_t)size, body);
        return c->failed ? T_END : T_STRING;
    }
    for (int inside = 0; (ch = peek(c)) >= 0;) {
        /* BODY[HEADER.FIELDS (...)] is one word. */
        inside += ch == '[';
        if (!is_atom(ch) && !(inside && ch >= ' '))
            break;
        inside -= ch == ']' && inside;
        buf_putc(&c->word, (char)take(c));
    }
    if (buf_len(&c->word) == 0) {
        fail(c, ERR_SYNTAX, "a character that has no place in IMAP");
        return T_END;
    }
    return T_ATOM;
}

static bool word_is(const struct imap_client *c, const char *word)
{
    return slice_iis(buf_slice(&c->word), word);
}

/* Past the rest of a line, literals included. */
static void skip_line(struct imap_client *c)
{
    for (enum token t = T_ATOM; t != T_EOL && t != T_END;) {
        int ch = peek(c);
        /* Text of a response code may hold anything: only what may be a literal is a token. */
        if (ch >= 0 && ch != '{' && ch != '"' && ch != '\r' && ch != '\n')
            take(c);
        else
            t = ch == '"' ? (take(c), T_ATOM) : next(c, false);
    }
}

/* Past one value that was begun by `t`. */
static void skip_value(struct imap_client *c, enum token t)
{
    int depth = t == T_OPEN;
    while (depth > 0 && (t = next(c, false)) != T_END) {
        depth += t == T_OPEN ? 1 : t == T_CLOSE ? -1 : 0;
        if (t == T_EOL || depth > DEPTH_MAX)
            fail(c, ERR_SYNTAX, "a list without an end");
    }
}

/* --- FETCH ------------------------------------------------------------------------------------ */

static void take_flag(struct imap_client *c)
{
    static const struct {
        const char *name;
        uint32_t flag;
    } flags[] = {{"\\Seen", STORE_SEEN}, {"\\Answered", STORE_ANSWERED},
        {"\\Flagged", STORE_FLAGGED}, {"\\Deleted", STORE_DELETED}, {"\\Draft", STORE_DRAFT}};
    struct slice word = buf_slice(&c->word);
    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        if (slice_iis(word, flags[i].name))
            c->msg.flags |= flags[i].flag;
    if (word.n == 0 || word.p[0] == '\\' || word.n > 255 || c->msg.nkeywords == IMAP_KEYWORDS)
        return;
    /* Offsets until all are there: the buffer may move. */
    size_t at = buf_len(&c->msg.text);
    if (buf_put(&c->msg.text, word) == OK)
        c->msg.keywords[c->msg.nkeywords++] = (struct slice){(const char *)(uintptr_t)at, word.n};
}

static void take_flags(struct imap_client *c)
{
    enum token t;
    if (next(c, false) != T_OPEN) {
        fail(c, ERR_SYNTAX, "FLAGS without a list");
        return;
    }
    while ((t = next(c, false)) == T_ATOM)
        take_flag(c);
    if (t != T_CLOSE)
        fail(c, ERR_SYNTAX, "FLAGS without an end");
}

static void take_date(struct imap_client *c)
{
    char text[64];
    time_t when;
    if (next(c, false) != T_STRING || !slice_to_cstr(buf_slice(&c->word), text, sizeof(text)))
        return;
    for (char *p = text + strspn(text, " "); *p && *p != ' '; p++)
        if (*p == '-')
            *p = ' ';
    if (date_parse(slice_of(text), &when, NULL) == OK && when > 0)
        c->msg.date = (int64_t)when;
}

static void take_item(struct imap_client *c)
{
    uint64_t value;
    if (word_is(c, "UID")) {
        c->msg.has_uid =
            next(c, false) == T_ATOM && slice_u64(buf_slice(&c->word), 1, UINT32_MAX, &value) == OK;
        c->msg.uid = c->msg.has_uid ? (uint32_t)value : 0;
    } else if (word_is(c, "FLAGS")) {
        take_flags(c);
    } else if (word_is(c, "INTERNALDATE")) {
        take_date(c);
    } else if (word_is(c, "BODY[]")) {
        enum token t = next(c, true);
        if (t == T_STRING)
            c->msg.has_body = true;
        else
            skip_value(c, t);
    } else {
        skip_value(c, next(c, false));
    }
}

static void read_fetch(struct imap_client *c)
{
    struct buf text = c->msg.text;
    enum token t;
    buf_reset(&text);
    c->msg = (struct imap_message){.text = text};
    if (next(c, false) != T_OPEN) {
        fail(c, ERR_SYNTAX, "FETCH without a list");
        return;
    }
    int rc = c->on.begin(c->on.arg, &c->err);
    c->failed = c->failed ? c->failed : rc;
    while (!c->failed && (t = next(c, false)) != T_CLOSE) {
        if (t == T_ATOM)
            take_item(c);
        else
            fail(c, ERR_SYNTAX, "FETCH with something that is no item");
    }
    for (size_t i = 0; i < c->msg.nkeywords; i++)
        c->msg.keywords[i] = slice_from(
            buf_slice(&c->msg.text).p + (uintptr_t)c->msg.keywords[i].p, c->msg.keywords[i].n);
    if (!c->failed) {
        rc = c->on.end(c->on.arg, &c->msg, &c->err);
        c->failed = c->failed ? c->failed : rc;
        skip_line(c);
    }
}

/* --- the other responses ---------------------------------------------------------------------- */

static void read_list(struct imap_client *c, bool subscribed)
{
    struct imap_list l = {.subscribed = subscribed};
    enum token t;
    if (next(c, false) != T_OPEN) {
        skip_line(c);
        return;
    }
    while ((t = next(c, false)) == T_ATOM)
        l.noselect |= word_is(c, "\\Noselect") || word_is(c, "\\NonExistent");
    t = t == T_CLOSE ? next(c, false) : T_END;
    if (t == T_STRING && buf_len(&c->word) == 1)
        l.separator = buf_slice(&c->word).p[0];
    t = t == T_END || t == T_EOL ? T_END : next(c, false);
    if ((t != T_STRING && t != T_ATOM) || buf_len(&c->word) == 0) {
        fail(c, ERR_SYNTAX, "LIST without a name");
        return;
    }
    l.name = buf_slice(&c->word);
    c->on.list(c->on.arg, &l);
    skip_line(c);
}

/* ((PREFIX SEPARATOR ...) ...) others shared: the first of the first. */
static void read_namespace(struct imap_client *c)
{
    char prefix[256];
    bool list = next(c, false) == T_OPEN;
    if (list && next(c, false) == T_OPEN && next(c, false) == T_STRING &&
        slice_to_cstr(buf_slice(&c->word), prefix, sizeof(prefix)) && next(c, false) == T_STRING &&
        buf_len(&c->word) == 1)
        c->on.namespace(c->on.arg, slice_of(prefix), buf_slice(&c->word).p[0]);
    if (!c->failed)
        skip_line(c);
}

static void read_text(struct imap_client *c)
{
    int ch;
    buf_reset(&c->text);
    while ((ch = take(c)) >= 0 && ch != '\n')
        if (ch != '\r')
            buf_putc(&c->text, (char)ch);
}

/* What stands in brackets before the text of OK. */
static void use_code(struct imap_client *c)
{
    struct slice text = slice_trim(buf_slice(&c->text));
    static const char *const numbers[] = {"UIDVALIDITY", "UIDNEXT"};
    uint64_t value;
    if (!slice_starts(text, "["))
        return;
    struct slice code = slice_cut(&text, ']');
    code = slice_from_index(code, 1);
    struct slice word = slice_cut(&code, ' ');
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        if (slice_iis(word, numbers[i]) && slice_u64(code, 0, UINT32_MAX, &value) == OK)
            c->on.number(c->on.arg, numbers[i], value);
    while (slice_iis(word, "CAPABILITY") && code.n)
        c->on.capability(c->on.arg, slice_cut(&code, ' '));
}

static bool read_status(struct imap_client *c, enum imap_result *result)
{
    bool known = true;
    if (word_is(c, "OK"))
        *result = IMAP_OK;
    else if (word_is(c, "PREAUTH"))
        *result = IMAP_PREAUTH;
    else if (word_is(c, "NO"))
        *result = IMAP_NO;
    else if (word_is(c, "BAD") || word_is(c, "BYE"))
        *result = IMAP_BAD;
    else
        known = false;
    if (known) {
        read_text(c);
        use_code(c);
    }
    return known;
}

static void read_number(struct imap_client *c, uint64_t value)
{
    if (next(c, false) != T_ATOM) {
        fail(c, ERR_SYNTAX, "a number alone");
    } else if (word_is(c, "FETCH")) {
        read_fetch(c);
    } else {
        if (word_is(c, "EXISTS"))
            c->on.number(c->on.arg, "EXISTS", value);
        skip_line(c);
    }
}

static void read_untagged(struct imap_client *c, bool *greeting, enum imap_result *result)
{
    uint64_t value;
    if (next(c, false) != T_ATOM) {
        fail(c, ERR_SYNTAX, "a response without a name");
        return;
    }
    bool bye = word_is(c, "BYE");
    if (read_status(c, result)) {
        if (bye && !c->failed) {
            c->failed = error_set(&c->err, ERR_CLOSED, "the server says: %.*s",
                (int)MIN(buf_len(&c->text), (size_t)200), buf_slice(&c->text).p);
        }
        *greeting = true;
    } else if (slice_u64(buf_slice(&c->word), 0, UINT32_MAX, &value) == OK) {
        read_number(c, value);
    } else if (word_is(c, "LIST") || word_is(c, "LSUB")) {
        read_list(c, word_is(c, "LSUB"));
    } else if (word_is(c, "NAMESPACE")) {
        read_namespace(c);
    } else if (word_is(c, "CAPABILITY")) {
        while (next(c, false) == T_ATOM)
            c->on.capability(c->on.arg, buf_slice(&c->word));
    } else {
        skip_line(c);
    }
}

int imap_client_read(struct imap_client *c, const char *tag, enum imap_result *result,
    struct slice *text, struct error *err)
{
    bool over = false;
    while (!over && !c->failed) {
        bool status = false;
        enum token t = next(c, false);
        if (t == T_ATOM && word_is(c, "*")) {
            read_untagged(c, &status, result);
            over = status && !tag;
        } else if (t == T_ATOM && word_is(c, "+")) {
            *result = IMAP_CONTINUE;
            read_text(c);
            over = true;
        } else if (t == T_ATOM && tag && word_is(c, tag)) {
            next(c, false);
            if (!read_status(c, result))
                fail(c, ERR_SYNTAX, "a tagged response without a status");
            over = true;
        } else if (t != T_EOL) {
            fail(c, ERR_SYNTAX, "what the server sends is no IMAP");
        }
    }
    *text = buf_slice(&c->text);
    if (c->failed)
        *err = c->err;
    return c->failed;
}
