/*
 * Random histories of several processes in one mail directory, with processes that die anywhere
 * and a machine that stops anywhere, on the simulated file system of tests/crash; half of them with
 * coexistence and other programs in the same Maildir. After each recovery:
 *
 *   I8   no UID was ever seen for two different messages, no UIDVALIDITY in two folders, and
 *        modification sequences do not go back
 *   I9   what was acknowledged is there, as long as no power cut came; durable appends, copies and
 *        folders, and all before a sync, also after one; with keep-deleted nothing is ever lost
 *   I10  a delivery, repeated until it was synced, is there once
 *
 * and totals, quota and cached texts fit the messages. VEREDUS_HISTORIES=N runs N histories;
 * VEREDUS_SEED=S shows one, VEREDUS_FIRST=S begins there, VEREDUS_GO_ON=1 shows all problems.
 */
#include "libstore/fs.h"
#include "libstore/housekeep.h"
#include "libstore/quota.h"
#include "tests/crash/storeworld.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void process(void *arg, int number)
{
    struct session s = {.process = number};
    (void)arg;
    if (!verbs_open(&s))
        return;
    for (uint64_t n = 1 + sim_random(25); n; n--)
        verbs_one(&s);
    verbs_close(&s);
}

static void open_only(void *arg, int number)
{
    struct session s = {.process = number};
    (void)arg;
    if (verbs_open(&s))
        verbs_close(&s);
}

/* --- after a recovery ------------------------------------------------------------------------- */

struct check {
    struct session s;
    int place;
    bool found[PLACES];
    int count[PLACES][MESSAGES];
    int kept[MESSAGES];
    uint64_t bytes, messages;
};

static uint32_t words_of(struct store_mailbox *mb, uint64_t keywords)
{
    uint32_t words = 0;
    for (size_t i = 0; i < store_keywords(mb); i++)
        for (int p = 0; keywords >> i & 1 && p < SIM_PROCESSES; p++)
            if (slice_is(store_keyword(mb, i), (char[]){'k', (char)('0' + p), '\0'}))
                words |= 1u << p;
    return words;
}

static void check_flags(struct check *c, const struct store_msg *m)
{
    static const uint32_t bit[SIM_PROCESSES] = {
        STORE_SEEN, STORE_ANSWERED, STORE_FLAGGED, STORE_DRAFT};
    const char *name = world.place[c->place].name[0];
    struct number *n = world_number(c->place, store_uidvalidity(c->s.mb), m->uid);
    uint32_t words = words_of(c->s.mb, m->keywords), flags = m->flags & (STORE_RECENT - 1);
    for (int i = 0; i < SIM_PROCESSES; i++) {
        if (n->flag[i].known && n->flag[i].set != !!(flags & bit[i]))
            world_problem("I9: flag %x of %s UID %u is not as acknowledged", bit[i], name, m->uid);
        if (n->word[i].known && n->word[i].set != (words >> i & 1))
            world_problem("I9: keyword k%d of %s UID %u is not as acknowledged", i, name, m->uid);
    }
    if (n->gone)
        world_problem("I9: %s UID %u was expunged and is back", name, m->uid);
    if (n->observed && (m->modseq < n->modseq ||
                           (m->modseq == n->modseq && (n->flags != flags || n->words != words))))
        world_problem(
            "I8: %s UID %u changed, its modseq did not (%llu, %llu): flags %x, %x, words %x, %x",
            name, m->uid, (unsigned long long)n->modseq, (unsigned long long)m->modseq, n->flags,
            flags, n->words, words);
    n->observed = true;
    n->flags = flags;
    n->words = words;
    n->modseq = m->modseq;
}

