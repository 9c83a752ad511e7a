/* mailbox expire, compact, housekeep, undelete: what time does to mailboxes. */
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "ctl/json.h"
#include "ctl/people.h"
#include "libstore/chores.h"
#include "libstore/deleted.h"

enum { IOPRIO_IDLE = 3 << 13 };

/* Others go first: the work of nobody who waits. */
static void step_back(void)
{
    (void)!nice(19);
    syscall(SYS_ioprio_set, 1, 0, IOPRIO_IDLE);
}

struct reporter {
    const char *name;
    bool json, force, dry;
};

/* With --json each folder is an object, one a line. */
static void print_json(const struct reporter *r, const struct chore_done *done)
{
    struct buf out;
    struct json json = {.out = &out};
    buf_init(&out, 65536);
    json_begin(&json, NULL, '{');
    json_str(&json, "user", slice_of(r->name));
    json_str(&json, "folder", done->folder);
    json_int(&json, "expired", (int64_t)done->expired);
    json_int(&json, "purged", (int64_t)done->purged);
    json_bool(&json, "compacted", done->compacted);
    json_end(&json, '}');
    printf("%.*s\n", SLICE_FMT(buf_slice(&out)));
    buf_clear(&out);
}

static void print_done(void *arg, const struct chore_done *done)
{
    const struct reporter *r = arg;
    const char *name = r->name;
    if (r->json) {
        if (done->expired || done->purged || done->compacted)
            print_json(r, done);
        return;
    }
    if (r->force) {
        if (done->compacted)
            printf("%s: %.*s: compacted\n", name, SLICE_FMT(done->folder));
        return;
    }
    if (done->expired)
        printf("%s: %.*s: %llu messages %s\n", name, SLICE_FMT(done->folder),
            (unsigned long long)done->expired, r->dry ? "would expire" : "expired");
    if (done->purged)
        printf("%s: %llu deleted messages %s\n", name, (unsigned long long)done->purged,
            r->dry ? "would be purged" : "purged");
}

struct task {
    struct chores chores;
    bool json;
};

/* A people_fn. */
static int do_chores(struct store *s, const char *name, int fd, void *arg)
{
    const struct task *task = arg;
    struct chores ch = task->chores;
    struct reporter reporter = {.name = name, .json = task->json, .force = ch.force, .dry = ch.dry};
    struct error err = {0};
    (void)fd;
    step_back();
    ch.report = print_done;
    ch.arg = &reporter;
    return store_chores(s, name, &ch, &err) ? ctl_report(&err) : CTL_OK;
}

static int chores(struct ctl *c, int argc, char **argv, struct chores ch)
{
    struct people who;
    struct error err = {0};
    bool all = ctl_flag(&argc, argv, "--all");
    ch.dry = ctl_flag(&argc, argv, "--dry-run");
    ch.conf = ctl_conf(c);
    if (argc > 1 || (argc == 1) == all)
        return ctl_usage(c);
    if (!ch.conf)
        return CTL_NO;
    ch.now = time(NULL);
    if (people_find(c, all ? NULL : argv[0], &who, &err))
        return ctl_report(&err);
    struct task task = {.chores = ch, .json = c->json};
    int status = people_each(c, &who, do_chores, &task);
    people_clear(&who);
    return status;
}

static int expire(struct ctl *c, int argc, char **argv)
{
    return chores(c, argc, argv, (struct chores){.expire = true});
}

static int compact(struct ctl *c, int argc, char **argv)
{
    return chores(c, argc, argv, (struct chores){.compact = true, .force = true});
}

static int housekeep(struct ctl *c, int argc, char **argv)
{
    return chores(c, argc, argv, (struct chores){.expire = true, .compact = true, .purge = true});
}

/* --- undelete --------------------------------------------------------------------------------- */

struct undelete {
    struct store *store;
    const char *folder; /* NULL: all */
    int64_t since;
    bool list, json;
    uint64_t messages;
};

