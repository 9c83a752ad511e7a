/* queue show: one message, with envelope, recipients and history, or its text. */
#include <inttypes.h>
#include <unistd.h>

#include "ctl/json.h"
#include "ctl/queue.h"
#include "libutil/log.h"

enum { SHOWN_MAX = 1024 * 1024 * 1024 };

struct shown {
    struct json *json; /* NULL: text */
    uint64_t qid;
    bool begun;
};

/* What the sender asked for beside the delivery. */
static void show_wishes(const struct shown *sh, const struct envelope *e)
{
    static const char *const rets[] = {"", "full", "hdrs"};
    char until[32];
    queue_print_time(e->hold_until, "%Y-%m-%d %H:%M:%S", until);
    const char *ret = e->ret < ARRAY_LEN(rets) ? rets[e->ret] : "";
    if (sh->json) {
        json_str(sh->json, "envid", e->envid);
        json_str(sh->json, "ret", slice_of(ret));
        json_bool(sh->json, "smtputf8", e->smtputf8);
        json_bool(sh->json, "bulk", e->bulk);
        json_int(sh->json, "priority", e->priority);
        json_int(sh->json, "hold_until", e->hold_until);
        json_str(sh->json, "hold_rule", e->hold);
        return;
    }
    printf("priority    %d%s%s\n", (int)e->priority, e->bulk ? " bulk" : "",
        e->smtputf8 ? " smtputf8" : "");
    if (e->hold_until)
        printf("not before  %s\n", until);
    if (e->hold.n) {
        printf("held by     ");
        queue_print_clean(e->hold);
        printf("\n");
    }
    if (e->envid.n || *ret) {
        printf("report      ret=%s envid=", ret);
        queue_print_clean(e->envid);
        printf("\n");
    }
}

static void put_notify(struct json *j, uint32_t notify)
{
    static const char *const words[] = {"never", "success", "failure", "delay"};
    char text[40] = "";
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (notify & (1u << i))
            n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s", n ? "," : "", words[i]);
    json_str(j, "notify", slice_of(text));
}

static void show_envelope(
    const struct shown *sh, const struct queue_details *d, const struct envelope *e)
{
    char id[ID_TEXT], when[32];
    id_print(sh->qid, id);
    queue_print_time(e->received, "%Y-%m-%d %H:%M:%S", when);
    if (sh->json) {
        json_str(sh->json, "qid", slice_of(id));
        json_str(sh->json, "state", d->state);
        json_int(sh->json, "size", (int64_t)d->size);
        json_str(sh->json, "sender", e->sender);
        json_int(sh->json, "received", e->received);
        json_str(sh->json, "client", e->client);
        json_str(sh->json, "client_name", e->client_name);
        json_str(sh->json, "helo", e->helo);
        json_str(sh->json, "login", e->login);
        json_str(sh->json, "message_id", e->message_id);
        show_wishes(sh, e);
        json_begin(sh->json, "recipients", '[');
        return;
    }
    printf("queue id    %s\nstate       %.*s\nsize        %" PRIu64
           "\narrived     %s\nsender      <",
        id, SLICE_FMT(d->state), d->size, when);
    queue_print_clean(e->sender);
    printf(">\nclient      ");
    queue_print_clean(e->client);
    printf(" helo=");
    queue_print_clean(e->helo);
    printf(" login=");
    queue_print_clean(e->login);
    printf("\nmessage-id  ");
    queue_print_clean(e->message_id);
    printf("\n");
    show_wishes(sh, e);
}

