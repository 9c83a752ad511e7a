/*
 * Ten processes at once in one mail directory, on the real file system: they append, deliver, move
 * both ways, flag, expunge, repair and verify, and one after the other is killed in the middle of
 * it. At the end nothing is lost and nothing there twice. VEREDUS_ATTACK_SECONDS: how long. Syncs
 * are slow now and then, as on a real disk, so that many die between two steps of a repair.
 */
#include "libstore/housekeep.h"
#include "libstore/quota.h"
#include "tests/unit/libstore/fixture.h"

#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>

enum { MESSAGES = 20000, UIDS = 1 << 17, PROCESSES = 10, FOLDERS = 2 };

static const char *const folders[FOLDERS] = {"INBOX", "Other"};

/* What somebody began with a message; after a kill it stays so, and nobody else touches it. */
enum doing { NOTHING, APPENDING, DELIVERING, MOVING, EXPUNGING };

struct entry {
    atomic_int busy;
    enum doing doing;
    bool there, gone; /* acknowledged */
    int folder;
    uint32_t uid;
};

static struct shared {
    atomic_int messages;
    atomic_uint acknowledged;
    struct entry entry[MESSAGES];
    atomic_int owner[FOLDERS][UIDS]; /* number + 1 of the message that got this UID */
    atomic_uint validity[FOLDERS];
    int delivering[PROCESSES]; /* number + 1 of the message whose delivery was not answered */
    char problem[300];
} * shared;

__attribute__((format(printf, 1, 2))) static void problem(const char *format, ...)
{
    va_list ap;
    if (shared->problem[0])
        return;
    va_start(ap, format);
    vsnprintf(shared->problem, sizeof(shared->problem), format, ap);
    va_end(ap);
}

static int slowly(long call, int fd)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    if (t.tv_nsec / 1000 % 4 == 0)
        usleep((useconds_t)(t.tv_nsec / 4000 % 4000));
    return (int)syscall(call, fd);
}

