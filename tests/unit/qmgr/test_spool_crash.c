/*
 * Random histories of the spool on a disk that loses, tears and reorders what was not synced.
 * After each crash: what was acknowledged is there, whole (I4, I5); what was finished stays
 * finished; nothing else appears; a failing disk loses nothing (I7).
 *
 * 20000 histories, one process per processor. VEREDUS_SEED=n runs one and tells it,
 * VEREDUS_HISTORIES=n that many.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/qmgr/history.h"

/* --- after a crash --------------------------------------------------------------------------- */

/* Who the recipients are: those that were acknowledged, and perhaps one of those that failed. */
static void check_recipients(struct history *h, struct model *m, const struct content *c)
{
    char address[32];
    struct expansion *found = NULL;
    if (c->count < count(m) || c->count > count(m) + 1) {
        wrong(h, "message %" PRIu64 " has %zu recipients, not %u", m->qid, c->count, count(m));
        return;
    }
    for (unsigned i = 0; i < m->nexpanded; i++) {
        const struct recipient *to = &c->rcpts[RCPTS + i].to;
        struct recipient meant = expanded_to(&m->expanded[i], address);
        bool owned = slice_eq(to->owner, meant.owner) || (h->old && to->owner.n == 0);
        if (!slice_eq(to->address, meant.address) || !owned)
            wrong(h, "message %" PRIu64 ": expansion %u has become another", m->qid, i);
    }
    for (unsigned i = 0; i < m->nfailed && c->count > count(m); i++)
        if (slice_eq(
                c->rcpts[c->count - 1].to.address, expanded_to(&m->failed[i], address).address))
            found = &m->failed[i];
    if (c->count == count(m))
        return;
    if (!found || c->rcpts[found->parent].st.state != RCPT_DONE)
        wrong(h, "message %" PRIu64 ": an expansion is half there", m->qid);
    else if (!simdisk_crashed(h->sim)) {
        m->expanded[m->nexpanded++] = *found;
        m->written |= 1u << found->parent;
    } else {
        m->written |= 1u << found->parent; /* until the next start */
    }
}

static void check_content(struct history *h, struct model *m, struct message *msg)
{
    char sender[40];
    struct buf body;
    unsigned done = 0;
    h->unread += h->damaged && !msg->crc[0] && !msg->content->body.p; /* format 1 */
    struct envelope e = envelope_of(m, sender);
    buf_init(&body, 65536);
    if (!slice_eq(msg->content->envelope.sender, e.sender))
        wrong(h, "message %" PRIu64 " has another envelope", m->qid);
    check_recipients(h, m, msg->content);
    if (m->parked && msg->held != m->held && msg->held != m->maybe_held)
        wrong(h, "message %" PRIu64 " has held %d", m->qid, msg->held);
    int rc = message_read_body(msg, h->disk, 0, MIN(m->size, msg->size), &body);
    if (msg->size != m->size ||
        (!simdisk_crashed(h->sim) && (rc != OK || !slice_eq(buf_slice(&body), body_of(m)))))
        wrong(h, "message %" PRIu64 " has another body", m->qid);
    for (size_t i = 0; i < msg->content->count; i++)
        done |= msg->content->rcpts[i].st.state == RCPT_DONE ? 1u << i : 0;
    if ((m->done & ~done) || (done & ~m->written))
        wrong(h, "message %" PRIu64 ": done %x, acknowledged %x, written %x", m->qid, done, m->done,
            m->written);
    if (!simdisk_crashed(h->sim)) /* else it may not be durable yet */
    {
        m->written = m->maybe_done = m->done = done;
        m->nfailed = 0;
        m->held = m->maybe_held = msg->held;
    }
    buf_clear(&body);
}

static struct model *expect(struct history *h, uint64_t qid)
{
    struct model *m = find(h, qid);
    if (!m || m->life == UNKNOWN_YET)
        wrong(h, "unknown message %" PRIu64 " appeared", qid);
    else if (m->life == ENDED)
        wrong(h, "finished message %" PRIu64 " came back", qid);
    else if (m->found)
        wrong(h, "message %" PRIu64 " is there twice", qid);
    if (m)
        m->found = true;
    STORY(h, "  found %" PRIu64 "\n", qid);
    return m;
}

