#include "ctl/backup_target.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "ctl/backup_source.h"
#include "ctl/ctl.h"
#include "ctl/manifest.h"
#include "libmail/shares.h"
#include "libstore/acl.h"
#include "libstore/name.h"
#include "libstore/restore.h"
#include "libutil/map.h"

enum {
    CHUNK = 65536,
    UID_GAP = 1 << 20,
    EPOCH = 1577836800, /* 2020; UIDVALIDITYs of old may be no times */
    AGE_MAX = 1 << 30,
    AHEAD = 86400,    /* seconds: of several folders made in one, all but the first are ahead of the
                         clock */
    MODSEQ_SHIFT = 16 /* they go up faster than one a second */
};

struct target {
    struct store *store, *aside; /* aside: the folder is built there, with its numbers */
    const struct backup_target *how;
    FILE *in;
    char *chunk;
    struct entry folder; /* name empty: none yet */
    char keywords[STORE_KEYWORDS_MAX][256];
    struct map there; /* GUIDs of the folder */
    bool same_numbers;
    uint64_t messages, kept, present;
};

/* What is in the folder already does not come twice. */
static int note_present(struct target *t, bool *empty, struct error *err)
{
    struct store_mailbox *mb;
    struct store_msg m;
    int rc = store_select(t->store, slice_of(t->folder.name), true, &mb, err);
    if (rc)
        return rc;
    t->same_numbers = store_uidvalidity(mb) == t->folder.uidvalidity;
    for (uint32_t seq = 1; store_get(mb, seq, &m); seq++)
        map_set(&t->there, slice_from(m.guid, STORE_GUID), t);
    *empty = store_count(mb) == 0;
    store_unselect(mb);
    return OK;
}

/* The folder's object id, unless it is now that of another (RFC 8474 §5.1). */
static int old_id(struct target *t, uint64_t *id, struct error *err)
{
    struct store_folder *folders;
    struct store_status st;
    size_t n;
    *id = 0;
    if (!t->how->own)
        return OK;
    int rc = store_list(t->store, &folders, &n, err);
    if (rc)
        return rc;
    *id = t->folder.mailbox;
    for (size_t i = 0; i < n; i++)
        if (!(folders[i].attrs & STORE_NOSELECT) && !slice_is(folders[i].name, t->folder.name) &&
            (store_status(t->store, folders[i].name, &st, err) || st.mailbox == *id))
            *id = 0;
    store_list_free(folders, n);
    return OK;
}

/* Seconds. Numbers of a restored folder begin this much higher, so that they are above what was
 * given after a restore before this one, of whatever generation, when that folder was lost too. */
static uint32_t age_of(const struct entry *folder)
{
    int64_t age = time(NULL) + AHEAD - (int64_t)MAX(folder->uidvalidity, (uint32_t)EPOCH);
    return age < 0 ? 0 : (uint32_t)MIN(age, (int64_t)AGE_MAX);
}

static int begin_folder(struct target *t, struct error *err)
{
    struct slice name = slice_of(t->folder.name);
    bool empty = true;
    map_clear(&t->there);
    map_init(&t->there);
    memset(t->keywords, 0, sizeof(t->keywords));
    t->same_numbers = false;
    if (store_name_check(name))
        return error_set(err, ERR_SYNTAX, "%s: not a name for a folder", t->folder.name);
    int rc = OK;
    if (store_exists(t->store, name))
        rc = note_present(t, &empty, err);
    else if (!t->how->whole)
        rc = store_create(t->store, name, err);
    if (rc || !t->how->whole || !empty || t->same_numbers)
        return rc;
    uint64_t id;
    rc = old_id(t, &id, err);
    if (!rc)
        rc = store_restore_begin(t->store, &t->aside, err);
    if (!rc)
        rc = store_restore_numbers(t->aside, t->folder.uidvalidity,
            t->folder.modseq + ((uint64_t)age_of(&t->folder) << MODSEQ_SHIFT), id, err);
    return rc;
}

/* UIDs given since the backup are unknown: the next ones begin far above. A message that comes
 * and goes takes the highest, so that nothing below is ever given. */
