/* Several processes in one mailbox at a time. */
#include "libstore/format.h"
#include "libstore/housekeep.h"
#include "tests/unit/libstore/damage.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/syscall.h>

enum { WRITERS = 4, EACH = 150 };

static void wait_for(pid_t *pids, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int status;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
}

static int append_many(struct fixture *f, int me)
{
    uint32_t last = 0;
    f->opt.changed = NULL;
    if (store_open(AT_FDCWD, f->mail, &f->opt, &f->store, &f->err))
        return 1;
    for (int i = 0; i < EACH; i++) {
        char text[64];
        struct store_appended out;
        struct store_append_options opt = {.delivery = (uint64_t)(me + 1) * 100000 + (uint64_t)i};
        int n = snprintf(text, sizeof(text), "Subject: %d-%d\r\n\r\nx\r\n", me, i);
        if (append_opt(f, INBOX, slice_from(text, (size_t)n), &opt, &out) || out.uid <= last ||
            out.duplicate)
            return 1;
        last = out.uid;
    }
    store_close(f->store);
    return 0;
}

static void test_writers_get_distinct_uids_and_a_reader_follows(void **state)
{
    struct fixture *f = *state;
    pid_t pids[WRITERS];
    store_close(f->store);
    f->store = NULL;
    for (int i = 0; i < WRITERS; i++) {
        pids[i] = fork();
        if (pids[i] == 0)
            _exit(append_many(f, i));
    }
    open_store(f);
    struct store_mailbox *mb = select_box(f, INBOX);
    uint32_t seen = store_count(mb);
    struct store_changes ch;
    for (int i = 0; i < 20000 && seen < WRITERS * EACH; i++) {
        assert_int_equal(store_refresh(mb, true, &ch, &f->err), OK);
        seen += ch.arrived;
        assert_int_equal(store_count(mb), seen);
        usleep(1000);
    }
    wait_for(pids, WRITERS);
    assert_int_equal(store_refresh(mb, true, &ch, &f->err), OK);
    assert_int_equal(store_count(mb), WRITERS * EACH);
    for (uint32_t seq = 1; seq <= store_count(mb); seq++) {
        struct store_msg m;
        assert_true(store_get(mb, seq, &m));
        assert_int_equal(m.uid, seq);
    }
    store_unselect(mb);
    assert_int_equal(problems(f, INBOX), 0);
}

/* Each child sets its own keyword on every message, in several steps. */
static int flag_many(struct fixture *f, int me)
{
    struct store_mailbox *mb;
    char name[16];
    f->opt.changed = NULL;
    snprintf(name, sizeof(name), "mine%d", me);
    struct slice word = slice_of(name);
    struct store_flags add = {.how = STORE_ADD, .keywords = &word, .nkeywords = 1};
    if (store_open(AT_FDCWD, f->mail, &f->opt, &f->store, &f->err) ||
        store_select(f->store, INBOX, false, &mb, &f->err))
        return 1;
    for (uint32_t uid = 1; uid <= 50; uid++) {
        struct uidset one = uids(uid, uid);
        if (store_change(mb, &one, &add, NULL, NULL, &f->err))
            return 1;
        uidset_clear(&one);
    }
    store_unselect(mb);
    store_close(f->store);
    return 0;
}

static void test_flag_changes_of_all_processes_are_kept(void **state)
{
    struct fixture *f = *state;
    pid_t pids[WRITERS];
    for (int i = 0; i < 50; i++)
        append(f, INBOX, SLICE_LIT(MAIL));
    store_close(f->store);
    f->store = NULL;
    for (int i = 0; i < WRITERS; i++) {
        pids[i] = fork();
        if (pids[i] == 0)
            _exit(flag_many(f, i));
    }
    wait_for(pids, WRITERS);
    open_store(f);
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_int_equal(store_keywords(mb), WRITERS);
    for (uint32_t seq = 1; seq <= 50; seq++) {
        struct store_msg m;
        assert_true(store_get(mb, seq, &m));
        assert_int_equal(m.keywords, (1 << WRITERS) - 1);
    }
    store_unselect(mb);
}

