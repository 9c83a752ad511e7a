/* What users, tools and other mail programs do to a mail directory, in simulated histories. */
#include <fcntl.h>
#include <stdio.h>

#include "libmail/mime.h"
#include "libstore/acl.h"
#include "libstore/deleted.h"
#include "libstore/fs.h"
#include "libstore/housekeep.h"
#include "libstore/journal.h"
#include "libstore/quota.h"
#include "libstore/restore.h"
#include "tests/crash/storeworld.h"

static const uint32_t flag_bit[SIM_PROCESSES] = {
    STORE_SEEN, STORE_ANSWERED, STORE_FLAGGED, STORE_DRAFT};
static const char *const fixed[FIXED] = {"INBOX", "Archive", "Trash"};

enum { SMALL_JOURNAL = 256 * 1024 };

/* --- sessions --------------------------------------------------------------------------------- */

/* Not before it is shared: then the owner's session has made it. */
static bool open_guest(struct session *s)
{
    struct acl acl = {0};
    s->guest = true;
    s->at[0] = fs_open(AT_FDCWD, "mail/veredus.inbox", O_RDONLY | O_DIRECTORY, 0);
    s->at[1] = fs_open(AT_FDCWD, "mail", O_PATH | O_DIRECTORY, 0);
    const struct store_options opt = {
        .single = true, .maildir = s->at[1], .keep_deleted = world.keep};
    bool good = s->at[0] >= 0 && s->at[1] >= 0 &&
                store_open(s->at[0], ".", &opt, &s->store, &s->err) == OK &&
                store_acl_get(s->store, slice_of(fixed[0]), &acl, &s->err) == OK && acl.n;
    acl_clear(&acl);
    if (!good)
        verbs_close(s);
    return good;
}

static void share_inbox(struct session *s)
{
    struct acl acl;
    if (store_acl_get(s->store, slice_of(fixed[0]), &acl, &s->err))
        return;
    if (acl.n == 0)
        (void)!store_acl_change(
            s->store, slice_of(fixed[0]), SLICE_LIT("guest@x"), ACL_SET, ACL_READ, &s->err);
    acl_clear(&acl);
}

static int choose_place(const struct session *s)
{
    return s->guest ? 0 : world_choose_place();
}

bool verbs_open(struct session *s)
{
    if (world.shared && s->process == SIM_PROCESSES - 1)
        return open_guest(s);
    const struct store_options opt = {.create = true,
        .coexist = world.coexist,
        .keep_deleted = world.keep,
        .gather = world.gather};
    if (store_open(AT_FDCWD, "mail", &opt, &s->store, &s->err))
        return false;
    (void)!journal_make(s->store, SMALL_JOURNAL, &s->err);
    for (int i = 0; i < FIXED; i++) {
        if (world.places == i) {
            world_place_new(fixed[i]);
            world.place[i].state = PLACE_THERE;
        }
        if (i && !store_exists(s->store, slice_of(fixed[i])))
            (void)!store_create(s->store, slice_of(fixed[i]), &s->err);
    }
    if (world.shared)
        share_inbox(s);
    return true;
}

void verbs_leave(struct session *s)
{
    store_unselect(s->mb);
    s->mb = NULL;
}

void verbs_close(struct session *s)
{
    verbs_leave(s);
    store_close(s->store);
    s->store = NULL;
    if (s->guest) {
        fs_close(&s->at[0]);
        fs_close(&s->at[1]);
    }
}

static bool enter(struct session *s)
{
    struct store_changes ch;
    if (s->mb && (sim_random(6) == 0 || store_refresh(s->mb, true, &ch, &s->err)))
        verbs_leave(s);
    if (s->mb)
        return true;
    s->place = choose_place(s);
    const char *name = world_name(s->place);
    return store_select(s->store, slice_of(name), sim_random(8) == 0, &s->mb, &s->err) == OK;
}

/* A message of the view that can be read, and which one it is. */
static int choose(struct session *s, struct store_msg *m)
{
    struct store_body body;
    uint32_t n = store_count(s->mb);
    if (n == 0 || !store_get(s->mb, 1 + (uint32_t)sim_random(n), m) || m->gone ||
        store_body(s->mb, m->uid, &body, &s->err))
        return -1;
    int message = world_message_of(body.content);
    store_body_release(&body);
    if (message >= 0)
        world_seen(s->place, store_uidvalidity(s->mb), m->uid, message);
    return message;
}

