/* Where the files of a folder lie that are no messages: index, log, cache, lists. */
#include <errno.h>
#include <fcntl.h>

#include "libstore/private.h"

static const char inbox_place[] = "veredus.inbox";

bool place_is_apart(int fd, const struct store_options *opt)
{
    struct stat st;
    if (opt->single)
        return false;
    return !opt->coexist || (fs_stat(fd, inbox_place, &st) == 0 && S_ISDIR(st.st_mode));
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

int box_open_place(struct box *b, struct error *err)
{
    int rc = open_place(b->store, b->disk, &b->ixfd, err);
    bool guest = b->store->opt.single && b->store->maildir >= 0;
    bool apart = strcmp(b->disk, ".") == 0 && (b->store->apart || guest);
    b->dirfd = apart ? b->store->maildir : b->ixfd;
    return rc;
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

int place_move_in(struct box *b, struct error *err)
{
    /* The log last: it tells that there is something to be moved. */
    static const char *const files[] = {
        "veredus.index", "veredus.cache", "veredus.uidl", "veredus.metadata", "veredus.log"};
    const size_t last = ARRAY_LEN(files) - 1;
    struct stat st;
    if (b->dirfd == b->ixfd || b->store->opt.single || fs_stat(b->dirfd, files[last], &st))
        return OK;
    for (size_t i = 0; i <= last; i++) {
        if (i == last && fs_sync(b->ixfd))
            return error_sys(err, "syncing %s", inbox_place);
        if (fs_stat(b->ixfd, files[i], &st) && fs_rename(b->dirfd, files[i], b->ixfd, files[i]) &&
            errno != ENOENT)
            return error_sys(err, "moving %s", files[i]);
    }
    return box_sync_dirs(b) ? error_sys(err, "syncing %s", inbox_place) : OK;
}