int fsync(int fd)
{
    return slowly(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    return slowly(SYS_fdatasync, fd);
}

struct worker {
    struct fixture *f;
    struct store *store;
    struct store_mailbox *mb[FOLDERS];
    struct error err;
    int process;
    uint64_t random;
};

static uint32_t pick(struct worker *w, uint32_t below)
{
    w->random = w->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(w->random >> 33) % below;
}

/* I8: whoever was told this UID was told it first. */
static void got(int folder, uint32_t validity, uint32_t uid, int message)
{
    unsigned none = 0;
    int nobody = 0;
    if (!atomic_compare_exchange_strong(&shared->validity[folder], &none, validity) &&
        none != validity)
        problem("UIDVALIDITY of %s changed", folders[folder]);
    if (uid >= UIDS)
        return;
    if (!atomic_compare_exchange_strong(&shared->owner[folder][uid], &nobody, message + 1) &&
        nobody != message + 1)
        problem("%s UID %u was given to %d and %d", folders[folder], uid, nobody - 1, message);
}

static int put(struct worker *w, int message, int folder, const struct store_append_options *opt,
    struct store_appended *out)
{
    struct store_append *a;
    char text[200];
    int n = snprintf(text, sizeof(text), "Subject: %d\r\n\r\nbody of %d\r\n", message, message);
    int rc = store_append_begin(w->store, slice_of(folders[folder]), 0, &a, &w->err);
    if (rc)
        return rc;
    rc = store_append_write(a, slice_from(text, (size_t)n), &w->err);
    if (rc) {
        store_append_abort(a);
        return rc;
    }
    return store_append_commit(a, opt, out, &w->err);
}

static void settle(struct entry *e, int folder, uint32_t uid)
{
    e->folder = folder;
    e->uid = uid;
    e->there = true;
    e->doing = NOTHING;
    atomic_fetch_add(&shared->acknowledged, 1);
    atomic_store(&e->busy, 0);
}

/* As the queue manager does it: what was not answered is delivered again, soon. */
static void deliver(struct worker *w, int message)
{
    struct store_appended out;
    struct entry *e = &shared->entry[message];
    struct store_append_options opt = {.delivery = 1 + (uint64_t)message};
    if (put(w, message, e->folder, &opt, &out)) {
        problem("delivery: %s", w->err.text);
        return;
    }
    if (!out.duplicate)
        got(e->folder, out.uidvalidity, out.uid, message);
    settle(e, e->folder, out.uid);
    shared->delivering[w->process] = 0;
}

static void add(struct worker *w, bool delivery)
{
    struct store_appended out;
    int message = atomic_fetch_add(&shared->messages, 1), folder = (int)pick(w, FOLDERS);
    if (message >= MESSAGES)
        return;
    struct entry *e = &shared->entry[message];
    atomic_store(&e->busy, 1);
    e->folder = folder;
    if (delivery)
        shared->delivering[w->process] = message + 1;
    e->doing = delivery ? DELIVERING : APPENDING;
    struct store_append_options opt = {.durable = pick(w, 20) == 0};
    if (delivery) {
        deliver(w, message);
        return;
    }
    if (put(w, message, folder, &opt, &out)) {
        problem("append: %s", w->err.text);
        return;
    }
    got(folder, out.uidvalidity, out.uid, message);
    settle(e, folder, out.uid);
}

static void do_append(struct worker *w)
{
    add(w, false);
}

static void do_deliver(struct worker *w)
{
    add(w, true);
}

static struct store_mailbox *view(struct worker *w, int folder)
{
    struct store_changes ch;
    if (w->mb[folder] && store_refresh(w->mb[folder], true, &ch, &w->err)) {
        problem("refresh: %s", w->err.text);
        store_unselect(w->mb[folder]);
        w->mb[folder] = NULL;
    }
    if (!w->mb[folder] &&
        store_select(w->store, slice_of(folders[folder]), false, &w->mb[folder], &w->err))
        problem("select: %s", w->err.text);
    return w->mb[folder];
}

/* A message that is ours alone until it is settled; NULL: none was found. */
static struct entry *take(struct worker *w, int *message)
{
    int n = MIN(atomic_load(&shared->messages), MESSAGES);
    for (int turns = 0; n && turns < 20; turns++) {
        int zero = 0;
        *message = (int)pick(w, (uint32_t)n);
        struct entry *e = &shared->entry[*message];
        if (!e->there || e->gone || !atomic_compare_exchange_strong(&e->busy, &zero, 1))
            continue;
        if (e->there && !e->gone)
            return e;
        atomic_store(&e->busy, 0);
    }
    return NULL;
}

static bool check_there(struct worker *w, const struct entry *e, int message)
{
    struct store_mailbox *mb = view(w, e->folder);
    struct store_body body;
    char wanted[40];
    if (!mb)
        return false;
    if (store_body(mb, e->uid, &body, &w->err)) {
        problem(
            "message %d (%s UID %u) is lost: %s", message, folders[e->folder], e->uid, w->err.text);
        return false;
    }
    snprintf(wanted, sizeof(wanted), "Subject: %d\r\n", message);
    if (!slice_starts(body.content, wanted))
        problem("message %d (%s UID %u) is another", message, folders[e->folder], e->uid);
    store_body_release(&body);
    return true;
}

static void expunge(struct worker *w, int folder, uint32_t uid)
{
    struct uidset set = uids(uid, uid), gone = {0};
    if (store_expunge(w->mb[folder], &set, false, &gone, &w->err) || !uidset_has(&gone, uid))
        problem("%s UID %u cannot be expunged: %s", folders[folder], uid, w->err.text);
    uidset_clear(&set);
    uidset_clear(&gone);
}

static void do_move(struct worker *w)
{
    struct store_copied out;
    int message;
    struct entry *e = take(w, &message);
    if (!e || !check_there(w, e, message))
        return;
    int to = !e->folder;
    struct uidset set = uids(e->uid, e->uid);
    e->doing = MOVING;
    if (store_copy(w->mb[e->folder], &set, slice_of(folders[to]), &out, &w->err) || out.n != 1) {
        problem("copy: %s", w->err.text);
    } else {
        got(to, out.uidvalidity, out.to[0], message);
        expunge(w, e->folder, e->uid);
        settle(e, to, out.to[0]);
        store_copied_clear(&out);
    }
    uidset_clear(&set);
}

static void do_expunge(struct worker *w)
{
    int message;
    struct entry *e = take(w, &message);
    if (!e || !check_there(w, e, message))
        return;
    e->doing = EXPUNGING;
    expunge(w, e->folder, e->uid);
    e->gone = true;
    settle(e, e->folder, e->uid);
}

static void do_flags(struct worker *w)
{
    static const struct slice words[] = {SLICE_LIT("one"), SLICE_LIT("two"), SLICE_LIT("three")};
    struct store_mailbox *mb = view(w, (int)pick(w, FOLDERS));
    if (!mb || store_count(mb) == 0)
        return;
    struct uidset set = uids(1 + pick(w, 100), UINT32_MAX);
    const struct store_flags f = {.how = pick(w, 2) ? STORE_ADD : STORE_REMOVE,
        .flags = 1u << pick(w, 3),
        .keywords = &words[pick(w, ARRAY_LEN(words))],
        .nkeywords = 1};
    if (store_change(mb, &set, &f, NULL, NULL, &w->err))
        problem("store: %s", w->err.text);
    uidset_clear(&set);
}

/* A client that only looks: UIDs ascend, modseqs do not go back. */
static void do_watch(struct worker *w)
{
    int folder = (int)pick(w, FOLDERS);
    uint64_t highest = w->mb[folder] ? store_highestmodseq(w->mb[folder]) : 0;
    struct store_mailbox *mb = view(w, folder);
    struct store_msg m;
    uint32_t last = 0;
    if (!mb)
        return;
    if (store_highestmodseq(mb) < highest)
        problem("HIGHESTMODSEQ of %s went back", folders[folder]);
    for (uint32_t seq = 1; store_get(mb, seq, &m); seq++) {
        if (m.uid <= last)
            problem("UIDs of %s do not ascend", folders[folder]);
        if (m.modseq > store_highestmodseq(mb))
            problem("%s UID %u has a modseq from the future", folders[folder], m.uid);
        last = m.uid;
    }
}

static void do_tools(struct worker *w)
{
    struct buf report;
    struct quota_usage used;
    bool done;
    struct slice folder = slice_of(folders[pick(w, FOLDERS)]);
    int rc = OK;
    buf_init(&report, 1 << 20);
    switch (pick(w, 5)) {
    case 0:
        rc = store_rebuild(w->store, folder, &w->err);
        break;
    case 1:
        rc = store_compact(w->store, folder, true, &done, &w->err);
        break;
    case 2:
        rc = store_quota_usage(w->store, &used, &w->err);
        break;
    case 3:
        rc = store_verify(w->store, folder, &report, &w->err);
        rc = MIN(rc, 0);
        break;
    default:
        break;
    }
    if (rc)
        problem("a tool failed: %s", w->err.text);
    buf_clear(&report);
}

static void work(struct fixture *f, int process, uint64_t seed)
{
    static void (*const verbs[])(struct worker *) = {do_append, do_append, do_deliver, do_deliver,
        do_move, do_move, do_move, do_expunge, do_flags, do_watch, do_tools};
    struct worker w = {.f = f, .process = process, .random = seed};
    f->opt.changed = NULL;
    for (;;) {
        if (store_open(AT_FDCWD, f->mail, &f->opt, &w.store, &w.err)) {
            problem("open: %s", w.err.text);
            _exit(1);
        }
        if (shared->delivering[process])
            deliver(&w, shared->delivering[process] - 1);
        for (int n = 0; n < 200; n++)
            verbs[pick(&w, ARRAY_LEN(verbs))](&w);
        for (int i = 0; i < FOLDERS; i++) {
            store_unselect(w.mb[i]);
            w.mb[i] = NULL;
        }
        store_close(w.store);
    }
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void attack(struct fixture *f)
{
    pid_t pid[PROCESSES];
    const char *text = getenv("VEREDUS_ATTACK_SECONDS");
    uint64_t seconds = 2, seed = (uint64_t)(now() * 1e6);
    if (text && slice_u64(slice_of(text), 1, 100000, &seconds))
        seconds = 2;
    for (int i = 0; i < PROCESSES; i++)
        if ((pid[i] = fork()) == 0)
            work(f, i, seed + (uint64_t)i);
    for (double end = now() + (double)seconds; now() < end && !shared->problem[0];) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        usleep(1000 + (useconds_t)(seed >> 33) % 30000);
        int victim = (int)(seed >> 40) % PROCESSES;
        kill(pid[victim], SIGKILL);
        waitpid(pid[victim], NULL, 0);
        if ((pid[victim] = fork()) == 0)
            work(f, victim, seed);
    }
    for (int i = 0; i < PROCESSES; i++) {
        kill(pid[i], SIGKILL);
        waitpid(pid[i], NULL, 0);
    }
}

static void count_folder(struct fixture *f, int folder, int count[MESSAGES], uint64_t *bytes)
{
    struct store_mailbox *mb = select_box(f, slice_of(folders[folder]));
    struct store_msg m;
    for (uint32_t seq = 1; store_get(mb, seq, &m); seq++) {
        struct store_body body;
        uint64_t message;
        assert_int_equal(store_body(mb, m.uid, &body, &f->err), OK);
        struct slice rest = body.content;
        slice_cut(&rest, ' ');
        assert_int_equal(slice_u64(slice_cut(&rest, '\r'), 0, MESSAGES - 1, &message), OK);
        count[message]++;
        *bytes += m.size;
        store_body_release(&body);
    }
    store_unselect(mb);
}

static void check_counts(const int count[MESSAGES])
{
    int n = MIN(atomic_load(&shared->messages), MESSAGES);
    for (int i = 0; i < n; i++) {
        const struct entry *e = &shared->entry[i];
        int least = e->there && !e->gone, most = least;
        if (e->doing == DELIVERING)
            least = most = 1;
        if (e->doing == APPENDING || e->doing == EXPUNGING)
            least = 0, most = 1;
        if (e->doing == MOVING)
            most = 2;
        if (count[i] < least || count[i] > most)
            print_error("message %d: %d times, doing %d\n", i, count[i], (int)e->doing);
        assert_in_range(count[i], least, most);
    }
}

static void test_ten_processes_that_are_killed_lose_nothing_and_repeat_nothing(void **state)
{
    struct fixture *f = *state;
    static int count[MESSAGES];
    uint64_t bytes = 0, messages = 0;
    memset(count, 0, sizeof(count));
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    assert_int_equal(store_create(f->store, SLICE_LIT("Other"), &f->err), OK);
    store_close(f->store);
    f->store = NULL;
    attack(f);
    if (shared->problem[0])
        print_error("%s\n", shared->problem);
    assert_true(shared->problem[0] == '\0');
    assert_true(shared->acknowledged > 50);
    open_store(f);
    struct worker w = {.f = f, .store = f->store};
    for (w.process = 0; w.process < PROCESSES; w.process++)
        if (shared->delivering[w.process])
            deliver(&w, shared->delivering[w.process] - 1);
    assert_true(shared->problem[0] == '\0');
    for (int i = 0; i < FOLDERS; i++)
        count_folder(f, i, count, &bytes);
    check_counts(count);
    for (int i = 0; i < MESSAGES; i++)
        messages += (uint64_t)count[i];
    struct quota_usage used;
    assert_int_equal(store_quota_usage(f->store, &used, &f->err), OK);
    assert_int_equal(used.bytes, bytes);
    assert_int_equal(used.messages, messages);
    for (int i = 0; i < FOLDERS; i++) {
        assert_int_equal(store_rebuild(f->store, slice_of(folders[i]), &f->err), OK);
        assert_int_equal(problems(f, slice_of(folders[i])), 0);
    }
    munmap(shared, sizeof(*shared));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_ten_processes_that_are_killed_lose_nothing_and_repeat_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_ten_processes_that_are_killed_lose_nothing_and_repeat_nothing, setup_coexist,
            teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
