/* Index, log and cache cut, flipped, missing, of a newer release; machines that stopped. Mail is
 * never lost, UIDs are never given twice, and what was acknowledged and is whole stays. */
#include <sys/resource.h>

#include "libstore/format.h"
#include "libstore/housekeep.h"
#include "libutil/crc32c.h"
#include "tests/unit/libstore/fixture.h"

enum { MESSAGES = 12 };

/* The message that gets UID number + 1; all are of one size. */
static struct slice mail_of(int number, char text[sizeof(MAIL)])
{
    memcpy(text, MAIL, sizeof(MAIL));
    text[sizeof(MAIL) - 4] = (char)('A' + number);
    return slice_from(text, sizeof(MAIL) - 1);
}

static int number_of(struct slice mail)
{
    char text[sizeof(MAIL)];
    int number = mail.n == sizeof(MAIL) - 1 ? mail.p[sizeof(MAIL) - 4] - 'A' : -1;
    return number >= 0 && number < MESSAGES && slice_eq(mail, mail_of(number, text)) ? number : -1;
}

/* A folder with an index (from a rebuild) and a log with appends, flags and an expunge. */
static void populate(struct fixture *f)
{
    char text[sizeof(MAIL)];
    for (int i = 0; i < MESSAGES / 2; i++)
        append(f, INBOX, mail_of(i, text));
    assert_int_equal(store_rebuild(f->store, INBOX, &f->err), OK);
    for (int i = MESSAGES / 2; i < MESSAGES; i++)
        append(f, INBOX, mail_of(i, text));
    struct store_mailbox *mb = select_box(f, INBOX);
    set_flags(f, mb, 2, STORE_ADD, STORE_SEEN);
    set_flags(f, mb, store_uidnext(mb) - 1, STORE_ADD, STORE_FLAGGED);
    struct uidset one = uids(3, 3);
    assert_int_equal(store_expunge(mb, &one, false, NULL, &f->err), OK);
    uidset_clear(&one);
    store_unselect(mb);
    store_close(f->store);
    f->store = NULL;
}

struct saved {
    char *data;
    size_t n;
};

static struct saved load(struct fixture *f, const char *name)
{
    char path[256];
    path_of(f, name, path);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    struct saved s = {xcalloc(1, 1 << 20), 0};
    s.n = fread(s.data, 1, 1 << 20, file);
    fclose(file);
    return s;
}

static void save(struct fixture *f, const char *name, const char *data, size_t n)
{
    char path[256];
    path_of(f, name, path);
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, n), n);
    close(fd);
}

/* Each message file is in the mailbox once, with its content, under the UID it had or a new one. */
static uint32_t assert_all_there(
    struct fixture *f, struct store_mailbox *mb, uint32_t uidvalidity, uint32_t uidnext)
{
    bool same = store_uidvalidity(mb) == uidvalidity, seen[MESSAGES] = {false};
    uint32_t last = 0;
    if (store_count(mb) != MESSAGES - 1)
        print_error("%u messages\n", store_count(mb));
    assert_int_equal(store_count(mb), MESSAGES - 1);
    for (uint32_t seq = 1; seq <= store_count(mb); seq++) {
        struct store_msg m;
        struct store_body body;
        assert_true(store_get(mb, seq, &m));
        assert_true(m.uid > last);
        last = m.uid;
        assert_int_equal(m.size, sizeof(MAIL) - 1);
        assert_int_equal(store_body(mb, m.uid, &body, &f->err), OK);
        int number = number_of(body.content);
        store_body_release(&body);
        assert_true(number >= 0 && !seen[number]);
        seen[number] = true;
        assert_true(!same || m.uid == (uint32_t)number + 1 || m.uid >= uidnext);
    }
    return last;
}

/* What must hold after any damage; and a next UID is above all that were ever given under this
 * UIDVALIDITY. */
static void assert_recovered(struct fixture *f, uint32_t uidvalidity, uint32_t uidnext)
{
    open_store(f);
    struct store_mailbox *mb = select_box(f, INBOX);
    uint32_t last = assert_all_there(f, mb, uidvalidity, uidnext);
    if (store_uidvalidity(mb) == uidvalidity) {
        assert_true(store_uidnext(mb) >= uidnext);
        assert_int_equal(store_seq(mb, 3), 0);
    } else {
        assert_true(store_uidvalidity(mb) > uidvalidity);
    }
    store_unselect(mb);
    assert_int_equal(problems(f, INBOX), 0);
    assert_true(append(f, INBOX, SLICE_LIT(MAIL)) > last);
    store_close(f->store);
    f->store = NULL;
}

