/* queue: what waits to be delivered, and what to do about it. */
#include <fcntl.h>
#include <inttypes.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "ctl/json.h"
#include "ctl/queue.h"
#include "ctl/queue_summary.h"
#include "libutil/log.h"

enum { DOMAINS_SHOWN = 20 };

static char offline_word[] = "--offline";

/* The system is down: qmgr reads the spool for us, and speaks as it would otherwise. */
static int open_offline(struct ctl *c, struct ipc_sync *s, struct error *err)
{
    const struct conf *conf = ctl_conf(c);
    char command[8300], path[4096];
    int fds[2];
    if (!conf || !slice_to_cstr(conf_string(conf_root(conf), "spool"), path, sizeof(path)))
        return error_set(err, ERR_SYNTAX, "the configuration cannot be used");
    snprintf(command, sizeof(command), "%s/%s", c->bin_dir, role_info(ROLE_QMGR)->program);
    char *argv[] = {command, offline_word, path, NULL};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
        return error_sys(err, "socketpair");
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fds[1], STDIN_FILENO);
        execv(command, argv);
        _exit(127);
    }
    fd_close(&fds[1]);
    if (pid < 0) {
        fd_close(&fds[0]);
        return error_sys(err, "cannot start %s", command);
    }
    return ipc_sync_open(s, fds[0], &queue_proto, IPC_CLIENT, err);
}

int queue_open(struct ctl *c, struct ipc_sync *s, bool offline)
{
    struct error err = {0};
    int rc = ctl_connect_daemon(c, CONV_QUEUE, ROLE_QMGR, &queue_proto, s, &err);
    if (rc == ERR_CLOSED && offline)
        rc = open_offline(c, s, &err);
    return rc == OK ? CTL_OK : ctl_report(&err);
}

int queue_each(struct ipc_sync *s, struct slice filter, queue_entry_fn *fn, void *arg)
{
    struct ipc_in in;
    struct error err = {0};
    struct queue_list ask = {.after = 0, .filter = filter};
    bool more = true;
    while (more) {
        struct queue_entry e;
        if (ipc_sync_call(s, queue_list_type, 0, &ask, -1, &in, &err) != OK)
            return ctl_report(&err);
        const struct queue_page *page = in.msg;
        struct reader r = reader_of(page->entries);
        while (r.rest.n && record_get(&r, &queue_entry_record, &e) == OK)
            fn(&e, arg);
        more = page->more;
        ask.after = page->next;
    }
    return CTL_OK;
}

/* The same for a verb that does nothing else. */
static int each_entry(struct ctl *c, struct slice filter, queue_entry_fn *fn, void *arg)
{
    struct ipc_sync s;
    int status = queue_open(c, &s, true);
    if (status != CTL_OK)
        return status;
    status = queue_each(&s, filter, fn, arg);
    ipc_sync_close(&s);
    return status;
}

static void print_time(int64_t ms, const char *format, char out[32])
{
    time_t when = (time_t)(ms / 1000);
    struct tm tm;
    out[0] = '\0';
    if (ms > 0 && localtime_r(&when, &tm))
        strftime(out, 32, format, &tm);
}

/* --- list ------------------------------------------------------------------------------------ */

struct listing {
    struct buf line;
    uint64_t messages, bytes;
};

static void entry_json(const struct queue_entry *e, void *arg)
{
    struct listing *l = arg;
    struct json j = {&l->line, false};
    char id[ID_TEXT];
    id_print(e->qid, id);
    buf_reset(&l->line);
    json_begin(&j, NULL, '{');
    json_str(&j, "qid", slice_of(id));
    json_str(&j, "sender", e->sender);
    json_str(&j, "recipient", e->recipient);
    json_int(&j, "recipients", e->recipients);
    json_int(&j, "size", (int64_t)e->size);
    json_str(&j, "state", e->state);
    json_int(&j, "received", e->received);
    json_int(&j, "next", e->next);
    json_int(&j, "attempts", e->attempts);
    json_str(&j, "reason", e->reason);
    json_int(&j, "until", e->until);
    json_end(&j, '}');
    printf("%s%.*s", l->messages++ ? ",\n" : "", SLICE_FMT(buf_slice(&l->line)));
}

