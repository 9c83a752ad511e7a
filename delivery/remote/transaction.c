#include "delivery/remote/events.h"
#include "delivery/remote/session.h"
#include "libmail/orcpt.h"
#include "libmail/smtp_grammar.h"

enum { CHUNK = 32768 };

/* --- the end of a message ------------------------------------------------------------------ */

static enum deliver_status status_of(const struct session *s)
{
    return s->reply.code / 100 == 5 ? FAILED : DEFERRED;
}

static void log_refusal(struct session *s, size_t recipient, enum step step, const char *text)
{
    static const char *const verbs[STEP_COUNT] = {
        [STEP_MAIL] = "MAIL", [STEP_RCPT] = "RCPT", [STEP_DATA] = "DATA", [STEP_END] = "."};
    log_event(&s->job->log, dlv_refused, .to = s->job->recipients[recipient].to.address,
        .mx = slice_of(s->target.host), .ip = slice_of(s->target.ip),
        .verb = slice_of(verbs[step] ? verbs[step] : ""), .rule = SLICE_LIT("remote"),
        .reply = slice_of(text));
}

static void log_message(struct session *s)
{
    struct buf reply;
    buf_init(&reply, SMTP_REPLY_TEXT_MAX + 64);
    smtp_reply_print(&s->reply, &reply);
    log_event(&s->job->log, dlv_smtp, .mx = slice_of(s->target.host), .ip = slice_of(s->target.ip),
        .tls = stream_tls_version(s->stream), .nrcpt = (uint32_t)s->nrcpts,
        .accepted = (uint32_t)s->naccepted, .reused = s->reused,
        .reply = slice_first(buf_slice(&reply), 400));
    buf_clear(&reply);
}

/* The reply refuses this recipient for good or for now. */
static void refuse(struct session *s, size_t recipient, enum step step)
{
    char text[REASON_MAX];
    session_quote(s, step, text, sizeof(text));
    log_refusal(s, recipient, step, text);
    /* RFC 5321 §4.5.3.1.10: 552 to RCPT means too many recipients for now. */
    bool for_now = step == STEP_RCPT && s->reply.code == 552;
    const char *dsn = for_now ? "4.5.3" : session_dsn(s);
    if (s->reply.code < 400) /* a yes to another question than ours */
        dsn = "4.5.0";
    job_outcome(s->job, recipient, for_now ? DEFERRED : status_of(s), dsn, s->target.host, text);
}

/* We refuse it for the server: it has said that it would not take it. */
void transaction_refuse(
    struct session *s, size_t recipient, const char *dsn, const char *rule, const char *text)
{
    log_event(&s->job->log, dlv_refused, .to = s->job->recipients[recipient].to.address,
        .mx = slice_of(s->target.host), .ip = slice_of(s->target.ip), .rule = slice_of(rule),
        .reply = slice_of(text));
    job_outcome(s->job, recipient, FAILED, dsn, s->target.host, text);
}

static void refuse_accepted(struct session *s, enum step step)
{
    for (size_t i = s->finished; i < s->naccepted; i++)
        refuse(s, s->accepted[i], step);
}

/* Ends the transaction; without a message taken the server may still be in one. */
static void end(struct session *s, bool taken)
{
    log_message(s);
    if (!taken) {
        buf_puts(stream_out(s->stream), "RSET\r\n");
        session_expect(s, STEP_RSET);
        stream_flush(s->stream);
    }
    session_ready(s, true);
}

void transaction_lost(struct session *s, const char *why)
{
    if (!s->sent) {
        session_failed(s, "4.4.2", why);
        return;
    }
    char text[REASON_MAX];
    snprintf(text, sizeof(text), "%.400s (the message may have been taken)", why);
    for (size_t i = s->finished; i < s->naccepted; i++)
        job_outcome(s->job, s->accepted[i], DEFERRED, "4.4.2", s->target.host, text);
    log_message(s);
    struct job *job = s->job;
    session_abandon(s);
    job_finished(job);
}

/* The server answers before it has seen the end: it will not take the message. */
void transaction_early_reply(struct session *s)
{
    if (s->reply.code / 100 <= 3) {
        session_failed(s, "4.5.0", "the server answers before the end of the message");
        return;
    }
    refuse_accepted(s, STEP_DATA);
    log_message(s);
    struct job *job = s->job;
    session_abandon(s);
    job_finished(job);
}

/* --- commands ------------------------------------------------------------------------------ */

