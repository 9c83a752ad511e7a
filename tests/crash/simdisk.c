#include "tests/crash/simdisk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SECTOR = 512, NAMES = 4096, FDS = 256, PATH = 96 };

struct bytes {
    char *p;
    size_t n;
};

struct inode {
    struct bytes now, durable;
    struct bytes before; /* of each sector: what was durable before the last sync changed it */
    int64_t mtime, durable_mtime;
    bool dirty;         /* now may differ from durable */
    uint64_t synced;    /* when a sync last changed it, */
    size_t first, last; /* and these sectors, as offsets */
    char path[PATH];    /* the first name, for simdisk_lie */
};

struct name {
    char path[PATH]; /* "dir/name" */
    struct inode *inode;
};

struct names {
    struct name list[NAMES];
    size_t n;
};

enum change_kind { CHANGE_ADD, CHANGE_DROP, CHANGE_RENAME };

struct change {
    enum change_kind kind;
    char path[PATH], to[PATH];
    struct inode *inode;
};

struct simdisk {
    struct disk disk;
    uint64_t state, crash_at;
    _Atomic uint64_t operations; /* a thread beside the loop may read, too */
    bool crashed;
    unsigned fail_one_in;
    int fail_error;
    const char *lie, *late;
    bool owed; /* the late sync */
    uint64_t lost_at;
    size_t lost_size;
    struct names now, durable;
    struct change *changes; /* of all directories, in order */
    size_t nchanges, cap;
    struct inode **inodes;
    size_t ninodes;
    struct inode *fds[FDS];
    bool writable[FDS];
};

static struct simdisk *sim_of(struct disk *d)
{
    return CONTAINER_OF(d, struct simdisk, disk);
}