/* What strangers wrote goes to a terminal: no control characters. */
static void print_clean(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        putchar((unsigned char)s.p[i] < ' ' || s.p[i] == 0x7f ? '?' : s.p[i]);
}

static void print_recipient(const struct queue_entry *e)
{
    print_clean(e->recipient);
    if (e->recipients > 1)
        printf(" and %u more", e->recipients - 1);
}

static void entry_text(const struct queue_entry *e, void *arg)
{
    struct listing *l = arg;
    char id[ID_TEXT], when[32], next[32];
    id_print(e->qid, id);
    print_time(e->received, "%Y-%m-%d %H:%M:%S", when);
    print_time(e->next, "%H:%M:%S", next);
    if (l->messages++ == 0)
        printf("%-14s %-9s %9s  %-19s  %s\n", "QUEUE ID", "STATE", "SIZE", "ARRIVED",
            "SENDER -> RECIPIENT");
    printf("%-14s %-9.*s %9" PRIu64 "  %-19s  <", id, SLICE_FMT(e->state), e->size, when);
    print_clean(e->sender);
    printf("> -> ");
    print_recipient(e);
    putchar('\n');
    if (e->until > (int64_t)time(NULL) * 1000 && e->attempts == 0) {
        print_time(e->until, "%Y-%m-%d %H:%M:%S", when);
        printf("    deferred until %s, as its sender asked\n", when);
    }
    if (e->reason.n) {
        printf("    %u attempt%s%s%s: ", e->attempts, e->attempts == 1 ? "" : "s",
            next[0] ? ", next " : "", next);
        print_clean(e->reason);
        putchar('\n');
    }
}

/* The form that mailq(1) has had for decades; scripts read it. */
static void entry_mailq(const struct queue_entry *e, void *arg)
{
    struct listing *l = arg;
    char id[ID_TEXT], when[32];
    id_print(e->qid, id);
    print_time(e->received, "%a %b %e %H:%M:%S", when);
    if (l->messages++ == 0)
        printf("-Queue ID-------  --Size-- ----Arrival Time---- -Sender/Recipient-------\n");
    l->bytes += e->size;
    printf("%s%-*s %8" PRIu64 " %s  ", id, 16 - (int)strlen(id),
        slice_is(e->state, "active") ? "*"
        : slice_is(e->state, "held") ? "!"
                                     : " ",
        e->size, when);
    print_clean(e->sender.n ? e->sender : SLICE_LIT("MAILER-DAEMON"));
    putchar('\n');
    if (e->reason.n) {
        printf("    (");
        print_clean(e->reason);
        printf(")\n");
    }
    printf("%47s", "");
    print_recipient(e);
    printf("\n\n");
}

static int list_mailq(struct ctl *c, struct slice filter)
{
    struct listing l = {.messages = 0};
    int status = each_entry(c, filter, entry_mailq, &l);
    if (status != CTL_OK)
        return status;
    if (l.messages == 0)
        printf("Mail queue is empty\n");
    else
        printf("-- %" PRIu64 " Kbytes in %" PRIu64 " Request%s.\n", (l.bytes + 1023) / 1024,
            l.messages, l.messages == 1 ? "" : "s");
    return CTL_OK;
}

static int list_messages(struct ctl *c, struct slice filter)
{
    struct listing l = {.messages = 0};
    buf_init(&l.line, 65536);
    if (c->json)
        putchar('[');
    int status = each_entry(c, filter, c->json ? entry_json : entry_text, &l);
    if (c->json)
        printf("]\n");
    else if (status == CTL_OK && l.messages == 0)
        printf(filter.n ? "no message fits\n" : "the queue is empty\n");
    buf_clear(&l.line);
    return status;
}

static int list(struct ctl *c, int argc, char **argv)
{
    struct buf filter;
    bool mailq = ctl_flag(&argc, argv, "--mailq");
    buf_init(&filter, 1024);
    int status = queue_filter_options(&argc, argv, &filter);
    if (status == CTL_OK && argc != 0)
        status = ctl_usage(c);
    if (status == CTL_OK && mailq)
        status = list_mailq(c, buf_slice(&filter));
    else if (status == CTL_OK)
        status = list_messages(c, buf_slice(&filter));
    buf_clear(&filter);
    return status;
}