static void check_message(struct check *c, const struct store_msg *m)
{
    struct store_body body;
    struct store_cache texts;
    char subject[16];
    if (store_body(c->s.mb, m->uid, &body, &c->s.err)) {
        TRACE("%s uid %u: %s\n", world.place[c->place].name[0], m->uid, c->s.err.text);
        return; /* never promised, or counted as missing */
    }
    int message = world_message_of(body.content);
    store_body_release(&body);
    TRACE("%s uid %u: message %d\n", world.place[c->place].name[0], m->uid, message);
    if (message < 0)
        return;
    c->count[c->place][message]++;
    world_seen(c->place, store_uidvalidity(c->s.mb), m->uid, message);
    check_flags(c, m);
    snprintf(subject, sizeof(subject), "\"s%de\"", message);
    if (store_cached(c->s.mb, m->uid, &texts, &c->s.err) ||
        slice_find(texts.envelope, slice_of(subject)) < 0)
        world_problem("cache: %s UID %u has wrong texts", world.place[c->place].name[0], m->uid);
}

static bool same_base(const char *a, const char *b)
{
    size_t n = strcspn(a, ":");
    return n == strcspn(b, ":") && strncmp(a, b, n) == 0;
}

/* What other programs see are files: two of one base name would be a message twice, and one of them
 * gone when it is moved to the other's name. */
static void check_files(int place)
{
    static const char *const parts[] = {"cur", "new"};
    static char names[MESSAGES * 4][128];
    size_t n = 0;
    /* A loss may bring back what another program had removed, beside what was delivered again. */
    for (int i = 0; i < world.messages; i++)
        if (world.cut && world.foreign[i])
            return;
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        char path[64];
        struct fs_entry e;
        world_maildir(place, parts[i], path);
        int fd = fs_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
        struct fs_dir *d = fd < 0 ? NULL : fs_dir_open(fd);
        while (d && n < ARRAY_LEN(names) && fs_dir_next(d, &e)) {
            for (size_t k = 0; k < n; k++)
                if (same_base(names[k], e.name))
                    world_problem("%s in %s is there twice", e.name, world.place[place].name[0]);
            snprintf(names[n++], sizeof(names[0]), "%s", e.name);
        }
        fs_dir_close(d);
    }
}

static void check_folder(struct check *c, struct slice folder)
{
    struct store_msg m;
    struct store_status st;
    struct session *s = &c->s;
    if (store_select(s->store, folder, true, &s->mb, &s->err)) {
        world_problem("%.*s cannot be opened: %s", SLICE_FMT(folder), s->err.text);
        return;
    }
    uint64_t bytes = 0;
    for (uint32_t seq = 1; store_get(s->mb, seq, &m); seq++) {
        bytes += m.size;
        check_message(c, &m);
    }
    uint64_t highest = store_highestmodseq(s->mb);
    struct place *p = &world.place[c->place];
    bool same = p->validity == store_uidvalidity(s->mb);
    p->validity = store_uidvalidity(s->mb);
    if (same && highest < p->highest)
        world_problem("I8: HIGHESTMODSEQ of %s was %llu and is %llu", p->name[0],
            (unsigned long long)p->highest, (unsigned long long)highest);
    p->highest = highest;
    uint32_t messages = store_count(s->mb);
    verbs_leave(s);
    if (world.coexist && c->place < FIXED)
        check_files(c->place);
    if (store_status(s->store, folder, &st, &s->err) || st.messages != messages || st.size != bytes)
        world_problem("totals of %.*s are wrong", SLICE_FMT(folder));
    c->bytes += bytes;
    c->messages += messages;
}

static void check_counts(const struct check *c, int place)
{
    const struct place *p = &world.place[place];
    if (p->state == PLACE_THERE && !p->doomed && !c->found[place])
        world_problem("I9: folder %s is lost", p->name[0]);
    if (p->state == PLACE_GONE && c->found[place] && !world.faults)
        world_problem("I9: folder %s was deleted and is there", p->name[0]);
    for (int i = 0; i < world.messages; i++) {
        int is = c->count[place][i], must = world_must(place, i);
        if (is < must)
            world_problem(
                "I9: message %d is %d times in %s instead of %d", i, is, p->name[0], must);
        /* Other programs see a file that could not be removed as what it is: a message. */
        if (is > p->count[i].may && p->state != PLACE_GONE && !(world.faults && world.coexisted))
            world_problem("%s: message %d is %d times in %s, at most %d",
                world.delivery[i].place == place ? "I10" : "I9", i, is, p->name[0],
                p->count[i].may);
    }
}

