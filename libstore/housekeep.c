#include "libstore/housekeep.h"

#include <fcntl.h>

#include "libstore/view.h"

enum { EXPIRE_BATCH = 1000, LOG_WORTH = 4096, LOG_SHARE = 16, STALE_SECONDS = 36 * 3600 };

/* Names are short, and patterns come from the administrator. */
static bool matches(struct slice pattern, struct slice name)
{
    while (pattern.n && pattern.p[0] != '*' && pattern.p[0] != '%') {
        if (!name.n || pattern.p[0] != name.p[0])
            return false;
        pattern = slice_from_index(pattern, 1);
        name = slice_from_index(name, 1);
    }
    if (!pattern.n)
        return !name.n;
    struct slice rest = slice_from_index(pattern, 1);
    for (;; name = slice_from_index(name, 1)) {
        if (matches(rest, name))
            return true;
        if (!name.n || (pattern.p[0] == '%' && name.p[0] == STORE_SEPARATOR))
            return false;
    }
}

bool store_expire_matches(struct slice pattern, struct slice folder)
{
    if (slice_iis(folder, "INBOX") && slice_iis(pattern, "INBOX"))
        return true;
    return matches(pattern, folder);
}

int64_t store_expire_age(const struct store_expire_rule *rules, size_t n, struct slice folder)
{
    int64_t best = 0;
    for (size_t i = 0; i < n; i++)
        if (store_expire_matches(rules[i].pattern, folder) && (!best || rules[i].age < best))
            best = rules[i].age;
    return best;
}

int store_expire(struct store *s, struct slice folder, int64_t age, int64_t now, bool dry,
    uint64_t *expired, struct error *err)
{
    struct store_mailbox *mb;
    struct store_msg m;
    struct uidset due = {0}, gone = {0};
    size_t batch = 0;
    *expired = 0;
    /* Read only, so that no client's \Recent is taken. */
    int rc = store_select(s, folder, true, &mb, err);
    if (rc)
        return rc;
    mb->read_only = dry;
    for (uint32_t seq = 1; !rc && store_get(mb, seq, &m); seq++) {
        if (m.gone || m.saved + age > now)
            continue;
        uidset_add(&due, m.uid);
        ++*expired;
        if (++batch < EXPIRE_BATCH)
            continue;
        rc = dry ? OK : store_expunge(mb, &due, false, &gone, err);
        uidset_clear(&due);
        due = (struct uidset){0};
        batch = 0;
    }
    if (!rc && !dry && batch)
        rc = store_expunge(mb, &due, false, &gone, err);
    uidset_clear(&due);
    uidset_clear(&gone);
    mb->read_only = true;
    store_unselect(mb);
    return rc;
}

static void remove_stale(int dirfd, int64_t now)
{
    struct fs_entry e;
    struct stat st;
    int fd = fs_open(dirfd, "tmp", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    struct fs_dir *dir = io_walk(fd);
    while (dir && fs_dir_next(dir, &e))
        if (fs_stat(fd, e.name, &st) == 0 && S_ISREG(st.st_mode) &&
            st.st_mtime + STALE_SECONDS < now && st.st_ctime + STALE_SECONDS < now)
            fs_unlink(fd, e.name, 0);
    if (dir)
        fs_dir_close(dir);
    fs_close(&fd);
}

/* Whether a new index is worth writing, while which nobody else writes: little has to be read by
 * everybody who opens the folder, or much is old, measured by what would be written. */
static bool is_worth(const struct box *b, unsigned days)
{
    uint32_t long_ago = fs_time() - days * 86400;
    size_t old = 0;
    while (old < b->nold_tombs && b->old_tombs[old].time < long_ago)
        old++;
    uint64_t floor = b->map_len / LOG_SHARE;
    return b->log_off > LOG_WORTH + floor || old * sizeof(struct disk_tomb) > floor;
}

int store_compact(struct store *s, struct slice folder, bool force, bool *done, struct error *err)
{
    char disk[NAME_DISK_MAX];
    struct box *b;
    *done = false;
    int rc = store_folder_dir(s, folder, disk, err);
    if (rc)
        return rc;
    store_drop_box(s);
    rc = box_open(s, disk, &b, err);
    if (rc)
        return rc;
    remove_stale(b->dirfd, fs_time());
    box_sweep(b);
    uint32_t days = s->opt.tomb_days ? s->opt.tomb_days : TOMB_DAYS;
    if (force || is_worth(b, days)) {
        b->keep = true; /* no use in reading it all again */
        rc = box_fold(b, err);
        *done = !rc;
        if (rc == ERR_BUSY)
            rc = OK; /* somebody else does it */
    }
    box_close(b);
    return rc;
}