struct state_of {
    struct saved index, log, cache;
    uint32_t uidvalidity, uidnext;
    struct {
        char name[256], text[sizeof(MAIL)];
    } files[MESSAGES];
    size_t nfiles;
};

typedef void file_fn(struct state_of *, int dir, const char *name);

static void each_file(struct fixture *f, const char *where, struct state_of *s, file_fn *fn)
{
    char path[256];
    path_of(f, where, path);
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.')
            fn(s, dirfd(d), e->d_name);
    closedir(d);
}

static void remember_file(struct state_of *s, int dir, const char *name)
{
    assert_true(s->nfiles < MESSAGES);
    char *text = s->files[s->nfiles].text;
    snprintf(s->files[s->nfiles++].name, sizeof(s->files[0].name), "%s", name);
    int fd = openat(dir, name, O_RDONLY);
    assert_true(read(fd, text, sizeof(MAIL)) > 0);
    close(fd);
}

static void remove_file(struct state_of *s, int dir, const char *name)
{
    (void)s;
    assert_int_equal(unlinkat(dir, name, 0), 0);
}

static const char *place(const struct fixture *f, const char *name, char out[64])
{
    snprintf(out, 64, "%s%s", f->opt.coexist ? "" : "veredus.inbox/", name);
    return out;
}

static void remember(struct fixture *f, struct state_of *s)
{
    char name[64];
    open_store(f);
    struct store_status st;
    assert_int_equal(store_status(f->store, INBOX, &st, &f->err), OK);
    *s = (struct state_of){.uidvalidity = st.uidvalidity, .uidnext = st.uidnext};
    store_close(f->store);
    f->store = NULL;
    s->index = load(f, place(f, "veredus.index", name));
    s->log = load(f, place(f, "veredus.log", name));
    s->cache = load(f, place(f, "veredus.cache", name));
    each_file(f, "cur", s, remember_file);
    assert_int_equal(s->nfiles, MESSAGES - 1);
}

/* All files are as they were. */
static void restore(struct fixture *f, struct state_of *s)
{
    char name[300];
    each_file(f, "cur", s, remove_file);
    each_file(f, "new", s, remove_file);
    for (size_t i = 0; i < s->nfiles; i++) {
        snprintf(name, sizeof(name), "cur/%s", s->files[i].name);
        save(f, name, s->files[i].text, strlen(s->files[i].text));
    }
    save(f, place(f, "veredus.index", name), s->index.data, s->index.n);
    save(f, place(f, "veredus.log", name), s->log.data, s->log.n);
    save(f, place(f, "veredus.cache", name), s->cache.data, s->cache.n);
}

static void forget(struct state_of *s)
{
    free(s->index.data);
    free(s->log.data);
    free(s->cache.data);
}

/* Where the damage comes while somebody has the mailbox open: it goes on with flags, and folds. */
static void damage_under_view(struct fixture *f, const char *name, size_t at)
{
    struct store_changes ch;
    struct uidset all = uids(1, UINT32_MAX);
    char path[256], byte;
    bool done;
    open_store(f);
    struct store_mailbox *mb = select_box(f, INBOX);
    path_of(f, name, path);
    int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
    byte ^= (char)(1 << at % 8);
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    close(fd);
    /* Each of these may find it, and may end the view. */
    (void)!store_change(mb, &all, &(struct store_flags){.how = STORE_ADD, .flags = STORE_DRAFT},
        NULL, NULL, &f->err);
    (void)!store_refresh(mb, true, &ch, &f->err);
    store_unselect(mb);
    (void)!store_compact(f->store, INBOX, true, &done, &f->err);
    store_close(f->store);
    f->store = NULL;
    uidset_clear(&all);
}

typedef void damage_fn(struct saved *, size_t at);

static void damage_file(struct fixture *f, const char *name, damage_fn *damage, size_t at)
{
    struct saved bad = load(f, name);
    damage(&bad, at);
    save(f, name, bad.data, bad.n);
    free(bad.data);
}

