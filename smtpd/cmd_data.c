/* DATA and the content behind it. The header is kept in memory until it is complete, small
 * messages to their end; the body of a bigger one goes to a file that qmgr lends. */
#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "smtpd/content.h"
#include "smtpd/verbs.h"

enum { FILE_CHUNK = 65536, FIELDS_ROOM = 1024 /* most of what is put in front */ };

void cmd_data(struct session *s, struct slice args)
{
    struct transaction *t = s->txn;
    (void)args;
    if (!t) {
        session_refuse(s, "DATA", 503, "5.5.1", "sequence", SLICE_LIT("Say MAIL first"));
        return;
    }
    if (t->state >= TXN_HEADER) { /* RFC 3030 §3: not after BDAT */
        session_refuse(s, "DATA", 503, "5.5.1", "sequence", SLICE_LIT("Content came by BDAT"));
        return;
    }
    if (t->accepted == 0) {
        /* RFC 2033 §4.2 has 503 for LMTP, RFC 5321 §3.3 either. */
        bool lmtp = session_is_lmtp(s);
        session_refuse(s, "DATA", lmtp ? 503 : 554, "5.5.1", "no-recipients",
            SLICE_LIT("No valid recipients"));
        return;
    }
    t->state = TXN_HEADER;
    smtp_data_init(&t->data, s->server->message_size, TXN_LINE_MAX);
    s->state = SESSION_DATA;
    session_reply(s, 354, NULL, "End data with <CR><LF>.<CR><LF>");
}

/* --- where content goes ---------------------------------------------------------------------- */

static void fail_errno(struct transaction *t)
{
    if (errno == ENOSPC || errno == EDQUOT)
        transaction_fail(t, 452, "4.3.1", "Insufficient system storage", "disk-full");
    else
        transaction_fail(t, 451, "4.3.0", "Local error, try again later", "spool-write");
}

/* Writes what is in memory to the lent file. */
static void write_out(struct transaction *t)
{
    struct slice rest = buf_slice(&t->content);
    while (rest.n) {
        ssize_t n = write(t->fd, rest.p, rest.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            fail_errno(t);
            return;
        }
        rest = slice_from_index(rest, (size_t)n);
    }
    buf_reset(&t->content);
}

static void describe(struct session *s, struct content_job *job, char qid[ID_TEXT])
{
    struct transaction *t = s->txn;
    struct slice version = stream_tls_version(s->stream), cipher = stream_tls_cipher(s->stream);
    enum smtp_protocol protocol = s->service->protocol;
    id_print(t->qid, qid);
    *job = (struct content_job){.hostname = s->server->hostname,
        .sender = t->sender,
        .complete = protocol == PROTOCOL_SUBMISSION || protocol == PROTOCOL_SUBMIT};
    job->received = (struct received){.helo = slice_of(s->helo),
        .client_name = slice_of(s->client_name ? s->client_name
                                : s->loopback  ? "localhost"
                                               : NULL),
        .client = slice_of(s->client),
        .by = s->server->hostname,
        .with = received_with(
            session_is_lmtp(s), s->esmtp, version.n > 0, s->login != NULL, t->mail.smtputf8),
        .tls = version.n
                   ? arena_printf(&t->arena, "%.*s %.*s", SLICE_FMT(version), SLICE_FMT(cipher))
                   : version,
        .qid = slice_of(qid),
        .recipient = t->accepted == 1 ? t->only_rcpt : slice_of(NULL),
        .priority = (int)t->priority,
        .uid = s->uid,
        .when = (time_t)(loop_wall(s->server->daemon->loop) / 1000)};
}

/* The header is complete, or the message at its end: puts our fields in front. */
static void begin_body(struct session *s, size_t header)
{
    struct transaction *t = s->txn;
    struct content_job job;
    struct smtp_refusal why;
    struct slice all = buf_slice(&t->content);
    struct content_facts facts;
    struct buf stored;
    char qid[ID_TEXT];
    t->state = TXN_BODY;
    describe(s, &job, qid);
    buf_init(&stored, t->content.max + 8192);
    (void)buf_reserve(&stored, all.n + FIELDS_ROOM);
    int rc = content_begin(&job, slice_first(all, header), &stored, &facts, &why);
    if (rc == OK) {
        t->message_id =
            arena_dup(&t->arena, slice_first(facts.message_id, 255)); /* before stored grows */
        t->bulk = facts.bulk;
        t->utf8_header = facts.utf8;
        rc = buf_put(&stored, slice_from_index(all, header));
    }
    if (rc == ERR_DENIED) {
        transaction_fail(t, why.code, why.dsn, why.text, "hops");
    } else if (rc) {
        transaction_fail(t, 552, "5.3.4", "Message header is too big", "header-size");
    } else {
        buf_clear(&t->content);
        t->content = stored;
        t->size = buf_len(&stored);
        return;
    }
    buf_clear(&stored);
}