static struct number *number_of(const struct session *s, uint32_t uid)
{
    return world_number(s->place, store_uidvalidity(s->mb), uid);
}

/* --- putting messages in ---------------------------------------------------------------------- */

static int add(struct session *s, int message, const char *folder, struct store_append_options *opt,
    struct store_appended *out)
{
    struct store_append *a;
    struct buf text;
    int rc = store_append_begin(s->store, slice_of(folder), 0, &a, &s->err);
    if (rc)
        return rc;
    world_content(message, &text);
    rc = store_append_write(a, buf_slice(&text), &s->err);
    buf_clear(&text);
    if (rc)
        store_append_abort(a);
    else
        rc = store_append_commit(a, opt, out, &s->err);
    return rc;
}

static void do_append(struct session *s)
{
    struct store_appended out;
    int message = world_message(), place = choose_place(s);
    struct store_append_options opt = {.durable = sim_random(3) > 0};
    if (message < 0)
        return;
    if (sim_random(20) == 0)
        opt.uid = (uint32_t)sim_random(20000); /* so that blocks of UIDs are used up */
    const char *name = world_name(place);
    world_may_come(place, message);
    if (add(s, message, name, &opt, &out))
        return;
    world_came(place, message, opt.durable);
    TRACE(
        "%d: append %d to %s uid %u durable %d\n", s->process, message, name, out.uid, opt.durable);
    world_seen(place, out.uidvalidity, out.uid, message);
}

void verbs_deliver(struct session *s, int message)
{
    struct store_appended out;
    struct delivery *d = &world.delivery[message];
    struct count *c = &world.place[d->place].count[message];
    struct store_append_options opt = {.delivery = 1000 + (uint64_t)message};
    if (!d->done)
        c->may = MAX(c->may, 1);
    if (add(s, message, fixed[d->place], &opt, &out))
        return;
    TRACE("%d: deliver %d to %s uid %u dup %d\n", s->process, message, fixed[d->place], out.uid,
        out.duplicate);
    if (!out.duplicate)
        world_seen(d->place, out.uidvalidity, out.uid, message);
    c->acked = MAX(c->acked, 1);
    d->done = true;
}

static void do_deliver(struct session *s)
{
    int message = world_message();
    if (message < 0)
        return;
    world.delivery[message].place = (int)sim_random(FIXED);
    verbs_deliver(s, message);
}

/* As the queue manager does: everything that is not known to be on disk, again. */
static void do_redo(struct session *s)
{
    for (int i = 0; i < world.messages; i++)
        if (world.delivery[i].place >= 0 && !world.delivery[i].synced && sim_random(3) == 0)
            verbs_deliver(s, i);
}

static void do_sync(struct session *s)
{
    struct world_sync *before = world_sync_begin();
    bool good = store_sync(store_dirfd(s->store), &s->err) == OK;
    world_sync_end(before, good);
    TRACE("%d: sync %d\n", s->process, good);
}

/* --- changing them ---------------------------------------------------------------------------- */

static void do_flags(struct session *s)
{
    struct store_msg m;
    struct uidset set = {0};
    if (!enter(s) || choose(s, &m) < 0)
        return;
    struct number *n = number_of(s, m.uid);
    bool on = sim_random(2), word = sim_random(2);
    char text[8];
    snprintf(text, sizeof(text), "k%d", s->process);
    const struct slice name = slice_of(text);
    struct store_flags f = {.how = on ? STORE_ADD : STORE_REMOVE};
    if (word) {
        f.keywords = &name;
        f.nkeywords = 1;
        n->word[s->process].known = false;
    } else {
        f.flags = flag_bit[s->process];
        n->flag[s->process].known = false;
    }
    uidset_add(&set, m.uid);
    if (store_change(s->mb, &set, &f, NULL, NULL, &s->err) == OK) {
        TRACE("%d: flag %x %s %d of %s uid %u\n", s->process, f.flags, word ? text : "", on,
            world.place[s->place].name[0], m.uid);
        n->flag[s->process].known |= !word;
        n->word[s->process].known |= word;
        if (word)
            n->word[s->process].set = on;
        else
            n->flag[s->process].set = on;
    }
    uidset_clear(&set);
}

