#include "delivery/virtual/stores.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libutil/spread.h"

void stores_init(struct stores *s, int root,
    void (*changed)(void *, struct slice, struct slice, uint64_t), void *arg)
{
    struct rlimit files = {0};
    *s = (struct stores){.root = root, .changed = changed, .arg = arg, .max = 1};
    if (getrlimit(RLIMIT_NOFILE, &files) == 0)
        s->max = (size_t)MAX(1, MIN(files.rlim_cur / STORES_FILES, (rlim_t)STORES_KEPT));
}

static void release(struct stores *s, size_t i)
{
    if (s->kept[i])
        store_close(s->kept[i]->store);
    free(s->kept[i]);
    s->kept[i] = NULL;
    s->keys[i].hash = 0;
}

void stores_clear(struct stores *s)
{
    for (size_t i = 0; i < s->max; i++)
        release(s, i);
    while (s->ndirty)
        fd_close(&s->dirty[--s->ndirty].fd);
}

static void on_change(void *arg, struct slice folder, uint64_t sequence)
{
    struct stores_entry *e = arg;
    e->all->changed(e->all->arg, slice_of(e->path), folder, sequence);
}

static uint64_t hash_of(struct slice path)
{
    return slice_hash(path) | 1;
}

/* The entry of this path, else a free one, else the one not used for longest. */
static size_t choose(struct stores *s, struct slice path)
{
    uint64_t hash = hash_of(path);
    size_t best = 0;
    for (size_t i = 0; i < s->max; i++) {
        if (s->keys[i].hash == hash && slice_is(path, s->kept[i]->path))
            return i;
        bool free = s->keys[i].hash == 0, best_free = s->keys[best].hash == 0;
        if (free ? !best_free : !best_free && s->keys[i].used < s->keys[best].used)
            best = i;
    }
    release(s, best);
    return best;
}

static bool is_dirty(const struct stores *s, dev_t device)
{
    for (size_t i = 0; i < s->ndirty; i++)
        if (s->dirty[i].device == device)
            return true;
    return false;
}

/* More file systems than there is room for: those so far are synced here and now. */
static int sync_now(struct stores *s, struct error *err)
{
    while (s->ndirty) {
        int rc = store_sync(s->dirty[s->ndirty - 1].fd, err);
        if (rc)
            return rc;
        fd_close(&s->dirty[--s->ndirty].fd);
    }
    return OK;
}

static int note_dirty(struct stores *s, const struct stores_entry *e, struct error *err)
{
    if (is_dirty(s, e->device))
        return OK;
    int rc = s->ndirty == STORES_FILE_SYSTEMS ? sync_now(s, err) : OK;
    if (rc)
        return rc;
    int fd = fcntl(store_dirfd(e->store), F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return error_sys(err, "mail directory");
    s->dirty[s->ndirty].device = e->device;
    s->dirty[s->ndirty++].fd = fd;
    return OK;
}

/* The directories above a new mail directory. What goes wrong here shows in store_open. */
static void make_parents(int root, struct slice path)
{
    int dir = fcntl(root, F_DUPFD_CLOEXEC, 0);
    while (dir >= 0 && slice_chr(path, '/') >= 0) {
        char name[256];
        int next = -1;
        struct slice part = slice_cut(&path, '/');
        bool good = part.n && !slice_is(part, ".") && !slice_is(part, "..") &&
                    slice_to_cstr(part, name, sizeof(name));
        if (good && mkdirat(dir, name, 0700) == 0) {
            next = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            dir_spread(next);
        } else if (good && errno == EEXIST) {
            next = openat(dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        }
        fd_close(&dir);
        dir = next;
    }
    fd_close(&dir);
}

static int open_entry(
    struct stores *s, size_t i, struct slice path, bool coexist, int64_t now, struct error *err)
{
    struct stores_entry *e = NEW(struct stores_entry);
    struct store_options opt = {
        .coexist = coexist, .create = true, .gather = true, .changed = on_change, .arg = e};
    struct stat st = {0};
    *e = (struct stores_entry){.all = s, .checked = now, .coexist = coexist};
    s->kept[i] = e;
    if (path.n == 0 || slice_is(path, ".") || !slice_to_cstr(path, e->path, sizeof(e->path)))
        return error_set(err, ERR_DENIED, "not a path for a mail directory");
    make_parents(s->root, path);
    int rc = store_open(s->root, e->path, &opt, &e->store, err);
    if (!rc && fstat(store_dirfd(e->store), &st))
        rc = error_sys(err, "mail directory");
    e->device = st.st_dev;
    e->inode = st.st_ino;
    return rc;
}

/* Whether its path still leads there. */
static bool in_place(const struct stores *s, struct stores_entry *e, int64_t now)
{
    struct stat st;
    if (now - e->checked < STORES_CHECK_MS)
        return true;
    e->checked = now;
    return fstatat(s->root, e->path, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_dev == e->device &&
           st.st_ino == e->inode;
}

int stores_get(struct stores *s, struct slice path, bool coexist, int64_t now, struct store **out,
    struct error *err)
{
    size_t i = choose(s, path);
    int rc = OK;
    if (s->kept[i] && (s->kept[i]->coexist != coexist || !in_place(s, s->kept[i], now)))
        release(s, i);
    if (!s->kept[i])
        rc = open_entry(s, i, path, coexist, now, err);
    if (!rc)
        rc = note_dirty(s, s->kept[i], err);
    if (rc) {
        release(s, i);
        return rc;
    }
    s->keys[i].hash = hash_of(path);
    s->keys[i].used = now;
    s->keys[i].written = true;
    *out = s->kept[i]->store;
    return OK;
}

void stores_drop(struct stores *s, struct slice path)
{
    uint64_t hash = hash_of(path);
    for (size_t i = 0; i < s->max; i++)
        if (s->keys[i].hash == hash && slice_is(path, s->kept[i]->path))
            release(s, i);
}

void stores_flush(struct stores *s)
{
    for (size_t i = 0; i < s->max; i++) {
        if (s->keys[i].hash && s->keys[i].written)
            store_flush(s->kept[i]->store);
        s->keys[i].written = false;
    }
}

bool stores_expire(struct stores *s, int64_t now)
{
    bool left = false;
    for (size_t i = 0; i < s->max; i++) {
        if (s->keys[i].hash && now - s->keys[i].used >= STORES_AGE_MS)
            release(s, i);
        left |= s->keys[i].hash != 0;
    }
    return left;
}

size_t stores_take_dirty(struct stores *s, int fds[STORES_FILE_SYSTEMS])
{
    size_t n = s->ndirty;
    for (size_t i = 0; i < n; i++)
        fds[i] = s->dirty[i].fd;
    s->ndirty = 0;
    return n;
}

void stores_give_back(struct stores *s, int *fds, size_t n, bool synced)
{
    for (size_t i = 0; i < n; i++) {
        struct stat st;
        bool again = !synced && s->ndirty < STORES_FILE_SYSTEMS && fstat(fds[i], &st) == 0 &&
                     !is_dirty(s, st.st_dev);
        if (!again) {
            fd_close(&fds[i]);
            continue;
        }
        s->dirty[s->ndirty].device = st.st_dev;
        s->dirty[s->ndirty++].fd = fds[i];
    }
}