static int skip_uids(struct target *t, struct error *err)
{
    struct store_append *a;
    struct store_appended done;
    struct store_mailbox *mb;
    struct uidset set = {0};
    uint32_t next = t->folder.uidnext;
    struct store_append_options opt = {
        .uid = next < UINT32_MAX / 4 ? next + UID_GAP + age_of(&t->folder) : next};
    int rc = store_append_begin(t->aside, SLICE_LIT("INBOX"), 0, &a, err);
    if (rc)
        return rc;
    rc = store_append_write(a, SLICE_LIT("\r\n"), err);
    if (rc) {
        store_append_abort(a);
        return rc;
    }
    rc = store_append_commit(a, &opt, &done, err);
    if (!rc)
        rc = store_select(t->aside, SLICE_LIT("INBOX"), false, &mb, err);
    if (rc)
        return rc;
    uidset_add(&set, done.uid);
    rc = store_expunge(mb, &set, false, NULL, err);
    uidset_clear(&set);
    store_unselect(mb);
    return rc;
}

static int end_folder(struct target *t, struct error *err)
{
    if (!t->aside)
        return OK;
    int rc = skip_uids(t, err);
    if (!rc)
        rc = store_restore_install(t->store, t->aside, slice_of(t->folder.name), err);
    store_restore_end(t->store, t->aside);
    t->aside = NULL;
    return rc;
}

/* Reads the content that follows an entry; a == NULL: only past it. */
static int read_content(struct target *t, uint64_t size, struct store_append *a, struct error *err)
{
    int rc = OK;
    for (uint64_t left = size; left;) {
        size_t n = fread(t->chunk, 1, (size_t)MIN(left, (uint64_t)CHUNK), t->in);
        if (n == 0)
            return error_set(err, ERR_CLOSED, "the backup ended early");
        if (a && !rc)
            rc = store_append_write(a, slice_from(t->chunk, n), err);
        left -= n;
    }
    return rc;
}

static int put_message(struct target *t, const struct entry *e, struct error *err)
{
    struct store *s = t->aside ? t->aside : t->store;
    struct slice folder = t->aside ? SLICE_LIT("INBOX") : slice_of(t->folder.name);
    struct slice words[STORE_KEYWORDS_MAX];
    struct store_append *a;
    struct store_appended done;
    if (!t->folder.name[0])
        return error_set(err, ERR_CORRUPT, "a message in no folder");
    if (map_get(&t->there, slice_from(e->msg.guid, STORE_GUID))) {
        t->present++;
        return read_content(t, e->msg.size, NULL, err);
    }
    struct store_append_options opt = {.flags = e->msg.flags,
        .keywords = words,
        .date = e->msg.date,
        .saved = e->msg.saved,
        .guid = e->msg.guid,
        .uid = t->aside || t->same_numbers ? e->msg.uid : 0};
    for (size_t i = 0; i < STORE_KEYWORDS_MAX; i++)
        if (e->msg.keywords >> i & 1 && t->keywords[i][0])
            words[opt.nkeywords++] = slice_of(t->keywords[i]);
    int rc = store_append_begin(s, folder, e->msg.size, &a, err);
    if (rc)
        return rc;
    rc = read_content(t, e->msg.size, a, err);
    if (rc) {
        store_append_abort(a);
        return rc;
    }
    rc = store_append_commit(a, &opt, &done, err);
    t->messages += !rc;
    t->kept += !rc && done.uid == e->msg.uid && done.uidvalidity == t->folder.uidvalidity;
    return rc;
}

/* Limits and what others may do belong to a user, not to the mail. */
static bool is_wanted(const struct target *t, const char *file)
{
    return t->how->whole && (t->how->own || strcmp(file, "veredus.metadata") == 0 ||
                                strcmp(file, "veredus.uidl") == 0);
}

