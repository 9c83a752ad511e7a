#include "libstore/restore.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "libstore/private.h"

static const char aside_name[] = "veredus.restore";

/* A directory of files, and of directories of files. */
static void remove_below(int parent, const char *name, int depth)
{
    struct fs_entry e;
    int fd = fs_open(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    struct fs_dir *d = io_walk(fd);
    while (d && fs_dir_next(d, &e)) {
        if (strcmp(e.name, ".") == 0 || strcmp(e.name, "..") == 0)
            continue;
        if (fs_unlink(fd, e.name, 0) && depth > 0)
            remove_below(fd, e.name, depth - 1);
    }
    if (d)
        fs_dir_close(d);
    fs_close(&fd);
    fs_unlink(parent, name, AT_REMOVEDIR);
}

/* Two at a time would remove each other's messages. */
static int lock_aside(struct store *s, int *fd, struct error *err)
{
    *fd = fs_open(s->fd, "veredus.restorelock", O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
    if (*fd < 0)
        return error_sys(err, "opening veredus.restorelock");
    if (fs_flock(*fd, LOCK_EX | LOCK_NB) == 0)
        return OK;
    int rc = errno == EWOULDBLOCK ? error_set(err, ERR_BUSY, "another restore is under way")
                                  : error_sys(err, "locking veredus.restorelock");
    fs_close(fd);
    return rc;
}

int store_restore_begin(struct store *s, struct store **aside, struct error *err)
{
    struct store_options opt = {.create = true, .coexist = s->opt.coexist};
    struct stat st;
    int fd, rc = lock_aside(s, &fd, err);
    if (rc)
        return rc;
    remove_below(s->fd, aside_name, 2);
    if (fs_stat(s->fd, aside_name, &st) == 0)
        rc = error_set(err, ERR_IO, "%s of an earlier restore cannot be removed", aside_name);
    if (!rc)
        rc = store_open(s->fd, aside_name, &opt, aside, err);
    if (rc)
        fs_close(&fd);
    else
        (*aside)->restore_fd = fd;
    return rc;
}

int store_restore_numbers(
    struct store *aside, uint32_t uidvalidity, uint64_t modseq, uint64_t mailbox, struct error *err)
{
    struct box *b;
    int rc = store_box(aside, SLICE_LIT("INBOX"), &b, err);
    if (!rc)
        rc = box_lock(b, err);
    if (rc)
        return rc;
    b->head.uidvalidity = uidvalidity;
    if (mailbox)
        b->head.mailbox_id = mailbox;
    b->head.sequence = MAX(b->head.sequence, modseq + BOOT_JUMP);
    b->head.modseq = b->head.tomb_floor = b->head.sequence;
    rc = box_rotate(b, -1, err);
    box_unlock(b);
    store_drop_box(aside);
    return rc;
}

static int move_files(int from, int to, const char *where, struct error *err)
{
    struct fs_entry e;
    int source = fs_open(from, where, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    int target = fs_open(to, where, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    struct fs_dir *d = io_walk(source);
    int rc = OK;
    if (!d || target < 0)
        rc = error_sys(err, "folder's %s", where);
    while (!rc && fs_dir_next(d, &e))
        if (e.name[0] != '.' && fs_rename(source, e.name, target, e.name))
            rc = error_sys(err, "moving a message");
    if (!rc && (errno || fs_sync(target))) /* errno: of the reading, 0 at the end */
        rc = error_sys(err, "folder's %s", where);
    if (d)
        fs_dir_close(d);
    fs_close(&source);
    fs_close(&target);
    return rc;
}

/* Who comes next finds messages alone, and numbers them anew under another UIDVALIDITY. A disk that
 * refuses that, too, leaves what is found to be damaged at the opening. */
static void forget_numbers(struct box *to)
{
    (void)!fs_unlink(to->ixfd, "veredus.index", 0);
    (void)!fs_unlink(to->ixfd, "veredus.log", 0);
}

/* Locked. Messages, then the cache and index, and the log last: it is what tells others. Between
 * index and log, those that know the old log would go on with it under numbers of the new index. */
static int take_place(struct box *from, struct box *to, struct error *err)
{
    static const char *const files[] = {"veredus.cache", "veredus.index", "veredus.log"};
    size_t done = 0;
    int rc = move_files(from->dirfd, to->dirfd, "cur", err);
    if (!rc)
        rc = move_files(from->dirfd, to->dirfd, "new", err);
    for (; !rc && done < ARRAY_LEN(files); done += !rc)
        if (fs_rename(from->ixfd, files[done], to->ixfd, files[done]) &&
            (done > 0 || errno != ENOENT))
            rc = error_sys(err, "moving %s", files[done]);
    if (rc && done == 2)
        forget_numbers(to);
    if (!rc && box_sync_dirs(to))
        rc = error_sys(err, "syncing a folder");
    return rc;
}

/* Both folders locked, so that their logs are whole and nobody adds to them. */
static int install(struct box *from, struct box *to, struct error *err)
{
    int rc = box_lock(from, err);
    if (rc)
        return rc;
    /* The directory, too: nobody may be folding its log meanwhile. */
    rc = dir_lock(to->ixfd, err);
    if (!rc)
        rc = box_lock(to, err);
    if (!rc) {
        if (to->live || to->head.uidvalidity == from->head.uidvalidity)
            rc = error_set(err, ERR_EXISTS, "the folder is in use");
        if (!rc)
            rc = maildir_make(to->dirfd, err);
        if (!rc)
            rc = take_place(from, to, err);
        to->log_off = 0; /* what `to` knows is of the past: nothing to be folded in */
        box_unlock(to);
    }
    dir_unlock(to->ixfd);
    box_unlock(from);
    return rc;
}

int store_restore_install(
    struct store *s, struct store *aside, struct slice folder, struct error *err)
{
    struct box *from, *to;
    char disk[NAME_DISK_MAX];
    int rc = maildir_make(aside->fd, err);
    /* Its messages are durable before anyone hears of them. */
    if (!rc)
        rc = store_sync(aside->fd, err);
    if (!rc)
        rc = box_open(aside, ".", &from, err);
    if (rc)
        return rc;
    store_drop_box(s);
    /* Before the folder gets numbers of its own, which must be others. */
    rc = store_note_uidvalidity(s, from->head.uidvalidity, err);
    if (!rc && !store_exists(s, folder))
        rc = store_create(s, folder, err);
    if (!rc)
        rc = store_folder_dir(s, folder, disk, err);
    if (!rc)
        rc = box_open(s, disk, &to, err);
    if (!rc) {
        rc = install(from, to, err);
        if (!rc)
            box_announce(to);
        box_close(to);
    }
    box_close(from);
    return rc;
}

void store_restore_end(struct store *s, struct store *aside)
{
    int fd = aside->restore_fd;
    aside->restore_fd = -1;
    store_close(aside);
    remove_below(s->fd, aside_name, 2);
    fs_close(&fd);
}
