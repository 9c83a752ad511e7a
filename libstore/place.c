/* Where the files of a folder lie that are no messages: index, log, cache, lists. */
#include <errno.h>
#include <fcntl.h>

#include "libstore/private.h"

static const char inbox_place[] = "veredus.inbox";

bool place_is_apart(const struct store_options *opt)
{
    return !opt->single && !opt->coexist;
}

const char *folder_place(const struct store *s, const char *disk)
{
    return strcmp(disk, ".") == 0 && s->apart ? inbox_place : disk;
}

/* The directory, made when it is INBOX's and not there; *fd -1 on error. */
static int open_place(struct store *s, const char *disk, int *fd, struct error *err)
{
    const char *place = folder_place(s, disk);
    *fd = fs_open(s->fd, place, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    if (*fd < 0 && errno == ENOENT && place == inbox_place &&
        (fs_mkdir(s->fd, place, 0700) == 0 || errno == EEXIST))
        *fd = fs_open(s->fd, place, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    return *fd < 0 ? error_sys(err, "folder %s", disk) : OK;
}

/* Everything in it goes to the messages. The log first: a process without coexistence that comes
 * when we died half way takes it for one that is to be moved in, and completes that. */
static int empty_place(struct store *s, int from, struct error *err)
{
    static const char log[] = "veredus.log";
    struct fs_entry e;
    int walk = fs_dup(from), rc = OK;
    struct fs_dir *dir = walk < 0 ? NULL : fs_dir_open(walk);
    if (!dir) {
        fs_close(&walk);
        return error_sys(err, "reading %s", inbox_place);
    }
    if ((fs_rename(from, log, s->fd, log) && errno != ENOENT) || fs_sync(s->fd))
        rc = error_sys(err, "moving %s", log);
    while (!rc && fs_dir_next(dir, &e))
        if (strcmp(e.name, ".") != 0 && strcmp(e.name, "..") != 0 &&
            fs_rename(from, e.name, s->fd, e.name) && errno != ENOENT)
            rc = error_sys(err, "moving %s", e.name);
    fs_dir_close(dir);
    if (!rc && fs_sync(s->fd))
        rc = error_sys(err, "syncing the mail directory");
    return rc;
}

/* With coexistence, where there was none before: other programs take any directory for a folder. It
 * is removed, so that nothing can be written where nobody looks any more. */
static int move_out(struct store *s, struct error *err)
{
    int from = fs_open(s->fd, inbox_place, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    if (from < 0)
        return errno == ENOENT ? OK : error_sys(err, "%s", inbox_place);
    s->apart = true;
    deleted_gather(s, ".");
    s->apart = false;
    int rc = dir_lock(from, err);
    if (!rc)
        rc = dir_lock(s->fd, err);
    if (!rc) {
        rc = empty_place(s, from, err);
        dir_unlock(s->fd);
    }
    if (!rc && fs_unlink(s->fd, inbox_place, AT_REMOVEDIR) && errno != ENOENT)
        rc = error_sys(err, "removing %s", inbox_place);
    fs_close(&from);
    return rc;
}

bool place_holds(const struct box *b)
{
    struct stat st;
    bool beside = b->store->opt.coexist && strcmp(b->disk, ".") == 0;
    return !beside || fs_stat(b->store->fd, inbox_place, &st) != 0;
}

int box_open_place(struct box *b, struct error *err)
{
    int rc = place_holds(b) ? OK : move_out(b->store, err);
    if (!rc)
        rc = open_place(b->store, b->disk, &b->ixfd, err);
    if (rc)
        return rc;
    bool guest = b->store->opt.single && b->store->maildir >= 0;
    bool apart = strcmp(b->disk, ".") == 0 && (b->store->apart || guest);
    b->dirfd = apart ? b->store->maildir : b->ixfd;
    return OK;
}

int store_open_place(struct store *s, struct slice folder, int *fd, struct error *err)
{
    char disk[NAME_DISK_MAX];
    *fd = -1;
    int rc = store_folder_dir(s, folder, disk, err);
    return rc ? rc : open_place(s, disk, fd, err);
}

int box_sync_dirs(const struct box *b)
{
    /* A guest has the mail directory only to walk through; what it needs there is older. */
    bool apart = b->dirfd != b->ixfd && !b->store->opt.single;
    return fs_sync(b->ixfd) || (apart && fs_sync(b->dirfd)) ? -1 : 0;
}

static int move_in(struct box *b, struct error *err)
{
    /* The log last: it tells that there is something to be moved. */
    static const char *const files[] = {"veredus.index", "veredus.cache", "veredus.uidl",
        "veredus.metadata", "veredus.acl", "veredus.log"};
    const size_t last = ARRAY_LEN(files) - 1;
    struct stat st;
    /* The directory may have been made a moment ago, and would take along what is in it. */
    if (fs_sync(b->dirfd))
        return error_sys(err, "syncing the mail directory");
    for (size_t i = 0; i <= last; i++) {
        if (i == last && fs_sync(b->ixfd))
            return error_sys(err, "syncing %s", inbox_place);
        if (fs_stat(b->ixfd, files[i], &st) && fs_rename(b->dirfd, files[i], b->ixfd, files[i]) &&
            errno != ENOENT)
            return error_sys(err, "moving %s", files[i]);
    }
    return box_sync_dirs(b) ? error_sys(err, "syncing %s", inbox_place) : OK;
}

int place_move_in(struct box *b, struct error *err)
{
    struct stat st;
    if (b->dirfd == b->ixfd || b->store->opt.single || fs_stat(b->dirfd, "veredus.log", &st))
        return OK;
    /* A process with coexistence that still has it there may be folding it. */
    int rc = dir_lock(b->dirfd, err);
    if (rc)
        return rc;
    rc = move_in(b, err);
    dir_unlock(b->dirfd);
    return rc;
}
