#include "delivery/virtual/stores.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

void stores_init(struct stores *s, int root,
    void (*changed)(void *, struct slice, struct slice, uint64_t), void *arg)
{
    *s = (struct stores){.root = root, .changed = changed, .arg = arg};
}

static void release(struct stores_entry *e)
{
    store_close(e->store);
    e->store = NULL;
}

void stores_clear(struct stores *s)
{
    for (size_t i = 0; i < STORES_KEPT; i++)
        release(&s->kept[i]);
    while (s->ndirty)
        fd_close(&s->dirty[--s->ndirty].fd);
}

static void on_change(void *arg, struct slice folder, uint64_t sequence)
{
    struct stores_entry *e = arg;
    e->all->changed(e->all->arg, slice_of(e->path), folder, sequence);
}

/* The entry of this path, else a free one, else the one not used for longest. */
static struct stores_entry *choose(struct stores *s, struct slice path)
{
    struct stores_entry *best = &s->kept[0];
    for (size_t i = 0; i < STORES_KEPT; i++) {
        struct stores_entry *e = &s->kept[i];
        if (e->store && slice_is(path, e->path))
            return e;
        if (!e->store ? best->store != NULL : best->store && e->used < best->used)
            best = e;
    }
    release(best);
    return best;
}

static int note_dirty(struct stores *s, struct store *store, struct error *err)
{
    struct stat st;
    if (fstat(store_dirfd(store), &st))
        return error_sys(err, "mail directory");
    for (size_t i = 0; i < s->ndirty; i++)
        if (s->dirty[i].device == st.st_dev)
            return OK;
    if (s->ndirty == STORES_FILE_SYSTEMS) {
        int rc = stores_sync(s, err);
        if (rc)
            return rc;
    }
    int fd = fcntl(store_dirfd(store), F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return error_sys(err, "mail directory");
    s->dirty[s->ndirty].device = st.st_dev;
    s->dirty[s->ndirty++].fd = fd;
    return OK;
}

static int open_entry(
    struct stores *s, struct stores_entry *e, struct slice path, struct error *err)
{
    struct store_options opt = {.create = true, .changed = on_change, .arg = e};
    if (path.n == 0 || slice_is(path, ".") || !slice_to_cstr(path, e->path, sizeof(e->path)))
        return error_set(err, ERR_DENIED, "not a path for a mail directory");
    e->all = s;
    return store_open(s->root, e->path, &opt, &e->store, err);
}

int stores_get(
    struct stores *s, struct slice path, int64_t now, struct store **out, struct error *err)
{
    struct stores_entry *e = choose(s, path);
    int rc = OK;
    if (e->store && now - e->opened > STORES_AGE_MS)
        release(e);
    if (!e->store) {
        rc = open_entry(s, e, path, err);
        e->opened = now;
    }
    if (!rc)
        rc = note_dirty(s, e->store, err);
    e->used = now;
    *out = e->store;
    return rc;
}

void stores_drop(struct stores *s, struct slice path)
{
    for (size_t i = 0; i < STORES_KEPT; i++)
        if (s->kept[i].store && slice_is(path, s->kept[i].path))
            release(&s->kept[i]);
}

int stores_sync(struct stores *s, struct error *err)
{
    while (s->ndirty) {
        int rc = store_sync(s->dirty[s->ndirty - 1].fd, err);
        if (rc)
            return rc;
        fd_close(&s->dirty[--s->ndirty].fd);
    }
    return OK;
}