static void found_message(struct spool_found *found, void *arg)
{
    struct history *h = arg;
    struct model *m = expect(h, found->qid);
    struct error err;
    if (!m)
        return;
    struct message *msg = message_new(found->qid, found->accept.size);
    m->generation = found->generation;
    m->parked = false;
    if (message_load_found(msg, found, &err) != OK) {
        wrong(h, "message %" PRIu64 ": %s", m->qid, err.text);
    } else {
        snprintf(m->big, sizeof(m->big), "%s", msg->big);
        h->unread += message_check_body(msg, h->disk, &err) == ERR_CORRUPT;
        check_content(h, m, msg);
    }
    message_free(msg);
}

static void found_parked(uint64_t qid, uint64_t size, int64_t due, void *arg)
{
    struct history *h = arg;
    struct model *m = expect(h, qid);
    struct error err;
    (void)due;
    if (!m)
        return;
    struct message *msg = message_new(qid, size);
    msg->parked = m->parked = true;
    m->generation = 0;
    m->big[0] = '\0';
    if (message_load_parked(msg, h->disk, &err) != OK) {
        h->unread++;
        if (!simdisk_crashed(h->sim))
            wrong(h, "parked message %" PRIu64 ": %s", qid, err.text);
    } else if (message_check_body(msg, h->disk, &err) != OK) {
        h->unread++;
        if (!simdisk_crashed(h->sim))
            wrong(h, "parked message %" PRIu64 ": %s", qid, err.text);
    } else {
        m->parked_end = msg->parked_end;
        h->unread += msg->rotten.to > 0;
        if (msg->rotten.to > 0 && !h->damaged)
            wrong(h, "an update of message %" PRIu64 " passes for damaged", qid);
        check_content(h, m, msg);
    }
    message_free(msg);
}

static void found_trouble(const char *what, const char *reason, void *arg)
{
    struct history *h = arg;
    h->troubles++;
    h->named += h->flipped[0] && strstr(reason, h->flipped) != NULL;
    for (unsigned i = 0; i < h->nlost; i++)
        h->lost_named += strcmp(what, "segment lost") == 0 && strstr(reason, h->lost[i]) != NULL;
    STORY(h, "  %s: %s\n", what, reason);
    /* A body that its client's refused message left without is no damage. */
    if (strcmp(what, "body missing") != 0 && !h->damaged)
        wrong(h, "%s: %s", what, reason);
}

static struct spool *try_open(struct history *h)
{
    static const struct spool_found_ops ops = {found_message, found_parked, found_trouble};
    /* Sometimes the administrator has changed his mind. */
    struct spool_config config = {
        .segment_size = 16384, .segments = dice(h, 8) == 0 ? 3 + (unsigned)dice(h, 4) : 4};
    struct error err = {.text = ""};
    for (size_t i = 0; i < h->n; i++)
        h->list[i].found = false;
    STORY(h, "start\n");
    return spool_open(h->disk, &config, &ops, h, &err);
}

static void settle_model(struct history *h)
{
    for (size_t i = 0; i < h->n; i++) {
        struct model *m = &h->list[i];
        m->touched = false;
        if (m->life == LIVE && !m->found)
            wrong(h, "acknowledged message %" PRIu64 " is lost", m->qid);
        if (m->life == MAYBE || m->life == ENDING)
            m->life = m->found ? LIVE : ENDED;
    }
}

static void power_on(struct history *h)
{
    if (dice(h, 4) == 0)
        simdisk_process_on(h->sim);
    else
        simdisk_power_on(h->sim);
}

/* Perhaps somebody commits to the newest format between two starts. */
static void choose_format(struct history *h, bool first)
{
    struct error err;
    unsigned format = dice(h, 4) == 0 ? 1 : 2;
    if (first ? format == 1 : h->format == 1 && format == 2) {
        assert_int_equal(format_write(h->disk, format, &err), OK);
        h->format = format;
    }
    h->old |= h->format == 1;
}

/* Starts again, perhaps crashing while at it. */
static void recover(struct history *h)
{
    simdisk_fail(h->sim, 0, 0);
    spool_close(h->spool);
    for (;;) {
        power_on(h);
        simdisk_crash_after(h->sim, 0);
        choose_format(h, false);
        simdisk_crash_after(h->sim, dice(h, 3) == 0 ? 1 + dice(h, 120) : 0);
        h->spool = try_open(h);
        if (h->spool && !simdisk_crashed(h->sim))
            break;
        if (!h->spool && !simdisk_crashed(h->sim)) {
            wrong(h, "the spool does not open");
            return;
        }
        spool_close(h->spool);
    }
    simdisk_crash_after(h->sim, 0);
    settle_model(h);
}

