/* queue: what waits to be delivered, and what to do about it. */
#include <fcntl.h>
#include <inttypes.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "ctl/json.h"
#include "ctl/queue_summary.h"
#include "libmail/proto/queue.h"
#include "libutil/log.h"

typedef void entry_fn(const struct queue_entry *, void *arg);

static int open_queue(struct ctl *c, struct ipc_sync *s)
{
    struct error err = {0};
    int rc = ctl_connect_daemon(c, CONV_QUEUE, ROLE_QMGR, &queue_proto, s, &err);
    return rc == OK ? CTL_OK : ctl_report(&err);
}

static char offline_word[] = "--offline-list";

/* One record of u32 length and entry. False at the end. */
static bool read_entry(FILE *in, struct buf *one, entry_fn *fn, void *arg)
{
    char head[4];
    struct queue_entry e;
    if (fread(head, 1, sizeof(head), in) != sizeof(head))
        return false;
    struct reader length = reader_of(slice_from(head, sizeof(head)));
    size_t n = get_u32(&length);
    buf_reset(one);
    char *room = buf_reserve(one, n);
    if (!room || fread(room, 1, n, in) != n)
        return false;
    buf_claim(one, n);
    struct reader r = reader_of(buf_slice(one));
    if (record_get(&r, &queue_entry_record, &e) == OK)
        fn(&e, arg);
    return true;
}

/* The system is down: qmgr reads the spool for us, and says it in the same records. */
static int each_entry_offline(struct ctl *c, entry_fn *fn, void *arg)
{
    const struct conf *conf = ctl_conf(c);
    char command[8300], path[4096];
    if (!conf || !slice_to_cstr(conf_string(conf_root(conf), "spool"), path, sizeof(path)))
        return CTL_NO;
    snprintf(command, sizeof(command), "%s/%s", c->bin_dir, role_info(ROLE_QMGR)->program);
    char *argv[] = {command, offline_word, path, NULL};
    int pipe_fds[2];
    pid_t pid = pipe2(pipe_fds, O_CLOEXEC) < 0 ? -1 : fork();
    if (pid < 0)
        return ctl_fail(CTL_TEMPORARY, "cannot start %s", command);
    if (pid == 0) {
        dup2(pipe_fds[1], STDOUT_FILENO);
        execv(command, argv);
        _exit(127);
    }
    fd_close(&pipe_fds[1]);
    FILE *in = fdopen(pipe_fds[0], "r");
    struct buf one;
    buf_init(&one, 65536);
    while (in && read_entry(in, &one, fn, arg))
        continue;
    buf_clear(&one);
    if (in)
        fclose(in);
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? CTL_OK : CTL_NO;
}

