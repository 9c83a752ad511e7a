#include "libutil/table_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct table_driver *const drivers[] = {&table_hash_driver, &table_btree_driver,
    &table_lmdb_driver, &table_text_driver, &table_static_driver, &table_inline_driver};

static const struct table_driver *find_driver(struct slice type)
{
    for (size_t i = 0; i < ARRAY_LEN(drivers); i++)
        if (slice_is(type, drivers[i]->type))
            return drivers[i];
    return NULL;
}

/* --- files ------------------------------------------------------------------------------------ */
int table_enter(int dir_fd)
{
    int back = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (back >= 0 && fchdir(dir_fd))
        fd_close(&back);
    return back;
}

void table_leave(int token)
{
    /* The directory was there a moment ago; without it relative paths would go astray. */
    if (fchdir(token))
        abort();
    close(token);
}

int table_read_file(int dir_fd, const char *name, struct buf *out, struct error *err)
{
    int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC), rc = OK;
    if (fd < 0)
        return error_sys(err, "%s", name);
    for (ssize_t n = 1; rc == OK && n > 0;) {
        char *room = buf_reserve(out, 65536);
        if (!room)
            rc = error_set(err, ERR_LIMIT, "%s: the file is too large", name);
        else if ((n = read(fd, room, 65536)) > 0)
            buf_claim(out, (size_t)n);
        else if (n < 0)
            rc = error_sys(err, "%s", name);
    }
    close(fd);
    return rc;
}

int table_open_directory(struct slice path, int *dir_fd, char *name, size_t size, struct error *err)
{
    ptrdiff_t slash = slice_rchr(path, '/');
    char dir[PATH_MAX] = ".";
    struct slice head = slice_first(path, slash < 0 ? 0 : slash == 0 ? 1 : (size_t)slash);
    if ((slash >= 0 && !slice_to_cstr(head, dir, sizeof(dir))) ||
        !slice_to_cstr(slice_from_index(path, (size_t)(slash + 1)), name, size))
        return error_set(
            err, ERR_LIMIT, "%.*s: the path is too long", SLICE_FMT(slice_first(path, 100)));
    *dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *dir_fd < 0 ? error_sys(err, "%s", dir) : OK;
}

bool table_directory(struct slice spec, char *out, size_t size)
{
    struct slice path = spec, type = slice_cut(&path, ':');
    if (!table_has_path(type))
        return false;
    ptrdiff_t slash = slice_rchr(path, '/');
    if (slash < 0)
        return slice_to_cstr(SLICE_LIT("."), out, size);
    return slice_to_cstr(slice_first(path, slash == 0 ? 1 : (size_t)slash), out, size);
}

static int look(const struct table *t, struct table_stamp *stamp, struct error *err)
{
    struct stat st;
    if (fstatat(t->dir_fd, t->name, &st, 0))
        return error_sys(err, "%s%s", t->argument.p, t->driver->suffix);
    if (!S_ISREG(st.st_mode))
        return error_set(err, ERR_IO, "%s%s: not a regular file", t->argument.p, t->driver->suffix);
    *stamp = (struct table_stamp){.dev = st.st_dev,
        .ino = st.st_ino,
        .size = (uint64_t)st.st_size,
        .mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec,
        .ctime_ns = (int64_t)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec};
    return OK;
}

static void shut(struct table *t)
{
    if (t->is_open || t->state)
        t->driver->close(t);
    t->is_open = false;
}

/* Opens the content, or opens it again when the file has changed. A table that cannot be opened
 * again stays shut: the old content would hide the fault. */
static int refresh(struct table *t, struct error *err)
{
    struct table_stamp now = {0};
    int rc = t->driver->suffix ? look(t, &now, err) : OK;
    if (rc == OK && t->is_open && memcmp(&now, &t->stamp, sizeof(now)) == 0)
        return OK;
    shut(t);
    t->generation++;
    if (rc == OK)
        rc = t->driver->open(t, err);
    if (rc) {
        shut(t);
        return rc;
    }
    t->stamp = now;
    t->is_open = true;
    return OK;
}

/* --- tables ----------------------------------------------------------------------------------- */
static struct table *open_table(struct slice spec, bool aliases, struct error *err)
{
    if (table_check_spec(spec, err))
        return NULL;
    struct table *t = NEW(struct table);
    t->aliases = aliases;
    t->dir_fd = -1;
    t->spec = xmemdup0(spec.p, spec.n);
    t->argument = slice_of(t->spec);
    t->driver = find_driver(slice_cut(&t->argument, ':'));
    int rc = OK;
    if (t->driver->suffix) {
        size_t room = sizeof(t->name) - strlen(t->driver->suffix);
        rc = table_open_directory(t->argument, &t->dir_fd, t->name, room, err);
        memcpy(t->name + strlen(t->name), t->driver->suffix, strlen(t->driver->suffix) + 1);
    }
    if (rc == OK)
        rc = refresh(t, err);
    if (rc) {
        table_close(t);
        return NULL;
    }
    return t;
}

