#include "libutil/conf_place.h"
#include "master/spawn.h"

enum { DRAIN_MS = 3600 * 1000, CONFIG_MAX = 4 * 1024 * 1024 };

/* Whether the role's part of the configuration differs. */
static bool part_differs(const struct conf *a, const struct conf *b, enum role role)
{
    struct buf x, y;
    buf_init(&x, CONFIG_MAX);
    buf_init(&y, CONFIG_MAX);
    conf_write(a, (int)role, &x);
    conf_write(b, (int)role, &y);
    bool differs = !slice_eq(buf_slice(&x), buf_slice(&y));
    buf_clear(&x);
    buf_clear(&y);
    return differs;
}

static void replace(struct master *m, enum role role, unsigned before, unsigned after)
{
    struct process *fresh[16];
    unsigned started = 0;
    struct process *sole = process_find(m, role, 0);
    /* The spool has one owner and never pauses; the log file has one owner at a time. All others
     * overlap with their successors, so that nothing is refused meanwhile. */
    if (role == ROLE_QMGR && sole) {
        spawn_send_config(sole);
        return;
    }
    if (role == ROLE_LOGD && sole) {
        process_yield(sole);
        return;
    }
    for (unsigned w = 0; w < before; w++) {
        struct process *old = process_find(m, role, w);
        if (old)
            process_drain(old, DRAIN_MS);
    }
    for (unsigned w = 0; w < after && w < ARRAY_LEN(fresh); w++)
        fresh[started++] = process_add(m, role, w);
    for (unsigned i = 0; i < started; i++)
        wiring_connect(fresh[i]);
    for (unsigned i = 0; i < started; i++)
        process_go(fresh[i]);
}

static bool sockets_changed(struct master *m, enum role role)
{
    LIST_EACH(it, &m->sockets)
    {
        struct listen_socket *s = LIST_ENTRY(it, struct listen_socket, link);
        if (s->role == role && (s->fresh || !s->wanted))
            return true;
    }
    return false;
}

static void apply(struct master *m, struct conf *next)
{
    bool changed[ROLE_COUNT];
    unsigned before[ROLE_COUNT], after[ROLE_COUNT];
    for (int r = 0; r < ROLE_COUNT; r++) {
        before[r] = process_count(m->conf, (enum role)r);
        after[r] = process_count(next, (enum role)r);
        changed[r] = before[r] != after[r] || part_differs(m->conf, next, (enum role)r) ||
                     sockets_changed(m, (enum role)r);
    }
    listen_commit(m);
    conf_free(m->conf);
    m->conf = next;
    for (int r = 0; r < ROLE_COUNT; r++)
        if (changed[r])
            replace(m, (enum role)r, before[r], after[r]);
}

/* What the system stands in while it runs. */
static bool moves(const struct conf *now, const struct conf *next, const char *key, struct buf *out)
{
    if (slice_eq(conf_string(conf_root(now), key), conf_string(conf_root(next), key)))
        return false;
    conf_key_where(next, conf_root(next), key, out);
    buf_puts(out, ": cannot change while the system runs\n");
    return true;
}

static const struct conf_block *domain_of(const struct conf *conf, struct slice name)
{
    for (const struct conf_block *b = NULL; (b = conf_next(conf_root(conf), "domain", b));)
        for (size_t i = 0; i < conf_args(b); i++)
            if (slice_ieq(conf_arg(b, i), name))
                return b;
    return NULL;
}

/* Sessions go on with the configuration they began with, and would take a mailbox for one of
 * another kind than those that come after them. */
static bool changes_kind(const struct conf *now, const struct conf *next, struct buf *out)
{
    for (const struct conf_block *b = NULL; (b = conf_next(conf_root(next), "domain", b));)
        for (size_t i = 0; i < conf_args(b); i++) {
            const struct conf_block *was = domain_of(now, conf_arg(b, i));
            if (!was || conf_bool(was, "coexist") == conf_bool(b, "coexist"))
                continue;
            conf_key_where(next, b, "coexist", out);
            buf_printf(
                out, ": cannot change for %.*s while the system runs\n", SLICE_FMT(conf_arg(b, i)));
            return true;
        }
    return false;
}

int reload(struct master *m, struct buf *out)
{
    struct error err = {0};
    struct conf *next = conf_load(m->conf_path, out, &err);
    if (!next) {
        if (buf_len(out) == 0)
            buf_printf(out, "%s\n", err.text);
        return err.code;
    }
    int rc = files_check(next, &err);
    if (rc)
        buf_printf(out, "%s\n", err.text);
    else
        rc = conf_check_mail_root(next, out, &err);
    if (rc) {
        conf_free(next);
        return rc;
    }
    if (moves(m->conf, next, "directory", out) || moves(m->conf, next, "spool", out) ||
        changes_kind(m->conf, next, out)) {
        conf_free(next);
        return ERR_DENIED;
    }
    size_t differences = conf_diff(m->conf, next, out);
    rc = listen_open(m, next, &err);
    if (rc) {
        buf_printf(out, "%s\n", err.text);
        conf_free(next);
        return rc;
    }
    if (differences == 0)
        buf_puts(out, "nothing has changed\n");
    log_event(&m->log, master_reload, .what = slice_of(m->conf_path));
    apply(m, next);
    return OK;
}
