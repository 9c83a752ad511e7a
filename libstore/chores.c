#include "libstore/chores.h"

#include "libstore/deleted.h"
#include "libstore/housekeep.h"

enum { RULES_MAX = 256 };

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
    const struct conf *conf, const char *user, struct store_expire_rule out[RULES_MAX])
{
    const char *at = strrchr(user, '@');
    for (const struct conf_block *b = NULL; at && (b = conf_next(conf_root(conf), "domain", b));)
        for (size_t i = 0; i < conf_args(b); i++)
            if (slice_ieq(conf_arg(b, i), slice_of(at + 1)) && conf_next(b, "expire", NULL))
                return rules_of(b, out);
    return rules_of(conf_root(conf), out);
}

struct purge {
    const struct chores *chores;
    struct store *store;
    int64_t keep; /* seconds */
    uint64_t n;
};

static int purge_one(void *arg, const struct deleted *d, struct error *err)
{
    struct purge *p = arg;
    if (d->time + p->keep > p->chores->now)
        return OK;
    p->n++;
    return p->chores->dry ? OK : store_deleted_remove(p->store, d, err);
}

static int purge(struct store *s, const struct chores *c, struct error *err)
{
    struct purge p = {c, s, conf_int(conf_one(c->conf, "mailbox"), "keep-deleted") / 1000, 0};
    int rc = store_deleted_each(s, purge_one, &p, err);
    if (p.n)
        c->report(c->arg, &(struct chore_done){.folder = SLICE_LIT(""), .purged = p.n});
    return rc;
}

static int one_folder(struct store *s, struct slice folder, const struct store_expire_rule *rules,
    size_t n, const struct chores *c, struct error *err)
{
    struct chore_done done = {.folder = folder};
    int64_t age = c->expire ? store_expire_age(rules, n, folder) : 0;
    int rc = age ? store_expire(s, folder, age, c->now, c->dry, &done.expired, err) : OK;
    if (!rc && c->compact && !c->dry)
        rc = store_compact(s, folder, c->force, &done.compacted, err);
    if (done.expired || done.compacted)
        c->report(c->arg, &done);
    return rc == ERR_NOT_FOUND ? OK : rc; /* deleted a moment ago */
}

static bool stopped(const struct chores *c)
{
    return c->stop && c->stop(c->arg);
}

int store_chores(struct store *s, const char *user, const struct chores *c, struct error *err)
{
    struct store_expire_rule rules[RULES_MAX];
    struct store_folder *folders;
    size_t n, nrules = rules_for(c->conf, user, rules);
    int rc = store_list(s, &folders, &n, err);
    if (rc)
        return rc;
    for (size_t i = 0; !rc && i < n && !stopped(c); i++)
        if (!(folders[i].attrs & STORE_NOSELECT))
            rc = one_folder(s, folders[i].name, rules, nrules, c, err);
    store_list_free(folders, n);
    return !rc && c->purge && !stopped(c) ? purge(s, c, err) : rc;
}