static void count_kept(void *arg, int message)
{
    struct check *c = arg;
    c->kept[message]++;
}

/* Expunged mail is put aside, so a file that once was on disk is somewhere. */
static void check_nothing_lost(struct check *c)
{
    verbs_kept(&c->s, count_kept, c);
    for (int i = 0; i < world.messages; i++) {
        int all = c->kept[i];
        for (int p = 0; p < world.places; p++)
            all += c->count[p][i];
        /* The link of a copy that was not made counts: a rebuild brings it. */
        if (world.on_disk[i] && !world.foreign[i] && all == 0 && !verbs_on_disk("mail", i))
            world_problem("I9: message %d is in no folder, and not kept", i);
    }
}

static void check_folders(struct check *c, bool tidy)
{
    struct store_folder *folders;
    struct session *s = &c->s;
    struct quota_usage used;
    size_t n = 0;
    bool done;
    if (store_list(s->store, &folders, &n, &s->err)) {
        world_problem("folders cannot be listed: %s", s->err.text);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (folders[i].attrs & STORE_NOSELECT)
            continue;
        c->place = world_place_of(folders[i].name);
        if (c->place < 0 || c->found[c->place]) {
            world_problem("I9: folder %.*s should not be there", SLICE_FMT(folders[i].name));
            continue;
        }
        c->found[c->place] = true;
        if (tidy && store_compact(s->store, folders[i].name, true, &done, &s->err))
            world_problem("%.*s: %s", SLICE_FMT(folders[i].name), s->err.text);
        check_folder(c, folders[i].name);
    }
    store_list_free(folders, n);
    if (store_quota_usage(s->store, &used, &s->err) || used.bytes != c->bytes ||
        used.messages != c->messages)
        world_problem("quota: %llu bytes in %llu messages counted instead of %llu in %llu",
            (unsigned long long)used.bytes, (unsigned long long)used.messages,
            (unsigned long long)c->bytes, (unsigned long long)c->messages);
}

static void check_all(bool after_power_cut)
{
    struct check *c = NEW(struct check);
    sim_quiet(true);
    if (verbs_open(&c->s)) {
        /* The queue manager repeats what it cannot know to be on disk. */
        for (int i = 0; after_power_cut && i < world.messages; i++)
            if (world.delivery[i].place >= 0 && !world.delivery[i].synced)
                verbs_deliver(&c->s, i);
        check_folders(c, world.keep && !world.faults);
        for (int p = 0; p < world.places; p++)
            check_counts(c, p);
        if (world.keep && !world.faults)
            check_nothing_lost(c);
        store_close(c->s.store);
    } else {
        world_problem("the mail directory cannot be opened: %s", c->s.err.text);
    }
    sim_quiet(false);
    free(c);
}

/* Files that a stop of the machine has torn stay what they are: "message N: ...". */
static bool only_torn(struct slice report)
{
    while (report.n)
        if (!slice_starts(slice_cut(&report, '\n'), "message "))
            return false;
    return true;
}

/* What a rebuild has made anew has no fault, and the messages of before. */
static void check_rebuilt(void)
{
    struct session s = {0};
    struct buf report;
    struct store_folder *folders;
    size_t n = 0;
    sim_quiet(true);
    buf_init(&report, 65536);
    if (verbs_open(&s) && store_list(s.store, &folders, &n, &s.err) == OK) {
        for (size_t i = 0; i < n; i++) {
            if (folders[i].attrs & STORE_NOSELECT)
                continue;
            buf_reset(&report);
            if (store_rebuild(s.store, folders[i].name, &s.err) ||
                store_verify(s.store, folders[i].name, &report, &s.err) < 0 ||
                !only_torn(buf_slice(&report)))
                world_problem("rebuilt %.*s: %.*s%s", SLICE_FMT(folders[i].name),
                    SLICE_FMT(buf_slice(&report)), s.err.text);
        }
        store_list_free(folders, n);
        store_close(s.store);
    }
    buf_clear(&report);
    sim_quiet(false);
    if (!world.problem[0])
        check_all(false);
}