static void expunge(struct session *s, int message, uint32_t uid)
{
    struct uidset set = {0}, gone = {0};
    struct count *c = &world.place[s->place].count[message];
    uidset_add(&set, uid);
    c->taken++;
    if (store_expunge(s->mb, &set, false, &gone, &s->err) == OK && uidset_has(&gone, uid)) {
        c->may--;
        c->expunged++;
        number_of(s, uid)->gone = true;
        TRACE("%d: expunge %d from %s uid %u\n", s->process, message, world.place[s->place].name[0],
            uid);
    }
    uidset_clear(&set);
    uidset_clear(&gone);
}

static void do_expunge(struct session *s)
{
    struct store_msg m;
    int message;
    if (enter(s) && (message = choose(s, &m)) >= 0)
        expunge(s, message, m.uid);
}

/* With coexistence others may find the file of a copy, and change its flags, before the copy adds
 * those of its source. */
static void forget_flags(struct number *n)
{
    memset(n->flag, 0, sizeof(n->flag));
    memset(n->word, 0, sizeof(n->word));
}

static bool copy(struct session *s, int message, uint32_t uid, int to)
{
    struct uidset set = {0};
    struct store_copied out;
    const char *name = world_name(to);
    if (world.delivery[message].place == to)
        return false;
    uidset_add(&set, uid);
    world_may_come(to, message);
    bool good = store_copy(s->mb, &set, slice_of(name), &out, &s->err) == OK && out.n;
    if (good) {
        world_came(to, message, true);
        world.on_disk[message] = true;
        TRACE("%d: copy %d to %s uid %u\n", s->process, message, name, out.to[0]);
        world_seen(to, out.uidvalidity, out.to[0], message);
        forget_flags(world_number(to, out.uidvalidity, out.to[0]));
        store_copied_clear(&out);
    }
    uidset_clear(&set);
    return good;
}

static void do_copy(struct session *s)
{
    struct store_msg m;
    int message;
    if (enter(s) && (message = choose(s, &m)) >= 0)
        copy(s, message, m.uid, choose_place(s));
}

static void do_move(struct session *s)
{
    struct store_msg m;
    int message;
    if (enter(s) && (message = choose(s, &m)) >= 0 && copy(s, message, m.uid, choose_place(s)))
        expunge(s, message, m.uid);
}

/* The texts must be those of this message, wherever they have moved. */
static void do_fetch(struct session *s)
{
    struct store_msg m;
    struct store_cache c;
    char subject[16];
    int message;
    if (!enter(s) || (message = choose(s, &m)) < 0)
        return;
    snprintf(subject, sizeof(subject), "\"s%de\"", message);
    if (store_cached(s->mb, m.uid, &c, &s->err) == OK &&
        slice_find(c.envelope, slice_of(subject)) < 0)
        world_problem("cache: %s UID %u has the texts of another message",
            world.place[s->place].name[0], m.uid);
}

/* --- folders ---------------------------------------------------------------------------------- */

static void do_create(struct session *s)
{
    char name[24];
    int parent = world_choose_place(), child = world.places;
    if (world.places == PLACES)
        return;
    snprintf(name, sizeof(name), "D%d", child);
    world_place_new(name);
    if (parent >= FIXED && sim_random(2)) {
        world.place[child].nnames = 0;
        for (int i = 0; i < world.place[parent].nnames; i++) {
            snprintf(name, sizeof(name), "%.10s/D%d", world.place[parent].name[i], child);
            world_place_name(child, name);
        }
    }
    const char *chosen = world_name(child);
    if (store_create(s->store, slice_of(chosen), &s->err))
        return;
    TRACE("%d: create %s\n", s->process, chosen);
    world.place[child].state = PLACE_THERE;
}