/* Killed at any moment: what was acknowledged is there, once. */
static void test_writer_killed_at_any_moment_loses_nothing_acknowledged(void **state)
{
    struct fixture *f = *state;
    store_close(f->store);
    f->store = NULL;
    uint64_t acknowledged = 0;
    for (int round = 0; round < 25; round++) {
        int pipes[2];
        assert_int_equal(pipe(pipes), 0);
        pid_t pid = fork();
        if (pid == 0) {
            close(pipes[0]);
            f->opt.changed = NULL;
            if (store_open(AT_FDCWD, f->mail, &f->opt, &f->store, &f->err))
                _exit(1);
            for (uint64_t id = acknowledged + 1;; id++) {
                struct store_appended out;
                struct store_append_options opt = {.delivery = id << 20};
                if (append_opt(f, INBOX, SLICE_LIT(MAIL), &opt, &out) ||
                    write(pipes[1], &id, sizeof(id)) != sizeof(id))
                    _exit(1);
            }
        }
        close(pipes[1]);
        usleep(3000 + (useconds_t)(round * 700));
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        uint64_t id;
        while (read(pipes[0], &id, sizeof(id)) == sizeof(id))
            acknowledged = id;
        close(pipes[0]);
        open_store(f);
        struct store_status st;
        assert_int_equal(store_status(f->store, INBOX, &st, &f->err), OK);
        /* The last one may have been committed and not told; redone, it is there once. */
        assert_true(st.messages == acknowledged || st.messages == acknowledged + 1);
        store_close(f->store);
        f->store = NULL;
    }
    assert_true(acknowledged > 25);
    open_store(f);
    assert_true(problems(f, INBOX) <= 1);
}

/* Where to tell that this process has to wait for a lock, or is about to die; -1: nobody asks. */
static int tell_waiting = -1;
/* A process that is to die just before a file gets this name. */
static const char *dies_before;
/* One that is to die when it has put a folder into the trash. */
static bool dies_behind_trash;
/* What is to happen before something gets this name next. */
static const char *awaited;
static void (*before_name)(struct fixture *);
static struct fixture *at_name;

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    if (dies_before && strcmp(to, dies_before) == 0)
        _exit(0);
    void (*run)(struct fixture *) = before_name && strcmp(to, awaited) == 0 ? before_name : NULL;
    if (run) {
        before_name = NULL;
        run(at_name);
    }
    int rc = (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, 0);
    if (dies_behind_trash && strncmp(to, "veredus.trash.", 14) == 0)
        _exit(rc || write(tell_waiting, "d", 1) != 1);
    return rc;
}

/* What is to happen before the next lock of a directory. */
static void (*before_flock)(struct fixture *);
static struct fixture *at_flock;

int flock(int fd, int operation)
{
    void (*run)(struct fixture *) = before_flock;
    before_flock = NULL;
    if (run)
        run(at_flock);
    int rc = (int)syscall(SYS_flock, fd, operation);
    if (rc && errno == EWOULDBLOCK && tell_waiting >= 0) {
        (void)!write(tell_waiting, "w", 1);
        errno = EWOULDBLOCK;
    }
    return rc;
}

static struct store *second;
static struct store_mailbox *late;

/* Somebody expunges, somebody else folds and dies before the new log has its name, and a session
 * begins with the index of that fold. */
static void expunge_fold_and_die(struct fixture *f)
{
    struct store_mailbox *mb;
    struct uidset set = uids(2, 2), gone = {0};
    assert_int_equal(store_open(AT_FDCWD, f->mail, &f->opt, &second, &f->err), OK);
    assert_int_equal(store_select(second, INBOX, false, &mb, &f->err), OK);
    assert_int_equal(store_expunge(mb, &set, false, &gone, &f->err), OK);
    store_unselect(mb);
    pid_t pid = fork();
    if (pid == 0) {
        bool done;
        dies_before = "veredus.log";
        (void)!store_compact(second, INBOX, true, &done, &f->err);
        _exit(1);
    }
    wait_for(&pid, 1);
    assert_int_equal(store_select(second, INBOX, false, &late, &f->err), OK);
    uidset_clear(&set);
    uidset_clear(&gone);
}

static void test_index_that_goes_back_brings_back_nothing(void **state)
{
    struct fixture *f = *state;
    struct store_changes ch;
    bool done;
    for (int i = 0; i < 3; i++)
        append(f, INBOX, SLICE_LIT(MAIL));
    before_flock = expunge_fold_and_die;
    at_flock = f;
    assert_int_equal(store_compact(f->store, INBOX, true, &done, &f->err), OK);
    assert_null(before_flock);
    append(f, INBOX, SLICE_LIT(MAIL));
    assert_int_equal(store_refresh(late, true, &ch, &f->err), OK);
    assert_int_equal(store_count(late), 3);
    assert_int_equal(ch.arrived, 1);
    for (uint32_t seq = 1; seq <= 3; seq++) {
        struct store_msg m;
        assert_true(store_get(late, seq, &m));
        assert_int_equal(m.uid, seq == 1 ? 1 : seq + 1);
    }
    store_unselect(late);
    store_close(second);
}

