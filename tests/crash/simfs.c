#include "tests/crash/simfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "libstore/fs.h"

enum {
    FDS = 256,
    FD_BASE = 100000, /* no real descriptor looks like one of ours */
    STACK = 512 * 1024,
    SECTOR = 512,
    NAME = 128,
    NOBODY = -1
};

struct range {
    size_t from, to;
};

struct inode;

struct name {
    char name[NAME];
    struct inode *inode;
};

struct names {
    struct name *list;
    size_t n, cap;
};

struct inode {
    struct inode *next; /* of all */
    bool dir;
    uint64_t number;
    char *data, *disk; /* as programs see it, and as a stop would leave it at worst */
    size_t size, cap, disk_size;
    struct range *dirty;
    size_t ndirty, cap_dirty;
    struct names names, disk_names;
    int64_t mtime;
    int links;
    int lock, flock; /* descriptor that holds it, or NOBODY */
};

/* A change of names that is not on disk yet. */
struct change {
    struct inode *from, *to;         /* directories; from NULL: a new name, to NULL: removed */
    char old_name[NAME], name[NAME]; /* in from, in to */
    struct inode *what;
    bool done;
};

struct file {
    struct inode *inode; /* NULL: free */
    size_t offset;
    int process;
};

struct fs_dir {
    struct names copy;
    size_t at;
    int fd;
};

struct process {
    ucontext_t context;
    void *stack;
    bool running;
    sim_main *main;
    void *arg;
};

static struct {
    struct sim_options opt;
    uint64_t state, operations, stop_at, numbers;
    int64_t now, boot;
    uint32_t mounts;
    struct inode *all, *root;
    struct change *changes;
    size_t nchanges, cap_changes;
    struct file files[FDS];
    struct process process[SIM_PROCESSES];
    ucontext_t back;
    int current;
    bool quiet;
} sim = {.current = NOBODY};

uint64_t sim_random(uint64_t below)
{
    sim.state += 0x9e3779b97f4a7c15u;
    uint64_t z = sim.state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (z ^ z >> 31) % below;
}

int sim_self(void)
{
    return sim.current;
}

void sim_wait_ms(uint64_t ms)
{
    sim.now += (int64_t)ms * 1000000;
}

uint64_t sim_operations(void)
{
    return sim.operations;
}

/* --- inodes and names ------------------------------------------------------------------------- */

static struct inode *new_inode(bool dir)
{
    struct inode *i = NEW(struct inode);
    *i = (struct inode){.dir = dir,
        .next = sim.all,
        .number = ++sim.numbers,
        .lock = NOBODY,
        .flock = NOBODY,
        .mtime = sim.now};
    sim.all = i;
    return i;
}

static struct name *find(const struct names *n, const char *name)
{
    for (size_t i = 0; i < n->n; i++)
        if (strcmp(n->list[i].name, name) == 0)
            return &n->list[i];
    return NULL;
}

static void set_name(struct names *n, const char *name, struct inode *what)
{
    struct name *at = find(n, name);
    if (!at) {
        if (n->n == n->cap) {
            n->cap = n->cap ? 2 * n->cap : 8;
            n->list = xrealloc(n->list, n->cap, sizeof(*n->list));
        }
        at = &n->list[n->n++];
        snprintf(at->name, NAME, "%s", name);
    }
    at->inode = what;
}

static void drop_name(struct names *n, const char *name)
{
    struct name *at = find(n, name);
    if (at)
        *at = n->list[--n->n];
}

static void copy_names(struct names *to, const struct names *from)
{
    to->n = 0;
    for (size_t i = 0; i < from->n; i++)
        set_name(to, from->list[i].name, from->list[i].inode);
}

/* A directory has another time when its names change, also when a stop of the machine takes some
 * back. */
static void touch(const struct change *c)
{
    if (c->from)
        c->from->mtime = sim.now;
    if (c->to)
        c->to->mtime = sim.now;
}

static void note_change(struct inode *from, const char *old_name, struct inode *to,
    const char *name, struct inode *what)
{
    if (sim.nchanges == sim.cap_changes) {
        sim.cap_changes = sim.cap_changes ? 2 * sim.cap_changes : 64;
        sim.changes = xrealloc(sim.changes, sim.cap_changes, sizeof(*sim.changes));
    }
    struct change *c = &sim.changes[sim.nchanges++];
    *c = (struct change){.from = from, .to = to, .what = what};
    snprintf(c->old_name, NAME, "%s", old_name);
    snprintf(c->name, NAME, "%s", name);
    touch(c);
}

