/*
 * Random histories of several processes in one mail directory, with processes that die anywhere
 * and a machine that stops anywhere, on the simulated file system of tests/crash. After each
 * recovery:
 *
 *   I8   no UID was ever seen for two different messages
 *   I9   what was acknowledged is there, as long as no power cut came; durable appends and
 *        copies, and all before a sync, also after one
 *   I10  a delivery, repeated until it was synced, is there once
 *
 * VEREDUS_HISTORIES=N runs N histories; VEREDUS_SEED=S shows one.
 */
#include "libstore/store.h"
#include "libutil/error.h"
#include "tests/crash/simfs.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { MESSAGES = 512, FOLDERS = 3, UIDS = 4096, VALIDITIES = 64, BIG = 200 * 1024 };

static const char *const folders[FOLDERS] = {"INBOX", "Archive", "Trash"};

/* How often a message is in a folder, at least and at most. */
struct count {
    int acked, durable; /* that were put there, and those of them that a power cut leaves */
    int taken;          /* attempts to expunge one */
    int may;
    int expunged; /* acknowledged, not yet synced; they are no longer counted in may */
};

static int must(const struct count *c)
{
    return MAX(0, c->acked - c->taken);
}

struct flag_state {
    bool known[SIM_PROCESSES]; /* what this process has set was acknowledged */
    bool set[SIM_PROCESSES];
};

struct numbers {
    uint32_t uidvalidity;
    short message[UIDS]; /* number + 1 of the message seen under this UID */
    struct flag_state flags[UIDS];
};

struct delivery {
    bool synced, done;
    int folder;
};

static struct {
    uint64_t seed;
    int messages;
    uint32_t size[MESSAGES];
    bool broken[MESSAGES];              /* not promised: its file may be lost */
    struct delivery delivery[MESSAGES]; /* folder -1: none */
    struct count count[FOLDERS][MESSAGES];
    struct numbers numbers[FOLDERS][VALIDITIES];
    char problem[300];
} world;

__attribute__((format(printf, 1, 2))) static void problem(const char *format, ...)
{
    va_list ap;
    if (world.problem[0])
        return;
    va_start(ap, format);
    vsnprintf(world.problem, sizeof(world.problem), format, ap);
    va_end(ap);
}

#define TRACE(...) (getenv("VEREDUS_SEED") ? (void)fprintf(stderr, __VA_ARGS__) : (void)0)

/* --- messages --------------------------------------------------------------------------------- */

static void content_of(int message, struct buf *out)
{
    buf_init(out, 2 * BIG);
    buf_printf(out, "Message-ID: <%d@x>\r\nSubject: %d\r\n\r\n", message, message);
    for (uint32_t i = 0; buf_len(out) < world.size[message]; i++)
        buf_printf(out, "%u %u line of message %d\r\n", i, i * 2654435769u, message);
}

static int message_of(struct slice content)
{
    uint64_t number;
    struct buf whole;
    struct slice rest = content;
    slice_cut(&rest, ' ');
    slice_cut(&rest, ' ');
    if (slice_u64(slice_cut(&rest, '\r'), 0, (uint64_t)world.messages - 1, &number))
        return -1;
    content_of((int)number, &whole);
    bool same = slice_eq(content, buf_slice(&whole));
    buf_clear(&whole);
    return same ? (int)number : -1;
}

static struct numbers *numbers_of(int folder, uint32_t uidvalidity)
{
    for (int i = 0; i < VALIDITIES; i++) {
        struct numbers *n = &world.numbers[folder][i];
        if (n->uidvalidity == 0)
            n->uidvalidity = uidvalidity;
        if (n->uidvalidity == uidvalidity)
            return n;
    }
    problem("too many values of UIDVALIDITY");
    return &world.numbers[folder][0];
}

static void seen(int folder, uint32_t uidvalidity, uint32_t uid, int message)
{
    struct numbers *n = numbers_of(folder, uidvalidity);
    if (uid >= UIDS)
        return; /* after many power cuts; enough was seen */
    if (n->message[uid] && n->message[uid] != message + 1)
        problem("I8: %s UID %u was message %d and is now %d", folders[folder], uid,
            n->message[uid] - 1, message);
    n->message[uid] = (short)(message + 1);
}

/* --- what a process does ---------------------------------------------------------------------- */