/* Calls fn for every message, page by page, so that nothing grows with the queue. */
static int each_entry(struct ctl *c, entry_fn *fn, void *arg)
{
    struct ipc_sync s;
    struct ipc_in in;
    struct error err = {0};
    struct queue_list ask = {.after = 0};
    bool more = true;
    int status = CTL_OK;
    int rc = ctl_connect_daemon(c, CONV_QUEUE, ROLE_QMGR, &queue_proto, &s, &err);
    if (rc == ERR_CLOSED)
        return each_entry_offline(c, fn, arg);
    if (rc != OK)
        return ctl_report(&err);
    while (more && status == CTL_OK) {
        struct queue_entry e;
        if (ipc_sync_call(&s, queue_list_type, 0, &ask, -1, &in, &err) != OK) {
            status = ctl_report(&err);
            break;
        }
        const struct queue_page *page = in.msg;
        struct reader r = reader_of(page->entries);
        while (r.rest.n && record_get(&r, &queue_entry_record, &e) == OK)
            fn(&e, arg);
        more = page->more;
        ask.after = page->next;
    }
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
    if (e->reason.n) {
        printf("    %u attempts%s%s: ", e->attempts, next[0] ? ", next " : "", next);
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

static int list_mailq(struct ctl *c)
{
    struct listing l = {.messages = 0};
    int status = each_entry(c, entry_mailq, &l);
    if (status != CTL_OK)
        return status;
    if (l.messages == 0)
        printf("Mail queue is empty\n");
    else
        printf("-- %" PRIu64 " Kbytes in %" PRIu64 " Request%s.\n", (l.bytes + 1023) / 1024,
            l.messages, l.messages == 1 ? "" : "s");
    return CTL_OK;
}

static int list(struct ctl *c, int argc, char **argv)
{
    struct listing l = {.messages = 0};
    bool mailq = ctl_flag(&argc, argv, "--mailq");
    if (argc != 0)
        return ctl_usage(c);
    if (mailq)
        return list_mailq(c);
    buf_init(&l.line, 65536);
    if (c->json)
        putchar('[');
    int status = each_entry(c, c->json ? entry_json : entry_text, &l);
    if (c->json)
        printf("]\n");
    else if (status == CTL_OK && l.messages == 0)
        printf("the queue is empty\n");
    buf_clear(&l.line);
    return status;
}

/* --- summary --------------------------------------------------------------------------------- */

static void entry_summary(const struct queue_entry *e, void *arg)
{
    queue_summary_add(arg, e);
}

static int summary(struct ctl *c, int argc, char **argv)
{
    struct queue_summary s;
    if (argc != 0)
        return (void)argv, ctl_usage(c);
    queue_summary_init(&s, (int64_t)time(NULL) * 1000);
    int status = each_entry(c, entry_summary, &s);
    if (status == CTL_OK)
        queue_summary_print(&s, c->json);
    queue_summary_clear(&s);
    return status;
}

/* --- show ------------------------------------------------------------------------------------ */

struct shown {
    struct json *json; /* NULL: text */
    uint64_t qid;
    bool begun;
};

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
}

static void show_recipient(const struct shown *sh, const struct queue_recipient *r)
{
    char next[32];
    if (sh->json) {
        json_begin(sh->json, NULL, '{');
        json_str(sh->json, "address", r->address);
        json_str(sh->json, "original", r->original);
        json_str(sh->json, "transport", r->transport);
        json_str(sh->json, "nexthop", r->nexthop);
        json_str(sh->json, "state", r->state);
        json_int(sh->json, "attempts", r->attempts);
        json_int(sh->json, "next", r->next);
        json_str(sh->json, "reason", r->reason);
        json_end(sh->json, '}');
        return;
    }
    print_time(slice_is(r->state, "waiting") ? r->next : 0, "%Y-%m-%d %H:%M:%S", next);
    printf("\n<");
    print_clean(r->address);
    printf("> %.*s via %.*s:", SLICE_FMT(r->state), SLICE_FMT(r->transport));
    print_clean(r->nexthop);
    printf(", %u attempts%s%s\n", r->attempts, next[0] ? ", next " : "", next);
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

/* The message itself, as it came. */
static int show_body(struct ipc_sync *s, uint64_t qid)
{
    struct ipc_in in;
    struct error err = {0};
    struct queue_body ask = {.qid = qid};
    char chunk[16384];
    if (ipc_sync_call(s, queue_body_type, qid, &ask, -1, &in, &err) != OK)
        return ctl_report(&err);
    const struct queue_content *content = in.msg;
    if (content->code != OK || in.fd < 0)
        return ctl_fail(CTL_NO, "no such message in the queue");
    int fd = in.fd;
    in.fd = -1;
    for (uint64_t at = 0; at < content->size;) {
        ssize_t n = pread(fd, chunk, (size_t)MIN(sizeof(chunk), content->size - at), (off_t)at);
        if (n <= 0)
            break;
        fwrite(chunk, 1, (size_t)n, stdout);
        at += (uint64_t)n;
    }
    fd_close(&fd);
    return CTL_OK;
}

static int show(struct ctl *c, int argc, char **argv)
{
    struct ipc_sync s;
    struct buf out;
    struct json j = {&out, false};
    struct shown sh = {.json = c->json ? &j : NULL};
    bool body = ctl_flag(&argc, argv, "--body");
    if (argc != 1 || id_parse(slice_of(argv[0]), &sh.qid) != OK)
        return ctl_usage(c);
    int status = open_queue(c, &s);
    if (status != CTL_OK)
        return status;
    buf_init(&out, 256 * 1024 * 1024);
    if (body) {
        status = show_body(&s, sh.qid);
    } else {
        json_begin(&j, NULL, '{');
        status = show_pages(&s, &sh);
        json_end(&j, ']');
        json_end(&j, '}');
        if (c->json && status == CTL_OK)
            printf("%.*s\n", SLICE_FMT(buf_slice(&out)));
    }
    buf_clear(&out);
    ipc_sync_close(&s);
    return status;
}

/* --- acting ---------------------------------------------------------------------------------- */

static int act_one(struct ctl *c, struct ipc_sync *s, const char *verb, uint64_t qid)
{
    struct ipc_in in;
    struct error err = {0};
    struct queue_act ask = {.verb = slice_of(verb), .qid = qid};
    if (ipc_sync_call(s, queue_act_type, qid, &ask, -1, &in, &err) != OK)
        return ctl_report(&err);
    const struct queue_acted *done = in.msg;
    if (done->code != OK || (qid && done->count == 0))
        return ctl_fail(CTL_NO, "%s: %.*s", verb, SLICE_FMT(done->text));
    if (qid == 0 && c->json)
        printf("{\"count\":%" PRIu64 "}\n", done->count);
    else if (qid == 0)
        printf("%" PRIu64 " messages\n", done->count);
    return CTL_OK;
}

/* Ids, or "all"; only flush may go without. */
static int act(struct ctl *c, int argc, char **argv)
{
    struct ipc_sync s;
    static char all_word[] = "all";
    char *all[] = {all_word};
    if (argc == 0 && strcmp(c->verb->verb, "flush") == 0) {
        argc = 1;
        argv = all;
    }
    for (int i = 0; i < argc; i++) {
        uint64_t qid;
        if (strcmp(argv[i], "all") != 0 && id_parse(slice_of(argv[i]), &qid) != OK)
            return ctl_fail(CTL_USAGE, "%s: neither a queue id nor \"all\"", argv[i]);
    }
    if (argc == 0)
        return ctl_usage(c);
    int status = open_queue(c, &s);
    if (status != CTL_OK)
        return status;
    for (int i = 0; i < argc; i++) {
        uint64_t qid = 0;
        bool one = strcmp(argv[i], "all") != 0 && id_parse(slice_of(argv[i]), &qid) == OK;
        int result = act_one(c, &s, c->verb->verb, one ? qid : 0);
        status = result != CTL_OK ? result : status;
    }
    ipc_sync_close(&s);
    return status;
}

const struct ctl_verb queue_verbs[] = {
    {"queue", "list", "[--json | --mailq]", "List the messages that wait.", list},
    {"queue", "summary", "[--json]", "Count them by state, age and destination.", summary},
    {"queue", "show", "[--json | --body] ID", "Show one: envelope, recipients, or the message.",
        show},
    {"queue", "flush", "[ID ... | all]", "Try to deliver now.", act},
    {"queue", "hold", "ID ... | all", "Keep messages without trying.", act},
    {"queue", "release", "ID ... | all", "Let held messages go on.", act},
    {"queue", "delete", "ID ... | all", "Delete messages without telling anyone.", act}, {0}};