/* A setting counts when the folder has none of its own. */
static int put_setting(struct target *t, const struct entry *e, struct error *err)
{
    char *content = xrealloc(NULL, BACKUP_FILE_MAX, 1);
    int fd = -1, dir = -1, rc = OK;
    if (!t->folder.name[0] || !backup_is_setting(e->name) || e->size > BACKUP_FILE_MAX)
        rc = error_set(err, ERR_CORRUPT, "%.100s: not a setting", e->name);
    else if (fread(content, 1, (size_t)e->size, t->in) != e->size)
        rc = error_set(err, ERR_CLOSED, "the backup ended early");
    if (!rc && is_wanted(t, e->name) &&
        (backup_is_of_folder(e->name) || name_is_inbox(slice_of(t->folder.name)))) {
        struct slice folder = slice_of(t->folder.name);
        if (!store_exists(t->store, folder))
            rc = store_create(t->store, folder, err);
        if (!rc && backup_is_of_folder(e->name))
            rc = store_open_place(t->store, folder, &dir, err);
        int at = dir < 0 ? store_dirfd(t->store) : dir;
        fd = rc ? -1
                : openat(at, e->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd >= 0 && (write(fd, content, (size_t)e->size) != (ssize_t)e->size || fsync(fd))) {
            rc = error_sys(err, "%s", e->name);
            unlinkat(at, e->name, 0); /* half of it would count the next time */
        } else if (fd < 0 && errno != EEXIST && !rc) {
            rc = error_sys(err, "%s", e->name);
        }
    }
    fd_close(&fd);
    fd_close(&dir);
    free(content);
    return rc;
}

static int put_entry(struct target *t, const struct entry *e, struct error *err)
{
    int rc = OK;
    switch (e->type) {
    case ENTRY_SUBSCRIPTION:
        return store_name_check(slice_of(e->name))
                   ? OK
                   : store_subscribe(t->store, slice_of(e->name), true, err);
    case ENTRY_FOLDER:
        rc = end_folder(t, err);
        t->folder = *e;
        return rc ? rc : begin_folder(t, err);
    case ENTRY_KEYWORD:
        snprintf(t->keywords[e->number], sizeof(t->keywords[0]), "%.255s", e->name);
        return OK;
    case ENTRY_FILE:
        return put_setting(t, e, err);
    case ENTRY_MESSAGE:
        return put_message(t, e, err);
    case ENTRY_END:
        return end_folder(t, err);
    case ENTRY_USER:
    case ENTRY_COUNT:
        break;
    }
    return OK;
}

/* Folders that come back with their lists are shared again. */
static int share_again(struct target *t, const char *name, struct error *err)
{
    const struct backup_target *how = t->how;
    int rc = store_acl_summary(t->store, NULL, err);
    if (rc || !how->mail)
        return rc;
    int root = open(how->mail_root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return error_sys(err, "%s", how->mail_root);
    rc = shares_register(root, name, how->mail, err);
    fd_close(&root);
    return rc;
}

int backup_target(struct store *store, const char *name, int fd, void *arg)
{
    struct target t = {.store = store, .how = arg, .in = fdopen(fd, "r")};
    struct error err = {0};
    struct entry e = {.type = ENTRY_USER};
    char line[MANIFEST_LINE];
    int rc = OK;
    t.chunk = xrealloc(NULL, CHUNK, 1);
    map_init(&t.there);
    while (!rc && e.type != ENTRY_END) {
        rc = manifest_line(t.in, line, &err);
        if (!rc && entry_parse(slice_of(line), &e))
            rc = error_set(&err, ERR_CORRUPT, "a wrong word from the backup");
        if (!rc)
            rc = put_entry(&t, &e, &err);
    }
    if (t.aside)
        store_restore_end(store, t.aside);
    if (!rc && t.how->whole && t.how->own)
        rc = share_again(&t, name, &err);
    if (!rc)
        rc = store_sync(store_dirfd(store), &err);
    map_clear(&t.there);
    free(t.chunk);
    if (!rc && dprintf(fd, "%llu %llu %llu\n", (unsigned long long)t.messages,
                   (unsigned long long)t.kept, (unsigned long long)t.present) < 0)
        rc = error_sys(&err, "telling what was restored");
    fclose(t.in);
    return rc ? ctl_report(&err) : CTL_OK;
}
