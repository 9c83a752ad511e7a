/* Opening a mail directory, and what belongs to it as a whole. */
#include "libstore/store.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "libstore/journal.h"

enum { OPEN_DIR = O_RDONLY | O_DIRECTORY };

/* Nothing here syncs a mail directory that it makes: what is durable in one syncs all before it
 * (journal_make, store_create), and a delivery is by store_sync. */

/* One step down, never through a symbolic link. Takes the parent's descriptor. */
static int step(int parent, struct slice name, bool create, int *out, struct error *err)
{
    char part[256];
    int rc = OK;
    *out = -1;
    if (name.n == 0 || slice_is(name, "..") || !slice_to_cstr(name, part, sizeof(part)))
        rc = error_set(err, ERR_DENIED, "path of the mail directory has a bad part");
    if (!rc)
        *out = fs_open(parent, part, OPEN_DIR | O_NOFOLLOW, 0);
    if (!rc && *out < 0 && errno == ENOENT && create) {
        if (fs_mkdir(parent, part, 0700) == 0 || errno == EEXIST)
            *out = fs_open(parent, part, OPEN_DIR | O_NOFOLLOW, 0);
    }
    if (!rc && *out < 0)
        rc = errno == ELOOP || errno == ENOTDIR
                 ? error_set(err, ERR_DENIED, "mail directory: %s is no directory", part)
                 : error_sys(err, "mail directory %s", part);
    fs_close(&parent);
    return rc;
}

static int open_below(int at, struct slice path, bool create, int *out, struct error *err)
{
    int fd = fs_dup(at), rc = OK;
    if (fd < 0)
        return error_sys(err, "mail directory");
    if (slice_starts(path, "/")) {
        fs_close(&fd);
        return error_set(err, ERR_DENIED, "path of the mail directory is absolute");
    }
    while (path.n && !rc)
        rc = step(fd, slice_cut(&path, '/'), create, &fd, err);
    *out = fd;
    return rc;
}

static int open_path(const char *path, bool create, int *out, struct error *err)
{
    *out = fs_open(AT_FDCWD, path, OPEN_DIR, 0);
    if (*out < 0 && errno == ENOENT && create &&
        (fs_mkdir(AT_FDCWD, path, 0700) == 0 || errno == EEXIST))
        *out = fs_open(AT_FDCWD, path, OPEN_DIR, 0);
    return *out < 0 ? error_sys(err, "mail directory %s", path) : OK;
}

int store_open(int at, const char *path, const struct store_options *opt, struct store **out,
    struct error *err)
{
    int fd = -1, rc;
    if (at == AT_FDCWD)
        rc = open_path(path, opt->create, &fd, err);
    else
        rc = open_below(at, slice_of(path), opt->create, &fd, err);
    if (rc)
        return rc;
    struct store *s = NEW(struct store);
    s->fd = fd;
    s->opt = *opt;
    s->apart = place_is_apart(opt);
    s->maildir = !opt->single ? fd : opt->maildir > 0 ? opt->maildir : -1;
    s->tomb_days = opt->tomb_days ? opt->tomb_days : TOMB_DAYS;
    s->maildrop_fd = s->restore_fd = s->journal.fd = -1;
    if (fs_random(s->seed, sizeof(s->seed))) {
        store_close(s);
        return error_sys(err, "random numbers");
    }
    rc = journal_replay(s, err);
    if (rc) {
        store_close(s);
        return rc;
    }
    *out = s;
    return OK;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    store_drop_box(s);
    quota_free(s->quota);
    fs_close(&s->maildrop_fd);
    fs_close(&s->restore_fd);
    fs_close(&s->journal.fd);
    fs_close(&s->fd);
    free(s);
}

void store_drop_box(struct store *s)
{
    box_close(s->box);
    s->box = NULL;
}

int store_box(struct store *s, struct slice folder, struct box **out, struct error *err)
{
    char disk[NAME_DISK_MAX];
    int rc = store_folder_dir(s, folder, disk, err);
    if (rc)
        return rc;
    if (s->box && strcmp(s->box->disk, disk) != 0)
        store_drop_box(s);
    if (!s->box)
        rc = box_open(s, disk, &s->box, err);
    *out = s->box;
    return rc;
}

/* Milliseconds, a random number of this handle, and a counter: no two are ever equal. */
void guid_new(struct store *s, unsigned char guid[STORE_GUID])
{
    uint64_t ms = (uint64_t)fs_now() / 1000000;
    for (size_t i = 0; i < 6; i++)
        guid[i] = (unsigned char)(ms >> (8 * (5 - i)));
    uint64_t number;
    memcpy(&number, s->seed, sizeof(number));
    number += ++s->counter;
    memcpy(guid + 6, &number, STORE_EMAIL - 6);
    memcpy(guid + STORE_EMAIL, s->seed + 8, STORE_GUID - STORE_EMAIL);
}

