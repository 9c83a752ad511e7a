/* queue: what waits to be delivered, and what to do about it. */
#include <errno.h>
#include <inttypes.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ctl/queue.h"
#include "ctl/queue_summary.h"
#include "libutil/log.h"

enum { DOMAINS_SHOWN = 20 };

static char offline_word[] = "--offline";

int queue_report(const struct error *err)
{
    return err->code == ERR_CLOSED
               ? ctl_fail(CTL_TEMPORARY, "qmgr has ended meanwhile: look what was done, try again")
               : ctl_report(err);
}

bool queue_has_no_spool(const char *spool)
{
    static const char *const made[] = {"log", "parked", "format"}; /* by the first start */
    char path[4200];
    struct stat st;
    if (stat(spool, &st) != 0) {
        ctl_fail(CTL_NO, "%s, the spool directory: %s", spool, strerror(errno));
        return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(made); i++) {
        snprintf(path, sizeof(path), "%s/%s", spool, made[i]);
        if (stat(path, &st) == 0 || errno != ENOENT)
            return false;
    }
    ctl_fail(CTL_NO, "%s: there is no queue yet: the system has never been started", spool);
    return true;
}

/* The system is down: qmgr reads the spool for us, and speaks as it would otherwise. */
static int open_offline(struct ctl *c, struct ipc_sync *s, struct error *err)
{
    const struct conf *conf = ctl_conf(c);
    char command[8300], path[4096];
    int fds[2];
    if (!conf || !slice_to_cstr(conf_string(conf_root(conf), "spool"), path, sizeof(path)))
        return error_set(err, ERR_SYNTAX, "the configuration cannot be used");
    if (queue_has_no_spool(path))
        return ERR_NOT_FOUND;
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
    int rc = ipc_sync_open(s, fds[0], &queue_proto, IPC_CLIENT, err);
    /* Where it had a reason, it has told it. */
    return rc == ERR_CLOSED
               ? error_set(err, ERR_IO,
                     "the system is not running, and its spool %s could not be read", path)
               : rc;
}

int queue_open(struct ctl *c, struct ipc_sync *s, bool offline)
{
    struct error err = {0};
    int rc = ctl_connect_daemon(c, CONV_QUEUE, ROLE_QMGR, &queue_proto, s, &err);
    if (rc == ERR_CLOSED && offline) {
        rc = open_offline(c, s, &err);
        if (rc == ERR_NOT_FOUND)
            return CTL_NO;
    } else if (rc == ERR_CLOSED)
        return ctl_fail(CTL_NO, "%s: what changes the queue needs the running system", err.text);
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
            return queue_report(&err);
        const struct queue_page *page = in.msg;
        struct reader r = reader_of(page->entries);
        while (r.rest.n && record_get(&r, &queue_entry_record, &e) == OK)
            fn(&e, arg);
        more = page->more;
        ask.after = page->next;
    }
    return CTL_OK;
}

void queue_print_time(int64_t ms, const char *format, char out[32])
{
    time_t when = (time_t)(ms / 1000);
    struct tm tm;
    out[0] = '\0';
    if (ms > 0 && localtime_r(&when, &tm))
        strftime(out, 32, format, &tm);
}

void queue_print_clean(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        putchar((unsigned char)s.p[i] < ' ' || s.p[i] == 0x7f ? '?' : s.p[i]);
}

static int add_shares(struct ipc_sync *s, struct queue_summary *sum)
{
    struct ipc_in in;
    struct error err = {0};
    struct queue_shape ask = {.by_sender = sum->by_sender};
    for (bool more = true; more;) {
        struct queue_share share;
        if (ipc_sync_call(s, queue_shape_type, 0, &ask, -1, &in, &err) != OK)
            return queue_report(&err);
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

#define FILTERS                                                                               \
    "[--age [-]TIME] [--sender ADDRESS|@DOMAIN] [--recipient-domain DOMAIN] [--state STATE] " \
    "[--reason TEXT]"
#define WHICH "[--dry-run] ID ... | all | FILTERS as in list"

const struct ctl_verb queue_verbs[] = {{"queue", "list", "[--json | --mailq] " FILTERS,
                                           "List the messages that wait.", queue_list_verb},
    {"queue", "summary", "[--json] [--sender] [--all]",
        "Count them by state and age, for each domain of recipients or senders.", summary},
    {"queue", "show", "[--json] [--headers | --body] ID",
        "Show one: envelope, recipients and history, or the message.", queue_show_verb},
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
    {"queue", "export", "ID ... | all | FILTERS as in list  DIR",
        "Copy messages to DIR/ID.eml and DIR/ID.envelope.", queue_export},
    {"queue", "import", "FILE.eml ENVELOPE", "Put such a message into the queue.", queue_import},
    {"queue", "verify", "[--json]", "Read the whole spool and tell what is damaged.", queue_verify},
    {0}};
