/* Index, log and cache cut, flipped, zeroed, missing: mail is never lost, UIDs are never given
 * twice, and what was acknowledged and is whole stays. */
#include "libstore/format.h"
#include "libstore/housekeep.h"
#include "tests/unit/libstore/damage.h"

static int number_of(struct slice mail)
{
    char text[sizeof(MAIL)];
    int number = mail.n == sizeof(MAIL) - 1 ? mail.p[sizeof(MAIL) - 4] - 'A' : -1;
    return number >= 0 && number < MESSAGES && slice_eq(mail, mail_of(number, text)) ? number : -1;
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

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
#define IN_BOTH(t) TEST(t), cmocka_unit_test_setup_teardown(t, setup_coexist, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
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
        TEST(test_flags_survive_a_damaged_log_where_they_are_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
