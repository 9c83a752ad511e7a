#include "imapd/login/imap_login.h"

enum { COMMAND_MAX = 8192, TAG_MAX = 100 };

struct imap_state {
    size_t framed;   /* input looked at already */
    size_t answered; /* end of the last literal that was asked for */
    char tag[TAG_MAX + 1];
};

/* --- commands with literals ------------------------------------------------------------------ */

/* The literal announced at the end of a line: {n} or {n+}; false: none. */
static bool announced(struct slice line, uint64_t *size, bool *waits)
{
    ptrdiff_t open = slice_rchr(line, '{');
    if (open < 0 || !slice_ends(line, "}"))
        return false;
    struct slice number = slice_from(line.p + open + 1, line.n - (size_t)open - 2);
    *waits = !slice_ends(number, "+");
    if (!*waits)
        number.n--;
    return slice_u64(number, 0, UINT32_MAX, size) == OK;
}

static struct slice strip_eol(struct slice line)
{
    if (line.n && line.p[line.n - 1] == '\n')
        line.n--;
    if (line.n && line.p[line.n - 1] == '\r')
        line.n--;
    return line;
}

static ptrdiff_t frame(struct login *l, struct slice in)
{
    struct imap_state *st = login_state(l);
    while (st->framed < in.n) {
        struct slice rest = slice_from_index(in, st->framed);
        ptrdiff_t nl = slice_chr(rest, '\n');
        uint64_t size;
        bool waits;
        if (nl < 0)
            return 0;
        size_t end = st->framed + (size_t)nl + 1;
        if (!announced(strip_eol(slice_first(rest, (size_t)nl)), &size, &waits)) {
            st->framed = st->answered = 0;
            return (ptrdiff_t)end;
        }
        if (size > COMMAND_MAX || end + size > COMMAND_MAX)
            return -1;
        if (waits && st->answered < end) {
            buf_puts(login_out(l), "+ go on\r\n");
            st->answered = end;
        }
        if (in.n < end + size)
            return 0;
        st->framed = end + size;
    }
    return 0;
}

/* --- words ----------------------------------------------------------------------------------- */

/* The next word up to a space. */
static struct slice word(struct slice *rest)
{
    struct slice w = slice_cut(rest, ' ');
    if (!rest->p)
        *rest = SLICE_LIT("");
    return w;
}

static bool is_astring_char(char c)
{
    /* RFC 3501 §9 ASTRING-CHAR; bytes above 127 are let through, as clients send them. */
    return (unsigned char)c > 0x20 && c != 0x7f && !strchr("(){%*\"\\", c);
}

/* A quoted string, unescaped in place. */
static bool quoted(struct slice *rest, struct slice *out)
{
    char *base = (char *)(uintptr_t)(rest->p + 1);
    size_t n = 0;
    for (size_t i = 1; i < rest->n; i++) {
        char c = rest->p[i];
        if (c == '"') {
            *out = slice_from(base, n);
            *rest = slice_from_index(*rest, i + 1);
            return true;
        }
        if (c == '\\' && i + 1 < rest->n && (rest->p[i + 1] == '"' || rest->p[i + 1] == '\\'))
            c = rest->p[++i];
        else if (c == '\\' || c == '\r' || c == '\n')
            return false;
        base[n++] = c;
    }
    return false;
}

static bool literal(struct slice *rest, struct slice *out)
{
    ptrdiff_t nl = slice_chr(*rest, '\n');
    uint64_t size;
    bool waits;
    if (nl < 0 || !announced(strip_eol(slice_first(*rest, (size_t)nl)), &size, &waits))
        return false;
    struct slice body = slice_from_index(*rest, (size_t)nl + 1);
    if (body.n < size)
        return false;
    *out = slice_first(body, size);
    *rest = slice_from_index(body, size);
    return true;
}

/* RFC 3501 astring: an atom, a quoted string or a literal. */
static bool astring(struct slice *rest, struct slice *out)
{
    if (rest->n && rest->p[0] == '"')
        return quoted(rest, out);
    if (rest->n && rest->p[0] == '{')
        return literal(rest, out);
    size_t n = 0;
    while (n < rest->n && is_astring_char(rest->p[n]))
        n++;
    *out = slice_first(*rest, n);
    *rest = slice_from_index(*rest, n);
    return n > 0;
}

static bool space(struct slice *rest)
{
    if (!rest->n || rest->p[0] != ' ')
        return false;
    *rest = slice_from_index(*rest, 1);
    return true;
}

/* --- answers --------------------------------------------------------------------------------- */

static const char *const answers[LOGIN_ANSWERS] = {
    [LOGIN_REFUSED] = "NO [AUTHENTICATIONFAILED] Authentication failed",
    [LOGIN_TEMPORARY] = "NO [UNAVAILABLE] Logins cannot be checked now, try again later",
    [LOGIN_UNAVAILABLE] = "NO [UNAVAILABLE] No session could be started, try again later",
    [LOGIN_NEEDS_TLS] = "NO [PRIVACYREQUIRED] Passwords are accepted only under TLS",
    [LOGIN_CANCELLED] = "BAD Authentication cancelled",
    [LOGIN_MALFORMED] = "BAD Malformed credentials",
    [LOGIN_MECHANISM] = "NO [CANNOT] Unknown authentication mechanism",
    [LOGIN_TOO_LONG] = "BYE The command is too long",
    [LOGIN_TOO_MANY] = "BYE Too many errors",
    [LOGIN_TOO_SLOW] = "BYE Time to log in is over",
    [LOGIN_GOING_DOWN] = "BYE [UNAVAILABLE] The server is going down",
    [LOGIN_CROWDED] = "BYE [LIMIT] Too many connections from your address",
};