/* Without `damage`: a flipped bit under an open view. */
static void damage_everywhere(struct fixture *f, const char *file, damage_fn *damage, size_t step)
{
    struct state_of s;
    char name[64];
    place(f, file, name);
    /* Repairs look into each file there, and take their time. */
    step *= f->opt.coexist ? 5 : 1;
    populate(f);
    remember(f, &s);
    struct saved whole = load(f, name);
    assert_true(whole.n > step);
    for (size_t at = 0; at < whole.n; at += step) {
        restore(f, &s);
        if (damage)
            damage_file(f, name, damage, at);
        else
            damage_under_view(f, name, at);
        assert_recovered(f, s.uidvalidity, s.uidnext);
    }
    free(whole.data);
    forget(&s);
    open_store(f);
}

static void flip(struct saved *s, size_t at)
{
    s->data[at] ^= (char)(1 << (at % 8));
}

static void cut(struct saved *s, size_t at)
{
    s->n = at;
}

static void zero_from(struct saved *s, size_t at)
{
    memset(s->data + at, 0, s->n - at);
}

enum { BLOCK = 300 };

static void zero_block(struct saved *s, size_t at)
{
    memset(s->data + at, 0, MIN(BLOCK, s->n - at));
}

/* What was written elsewhere in the file by mistake of a disk, whole transactions among it. */
static void repeat_block(struct saved *s, size_t at)
{
    size_t from = at > BLOCK ? at - BLOCK : 0;
    memmove(s->data + at, s->data + from, MIN(BLOCK, s->n - at));
}

static void test_log_with_a_zeroed_block(void **state)
{
    damage_everywhere(*state, "veredus.log", zero_block, 11);
}

static void test_log_with_a_block_that_is_there_twice(void **state)
{
    damage_everywhere(*state, "veredus.log", repeat_block, 4);
}

static void test_index_with_a_zeroed_block(void **state)
{
    damage_everywhere(*state, "veredus.index", zero_block, 11);
}

static void test_index_with_a_block_that_is_there_twice(void **state)
{
    damage_everywhere(*state, "veredus.index", repeat_block, 4);
}

static void test_log_with_a_flipped_bit(void **state)
{
    damage_everywhere(*state, "veredus.log", flip, 1);
}

static void test_log_with_a_zeroed_end(void **state)
{
    damage_everywhere(*state, "veredus.log", zero_from, 7);
}

static void test_index_with_a_flipped_bit(void **state)
{
    damage_everywhere(*state, "veredus.index", flip, 1);
}

static void test_index_cut_short(void **state)
{
    damage_everywhere(*state, "veredus.index", cut, 3);
}

static void test_cache_with_a_flipped_bit(void **state)
{
    damage_everywhere(*state, "veredus.cache", flip, 1);
}

static void test_index_with_a_flipped_bit_under_a_session(void **state)
{
    damage_everywhere(*state, "veredus.index", NULL, 1);
}

static void test_log_with_a_flipped_bit_under_a_session(void **state)
{
    damage_everywhere(*state, "veredus.log", NULL, 1);
}

static void test_cache_with_a_flipped_bit_under_a_session(void **state)
{
    damage_everywhere(*state, "veredus.cache", NULL, 3);
}

/* A cut log cannot be told from one that ended there, except inside a transaction; but no mail is
 * lost, and a folder rebuilt on demand has all of it. */
static void test_log_cut_short_loses_no_mail(void **state)
{
    struct fixture *f = *state;
    struct state_of s;
    char name[64];
    populate(f);
    remember(f, &s);
    for (size_t at = 0; at < s.log.n; at += 7) {
        restore(f, &s);
        save(f, place(f, "veredus.log", name), s.log.data, at);
        open_store(f);
        assert_int_equal(store_rebuild(f->store, INBOX, &f->err), OK);
        struct store_status st;
        assert_int_equal(store_status(f->store, INBOX, &st, &f->err), OK);
        assert_true(st.messages >= MESSAGES - 1);
        assert_int_equal(problems(f, INBOX), 0);
        store_close(f->store);
    }
    forget(&s);
    open_store(f);
}