/* --- histories -------------------------------------------------------------------------------- */

struct plan {
    const char *lie_about;
    enum sim_lie lie;
    bool (*swallow)(const char *name, struct slice bytes);
    bool blind;
};

static void lose_cache(void)
{
    bool machine = sim_random(2);
    TRACE("--- %s\n", machine ? "power cut" : "remount");
    (machine ? sim_power_cut : sim_remount)();
    world_power_cut();
}

/* The next loss comes while what the one before has left is put in order. */
static void recover_and_lose(void)
{
    TRACE("--- recovery\n");
    for (int i = 0; i < SIM_PROCESSES; i++)
        if (i == 0 || sim_random(2))
            sim_start(i, sim_random(3) ? open_only : process, NULL);
    sim_run(1 + sim_random(sim_random(2) ? 300 : 1500));
    lose_cache();
}

/* As after another configuration and a restart. */
static void switch_kind(void)
{
    world.coexist = !world.coexist;
    world.coexisted = true;
    TRACE("--- coexist %s\n", world.coexist ? "yes" : "no");
}

static void play_round(void)
{
    if (world.switches && sim_random(2))
        switch_kind();
    for (int i = 0; i < SIM_PROCESSES; i++)
        if (!sim_running(i) && sim_random(4))
            sim_start(i, process, NULL);
    bool ended = sim_run(100 + sim_random(3000)), cut = sim_random(2);
    if (cut) {
        lose_cache();
        while (sim_random(3) == 0)
            recover_and_lose();
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

/* Empty: all is well. */
static const char *history(uint64_t seed, const struct plan *plan)
{
    world_begin(seed);
    struct sim_options opt = {.seed = seed,
        .switch_one_in = (unsigned)(seed % 3 ? 20 : 0),
        .fault_one_in = world.faults ? 150 : 0,
        .namespaces = seed % 5 == 0,
        .blind = plan->blind,
        .lie_about = plan->lie_about,
        .lie = plan->lie,
        .swallow = plan->swallow};
    sim_init(&opt);
    for (uint64_t round = 2 + sim_random(4); round && !world.problem[0]; round--)
        play_round();
    if (!world.problem[0])
        check_rebuilt();
    sim_free();
    return world.problem;
}

/* The number in the exit status of a batch: which promise was broken. */
static int kind_of(const char *problem)
{
    static const char *const kinds[] = {"", "I8", "I9:", "I10"};
    for (int i = 1; i < (int)ARRAY_LEN(kinds); i++)
        if (strncmp(problem, kinds[i], strlen(kinds[i])) == 0)
            return 1 + i;
    return problem[0] ? 1 : 0;
}

/* In processes of their own, for those that die in a history free nothing. With `wanted` ends at a
 * problem that begins so, otherwise at the first. */
static int batch(uint64_t first, uint64_t n, const struct plan *plan, const char *wanted)
{
    pid_t pid = fork();
    if (pid == 0) {
        for (uint64_t seed = first; seed < first + n; seed++) {
            const char *text = history(seed, plan);
            if (wanted ? strncmp(text, wanted, strlen(wanted)) != 0 : !text[0])
                continue;
            if (!wanted)
                print_error("VEREDUS_SEED=%llu: %s\n", (unsigned long long)seed, text);
            _exit(kind_of(text));
        }
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!wanted && WIFSIGNALED(status))
        print_error("signal %d in seeds %llu...\n", WTERMSIG(status), (unsigned long long)first);
    return status;
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
    static const struct plan honest = {0};
    uint64_t n = number_from("VEREDUS_HISTORIES", 5000), one = number_from("VEREDUS_SEED", 0);
    uint64_t first = number_from("VEREDUS_FIRST", 1);
    (void)state;
    if (one) {
        assert_int_equal(batch(one, 1, &honest, NULL), 0);
        return;
    }
    pid_t worker[WORKERS];
    for (uint64_t w = 0; w < WORKERS; w++) {
        worker[w] = fork();
        if (worker[w] == 0) {
            bool good = true, go_on = number_from("VEREDUS_GO_ON", 0);
            uint64_t size = go_on ? 1 : BATCH;
            for (uint64_t at = w * size; at < n && (good || go_on); at += WORKERS * size)
                good &= batch(first + at, MIN(size, n - at), &honest, NULL) == 0;
            _exit(good ? 0 : 1);
        }
    }
    for (int w = 0; w < WORKERS; w++) {
        int status;
        assert_int_equal(waitpid(worker[w], &status, 0), worker[w]);
        assert_int_equal(status, 0);
    }
}

/* --- planted bugs: the checks can fail -------------------------------------------------------- */

static void assert_found(const struct plan *plan, const char *wanted)
{
    if (getenv("VEREDUS_SEED"))
        return;
    for (uint64_t seed = 1; seed < 4000; seed += 20)
        if (batch(seed, 20, plan, wanted))
            return;
    fail_msg("nothing noticed");
}

static void test_append_that_is_not_synced_is_found(void **state)
{
    (void)state;
    assert_found(&(struct plan){"veredus.journal", SIM_NO_FILE_SYNC, NULL}, "I9: message");
}

static void test_reservation_of_uids_that_is_not_synced_is_found(void **state)
{
    (void)state;
    assert_found(&(struct plan){"veredus.log", SIM_NO_FILE_SYNC, NULL}, "I8");
}

static bool is_expunge(const char *name, struct slice bytes)
{
    uint32_t type;
    struct disk_txn {
        uint32_t head[10];
    } txn;
    if (strcmp(name, "veredus.log") != 0 || bytes.n < sizeof(txn) + sizeof(type))
        return false;
    memcpy(&type, bytes.p + sizeof(txn), sizeof(type));
    return type == 4;
}

static void test_expunge_that_stays_in_the_process_is_found(void **state)
{
    (void)state;
    assert_found(&(struct plan){.swallow = is_expunge}, "I9");
}

static bool is_delivery(const char *name, struct slice bytes)
{
    return strcmp(name, "veredus.log") == 0 && bytes.n > 40 + 8 + 64 + 8 &&
           bytes.p[40 + 8 + 64] != 0 && sim_random(4) == 0;
}

static void test_delivery_that_is_not_remembered_is_found(void **state)
{
    (void)state;
    assert_found(&(struct plan){.swallow = is_delivery}, "I");
}

static void test_missing_sync_of_files_is_found(void **state)
{
    (void)state;
    assert_found(&(struct plan){NULL, SIM_NO_FILE_SYNC, NULL}, "I9");
}

static void test_missing_sync_of_directories_is_found(void **state)
{
    (void)state;
    assert_found(&(struct plan){NULL, SIM_NO_DIR_SYNC, NULL}, "I9");
}

static void test_missing_sync_of_the_file_system_is_found(void **state)
{
    (void)state;
    assert_found(&(struct plan){NULL, SIM_NO_FS_SYNC, NULL}, "I9");
}

static void test_mount_that_nobody_notices_is_found(void **state)
{
    (void)state;
    assert_found(&(struct plan){.blind = true}, "I8");
    assert_found(&(struct plan){.blind = true}, "I9: message");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append_that_is_not_synced_is_found),
        cmocka_unit_test(test_reservation_of_uids_that_is_not_synced_is_found),
        cmocka_unit_test(test_expunge_that_stays_in_the_process_is_found),
        cmocka_unit_test(test_delivery_that_is_not_remembered_is_found),
        cmocka_unit_test(test_missing_sync_of_files_is_found),
        cmocka_unit_test(test_missing_sync_of_directories_is_found),
        cmocka_unit_test(test_missing_sync_of_the_file_system_is_found),
        cmocka_unit_test(test_mount_that_nobody_notices_is_found),
        cmocka_unit_test(test_histories_keep_i8_i9_i10),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
