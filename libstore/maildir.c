/* The Maildir itself: names of message files, and reading its directories. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "libstore/private.h"

enum { MTIME_DOUBT_S = 2, RENAMES = 4 };

/* Letters of the info part in ASCII order, as Maildir asks. P (passed on) is not a flag of ours. */
static const struct {
    char letter;
    uint8_t flag;
} letters[] = {{'D', STORE_DRAFT}, {'F', STORE_FLAGGED}, {'R', STORE_ANSWERED}, {'S', STORE_SEEN},
    {'T', STORE_DELETED}};

static uint8_t flag_of(char letter)
{
    for (size_t i = 0; i < ARRAY_LEN(letters); i++)
        if (letters[i].letter == letter)
            return letters[i].flag;
    return 0;
}

void info_of(uint8_t flags, char out[8])
{
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(letters); i++)
        if (flags & letters[i].flag)
            out[n++] = letters[i].letter;
    out[n] = '\0';
}

void guid_hex(const unsigned char guid[STORE_GUID], char out[2 * STORE_GUID + 1])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < STORE_GUID; i++) {
        out[2 * i] = digits[guid[i] >> 4];
        out[2 * i + 1] = digits[guid[i] & 15];
    }
    out[2 * (size_t)STORE_GUID] = '\0';
}

static const char own_suffix[] = ".veredus";

void file_base(const struct box *b, const struct disk_rec *rec, char out[FILE_NAME_MAX])
{
    if (rec->name == 0) {
        guid_hex(rec->guid, out);
        memcpy(out + 2 * (size_t)STORE_GUID, own_suffix, sizeof(own_suffix));
        return;
    }
    if (!slice_to_cstr(box_name_at(b, rec->name), out, FILE_NAME_MAX))
        out[0] = '\0';
}

void file_path(const struct box *b, const struct disk_rec *rec, char out[FILE_NAME_MAX])
{
    static const char where[][5] = {"cur/", "new/"};
    char base[FILE_NAME_MAX], info[8];
    bool new = rec->bits &REC_NEW;
    file_base(b, rec, base);
    size_t n = strlen(base);
    assert(n + 4 + 3 + sizeof(info) <= FILE_NAME_MAX);
    memcpy(out, where[new], 4);
    memcpy(out + 4, base, n + 1);
    if (new)
        return;
    info_of(rec->file_flags, info);
    memcpy(out + 4 + n, ":2,", 3);
    memcpy(out + 4 + n + 3, info, strlen(info) + 1);
}

static bool is_file(const struct fs_entry *e)
{
    return e->name[0] != '.' && (e->type == DT_REG || e->type == DT_UNKNOWN);
}