/* On disk, when the change makes sense there: what has a name there is not replaced by something
 * new, for no file system makes a name before it has removed the one that stood in its place. */
static void do_change(const struct change *c)
{
    const struct name *there = c->to ? find(&c->to->disk_names, c->name) : NULL;
    if (!c->from && there && there->inode != c->what)
        return;
    if (c->from) {
        const struct name *was = find(&c->from->disk_names, c->old_name);
        if (!was || was->inode != c->what)
            return;
        drop_name(&c->from->disk_names, c->old_name);
    }
    if (c->to)
        set_name(&c->to->disk_names, c->name, c->what);
}

static void sync_names_of(const struct inode *dir)
{
    size_t last = 0;
    for (size_t i = 0; i < sim.nchanges; i++)
        if (!dir || sim.changes[i].from == dir || sim.changes[i].to == dir)
            last = i + 1;
    for (size_t i = 0; i < last; i++)
        do_change(&sim.changes[i]);
    memmove(sim.changes, sim.changes + last, (sim.nchanges - last) * sizeof(*sim.changes));
    sim.nchanges -= last;
}

/* --- content ---------------------------------------------------------------------------------- */

static void resize(struct inode *i, size_t size)
{
    if (size > i->cap) {
        i->cap = MAX(size, 2 * i->cap);
        i->data = xrealloc(i->data, i->cap, 1);
    }
    if (size > i->size)
        memset(i->data + i->size, 0, size - i->size);
    i->size = size;
}

static void note_dirty(struct inode *i, size_t from, size_t to)
{
    if (i->ndirty && i->dirty[i->ndirty - 1].to == from) {
        i->dirty[i->ndirty - 1].to = to;
        return;
    }
    if (i->ndirty == i->cap_dirty) {
        i->cap_dirty = i->cap_dirty ? 2 * i->cap_dirty : 8;
        i->dirty = xrealloc(i->dirty, i->cap_dirty, sizeof(*i->dirty));
    }
    i->dirty[i->ndirty++] = (struct range){from, to};
}

/* Part of a dirty range reaches the disk. */
static void to_disk(struct inode *i, size_t from, size_t to)
{
    to = MIN(to, i->size);
    if (from >= to)
        return;
    if (to > i->disk_size) {
        i->disk = xrealloc(i->disk, to, 1);
        memset(i->disk + i->disk_size, 0, to - i->disk_size);
        i->disk_size = to;
    }
    memcpy(i->disk + from, i->data + from, to - from);
}

static void sync_content(struct inode *i)
{
    for (size_t k = 0; k < i->ndirty; k++)
        to_disk(i, i->dirty[k].from, i->dirty[k].to);
    i->disk_size = MIN(i->disk_size, i->size);
    i->ndirty = 0;
}

/* --- processes -------------------------------------------------------------------------------- */

static void leave(void)
{
    struct process *p = &sim.process[sim.current];
    swapcontext(&p->context, &sim.back);
}

static void enter(int process)
{
    sim.current = process;
    swapcontext(&sim.back, &sim.process[process].context);
    sim.current = NOBODY;
}

/* Before every operation. False: it fails. */
static bool step(bool may_fail)
{
    sim.operations++;
    sim.now += 10000;
    if (sim.current == NOBODY || sim.quiet)
        return true;
    if (sim.operations >= sim.stop_at ||
        (sim.opt.switch_one_in && sim_random(sim.opt.switch_one_in) == 0))
        leave();
    if (may_fail && sim.opt.fault_one_in && sim_random(sim.opt.fault_one_in) == 0) {
        errno = sim_random(2) ? ENOSPC : EIO;
        return false;
    }
    return true;
}

static void body(int process)
{
    struct process *p = &sim.process[process];
    p->main(p->arg, process);
    p->running = false;
    for (;;)
        leave();
}

void sim_start(int process, sim_main *f, void *arg)
{
    struct process *p = &sim.process[process];
    if (!p->stack)
        p->stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    p->main = f;
    p->arg = arg;
    p->running = true;
    getcontext(&p->context);
    p->context.uc_stack.ss_sp = p->stack;
    p->context.uc_stack.ss_size = STACK;
    p->context.uc_link = NULL;
    makecontext(&p->context, (void (*)(void))body, 1, process);
}