static void answer(struct login *l, enum login_answer a)
{
    struct imap_state *st = login_state(l);
    bool untagged = slice_starts(slice_of(answers[a]), "BYE");
    buf_printf(login_out(l), "%s %s\r\n", untagged || !st->tag[0] ? "*" : st->tag, answers[a]);
}

static void reply(struct login *l, const char *text)
{
    struct imap_state *st = login_state(l);
    buf_printf(login_out(l), "%s %s\r\n", st->tag, text);
}

static void bad(struct login *l, const char *text)
{
    reply(l, text);
    login_mistake(l);
}

static void put_capabilities(struct login *l)
{
    buf_puts(login_out(l), "CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID");
    if (login_offers_tls(l))
        buf_puts(login_out(l), " STARTTLS");
    buf_puts(login_out(l), login_offers_auth(l) ? " AUTH=PLAIN AUTH=LOGIN" : " LOGINDISABLED");
}

static void greet(struct login *l)
{
    buf_puts(login_out(l), "* OK [");
    put_capabilities(l);
    buf_printf(login_out(l), "] %s ready\r\n", login_hostname(l));
}

/* --- commands -------------------------------------------------------------------------------- */

static void do_capability(struct login *l, struct slice args)
{
    (void)args;
    buf_puts(login_out(l), "* ");
    put_capabilities(l);
    buf_puts(login_out(l), "\r\n");
    reply(l, "OK Done");
}

static void do_noop(struct login *l, struct slice args)
{
    (void)args;
    reply(l, "OK Done");
}

static void do_id(struct login *l, struct slice args)
{
    (void)args; /* RFC 2971: what a client says of itself decides nothing */
    buf_puts(login_out(l), "* ID (\"name\" \"Veredus\")\r\n");
    reply(l, "OK Done");
}

static void do_logout(struct login *l, struct slice args)
{
    (void)args;
    buf_puts(login_out(l), "* BYE Good bye\r\n");
    reply(l, "OK Done");
    login_finish(l, "logout");
}

static void do_starttls(struct login *l, struct slice args)
{
    (void)args;
    if (!login_offers_tls(l)) {
        bad(l, login_has_tls(l) ? "BAD TLS is active already" : "BAD TLS is not offered");
        return;
    }
    reply(l, "OK Begin TLS now");
    login_start_tls(l);
}

static void do_login(struct login *l, struct slice args)
{
    struct imap_state *st = login_state(l);
    struct slice user, password;
    if (!astring(&args, &user) || !space(&args) || !astring(&args, &password) || args.n)
        bad(l, "BAD LOGIN takes a user name and a password");
    else
        login_password(l, user, password, SLICE_LIT(""), "LOGIN", slice_of(st->tag));
}

static void do_authenticate(struct login *l, struct slice args)
{
    struct imap_state *st = login_state(l);
    struct slice mechanism = word(&args);
    struct slice none = {NULL, 0};
    if (!mechanism.n)
        bad(l, "BAD AUTHENTICATE takes a mechanism");
    else
        login_sasl(l, mechanism, args.n ? args : none, slice_of(st->tag));
}

static const struct {
    const char *name;
    login_command_fn *run;
    bool arguments;
} commands[] = {
    {"CAPABILITY", do_capability, false},
    {"NOOP", do_noop, false},
    {"ID", do_id, true},
    {"LOGOUT", do_logout, false},
    {"STARTTLS", do_starttls, false},
    {"LOGIN", do_login, true},
    {"AUTHENTICATE", do_authenticate, true},
};

static bool take_tag(struct imap_state *st, struct slice tag)
{
    bool good = tag.n > 0 && tag.n <= TAG_MAX;
    for (size_t i = 0; good && i < tag.n; i++)
        good = is_astring_char(tag.p[i]) && tag.p[i] > 0 && tag.p[i] != '+';
    return good && slice_to_cstr(tag, st->tag, sizeof(st->tag));
}

static void command(struct login *l, struct slice line)
{
    struct imap_state *st = login_state(l);
    if (!take_tag(st, word(&line))) {
        st->tag[0] = '\0';
        buf_puts(login_out(l), "* BAD A command begins with a tag\r\n");
        login_mistake(l);
        return;
    }
    struct slice name = word(&line);
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (!slice_iis(name, commands[i].name))
            continue;
        if (!commands[i].arguments && line.n)
            bad(l, "BAD This command takes no arguments");
        else
            commands[i].run(l, line);
        return;
    }
    bad(l, "BAD Unknown command, or not before login");
}

const struct login_protocol imap_login_protocol = {
    .service = "imap",
    .command_max = COMMAND_MAX,
    .state_size = sizeof(struct imap_state),
    .greet = greet,
    .frame = frame,
    .command = command,
    .answer = answer,
};
