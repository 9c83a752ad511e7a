#include "pop3d/login/pop3_login.h"

/* RFC 2449 §4 allows 255; AUTH with an initial response needs more (RFC 5034 §4). */
enum { COMMAND_MAX = 4096, USER_MAX = 255 };

struct pop3_state {
    char user[USER_MAX + 1];
};

static const char *const answers[LOGIN_ANSWERS] = {
    [LOGIN_REFUSED] = "-ERR [AUTH] Authentication failed",
    [LOGIN_TEMPORARY] = "-ERR [SYS/TEMP] Logins cannot be checked now, try again later",
    [LOGIN_UNAVAILABLE] = "-ERR [SYS/TEMP] No session could be started, try again later",
    [LOGIN_NEEDS_TLS] = "-ERR [AUTH] Passwords are accepted only under TLS",
    [LOGIN_CANCELLED] = "-ERR Authentication cancelled",
    [LOGIN_MALFORMED] = "-ERR Malformed credentials",
    [LOGIN_MECHANISM] = "-ERR Unknown authentication mechanism",
    [LOGIN_TOO_LONG] = "-ERR The command is too long",
    [LOGIN_TOO_MANY] = "-ERR Too many errors",
    [LOGIN_TOO_SLOW] = "-ERR Time to log in is over",
    [LOGIN_GOING_DOWN] = "-ERR [SYS/TEMP] The server is going down",
    [LOGIN_CROWDED] = "-ERR [SYS/TEMP] Too many connections from your address",
};

static void reply(struct login *l, const char *text)
{
    buf_printf(login_out(l), "%s\r\n", text);
}

static void answer(struct login *l, enum login_answer a)
{
    struct pop3_state *st = login_state(l);
    st->user[0] = '\0';
    reply(l, answers[a]);
}

static void wrong(struct login *l, const char *text)
{
    reply(l, text);
    login_mistake(l);
}

static void greet(struct login *l)
{
    buf_printf(login_out(l), "+OK %s ready\r\n", login_hostname(l));
}

static void do_capa(struct login *l, struct slice args)
{
    (void)args;
    reply(l, "+OK Capability list follows");
    reply(l, "TOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING");
    if (login_offers_tls(l))
        reply(l, "STLS");
    if (login_offers_auth(l))
        reply(l, "USER\r\nSASL PLAIN LOGIN");
    reply(l, ".");
}

static void do_stls(struct login *l, struct slice args)
{
    (void)args;
    if (!login_offers_tls(l)) {
        wrong(l, login_has_tls(l) ? "-ERR TLS is active already" : "-ERR TLS is not offered");
        return;
    }
    reply(l, "+OK Begin TLS now");
    login_start_tls(l);
}

/* One word of what can be seen (RFC 1939 §3). Anything else is a client out of step, whose next
 * command, PASS, would otherwise be logged as part of the name. */
static bool is_name(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] <= ' ' || s.p[i] == 127)
            return false;
    return s.n > 0;
}

static void do_user(struct login *l, struct slice args)
{
    struct pop3_state *st = login_state(l);
    if (!login_offers_auth(l)) {
        answer(l, LOGIN_NEEDS_TLS);
        login_mistake(l);
    } else if (!is_name(args) || !slice_to_cstr(args, st->user, sizeof(st->user))) {
        st->user[0] = '\0';
        wrong(l, "-ERR USER takes a name");
    } else {
        reply(l, "+OK Now the password"); /* also for unknown names */
    }
}

static void do_pass(struct login *l, struct slice args)
{
    struct pop3_state *st = login_state(l);
    /* RFC 1939 §7: all that follows is the password, spaces included. */
    if (!st->user[0])
        wrong(l, "-ERR USER comes first");
    else
        login_password(l, slice_of(st->user), args, SLICE_LIT(""), "PASS", SLICE_LIT(""));
}

static void do_auth(struct login *l, struct slice args)
{
    if (!args.n) { /* the list some clients ask for (RFC 1734's predecessors) */
        reply(l, login_offers_auth(l) ? "+OK\r\nPLAIN\r\nLOGIN\r\n." : "+OK\r\n.");
        return;
    }
    struct slice mechanism = slice_cut(&args, ' ');
    login_sasl(l, mechanism, args, SLICE_LIT(""));
}

static void do_noop(struct login *l, struct slice args)
{
    (void)args;
    reply(l, "+OK");
}

static void do_quit(struct login *l, struct slice args)
{
    (void)args;
    reply(l, "+OK Good bye");
    login_finish(l, "quit");
}

static const struct {
    const char *name;
    login_command_fn *run;
    bool arguments;
} commands[] = {
    {"CAPA", do_capa, false},
    {"STLS", do_stls, false},
    {"USER", do_user, true},
    {"PASS", do_pass, true},
    {"AUTH", do_auth, true},
    {"NOOP", do_noop, false},
    {"QUIT", do_quit, false},
};

static void command(struct login *l, struct slice line)
{
    struct slice args = line;
    struct slice name = slice_cut(&args, ' ');
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (!slice_iis(name, commands[i].name))
            continue;
        if (!commands[i].arguments && args.n)
            wrong(l, "-ERR This command takes no arguments");
        else
            commands[i].run(l, args);
        return;
    }
    wrong(l, "-ERR Unknown command, or not before login");
}

const struct login_protocol pop3_login_protocol = {
    .service = "pop3",
    .command_max = COMMAND_MAX,
    .state_size = sizeof(struct pop3_state),
    .greet = greet,
    .command = command,
    .answer = answer,
};