bool sim_running(int process)
{
    return sim.process[process].running;
}

bool sim_run(uint64_t operations)
{
    sim.stop_at = operations ? sim.operations + operations : UINT64_MAX;
    while (sim.operations < sim.stop_at) {
        int ready[SIM_PROCESSES], n = 0;
        for (int i = 0; i < SIM_PROCESSES; i++)
            if (sim.process[i].running)
                ready[n++] = i;
        if (n == 0)
            return true;
        enter(ready[sim_random((uint64_t)n)]);
    }
    return false;
}

static void close_file(int at)
{
    struct inode *i = sim.files[at].inode;
    if (i && i->lock == at)
        i->lock = NOBODY;
    if (i && i->flock == at)
        i->flock = NOBODY;
    sim.files[at].inode = NULL;
}

void sim_kill(int process)
{
    sim.process[process].running = false;
    for (int i = 0; i < FDS; i++)
        if (sim.files[i].inode && sim.files[i].process == process)
            close_file(i);
}

static void cut_content(struct inode *i, unsigned luck)
{
    for (size_t k = 0; k < i->ndirty; k++)
        for (size_t at = i->dirty[k].from; at < i->dirty[k].to; at = (at / SECTOR + 1) * SECTOR)
            if (sim_random(100) < luck)
                to_disk(i, at, MIN((at / SECTOR + 1) * SECTOR, i->dirty[k].to));
    if (sim_random(2))
        i->disk_size = MIN(i->disk_size, i->size);
    i->ndirty = 0;
    resize(i, i->disk_size);
    if (i->disk_size)
        memcpy(i->data, i->disk, i->disk_size);
}

static void lose_cache(void)
{
    static const unsigned luck[] = {0, 30, 80, 100};
    for (int i = 0; i < SIM_PROCESSES; i++)
        sim_kill(i);
    for (int i = 0; i < FDS; i++)
        close_file(i);
    bool prefix = sim_random(2);
    size_t end = sim_random(sim.nchanges + 1);
    unsigned names = luck[sim_random(4)];
    for (size_t i = 0; i < sim.nchanges; i++)
        if (prefix ? i < end : sim_random(100) < names)
            do_change(&sim.changes[i]);
        else
            touch(&sim.changes[i]);
    sim.nchanges = 0;
    unsigned content = luck[sim_random(4)];
    for (struct inode *i = sim.all; i; i = i->next) {
        i->links = 0;
        if (i->dir)
            copy_names(&i->names, &i->disk_names);
        else
            cut_content(i, content);
    }
    for (struct inode *i = sim.all; i; i = i->next)
        for (size_t k = 0; k < i->names.n; k++)
            i->names.list[k].inode->links++;
    sim.mounts++;
}

void sim_power_cut(void)
{
    lose_cache();
    sim.now += 60000000000;
    sim.boot = sim.now / 1000000000;
}

void sim_remount(void)
{
    lose_cache();
    sim.now += 1000000000;
}

/* Half of the processes may have a mount namespace of their own. */
static uint32_t mount_here(void)
{
    bool apart = sim.opt.namespaces && sim.current != NOBODY && sim.current % 2;
    return sim.opt.blind ? 0 : 1 + 2 * sim.mounts + apart;
}

void sim_quiet(bool quiet)
{
    sim.quiet = quiet;
}

void sim_init(const struct sim_options *opt)
{
    sim_free();
    sim.opt = *opt;
    sim.state = opt->seed * 0x9e3779b97f4a7c15u + 1;
    sim.now = 1700000000000000000;
    sim.boot = 1690000000;
    sim.mounts = 0;
    sim.operations = 0;
    sim.root = new_inode(true);
    sim.root->links = 1;
}

void sim_free(void)
{
    for (int i = 0; i < SIM_PROCESSES; i++)
        sim.process[i].running = false;
    for (int i = 0; i < FDS; i++)
        sim.files[i].inode = NULL;
    while (sim.all) {
        struct inode *i = sim.all;
        sim.all = i->next;
        free(i->data);
        free(i->disk);
        free(i->dirty);
        free(i->names.list);
        free(i->disk_names.list);
        free(i);
    }
    free(sim.changes);
    sim.changes = NULL;
    sim.nchanges = sim.cap_changes = 0;
    sim.quiet = false;
    sim.current = NOBODY;
}