struct session {
    int process;
    struct store *store;
    struct store_mailbox *mb;
    int folder;
    struct error err;
};

static int add(struct session *s, int message, int folder, struct store_append_options *opt,
    struct store_appended *out)
{
    struct store_append *a;
    struct buf text;
    int rc = store_append_begin(s->store, slice_of(folders[folder]), 0, &a, &s->err);
    if (rc)
        return rc;
    content_of(message, &text);
    rc = store_append_write(a, buf_slice(&text), &s->err);
    buf_clear(&text);
    if (rc)
        store_append_abort(a);
    else
        rc = store_append_commit(a, opt, out, &s->err);
    return rc;
}

static int new_message(void)
{
    if (world.messages == MESSAGES)
        return -1;
    int message = world.messages++;
    world.size[message] = (uint32_t)(60 + sim_random(sim_random(8) ? 300 : 9000));
    if (sim_random(60) == 0)
        world.size[message] = BIG;
    world.delivery[message].folder = -1;
    return message;
}

static void do_append(struct session *s)
{
    struct store_appended out;
    int message = new_message(), folder = (int)sim_random(FOLDERS);
    if (message < 0)
        return;
    struct store_append_options opt = {.durable = sim_random(3) > 0};
    struct count *c = &world.count[folder][message];
    c->may++;
    if (add(s, message, folder, &opt, &out))
        return;
    c->acked++;
    c->durable += opt.durable;
    TRACE("%d: append %d to %s uid %u durable %d\n", s->process, message, folders[folder], out.uid,
        opt.durable);
    seen(folder, out.uidvalidity, out.uid, message);
}

static void deliver(struct session *s, int message)
{
    struct store_appended out;
    struct delivery *d = &world.delivery[message];
    struct count *c = &world.count[d->folder][message];
    struct store_append_options opt = {.delivery = 1000 + (uint64_t)message};
    c->may = MAX(c->may, 1);
    if (add(s, message, d->folder, &opt, &out))
        return;
    TRACE("%d: deliver %d to %s uid %u dup %d\n", s->process, message, folders[d->folder], out.uid,
        out.duplicate);
    if (!out.duplicate)
        seen(d->folder, out.uidvalidity, out.uid, message);
    c->acked = 1;
    d->done = true;
}

static void do_deliver(struct session *s)
{
    int message = new_message();
    if (message < 0)
        return;
    world.delivery[message].folder = (int)sim_random(FOLDERS);
    deliver(s, message);
}

/* As the queue manager does: everything that is not known to be on disk, again. */
static void do_redo(struct session *s)
{
    for (int i = 0; i < world.messages; i++)
        if (world.delivery[i].folder >= 0 && !world.delivery[i].synced && sim_random(3) == 0)
            deliver(s, i);
}

static void do_sync(struct session *s)
{
    struct count(*before)[MESSAGES] = xcalloc(FOLDERS, sizeof(*before));
    bool done[MESSAGES];
    for (int i = 0; i < world.messages; i++)
        done[i] = world.delivery[i].done;
    memcpy(before, world.count, sizeof(world.count));
    if (store_sync(store_dirfd(s->store), &s->err) == OK) {
        for (int f = 0; f < FOLDERS; f++)
            for (int i = 0; i < world.messages; i++) {
                struct count *c = &world.count[f][i];
                c->durable = MAX(c->durable, before[f][i].acked);
                c->expunged = MAX(0, c->expunged - before[f][i].expunged);
            }
        for (int i = 0; i < world.messages; i++)
            world.delivery[i].synced |= done[i];
        TRACE("%d: sync\n", s->process);
    }
    free(before);
}

static void leave_folder(struct session *s)
{
    store_unselect(s->mb);
    s->mb = NULL;
}

static bool enter_folder(struct session *s)
{
    struct store_changes ch;
    if (s->mb && (sim_random(6) == 0 || store_refresh(s->mb, true, &ch, &s->err)))
        leave_folder(s);
    if (s->mb)
        return true;
    s->folder = (int)sim_random(FOLDERS);
    return store_select(s->store, slice_of(folders[s->folder]), false, &s->mb, &s->err) == OK;
}