static void do_rename(struct session *s)
{
    char to[24], below[24];
    int p = world_choose_place();
    if (p < FIXED || world.place[p].nnames == NAMES)
        return;
    const char *from = world_name(p);
    size_t n = strlen(from);
    snprintf(to, sizeof(to), "R%d", (int)sim_random(1000000));
    if (strchr(from, '/') || world_place_of(slice_of(to)) >= 0)
        return;
    for (int i = FIXED; i < world.places; i++)
        for (int k = 0, all = world.place[i].nnames; k < all; k++)
            if (strncmp(world.place[i].name[k], from, n) == 0 && world.place[i].name[k][n] == '/') {
                if (all == NAMES)
                    return;
                snprintf(below, sizeof(below), "%.10s%.12s", to, world.place[i].name[k] + n);
                world_place_name(i, below);
            }
    world_place_name(p, to);
    verbs_leave(s);
    if (store_rename(s->store, slice_of(from), slice_of(to), &s->err) == OK)
        TRACE("%d: rename %s %s\n", s->process, from, to);
}

static void do_delete(struct session *s)
{
    int p = world_choose_place();
    if (p < FIXED || sim_random(3))
        return;
    const char *name = world_name(p);
    world.place[p].doomed = true;
    verbs_leave(s);
    if (store_delete(s->store, slice_of(name), &s->err))
        return;
    TRACE("%d: delete %s\n", s->process, name);
    world.place[p].state = PLACE_GONE;
}

/* --- tools ------------------------------------------------------------------------------------ */

static void do_rebuild(struct session *s)
{
    const char *name = world_name(choose_place(s));
    if (sim_random(5))
        return;
    TRACE("%d: rebuild %s\n", s->process, name);
    (void)!store_rebuild(s->store, slice_of(name), &s->err);
}

static void do_compact(struct session *s)
{
    bool done;
    const char *name = world_name(choose_place(s));
    int rc = store_compact(s->store, slice_of(name), true, &done, &s->err);
    TRACE("%d: compact %s %d\n", s->process, name, rc);
}

static void do_look(struct session *s)
{
    struct quota_usage used;
    struct buf report;
    buf_init(&report, 65536);
    (void)!store_quota_usage(s->store, &used, &s->err);
    (void)!store_verify(s->store, slice_of(world_name(choose_place(s))), &report, &s->err);
    buf_clear(&report);
}

/* A backup's way back: a folder is built with numbers that it had, under a new name. */
static int fill_aside(struct session *s, struct store *aside, int to, int put[MESSAGES])
{
    struct store_msg m;
    int rc = store_restore_numbers(
        aside, store_uidvalidity(s->mb), store_highestmodseq(s->mb), 0, &s->err);
    for (uint32_t seq = 1; !rc && store_get(s->mb, seq, &m); seq++) {
        struct store_appended out;
        struct store_body body;
        struct session other = {.store = aside};
        if (m.gone || store_body(s->mb, m.uid, &body, &s->err))
            continue;
        int message = world_message_of(body.content);
        store_body_release(&body);
        if (message < 0)
            continue;
        world_may_come(to, message);
        rc = add(&other, message, "INBOX",
            &(struct store_append_options){.uid = m.uid, .guid = m.guid, .flags = m.flags}, &out);
        if (!rc && out.uid != m.uid)
            world_problem("restore: UID %u became %u", m.uid, out.uid);
        if (!rc)
            world_seen(to, out.uidvalidity, out.uid, message);
        put[message]++;
    }
    return rc;
}

static void do_restore(struct session *s)
{
    char name[24];
    int put[MESSAGES] = {0};
    struct store *aside = NULL;
    if (world.places == PLACES || sim_random(3) || !enter(s) || store_count(s->mb) == 0)
        return;
    snprintf(name, sizeof(name), "D%d", world.places);
    int to = world_place_new(name);
    struct place *p = &world.place[to];
    p->restored = true;
    int rc = store_restore_begin(s->store, &aside, &s->err);
    if (rc)
        return;
    rc = fill_aside(s, aside, to, put);
    if (!rc)
        rc = store_restore_install(s->store, aside, slice_of(name), &s->err);
    store_restore_end(s->store, aside);
    TRACE("%d: restore %s %d\n", s->process, name, rc);
    if (rc)
        return;
    p->state = PLACE_THERE;
    for (int i = 0; i < world.messages; i++)
        for (int k = 0; k < put[i]; k++)
            world_came(to, i, true), world.on_disk[i] = true;
}

/* --- what is kept after expunging ------------------------------------------------------------- */