/* --- the operations --------------------------------------------------------------------------- */

static int failed(int code)
{
    errno = code;
    return -1;
}

static struct file *file_of(int fd)
{
    int at = fd - FD_BASE;
    return at >= 0 && at < FDS && sim.files[at].inode ? &sim.files[at] : NULL;
}

/* The directory of a path and its last part; NULL and errno. */
static struct inode *walk(int dir, const char *path, char last[NAME])
{
    struct file *f = file_of(dir);
    struct inode *at = f ? f->inode : sim.root;
    for (;;) {
        size_t n = strcspn(path, "/");
        if (n >= NAME) {
            errno = ENAMETOOLONG;
            return NULL;
        }
        memcpy(last, path, n);
        last[n] = '\0';
        path += n;
        while (*path == '/')
            path++;
        if (*path == '\0')
            return at;
        struct name *next =
            last[0] == '\0' || strcmp(last, ".") == 0 ? NULL : find(&at->names, last);
        if (last[0] != '\0' && strcmp(last, ".") != 0) {
            if (!next || !next->inode->dir) {
                errno = next ? ENOTDIR : ENOENT;
                return NULL;
            }
            at = next->inode;
        }
    }
}

static struct inode *lookup(int dir, const char *path)
{
    char last[NAME];
    struct inode *at = walk(dir, path, last);
    if (!at || last[0] == '\0' || strcmp(last, ".") == 0)
        return at;
    struct name *name = find(&at->names, last);
    if (!name)
        errno = ENOENT;
    return name ? name->inode : NULL;
}

static int new_fd(struct inode *i)
{
    for (int at = 0; at < FDS; at++)
        if (!sim.files[at].inode) {
            sim.files[at] = (struct file){.inode = i, .process = sim.current};
            return FD_BASE + at;
        }
    return failed(EMFILE);
}

/* Nothing comes into a directory that was removed. */
static bool is_dead(const struct inode *dir)
{
    return dir != sim.root && dir->links == 0;
}

int fs_open(int dir, const char *path, int flags, mode_t mode)
{
    char last[NAME];
    (void)mode;
    if (!step(flags & O_CREAT))
        return -1;
    struct inode *i = lookup(dir, path);
    if (i && (flags & O_CREAT) && (flags & O_EXCL))
        return failed(EEXIST);
    if (!i && !(flags & O_CREAT))
        return -1;
    if (!i) {
        struct inode *parent = walk(dir, path, last);
        if (!parent)
            return -1;
        if (is_dead(parent))
            return failed(ENOENT);
        i = new_inode(false);
        i->links = 1;
        set_name(&parent->names, last, i);
        note_change(NULL, "", parent, last, i);
    }
    if ((flags & O_DIRECTORY) && !i->dir)
        return failed(ENOTDIR);
    if (flags & O_TRUNC) {
        i->size = 0;
        i->ndirty = 0;
    }
    return new_fd(i);
}

void fs_close(int *fd)
{
    int saved = errno;
    if (file_of(*fd))
        close_file(*fd - FD_BASE);
    *fd = -1;
    errno = saved;
}

int fs_dup(int fd)
{
    struct file *f = file_of(fd);
    return f ? new_fd(f->inode) : failed(EBADF);
}

ssize_t fs_pread(int fd, void *to, size_t n, off_t offset)
{
    step(false);
    struct file *f = file_of(fd);
    if (!f)
        return failed(EBADF);
    size_t at = (size_t)offset;
    if (at >= f->inode->size)
        return 0;
    n = MIN(n, f->inode->size - at);
    memcpy(to, f->inode->data + at, n);
    return (ssize_t)n;
}

ssize_t fs_read(int fd, void *to, size_t n)
{
    struct file *f = file_of(fd);
    ssize_t got = fs_pread(fd, to, n, f ? (off_t)f->offset : 0);
    if (got > 0)
        f->offset += (size_t)got;
    return got;
}

static const char *name_of(const struct inode *i)
{
    for (const struct inode *d = sim.all; d; d = d->next)
        for (size_t k = 0; k < d->names.n; k++)
            if (d->names.list[k].inode == i)
                return d->names.list[k].name;
    return "";
}