static void add_file(struct fixture *f, const char *name)
{
    char path[300];
    snprintf(path, sizeof(path), "%s/cur/%s", f->mail, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, MAIL, sizeof(MAIL) - 1), (ssize_t)sizeof(MAIL) - 1);
    close(fd);
}

/* The repair numbers a file that had no record. Nobody may go on with the log that knows nothing of
 * it, and get a higher number: the file's would then come in below numbers already seen. */
static void test_repair_that_dies_between_index_and_log_lets_no_uid_come_in_below(void **state)
{
    static const char *const moments[] = {"veredus.index", "veredus.log"};
    struct fixture *f = *state;
    struct store *other;
    append(f, INBOX, SLICE_LIT(MAIL));
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_int_equal(store_open(AT_FDCWD, f->mail, &f->opt, &other, &f->err), OK);
    for (size_t i = 0; i < ARRAY_LEN(moments); i++) {
        struct store_msg m;
        struct store_changes ch;
        uint32_t last = 0, count = store_count(mb);
        add_file(f, i ? "1.a.host" : "2.b.host");
        pid_t pid = fork();
        if (pid == 0) {
            dies_before = moments[i];
            (void)!store_rebuild(other, INBOX, &f->err);
            _exit(1); /* it did not come to this */
        }
        wait_for(&pid, 1);
        append(f, INBOX, SLICE_LIT(MAIL));
        assert_int_equal(store_refresh(mb, true, &ch, &f->err), OK);
        assert_int_equal(store_count(mb), count + 2);
        for (uint32_t seq = 1; seq <= store_count(mb); seq++) {
            assert_true(store_get(mb, seq, &m));
            assert_true(m.uid > last);
            assert_body(f, mb, m.uid, MAIL);
            last = m.uid;
        }
    }
    store_unselect(mb);
    store_close(other);
    assert_int_equal(problems(f, INBOX), 0);
}

static void test_folder_deleted_under_a_writer_is_not_found(void **state)
{
    struct fixture *f = *state;
    struct store *other;
    struct store_appended out;
    assert_int_equal(store_create(f->store, SLICE_LIT("x"), &f->err), OK);
    append(f, SLICE_LIT("x"), SLICE_LIT(MAIL));
    struct store_append *a;
    assert_int_equal(store_append_begin(f->store, SLICE_LIT("x"), 0, &a, &f->err), OK);
    assert_int_equal(store_append_write(a, SLICE_LIT(MAIL), &f->err), OK);
    assert_int_equal(store_open(AT_FDCWD, f->mail, &f->opt, &other, &f->err), OK);
    assert_int_equal(store_delete(other, SLICE_LIT("x"), &f->err), OK);
    store_close(other);
    assert_int_equal(
        store_append_commit(a, &(struct store_append_options){0}, &out, &f->err), ERR_NOT_FOUND);
    assert_false(store_exists(f->store, SLICE_LIT("x")));
}

/* A handle that has the folder open finds the new one of that name, once it was told of the old. */
static void test_folder_deleted_and_made_again_takes_appends_again(void **state)
{
    struct fixture *f = *state;
    struct store *other;
    struct store_appended out;
    const struct store_append_options durable = {.durable = true};
    const struct slice x = SLICE_LIT("x");
    assert_int_equal(store_create(f->store, x, &f->err), OK);
    assert_int_equal(append_opt(f, x, SLICE_LIT(MAIL), &durable, &out), OK);
    uint32_t before = out.uidvalidity;
    assert_int_equal(store_open(AT_FDCWD, f->mail, &f->opt, &other, &f->err), OK);
    assert_int_equal(store_delete(other, x, &f->err), OK);
    assert_int_equal(append_opt(f, x, SLICE_LIT(MAIL), &durable, &out), ERR_NOT_FOUND);
    assert_false(store_exists(f->store, x));
    assert_int_equal(store_create(other, x, &f->err), OK);
    store_close(other);
    assert_int_equal(append_opt(f, x, SLICE_LIT(MAIL), &durable, &out), OK);
    assert_true(out.uidvalidity > before);
    assert_int_equal(files_in(f, ".x/cur"), 1);
}

/* Between a process that deletes a folder and one that repairs it. */
static int go[2], answer[2];

static int delete_when_told(struct fixture *f)
{
    struct store *other;
    char byte;
    if (store_open(AT_FDCWD, f->mail, &f->opt, &other, &f->err) || read(go[0], &byte, 1) != 1)
        return 1;
    tell_waiting = answer[1];
    dies_behind_trash = true;
    (void)!store_delete(other, SLICE_LIT("x"), &f->err);
    return 1;
}

