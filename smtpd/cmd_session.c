/* Commands about the session: greetings, TLS, and those that change nothing. */
#include "libmail/date.h"
#include "smtpd/events.h"
#include "smtpd/verbs.h"

enum { HELO_MAX = 255 };

/* RFC 5321 §4.1.4: a wrong name is no reason to refuse mail, so only nonsense is. */
static bool good_helo(struct slice name)
{
    if (name.n == 0 || name.n > HELO_MAX)
        return false;
    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] <= 32 || name.p[i] == 127)
            return false;
    return true;
}

static bool hello(struct session *s, const char *verb, struct slice name)
{
    if (!good_helo(name)) {
        session_refuse(s, verb, 501, "5.5.4", "syntax", SLICE_LIT("Your host name is needed"));
        return false;
    }
    session_forget_hello(s);
    s->helo = xmemdup0(name.p, name.n);
    return true;
}

void cmd_helo(struct session *s, struct slice args)
{
    if (hello(s, "HELO", args))
        session_reply(s, 250, NULL, "%.*s", SLICE_FMT(s->server->hostname));
}

/* RFC 4865 §3: the longest wait in seconds, and what time it is then. */
static void put_future_release(const struct session *s, struct buf *out)
{
    int64_t longest = session_future_release(s);
    char then[DATE_TEXT];
    if (longest == 0)
        return;
    date_print_rfc3339((time_t)((loop_wall(s->server->daemon->loop) + longest) / 1000), then);
    (void)buf_printf(out, "250-FUTURERELEASE %lld %s\r\n", (long long)(longest / 1000), then);
}

void cmd_ehlo(struct session *s, struct slice args)
{
    if (!hello(s, session_is_lmtp(s) ? "LHLO" : "EHLO", args))
        return;
    struct buf *out = stream_out(s->stream);
    s->esmtp = true;
    (void)buf_printf(out,
        "250-%.*s\r\n250-PIPELINING\r\n250-SIZE %llu\r\n250-8BITMIME\r\n"
        "250-ENHANCEDSTATUSCODES\r\n250-DSN\r\n250-CHUNKING\r\n250-SMTPUTF8\r\n250-MT-PRIORITY\r\n",
        SLICE_FMT(s->server->hostname), (unsigned long long)s->server->message_size);
    put_future_release(s, out);
    if (session_may_etrn(s))
        (void)buf_puts(out, "250-ETRN\r\n");
    if (session_offers_tls(s))
        (void)buf_puts(out, "250-STARTTLS\r\n");
    if (session_may_auth(s))
        (void)buf_puts(out, "250-AUTH PLAIN LOGIN\r\n");
    session_reply(s, 250, NULL, "HELP");
}

void cmd_starttls(struct session *s, struct slice args)
{
    (void)args;
    if (stream_is_tls(s->stream)) {
        session_refuse(s, "STARTTLS", 503, "5.5.1", "sequence", SLICE_LIT("TLS is active already"));
        return;
    }
    if (!session_offers_tls(s)) {
        session_refuse(s, "STARTTLS", 502, "5.5.1", "no-tls", SLICE_LIT("TLS is not available"));
        return;
    }
    /* What lies behind the command was not protected: the stream drops it (RFC 3207 §6). */
    if (buf_len(stream_in(s->stream)))
        log_event(&s->log, smtp_reject, .client = slice_of(s->client),
            .verb = SLICE_LIT("STARTTLS"), .rule = SLICE_LIT("starttls-injection"),
            .text = SLICE_LIT("commands sent before the handshake were discarded"));
    session_reply(s, 220, "2.0.0", "Ready to start TLS");
    session_forget_hello(s);
    free(s->login);
    s->login = NULL;
    s->state = SESSION_TLS;
    stream_start_tls(s->stream, s->server->tls, NULL);
}

void cmd_rset(struct session *s, struct slice args)
{
    (void)args;
    session_reset(s);
    session_reply(s, 250, "2.0.0", "Ok");
}

void cmd_noop(struct session *s, struct slice args)
{
    (void)args;
    session_reply(s, 250, "2.0.0", "Ok");
}

void cmd_vrfy(struct session *s, struct slice args)
{
    /* RFC 6531 §3.7.4.2: the parameter comes last. */
    ptrdiff_t space = slice_rchr(args, ' ');
    bool utf8 =
        s->esmtp && space > 0 && slice_iis(slice_from_index(args, (size_t)space + 1), "SMTPUTF8");
    if (args.n == 0)
        session_refuse(s, "VRFY", 501, "5.5.4", "syntax", SLICE_LIT("Syntax: VRFY address"));
    else if (!slice_is_ascii(args) && !utf8)
        session_refuse(s, "VRFY", 553, "5.6.7", "smtputf8", SLICE_LIT("Address needs SMTPUTF8"));
    else
        session_reply(s, 252, "2.5.0", "Try to send something; recipients are checked then");
}

void cmd_expn(struct session *s, struct slice args)
{
    (void)args;
    session_refuse(s, "EXPN", 502, "5.7.0", "expn", SLICE_LIT("Lists are not shown"));
}

void cmd_help(struct session *s, struct slice args)
{
    (void)args;
    struct buf *out = stream_out(s->stream);
    (void)buf_puts(out, "214 2.0.0 Commands:");
    verbs_list(s, out);
    (void)buf_puts(out, "\r\n");
}

void cmd_quit(struct session *s, struct slice args)
{
    (void)args;
    session_quit(s);
}