/* How it ends: regularly, or because the machine stops in the middle of something. */
static void end(struct history *h, bool regularly)
{
    for (uint64_t i = dice(h, 4); i > 0; i--)
        run_batch(h);
    if (!regularly) {
        simdisk_crash_after(h->sim, 1 + dice(h, 20));
        for (int i = 0; i < 10 && !simdisk_crashed(h->sim); i++)
            run_batch(h);
        simdisk_crash_after(h->sim, 1);
    }
    spool_close(h->spool);
    h->spool = NULL;
    simdisk_power_on(h->sim);
}

/* Something rots in a file. Whatever is wrong then has to be noticed: reported at the start, with
 * the name of that file, or by what reads the file. */
static void damage(struct history *h, const char *path)
{
    h->damaged = true;
    h->unread = 0;
    if (!path)
        return;
    snprintf(h->flipped, sizeof(h->flipped), "%s", path);
    h->spool = try_open(h);
    settle_model(h);
    STORY(h, "damage of %s: named %u times, %u unread: %s\n", h->flipped, h->named, h->unread,
        h->wrong);
    if (!h->spool)
        wrong(h, "damage keeps the spool from opening");
    else if (h->named > 0 || (h->unread > 0 && strncmp(h->flipped, "log/", 4) != 0))
        h->wrong[0] = '\0';
}

static void damage_bit(struct history *h)
{
    end(h, dice(h, 2) == 0);
    if (!h->old && dice(h, 3) == 0)
        damage(h, simdisk_flip_newest(h->sim, "log", simdisk_random(h->sim)));
    else
        damage(h, simdisk_flip_any(h->sim, !h->old, simdisk_random(h->sim)));
}

/* A write to the log that the disk said was durable had never happened. Of the last commit only its
 * mark knows, so it has to be there. */
static void damage_sector(struct history *h)
{
    end(h, true);
    damage(h, h->old ? NULL : simdisk_lose_sector(h->sim, "log", simdisk_random(h->sim)));
}

static void note_segment(const char *name, void *arg)
{
    struct history *h = arg;
    assert_true(h->nlost < LOST_MAX);
    snprintf(h->lost[h->nlost++], SPOOL_PATH, "log/%.32s", name);
}

/* One that is about to be removed, since there are too many, is not on the list any more. */
static unsigned count_listed(struct history *h)
{
    char text[1024] = "", line[SPOOL_PATH];
    unsigned n = 0;
    int fd = h->disk->ops->open(h->disk, "segments", DISK_READ);
    assert_true(h->disk->ops->read(h->disk, fd, text, sizeof(text) - 1, 0) > 0);
    h->disk->ops->close(h->disk, fd);
    for (unsigned i = 0; i < h->nlost; i++) {
        snprintf(line, sizeof(line), "\n%.5s\n", strchr(h->lost[i], '/') + 1);
        n += strstr(text, line) != NULL;
    }
    return n;
}

static void destroy(struct history *h, const char *path, bool zeros)
{
    static char nothing[65536];
    struct disk_stat st;
    STORY(h, "%s %s\n", zeros ? "zeros over" : "removal of", path);
    if (!zeros) {
        assert_int_equal(h->disk->ops->unlink(h->disk, path), 0);
        return;
    }
    assert_int_equal(h->disk->ops->stat(h->disk, path, &st), 0);
    assert_true(st.size <= (int64_t)sizeof(nothing));
    struct iovec iov = {nothing, (size_t)st.size};
    int fd = h->disk->ops->open(h->disk, path, DISK_WRITE);
    assert_int_equal(h->disk->ops->write(h->disk, fd, &iov, 1, 0), 0);
    h->disk->ops->close(h->disk, fd);
}

/* Somebody removes one segment of the log or all, the oldest and the newest like any other, or
 * there are only zeros in it. Each has to be reported by its name, whatever it held; and once. */