int verbs_read_file(int dir, const char *path)
{
    struct stat st;
    struct buf raw, crlf;
    struct buf *out = &crlf;
    int fd = fs_open(dir, path, O_RDONLY, 0), message = -1;
    if (fd < 0)
        return -1;
    buf_init(&raw, 2 * BIG);
    buf_init(out, 2 * BIG);
    char *room = fs_fstat(fd, &st) == 0 ? buf_reserve(&raw, (size_t)st.st_size + 1) : NULL;
    ssize_t n = room ? fs_pread(fd, room, (size_t)st.st_size, 0) : -1;
    if (n > 0) {
        buf_claim(&raw, (size_t)n);
        mime_put_crlf(out, buf_slice(&raw));
        message = world_message_of(buf_slice(out));
    }
    fs_close(&fd);
    buf_clear(&raw);
    buf_clear(out);
    return message;
}

static int message_of_kept(struct session *s, const struct deleted *d)
{
    char path[700];
    const char *folder = d->folder;
    char disk[600];
    size_t n = 0;
    if (strcmp(folder, "INBOX") != 0)
        disk[n++] = '.';
    for (const char *p = folder; *p; p++)
        disk[n++] = *p == '/' ? '.' : *p;
    disk[n] = '\0';
    snprintf(path, sizeof(path), "veredus.deleted/%s/%s", disk, d->file);
    return verbs_read_file(store_dirfd(s->store), path);
}

struct kept_call {
    struct session *s;
    void (*fn)(void *arg, int message);
    void *arg;
};

static int tell_kept(void *arg, const struct deleted *d, struct error *err)
{
    struct kept_call *c = arg;
    (void)err;
    int message = message_of_kept(c->s, d);
    if (message >= 0)
        c->fn(c->arg, message);
    return OK;
}

void verbs_kept(struct session *s, void (*fn)(void *arg, int message), void *arg)
{
    struct kept_call c = {s, fn, arg};
    (void)!store_deleted_each(s->store, tell_kept, &c, &s->err);
}

bool verbs_on_disk(const char *dir, int message)
{
    char path[512];
    struct fs_entry e;
    bool found = false;
    int fd = fs_open(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY, 0);
    struct fs_dir *d = fd < 0 ? NULL : fs_dir_open(fd);
    while (d && !found && fs_dir_next(d, &e)) {
        snprintf(path, sizeof(path), "%.200s/%.300s", dir, e.name);
        found = verbs_on_disk(path, message) || verbs_read_file(AT_FDCWD, path) == message;
    }
    if (d)
        fs_dir_close(d);
    return found;
}

static int pick(void *arg, const struct deleted *d, struct error *err)
{
    struct deleted *out = arg;
    (void)err;
    if (sim_random(3) == 0)
        return OK;
    *out = *d;
    return 1;
}

static void do_undelete(struct session *s)
{
    struct deleted d;
    struct store_appended out;
    if (!world.keep || store_deleted_each(s->store, pick, &d, &s->err) != 1)
        return;
    int message = message_of_kept(s, &d), place = world_place_of(slice_of(d.folder));
    /* A folder that somebody renames would be made again under its old name. */
    if (message < 0 || place < 0 || (place >= FIXED && world.place[place].state != PLACE_GONE))
        return;
    world_may_come(place, message);
    if (world.place[place].state == PLACE_GONE)
        world.place[place].state = PLACE_MAYBE; /* it is made again */
    verbs_leave(s);
    if (store_undelete(s->store, &d, &out, &s->err))
        return;
    TRACE("%d: undelete %d to %s uid %u dup %d\n", s->process, message, d.folder, out.uid,
        out.duplicate);
    if (!out.duplicate)
        world_came(place, message, true);
}

void verbs_one(struct session *s)
{
    static void (*const verbs[])(struct session *) = {do_append, do_append, do_append, do_deliver,
        do_deliver, do_flags, do_flags, do_flags, do_expunge, do_expunge, do_copy, do_move, do_move,
        do_fetch, do_redo, do_sync, do_rebuild, do_compact, do_look, do_create, do_rename,
        do_delete, do_restore, do_undelete, verbs_stranger, verbs_stranger};
    static void (*const guests[])(struct session *) = {do_append, do_append, do_flags, do_flags,
        do_expunge, do_copy, do_move, do_fetch, do_sync, do_rebuild, do_compact, do_look};
    if (s->guest)
        guests[sim_random(ARRAY_LEN(guests))](s);
    else
        verbs[sim_random(ARRAY_LEN(verbs))](s);
}