/* Goes on when the other has deleted the folder, or waits for us. */
static void let_delete(struct fixture *f)
{
    char byte;
    (void)f;
    assert_int_equal(write(go[1], "g", 1), 1);
    assert_int_equal(read(answer[0], &byte, 1), 1);
}

/* Another process deletes the folder x as soon as we give a log its name. */
static pid_t delete_at_log(struct fixture *f)
{
    assert_int_equal(pipe(go), 0);
    assert_int_equal(pipe(answer), 0);
    pid_t deleter = fork();
    if (deleter == 0)
        _exit(delete_when_told(f));
    close(go[0]);
    close(answer[1]);
    awaited = "veredus.log";
    before_name = let_delete;
    at_name = f;
    return deleter;
}

/* Otherwise the journal would bring the folder back after a stop of the machine. */
static void test_folder_deleted_during_a_repair_takes_no_appends(void **state)
{
    struct fixture *f = *state;
    struct store_append *a = NULL;
    struct store_appended out;
    char path[256];
    assert_int_equal(store_create(f->store, SLICE_LIT("x"), &f->err), OK);
    path_of(f, ".x/veredus.log", path);
    assert_int_equal(unlink(path), 0);
    pid_t deleter = delete_at_log(f);
    int rc = store_append_begin(f->store, SLICE_LIT("x"), 0, &a, &f->err);
    assert_null(before_name);
    wait_for(&deleter, 1);
    if (!rc)
        rc = store_append_write(a, SLICE_LIT(MAIL), &f->err);
    if (!rc)
        rc = store_append_commit(a, &(struct store_append_options){.durable = true}, &out, &f->err);
    assert_int_equal(rc, ERR_NOT_FOUND);
    assert_false(store_exists(f->store, SLICE_LIT("x")));
    close(go[1]);
    close(answer[0]);
}

/* As a deletion does that is cut off before the files are removed. */
static void trash(struct fixture *f)
{
    char from[256], to[256];
    path_of(f, ".x", from);
    path_of(f, "veredus.trash.1", to);
    assert_int_equal(rename(from, to), 0);
}

static void test_folder_deleted_before_a_repair_gets_no_log(void **state)
{
    struct fixture *f = *state;
    struct store_append *a;
    char path[256];
    assert_int_equal(store_create(f->store, SLICE_LIT("x"), &f->err), OK);
    path_of(f, ".x/veredus.log", path);
    assert_int_equal(unlink(path), 0);
    before_flock = trash;
    at_flock = f;
    assert_int_equal(store_append_begin(f->store, SLICE_LIT("x"), 0, &a, &f->err), ERR_NOT_FOUND);
    path_of(f, "veredus.trash.1/veredus.log", path);
    assert_int_not_equal(access(path, F_OK), 0);
}

/* That folder is a whole one then, and CREATE has not lied. */
static void test_folder_deleted_while_it_is_made_goes_when_it_is_there(void **state)
{
    struct fixture *f = *state;
    pid_t deleter = delete_at_log(f);
    assert_int_equal(store_create(f->store, SLICE_LIT("x"), &f->err), OK);
    assert_null(before_name);
    wait_for(&deleter, 1);
    assert_false(store_exists(f->store, SLICE_LIT("x")));
    close(go[1]);
    close(answer[0]);
}

static int make_or_delete(struct fixture *f, bool makes)
{
    struct store *s;
    if (store_open(AT_FDCWD, f->mail, &f->opt, &s, &f->err))
        return 1;
    for (int i = 0; i < EACH; i++) {
        int rc = makes ? store_create(s, SLICE_LIT("x"), &f->err)
                       : store_delete(s, SLICE_LIT("x"), &f->err);
        if (rc && rc != (makes ? ERR_EXISTS : ERR_NOT_FOUND)) {
            print_error("%s: %s\n", makes ? "create" : "delete", f->err.text);
            return 1;
        }
    }
    store_close(s);
    return 0;
}

static void test_create_and_delete_at_once_tell_only_what_can_be(void **state)
{
    struct fixture *f = *state;
    pid_t pids[WRITERS];
    for (int i = 0; i < WRITERS; i++) {
        pids[i] = fork();
        if (pids[i] == 0)
            _exit(make_or_delete(f, i % 2));
    }
    wait_for(pids, WRITERS);
}

