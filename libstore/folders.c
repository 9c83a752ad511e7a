/* Folders: listing, making, removing, renaming, subscribing. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libstore/foreign.h"
#include "libstore/journal.h"

enum { FOLDERS_MAX = 100000, SUBSCRIPTIONS_MAX = 8 << 20 };

struct list_of {
    struct store_folder *folders;
    size_t n, cap;
};

static void add(struct list_of *l, struct slice name, unsigned attrs)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 16;
        l->folders = xrealloc(l->folders, l->cap, sizeof(*l->folders));
    }
    char *copy = xmemdup0(name.p, name.n);
    l->folders[l->n++] = (struct store_folder){{copy, name.n}, attrs};
}

void store_list_free(struct store_folder *folders, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free((char *)folders[i].name.p);
    free(folders);
}

static int by_name(const void *a, const void *b)
{
    const struct store_folder *x = a, *y = b;
    bool inbox_x = name_is_inbox(x->name), inbox_y = name_is_inbox(y->name);
    if (inbox_x != inbox_y)
        return inbox_x ? -1 : 1;
    int c = slice_cmp(x->name, y->name);
    /* A real folder before the level of the same name that others imply. */
    return c ? c : (int)(x->attrs & STORE_NOSELECT) - (int)(y->attrs & STORE_NOSELECT);
}

static bool is_below(struct slice name, struct slice above)
{
    return name.n > above.n && name.p[above.n] == STORE_SEPARATOR &&
           slice_eq(slice_first(name, above.n), above);
}

/* Levels above folders; sorted, without repetitions; then who has children. */
static void complete(struct list_of *l)
{
    size_t real = l->n;
    for (size_t i = 0; i < real; i++) {
        struct slice name = l->folders[i].name;
        for (ptrdiff_t cut; (cut = slice_rchr(name, STORE_SEPARATOR)) > 0;) {
            name = slice_first(name, (size_t)cut);
            add(l, name, STORE_NOSELECT);
        }
    }
    qsort(l->folders, l->n, sizeof(*l->folders), by_name);
    size_t kept = 0;
    for (size_t i = 0; i < l->n; i++) {
        struct slice name = l->folders[i].name;
        if (kept && (slice_eq(l->folders[kept - 1].name, name) ||
                        (name_is_inbox(name) && name_is_inbox(l->folders[kept - 1].name))))
            free((char *)name.p);
        else
            l->folders[kept++] = l->folders[i];
    }
    l->n = kept;
    for (size_t i = 0; i < l->n; i++)
        for (size_t j = 0; j < l->n && !(l->folders[i].attrs & STORE_CHILDREN); j++)
            if (is_below(l->folders[j].name, l->folders[i].name))
                l->folders[i].attrs |= STORE_CHILDREN;
}