static void lose_segments(struct history *h)
{
    end(h, dice(h, 2) == 0);
    if (h->format == 1)
        return;
    assert_int_equal(h->disk->ops->list(h->disk, "log", note_segment, h), 0);
    bool zeros = dice(h, 2) == 0;
    if (dice(h, 4) > 0) {
        memcpy(h->lost[0], h->lost[dice(h, h->nlost)], SPOOL_PATH);
        h->nlost = 1;
    }
    unsigned listed = count_listed(h);
    for (unsigned i = 0; i < h->nlost; i++)
        destroy(h, h->lost[i], zeros);
    h->damaged = true;
    h->spool = try_open(h);
    settle_model(h);
    if (!h->spool || h->lost_named != listed) {
        h->wrong[0] = '\0';
        wrong(h, "%u segments are lost, %u are reported", listed, h->lost_named);
    }
    if (!h->spool || h->lost_named != listed || listed == 0)
        return;
    spool_close(h->spool);
    h->lost_named = 0;
    h->spool = try_open(h);
    h->wrong[0] = '\0';
    if (h->lost_named > 0)
        wrong(h, "what was lost is reported again");
}

/* --- bugs planted on purpose ----------------------------------------------------------------- */

/* A disk that forgets syncs; others are below. */
static const char NO_MARKS[] = "no marks", EARLY_MARKS[] = "early marks", LATE[] = "late ";

/* Writes the MARK of a commit before the commit: the sequence it ends with is in its last sector.
 */
static int mark_first(struct disk *disk, int fd, const struct iovec *iov, int n, int64_t offset)
{
    const struct disk_ops *honest = simdisk_ops();
    char head[SECTOR], mark[SECTOR];
    struct iovec out = {mark, sizeof(mark)};
    struct logrec rec;
    bool log = offset >= SECTOR_FIRST * SECTOR && n == 1 && iov->iov_len % SECTOR == 0 &&
               honest->read(disk, fd, head, SECTOR, 0) == SECTOR &&
               logrec_decode(slice_from(head, SECTOR), &rec) == OK && rec.type == LOGREC_SEGMENT;
    if (log) {
        struct reader last =
            reader_of(slice_from((const char *)iov->iov_base + iov->iov_len - SECTOR, SECTOR_ROOM));
        spool_log_put_mark(mark, rec.version, rec.sequence, get_u64(&last));
        (void)honest->write(disk, fd, &out, 1, SECTOR_MARK * SECTOR);
    }
    return honest->write(disk, fd, iov, n, offset);
}

static void plant(struct history *h, const char *bug)
{
    static struct disk_ops ops;
    if (!bug)
        return;
    if (strcmp(bug, NO_MARKS) == 0) {
        simdisk_lose_writes(h->sim, "log/", SECTOR_MARK * SECTOR, SECTOR);
    } else if (strcmp(bug, EARLY_MARKS) == 0) {
        ops = *simdisk_ops();
        ops.write = mark_first;
        h->disk->ops = &ops;
    } else if (strncmp(bug, LATE, sizeof(LATE) - 1) == 0) {
        simdisk_late(h->sim, bug + sizeof(LATE) - 1);
    } else {
        simdisk_lie(h->sim, bug);
    }
}

/* One history; returns whether every promise was kept. */
static bool run_history(uint64_t seed, const char *lie, bool told, struct history *h)
{
    *h = (struct history){.seed = seed, .sim = simdisk_new(seed), .format = 2, .told = told};
    h->disk = simdisk_disk(h->sim);
    bool no_marks = lie && strcmp(lie, NO_MARKS) == 0;
    if (!no_marks)
        choose_format(h, true);
    h->spool = try_open(h);
    plant(h, lie);
    uint64_t rounds = dice(h, 16) == 0 ? ROUNDS : 1 + dice(h, 6);
    for (uint64_t round = 0; round < rounds && h->spool && !h->wrong[0]; round++) {
        static const int errors[] = {ENOSPC, EIO, EMFILE};
        simdisk_fail(h->sim, dice(h, 3) == 0 ? 20 : 0, errors[dice(h, 3)]);
        simdisk_crash_after(h->sim, 1 + dice(h, 200));
        for (int i = 0; i < 60 && !simdisk_crashed(h->sim) && !h->wrong[0]; i++)
            run_batch(h);
        recover(h);
    }
    if (!h->spool)
        wrong(h, "the spool does not open");
    else if ((!lie || no_marks) && !h->wrong[0] && dice(h, 3) == 0) {
        unsigned kind = (unsigned)dice(h, 4);
        if (no_marks || kind == 0)
            damage_sector(h);
        else if (kind == 1)
            lose_segments(h);
        else
            damage_bit(h);
    }
    spool_close(h->spool);
    simdisk_free(h->sim);
    return h->wrong[0] == '\0';
}

