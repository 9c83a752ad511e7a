#include "libstore/deleted.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>

#include "libstore/private.h"

static const char top_name[] = "veredus.deleted";
/* Longer keywords of a message are not kept: a file's name has 255 bytes. */
enum { KEYWORDS_MAX = 140, RENAMES = 4 };

/* Names in names: letters and digits as they stand, all else as =XX. */
static void put_word(struct buf *out, struct slice word)
{
    for (size_t i = 0; i < word.n; i++) {
        unsigned char c = (unsigned char)word.p[i];
        if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
            c == '$' || c == '-' || c == '_')
            buf_putc(out, (char)c);
        else
            buf_printf(out, "=%02x", c);
    }
}

static bool get_words(struct slice words, char out[DELETED_NAME])
{
    size_t n = 0;
    for (size_t i = 0; i < words.n && n + 1 < DELETED_NAME; i++) {
        int c = (unsigned char)words.p[i];
        if (c == '=') {
            int high = i + 2 < words.n ? hex_digit_lower(words.p[i + 1]) : -1;
            int low = i + 2 < words.n ? hex_digit_lower(words.p[i + 2]) : -1;
            if (high < 0 || low < 0 || high + low == 0)
                return false;
            c = high * 16 + low;
            i += 2;
        }
        out[n++] = (char)c;
    }
    out[n] = '\0';
    return true;
}

/* TIME.GUID.DATE.FLAGS.KEYWORD,KEYWORD */
static void make_name(const struct box *b, const struct disk_rec *rec, char out[DELETED_NAME])
{
    char guid[2 * STORE_GUID + 1];
    struct buf words, word;
    buf_init(&words, KEYWORDS_MAX);
    buf_init(&word, 1024);
    guid_hex(rec->guid, guid);
    for (size_t i = 0; i < b->nkeywords; i++) {
        if (!(rec->keywords >> i & 1))
            continue;
        buf_reset(&word);
        if (buf_len(&words))
            buf_putc(&word, ',');
        put_word(&word, slice_of(b->keywords[i]));
        (void)!buf_put(&words, buf_slice(&word));
    }
    snprintf(out, DELETED_NAME, "%u.%s.%u.%u.%.*s", fs_time(), guid, rec->date, rec->flags,
        (int)buf_len(&words), buf_slice(&words).p ? buf_slice(&words).p : "");
    buf_clear(&words);
    buf_clear(&word);
}

