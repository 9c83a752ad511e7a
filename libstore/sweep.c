/* Files of expunged messages. Removing one can take milliseconds, so a client that expunges many
 * does not wait for all: what is left goes while the session has nothing to do, at its end, or by
 * housekeeping. Until then its tombstone tells that the file counts no more. */
#include "libstore/view.h"

enum { AT_A_TIME = 8 };

void view_discard(struct store_mailbox *mb, int ms)
{
    struct box *b = mb->box;
    struct uidset *left = &mb->leftover;
    int64_t end = fs_now() + (int64_t)ms * 1000000;
    for (size_t n = 0; left->n && (n % AT_A_TIME || fs_now() < end); n++) {
        uint32_t uid = left->ranges[left->n - 1].max;
        size_t pos = box_find(b, uid);
        if (pos < box_count(b) && box_rec(b, pos)->uid == uid)
            file_discard(b, box_rec(b, pos));
        if (left->ranges[left->n - 1].min == uid)
            left->n--;
        else
            left->ranges[left->n - 1].max--;
    }
}

void box_sweep(struct box *b)
{
    char path[FILE_NAME_MAX];
    struct stat st;
    if (b->store->opt.coexist)
        return;
    for (size_t i = 0; i < box_tombs(b); i++) {
        struct disk_rec rec = {.bits = REC_CRLF};
        memcpy(rec.guid, box_tomb(b, i)->guid, STORE_GUID);
        file_path(b, &rec, path);
        if (fs_stat(b->dirfd, path, &st) == 0)
            file_discard(b, &rec);
    }
}
