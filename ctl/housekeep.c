/* mailbox expire, compact, housekeep, undelete: what time does to mailboxes. */
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "ctl/json.h"
#include "ctl/people.h"
#include "libstore/deleted.h"
#include "libstore/housekeep.h"

enum { RULES_MAX = 256, IOPRIO_IDLE = 3 << 13 };

/* What is to be done with each mailbox. */
struct chores {
    const struct conf *conf;
    bool expire, compact, purge, dry, force;
    int64_t now, keep_ms; /* keep_ms: of deleted mail */
    uint64_t purged;
};

/* Others go first: the work of nobody who waits. */
static void step_back(void)
{
    (void)!nice(19);
    syscall(SYS_ioprio_set, 1, 0, IOPRIO_IDLE);
}

static size_t rules_of(const struct conf_block *in, struct store_expire_rule *out)
{
    size_t n = 0;
    for (const struct conf_block *b = NULL; (b = conf_next(in, "expire", b));)
        for (size_t i = 0; i < conf_args(b) && n < RULES_MAX; i++)
            out[n++] = (struct store_expire_rule){conf_arg(b, i), conf_int(b, "after") / 1000};
    return n;
}

/* The rules of the user's domain; when it has none, those of all. */
static size_t rules_for(
    const struct conf *conf, const char *name, struct store_expire_rule out[RULES_MAX])
{
    const char *at = strrchr(name, '@');
    for (const struct conf_block *b = NULL; at && (b = conf_next(conf_root(conf), "domain", b));)
        for (size_t i = 0; i < conf_args(b); i++)
            if (slice_ieq(conf_arg(b, i), slice_of(at + 1)) && conf_next(b, "expire", NULL))
                return rules_of(b, out);
    return rules_of(conf_root(conf), out);
}

struct purge {
    struct chores *ch;
    struct store *store;
};

static int purge_one(void *arg, const struct deleted *d, struct error *err)
{
    struct purge *p = arg;
    if (d->time + p->ch->keep_ms / 1000 > p->ch->now)
        return OK;
    p->ch->purged++;
    return p->ch->dry ? OK : store_deleted_remove(p->store, d, err);
}

static int purge(struct chores *ch, struct store *s, const char *name, struct error *err)
{
    struct purge p = {ch, s};
    ch->purged = 0;
    int rc = store_deleted_each(s, purge_one, &p, err);
    if (!rc && ch->purged)
        printf("%s: %llu deleted messages purged\n", name, (unsigned long long)ch->purged);
    return rc;
}

static int one_folder(struct chores *ch, struct store *s, const char *name, struct slice folder,
    const struct store_expire_rule *rules, size_t n, struct error *err)
{
    int64_t age = ch->expire ? store_expire_age(rules, n, folder) : 0;
    uint64_t expired = 0;
    bool compacted = false;
    int rc = age ? store_expire(s, folder, age, ch->now, ch->dry, &expired, err) : OK;
    if (!rc && ch->compact && !ch->dry)
        rc = store_compact(s, folder, ch->force, &compacted, err);
    if (expired)
        printf("%s: %.*s: %llu messages expired\n", name, SLICE_FMT(folder),
            (unsigned long long)expired);
    if (compacted && ch->force)
        printf("%s: %.*s: compacted\n", name, SLICE_FMT(folder));
    return rc == ERR_NOT_FOUND ? OK : rc; /* deleted a moment ago */
}

/* A people_fn. */
static int do_chores(struct store *s, const char *name, int fd, void *arg)
{
    struct chores *ch = arg;
    struct store_expire_rule rules[RULES_MAX];
    struct store_folder *folders;
    struct error err = {0};
    size_t n, nrules = rules_for(ch->conf, name, rules);
    (void)fd;
    step_back();
    int rc = store_list(s, &folders, &n, &err);
    if (rc)
        return ctl_report(&err);
    for (size_t i = 0; !rc && i < n; i++)
        if (!(folders[i].attrs & STORE_NOSELECT))
            rc = one_folder(ch, s, name, folders[i].name, rules, nrules, &err);
    store_list_free(folders, n);
    if (!rc && ch->purge)
        rc = purge(ch, s, name, &err);
    return rc ? ctl_report(&err) : CTL_OK;
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
    ch.keep_ms = conf_int(conf_one(ch.conf, "mailbox"), "keep-deleted");
    if (people_find(c, all ? NULL : argv[0], &who, &err))
        return ctl_report(&err);
    int status = people_each(c, &who, do_chores, &ch);
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
    bool list;
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

static void print_deleted(const struct deleted *d)
{
    char when[32], date[32], guid[2 * STORE_GUID + 1];
    struct tm tm;
    time_t at = (time_t)d->time, received = (time_t)d->date;
    strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&at, &tm));
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&received, &tm));
    for (size_t i = 0; i < STORE_GUID; i++)
        snprintf(guid + 2 * i, 3, "%02x", d->guid[i]);
    printf("%s folder=%s date=%s size=%llu guid=%s\n", when, d->folder, date,
        (unsigned long long)d->size, guid);
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
        print_deleted(d);
        return OK;
    }
    return store_undelete(u->store, d, &done, err);
}

static int undelete(struct ctl *c, int argc, char **argv)
{
    struct error err = {0};
    struct undelete u = {.folder = ctl_option(&argc, argv, "--folder")};
    const char *since = ctl_option(&argc, argv, "--since");
    u.list = ctl_flag(&argc, argv, "--list");
    if (argc != 1 || (since && parse_since(since, &u.since)))
        return ctl_usage(c);
    if (mailuser_open(c, argv[0], false, NULL, &u.store, &err))
        return ctl_report(&err);
    int rc = store_deleted_each(u.store, undelete_one, &u, &err);
    store_close(u.store);
    if (rc)
        return ctl_report(&err);
    if (!u.list)
        printf("%llu messages brought back\n", (unsigned long long)u.messages);
    return CTL_OK;
}

const struct ctl_verb housekeep_verbs[] = {
    {"mailbox", "expire", "(USER | DOMAIN | --all) [--dry-run]",
        "expunges what the expire rules of the configuration say", expire},
    {"mailbox", "compact", "(USER | DOMAIN | --all)",
        "writes indexes anew, and removes what died processes left", compact},
    {"mailbox", "housekeep", "(USER | DOMAIN | --all) [--dry-run]",
        "expires, compacts where it is worth it, purges deleted mail: for every night", housekeep},
    {"mailbox", "undelete", "USER [--folder F] [--since TIME] [--list]",
        "brings expunged mail back that keep-deleted keeps; TIME is 2d, 3h, 2026-11-20", undelete},
    {NULL}};