static bool parse_name(const char *name, struct deleted *d)
{
    struct slice rest = slice_of(name), time = slice_cut(&rest, '.'), guid = slice_cut(&rest, '.');
    struct slice date = slice_cut(&rest, '.'), flags = slice_cut(&rest, '.');
    uint64_t flag_bits;
    if (slice_i64(time, 0, UINT32_MAX, &d->time) || slice_i64(date, 0, UINT32_MAX, &d->date) ||
        slice_u64(flags, 0, STORE_RECENT - 1, &flag_bits) || guid.n != 2 * STORE_GUID)
        return false;
    for (size_t i = 0; i < STORE_GUID; i++) {
        int high = hex_digit_lower(guid.p[2 * i]), low = hex_digit_lower(guid.p[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        d->guid[i] = (unsigned char)(high * 16 + low);
    }
    d->flags = (uint32_t)flag_bits;
    snprintf(d->file, sizeof(d->file), "%s", name);
    return get_words(rest, d->keywords);
}

static const char *place_of(const char *disk)
{
    return strcmp(disk, ".") == 0 ? "INBOX" : disk;
}

/* One step down. A directory that is made is on disk before anything is in it. */
static int step_into(int parent, const char *name, bool make)
{
    bool made = make && fs_mkdir(parent, name, 0700) == 0;
    if (made ? fs_sync(parent) : make && errno != EEXIST)
        return -1;
    return fs_open(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
}

/* The directory for what is expunged in a folder; -1 when it cannot be had. */
static int open_place(struct store *s, const char *disk, bool make)
{
    int top = step_into(s->fd, top_name, make), fd = -1;
    if (top >= 0)
        fd = step_into(top, place_of(disk), make);
    fs_close(&top);
    return fd;
}

/* `top` is locked. False: it is not to be kept, or cannot be. */
static bool keep(struct box *b, const struct disk_rec *rec, int top)
{
    char path[FILE_NAME_MAX], name[DELETED_NAME];
    struct stat st;
    bool done = false;
    int place = step_into(top, place_of(b->disk), true);
    make_name(b, rec, name);
    /* Another program may give it another name before we do. */
    for (int turns = 0; place >= 0 && !done && turns < RENAMES; turns++) {
        file_where(b, rec, path);
        if (fs_stat(b->dirfd, path, &st) == 0 && st.st_nlink > 1)
            break;
        done = fs_rename(b->dirfd, path, place, name) == 0;
        if (!done && errno != ENOENT)
            break;
    }
    fs_close(&place);
    return done;
}

/* Locked, so that of two names of a file, expunged at the same moment, one stays. */
static bool keep_locked(struct box *b, const struct disk_rec *rec)
{
    struct error ignored;
    int top = step_into(b->store->fd, top_name, true);
    bool locked = top >= 0 && dir_lock(top, &ignored) == OK;
    bool kept = locked && keep(b, rec, top);
    if (locked && !kept)
        file_unlink(b, rec);
    fs_close(&top);
    return locked;
}

void file_discard(struct box *b, const struct disk_rec *rec)
{
    if (!b->store->opt.keep_deleted || !keep_locked(b, rec))
        file_unlink(b, rec);
}

void deleted_keep_all(struct box *b, bool loaded)
{
    struct found f;
    struct error ignored;
    for (size_t i = 0; loaded && i < box_count(b); i++)
        if (!(box_rec(b, i)->bits & REC_GONE))
            file_discard(b, box_rec(b, i));
    /* Messages that no record tells of, because one was lost or did not come about. */
    if (found_read(b->dirfd, &f, &ignored))
        return;
    for (const struct found_file *file = f.list; file; file = file->next) {
        struct op op;
        found_record(file, b->dirfd, &op);
        op.rec.name = box_name(b, op.name);
        file_discard(b, &op.rec);
    }
    found_clear(&f);
}

/* A folder's directory, and no other, can be reached by those it is shared with. So what they
 * expunge is kept in it, until the owner's next process looks here. */
void deleted_gather(struct store *s, const char *disk)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
    struct fs_entry e;
    bool sharable = !s->opt.single && (s->apart || strcmp(disk, ".") != 0);
    int folder = sharable ? fs_open(s->fd, folder_place(s, disk), flags, 0) : -1;
    int top = folder < 0 ? -1 : fs_open(folder, top_name, flags, 0);
    int from = top < 0 ? -1 : fs_open(top, place_of("."), flags, 0);
    int to = from < 0 ? -1 : open_place(s, disk, true);
    struct fs_dir *dir = to < 0 ? NULL : io_walk(from);
    while (dir && fs_dir_next(dir, &e))
        if (e.name[0] != '.')
            fs_rename(from, e.name, to, e.name); /* or the next time */
    if (dir)
        fs_dir_close(dir);
    fs_close(&to);
    fs_close(&from);
    fs_close(&top);
    fs_close(&folder);
}

static int gather_all(struct store *s, struct error *err)
{
    struct store_folder *folders;
    char disk[NAME_DISK_MAX];
    struct error ignored;
    size_t n;
    int rc = store_list(s, &folders, &n, err);
    if (rc)
        return rc;
    for (size_t i = 0; i < n; i++)
        if (!(folders[i].attrs & STORE_NOSELECT) &&
            store_folder_dir(s, folders[i].name, disk, &ignored) == OK)
            deleted_gather(s, disk);
    store_list_free(folders, n);
    return OK;
}

static int each_in(struct store *s, const char *place, deleted_fn *fn, void *arg, struct error *err)
{
    struct deleted d;
    struct buf folder;
    struct fs_entry e;
    const char *disk = strcmp(place, "INBOX") == 0 ? "." : place;
    int fd = open_place(s, disk, false), rc = OK;
    struct fs_dir *dir = io_walk(fd);
    buf_init(&folder, sizeof(d.folder) - 1);
    if (strcmp(disk, ".") == 0)
        buf_puts(&folder, "INBOX");
    else if (name_from_disk(slice_of(disk), &folder))
        buf_reset(&folder); /* nobody calls a folder so: not ours */
    while (dir && buf_len(&folder) && !rc && fs_dir_next(dir, &e)) {
        struct stat st;
        d = (struct deleted){0};
        if (!parse_name(e.name, &d) || fs_stat(fd, e.name, &st) || !S_ISREG(st.st_mode) ||
            !slice_to_cstr(buf_slice(&folder), d.folder, sizeof(d.folder)))
            continue;
        d.size = (uint64_t)st.st_size;
        rc = fn(arg, &d, err);
    }
    buf_clear(&folder);
    if (dir)
        fs_dir_close(dir);
    fs_close(&fd);
    return rc;
}

int store_deleted_each(struct store *s, deleted_fn *fn, void *arg, struct error *err)
{
    struct fs_entry e;
    int rc = gather_all(s, err);
    if (rc)
        return rc;
    int fd = fs_open(s->fd, top_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    struct fs_dir *dir = fd < 0 ? NULL : fs_dir_open(fd);
    if (!dir) {
        fs_close(&fd);
        return OK;
    }
    while (!rc && fs_dir_next(dir, &e))
        if (strcmp(e.name, ".") != 0 && strcmp(e.name, "..") != 0)
            rc = each_in(s, e.name, fn, arg, err);
    fs_dir_close(dir);
    return rc;
}

static int place_fd(struct store *s, const struct deleted *d, int *fd, struct error *err)
{
    char disk[NAME_DISK_MAX];
    assert(d);
    *fd = -1;
    if (name_to_disk(slice_of(d->folder), disk) || strchr(d->file, '/'))
        return error_set(err, ERR_SYNTAX, "not the name of a deleted message");
    *fd = open_place(s, disk, false);
    if (*fd < 0 && name_to_raw(slice_of(d->folder), disk) == OK)
        *fd = open_place(s, disk, false);
    return *fd < 0 ? error_sys(err, "%s", top_name) : OK;
}

static bool is_copy(struct box *b, const struct disk_rec *rec, struct slice content)
{
    struct store_body body;
    struct error ignored;
    if (body_read(b, rec, &body, &ignored))
        return false;
    bool same = slice_eq(body.content, content);
    store_body_release(&body);
    return same;
}

/* Whether an undelete before us was cut off after the message was back: not only its record, for a
 * stop of the machine can have lost the expunge and kept the move of the file, and not only a file
 * whose content never reached the disk. fd is the one that is kept. */
static bool is_back(struct store *s, const struct deleted *d, int fd)
{
    struct box *b;
    struct error ignored;
    struct store_body kept;
    bool back = false;
    assert(d);
    if (store_box(s, slice_of(d->folder), &b, &ignored) || box_catch_up(b, &ignored) ||
        body_read_file(b, fd, &kept, &ignored))
        return false;
    for (size_t i = box_count(b); i-- && !back;) {
        const struct disk_rec *rec = box_rec(b, i);
        back = !(rec->bits & REC_GONE) && memcmp(rec->guid, d->guid, STORE_EMAIL) == 0 &&
               is_copy(b, rec, kept.content);
    }
    store_body_release(&kept);
    return back;
}

static int append(
    struct store *s, const struct deleted *d, int fd, struct store_appended *out, struct error *err)
{
    struct slice words[STORE_KEYWORDS_MAX], rest = slice_of(d->keywords);
    struct store_append *a;
    struct store_append_options opt = {.flags = d->flags & ~(unsigned)STORE_DELETED,
        .keywords = words,
        .date = d->date,
        .guid = d->guid};
    while (rest.n && opt.nkeywords < STORE_KEYWORDS_MAX)
        words[opt.nkeywords++] = slice_cut(&rest, ',');
    int rc = store_append_begin(s, slice_of(d->folder), d->size, &a, err);
    if (rc)
        return rc;
    rc = store_append_fd(a, fd, d->size, err);
    if (rc) {
        store_append_abort(a);
        return rc;
    }
    return store_append_commit(a, &opt, out, err);
}

int store_undelete(
    struct store *s, const struct deleted *d, struct store_appended *out, struct error *err)
{
    int place, fd = -1, rc = place_fd(s, d, &place, err);
    *out = (struct store_appended){0};
    if (!rc && !store_exists(s, slice_of(d->folder)))
        rc = store_create(s, slice_of(d->folder), err);
    if (!rc && (fd = fs_open(place, d->file, O_RDONLY | O_NOFOLLOW, 0)) < 0)
        rc = error_sys(err, "a deleted message");
    if (!rc && is_back(s, d, fd))
        out->duplicate = true;
    else if (!rc)
        rc = append(s, d, fd, out, err);
    /* It must not be in neither place when the machine stops. */
    if (!rc)
        rc = store_sync(s->fd, err);
    if (!rc && fs_unlink(place, d->file, 0))
        rc = error_sys(err, "a deleted message");
    fs_close(&fd);
    fs_close(&place);
    return rc;
}

int store_deleted_remove(struct store *s, const struct deleted *d, struct error *err)
{
    int place, rc = place_fd(s, d, &place, err);
    if (!rc && fs_unlink(place, d->file, 0) && errno != ENOENT)
        rc = error_sys(err, "a deleted message");
    fs_close(&place);
    return rc;
}
