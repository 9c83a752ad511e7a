/* MAIL and RCPT: the envelope. Where a recipient goes is lookupd's answer, asked for one RCPT at
 * a time so that replies keep their order. */
#include "libmail/idn.h"
#include "libmail/proto/route.h"
#include "smtpd/own_address.h"
#include "smtpd/verbs.h"

static unsigned offered_extensions(const struct session *s)
{
    unsigned auth = s->service->auth != DEMAND_NONE ? SMTP_EXT_AUTH : 0;
    unsigned future = session_future_release(s) ? SMTP_EXT_FUTURERELEASE : 0;
    return s->esmtp ? SMTP_EXT_SIZE | SMTP_EXT_8BITMIME | SMTP_EXT_DSN | SMTP_EXT_SMTPUTF8 |
                          SMTP_EXT_MT_PRIORITY | auth | future
                    : 0;
}

static bool may_lack_domain(const struct session *s, const struct address *a)
{
    return s->service->protocol == PROTOCOL_SUBMIT ||
           slice_iis(address_local(a), "postmaster"); /* RFC 5321 §4.5.1 */
}

static struct slice completed(struct session *s, struct slice local)
{
    return arena_printf(
        &s->txn->arena, "%.*s@%.*s", SLICE_FMT(local), SLICE_FMT(s->server->hostname));
}

/* The address as text in the arena, completed with our host name where it has no domain. p is
 * NULL when the arena is full. */
static struct slice qualified(struct session *s, const struct address *a)
{
    if (a->len == 0)
        return slice_of("");
    if (address_domain(a).n)
        return arena_dup(&s->txn->arena, address_text(a));
    return completed(s, address_text(a));
}

static void refuse_why(
    struct session *s, const char *verb, const struct smtp_refusal *why, const char *rule)
{
    session_refuse(s, verb, why->code, why->dsn, rule, slice_of(why->text));
}

static void out_of_room(struct session *s, const char *verb)
{
    session_refuse(s, verb, 452, "4.3.1", "transaction-memory",
        SLICE_LIT("This transaction has become too big"));
}

/* RFC 6710 §5.1: only who may relay gets ahead of others; anybody may stand back. */
static void judge_priority(const struct session *s, struct transaction *t)
{
    bool may_raise = session_may_relay(s);
    t->priority = t->mail.priority > 0 && !may_raise ? 0 : t->mail.priority;
}

/* When the message may be delivered (RFC 4865). False: too far in the future. */
static bool judge_release(const struct session *s, struct transaction *t)
{
    int64_t now = loop_wall(s->server->daemon->loop);
    int64_t until = t->mail.hold_for ? now + t->mail.hold_for : t->mail.hold_until;
    t->hold_until = until > now ? until : 0;
    return t->hold_until <= now + session_future_release(s);
}

/* False when the sender is refused; then it has been answered. */
static bool take_sender(struct session *s, struct slice args)
{
    struct transaction *t = s->txn;
    struct smtp_refusal why;
    if (smtp_parse_mail(args, offered_extensions(s), &t->arena, &t->mail, &why)) {
        refuse_why(s, "MAIL", &why, "syntax");
        return false;
    }
    const struct address *a = &t->mail.sender;
    if (a->len && address_domain(a).n == 0 && s->service->protocol != PROTOCOL_SUBMIT) {
        session_refuse(
            s, "MAIL", 501, "5.1.7", "sender-domain", SLICE_LIT("Sender address needs a domain"));
        return false;
    }
    if (t->mail.size > s->server->message_size) {
        session_refuse(
            s, "MAIL", 552, "5.3.4", "message-size", SLICE_LIT("Message size exceeds the limit"));
        return false;
    }
    if (!judge_release(s, t)) {
        session_refuse(s, "MAIL", 501, "5.5.4", "future-release",
            SLICE_LIT("The time of release is too far in the future"));
        return false;
    }
    if (idn_address(&t->mail.sender)) {
        session_refuse(
            s, "MAIL", 501, "5.1.7", "sender-domain", SLICE_LIT("That domain cannot exist"));
        return false;
    }
    judge_priority(s, t);
    t->sender = qualified(s, a);
    if (!t->sender.p)
        out_of_room(s, "MAIL");
    return t->sender.p != NULL;
}