static void test_missing_files(void **state)
{
    struct fixture *f = *state;
    struct state_of s;
    char path[256];
    static const char *const names[] = {"veredus.index", "veredus.log", "veredus.cache"};
    populate(f);
    remember(f, &s);
    for (size_t mask = 1; mask < 8; mask++) {
        restore(f, &s);
        for (size_t i = 0; i < 3; i++) {
            inbox_path_of(f, names[i], path);
            if (mask >> i & 1)
                assert_int_equal(unlink(path), 0);
        }
        assert_recovered(f, s.uidvalidity, s.uidnext);
    }
    forget(&s);
    open_store(f);
}

static void test_flags_survive_a_damaged_log_where_they_are_whole(void **state)
{
    struct fixture *f = *state;
    populate(f);
    struct saved log = load(f, "veredus.inbox/veredus.log");
    /* The first transaction of the log: an append. */
    log.data[sizeof(struct disk_log) + 60] ^= 1;
    save(f, "veredus.inbox/veredus.log", log.data, log.n);
    free(log.data);
    open_store(f);
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_int_equal(flags_of(mb, 2), STORE_SEEN);
    assert_int_equal(store_seq(mb, 3), 0);
    store_unselect(mb);
}

/* As who dies while he makes a folder leaves it. */
static void test_rebuild_makes_a_folder_whole(void **state)
{
    struct fixture *f = *state;
    char path[256];
    path_of(f, ".x", path);
    assert_int_equal(mkdir(path, 0700), 0);
    path_of(f, ".x/tmp", path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(store_rebuild(f->store, SLICE_LIT("x"), &f->err), OK);
    append(f, SLICE_LIT("x"), SLICE_LIT(MAIL));
}

/* As a delivery leaves it that was made with coexistence, forgotten by a power cut, and repeated
 * without. */
static void test_file_in_new_of_another_form_does_not_hide_the_message(void **state)
{
    struct fixture *f = *state;
    struct state_of s = {0};
    char path[600];
    append(f, INBOX, SLICE_LIT(MAIL));
    each_file(f, "cur", &s, remember_file);
    snprintf(path, sizeof(path), "new/%.*s", (int)strcspn(s.files[0].name, ":"), s.files[0].name);
    write_file(f, path, "Subject: hello\n\nText.\n");
    assert_int_equal(store_rebuild(f->store, INBOX, &f->err), OK);
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_int_equal(store_count(mb), 1);
    assert_body(f, mb, 1, MAIL);
    store_unselect(mb);
}

/* All of them, or only the log, as when the machine stopped after the others. */
static void test_index_files_beside_the_messages_of_inbox_go_to_their_place(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"veredus.log", "veredus.index", "veredus.cache"};
    char place[64], from[256], to[256];
    struct store_status before, after;
    populate(f);
    open_store(f);
    assert_int_equal(store_status(f->store, INBOX, &before, &f->err), OK);
    for (size_t n = 1; n <= ARRAY_LEN(names); n += 2) {
        store_close(f->store);
        for (size_t i = 0; i < n; i++) {
            snprintf(place, sizeof(place), "veredus.inbox/%s", names[i]);
            path_of(f, place, from);
            path_of(f, names[i], to);
            assert_int_equal(rename(from, to), 0);
        }
        open_store(f);
        assert_int_equal(store_status(f->store, INBOX, &after, &f->err), OK);
        assert_int_equal(after.uidvalidity, before.uidvalidity);
        assert_int_equal(after.uidnext, before.uidnext);
        assert_int_equal(after.messages, before.messages);
        assert_int_equal(access(from, F_OK), 0);
        assert_int_equal(access(to, F_OK), -1);
    }
}

/* As when it was expunged and is being delivered once more. */
static void test_a_file_that_has_not_all_its_content_is_not_copied(void **state)
{
    struct fixture *f = *state;
    struct store_copied out;
    struct uidset one = uids(1, 1);
    char path[256];
    append(f, INBOX, SLICE_LIT(MAIL));
    assert_int_equal(store_create(f->store, SLICE_LIT("Box"), &f->err), OK);
    struct store_mailbox *mb = select_box(f, INBOX);
    path_of(f, "cur", path);
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.')
            assert_int_equal(close(openat(dirfd(d), e->d_name, O_WRONLY | O_TRUNC)), 0);
    closedir(d);
    assert_int_equal(store_copy(mb, &one, SLICE_LIT("Box"), &out, &f->err), ERR_NOT_FOUND);
    assert_int_equal(files_in(f, ".Box/cur"), 0);
    uidset_clear(&one);
    store_unselect(mb);
}