/* --- summary --------------------------------------------------------------------------------- */

static int add_shares(struct ipc_sync *s, struct queue_summary *sum)
{
    struct ipc_in in;
    struct error err = {0};
    struct queue_shape ask = {.by_sender = sum->by_sender};
    for (bool more = true; more;) {
        struct queue_share share;
        if (ipc_sync_call(s, queue_shape_type, 0, &ask, -1, &in, &err) != OK)
            return ctl_report(&err);
        const struct queue_shares *page = in.msg;
        struct reader r = reader_of(page->shares);
        while (r.rest.n && record_get(&r, &queue_share_record, &share) == OK)
            queue_summary_add(sum, &share);
        more = page->more;
        ask.after = page->next;
        ask.from = page->from;
    }
    return CTL_OK;
}

static void print_summary(struct ctl *c, const struct queue_summary *sum, bool all)
{
    struct buf out;
    if (!c->json) {
        queue_summary_print(sum, all ? SIZE_MAX : DOMAINS_SHOWN);
        return;
    }
    buf_init(&out, 64 * 1024 * 1024);
    queue_summary_json(sum, &out);
    printf("%.*s\n", SLICE_FMT(buf_slice(&out)));
    buf_clear(&out);
}

static int summary(struct ctl *c, int argc, char **argv)
{
    struct queue_summary sum;
    struct ipc_sync s;
    bool by_sender = ctl_flag(&argc, argv, "--sender"), all = ctl_flag(&argc, argv, "--all");
    if (argc != 0)
        return ctl_usage(c);
    int status = queue_open(c, &s, true);
    if (status != CTL_OK)
        return status;
    queue_summary_init(&sum, (int64_t)time(NULL) * 1000, by_sender);
    status = add_shares(&s, &sum);
    if (status == CTL_OK)
        print_summary(c, &sum, all);
    queue_summary_clear(&sum);
    ipc_sync_close(&s);
    return status;
}

/* --- show ------------------------------------------------------------------------------------ */

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
    print_time(e->hold_until, "%Y-%m-%d %H:%M:%S", until);
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
        print_clean(e->hold);
        printf("\n");
    }
    if (e->envid.n || *ret) {
        printf("report      ret=%s envid=", ret);
        print_clean(e->envid);
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
    print_time(e->received, "%Y-%m-%d %H:%M:%S", when);
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
    print_clean(e->sender);
    printf(">\nclient      ");
    print_clean(e->client);
    printf(" helo=");
    print_clean(e->helo);
    printf(" login=");
    print_clean(e->login);
    printf("\nmessage-id  ");
    print_clean(e->message_id);
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
    print_time(slice_is(r->state, "waiting") ? r->next : 0, "%Y-%m-%d %H:%M:%S", next);
    printf("\n<");
    print_clean(r->address);
    printf("> %.*s via %.*s:", SLICE_FMT(r->state), SLICE_FMT(r->transport));
    print_clean(r->nexthop);
    printf(", %u attempt%s%s%s\n", r->attempts, r->attempts == 1 ? "" : "s",
        next[0] ? ", next " : "", next);
    if (r->owner.n) {
        printf("    of a list, sent as <");
        print_clean(r->owner);
        printf(">\n");
    }
    if (r->reason.n) {
        printf("    ");
        print_clean(r->reason);
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
            return ctl_report(&err);
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

/* The message itself, as it came, or its header. */
static int show_body(struct ipc_sync *s, uint64_t qid, bool headers)
{
    struct ipc_in in;
    struct error err = {0};
    struct queue_body ask = {.qid = qid};
    char chunk[16384];
    bool line = true;
    if (ipc_sync_call(s, queue_body_type, qid, &ask, -1, &in, &err) != OK)
        return ctl_report(&err);
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
        fwrite(chunk, 1, end ? end : (size_t)n, stdout);
        at += (uint64_t)n;
    }
    fd_close(&fd);
    if (at < content->size && end == 0)
        return ctl_fail(CTL_NO, "the message cannot be read");
    return CTL_OK;
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
    print_time(a->at, "%Y-%m-%d %H:%M:%S", when);
    printf("%s  <", when);
    print_clean(a->address);
    printf("> %.*s ", SLICE_FMT(a->result));
    print_clean(a->dsn);
    putchar(' ');
    print_clean(a->text);
    putchar('\n');
}

static int show_history(struct ipc_sync *s, struct json *j, uint64_t qid)
{
    struct ipc_in in;
    struct error err = {0};
    struct queue_history ask = {.qid = qid};
    struct queue_attempt a;
    do {
        if (ipc_sync_call(s, queue_history_type, qid, &ask, -1, &in, &err) != OK)
            return ctl_report(&err);
        const struct queue_past *past = in.msg;
        if (past->code != OK)
            return CTL_OK; /* finished meanwhile */
        if (!j && ask.from == 0 && past->attempts.n > 0)
            printf("\nhistory\n");
        for (struct reader r = reader_of(past->attempts);
             r.rest.n && record_get(&r, &queue_attempt_record, &a) == OK;)
            show_attempt(j, &a);
        ask.from = past->next;
    } while (ask.from);
    return CTL_OK;
}

/* Envelope, recipients, history. */
static int show_all(struct ipc_sync *s, struct shown *sh)
{
    struct json *j = sh->json;
    if (j)
        json_begin(j, NULL, '{');
    int status = show_pages(s, sh);
    if (j && status == CTL_OK) {
        json_end(j, ']');
        json_begin(j, "history", '[');
    }
    if (status == CTL_OK)
        status = show_history(s, j, sh->qid);
    if (j && status == CTL_OK) {
        json_end(j, ']');
        json_end(j, '}');
        printf("%.*s\n", SLICE_FMT(buf_slice(j->out)));
    }
    return status;
}

static int show(struct ctl *c, int argc, char **argv)
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
    buf_init(&out, 256 * 1024 * 1024);
    status = body ? show_body(&s, sh.qid, headers) : show_all(&s, &sh);
    buf_clear(&out);
    ipc_sync_close(&s);
    return status;
}

