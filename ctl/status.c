/* status: what runs. */
#include <unistd.h>

#include "ctl/ctl.h"
#include "ctl/json.h"
#include "libutil/proto/ctl.h"

static int print_json(struct slice processes, bool running)
{
    struct buf b;
    struct json j = {&b, false};
    struct reader r = reader_of(processes);
    struct ctl_process p;
    buf_init(&b, 4 * 1024 * 1024);
    json_begin(&j, NULL, '{');
    json_bool(&j, "running", running);
    json_begin(&j, "processes", '[');
    while (r.rest.n && record_get(&r, &ctl_process_record, &p) == OK) {
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

static int print_table(struct slice processes)
{
    struct reader r = reader_of(processes);
    struct ctl_process p;
    printf("%-14s %3s %8s %6s %9s %9s %9s  %s\n", "ROLE", "NO", "PID", "UID", "UPTIME", "RESTARTS",
        "SESSIONS", "STATE");
    while (r.rest.n && record_get(&r, &ctl_process_record, &p) == OK)
        printf("%-14.*s %3u %8lld %6lld %8llds %9u %9u  %.*s%s%.*s\n", SLICE_FMT(p.role), p.worker,
            (long long)p.pid, (long long)p.uid, (long long)p.uptime, p.restarts, p.sessions,
            SLICE_FMT(p.state), p.what.n ? " " : "", SLICE_FMT(p.what));
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
        return print_json((struct slice){NULL, 0}, false);
    if (rc == OK)
        rc = ipc_sync_call(&s, ctl_status_type, 0, &ask, -1, &in, &err);
    if (rc)
        return ctl_report(&err);
    const struct ctl_status_page *page = in.msg;
    int result = c->json ? print_json(page->processes, true) : print_table(page->processes);
    ipc_sync_close(&s);
    return result;
}

const struct ctl_verb status_verbs[] = {
    {"status", NULL, "[--json]", "List every process: role, pid, uid, uptime, restarts, sessions.",
        status},
    {0}};