static struct fs_dir *open_dir(int dirfd, const char *name)
{
    int fd = fs_open(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    struct fs_dir *d = fs_dir_open(fd);
    if (!d)
        fs_close(&fd);
    return d;
}

/* Looks in one directory for a file of this base name. */
static bool look_in(int dirfd, const char *where, const char *base, char out[FILE_NAME_MAX])
{
    struct fs_dir *d = open_dir(dirfd, where);
    size_t n = strlen(base);
    bool found = false;
    while (d && !found) {
        struct fs_entry e;
        if (!fs_dir_next(d, &e))
            break;
        if (strncmp(e.name, base, n) == 0 && (e.name[n] == '\0' || e.name[n] == ':'))
            found = snprintf(out, FILE_NAME_MAX, "%s/%s", where, e.name) < FILE_NAME_MAX;
    }
    if (d)
        fs_dir_close(d);
    return found;
}

int file_locate(struct box *b, const struct disk_rec *rec, char out[FILE_NAME_MAX])
{
    char base[FILE_NAME_MAX];
    file_base(b, rec, base);
    /* Twice: a file renamed between the two directories can be missed in both. */
    for (int i = 0; i < 2; i++)
        if (look_in(b->dirfd, "cur", base, out) || look_in(b->dirfd, "new", base, out))
            return OK;
    return ERR_NOT_FOUND;
}

void file_where(struct box *b, const struct disk_rec *rec, char out[FILE_NAME_MAX])
{
    struct stat st;
    file_path(b, rec, out);
    if (fs_stat(b->dirfd, out, &st) && errno == ENOENT && file_locate(b, rec, out))
        file_path(b, rec, out);
}

static int sync_part(const struct box *b, const char *part)
{
    int fd = fs_open(b->dirfd, part, O_RDONLY | O_DIRECTORY, 0);
    int rc = fd < 0 || fs_sync(fd) ? -1 : 0;
    fs_close(&fd);
    return rc;
}

int maildir_sync(const struct box *b, const char *part, struct error *err)
{
    return sync_part(b, part) || box_sync_dirs(b) ? error_sys(err, "syncing a folder") : OK;
}

/* Whatever was renamed in new/ and cur/ so far. */
static int sync_names(const struct box *b, struct error *err)
{
    static const char *const parts[] = {"new", "cur"};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        if (sync_part(b, parts[i]) && errno != ENOENT)
            return error_sys(err, "syncing %s", parts[i]);
    return OK;
}

int file_replace(struct box *b, const struct disk_rec *rec, const char *with, struct error *err)
{
    char path[FILE_NAME_MAX];
    int rc = sync_names(b, err);
    if (rc)
        return rc;
    file_where(b, rec, path);
    return fs_rename(b->dirfd, with, b->dirfd, path) ? error_sys(err, "renaming a message file")
                                                     : OK;
}

int file_open(struct box *b, const struct disk_rec *rec, int *fd, struct error *err)
{
    char path[FILE_NAME_MAX];
    file_path(b, rec, path);
    *fd = fs_open(b->dirfd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    /* Between finding and opening it others may rename it again. */
    for (int turns = 0; *fd < 0 && errno == ENOENT && turns < RENAMES; turns++) {
        if (file_locate(b, rec, path)) {
            errno = ENOENT;
            break;
        }
        *fd = fs_open(b->dirfd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    }
    return *fd < 0 ? error_sys(err, "opening message %s", path) : OK;
}

int file_link(
    struct box *b, const struct disk_rec *rec, int to, const char *name, struct error *err)
{
    char path[FILE_NAME_MAX];
    file_path(b, rec, path);
    int rc = fs_link(b->dirfd, path, to, name);
    for (int turns = 0; rc && errno == ENOENT && turns < RENAMES; turns++) {
        if (file_locate(b, rec, path)) {
            errno = ENOENT;
            break;
        }
        rc = fs_link(b->dirfd, path, to, name);
    }
    return rc ? error_sys(err, "linking message %u", rec->uid) : OK;
}

void file_unlink(struct box *b, const struct disk_rec *rec)
{
    char path[FILE_NAME_MAX];
    file_path(b, rec, path);
    int rc = fs_unlink(b->dirfd, path, 0);
    for (int turns = 0; rc && errno == ENOENT && turns < RENAMES; turns++)
        rc = file_locate(b, rec, path) ? 0 : fs_unlink(b->dirfd, path, 0);
}

int maildir_make(int dirfd, struct error *err)
{
    static const char *const parts[] = {"tmp", "new", "cur"};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        if (fs_mkdir(dirfd, parts[i], 0700) && errno != EEXIST)
            return error_sys(err, "making %s", parts[i]);
    return OK;
}

static void add_file(struct found *f, const char *name, bool in_new)
{
    size_t n = strcspn(name, ":");
    if (n == 0 || n > 200 || strlen(name) > 250)
        return;
    struct found_file *file = NEW(struct found_file);
    file->base = xmemdup0(name, n);
    file->in_new = in_new;
    if (strncmp(name + n, ":2,", 3) == 0)
        for (const char *p = name + n + 3; *p; p++)
            file->flags |= flag_of(*p);
    char info[8];
    info_of(file->flags, info);
    if (in_new ? name[n] != '\0'
               : strncmp(name + n, ":2,", 3) != 0 || strcmp(name + n + 3, info) != 0)
        file->name = xstrdup(name);
    struct found_file *before = map_set(&f->files, slice_of(file->base), file);
    file->next = f->list;
    f->list = file;
    f->n++;
    if (before) {
        /* Renamed while we read, or really twice: one message either way. */
        map_set(&f->files, slice_of(before->base), before);
        f->list = file->next;
        f->n--;
        free(file->name);
        free(file->base);
        free(file);
    }
}

static int read_dir(
    int parent, const char *where, struct found *f, uint64_t *mtime, struct error *err)
{
    struct stat st;
    struct fs_dir *d = open_dir(parent, where);
    if (!d && errno == ENOENT)
        return OK;
    if (!d)
        return error_sys(err, "reading %s", where);
    int64_t now = fs_time();
    int rc = fs_stat(parent, where, &st) ? error_sys(err, "reading %s", where) : OK;
    if (!rc && st.st_mtim.tv_sec + MTIME_DOUBT_S < now)
        *mtime = (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec;
    for (struct fs_entry e; !rc && fs_dir_next(d, &e);)
        if (is_file(&e))
            add_file(f, e.name, where[0] == 'n');
    if (!rc && errno)
        rc = error_sys(err, "reading %s", where);
    fs_dir_close(d);
    return rc;
}

int found_read(int dirfd, struct found *f, struct error *err)
{
    *f = (struct found){0};
    map_init(&f->files);
    /* new/ first: files move from there to cur/. */
    int rc = read_dir(dirfd, "new", f, &f->new_mtime, err);
    if (!rc)
        rc = read_dir(dirfd, "cur", f, &f->cur_mtime, err);
    if (rc)
        found_clear(f);
    return rc;
}

void found_clear(struct found *f)
{
    map_clear(&f->files);
    while (f->list) {
        struct found_file *file = f->list;
        f->list = file->next;
        free(file->name);
        free(file->base);
        free(file);
    }
    *f = (struct found){0};
}

bool found_elsewhere(const struct box *b, const struct found_file *file, const struct disk_rec *rec)
{
    struct stat st;
    char path[FILE_NAME_MAX];
    if (file->in_new == !!(rec->bits & REC_NEW) && (file->in_new || file->flags == rec->file_flags))
        return false;
    file_path(b, rec, path);
    return fs_stat(b->dirfd, path, &st) == 0;
}

struct found_file *found_get(const struct found *f, const char *base)
{
    return map_get(&f->files, slice_of(base));
}

/* A name that file_base makes tells the guid. */
static bool guid_of_name(const char *base, unsigned char guid[STORE_GUID])
{
    if (strlen(base) != 2 * (size_t)STORE_GUID + sizeof(own_suffix) - 1 ||
        strcmp(base + 2 * (size_t)STORE_GUID, own_suffix) != 0)
        return false;
    for (size_t i = 0; i < STORE_GUID; i++) {
        int high = hex_digit_lower(base[2 * i]), low = hex_digit_lower(base[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        guid[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}

/* For a stranger's file the guid is made of its name, so that it is the same after a rebuild. */
static void guid_from_name(struct slice base, unsigned char guid[STORE_GUID])
{
    uint64_t one = slice_hash(base), two = one;
    for (size_t i = 0; i < base.n; i++)
        two = (two ^ (unsigned char)base.p[i]) * 0x9e3779b97f4a7c15u ^ two >> 29;
    memcpy(guid, &one, 8);
    memcpy(guid + 8, &two, 8);
}

void found_record(const struct found_file *file, int dirfd, struct op *op)
{
    struct stat st;
    char path[FILE_NAME_MAX], info[8];
    *op = (struct op){.type = OP_APPEND};
    op->rec.flags = op->rec.file_flags = file->flags;
    op->rec.bits = file->in_new ? REC_NEW : 0;
    if (!guid_of_name(file->base, op->rec.guid)) {
        op->name = slice_of(file->base);
        guid_from_name(op->name, op->rec.guid);
    }
    info_of(file->flags, info);
    if (file->name)
        snprintf(path, sizeof(path), "%s/%s", file->in_new ? "new" : "cur", file->name);
    else if (file->in_new)
        snprintf(path, sizeof(path), "new/%s", file->base);
    else
        snprintf(path, sizeof(path), "cur/%s:2,%s", file->base, info);
    op->rec.date = op->rec.saved = fs_time();
    if (fs_stat(dirfd, path, &st) == 0 && st.st_mtime > 0)
        op->rec.date = (uint32_t)st.st_mtime;
}

static int older_first(const void *a, const void *b)
{
    const struct op *x = a, *y = b;
    if (x->rec.date != y->rec.date)
        return x->rec.date < y->rec.date ? -1 : 1;
    int by_guid = memcmp(x->rec.guid, y->rec.guid, STORE_GUID);
    return x->name.n || y->name.n ? slice_cmp(x->name, y->name) : by_guid;
}

struct op *found_records(const struct found *f, int dirfd, size_t *n)
{
    struct op *ops = xcalloc(f->n, sizeof(*ops));
    *n = 0;
    for (struct found_file *file = f->list; file; file = file->next)
        if (!file->known)
            found_record(file, dirfd, &ops[(*n)++]);
    qsort(ops, *n, sizeof(*ops), older_first);
    return ops;
}