/* SplitMix64. */
uint64_t simdisk_random(struct simdisk *s)
{
    uint64_t z = s->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* Counts an operation; what it fails with, or 0. */
static int step(struct simdisk *s)
{
    uint64_t operation = ++s->operations;
    if (s->crash_at && operation >= s->crash_at)
        s->crashed = true;
    if (s->crashed)
        return -EIO;
    if (s->fail_one_in && simdisk_random(s) % s->fail_one_in == 0)
        return -s->fail_error;
    return 0;
}

static struct name *find_name(struct names *names, const char *path)
{
    for (size_t i = 0; i < names->n; i++)
        if (strcmp(names->list[i].path, path) == 0)
            return &names->list[i];
    return NULL;
}

static void copy_names(struct names *to, const struct names *from)
{
    to->n = from->n;
    memcpy(to->list, from->list, from->n * sizeof(*from->list));
}

static void put_name(struct names *names, const char *path, struct inode *inode)
{
    struct name *n = find_name(names, path);
    if (!n) {
        assert(names->n < NAMES);
        n = &names->list[names->n++];
        snprintf(n->path, sizeof(n->path), "%s", path);
    }
    n->inode = inode;
}

static void drop_name(struct names *names, const char *path)
{
    struct name *n = find_name(names, path);
    if (n)
        *n = names->list[--names->n];
}

static void apply(struct names *names, const struct change *c)
{
    if (c->kind == CHANGE_ADD) {
        put_name(names, c->path, c->inode);
    } else if (c->kind == CHANGE_DROP) {
        drop_name(names, c->path);
    } else {
        drop_name(names, c->path);
        put_name(names, c->to, c->inode);
    }
}

static void change(
    struct simdisk *s, enum change_kind kind, const char *path, const char *to, struct inode *inode)
{
    if (s->nchanges == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 64;
        s->changes = xrealloc(s->changes, s->cap, sizeof(*s->changes));
    }
    struct change *c = &s->changes[s->nchanges++];
    *c = (struct change){.kind = kind, .inode = inode};
    snprintf(c->path, sizeof(c->path), "%s", path);
    snprintf(c->to, sizeof(c->to), "%s", to);
    apply(&s->now, c);
}

static void resize(struct bytes *b, size_t n)
{
    b->p = xrealloc(b->p, n + 1, 1);
    if (n > b->n)
        memset(b->p + b->n, 0, n - b->n);
    b->n = n;
}

static void copy_bytes(struct bytes *to, const struct bytes *from)
{
    resize(to, from->n);
    if (from->n)
        memcpy(to->p, from->p, from->n);
}

static int new_fd(struct simdisk *s, struct inode *inode, bool writable)
{
    for (int i = 0; i < FDS; i++)
        if (!s->fds[i]) {
            s->fds[i] = inode;
            s->writable[i] = writable;
            return i;
        }
    return -EMFILE;
}

static int sim_open(struct disk *d, const char *path, enum disk_open how)
{
    struct simdisk *s = sim_of(d);
    int rc = step(s);
    if (rc)
        return rc;
    struct name *n = find_name(&s->now, path);
    if (how == DISK_CREATE && n)
        return -EEXIST;
    if (how != DISK_CREATE && !n)
        return -ENOENT;
    if (how != DISK_CREATE)
        return new_fd(s, n->inode, how != DISK_READ);
    struct inode *inode = NEW(struct inode);
    snprintf(inode->path, sizeof(inode->path), "%s", path);
    s->inodes = xrealloc(s->inodes, s->ninodes + 1, sizeof(struct inode *));
    s->inodes[s->ninodes++] = inode;
    change(s, CHANGE_ADD, path, "", inode);
    return new_fd(s, inode, true);
}

static void sim_close(struct disk *d, int fd)
{
    sim_of(d)->fds[fd] = NULL;
}

static ssize_t sim_read(struct disk *d, int fd, void *to, size_t n, int64_t offset)
{
    struct simdisk *s = sim_of(d);
    int rc = step(s);
    if (rc)
        return rc;
    struct bytes *b = &s->fds[fd]->now;
    if ((size_t)offset >= b->n)
        return 0;
    n = MIN(n, b->n - (size_t)offset);
    memcpy(to, b->p + offset, n);
    return (ssize_t)n;
}

static bool lies_about(const struct simdisk *s, const char *path)
{
    return s->lie && strncmp(path, s->lie, strlen(s->lie)) == 0;
}

/* A failing write may have written its first part; of a file that is written in place whole sectors,
 * since the kernel fails between pages and the disk between sectors. */
static size_t written_of(const struct inode *inode, size_t offset, size_t len)
{
    size_t end = (offset + len) / SECTOR * SECTOR;
    if (strncmp(inode->path, "log/", 4) != 0)
        return len;
    return end > offset ? end - offset : 0;
}

static int sim_write(struct disk *d, int fd, const struct iovec *iov, int n, int64_t offset)
{
    struct simdisk *s = sim_of(d);
    struct bytes *b = &s->fds[fd]->now;
    int rc = step(s);
    assert(s->writable[fd]);
    s->fds[fd]->dirty = true;
    if (s->lie && offset > 0 && (uint64_t)offset == s->lost_at && iov[0].iov_len == s->lost_size &&
        lies_about(s, s->fds[fd]->path))
        return rc;
    for (int i = 0; i < n; i++) {
        size_t len = iov[i].iov_len;
        if (rc)
            len = written_of(s->fds[fd], (size_t)offset, simdisk_random(s) % (len + 1));
        if ((size_t)offset + len > b->n)
            resize(b, (size_t)offset + len);
        if (len)
            memcpy(b->p + offset, iov[i].iov_base, len);
        offset += (int64_t)len;
        if (rc)
            return rc;
    }
    return 0;
}

static int sim_allocate(struct disk *d, int fd, int64_t size)
{
    struct simdisk *s = sim_of(d);
    int rc = step(s);
    s->fds[fd]->dirty = true;
    if (rc == 0 && (size_t)size > s->fds[fd]->now.n)
        resize(&s->fds[fd]->now, (size_t)size);
    return rc;
}

static int sim_truncate(struct disk *d, int fd, int64_t size)
{
    struct simdisk *s = sim_of(d);
    int rc = step(s);
    s->fds[fd]->dirty = true;
    if (rc == 0 && !(s->lie && strcmp(s->lie, "truncate") == 0))
        resize(&s->fds[fd]->now, (size_t)size);
    return rc;
}

/* Written and synced: everything is durable. */
static void settle_inode(struct simdisk *s, struct inode *inode)
{
    resize(&inode->durable, inode->now.n);
    resize(&inode->before, inode->now.n);
    for (size_t at = 0; at < inode->now.n; at += SECTOR) {
        size_t n = MIN((size_t)SECTOR, inode->now.n - at);
        if (memcmp(inode->durable.p + at, inode->now.p + at, n) != 0) {
            memcpy(inode->before.p + at, inode->durable.p + at, n);
            memcpy(inode->durable.p + at, inode->now.p + at, n);
            inode->first = inode->synced == s->operations ? inode->first : at;
            inode->last = at;
            inode->synced = s->operations;
        }
    }
    inode->durable_mtime = inode->mtime;
    inode->dirty = false;
}

static bool in_directory(const char *path, const char *dir)
{
    size_t n = strlen(dir);
    if (strcmp(dir, ".") == 0)
        return !strchr(path, '/');
    return strncmp(path, dir, n) == 0 && path[n] == '/';
}

static void settle_names(struct simdisk *s, const char *dir)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->nchanges; i++) {
        if (in_directory(s->changes[i].path, dir))
            apply(&s->durable, &s->changes[i]);
        else
            s->changes[kept++] = s->changes[i];
    }
    s->nchanges = kept;
}

