#include "libutil/table_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static bool same_key(struct slice entry, struct slice key)
{
    struct slice k, v;
    return table_split_entry(slice_trim(entry), &k, &v) == OK && slice_ieq(k, key);
}

static void put_entry(struct slice key, struct slice value, struct buf *out)
{
    bool quote = false;
    for (size_t i = 0; i < key.n; i++)
        if (strchr(" \t:#", key.p[i]))
            quote = true;
    buf_printf(out, quote ? "\"%.*s\": " : "%.*s: ", SLICE_FMT(key));
    buf_put(out, value);
    buf_putc(out, '\n');
}

/* The text with the change made. */
static int edit(struct slice text, enum table_change change, struct slice key, struct slice value,
    struct buf *out, struct error *err)
{
    unsigned line = 0, starts = 0;
    struct slice rest = text;
    const char *from = text.p;
    bool found = false;
    for (struct slice entry; (entry = table_next_entry(&rest, &line, &starts)).p;) {
        if (!same_key(entry, key))
            continue;
        found = true;
        buf_put(out, slice_from(from, (size_t)(entry.p - from)));
        if (change == TABLE_REPLACE)
            put_entry(key, value, out);
        from = entry.p + entry.n;
        if (from < text.p + text.n)
            from++; /* its line end */
    }
    buf_put(out, slice_from(from, (size_t)(text.p + text.n - from)));
    if (found && change == TABLE_ADD)
        return error_set(err, ERR_EXISTS, "%.*s exists already", SLICE_FMT(key));
    if (!found && change != TABLE_ADD)
        return error_set(err, ERR_NOT_FOUND, "%.*s does not exist", SLICE_FMT(key));
    if (change == TABLE_ADD) {
        struct slice so_far = buf_slice(out);
        if (so_far.n && so_far.p[so_far.n - 1] != '\n')
            buf_putc(out, '\n');
        put_entry(key, value, out);
    }
    return out->failed ? error_set(err, ERR_LIMIT, "the table would be too large") : OK;
}

static int write_all(int fd, struct slice text)
{
    while (text.n) {
        ssize_t n = write(fd, text.p, text.n);
        if (n < 0 && errno != EINTR)
            return -1;
        text = slice_from_index(text, (size_t)MAX(n, 0));
    }
    return 0;
}

/* Puts text in the place of the file, with the owner and mode of the old one. */
static int replace_file(int dir_fd, const char *name, struct slice text, struct error *err)
{
    char aside[300];
    struct stat old;
    bool exists = fstatat(dir_fd, name, &old, 0) == 0;
    snprintf(aside, sizeof(aside), ".%s.%d", name, (int)getpid() % 10000000);
    unlinkat(dir_fd, aside, 0);
    int fd = openat(dir_fd, aside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), rc = OK;
    if (fd < 0)
        return error_sys(err, "%s", aside);
    mode_t mode = exists ? old.st_mode & 07777 : 0640;
    bool failed = (exists && (old.st_uid != geteuid() || old.st_gid != getegid()) &&
                      fchown(fd, old.st_uid, old.st_gid)) ||
                  fchmod(fd, mode) || write_all(fd, text) || fsync(fd) ||
                  renameat(dir_fd, aside, dir_fd, name) || fsync(dir_fd);
    if (failed) {
        rc = error_sys(err, "%s", name);
        unlinkat(dir_fd, aside, 0);
    }
    close(fd);
    return rc;
}

static int change_text(int dir_fd, const char *name, enum table_change change, struct slice key,
    struct slice value, struct error *err)
{
    struct buf text, out;
    struct table_text check;
    buf_init(&text, TABLE_FILE_MAX);
    buf_init(&out, TABLE_FILE_MAX);
    table_text_init(&check);
    int rc = table_read_file(dir_fd, name, &text, err);
    if (rc == ERR_NOT_FOUND && change == TABLE_ADD)
        rc = OK;
    if (rc == OK)
        rc = edit(buf_slice(&text), change, key, value, &out, err);
    /* Nothing is written that cannot be read. */
    if (rc == OK)
        rc = table_text_parse(&check, name, buf_slice(&out), err);
    if (rc == OK)
        rc = replace_file(dir_fd, name, buf_slice(&out), err);
    table_text_clear(&check);
    buf_wipe(&text);
    buf_wipe(&out);
    return rc;
}

int table_change(struct slice spec, enum table_change change, struct slice key, struct slice value,
    struct error *err)
{
    struct slice path = spec;
    char name[240];
    int dir_fd = -1, rc = table_check_spec(spec, err);
    if (rc)
        return rc;
    struct slice type = slice_cut(&path, ':');
    if (!table_has_path(type))
        return error_set(
            err, ERR_UNSUPPORTED, "a table of type %.*s has no file to change", SLICE_FMT(type));
    if (key.n == 0 || slice_chr(key, '\n') >= 0 || slice_chr(key, '"') >= 0 ||
        slice_chr(value, '\n') >= 0)
        return error_set(err, ERR_SYNTAX, "no such key or value can be written");
    rc = table_open_directory(path, &dir_fd, name, sizeof(name), err);
    if (rc == OK && flock(dir_fd, LOCK_EX))
        rc = error_sys(err, "%s: cannot be locked", name);
    if (rc == OK)
        rc = change_text(dir_fd, name, change, key, value, err);
    if (rc == OK && !slice_is(type, "text"))
        rc = table_build(spec, err);
    fd_close(&dir_fd);
    return rc;
}