ssize_t fs_pwrite(int fd, const void *from, size_t n, off_t offset)
{
    bool good = step(true);
    struct file *f = file_of(fd);
    if (!f)
        return failed(EBADF);
    if (sim.opt.swallow && !sim.quiet && sim.opt.swallow(name_of(f->inode), slice_from(from, n)))
        return (ssize_t)n;
    /* A full disk takes a part, sometimes. */
    if (!good && (errno != ENOSPC || sim_random(2) || n < 2))
        return -1;
    if (!good)
        n /= 2;
    size_t at = (size_t)offset;
    if (at + n > f->inode->size)
        resize(f->inode, at + n);
    memcpy(f->inode->data + at, from, n);
    note_dirty(f->inode, at, at + n);
    f->inode->mtime = sim.now;
    return (ssize_t)n;
}

ssize_t fs_write(int fd, const void *from, size_t n)
{
    struct file *f = file_of(fd);
    ssize_t put = fs_pwrite(fd, from, n, f ? (off_t)f->offset : 0);
    if (put > 0)
        f->offset += (size_t)put;
    return put;
}

int fs_truncate(int fd, off_t size)
{
    if (!step(true))
        return -1;
    struct file *f = file_of(fd);
    if (!f)
        return failed(EBADF);
    resize(f->inode, (size_t)size);
    return 0;
}

static int stat_of(const struct inode *i, struct stat *st)
{
    memset(st, 0, sizeof(*st));
    st->st_mode = i->dir ? S_IFDIR | 0700 : S_IFREG | 0600;
    st->st_size = (off_t)i->size;
    st->st_nlink = (nlink_t)MAX(i->links, 0);
    st->st_ino = (ino_t)i->number;
    st->st_mtim.tv_sec = i->mtime / 1000000000;
    st->st_mtim.tv_nsec = i->mtime % 1000000000;
    return 0;
}

int fs_fstat(int fd, struct stat *st)
{
    step(false);
    struct file *f = file_of(fd);
    return f ? stat_of(f->inode, st) : failed(EBADF);
}

int fs_measure(int fd, uint64_t *size, uint32_t *mount)
{
    step(false);
    struct file *f = file_of(fd);
    *size = f ? f->inode->size : 0;
    *mount = f ? mount_here() : 0;
    return f ? 0 : failed(EBADF);
}

int fs_stat(int dir, const char *path, struct stat *st)
{
    step(false);
    struct inode *i = lookup(dir, path);
    return i ? stat_of(i, st) : -1;
}

static void unname(struct inode *parent, const char *name)
{
    struct name *at = find(&parent->names, name);
    if (!at)
        return;
    at->inode->links--;
    drop_name(&parent->names, name);
}

int fs_rename(int from_dir, const char *from, int to_dir, const char *to)
{
    char old_name[NAME], name[NAME];
    if (!step(true))
        return -1;
    struct inode *source = walk(from_dir, from, old_name), *target = walk(to_dir, to, name);
    if (!source || !target)
        return -1;
    struct name *at = find(&source->names, old_name);
    if (!at || is_dead(target))
        return failed(ENOENT);
    struct inode *what = at->inode;
    drop_name(&source->names, old_name);
    unname(target, name);
    set_name(&target->names, name, what);
    note_change(source, old_name, target, name, what);
    return 0;
}

int fs_link(int from_dir, const char *from, int to_dir, const char *to)
{
    char name[NAME];
    if (!step(true))
        return -1;
    struct inode *what = lookup(from_dir, from), *target = walk(to_dir, to, name);
    if (!what || !target)
        return -1;
    if (find(&target->names, name))
        return failed(EEXIST);
    what->links++;
    set_name(&target->names, name, what);
    note_change(NULL, "", target, name, what);
    return 0;
}

int fs_unlink(int dir, const char *path, int flags)
{
    char name[NAME];
    if (!step(true))
        return -1;
    struct inode *parent = walk(dir, path, name);
    struct name *at = parent ? find(&parent->names, name) : NULL;
    if (!at)
        return parent ? failed(ENOENT) : -1;
    struct inode *what = at->inode;
    if (what->dir != !!(flags & AT_REMOVEDIR))
        return failed(what->dir ? EISDIR : ENOTDIR);
    if (what->dir && what->names.n)
        return failed(ENOTEMPTY);
    unname(parent, name);
    note_change(parent, name, NULL, "", what);
    return 0;
}