/* What the late sync should have done before is done behind another one. */
static void pay(struct simdisk *s)
{
    bool names = s->late && strncmp(s->late, "dir:", 4) == 0;
    if (s->owed && names)
        settle_names(s, s->late + 4);
    for (size_t i = 0; s->owed && !names && i < s->ninodes; i++)
        if (strncmp(s->inodes[i]->path, s->late, strlen(s->late)) == 0)
            settle_inode(s, s->inodes[i]);
    s->owed = false;
}

static bool is_late(struct simdisk *s, const char *path)
{
    bool late = s->late && strncmp(path, s->late, strlen(s->late)) == 0;
    s->owed |= late;
    return late;
}

/* What was not synced may reach this disk at any time anyway. */
static void sim_begin_sync(struct disk *d, int fd)
{
    (void)d;
    (void)fd;
}

static int sim_sync(struct disk *d, int fd)
{
    struct simdisk *s = sim_of(d);
    struct inode *inode = s->fds[fd];
    int rc = step(s);
    if (rc || (!s->lost_at && lies_about(s, inode->path)) || is_late(s, inode->path))
        return rc;
    settle_inode(s, inode);
    pay(s);
    return 0;
}

static int sim_sync_dir(struct disk *d, const char *path)
{
    struct simdisk *s = sim_of(d);
    char as_lie[PATH];
    snprintf(as_lie, sizeof(as_lie), "dir:%s", path);
    int rc = step(s);
    if (rc || (s->lie && strcmp(as_lie, s->lie) == 0) || is_late(s, as_lie))
        return rc;
    settle_names(s, path);
    pay(s);
    return 0;
}

static int sim_sync_all(struct disk *d)
{
    struct simdisk *s = sim_of(d);
    int rc = step(s);
    if (rc || (s->lie && strcmp(s->lie, "all") == 0))
        return rc;
    for (size_t i = 0; i < s->ninodes; i++)
        if (s->inodes[i]->dirty)
            settle_inode(s, s->inodes[i]);
    for (size_t i = 0; i < s->nchanges; i++)
        apply(&s->durable, &s->changes[i]);
    s->nchanges = 0;
    return 0;
}

static int sim_rename(struct disk *d, const char *from, const char *to)
{
    struct simdisk *s = sim_of(d);
    int rc = step(s);
    struct name *n = find_name(&s->now, from);
    if (rc == 0 && !n)
        rc = -ENOENT;
    if (rc == 0)
        change(s, CHANGE_RENAME, from, to, n->inode);
    return rc;
}

static int sim_link(struct disk *d, const char *from, const char *to)
{
    struct simdisk *s = sim_of(d);
    int rc = step(s);
    struct name *n = find_name(&s->now, from);
    if (rc == 0 && !n)
        rc = -ENOENT;
    if (rc == 0 && find_name(&s->now, to))
        rc = -EEXIST;
    if (rc == 0)
        change(s, CHANGE_ADD, to, "", n->inode);
    return rc;
}

static int sim_unlink(struct disk *d, const char *path)
{
    struct simdisk *s = sim_of(d);
    int rc = step(s);
    if (rc == 0 && !find_name(&s->now, path))
        rc = -ENOENT;
    if (rc == 0)
        change(s, CHANGE_DROP, path, "", NULL);
    return rc;
}

static int sim_make_dir(struct disk *d, const char *path)
{
    (void)path;
    return step(sim_of(d));
}