static uint64_t number_from(const char *name, uint64_t otherwise)
{
    uint64_t n;
    const char *text = getenv(name);
    return text && slice_u64(slice_of(text), 0, UINT64_MAX, &n) == OK ? n : otherwise;
}

static struct history history;

/* Every step-th history; ends the process. */
static void work(uint64_t first, uint64_t count, uint64_t at, uint64_t step)
{
    for (uint64_t i = at; i < count; i += step)
        if (!run_history(first + i, NULL, false, &history)) {
            print_error("VEREDUS_SEED=%" PRIu64 ": %s\n", first + i, history.wrong);
            _exit(1);
        }
    _exit(0);
}

static void test_no_crash_loses_or_repeats_anything(void **state)
{
    (void)state;
    uint64_t first = number_from("VEREDUS_SEED", id_new() >> 16);
    uint64_t number = number_from("VEREDUS_HISTORIES", HISTORIES);
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t workers = processors > 0 ? (uint64_t)processors : 1;
    if (getenv("VEREDUS_SEED") && !getenv("VEREDUS_HISTORIES")) {
        if (!run_history(first, NULL, true, &history))
            fail_msg("VEREDUS_SEED=%" PRIu64 ": %s", first, history.wrong);
        return;
    }
    print_message("%" PRIu64 " histories from VEREDUS_SEED=%" PRIu64 "\n", number, first);
    fflush(NULL);
    for (uint64_t i = 0; i < workers; i++)
        if (fork() == 0)
            work(first, number, i, workers);
    int status, failed = 0;
    while (wait(&status) > 0)
        failed |= status;
    assert_int_equal(failed, 0);
}

/* The test must be able to fail: a missing sync has to be noticed. */
static void finds_missing_sync(const char *where)
{
    for (uint64_t seed = 1; seed <= 1000; seed++)
        if (!run_history(seed, where, false, &history))
            return;
    fail_msg("1000 histories without the sync of %s broke no promise", where);
}

/* The last commit looks cut off when the disk has lost a sector of it, but for the mark. */
static void test_a_missing_mark_is_found(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4000; seed++)
        if (!run_history(seed, NO_MARKS, false, &history))
            return;
    fail_msg("4000 histories without marks passed over no damage");
}

static void test_a_missing_sync_of_the_log_is_found(void **state)
{
    (void)state;
    finds_missing_sync("log/");
}

static void test_a_missing_sync_of_parked_files_is_found(void **state)
{
    (void)state;
    finds_missing_sync("parked/");
}

static void test_a_missing_sync_of_the_parked_directory_is_found(void **state)
{
    (void)state;
    finds_missing_sync("dir:parked");
}

/* The log forgets a message, and its segment is used again, before the parked file is durable. */
static void test_a_segment_given_up_before_parked_files_are_durable_is_found(void **state)
{
    (void)state;
    finds_missing_sync("late dir:parked");
    finds_missing_sync("late parked/");
}

static void test_a_mark_that_is_written_before_its_records_is_found(void **state)
{
    (void)state;
    finds_missing_sync(EARLY_MARKS);
}

static void test_a_missing_sync_of_large_bodies_is_found(void **state)
{
    (void)state;
    finds_missing_sync("big/");
    finds_missing_sync("dir:big");
}

static void test_what_is_read_at_start_has_to_be_synced_first(void **state)
{
    (void)state;
    finds_missing_sync("all");
}

/* A segment that was removed because there are too many would pass for lost, or the list would be
 * one that cannot be read. */
static void test_a_missing_sync_of_the_list_of_segments_is_found(void **state)
{
    (void)state;
    finds_missing_sync("segments.new");
    finds_missing_sync("dir:.");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_crash_loses_or_repeats_anything),
        cmocka_unit_test(test_a_missing_sync_of_the_log_is_found),
        cmocka_unit_test(test_a_missing_mark_is_found),
        cmocka_unit_test(test_a_missing_sync_of_parked_files_is_found),
        cmocka_unit_test(test_a_missing_sync_of_the_parked_directory_is_found),
        cmocka_unit_test(test_a_segment_given_up_before_parked_files_are_durable_is_found),
        cmocka_unit_test(test_a_mark_that_is_written_before_its_records_is_found),
        cmocka_unit_test(test_a_missing_sync_of_large_bodies_is_found),
        cmocka_unit_test(test_a_missing_sync_of_the_list_of_segments_is_found),
        cmocka_unit_test(test_what_is_read_at_start_has_to_be_synced_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