static void put_mail(struct session *s)
{
    const struct envelope *e = &s->job->envelope;
    struct buf *out = stream_out(s->stream);
    buf_printf(out, "MAIL FROM:<%.*s>", SLICE_FMT(e->sender));
    if (s->features & FEATURE_SIZE)
        buf_printf(out, " SIZE=%llu", (unsigned long long)s->job->size);
    if (e->body == BODY_8BITMIME && (s->features & FEATURE_8BITMIME))
        buf_puts(out, " BODY=8BITMIME");
    if (s->utf8)
        buf_puts(out, " SMTPUTF8");
    if (e->priority && (s->features & FEATURE_MT_PRIORITY))
        buf_printf(out, " MT-PRIORITY=%d", (int)e->priority);
    if ((s->features & FEATURE_DSN) && e->ret != RET_UNSET)
        buf_puts(out, e->ret == RET_FULL ? " RET=FULL" : " RET=HDRS");
    if ((s->features & FEATURE_DSN) && e->envid.n) {
        buf_puts(out, " ENVID=");
        xtext_encode(e->envid, out);
    }
    buf_puts(out, "\r\n");
    session_expect(s, STEP_MAIL);
}

static void put_notify(struct buf *out, uint32_t notify)
{
    static const struct {
        uint32_t bit;
        const char *word;
    } words[] = {{NOTIFY_NEVER, "NEVER"}, {NOTIFY_SUCCESS, "SUCCESS"}, {NOTIFY_FAILURE, "FAILURE"},
        {NOTIFY_DELAY, "DELAY"}};
    const char *separator = " NOTIFY=";
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (!(notify & words[i].bit))
            continue;
        buf_printf(out, "%s%s", separator, words[i].word);
        separator = ",";
        if (words[i].bit == NOTIFY_NEVER)
            return; /* stands alone, RFC 3461 §4.1 */
    }
}

static void put_rcpt(struct session *s, const struct recipient *to)
{
    struct buf *out = stream_out(s->stream);
    buf_printf(out, "RCPT TO:<%.*s>", SLICE_FMT(to->address));
    if (s->features & FEATURE_DSN) {
        put_notify(out, to->notify);
        struct slice address = to->orcpt, type = slice_cut(&address, ';');
        if (address.n) {
            buf_printf(out, " ORCPT=%.*s;", SLICE_FMT(type));
            if (slice_iis(type, "utf-8"))
                (void)orcpt_utf8_encode(address, s->utf8, out);
            else
                xtext_encode(address, out);
        }
    }
    buf_puts(out, "\r\n");
    session_expect(s, STEP_RCPT);
}

/* All that may be sent now: everything with PIPELINING, else one command. */
static void send_more(struct session *s)
{
    bool group = s->features & FEATURE_PIPELINING;
    while (s->next <= s->nrcpts + 1 && (group || !s->ndue)) {
        size_t command = s->next++;
        if (command == 0) {
            put_mail(s);
        } else if (command <= s->nrcpts) {
            put_rcpt(s, &s->job->recipients[s->rcpts[command - 1]].to);
        } else {
            buf_puts(stream_out(s->stream), "DATA\r\n");
            session_expect(s, STEP_DATA);
        }
    }
    stream_flush(s->stream);
}

static bool is_clean(struct slice s, bool *utf8)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        *utf8 |= c > 127;
        if (c < 32 || c == 127)
            return false;
    }
    return true;
}

/* Chooses the recipients to offer; false when there is none left. Without SMTPUTF8 at the server,
 * what is ASCII after all still goes (RFC 6531 §3.2). */
static bool choose_recipients(struct session *s)
{
    struct job *job = s->job;
    bool utf8 = job->envelope.utf8_header, offered = s->features & FEATURE_SMTPUTF8;
    s->utf8 = offered && job->envelope.smtputf8;
    bool sender_clean = is_clean(job->envelope.sender, &utf8);
    for (size_t i = 0; i < job->count; i++) {
        bool needs_utf8 = utf8;
        if (job->recipients[i].done)
            continue;
        if (!sender_clean || !is_clean(job->recipients[i].to.address, &needs_utf8))
            transaction_refuse(s, i, "5.1.3", "address", "an address holds control characters");
        else if (needs_utf8 && !offered)
            transaction_refuse(s, i, "5.6.7", "smtputf8",
                job->envelope.utf8_header
                    ? "the server does not take headers with other than ASCII characters"
                    : "the server does not take addresses with other than ASCII characters");
        else
            s->rcpts[s->nrcpts++] = i;
        s->utf8 |= offered && needs_utf8;
    }
    return s->nrcpts > 0;
}

