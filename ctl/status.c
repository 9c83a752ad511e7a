/* status: what runs. */
#include <unistd.h>

#include "ctl/ctl.h"
#include "ctl/json.h"
#include "libutil/proto/ctl.h"
#include "libutil/version.h"

enum { ROWS_MAX = 4096 };

struct rows {
    struct ctl_process *row;
    size_t n;
};

/* Answers arrive in any order: master first, then by role and number, children last. */
static int compare(const void *va, const void *vb)
{
    const struct ctl_process *a = va, *b = vb;
    if (slice_is(a->role, "master") != slice_is(b->role, "master"))
        return slice_is(a->role, "master") ? -1 : 1;
    int by_role = slice_cmp(a->role, b->role);
    if (by_role)
        return by_role;
    if (a->worker != b->worker)
        return a->worker < b->worker ? -1 : 1;
    bool child_a = slice_is(a->state, "session"), child_b = slice_is(b->state, "session");
    if (child_a != child_b)
        return child_a ? 1 : -1;
    return a->pid < b->pid ? -1 : a->pid > b->pid;
}

static struct rows unpack(struct slice processes)
{
    struct rows rows = {xcalloc(ROWS_MAX, sizeof(*rows.row)), 0};
    struct reader r = reader_of(processes);
    while (r.rest.n && rows.n < ROWS_MAX &&
           record_get(&r, &ctl_process_record, &rows.row[rows.n]) == OK)
        rows.n++;
    qsort(rows.row, rows.n, sizeof(*rows.row), compare);
    return rows;
}

static int print_json(const struct rows *rows, bool running)
{
    struct buf b;
    struct json j = {&b, false};
    buf_init(&b, 4 * 1024 * 1024);
    json_begin(&j, NULL, '{');
    json_bool(&j, "running", running);
    json_begin(&j, "processes", '[');
    for (size_t i = 0; i < rows->n; i++) {
        struct ctl_process p = rows->row[i];
        json_begin(&j, NULL, '{');
        json_str(&j, "role", p.role);
        json_int(&j, "worker", p.worker);
        json_int(&j, "pid", p.pid);
        json_int(&j, "uid", p.uid);
        json_int(&j, "uptime", p.uptime);
        json_int(&j, "restarts", p.restarts);
        json_int(&j, "sessions", p.sessions);
        json_str(&j, "state", p.state);
        if (p.what.n)
            json_str(&j, "what", p.what);
        json_end(&j, '}');
    }
    json_end(&j, ']');
    json_end(&j, '}');
    printf("%.*s\n", SLICE_FMT(buf_slice(&b)));
    buf_clear(&b);
    return running ? CTL_OK : CTL_NO;
}

static int print_table(const struct rows *rows)
{
    printf("%-14s %3s %8s %6s %9s %9s %9s  %s\n", "ROLE", "NO", "PID", "UID", "UPTIME", "RESTARTS",
        "SESSIONS", "STATE");
    for (size_t i = 0; i < rows->n; i++) {
        struct ctl_process p = rows->row[i];
        printf("%-14.*s %3u %8lld %6lld %8llds %9u %9u  %.*s%s%.*s\n", SLICE_FMT(p.role), p.worker,
            (long long)p.pid, (long long)p.uid, (long long)p.uptime, p.restarts, p.sessions,
            SLICE_FMT(p.state), p.what.n ? " " : "", SLICE_FMT(p.what));
    }
    return CTL_OK;
}

static int status(struct ctl *c, int argc, char **argv)
{
    static const struct ctl_status ask;
    struct ipc_sync s;
    struct ipc_in in;
    struct error err = {0};
    if (argc != 0)
        return (void)argv, ctl_usage(c);
    int rc = ctl_connect_master(c, &s, &err);
    if (rc == ERR_CLOSED && c->json)
        return print_json(&(struct rows){0}, false);
    if (rc == OK)
        rc = ipc_sync_call(&s, ctl_status_type, 0, &ask, -1, &in, &err);
    if (rc)
        return ctl_report(&err);
    struct rows rows = unpack(((const struct ctl_status_page *)in.msg)->processes);
    int result = c->json ? print_json(&rows, true) : print_table(&rows);
    free(rows.row);
    ipc_sync_close(&s);
    return result;
}

int ctl_version(const struct ctl *c)
{
    printf(c->json ? "{\"version\":\"%s\"}\n" : "veredus %s\n", VEREDUS_VERSION);
    return CTL_OK;
}

static int version(struct ctl *c, int argc, char **argv)
{
    return argc ? (void)argv, ctl_usage(c) : ctl_version(c);
}

const struct ctl_verb status_verbs[] = {
    {"status", NULL, "[--json]", "List every process: role, pid, uid, uptime, restarts, sessions.",
        status},
    {"version", NULL, "[--json]", "Print the release, as --version and -V do.", version}, {0}};