static int sim_list(struct disk *d, const char *path, disk_name_fn *fn, void *arg)
{
    struct simdisk *s = sim_of(d);
    int rc = step(s);
    if (rc)
        return rc;
    /* A copy: fn may change the directory. */
    struct names *copy = malloc(sizeof(*copy));
    assert(copy);
    copy_names(copy, &s->now);
    for (size_t i = 0; i < copy->n; i++)
        if (in_directory(copy->list[i].path, path))
            fn(copy->list[i].path + strlen(path) + 1, arg);
    free(copy);
    return 0;
}

static int sim_stat(struct disk *d, const char *path, struct disk_stat *st)
{
    struct simdisk *s = sim_of(d);
    int rc = step(s);
    struct name *n = find_name(&s->now, path);
    if (rc == 0 && !n)
        rc = -ENOENT;
    if (rc == 0)
        *st = (struct disk_stat){.size = (int64_t)n->inode->now.n,
            .mtime_ms = n->inode->mtime,
            .fresh = n->inode->dirty};
    return rc;
}

static int sim_set_mtime(struct disk *d, int fd, int64_t ms)
{
    struct simdisk *s = sim_of(d);
    int rc = step(s);
    s->fds[fd]->dirty = true;
    if (rc == 0)
        s->fds[fd]->mtime = ms;
    return rc;
}

static int sim_no_writer(struct disk *d, int fd)
{
    struct simdisk *s = sim_of(d);
    int rc = step(s);
    for (int i = 0; rc == 0 && i < FDS; i++)
        if (s->fds[i] == s->fds[fd] && s->writable[i] && i != fd)
            rc = -EAGAIN;
    return rc;
}

static const struct disk_ops sim_ops = {
    .open = sim_open,
    .close = sim_close,
    .read = sim_read,
    .write = sim_write,
    .allocate = sim_allocate,
    .truncate = sim_truncate,
    .begin_sync = sim_begin_sync,
    .sync = sim_sync,
    .sync_dir = sim_sync_dir,
    .sync_all = sim_sync_all,
    .rename = sim_rename,
    .link = sim_link,
    .unlink = sim_unlink,
    .make_dir = sim_make_dir,
    .list = sim_list,
    .stat = sim_stat,
    .set_mtime = sim_set_mtime,
    .no_writer = sim_no_writer,
};

const struct disk_ops *simdisk_ops(void)
{
    return &sim_ops;
}

struct simdisk *simdisk_new(uint64_t seed)
{
    struct simdisk *s = NEW(struct simdisk);
    s->disk.ops = &sim_ops;
    s->state = seed;
    return s;
}

void simdisk_free(struct simdisk *s)
{
    for (size_t i = 0; i < s->ninodes; i++) {
        free(s->inodes[i]->now.p);
        free(s->inodes[i]->durable.p);
        free(s->inodes[i]->before.p);
        free(s->inodes[i]);
    }
    free(s->inodes);
    free(s->changes);
    free(s);
}

struct disk *simdisk_disk(struct simdisk *s)
{
    return &s->disk;
}

void simdisk_crash_after(struct simdisk *s, uint64_t operations)
{
    s->crash_at = operations ? s->operations + operations : 0;
}

bool simdisk_crashed(const struct simdisk *s)
{
    return s->crashed;
}

uint64_t simdisk_operations(const struct simdisk *s)
{
    return s->operations;
}

void simdisk_process_on(struct simdisk *s)
{
    s->crashed = false;
    s->crash_at = 0;
    memset(s->fds, 0, sizeof(s->fds));
}

/* Each sector is old or new; so is the length. */
static void tear(struct simdisk *s, struct inode *inode)
{
    size_t most = MAX(inode->now.n, inode->durable.n);
    size_t length = simdisk_random(s) % 2 ? inode->now.n : inode->durable.n;
    struct bytes result = {NULL, 0};
    resize(&result, most);
    unsigned mood = (unsigned)(simdisk_random(s) % 3); /* all old, all new, mixed */
    for (size_t at = 0; at < most; at += SECTOR) {
        bool fresh = mood == 2 ? simdisk_random(s) % 2 : mood;
        const struct bytes *from = fresh ? &inode->now : &inode->durable;
        size_t n = MIN((size_t)SECTOR, most - at);
        if (at < from->n)
            memcpy(result.p + at, from->p + at, MIN(n, from->n - at));
    }
    resize(&result, length);
    copy_bytes(&inode->now, &result);
    copy_bytes(&inode->durable, &result);
    free(result.p);
    inode->mtime = simdisk_random(s) % 2 ? inode->mtime : inode->durable_mtime;
    inode->durable_mtime = inode->mtime;
}