static void test_newer_release_is_refused_and_left_alone(void **state)
{
    struct fixture *f = *state;
    struct store_status st;
    populate(f);
    struct saved index = load(f, "veredus.inbox/veredus.index");
    struct disk_index head;
    memcpy(&head, index.data, sizeof(head));
    index_seal(&head);
    head.version = FORMAT_VERSION + 1;
    head.crc = crc32c(0, slice_from((char *)&head + 12, sizeof(head) - 12));
    memcpy(index.data, &head, sizeof(head));
    save(f, "veredus.inbox/veredus.index", index.data, index.n);
    open_store(f);
    assert_int_equal(store_status(f->store, INBOX, &st, &f->err), ERR_VERSION);
    assert_int_equal(store_rebuild(f->store, INBOX, &f->err), ERR_VERSION);
    struct saved after = load(f, "veredus.inbox/veredus.index");
    assert_int_equal(after.n, index.n);
    assert_memory_equal(after.data, index.data, index.n);
    free(after.data);
    free(index.data);
}

static void test_open_view_survives_a_rebuild_by_another_process(void **state)
{
    struct fixture *f = *state;
    populate(f);
    open_store(f);
    struct store_mailbox *mb = select_box(f, INBOX);
    struct store *other;
    assert_int_equal(store_open(AT_FDCWD, f->mail, &f->opt, &other, &f->err), OK);
    assert_int_equal(store_rebuild(other, INBOX, &f->err), OK);
    store_close(other);
    append(f, INBOX, SLICE_LIT(MAIL));
    struct store_changes ch;
    assert_int_equal(store_refresh(mb, true, &ch, &f->err), OK);
    assert_int_equal(ch.arrived, 1);
    assert_int_equal(store_count(mb), MESSAGES);
    set_flags(f, mb, 1, STORE_ADD, STORE_DRAFT);
    store_unselect(mb);
}

/* The machine stopped: the end of the log was lost, messages and all. */
static void test_uids_and_modseqs_do_not_repeat_after_the_machine_stopped(void **state)
{
    struct fixture *f = *state;
    append(f, INBOX, SLICE_LIT(MAIL));
    store_close(f->store);
    struct saved log = load(f, "veredus.inbox/veredus.log");
    open_store(f);
    uint32_t lost = 0;
    for (int i = 0; i < 5; i++)
        lost = append(f, INBOX, SLICE_LIT(MAIL));
    struct store_status before, after;
    assert_int_equal(store_status(f->store, INBOX, &before, &f->err), OK);
    store_close(f->store);
    save(f, "veredus.inbox/veredus.log", log.data, log.n);
    free(log.data);
    /* Another start of the machine, as the index tells it. */
    struct saved index = load(f, "veredus.inbox/veredus.index");
    struct disk_index head;
    memcpy(&head, index.data, sizeof(head));
    head.witness.boot -= 1000;
    index_seal(&head);
    memcpy(index.data, &head, sizeof(head));
    save(f, "veredus.inbox/veredus.index", index.data, index.n);
    free(index.data);
    open_store(f);
    assert_true(append(f, INBOX, SLICE_LIT(MAIL)) > lost);
    assert_int_equal(store_status(f->store, INBOX, &after, &f->err), OK);
    assert_int_equal(after.uidvalidity, before.uidvalidity);
    assert_true(after.highestmodseq > before.highestmodseq);
}

/* What can be left of a message file: nothing, a beginning, or zeros of any length. */
static int spoil(const char *path, int how)
{
    if (how == 0)
        return unlink(path);
    if (how == 1)
        return truncate(path, 5);
    return truncate(path, 0) || truncate(path, how == 2 ? (off_t)strlen(MAIL) : 7);
}

/* The record was kept, the file was not, or not whole: the redo puts it right. */
static void test_redo_repairs_a_file_that_was_lost(void **state)
{
    struct fixture *f = *state;
    struct store_append_options opt = {.delivery = 99};
    struct store_appended out;
    char path[256], full[600];
    for (int round = 0; round < 4; round++) {
        assert_int_equal(append_opt(f, INBOX, SLICE_LIT(MAIL), &opt, &out), OK);
        path_of(f, "cur", path);
        DIR *d = opendir(path);
        for (struct dirent *e; (e = readdir(d));) {
            snprintf(full, sizeof(full), "%s/%s", path, e->d_name);
            if (e->d_name[0] != '.')
                assert_int_equal(spoil(full, round), 0);
        }
        closedir(d);
        assert_int_equal(append_opt(f, INBOX, SLICE_LIT(MAIL), &opt, &out), OK);
        assert_true(out.duplicate);
        assert_int_equal(out.uid, 1);
        struct store_mailbox *mb = select_box(f, INBOX);
        assert_int_equal(store_count(mb), 1);
        assert_body(f, mb, 1, MAIL);
        store_unselect(mb);
    }
}

