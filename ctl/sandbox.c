/* sandbox: what each process may do, as applied by the kernel, and a test of it. */
#include "ctl/ctl.h"
#include "ctl/json.h"
#include "ctl/logline.h"
#include "libutil/proto/ctl.h"

typedef int each_fn(struct ctl *, const struct ctl_process *, void *arg);

/* Calls fn for every daemon (not for master and children). */
static int each_daemon(struct ctl *c, each_fn *fn, void *arg)
{
    static const struct ctl_status ask;
    struct ipc_sync s;
    struct ipc_in in;
    struct error err = {0};
    struct ctl_process p;
    int status = CTL_OK;
    int rc = ctl_connect_master(c, &s, &err);
    if (rc == OK)
        rc = ipc_sync_call(&s, ctl_status_type, 0, &ask, -1, &in, &err);
    if (rc)
        return ctl_report(&err);
    struct reader r = reader_of(((const struct ctl_status_page *)in.msg)->processes);
    while (r.rest.n && record_get(&r, &ctl_process_record, &p) == OK) {
        int one = p.sandbox.n ? fn(c, &p, arg) : CTL_OK;
        status = one != CTL_OK ? one : status;
    }
    ipc_sync_close(&s);
    return status;
}

static int show_one(struct ctl *c, const struct ctl_process *p, void *arg)
{
    (void)c;
    struct json *j = arg;
    if (!j) {
        printf("%-14.*s pid=%lld %.*s\n", SLICE_FMT(p->role), (long long)p->pid,
            SLICE_FMT(p->sandbox));
        return CTL_OK;
    }
    json_begin(j, NULL, '{');
    json_str(j, "role", p->role);
    json_int(j, "pid", p->pid);
    json_int(j, "uid", p->uid);
    struct slice rest = p->sandbox, key;
    struct buf value;
    buf_init(&value, 1024);
    while (logline_next(&rest, &key, &value)) {
        char name[64];
        if (slice_to_cstr(key, name, sizeof(name)) && strcmp(name, "uid") != 0)
            json_str(j, name, buf_slice(&value));
    }
    buf_clear(&value);
    json_end(j, '}');
    return CTL_OK;
}

static int show(struct ctl *c, int argc, char **argv)
{
    if (argc != 0)
        return (void)argv, ctl_usage(c);
    if (!c->json)
        return each_daemon(c, show_one, NULL);
    struct buf b;
    struct json j = {&b, false};
    buf_init(&b, 1024 * 1024);
    json_begin(&j, NULL, '{');
    json_begin(&j, "processes", '[');
    int status = each_daemon(c, show_one, &j);
    json_end(&j, ']');
    json_end(&j, '}');
    if (status == CTL_OK)
        printf("%.*s\n", SLICE_FMT(buf_slice(&b)));
    buf_clear(&b);
    return status;
}

static int test_one(struct ctl *c, const struct ctl_process *p, void *arg)
{
    (void)arg;
    struct ipc_sync s;
    struct ipc_in in;
    struct error err = {0};
    struct ctl_selftest want = {.role = p->role, .worker = p->worker};
    int rc = ctl_connect_master(c, &s, &err);
    if (rc == OK)
        rc = ipc_sync_call(&s, ctl_selftest_type, 0, &want, -1, &in, &err);
    if (rc)
        return ctl_report(&err);
    const struct ctl_result *result = in.msg;
    int status = result->code == OK ? CTL_OK : CTL_NO;
    printf("%.*s.%u: %s\n", SLICE_FMT(p->role), p->worker,
        status == CTL_OK ? "as declared" : "NOT AS DECLARED");
    struct slice rest = result->text;
    while (rest.n) {
        struct slice line = slice_cut(&rest, '\n');
        printf("    %.*s\n", SLICE_FMT(line));
    }
    ipc_sync_close(&s);
    return status;
}

static int selftest(struct ctl *c, int argc, char **argv)
{
    if (argc != 0)
        return (void)argv, ctl_usage(c);
    return each_daemon(c, test_one, NULL);
}

const struct ctl_verb sandbox_verbs[] = {
    {"sandbox", "show", "[--json]", "Show what confines each process.", show},
    {"sandbox", "selftest", "",
        "Let each process try what it must not, and compare with its declaration.", selftest},
    {0}};