/* Of each directory's changes the first few happened. */
static void replay_names(struct simdisk *s)
{
    static const char *const dirs[] = {".", "log", "big", "parked", "corrupt"};
    for (size_t d = 0; d < ARRAY_LEN(dirs); d++) {
        size_t of_dir = 0;
        for (size_t i = 0; i < s->nchanges; i++)
            of_dir += in_directory(s->changes[i].path, dirs[d]);
        size_t keep = simdisk_random(s) % (of_dir + 1);
        for (size_t i = 0; i < s->nchanges && keep > 0; i++)
            if (in_directory(s->changes[i].path, dirs[d])) {
                apply(&s->durable, &s->changes[i]);
                keep--;
            }
    }
    s->nchanges = 0;
    copy_names(&s->now, &s->durable);
}

void simdisk_power_on(struct simdisk *s)
{
    simdisk_process_on(s);
    for (size_t i = 0; i < s->ninodes; i++) {
        if (s->inodes[i]->dirty)
            tear(s, s->inodes[i]);
        s->inodes[i]->dirty = false;
    }
    replay_names(s);
}

void simdisk_fail(struct simdisk *s, unsigned one_in, int error)
{
    s->fail_one_in = one_in;
    s->fail_error = error;
}

void simdisk_lie(struct simdisk *s, const char *path)
{
    s->lie = path;
}

void simdisk_late(struct simdisk *s, const char *path)
{
    s->late = path;
}

void simdisk_lose_writes(struct simdisk *s, const char *path, uint64_t offset, size_t size)
{
    s->lie = path;
    s->lost_at = offset;
    s->lost_size = size;
}

bool simdisk_flip(struct simdisk *s, const char *path, uint64_t offset)
{
    struct name *n = find_name(&s->now, path);
    if (!n || n->inode->now.n == 0)
        return false;
    offset %= n->inode->now.n;
    n->inode->now.p[offset] = (char)(n->inode->now.p[offset] ^ 1);
    copy_bytes(&n->inode->durable, &n->inode->now);
    return true;
}

/* True when the disk has another sector there than before the last sync of it. */
static bool has_changed(const struct inode *inode, size_t at)
{
    return at + SECTOR <= inode->before.n && at + SECTOR <= inode->durable.n &&
           memcmp(inode->before.p + at, inode->durable.p + at, SECTOR) != 0;
}

const char *simdisk_lose_sector(struct simdisk *s, const char *dir, uint64_t random)
{
    size_t sectors = 0;
    for (int pass = 0; pass < 2; pass++) {
        uint64_t which = sectors ? random % sectors : 0, seen = 0;
        for (size_t i = 0; i < s->now.n; i++) {
            struct inode *inode = s->now.list[i].inode;
            for (size_t at = 0; in_directory(s->now.list[i].path, dir) && at < inode->now.n;
                 at += SECTOR) {
                if (!has_changed(inode, at) || (pass == 0 && ++sectors) || seen++ != which)
                    continue;
                memcpy(inode->now.p + at, inode->before.p + at, SECTOR);
                memcpy(inode->durable.p + at, inode->before.p + at, SECTOR);
                return s->now.list[i].path;
            }
        }
    }
    return NULL;
}

const char *simdisk_flip_newest(struct simdisk *s, const char *dir, uint64_t random)
{
    const struct name *newest = NULL;
    for (size_t i = 0; i < s->now.n; i++)
        if (in_directory(s->now.list[i].path, dir) &&
            (!newest || s->now.list[i].inode->synced > newest->inode->synced))
            newest = &s->now.list[i];
    if (!newest || newest->inode->synced == 0)
        return NULL;
    const struct inode *inode = newest->inode;
    uint64_t offset = inode->first + random % (inode->last + SECTOR - inode->first);
    return simdisk_flip(s, newest->path, offset) ? newest->path : NULL;
}

const char *simdisk_flip_any(struct simdisk *s, bool log, uint64_t random)
{
    if (s->now.n == 0)
        return NULL;
    const struct name *n = &s->now.list[random % s->now.n];
    bool may = strchr(n->path, '/') && (log || !in_directory(n->path, "log"));
    return may && simdisk_flip(s, n->path, random / s->now.n) ? n->path : NULL;
}