int fs_mkdir(int dir, const char *path, mode_t mode)
{
    char name[NAME];
    (void)mode;
    if (!step(true))
        return -1;
    struct inode *parent = walk(dir, path, name);
    if (!parent)
        return -1;
    if (is_dead(parent))
        return failed(ENOENT);
    if (find(&parent->names, name))
        return failed(EEXIST);
    struct inode *i = new_inode(true);
    i->links = 1;
    set_name(&parent->names, name, i);
    note_change(NULL, "", parent, name, i);
    return 0;
}

/* Whether the name of this inode is the one that the machine lies about. */
static bool lied_about(const struct inode *i)
{
    if (!sim.opt.lie_about)
        return true;
    for (const struct inode *d = sim.all; d; d = d->next)
        for (size_t k = 0; k < d->names.n; k++)
            if (d->names.list[k].inode == i &&
                strncmp(d->names.list[k].name, sim.opt.lie_about, strlen(sim.opt.lie_about)) == 0)
                return true;
    return false;
}

int fs_sync(int fd)
{
    if (!step(true))
        return -1;
    struct file *f = file_of(fd);
    if (!f)
        return failed(EBADF);
    bool lie = f->inode->dir ? sim.opt.lie == SIM_NO_DIR_SYNC : sim.opt.lie == SIM_NO_FILE_SYNC;
    if (lie && lied_about(f->inode))
        return 0;
    if (f->inode->dir)
        sync_names_of(f->inode);
    else
        sync_content(f->inode);
    return 0;
}

int fs_data_sync(int fd)
{
    return fs_sync(fd);
}

int fs_sync_all(int fd)
{
    (void)fd;
    if (!step(true))
        return -1;
    if (sim.opt.lie == SIM_NO_FS_SYNC)
        return 0;
    sync_names_of(NULL);
    for (struct inode *i = sim.all; i; i = i->next)
        if (!i->dir)
            sync_content(i);
    return 0;
}

void *fs_map(int fd, size_t n)
{
    step(false);
    struct file *f = file_of(fd);
    if (!f || n > f->inode->size) {
        errno = EINVAL;
        return NULL;
    }
    void *copy = xrealloc(NULL, n, 1);
    memcpy(copy, f->inode->data, n);
    return copy;
}

void fs_unmap(void *map, size_t n)
{
    (void)n;
    free(map);
}

int fs_lock(int fd, short type)
{
    step(false);
    struct file *f = file_of(fd);
    if (!f)
        return failed(EBADF);
    int at = fd - FD_BASE;
    if (type == F_UNLCK) {
        if (f->inode->lock == at)
            f->inode->lock = NOBODY;
        return 0;
    }
    if (f->inode->lock != NOBODY && f->inode->lock != at)
        return failed(EAGAIN);
    f->inode->lock = at;
    return 0;
}

int fs_flock(int fd, int operation)
{
    step(false);
    struct file *f = file_of(fd);
    if (!f)
        return failed(EBADF);
    int at = fd - FD_BASE;
    if (operation & LOCK_UN) {
        if (f->inode->flock == at)
            f->inode->flock = NOBODY;
        return 0;
    }
    if (f->inode->flock != NOBODY && f->inode->flock != at)
        return failed(EWOULDBLOCK);
    f->inode->flock = at;
    return 0;
}

struct fs_dir *fs_dir_open(int fd)
{
    step(false);
    struct file *f = file_of(fd);
    if (!f || !f->inode->dir)
        return NULL;
    struct fs_dir *d = NEW(struct fs_dir);
    copy_names(&d->copy, &f->inode->names);
    d->fd = fd;
    return d;
}

bool fs_dir_next(struct fs_dir *d, struct fs_entry *e)
{
    errno = 0;
    if (d->at == d->copy.n)
        return false;
    const struct name *name = &d->copy.list[d->at++];
    *e = (struct fs_entry){name->name, name->inode->dir ? 4 : 8};
    return true;
}

void fs_dir_close(struct fs_dir *d)
{
    if (!d)
        return;
    fs_close(&d->fd);
    free(d->copy.list);
    free(d);
}

void fs_sleep_ms(int ms)
{
    sim.now += (int64_t)ms * 1000000;
    sim.operations++;
    if (sim.current != NOBODY && !sim.quiet)
        leave();
}

int64_t fs_now(void)
{
    return sim.now;
}

int64_t fs_boot(void)
{
    return sim.boot;
}

int fs_random(void *to, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((unsigned char *)to)[i] = (unsigned char)sim_random(256);
    return 0;
}