static bool is_dir(int dirfd, const struct fs_entry *e)
{
    struct stat st;
    if (e->type != DT_UNKNOWN)
        return e->type == DT_DIR;
    return fs_stat(dirfd, e->name, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool has_dir(struct store *s, const char *disk)
{
    struct stat st;
    return fs_stat(s->fd, disk, &st) == 0 && S_ISDIR(st.st_mode);
}

int store_folder_dir(
    struct store *s, struct slice folder, char disk[NAME_DISK_MAX], struct error *err)
{
    char raw[NAME_DISK_MAX];
    int rc = name_to_disk(folder, disk);
    if (name_to_raw(folder, raw) == OK && (rc || !has_dir(s, disk)) && has_dir(s, raw)) {
        memcpy(disk, raw, sizeof(raw));
        rc = OK;
    }
    return rc ? error_set(err, rc, "not a name for a folder") : OK;
}

/* Not so where the same folder is there twice, in both ways to write it. */
static bool leads_to(struct store *s, struct slice folder, const char *disk)
{
    char found[NAME_DISK_MAX];
    struct error ignored;
    return store_folder_dir(s, folder, found, &ignored) == OK && strcmp(found, disk) == 0;
}

static int read_folders(struct store *s, struct list_of *l, struct error *err)
{
    int fd = fs_open(s->fd, ".", O_RDONLY | O_DIRECTORY, 0);
    struct fs_dir *d = fs_dir_open(fd);
    struct buf name;
    if (!d) {
        fs_close(&fd);
        return error_sys(err, "listing folders");
    }
    buf_init(&name, STORE_NAME_MAX * 4);
    for (struct fs_entry e; l->n < FOLDERS_MAX && fs_dir_next(d, &e);) {
        buf_reset(&name);
        if (e.name[0] == '.' && is_dir(fd, &e) && name_from_disk(slice_of(e.name), &name) == OK &&
            leads_to(s, buf_slice(&name), e.name))
            add(l, buf_slice(&name), 0);
    }
    buf_clear(&name);
    fs_dir_close(d);
    return OK;
}

static int read_subscriptions(struct store *s, struct list_of *l, struct error *err)
{
    struct buf text;
    buf_init(&text, SUBSCRIPTIONS_MAX);
    int rc = io_slurp(s->fd, "veredus.subscriptions", &text, err);
    if (rc == ERR_NOT_FOUND)
        rc = foreign_subscriptions(s->fd, &text, err);
    struct slice rest = buf_slice(&text);
    while (!rc && rest.n) {
        struct slice line = slice_cut(&rest, '\n');
        if (line.n)
            add(l, line, STORE_SUBSCRIBED);
    }
    buf_clear(&text);
    return rc == ERR_NOT_FOUND ? OK : rc;
}

int store_list(struct store *s, struct store_folder **folders, size_t *n, struct error *err)
{
    struct list_of all = {0}, subscribed = {0};
    add(&all, SLICE_LIT("INBOX"), 0);
    int rc = read_folders(s, &all, err);
    if (!rc)
        rc = read_subscriptions(s, &subscribed, err);
    if (!rc)
        complete(&all);
    struct map names;
    map_init(&names);
    for (size_t i = 0; i < subscribed.n; i++)
        map_set(&names, subscribed.folders[i].name, &subscribed.folders[i]);
    for (size_t i = 0; i < all.n; i++)
        if (map_get(&names, all.folders[i].name))
            all.folders[i].attrs |= STORE_SUBSCRIBED;
    map_clear(&names);
    store_list_free(subscribed.folders, subscribed.n);
    if (rc) {
        store_list_free(all.folders, all.n);
        return rc;
    }
    *folders = all.folders;
    *n = all.n;
    return OK;
}

int store_list_subscribed(
    struct store *s, struct store_folder **folders, size_t *n, struct error *err)
{
    struct list_of l = {0}, real = {0};
    int rc = read_subscriptions(s, &l, err);
    if (!rc)
        rc = store_list(s, &real.folders, &real.n, err);
    for (size_t i = 0; !rc && i < l.n; i++)
        for (size_t j = 0; j < real.n; j++)
            if (slice_eq(l.folders[i].name, real.folders[j].name))
                l.folders[i].attrs |= real.folders[j].attrs;
    store_list_free(real.folders, real.n);
    if (rc) {
        store_list_free(l.folders, l.n);
        return rc;
    }
    if (l.n)
        qsort(l.folders, l.n, sizeof(*l.folders), by_name);
    *folders = l.folders;
    *n = l.n;
    return OK;
}

/* One process at a time changes the set of folders. *fd is the lock. */
static int lock_folders(struct store *s, int *fd, struct error *err)
{
    *fd = fs_open(s->fd, "veredus.folders", O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
    if (*fd < 0)
        return error_sys(err, "opening veredus.folders");
    int rc = dir_lock(*fd, err);
    if (rc)
        fs_close(fd);
    return rc;
}

int store_subscribe(struct store *s, struct slice folder, bool subscribed, struct error *err)
{
    struct list_of l = {0};
    struct buf text;
    int fd, rc = store_name_check(folder);
    if (rc)
        return error_set(err, rc, "not a name for a folder");
    if (name_is_inbox(folder))
        folder = SLICE_LIT("INBOX");
    rc = lock_folders(s, &fd, err);
    if (rc)
        return rc;
    buf_init(&text, SUBSCRIPTIONS_MAX);
    rc = read_subscriptions(s, &l, err);
    for (size_t i = 0; i < l.n; i++)
        if (!slice_eq(l.folders[i].name, folder))
            buf_printf(&text, "%.*s\n", SLICE_FMT(l.folders[i].name));
    if (subscribed)
        buf_printf(&text, "%.*s\n", SLICE_FMT(folder));
    if (!rc && text.failed)
        rc = error_set(err, ERR_LIMIT, "too many subscriptions");
    if (!rc)
        rc = io_replace(s->fd, "veredus.subscriptions", buf_slice(&text), err);
    buf_clear(&text);
    store_list_free(l.folders, l.n);
    fs_close(&fd);
    return rc;
}

bool store_exists(struct store *s, struct slice folder)
{
    char disk[NAME_DISK_MAX];
    struct error ignored;
    return store_folder_dir(s, folder, disk, &ignored) == OK && has_dir(s, disk);
}

/* A folder that could not be made whole. Without a log nobody has put a message there; who is about
 * to make one waits for the directory. */
static void undo_create(struct store *s, const char *disk)
{
    static const char *const dirs[] = {"cur", "new", "tmp"};
    static const char *const files[] = {"veredus.index", "veredus.index.new", "veredus.log.new"};
    struct stat st;
    struct error ignored;
    int fd = fs_open(s->fd, disk, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    bool ours = fd >= 0 && dir_lock(fd, &ignored) == OK && fs_stat(fd, "veredus.log", &st) &&
                errno == ENOENT;
    if (fd < 0) /* no descriptor is left: it may be empty yet */
        fs_unlink(s->fd, disk, AT_REMOVEDIR);
    for (size_t i = 0; ours && i < ARRAY_LEN(dirs); i++)
        ours = fs_unlink(fd, dirs[i], AT_REMOVEDIR) == 0 || errno == ENOENT;
    for (size_t i = 0; ours && i < ARRAY_LEN(files); i++)
        fs_unlink(fd, files[i], 0);
    if (ours)
        fs_unlink(s->fd, disk, AT_REMOVEDIR);
    fs_close(&fd);
}

static int create(struct store *s, const char *disk, struct error *err)
{
    struct box *b;
    if (fs_mkdir(s->fd, disk, 0700))
        return error_sys(err, "making folder");
    int rc = box_open(s, disk, &b, err);
    if (rc) {
        undo_create(s, disk);
        return rc;
    }
    /* What Courier and others look for in a folder. */
    int fd = fs_open(b->dirfd, "maildirfolder", O_WRONLY | O_CREAT, 0600);
    fs_close(&fd);
    rc = box_settle(b, err);
    box_close(b);
    return rc;
}

int store_create_locked(struct store *s, struct slice folder, struct error *err)
{
    char disk[NAME_DISK_MAX];
    int rc = store_folder_dir(s, folder, disk, err);
    if (rc)
        return rc;
    if (strcmp(disk, ".") == 0)
        return error_set(err, ERR_EXISTS, "INBOX always exists");
    rc = create(s, disk, err);
    /* Who has a journal has a mail directory that is on disk. */
    if (!rc && (s->journal.fd >= 0 ? fs_sync(s->fd) : fs_sync_all(s->fd)))
        rc = error_sys(err, "syncing the mail directory");
    return rc;
}

int store_create(struct store *s, struct slice folder, struct error *err)
{
    int lock, rc = lock_folders(s, &lock, err);
    if (rc)
        return rc;
    rc = store_create_locked(s, folder, err);
    fs_close(&lock);
    return rc;
}

/* Everything in a directory two levels deep: what a Maildir has. */
static void remove_tree(int parent, const char *name, int depth)
{
    int fd = fs_open(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    struct fs_dir *d = fs_dir_open(fd);
    if (!d)
        fs_close(&fd);
    for (struct fs_entry e; d && fs_dir_next(d, &e);) {
        if (strcmp(e.name, ".") == 0 || strcmp(e.name, "..") == 0)
            continue;
        if (fs_unlink(fd, e.name, 0) && depth > 0)
            remove_tree(fd, e.name, depth - 1);
    }
    if (d)
        fs_dir_close(d);
    fs_unlink(parent, name, AT_REMOVEDIR);
}

static const char trash_prefix[] = "veredus.trash.";

/* Also what an earlier deletion left when its process died. */
static void empty_trash(struct store *s)
{
    int fd = fs_open(s->fd, ".", O_RDONLY | O_DIRECTORY, 0);
    struct fs_dir *d = fs_dir_open(fd);
    if (!d)
        fs_close(&fd);
    for (struct fs_entry e; d && fs_dir_next(d, &e);)
        if (strncmp(e.name, trash_prefix, sizeof(trash_prefix) - 1) == 0)
            remove_tree(s->fd, e.name, 2);
    if (d)
        fs_dir_close(d);
}

/* What cannot be read is kept without its flags. */
static void keep_messages(struct store *s, struct box *b)
{
    struct error ignored;
    bool switched;
    enum txn_state state = TXN_END;
    deleted_gather(s, b->disk);
    int rc = box_load(b, &ignored);
    if (!rc)
        rc = box_follow(b, &switched, &state, &ignored);
    deleted_keep_all(b, rc == OK);
}

/* Seized. Who has it open finds its log gone, and then the folder: in this order, so that nobody
 * who dies in between leaves them one that works and is to be removed. A log that cannot be opened
 * goes all the same: nobody else can write to it, either. */
static int put_in_trash(struct store *s, struct box *b, struct error *err)
{
    char trash[80], hex[2 * STORE_GUID + 1];
    unsigned char guid[STORE_GUID];
    int log, rc = box_seize_log(b, &log, err);
    guid_new(s, guid);
    guid_hex(guid, hex);
    snprintf(trash, sizeof(trash), "%s%s", trash_prefix, hex);
    if (rc != ERR_BUSY) {
        rc = OK;
        if (s->opt.keep_deleted)
            keep_messages(s, b);
        if ((fs_unlink(b->ixfd, "veredus.log", 0) && errno != ENOENT) ||
            fs_rename(s->fd, b->disk, s->fd, trash))
            rc = error_sys(err, "deleting folder");
    }
    fs_close(&log);
    return rc;
}

/* With the set of folders locked. */
static int delete_locked(struct store *s, const char *disk, struct error *err)
{
    struct box *b;
    int rc = box_open_dir(s, disk, &b, err);
    if (rc)
        return rc;
    rc = journal_settle(s, err);
    if (!rc)
        rc = box_seize(b, err);
    if (!rc) {
        rc = put_in_trash(s, b, err);
        dir_unlock(b->ixfd);
    }
    box_close(b);
    /* An append that came before may have noted itself since; one that does it now finds no log. */
    return rc ? rc : journal_settle(s, err);
}

int store_delete(struct store *s, struct slice folder, struct error *err)
{
    char disk[NAME_DISK_MAX];
    struct error ignored;
    int lock, rc = store_folder_dir(s, folder, disk, err);
    if (rc)
        return rc;
    if (strcmp(disk, ".") == 0)
        return error_set(err, ERR_DENIED, "INBOX cannot be deleted");
    store_drop_box(s);
    /* The flags of what is kept, as far as a repair finds them. */
    if (s->opt.keep_deleted)
        (void)!box_rebuild(s, disk, false, &ignored);
    rc = lock_folders(s, &lock, err);
    if (rc)
        return rc;
    rc = delete_locked(s, disk, err);
    fs_close(&lock);
    if (rc)
        return rc;
    fs_sync(s->fd);
    empty_trash(s);
    return OK;
}

/* INBOX stays, its messages go to the new folder (RFC 3501 §6.3.5). */
static int rename_inbox(struct store *s, struct slice to, struct error *err)
{
    struct store_mailbox *mb;
    struct store_copied copied;
    struct uidset all = {0};
    int rc = store_create(s, to, err);
    if (rc)
        return rc;
    rc = store_select(s, SLICE_LIT("INBOX"), false, &mb, err);
    if (rc)
        return rc;
    uidset_add_range(&all, 1, UINT32_MAX);
    rc = store_copy(mb, &all, to, &copied, err);
    store_copied_clear(&copied);
    if (!rc)
        rc = store_expunge(mb, &all, false, NULL, err);
    uidset_clear(&all);
    store_unselect(mb);
    return rc;
}

/* The folder itself and those below it, as they are called on disk. */
static bool belongs(const char *disk, const char *top)
{
    size_t n = strlen(top);
    return strncmp(disk, top, n) == 0 && (disk[n] == '\0' || disk[n] == '.');
}

/* `from` and `to` as we would write them; so is each that is moved. */
static int rename_all(struct store *s, const char *from, const char *to, struct error *err)
{
    struct list_of l = {0};
    char old[NAME_DISK_MAX], new[2 * NAME_DISK_MAX], dir[NAME_DISK_MAX];
    int rc = read_folders(s, &l, err);
    size_t moved = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; !rc && i < l.n; i++) {
            if (name_to_disk(l.folders[i].name, old) || !belongs(old, from))
                continue;
            int n = snprintf(new, sizeof(new), "%s%s", to, old + strlen(from));
            /* First see that all fit, then move. */
            if (n > STORE_NAME_MAX)
                rc = error_set(err, ERR_SYNTAX, "a folder's name would be too long");
            else
                rc = store_folder_dir(s, l.folders[i].name, dir, err);
            if (!rc && pass && fs_rename(s->fd, dir, s->fd, new))
                rc = error_sys(err, "renaming folder %s", dir);
            moved += !rc;
        }
    }
    store_list_free(l.folders, l.n);
    return !rc && !moved ? error_set(err, ERR_NOT_FOUND, "no such folder") : rc;
}

static bool taken(struct store *s, const char *disk, struct error *err)
{
    struct list_of l = {0};
    char each[NAME_DISK_MAX];
    bool found = read_folders(s, &l, err) != OK;
    for (size_t i = 0; i < l.n; i++)
        found |= name_to_disk(l.folders[i].name, each) == OK && belongs(each, disk);
    store_list_free(l.folders, l.n);
    return found;
}

int store_rename(struct store *s, struct slice from, struct slice to, struct error *err)
{
    char old[NAME_DISK_MAX], new[NAME_DISK_MAX];
    int fd, rc;
    if (name_to_disk(from, old) || name_to_disk(to, new))
        return error_set(err, ERR_SYNTAX, "not a name for a folder");
    if (strcmp(new, ".") == 0)
        return error_set(err, ERR_EXISTS, "INBOX always exists");
    if (strcmp(old, ".") == 0)
        return rename_inbox(s, to, err);
    if (is_below(to, from))
        return error_set(err, ERR_DENIED, "a folder cannot move into itself");
    store_drop_box(s);
    rc = lock_folders(s, &fd, err);
    if (rc)
        return rc;
    /* What the journal tells of a folder, it tells under the name that the folder has. */
    rc = journal_hold(s, err);
    if (!rc) {
        if (taken(s, new, err))
            rc = error_set(err, ERR_EXISTS, "a folder of that name exists");
        else
            rc = rename_all(s, old, new, err);
        fs_sync(s->fd);
        journal_release(s);
    }
    fs_close(&fd);
    return rc;
}