/* A message of the view that can be read, and which one it is. */
static int choose(struct session *s, struct store_msg *m)
{
    struct store_body body;
    uint32_t n = store_count(s->mb);
    if (n == 0 || !store_get(s->mb, 1 + (uint32_t)sim_random(n), m) || m->gone ||
        store_body(s->mb, m->uid, &body, &s->err))
        return -1;
    int message = message_of(body.content);
    store_body_release(&body);
    if (message >= 0)
        seen(s->folder, store_uidvalidity(s->mb), m->uid, message);
    return message;
}

static void do_flags(struct session *s)
{
    static const uint32_t bit[SIM_PROCESSES] = {
        STORE_SEEN, STORE_ANSWERED, STORE_FLAGGED, STORE_DRAFT};
    struct store_msg m;
    struct uidset set = {0};
    if (!enter_folder(s) || choose(s, &m) < 0 || m.uid >= UIDS)
        return;
    struct numbers *n = numbers_of(s->folder, store_uidvalidity(s->mb));
    struct flag_state *f = &n->flags[m.uid];
    bool on = sim_random(2);
    uidset_add(&set, m.uid);
    f->known[s->process] = false;
    if (store_change(s->mb, &set,
            &(struct store_flags){.how = on ? STORE_ADD : STORE_REMOVE, .flags = bit[s->process]},
            NULL, NULL, &s->err) == OK) {
        TRACE("%d: flag %x %d of %s uid %u\n", s->process, bit[s->process], on, folders[s->folder],
            m.uid);
        f->known[s->process] = true;
        f->set[s->process] = on;
    }
    uidset_clear(&set);
}

static void do_expunge(struct session *s)
{
    struct store_msg m;
    struct uidset set = {0}, gone = {0};
    int message;
    if (!enter_folder(s) || (message = choose(s, &m)) < 0)
        return;
    struct count *c = &world.count[s->folder][message];
    uidset_add(&set, m.uid);
    c->taken++;
    if (store_expunge(s->mb, &set, false, &gone, &s->err) == OK && uidset_has(&gone, m.uid)) {
        c->may--;
        c->expunged++;
        TRACE("%d: expunge %d from %s uid %u\n", s->process, message, folders[s->folder], m.uid);
    }
    uidset_clear(&set);
    uidset_clear(&gone);
}

static void do_copy(struct session *s)
{
    struct store_msg m;
    struct uidset set = {0};
    struct store_copied out;
    int message, to = (int)sim_random(FOLDERS);
    if (!enter_folder(s) || (message = choose(s, &m)) < 0 || world.delivery[message].folder == to)
        return;
    struct count *c = &world.count[to][message];
    uidset_add(&set, m.uid);
    c->may++;
    if (store_copy(s->mb, &set, slice_of(folders[to]), &out, &s->err) == OK && out.n) {
        c->acked++;
        c->durable++;
        TRACE("%d: copy %d to %s uid %u\n", s->process, message, folders[to], out.to[0]);
        seen(to, out.uidvalidity, out.to[0], message);
        store_copied_clear(&out);
    }
    uidset_clear(&set);
}

static void do_rebuild(struct session *s)
{
    int folder = (int)sim_random(FOLDERS);
    if (sim_random(10))
        return;
    TRACE("%d: rebuild %s\n", s->process, folders[folder]);
    (void)!store_rebuild(s->store, slice_of(folders[folder]), &s->err);
}

static bool open_store(struct session *s)
{
    static const struct store_options opt = {.create = true};
    if (store_open(AT_FDCWD, "mail", &opt, &s->store, &s->err))
        return false;
    for (int i = 1; i < FOLDERS; i++)
        if (!store_exists(s->store, slice_of(folders[i])))
            (void)!store_create(s->store, slice_of(folders[i]), &s->err);
    return true;
}

static void process(void *arg, int number)
{
    static void (*const verbs[])(struct session *) = {do_append, do_append, do_deliver, do_deliver,
        do_flags, do_flags, do_expunge, do_copy, do_redo, do_sync, do_rebuild};
    struct session s = {.process = number};
    (void)arg;
    if (!open_store(&s))
        return;
    for (uint64_t n = 1 + sim_random(25); n; n--)
        verbs[sim_random(ARRAY_LEN(verbs))](&s);
    leave_folder(&s);
    store_close(s.store);
}

/* --- after it --------------------------------------------------------------------------------- */