void cmd_mail(struct session *s, struct slice args)
{
    if (s->txn) {
        session_refuse(
            s, "MAIL", 503, "5.5.1", "sequence", SLICE_LIT("A transaction is under way already"));
        return;
    }
    s->txn = transaction_new(&s->log, s->server->recipients_size);
    if (!take_sender(s, args))
        session_reset(s);
    else if (s->txn->priority != s->txn->mail.priority) /* RFC 6710 §4.1 */
        session_reply(s, 250, "2.3.6", "%d is the new priority assigned to the message",
            (int)s->txn->priority);
    else
        session_reply(s, 250, "2.1.0", "Ok");
}

/* Answers RCPT. */
static void take_verdict(struct session *s, const struct route_verdict *v)
{
    struct transaction *t = s->txn;
    char dsn[16];
    int rc = ERR_TEMP;
    if (v && v->code == 250)
        rc = transaction_add_recipients(t, v->recipients);
    if (rc == OK && v->hold.n && t->hold.n == 0)
        t->hold = arena_dup(&t->arena, v->hold);
    if (rc == OK) {
        if (t->accepted == 1)
            t->only_rcpt = t->rcpt_text;
        session_reply(s, 250, "2.1.5", "Ok");
    } else if (rc == ERR_LIMIT) {
        session_refuse(
            s, "RCPT", 452, "4.5.3", "recipients-memory", SLICE_LIT("Too many recipients"));
    } else if (v && v->code >= 400 && v->code <= 599 && slice_to_cstr(v->dsn, dsn, sizeof(dsn))) {
        char rule[64];
        if (!slice_to_cstr(slice_first(v->rule, sizeof(rule) - 1), rule, sizeof(rule)))
            rule[0] = '\0';
        session_refuse(s, "RCPT", v->code, dsn, rule, v->text);
    } else {
        session_refuse(s, "RCPT", 451, "4.3.0", "lookup-away",
            SLICE_LIT("Temporary lookup failure, try again later"));
    }
}

static void on_route(struct ipc_in *in, void *arg)
{
    struct session *s = arg;
    const struct route_verdict *v = in ? in->msg : NULL;
    if (!session_answered(s))
        return;
    if (v)
        verdicts_keep(&s->server->verdicts, s->txn->rcpt_text, session_may_relay(s), v);
    take_verdict(s, v);
    session_resume(s, SESSION_COMMAND);
}

/* False when the recipient is refused; then it has been answered. */
static bool take_recipient(struct session *s, struct slice args)
{
    struct transaction *t = s->txn;
    struct smtp_refusal why;
    t->rcpt_text = slice_of("");
    if (smtp_parse_rcpt(args, offered_extensions(s), t->mail.smtputf8, &t->arena, &t->rcpt, &why)) {
        refuse_why(s, "RCPT", &why, "syntax");
        return false;
    }
    const struct address *a = &t->rcpt.recipient;
    if (address_domain(a).n == 0 && !may_lack_domain(s, a)) {
        session_refuse(s, "RCPT", 501, "5.1.3", "recipient-domain",
            SLICE_LIT("Recipient address needs a domain"));
        return false;
    }
    t->rcpt_text = own_address(s, a) ? completed(s, address_local(a)) : qualified(s, a);
    if (!t->rcpt_text.p || t->rcpt_text.n > ENVELOPE_ADDRESS_MAX) {
        t->rcpt_text = slice_of("");
        out_of_room(s, "RCPT");
        return false;
    }
    return true;
}

void cmd_rcpt(struct session *s, struct slice args)
{
    struct transaction *t = s->txn;
    if (!t) {
        session_refuse(s, "RCPT", 503, "5.5.1", "sequence", SLICE_LIT("Say MAIL first"));
        return;
    }
    if (t->state >= TXN_HEADER) { /* between two chunks */
        t->rcpt_text = slice_of("");
        session_refuse(s, "RCPT", 503, "5.5.1", "sequence", SLICE_LIT("Content has begun"));
        return;
    }
    if (t->accepted >= s->service->max_recipients) {
        t->rcpt_text = slice_of("");
        session_refuse(s, "RCPT", 452, "4.5.3", "max-recipients", SLICE_LIT("Too many recipients"));
        return;
    }
    if (!take_recipient(s, args))
        return;
    struct route_check check = {.address = t->rcpt_text,
        .sender = t->sender,
        .login = session_login(s),
        .client = slice_of(s->client),
        .may_relay = session_may_relay(s),
        .size = t->mail.size};
    struct route_verdict kept = {
        .code = 250, .recipients = verdicts_find(&s->server->verdicts, &check)};
    if (kept.recipients.p) {
        take_verdict(s, &kept);
        return;
    }
    session_wait(s);
    daemon_call(
        s->server->daemon, CONV_ROUTE, -1, route_check_type, t->qid, &check, -1, on_route, s);
}
