/*
 * BDAT (RFC 3030): content in chunks of announced length, without dots. Its lines are held to the
 * same rules as behind DATA; BINARYMIME is not offered. A chunk that is refused is read to its end
 * all the same, since the client has sent it with the command; then comes the reply.
 */
#include "smtpd/verbs.h"

/* "size [LAST]". ERR_SYNTAX: no size, so nothing follows; ERR_LIMIT: more follows than anybody
 * could read; ERR_UNSUPPORTED: the size is known, the word behind it is not. */
static int parse(struct slice args, uint64_t *size, bool *last)
{
    struct slice rest = args, number = slice_cut(&rest, ' ');
    bool digits = number.n > 0;
    for (size_t i = 0; i < number.n; i++)
        digits = digits && number.p[i] >= '0' && number.p[i] <= '9';
    rest = slice_trim(rest);
    *last = slice_iis(rest, "LAST");
    if (slice_u64(number, 0, INT64_MAX, size) != OK)
        return digits ? ERR_LIMIT : ERR_SYNTAX;
    return *last || rest.n == 0 ? OK : ERR_UNSUPPORTED;
}

/* What is wrong with taking a chunk now; code 0: nothing. */
static struct smtp_refusal judge(const struct session *s, const char **rule)
{
    const struct transaction *t = s->txn;
    *rule = "sequence";
    if (!t)
        return (struct smtp_refusal){503, "5.5.1", "Say MAIL first"};
    if (t->accepted > 0)
        return (struct smtp_refusal){0};
    *rule = "no-recipients";
    return (struct smtp_refusal){session_is_lmtp(s) ? 503 : 554, "5.5.1", "No valid recipients"};
}

/* All octets of the chunk are here, and no message is complete with them. */
static void chunk_over(struct session *s)
{
    const struct transaction *t = s->txn;
    struct smtp_refusal why = s->chunk_refusal;
    const char *rule = s->chunk_rule;
    s->state = SESSION_COMMAND;
    if (why.code == 0 && t->failure.code) {
        why = t->failure;
        rule = t->failure_rule;
    }
    if (why.code)
        session_refuse(s, "BDAT", why.code, why.dsn, rule, slice_of(why.text));
    else
        session_reply(s, 250, "2.0.0", "Ok: chunk received");
    if (s->chunk_last) /* what a client has sent behind it belongs to its next message */
        session_reset(s);
}

void chunk_arrived(struct session *s)
{
    struct buf *in = stream_in(s->stream);
    size_t room = (size_t)MIN(s->chunk_left, (uint64_t)TXN_LINE_MAX);
    struct slice piece = slice_first(buf_slice(in), room);
    s->chunk_left -= piece.n;
    bool complete = s->chunk_left == 0;
    if (s->chunk_refusal.code == 0)
        data_take(s, piece, complete && s->chunk_last);
    buf_consume(in, piece.n);
    if (!complete || s->state != SESSION_CHUNK)
        return;
    if (s->chunk_last && s->chunk_refusal.code == 0)
        commit_start(s);
    else
        chunk_over(s);
}

void chunk_resume(struct session *s)
{
    if (s->chunk_left == 0)
        chunk_over(s);
    session_resume(s, s->chunk_left ? SESSION_CHUNK : SESSION_COMMAND);
}

void cmd_bdat(struct session *s, struct slice args)
{
    static const struct smtp_refusal syntax = {501, "5.5.4", "Syntax: BDAT size [LAST]"};
    struct transaction *t = s->txn;
    int rc = parse(args, &s->chunk_left, &s->chunk_last);
    if (rc == ERR_SYNTAX) {
        session_refuse(s, "BDAT", syntax.code, syntax.dsn, "syntax", slice_of(syntax.text));
        return;
    }
    if (rc == ERR_LIMIT) { /* what follows must not be taken for commands */
        session_hang_up(s, "4.5.4", "syntax", "That chunk is too large");
        return;
    }
    s->chunk_refusal = judge(s, &s->chunk_rule);
    if (rc != OK) {
        s->chunk_refusal = syntax;
        s->chunk_rule = "syntax";
        if (t && t->failure.code == 0) { /* the message lacks it now */
            t->failure = syntax;
            t->failure_rule = "syntax";
        }
    }
    if (s->chunk_refusal.code == 0 && t->state < TXN_HEADER) {
        t->state = TXN_HEADER;
        smtp_data_init(&t->data, s->server->message_size, TXN_LINE_MAX);
        t->data.chunks = true;
    }
    s->state = SESSION_CHUNK;
    if (s->chunk_left == 0)
        chunk_arrived(s);
}