static void check_flags(struct session *s, int folder, const struct store_msg *m)
{
    static const uint32_t bit[SIM_PROCESSES] = {
        STORE_SEEN, STORE_ANSWERED, STORE_FLAGGED, STORE_DRAFT};
    struct numbers *n = numbers_of(folder, store_uidvalidity(s->mb));
    for (int i = 0; m->uid < UIDS && i < SIM_PROCESSES; i++)
        if (n->flags[m->uid].known[i] && n->flags[m->uid].set[i] != !!(m->flags & bit[i]))
            problem(
                "I9: flag %x of %s UID %u is not as acknowledged", bit[i], folders[folder], m->uid);
}

static void check_folder(struct session *s, int folder)
{
    int count[MESSAGES] = {0};
    struct store_msg m;
    struct store_body body;
    struct store_status st;
    int rc = store_select(s->store, slice_of(folders[folder]), true, &s->mb, &s->err);
    if (rc) {
        problem("%s cannot be opened: %s", folders[folder], s->err.text);
        return;
    }
    uint64_t bytes = 0;
    for (uint32_t seq = 1; store_get(s->mb, seq, &m); seq++) {
        bytes += m.size;
        if (store_body(s->mb, m.uid, &body, &s->err)) {
            TRACE("%s uid %u: %s\n", folders[folder], m.uid, s->err.text);
            continue; /* never promised, or counted as missing */
        }
        int message = message_of(body.content);
        store_body_release(&body);
        TRACE("%s uid %u: message %d\n", folders[folder], m.uid, message);
        if (message < 0)
            continue;
        count[message]++;
        seen(folder, store_uidvalidity(s->mb), m.uid, message);
        check_flags(s, folder, &m);
    }
    for (int i = 0; i < world.messages; i++) {
        const struct count *c = &world.count[folder][i];
        if (count[i] < must(c))
            problem("I9: message %d is %d times in %s instead of %d", i, count[i], folders[folder],
                must(c));
        if (count[i] > c->may)
            problem("%s: message %d is %d times in %s, at most %d",
                world.delivery[i].folder == folder ? "I10" : "I9", i, count[i], folders[folder],
                c->may);
    }
    if (store_status(s->store, slice_of(folders[folder]), &st, &s->err) ||
        st.messages != store_count(s->mb) || st.size != bytes)
        problem("%s: totals are wrong", folders[folder]);
    leave_folder(s);
}

static void check_all(bool after_power_cut)
{
    struct session s = {0};
    sim_quiet(true);
    if (!open_store(&s)) {
        problem("the mail directory cannot be opened: %s", s.err.text);
        sim_quiet(false);
        return;
    }
    /* The queue manager repeats what it cannot know to be on disk. */
    for (int i = 0; after_power_cut && i < world.messages; i++)
        if (world.delivery[i].folder >= 0 && !world.delivery[i].synced)
            deliver(&s, i);
    for (int f = 0; f < FOLDERS; f++)
        check_folder(&s, f);
    store_close(s.store);
    sim_quiet(false);
}

static void forget_unsynced(void)
{
    for (int f = 0; f < FOLDERS; f++)
        for (int i = 0; i < world.messages; i++) {
            struct count *c = &world.count[f][i];
            c->acked = c->durable;
            c->may += c->expunged;
            c->expunged = 0;
        }
    for (int i = 0; i < world.messages; i++)
        if (!world.delivery[i].synced)
            world.delivery[i].done = false;
    for (int f = 0; f < FOLDERS; f++)
        for (int v = 0; v < VALIDITIES && world.numbers[f][v].uidvalidity; v++)
            for (int u = 0; u < UIDS; u++)
                memset(world.numbers[f][v].flags[u].known, 0, SIM_PROCESSES);
}

static void start_all(void)
{
    for (int i = 0; i < SIM_PROCESSES; i++)
        if (!sim_running(i) && sim_random(4))
            sim_start(i, process, NULL);
}