/* The old log's end is all that is left of it, and higher than what came into the new one. */
static void test_numbers_of_a_repair_whose_log_was_lost_are_known_to_be_missing(void **state)
{
    struct fixture *f = *state;
    struct store_status st;
    bool complete = true;
    append(f, INBOX, SLICE_LIT(MAIL));
    assert_int_equal(store_status(f->store, INBOX, &st, &f->err), OK);
    pid_t pid = fork();
    if (pid == 0) {
        dies_before = "veredus.log";
        (void)!store_rebuild(f->store, INBOX, &f->err);
        _exit(1);
    }
    wait_for(&pid, 1);
    store_close(f->store);
    let_the_machine_start(f);
    open_store(f);
    struct store_mailbox *mb = select_box(f, INBOX);
    uint64_t given = st.highestmodseq + (1 << 18) + 2;
    assert_true(store_highestmodseq(mb) > given);
    assert_int_equal(store_changes_since(mb, given, NULL, NULL, &complete, &f->err), OK);
    assert_false(complete);
    store_unselect(mb);
}

static bool journal_holds(struct fixture *f, const char *text)
{
    static char journal[8 << 20];
    char path[256];
    path_of(f, "veredus.journal", path);
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    ssize_t n = read(fd, journal, sizeof(journal));
    close(fd);
    return slice_find(slice_from(journal, (size_t)MAX(n, 0)), slice_of(text)) >= 0;
}

/* An entry under the old name would make that folder again after a stop of the machine. */
static void test_append_to_a_folder_renamed_meanwhile_is_not_left_to_the_journal(void **state)
{
    struct fixture *f = *state;
    struct store *other;
    struct store_append *a;
    struct store_appended out;
    const struct store_append_options durable = {.durable = true};
    assert_int_equal(store_create(f->store, SLICE_LIT("x"), &f->err), OK);
    assert_int_equal(append_opt(f, SLICE_LIT("x"), SLICE_LIT("before\r\n"), &durable, &out), OK);
    assert_true(journal_holds(f, "before"));
    assert_int_equal(store_append_begin(f->store, SLICE_LIT("x"), 0, &a, &f->err), OK);
    assert_int_equal(store_append_write(a, SLICE_LIT("after\r\n"), &f->err), OK);
    assert_int_equal(store_open(AT_FDCWD, f->mail, &f->opt, &other, &f->err), OK);
    assert_int_equal(store_rename(other, SLICE_LIT("x"), SLICE_LIT("y"), &f->err), OK);
    store_close(other);
    assert_int_equal(store_append_commit(a, &durable, &out, &f->err), OK);
    assert_false(journal_holds(f, "after"));
    assert_int_equal(files_in(f, ".y/cur"), 2);
}

static void journal_is_locked(struct fixture *f)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char path[256];
    path_of(f, "veredus.journal", path);
    int fd = open(path, O_RDWR);
    assert_int_equal(fcntl(fd, F_OFD_GETLK, &lock), 0);
    assert_int_not_equal(lock.l_type, F_UNLCK);
    close(fd);
}

static void test_nothing_comes_into_the_journal_while_a_folder_is_renamed(void **state)
{
    struct fixture *f = *state;
    struct store_appended out;
    const struct store_append_options durable = {.durable = true};
    assert_int_equal(store_create(f->store, SLICE_LIT("x"), &f->err), OK);
    assert_int_equal(append_opt(f, SLICE_LIT("x"), SLICE_LIT(MAIL), &durable, &out), OK);
    awaited = ".y";
    before_name = journal_is_locked;
    at_name = f;
    assert_int_equal(store_rename(f->store, SLICE_LIT("x"), SLICE_LIT("y"), &f->err), OK);
    assert_null(before_name);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_writers_get_distinct_uids_and_a_reader_follows),
        TEST(test_flag_changes_of_all_processes_are_kept),
        TEST(test_writer_killed_at_any_moment_loses_nothing_acknowledged),
        TEST(test_repair_that_dies_between_index_and_log_lets_no_uid_come_in_below),
        TEST(test_index_that_goes_back_brings_back_nothing),
        TEST(test_folder_deleted_under_a_writer_is_not_found),
        TEST(test_folder_deleted_and_made_again_takes_appends_again),
        TEST(test_folder_deleted_during_a_repair_takes_no_appends),
        TEST(test_folder_deleted_before_a_repair_gets_no_log),
        TEST(test_numbers_of_a_repair_whose_log_was_lost_are_known_to_be_missing),
        TEST(test_folder_deleted_while_it_is_made_goes_when_it_is_there),
        TEST(test_create_and_delete_at_once_tell_only_what_can_be),
        TEST(test_append_to_a_folder_renamed_meanwhile_is_not_left_to_the_journal),
        TEST(test_nothing_comes_into_the_journal_while_a_folder_is_renamed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