static void on_file(struct ipc_in *in, void *arg)
{
    struct session *s = arg;
    const struct inject_file *f = in ? in->msg : NULL;
    if (!session_answered(s))
        return;
    struct transaction *t = s->txn;
    if (f && f->code == 250 && in->fd >= 0) {
        t->fd = in->fd;
        in->fd = -1;
        write_out(t);
    } else if (f && f->code == 452) {
        transaction_fail(t, 452, "4.3.1", "Insufficient system storage", "disk-full");
    } else {
        transaction_fail(t, 451, "4.3.0", "Queue is not available, try again later", "queue-away");
    }
    if (!smtp_data_done(&t->data)) {
        if (t->data.chunks)
            chunk_resume(s);
        else
            session_resume(s, SESSION_DATA);
        return;
    }
    commit_start(s);
    if (s->state == SESSION_COMMAND)
        session_resume(s, SESSION_COMMAND);
}

/* Asks qmgr for a file; content waits meanwhile. */
static void open_file(struct session *s)
{
    struct transaction *t = s->txn;
    struct inject_open open = {.txn = t->qid};
    t->opened = t->mentioned = true;
    t->qmgr_epoch = s->server->qmgr_epoch;
    session_wait(s);
    daemon_call(
        s->server->daemon, CONV_INJECT, -1, inject_open_type, t->qid, &open, -1, on_file, s);
}

/* Moves on after new content. */
static void settle(struct session *s, size_t added)
{
    struct transaction *t = s->txn;
    if (t->failure.code || t->data.fault)
        return;
    t->size += added;
    if (t->state == TXN_HEADER) {
        struct slice all = buf_slice(&t->content);
        size_t header = content_header_end(all, &t->scanned);
        if (header || smtp_data_done(&t->data))
            begin_body(s, header ? header : all.n);
        else if (all.n > TXN_HEADER_MAX)
            transaction_fail(t, 552, "5.3.4", "Message header is too big", "header-size");
    }
    if (t->failure.code || t->state != TXN_BODY)
        return;
    if (t->fd < 0 && buf_len(&t->content) > INJECT_INLINE_BODY)
        open_file(s);
    else if (t->fd >= 0 && (buf_len(&t->content) >= FILE_CHUNK || smtp_data_done(&t->data)))
        write_out(t);
}

/* What the reader found wrong, for the whole message. */
static void judge(struct transaction *t)
{
    static const struct {
        struct smtp_refusal why;
        const char *rule;
    } faults[] = {
        [SMTP_DATA_BARE_LF] = {{550, "5.6.0", "Bare LF in the message; lines must end in CRLF"},
            "bare-lf"},
        [SMTP_DATA_BARE_CR] = {{550, "5.6.0", "Bare CR in the message; lines must end in CRLF"},
            "bare-cr"},
        [SMTP_DATA_NUL] = {{550, "5.6.0", "NUL in the message"}, "nul"},
        [SMTP_DATA_LONG_LINE] = {{550, "5.6.0", "A line of the message is too long"}, "long-line"},
        [SMTP_DATA_TOO_BIG] = {{552, "5.3.4", "Message size exceeds the limit"}, "message-size"},
    };
    if (t->data.fault)
        transaction_fail(t, faults[t->data.fault].why.code, faults[t->data.fault].why.dsn,
            faults[t->data.fault].why.text, faults[t->data.fault].rule);
}

/* Takes content; returns how much of it was consumed. */
static size_t take(struct session *s, struct slice content, bool end)
{
    struct transaction *t = s->txn;
    struct buf nowhere, *out = &t->content;
    size_t before = buf_len(out);
    buf_init(&nowhere, 0);
    if (t->failure.code)
        out = &nowhere; /* it is only read to its end */
    else if (content.n + 4 <= out->max - before)
        (void)buf_reserve(out, content.n + 4); /* not by and by, line after line */
    size_t used = smtp_data_feed(&t->data, content, out);
    if (end)
        smtp_data_end(&t->data, out);
    judge(t);
    if (!t->failure.code && out->failed)
        transaction_fail(t, 552, "5.3.4", "Message header is too big", "header-size");
    if (!t->failure.code)
        settle(s, buf_len(out) - before);
    return used;
}

void data_take(struct session *s, struct slice content, bool end)
{
    (void)take(s, content, end);
}

void data_arrived(struct session *s)
{
    struct transaction *t = s->txn;
    struct buf *in = stream_in(s->stream);
    size_t used = take(s, slice_first(buf_slice(in), TXN_LINE_MAX), false);
    buf_consume(in, used);
    if (smtp_data_done(&t->data) && s->state == SESSION_DATA)
        commit_start(s);
}