struct table *table_open(struct slice spec, struct error *err)
{
    return open_table(spec, false, err);
}

struct table *table_open_aliases(struct slice spec, struct error *err)
{
    return open_table(spec, true, err);
}

void table_close(struct table *t)
{
    if (!t)
        return;
    shut(t);
    fd_close(&t->dir_fd);
    free(t->spec);
    free(t);
}

int table_get(struct table *t, struct slice key, struct buf *out, struct error *err)
{
    char lower[TABLE_KEY_MAX];
    if (key.n == 0 || key.n > TABLE_KEY_MAX || slice_chr(key, '\0') >= 0)
        return ERR_NOT_FOUND; /* no such key can have been built */
    memcpy(lower, key.p, key.n);
    ascii_lower(lower, key.n);
    int rc = refresh(t, err);
    if (rc)
        return rc == ERR_NOT_FOUND ? ERR_TEMP : rc; /* a file that is gone is not an absent key */
    return t->driver->get(t, slice_from(lower, key.n), out, err);
}

int table_each(struct table *t, int (*fn)(struct slice key, struct slice value, void *arg),
    void *arg, struct error *err)
{
    int rc = refresh(t, err);
    return rc ? rc : t->driver->each(t, fn, arg, err);
}

struct slice table_spec(const struct table *t)
{
    return slice_of(t->spec);
}

uint64_t table_generation(struct table *t)
{
    struct error err;
    if (refresh(t, &err))
        return 0;
    return t->generation;
}

int table_mark(struct table *t, uint64_t generation, struct filemark *mark, struct error *err)
{
    *mark = FILEMARK_NONE;
    if (!t->driver->suffix)
        return OK;
    int rc = filemark_take(t->dir_fd, t->name, mark, err);
    /* Looked at behind the mark: what it marks is what the table was made from. */
    if (rc == OK && table_generation(t) != generation)
        rc = error_set(err, ERR_AGAIN, "%s has changed", t->spec);
    if (rc)
        filemark_clear(mark);
    return rc;
}

/* --- building --------------------------------------------------------------------------------- */
/* Makes name.SUFFIX.new, syncs it, renames it over the old file, syncs the directory. */
static int build_aside(const struct table_driver *driver, int dir_fd, const char *name,
    const struct table_text *text, struct error *err)
{
    char final[272], aside[300];
    struct stat source;
    snprintf(final, sizeof(final), "%s%s", name, driver->suffix);
    snprintf(aside, sizeof(aside), "%s.new.%d", final, (int)getpid() % 10000000);
    int back = table_enter(dir_fd), fd = -1;
    if (back < 0)
        return error_sys(err, "%s", name);
    unlink(aside);
    int rc = driver->build(aside, text, err);
    if (rc == OK && (fd = open(aside, O_RDONLY | O_CLOEXEC)) < 0)
        rc = error_sys(err, "%s", aside);
    /* Whoever may read the text may read what is made of it. */
    if (rc == OK && stat(name, &source) == 0 &&
        (fchmod(fd, source.st_mode & 0777) ||
            (geteuid() == 0 && fchown(fd, source.st_uid, source.st_gid))))
        rc = error_sys(err, "%s", aside);
    if (rc == OK && (fsync(fd) || rename(aside, final) || fsync(dir_fd)))
        rc = error_sys(err, "%s", final);
    if (rc)
        unlink(aside);
    fd_close(&fd);
    table_leave(back);
    return rc;
}

static int build_table(struct slice spec, struct table_text *text, struct error *err)
{
    struct slice path = spec;
    struct buf source;
    char name[240], *cpath;
    int dir_fd = -1, rc = table_check_spec(spec, err);
    if (rc)
        return rc;
    const struct table_driver *driver = find_driver(slice_cut(&path, ':'));
    if (!driver->build)
        return error_set(
            err, ERR_UNSUPPORTED, "a %s table is used as it is, not built", driver->type);
    buf_init(&source, TABLE_FILE_MAX);
    cpath = xmemdup0(path.p, path.n);
    rc = table_open_directory(path, &dir_fd, name, sizeof(name), err);
    if (rc == OK)
        rc = table_read_file(dir_fd, name, &source, err);
    if (rc == OK)
        rc = table_text_parse(text, cpath, buf_slice(&source), err);
    if (rc == OK)
        rc = build_aside(driver, dir_fd, name, text, err);
    fd_close(&dir_fd);
    table_text_clear(text);
    buf_wipe(&source);
    free(cpath);
    return rc;
}

int table_build(struct slice spec, struct error *err)
{
    struct table_text text;
    table_text_init(&text);
    return build_table(spec, &text, err);
}

int table_build_aliases(
    struct slice spec, table_repeated_fn *repeated, void *arg, struct error *err)
{
    struct table_text text;
    table_text_init(&text);
    text.aliases = true;
    text.repeated = repeated;
    text.arg = arg;
    return build_table(spec, &text, err);
}