#define FILTERS                                                                               \
    "[--age [-]TIME] [--sender ADDRESS|@DOMAIN] [--recipient-domain DOMAIN] [--state STATE] " \
    "[--reason TEXT]"
#define WHICH "[--dry-run] ID ... | all | FILTERS as in list"

const struct ctl_verb queue_verbs[] = {
    {"queue", "list", "[--json | --mailq] " FILTERS, "List the messages that wait.", list},
    {"queue", "summary", "[--json] [--sender] [--all]",
        "Count them by state and age, for each domain of recipients or senders.", summary},
    {"queue", "show", "[--json | --headers | --body] ID",
        "Show one: envelope, recipients and history, or the message.", show},
    {"queue", "flush", "[--dry-run] [ID ... | DOMAIN ... | all | FILTERS as in list]",
        "Try to deliver now; without arguments everything.", queue_act_verb},
    {"queue", "retry", "[--dry-run] ID ... | DOMAIN ... | all | FILTERS as in list",
        "Try to deliver these now.", queue_retry},
    {"queue", "hold", WHICH, "Keep messages without trying.", queue_act_verb},
    {"queue", "release", WHICH, "Let held messages go on.", queue_act_verb},
    {"queue", "delete", WHICH, "Delete messages without telling anyone.", queue_act_verb},
    {"queue", "bounce", "[--text TEXT] " WHICH, "Return messages to their senders now.",
        queue_bounce},
    {"queue", "requeue", "[--dry-run] ID ... | all | FILTERS as in list",
        "Look up again where waiting recipients go.", queue_act_verb},
    {"queue", "redirect", "[--dry-run] ID ... | all | FILTERS as in list  ADDRESS",
        "Send to another address what waits.", queue_redirect},
    {"queue", "drain", "--to HOST[:PORT] [--held] [--dry-run] " FILTERS,
        "Hand what waits to another node, which must take mail from here.", queue_drain},
    {"queue", "export", "ID ... | FILTERS as in list  DIR",
        "Copy messages to DIR/ID.eml and DIR/ID.envelope.", queue_export},
    {"queue", "import", "FILE.eml ENVELOPE", "Put such a message into the queue.", queue_import},
    {"queue", "verify", "[--json]", "Read the whole spool and tell what is damaged.", queue_verify},
    {0}};