/* 90m, 3h, 2d: so long ago; or 2026-11-20 and 2026-11-20T14:00:00, UTC. */
static int parse_since(const char *text, int64_t *out)
{
    static const struct {
        char unit;
        int64_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}};
    struct slice s = slice_of(text);
    struct tm tm = {0};
    uint64_t n;
    for (size_t i = 0; s.n && i < ARRAY_LEN(units); i++)
        if (s.p[s.n - 1] == units[i].unit &&
            slice_u64(slice_first(s, s.n - 1), 0, UINT32_MAX, &n) == OK) {
            *out = time(NULL) - (int64_t)n * units[i].seconds;
            return OK;
        }
    const char *end = strptime(text, "%Y-%m-%d", &tm);
    if (end && *end)
        end = strptime(end, "T%H:%M:%S", &tm);
    *out = (int64_t)timegm(&tm);
    return end && (!*end || strcmp(end, "Z") == 0) ? OK : ERR_SYNTAX;
}

static void print_deleted(const struct deleted *d, bool as_json)
{
    struct buf out;
    struct json json = {.out = &out};
    char when[32], date[32], guid[2 * STORE_GUID + 1];
    struct tm tm;
    time_t at = (time_t)d->time, received = (time_t)d->date;
    strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&at, &tm));
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&received, &tm));
    for (size_t i = 0; i < STORE_GUID; i++)
        snprintf(guid + 2 * i, 3, "%02x", d->guid[i]);
    if (!as_json) {
        printf("%s folder=%s date=%s size=%llu guid=%s\n", when, d->folder, date,
            (unsigned long long)d->size, guid);
        return;
    }
    buf_init(&out, 65536);
    json_begin(&json, NULL, '{');
    json_str(&json, "time", slice_of(when));
    json_str(&json, "folder", slice_of(d->folder));
    json_str(&json, "date", slice_of(date));
    json_int(&json, "size", (int64_t)d->size);
    json_str(&json, "guid", slice_of(guid));
    json_end(&json, '}');
    printf("%.*s\n", SLICE_FMT(buf_slice(&out)));
    buf_clear(&out);
}

static int undelete_one(void *arg, const struct deleted *d, struct error *err)
{
    struct undelete *u = arg;
    struct store_appended done;
    if (d->time < u->since ||
        (u->folder && strcmp(u->folder, d->folder) != 0 &&
            !(strcasecmp(u->folder, "INBOX") == 0 && strcmp(d->folder, "INBOX") == 0)))
        return OK;
    u->messages++;
    if (u->list) {
        print_deleted(d, u->json);
        return OK;
    }
    return store_undelete(u->store, d, &done, err);
}

static int undelete(struct ctl *c, int argc, char **argv)
{
    struct error err = {0};
    struct undelete u = {.folder = ctl_option(&argc, argv, "--folder"), .json = c->json};
    const char *since = ctl_option(&argc, argv, "--since");
    u.list = ctl_flag(&argc, argv, "--list");
    if (argc != 1)
        return ctl_usage(c);
    if (since && parse_since(since, &u.since))
        return ctl_fail(
            CTL_USAGE, "--since %s: a time such as 2d, 3h or 2026-11-20 is needed", since);
    if (mailuser_open(c, argv[0], false, NULL, &u.store, &err))
        return ctl_report(&err);
    int rc = store_deleted_each(u.store, undelete_one, &u, &err);
    store_close(u.store);
    if (rc)
        return ctl_report(&err);
    if (!u.list)
        printf(c->json ? "{\"messages\":%llu}\n" : "%llu messages brought back\n",
            (unsigned long long)u.messages);
    return CTL_OK;
}

const struct ctl_verb housekeep_verbs[] = {
    {"mailbox", "expire", "(USER | DOMAIN | --all) [--dry-run]",
        "expunges what the expire rules of the configuration say", expire},
    {"mailbox", "compact", "(USER | DOMAIN | --all)",
        "writes indexes anew, and removes what died processes left", compact},
    {"mailbox", "housekeep", "(USER | DOMAIN | --all) [--dry-run]",
        "expires, compacts where it is worth it, purges deleted mail, now", housekeep},
    {"mailbox", "undelete", "USER [--folder F] [--since TIME] [--list]",
        "brings expunged mail back that keep-deleted keeps; TIME is 2d, 3h, 2026-11-20", undelete},
    {NULL}};
