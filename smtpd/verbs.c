#include "smtpd/verbs.h"

enum {
    SMTP = 1 << 0,
    LMTP = 1 << 1,
    NO_ARGS = 1 << 2,
    HELLO = 1 << 3, /* needs EHLO before */
    CLEAR = 1 << 4, /* allowed without TLS where TLS is required */
    OPEN = 1 << 5   /* allowed without login where login is required */
};

struct verb {
    const char *name;
    unsigned flags;
    void (*run)(struct session *, struct slice args);
};

static const struct verb verbs[] = {
    {"EHLO", SMTP | CLEAR | OPEN, cmd_ehlo},
    {"HELO", SMTP | CLEAR | OPEN, cmd_helo},
    {"LHLO", LMTP | CLEAR | OPEN, cmd_ehlo},
    {"STARTTLS", SMTP | LMTP | NO_ARGS | HELLO | CLEAR | OPEN, cmd_starttls},
    {"AUTH", SMTP | LMTP | HELLO | OPEN, cmd_auth},
    {"MAIL", SMTP | LMTP | HELLO, cmd_mail},
    {"RCPT", SMTP | LMTP | HELLO, cmd_rcpt},
    {"DATA", SMTP | LMTP | HELLO | NO_ARGS, cmd_data},
    {"BDAT", SMTP | LMTP | HELLO, cmd_bdat},
    {"RSET", SMTP | LMTP | NO_ARGS | CLEAR | OPEN, cmd_rset},
    {"NOOP", SMTP | LMTP | CLEAR | OPEN, cmd_noop},
    {"VRFY", SMTP | LMTP, cmd_vrfy},
    {"EXPN", SMTP | LMTP, cmd_expn},
    {"ETRN", SMTP | HELLO, cmd_etrn},
    {"HELP", SMTP | LMTP | CLEAR | OPEN, cmd_help},
    {"QUIT", SMTP | LMTP | NO_ARGS | CLEAR | OPEN, cmd_quit},
    {NULL, 0, NULL},
};

static unsigned protocol_of(const struct session *s)
{
    return session_is_lmtp(s) ? LMTP : SMTP;
}

static const struct verb *find_verb(const struct session *s, struct slice name)
{
    for (const struct verb *v = verbs; v->name; v++)
        if ((v->flags & protocol_of(s)) && slice_iis(name, v->name))
            return v;
    return NULL;
}

/* HTTP and the like, spoken at us by a browser made to do so. */
static bool is_other_protocol(struct slice line)
{
    static const char *const words[] = {
        "GET ", "POST ", "PUT ", "HEAD ", "OPTIONS ", "CONNECT ", "DELETE ", "PATCH ", "Host:"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (slice_istarts(line, words[i]))
            return true;
    return false;
}

/* False when the command may not be given now; then it has been answered. */
static bool permitted(struct session *s, const struct verb *v, struct slice args)
{
    const struct service *service = s->service;
    if ((v->flags & NO_ARGS) && args.n)
        session_refuse(
            s, v->name, 501, "5.5.4", "syntax", SLICE_LIT("This command takes no argument"));
    else if (!(v->flags & CLEAR) && service->tls == DEMAND_REQUIRED && !stream_is_tls(s->stream))
        session_refuse(s, v->name, 530, "5.7.0", "tls-required",
            SLICE_LIT("Must issue a STARTTLS command first"));
    else if ((v->flags & HELLO) && !s->helo)
        session_refuse(s, v->name, 503, "5.5.1", "sequence",
            session_is_lmtp(s) ? SLICE_LIT("Say LHLO first") : SLICE_LIT("Say EHLO first"));
    else if (!(v->flags & OPEN) && service->auth == DEMAND_REQUIRED && !s->login)
        session_refuse(
            s, v->name, 530, "5.7.0", "auth-required", SLICE_LIT("Authentication required"));
    else
        return true;
    return false;
}

void verbs_run(struct session *s, struct slice line)
{
    struct smtp_command c = smtp_command_split(line);
    const struct verb *v = find_verb(s, c.verb);
    if (!v && is_other_protocol(line))
        session_hang_up(s, "4.7.0", "other-protocol", "This is SMTP");
    else if (!v)
        session_refuse(s, "", 500, "5.5.2", "unknown-command", SLICE_LIT("Command unknown"));
    else if (permitted(s, v, c.args))
        v->run(s, c.args);
}

void verbs_list(const struct session *s, struct buf *out)
{
    for (const struct verb *v = verbs; v->name; v++)
        if (v->flags & protocol_of(s))
            (void)buf_printf(out, " %s", v->name);
}