/* Empty: all is well. */
static const char *history(uint64_t seed, const char *lie_about, enum sim_lie lie)
{
    struct sim_options opt = {.seed = seed,
        .switch_one_in = (unsigned)(seed % 3 ? 20 : 0),
        .fault_one_in = seed % 4 == 1 ? 150 : 0,
        .lie_about = lie_about,
        .lie = lie};
    sim_init(&opt);
    memset(&world, 0, sizeof(world));
    world.seed = seed;
    for (uint64_t round = 2 + sim_random(4); round && !world.problem[0]; round--) {
        start_all();
        bool ended = sim_run(100 + sim_random(3000));
        bool cut = sim_random(2);
        if (cut) {
            sim_power_cut();
            TRACE("--- power cut\n");
            forget_unsynced();
        } else if (!ended && sim_random(2)) {
            sim_kill((int)sim_random(SIM_PROCESSES));
            TRACE("--- kill\n");
            sim_run(sim_random(2) ? 500 : 0);
        }
        for (int i = 0; i < SIM_PROCESSES; i++)
            sim_kill(i);
        TRACE("--- check\n");
        check_all(cut);
    }
    sim_free();
    return world.problem;
}

/* In processes of their own, for those that die in a history free nothing. */
static bool batch(uint64_t first, uint64_t n, const char *lie_about, enum sim_lie lie, bool quiet)
{
    pid_t pid = fork();
    if (pid == 0) {
        for (uint64_t seed = first; seed < first + n; seed++)
            if (history(seed, lie_about, lie)[0]) {
                if (!quiet)
                    print_error("VEREDUS_SEED=%llu: %s\n", (unsigned long long)seed, world.problem);
                _exit(1);
            }
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!quiet && WIFSIGNALED(status))
        print_error("signal %d in seeds %llu...\n", WTERMSIG(status), (unsigned long long)first);
    return status == 0;
}

static uint64_t number_from(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    uint64_t v = otherwise;
    if (text && slice_u64(slice_of(text), 0, UINT64_MAX, &v))
        v = otherwise;
    return v;
}

static void test_histories_keep_i8_i9_i10(void **state)
{
    enum { BATCH = 50, WORKERS = 2 };
    uint64_t n = number_from("VEREDUS_HISTORIES", 5000), one = number_from("VEREDUS_SEED", 0);
    (void)state;
    if (one) {
        assert_true(batch(one, 1, NULL, SIM_HONEST, false));
        return;
    }
    pid_t worker[WORKERS];
    for (uint64_t w = 0; w < WORKERS; w++) {
        worker[w] = fork();
        if (worker[w] == 0) {
            bool good = true;
            for (uint64_t at = 1 + w * BATCH; at <= n && good; at += WORKERS * BATCH)
                good = batch(at, MIN(BATCH, n - at + 1), NULL, SIM_HONEST, false);
            _exit(good ? 0 : 1);
        }
    }
    for (int w = 0; w < WORKERS; w++) {
        int status;
        assert_int_equal(waitpid(worker[w], &status, 0), worker[w]);
        assert_int_equal(status, 0);
    }
}

/* A machine that does not do what it says is found out, so the checks can fail. */
static void assert_found(const char *lie_about, enum sim_lie lie)
{
    if (getenv("VEREDUS_SEED"))
        return;
    for (uint64_t seed = 1; seed < 2000; seed += 20)
        if (!batch(seed, 20, lie_about, lie, true))
            return;
    fail_msg("nothing noticed");
}

static void test_missing_sync_of_the_journal_is_found(void **state)
{
    (void)state;
    assert_found("veredus.journal", SIM_NO_FILE_SYNC);
}

static void test_missing_sync_of_the_log_is_found(void **state)
{
    (void)state;
    assert_found("veredus.log", SIM_NO_FILE_SYNC);
}

static void test_missing_sync_of_files_is_found(void **state)
{
    (void)state;
    assert_found(NULL, SIM_NO_FILE_SYNC);
}

static void test_missing_sync_of_directories_is_found(void **state)
{
    (void)state;
    assert_found(NULL, SIM_NO_DIR_SYNC);
}

static void test_missing_sync_of_the_file_system_is_found(void **state)
{
    (void)state;
    assert_found(NULL, SIM_NO_FS_SYNC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_missing_sync_of_the_journal_is_found),
        cmocka_unit_test(test_missing_sync_of_the_log_is_found),
        cmocka_unit_test(test_missing_sync_of_files_is_found),
        cmocka_unit_test(test_missing_sync_of_directories_is_found),
        cmocka_unit_test(test_missing_sync_of_the_file_system_is_found),
        cmocka_unit_test(test_histories_keep_i8_i9_i10),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