void transaction_start(struct session *s)
{
    char text[REASON_MAX];
    s->next = s->nrcpts = s->replied = s->naccepted = s->finished = 0;
    s->mail_refused = s->sending = s->sent = false;
    s->offset = 0;
    if (!choose_recipients(s)) {
        session_ready(s, true);
    } else if (s->max_size && s->job->size > s->max_size) {
        snprintf(text, sizeof(text), "the message has %llu octets, %s[%s] takes at most %llu",
            (unsigned long long)s->job->size, s->target.host, s->target.ip,
            (unsigned long long)s->max_size);
        for (size_t i = 0; i < s->nrcpts; i++)
            transaction_refuse(s, s->rcpts[i], "5.3.4", "size", text);
        session_ready(s, true);
    } else {
        send_more(s);
    }
}

/* --- replies ------------------------------------------------------------------------------- */

void transaction_mail_reply(struct session *s)
{
    if (s->reply.code / 100 == 2) {
        send_more(s);
        return;
    }
    s->mail_refused = true;
    for (size_t i = 0; i < s->nrcpts; i++)
        refuse(s, s->rcpts[i], STEP_MAIL);
    if (!s->ndue)
        end(s, false);
}

void transaction_rcpt_reply(struct session *s)
{
    size_t recipient = s->rcpts[s->replied++];
    if (s->mail_refused) {
        if (!s->ndue)
            end(s, false);
        return;
    }
    if (s->reply.code / 100 == 2)
        s->accepted[s->naccepted++] = recipient;
    else
        refuse(s, recipient, STEP_RCPT);
    if (s->replied == s->nrcpts && !s->naccepted && !s->ndue)
        end(s, false); /* not even DATA */
    else
        send_more(s);
}

static void pump(struct session *s)
{
    char chunk[CHUNK];
    struct buf *out = stream_out(s->stream);
    ssize_t n = job_body(s->job, s->offset, chunk, sizeof(chunk));
    if (n < 0 || (n == 0 && s->offset < s->job->size)) {
        /* Without the final dot the server takes nothing. */
        for (size_t i = 0; i < s->naccepted; i++)
            job_outcome(s->job, s->accepted[i], DEFERRED, "4.3.0", s->target.host,
                "the message cannot be read from the spool");
        struct job *job = s->job;
        session_abandon(s);
        job_finished(job);
        return;
    }
    s->offset += (uint64_t)n;
    /* Past its limit the stream fails at the flush. */
    (void)!smtp_stuff_feed(&s->stuff, slice_from(chunk, (size_t)n), out);
    if (s->offset >= s->job->size) {
        (void)!smtp_stuff_end(&s->stuff, out);
        s->sending = false;
        s->sent = true;
        for (size_t i = 0; i < (s->lmtp ? s->naccepted : 1); i++)
            session_expect(s, STEP_END);
    }
    stream_flush(s->stream);
}

void transaction_drained(struct session *s)
{
    if (s->sending)
        pump(s);
}

void transaction_data_reply(struct session *s)
{
    bool wanted = !s->mail_refused && s->naccepted;
    if (s->reply.code != 354) {
        if (wanted)
            refuse_accepted(s, STEP_DATA);
        end(s, false);
    } else if (wanted) {
        s->sending = true;
        smtp_stuff_init(&s->stuff);
        pump(s);
    } else if (s->lmtp) {
        log_message(s); /* RFC 2033 §4.2 forbids this 354, and no reply would follow the dot */
        session_ready(s, false);
    } else {
        buf_puts(stream_out(s->stream), ".\r\n"); /* RFC 2920 §3.1 */
        session_expect(s, STEP_END);
        stream_flush(s->stream);
    }
}

static void delivered(struct session *s, size_t recipient)
{
    char text[REASON_MAX];
    session_quote(s, STEP_END, text, sizeof(text));
    /* RFC 3461 §5.2.2: who wanted to hear of success hears that the trail ends here. */
    bool untold =
        (s->job->recipients[recipient].to.notify & NOTIFY_SUCCESS) && !(s->features & FEATURE_DSN);
    job_outcome(s->job, recipient, untold ? RELAYED_NO_DSN : DELIVERED, session_dsn(s),
        s->target.host, text);
}

void transaction_end_reply(struct session *s)
{
    bool taken = s->reply.code / 100 == 2;
    size_t upto = s->lmtp ? s->finished + 1 : s->naccepted;
    for (size_t i = s->finished; i < upto; i++)
        if (taken)
            delivered(s, s->accepted[i]);
        else
            refuse(s, s->accepted[i], STEP_END);
    s->finished = upto;
    if (!s->ndue)
        end(s, taken || s->lmtp);
}