static void show_recipient(const struct shown *sh, const struct queue_recipient *r)
{
    char next[32];
    if (sh->json) {
        json_begin(sh->json, NULL, '{');
        json_str(sh->json, "address", r->address);
        json_str(sh->json, "original", r->original);
        json_str(sh->json, "orcpt", r->orcpt);
        put_notify(sh->json, r->notify);
        json_str(sh->json, "transport", r->transport);
        json_str(sh->json, "nexthop", r->nexthop);
        json_str(sh->json, "state", r->state);
        json_int(sh->json, "attempts", r->attempts);
        json_int(sh->json, "next", r->next);
        json_str(sh->json, "reason", r->reason);
        json_str(sh->json, "owner", r->owner);
        json_end(sh->json, '}');
        return;
    }
    queue_print_time(slice_is(r->state, "waiting") ? r->next : 0, "%Y-%m-%d %H:%M:%S", next);
    printf("\n<");
    queue_print_clean(r->address);
    printf("> %.*s via %.*s:", SLICE_FMT(r->state), SLICE_FMT(r->transport));
    queue_print_clean(r->nexthop);
    printf(", %u attempt%s%s%s\n", r->attempts, r->attempts == 1 ? "" : "s",
        next[0] ? ", next " : "", next);
    if (r->owner.n) {
        printf("    of a list, sent as <");
        queue_print_clean(r->owner);
        printf(">\n");
    }
    if (r->reason.n) {
        printf("    ");
        queue_print_clean(r->reason);
        printf("\n");
    }
}

static int show_pages(struct ipc_sync *s, struct shown *sh)
{
    struct ipc_in in;
    struct error err = {0};
    struct queue_show ask = {.qid = sh->qid};
    do {
        if (ipc_sync_call(s, queue_show_type, sh->qid, &ask, -1, &in, &err) != OK)
            return queue_report(&err);
        const struct queue_details *d = in.msg;
        if (d->code != OK)
            return ctl_fail(CTL_NO, "%s",
                d->code == ERR_NOT_FOUND ? "no such message in the queue"
                                         : "the message cannot be read: see the log");
        struct reader r = reader_of(d->envelope);
        struct envelope e;
        struct queue_recipient rcpt;
        if (!sh->begun && record_get(&r, &envelope_record, &e) == OK)
            show_envelope(sh, d, &e);
        sh->begun = true;
        for (r = reader_of(d->recipients);
             r.rest.n && record_get(&r, &queue_recipient_record, &rcpt) == OK;)
            show_recipient(sh, &rcpt);
        ask.from = d->next;
    } while (ask.from);
    return CTL_OK;
}

/* The end of the header within these bytes of the message; 0: not there. *line is how much of an
 * empty line the bytes before ended with. */
static size_t header_end(const char *p, size_t n, bool *line)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '\n' && *line)
            return i + 1;
        if (p[i] != '\r')
            *line = p[i] == '\n';
    }
    return 0;
}

/* The message itself, as it came, or its header: into `out`, or (NULL) printed. */
static int show_body(struct ipc_sync *s, uint64_t qid, bool headers, struct buf *out)
{
    struct ipc_in in;
    struct error err = {0};
    struct queue_body ask = {.qid = qid};
    char chunk[16384];
    bool line = true;
    if (ipc_sync_call(s, queue_body_type, qid, &ask, -1, &in, &err) != OK)
        return queue_report(&err);
    const struct queue_content *content = in.msg;
    if (content->code != OK || in.fd < 0)
        return ctl_fail(CTL_NO, "no such message in the queue");
    int fd = in.fd;
    in.fd = -1;
    size_t end = 0;
    uint64_t at = 0;
    while (at < content->size && end == 0) {
        ssize_t n = pread(fd, chunk, (size_t)MIN(sizeof(chunk), content->size - at), (off_t)at);
        if (n <= 0)
            break;
        end = headers ? header_end(chunk, (size_t)n, &line) : 0;
        if (!out)
            fwrite(chunk, 1, end ? end : (size_t)n, stdout);
        else if (buf_put(out, slice_from(chunk, end ? end : (size_t)n)) != OK)
            break;
        at += (uint64_t)n;
    }
    fd_close(&fd);
    if (at < content->size && end == 0)
        return ctl_fail(CTL_NO, "the message cannot be read");
    return CTL_OK;
}