/* Died between renaming the file and writing the log. */
static void test_redo_after_a_crash_before_the_log_leaves_one_message(void **state)
{
    struct fixture *f = *state;
    struct store_append_options opt = {.delivery = 99};
    struct store_appended out;
    append(f, INBOX, SLICE_LIT("A: 1\r\n\r\nfirst\r\n"));
    store_close(f->store);
    struct saved log = load(f, "veredus.inbox/veredus.log");
    open_store(f);
    assert_int_equal(append_opt(f, INBOX, SLICE_LIT(MAIL), &opt, &out), OK);
    store_close(f->store);
    save(f, "veredus.inbox/veredus.log", log.data, log.n);
    free(log.data);
    open_store(f);
    assert_int_equal(append_opt(f, INBOX, SLICE_LIT(MAIL), &opt, &out), OK);
    struct store_status st;
    assert_int_equal(store_status(f->store, INBOX, &st, &f->err), OK);
    assert_int_equal(st.messages, 2);
    assert_int_equal(files_in(f, "cur"), 2);
    assert_int_equal(problems(f, INBOX), 0);
}

static void test_redo_after_a_rebuild_finds_the_message(void **state)
{
    struct fixture *f = *state;
    struct store_append_options opt = {.delivery = 99};
    struct store_appended out;
    char path[256];
    assert_int_equal(append_opt(f, INBOX, SLICE_LIT(MAIL), &opt, &out), OK);
    store_close(f->store);
    path_of(f, "veredus.inbox/veredus.log", path);
    unlink(path);
    path_of(f, "veredus.inbox/veredus.index", path);
    unlink(path);
    open_store(f);
    assert_int_equal(append_opt(f, INBOX, SLICE_LIT(MAIL), &opt, &out), OK);
    assert_true(out.duplicate);
    assert_int_equal(files_in(f, "cur"), 1);
}

/* No file of this process may grow beyond `limit`. */
static void limit_files(rlim_t limit)
{
    struct rlimit r;
    getrlimit(RLIMIT_FSIZE, &r);
    r.rlim_cur = limit;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &r), 0);
}

static void test_full_disk_is_no_space_and_leaves_nothing_half_written(void **state)
{
    struct fixture *f = *state;
    append(f, INBOX, SLICE_LIT(MAIL));
    struct store_status before, after;
    assert_int_equal(store_status(f->store, INBOX, &before, &f->err), OK);
    for (rlim_t limit = 1; limit < 2000; limit += 40) {
        struct store_appended out;
        limit_files(limit);
        int rc = append_opt(f, INBOX, SLICE_LIT(MAIL), &(struct store_append_options){0}, &out);
        limit_files(RLIM_INFINITY);
        assert_true(rc == OK || rc == ERR_NO_SPACE);
        assert_int_equal(files_in(f, "tmp"), 0);
        assert_int_equal(store_status(f->store, INBOX, &after, &f->err), OK);
        assert_int_equal(after.messages, before.messages + (rc == OK));
        assert_int_equal(problems(f, INBOX), 0);
        before = after;
    }
    struct store_mailbox *mb = select_box(f, INBOX);
    limit_files(60);
    struct uidset all = uids(1, 100);
    struct store_flags add = {.how = STORE_ADD, .flags = STORE_SEEN};
    assert_int_equal(store_change(mb, &all, &add, NULL, NULL, &f->err), ERR_NO_SPACE);
    assert_int_equal(store_expunge(mb, &all, false, NULL, &f->err), ERR_NO_SPACE);
    limit_files(RLIM_INFINITY);
    assert_int_equal(flags_of(mb, 1), 0);
    assert_int_equal(store_change(mb, &all, &add, NULL, NULL, &f->err), OK);
    assert_int_equal(flags_of(mb, 1), STORE_SEEN);
    uidset_clear(&all);
    store_unselect(mb);
}