void guid_copy(
    struct store *s, const unsigned char from[STORE_GUID], unsigned char guid[STORE_GUID])
{
    uint32_t count = ++s->counter;
    uint64_t end = 0xcbf29ce484222325u ^ count;
    for (size_t i = 0; i < sizeof(s->seed); i++)
        end = (end ^ s->seed[i]) * 0x100000001b3u;
    end = (end ^ (uint64_t)fs_now()) * 0x9e3779b97f4a7c15u;
    memcpy(guid, from, STORE_EMAIL);
    for (size_t i = STORE_EMAIL; i < STORE_GUID; i++)
        guid[i] = (unsigned char)(end >> (8 * (i - STORE_EMAIL + 4)));
}

int store_status(struct store *s, struct slice folder, struct store_status *st, struct error *err)
{
    struct box *b = NULL;
    bool opened = !s->box;
    int rc = store_box(s, folder, &b, err);
    if (!rc && !opened)
        rc = s->opt.coexist ? box_scan(b, err) : OK;
    if (!rc)
        rc = box_catch_up(b, err);
    if (rc) {
        store_drop_box(s);
        return rc;
    }
    *st = (struct store_status){.uidnext = b->head.uidnext,
        .uidvalidity = b->head.uidvalidity,
        .highestmodseq = b->head.modseq};
    for (size_t i = 0; b->head.unsized && i < box_count(b); i++)
        if (!(box_rec(b, i)->bits & (REC_GONE | REC_SIZED)))
            body_size(b, i);
    st->messages = (uint32_t)b->live;
    st->unseen = b->head.unseen;
    st->deleted = b->head.deleted;
    st->size = b->head.bytes;
    st->mailbox = b->head.mailbox_id;
    for (size_t i = box_find(b, b->head.first_recent); i < box_count(b); i++)
        st->recent += !(box_rec(b, i)->bits & REC_GONE);
    return OK;
}

int store_lock_maildrop(struct store *s, struct error *err)
{
    if (s->maildrop_fd >= 0)
        return error_set(err, ERR_BUSY, "the maildrop is locked already");
    int fd = fs_open(s->fd, "veredus.maildrop", O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_sys(err, "opening veredus.maildrop");
    if (fs_lock(fd, F_WRLCK)) {
        bool busy = errno == EAGAIN || errno == EACCES;
        int rc = busy ? error_set(err, ERR_BUSY, "another session has the maildrop")
                      : error_sys(err, "locking the maildrop");
        fs_close(&fd);
        return rc;
    }
    s->maildrop_fd = fd;
    return OK;
}

int store_dirfd(const struct store *s)
{
    return s->fd;
}

void store_flush(struct store *s)
{
    if (s->box)
        cache_flush(s->box);
}

int store_sync(int dirfd, struct error *err)
{
    return fs_sync_all(dirfd) ? error_sys(err, "syncing the mail directory") : OK;
}

/* With `given` notes that one; otherwise makes a new one. */
static int next_uidvalidity(struct store *s, uint32_t given, uint32_t *out, struct error *err)
{
    struct buf text;
    uint64_t last = 0;
    buf_init(&text, 65536);
    int rc = io_slurp(s->fd, "veredus.uidvalidity", &text, err);
    if (!rc && slice_u64(slice_trim(buf_slice(&text)), 1, UINT32_MAX - 1, &last))
        last = 0; /* unreadable: the clock alone has to do */
    if (!rc || rc == ERR_NOT_FOUND) {
        *out = given ? given : MAX(fs_time(), (uint32_t)last + 1);
        buf_reset(&text);
        buf_printf(&text, "%u\n", MAX(*out, (uint32_t)last));
        /* The clock alone tells as much, unless it was overtaken. */
        bool sync = given || *out != fs_time();
        rc = (sync ? io_replace : io_replace_lazy)(
            s->fd, "veredus.uidvalidity", buf_slice(&text), err);
        if (!rc && sync && fs_sync(s->fd))
            rc = error_sys(err, "syncing the mail directory");
    }
    buf_clear(&text);
    return rc;
}

static int with_uidlock(struct store *s, uint32_t given, uint32_t *out, struct error *err)
{
    /* A descriptor of its own: the lock must not be mistaken for one that we hold on a box. */
    int fd = fs_open(s->fd, "veredus.uidlock", O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_sys(err, "opening veredus.uidlock");
    int rc = dir_lock(fd, err);
    if (!rc)
        rc = next_uidvalidity(s, given, out, err);
    fs_close(&fd);
    return rc;
}

int store_new_uidvalidity(struct store *s, uint32_t *out, struct error *err)
{
    return with_uidlock(s, 0, out, err);
}

int store_note_uidvalidity(struct store *s, uint32_t given, struct error *err)
{
    return with_uidlock(s, given, &given, err);
}

int store_rebuild(struct store *s, struct slice folder, struct error *err)
{
    char disk[NAME_DISK_MAX];
    int rc = store_folder_dir(s, folder, disk, err);
    if (rc)
        return rc;
    store_drop_box(s);
    return box_rebuild(s, disk, true, err);
}