/* The same as a string; what is not UTF-8 in it is replaced. */
static int show_body_json(struct ipc_sync *s, struct shown *sh, bool headers)
{
    struct json *j = sh->json;
    struct buf text;
    char id[ID_TEXT];
    buf_init(&text, SHOWN_MAX);
    int status = show_body(s, sh->qid, headers, &text);
    if (status == CTL_OK) {
        id_print(sh->qid, id);
        json_begin(j, NULL, '{');
        json_str(j, "qid", slice_of(id));
        json_str(j, headers ? "headers" : "body", buf_slice(&text));
        json_end(j, '}');
        printf("%.*s\n", SLICE_FMT(buf_slice(j->out)));
    }
    buf_clear(&text);
    return status;
}

static void show_attempt(struct json *j, const struct queue_attempt *a)
{
    char when[32];
    if (j) {
        json_begin(j, NULL, '{');
        json_int(j, "at", a->at);
        json_str(j, "address", a->address);
        json_str(j, "result", a->result);
        json_int(j, "attempts", a->attempts);
        json_str(j, "dsn", a->dsn);
        json_str(j, "mta", a->mta);
        json_str(j, "text", a->text);
        json_end(j, '}');
        return;
    }
    queue_print_time(a->at, "%Y-%m-%d %H:%M:%S", when);
    printf("%s  <", when);
    queue_print_clean(a->address);
    printf("> %.*s ", SLICE_FMT(a->result));
    queue_print_clean(a->dsn);
    putchar(' ');
    queue_print_clean(a->text);
    putchar('\n');
}

static int show_history(struct ipc_sync *s, struct json *j, uint64_t qid, bool *partial)
{
    struct ipc_in in;
    struct error err = {0};
    struct queue_history ask = {.qid = qid};
    struct queue_attempt a;
    do {
        if (ipc_sync_call(s, queue_history_type, qid, &ask, -1, &in, &err) != OK)
            return queue_report(&err);
        const struct queue_past *past = in.msg;
        if (past->code != OK)
            return CTL_OK; /* finished meanwhile */
        if (!j && ask.from == 0 && past->attempts.n > 0)
            printf("\nhistory%s\n", past->partial ? " (the latest part of it)" : "");
        for (struct reader r = reader_of(past->attempts);
             r.rest.n && record_get(&r, &queue_attempt_record, &a) == OK;)
            show_attempt(j, &a);
        *partial = past->partial;
        ask.from = past->next;
    } while (ask.from);
    return CTL_OK;
}

/* Envelope, recipients, history. */
static int show_all(struct ipc_sync *s, struct shown *sh)
{
    struct json *j = sh->json;
    bool partial = false;
    if (j)
        json_begin(j, NULL, '{');
    int status = show_pages(s, sh);
    if (j && status == CTL_OK) {
        json_end(j, ']');
        json_begin(j, "history", '[');
    }
    if (status == CTL_OK)
        status = show_history(s, j, sh->qid, &partial);
    if (j && status == CTL_OK) {
        json_end(j, ']');
        json_bool(j, "history_partial", partial);
        json_end(j, '}');
        printf("%.*s\n", SLICE_FMT(buf_slice(j->out)));
    }
    return status;
}

int queue_show_verb(struct ctl *c, int argc, char **argv)
{
    struct ipc_sync s;
    struct buf out;
    struct json j = {&out, false};
    struct shown sh = {.json = c->json ? &j : NULL};
    bool headers = ctl_flag(&argc, argv, "--headers");
    bool body = ctl_flag(&argc, argv, "--body") || headers;
    if (argc != 1 || strncmp(argv[0], "--", 2) == 0)
        return ctl_usage(c);
    if (id_parse(slice_of(argv[0]), &sh.qid) != OK)
        return ctl_fail(CTL_USAGE, "%s: not a queue id", argv[0]);
    int status = queue_open(c, &s, true);
    if (status != CTL_OK)
        return status;
    buf_init(&out, SHOWN_MAX);
    if (body)
        status = c->json ? show_body_json(&s, &sh, headers) : show_body(&s, sh.qid, headers, NULL);
    else
        status = show_all(&s, &sh);
    buf_clear(&out);
    ipc_sync_close(&s);
    return status;
}