static void test_new_mail_can_be_read_on_a_full_disk(void **state)
{
    struct fixture *f = *state;
    struct store_changes ch;
    append(f, INBOX, SLICE_LIT(MAIL));
    limit_files(60);
    struct store_mailbox *mb = NULL;
    int rc = store_select(f->store, INBOX, false, &mb, &f->err);
    limit_files(RLIM_INFINITY);
    assert_int_equal(rc, OK);
    assert_int_equal(store_count(mb), 1);
    append(f, INBOX, SLICE_LIT(MAIL));
    limit_files(60);
    rc = store_refresh(mb, true, &ch, &f->err);
    limit_files(RLIM_INFINITY);
    assert_int_equal(rc, OK);
    assert_int_equal(store_count(mb), 2);
    store_unselect(mb);
}

static void test_file_of_an_expunged_message_is_no_message_and_housekeeping_removes_it(void **state)
{
    struct fixture *f = *state;
    char hex[2 * STORE_GUID + 1], name[64];
    struct store_msg m;
    bool done;
    append(f, INBOX, SLICE_LIT(MAIL));
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_true(store_get(mb, 1, &m));
    for (size_t i = 0; i < STORE_GUID; i++)
        snprintf(hex + 2 * i, 3, "%02x", m.guid[i]);
    struct uidset all = uids(1, 1);
    assert_int_equal(store_expunge(mb, &all, false, NULL, &f->err), OK);
    store_unselect(mb);
    assert_int_equal(files_in(f, "cur"), 0);
    /* As if the session had died before it came to that. */
    snprintf(name, sizeof(name), "cur/%s.veredus:2,", hex);
    write_file(f, name, MAIL);
    assert_int_equal(problems(f, INBOX), 0);
    assert_int_equal(store_rebuild(f->store, INBOX, &f->err), OK);
    assert_int_equal(files_in(f, "cur"), 0);
    write_file(f, name, MAIL);
    assert_int_equal(store_compact(f->store, INBOX, true, &done, &f->err), OK);
    assert_int_equal(files_in(f, "cur"), 0);
    uidset_clear(&all);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
#define IN_BOTH(t) TEST(t), cmocka_unit_test_setup_teardown(t, setup_coexist, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_file_of_an_expunged_message_is_no_message_and_housekeeping_removes_it),
        IN_BOTH(test_log_with_a_flipped_bit),
        IN_BOTH(test_log_with_a_zeroed_block),
        IN_BOTH(test_log_with_a_block_that_is_there_twice),
        IN_BOTH(test_index_with_a_zeroed_block),
        IN_BOTH(test_index_with_a_block_that_is_there_twice),
        IN_BOTH(test_log_with_a_zeroed_end),
        IN_BOTH(test_index_with_a_flipped_bit),
        IN_BOTH(test_index_cut_short),
        IN_BOTH(test_cache_with_a_flipped_bit),
        IN_BOTH(test_index_with_a_flipped_bit_under_a_session),
        IN_BOTH(test_log_with_a_flipped_bit_under_a_session),
        IN_BOTH(test_cache_with_a_flipped_bit_under_a_session),
        IN_BOTH(test_log_cut_short_loses_no_mail),
        IN_BOTH(test_missing_files),
        TEST(test_rebuild_makes_a_folder_whole),
        TEST(test_file_in_new_of_another_form_does_not_hide_the_message),
        TEST(test_flags_survive_a_damaged_log_where_they_are_whole),
        TEST(test_index_files_beside_the_messages_of_inbox_go_to_their_place),
        cmocka_unit_test_setup_teardown(
            test_a_file_that_has_not_all_its_content_is_not_copied, setup, teardown),
        TEST(test_newer_release_is_refused_and_left_alone),
        TEST(test_open_view_survives_a_rebuild_by_another_process),
        TEST(test_uids_and_modseqs_do_not_repeat_after_the_machine_stopped),
        TEST(test_redo_repairs_a_file_that_was_lost),
        TEST(test_redo_after_a_crash_before_the_log_leaves_one_message),
        TEST(test_redo_after_a_rebuild_finds_the_message),
        TEST(test_full_disk_is_no_space_and_leaves_nothing_half_written),
        TEST(test_new_mail_can_be_read_on_a_full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
