/* A spool that something else has damaged: what is sound is found, what is not is reported. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "qmgr/message.h"
#include "qmgr/sectors.h"
#include "tests/crash/simdisk.h"

enum { MESSAGES = 8, SEGMENT = 16384 };

struct found {
    bool message[MESSAGES + 1], parked[MESSAGES + 1];
    size_t messages, troubles;
    char first[128], last[128];
};

static void found_message(struct spool_found *f, void *arg)
{
    struct found *found = arg;
    struct error err;
    assert_in_range(f->qid, 1, MESSAGES);
    struct message *m = message_new(f->qid, f->accept.size);
    assert_int_equal(message_load_record(m, &f->record, &err), OK);
    assert_true(slice_is(m->content->body, "hello\n"));
    message_free(m);
    found->message[f->qid] = true;
    found->messages++;
}

static void found_parked(uint64_t qid, uint64_t size, int64_t due, void *arg)
{
    (void)size, (void)due;
    ((struct found *)arg)->parked[qid] = true;
}

static void found_trouble(const char *what, const char *reason, void *arg)
{
    struct found *found = arg;
    if (found->troubles++ == 0)
        snprintf(found->first, sizeof(found->first), "%s: %s", what, reason);
    snprintf(found->last, sizeof(found->last), "%s: %s", what, reason);
}

static struct spool *open_spool(struct simdisk *sim, struct found *found)
{
    static const struct spool_config config = {.segment_size = SEGMENT, .segments = 4};
    static const struct spool_found_ops ops = {found_message, found_parked, found_trouble};
    struct error err = {.text = ""};
    *found = (struct found){0};
    return spool_open(simdisk_disk(sim), &config, &ops, found, &err);
}

static int try_accept(struct spool *spool, uint64_t qid)
{
    struct buf envelope, recipients;
    struct list batch;
    struct recipient to = {.address = SLICE_LIT("r@test"),
        .transport = SLICE_LIT("remote"),
        .nexthop = SLICE_LIT("test")};
    struct envelope e = {.sender = SLICE_LIT("s@test"), .received = 1};
    buf_init(&envelope, 4096);
    buf_init(&recipients, 4096);
    assert_int_equal(record_put(&envelope, &envelope_record, &e), OK);
    assert_int_equal(record_put(&recipients, &recipient_record, &to), OK);
    struct spool_job *job = spool_job_new(SPOOL_ACCEPT, qid);
    struct logrec_accept a = {.envelope = buf_slice(&envelope),
        .recipients = buf_slice(&recipients),
        .size = 6,
        .big = SLICE_LIT(""),
        .body = SLICE_LIT("hello\n")};
    assert_int_equal(logrec_put_accept(&job->record, SPOOL_FORMAT, qid, &a), OK);
    list_init(&batch);
    list_append(&batch, &job->link);
    spool_run(spool, &batch);
    int code = job->code;
    list_remove(&job->link);
    spool_job_free(job);
    buf_clear(&envelope);
    buf_clear(&recipients);
    return code;
}

static void accept(struct spool *spool, uint64_t qid)
{
    assert_int_equal(try_accept(spool, qid), OK);
}

/* A disk with a closed spool of MESSAGES messages, each in a commit of its own. */
static struct simdisk *filled(void)
{
    struct found found;
    struct simdisk *sim = simdisk_new(1);
    struct spool *spool = open_spool(sim, &found);
    assert_non_null(spool);
    for (uint64_t qid = 1; qid <= MESSAGES; qid++)
        accept(spool, qid);
    spool_close(spool);
    return sim;
}

static const char ACCEPTED[] = "hello\n";

struct place {
    struct simdisk *sim;
    const char *other; /* not this segment */
    char path[64];
    uint64_t at;
};

static void look_into(const char *name, void *arg)
{
    static char data[SEGMENT];
    struct place *p = arg;
    struct disk *disk = simdisk_disk(p->sim);
    char path[64];
    snprintf(path, sizeof(path), "log/%s", name);
    int fd = disk->ops->open(disk, path, DISK_READ);
    assert_int_equal(disk->ops->read(disk, fd, data, SEGMENT, 0), SEGMENT);
    disk->ops->close(disk, fd);
    for (size_t i = 0; i + sizeof(ACCEPTED) <= SEGMENT; i++)
        if (memcmp(data + i, ACCEPTED, sizeof(ACCEPTED) - 1) == 0 &&
            !(p->other && strcmp(path, p->other) == 0)) {
            snprintf(p->path, sizeof(p->path), "%s", path);
            p->at = i;
        }
}

/* The segment that was written to; returns where the last body in it is. */
static uint64_t written_segment(struct simdisk *sim, char path[64])
{
    struct place p = {.sim = sim};
    struct disk *disk = simdisk_disk(sim);
    assert_int_equal(disk->ops->list(disk, "log", look_into, &p), 0);
    assert_true(p.at > 0);
    snprintf(path, 64, "%s", p.path);
    return p.at;
}

static void put_file(struct simdisk *sim, const char *path, const char *text)
{
    struct disk *disk = simdisk_disk(sim);
    struct iovec iov = {(char *)(uintptr_t)text, strlen(text)};
    int fd = disk->ops->open(disk, path, DISK_CREATE);
    assert_true(fd >= 0);
    assert_int_equal(disk->ops->write(disk, fd, &iov, 1, 0), 0);
    disk->ops->close(disk, fd);
}

static bool exists(struct simdisk *sim, const char *path)
{
    struct disk_stat st;
    return simdisk_disk(sim)->ops->stat(simdisk_disk(sim), path, &st) == 0;
}

static void test_a_bit_flipped_anywhere_in_a_segment_costs_one_message_and_is_reported(void **state)
{
    (void)state;
    for (uint64_t at = 0; at < 10000; at += 7) {
        struct simdisk *sim = filled();
        struct found found;
        char path[64];
        written_segment(sim, path);
        assert_true(simdisk_flip(sim, path, at));
        struct spool *spool = open_spool(sim, &found);
        assert_true(found.messages >= MESSAGES - 1);
        if (found.messages < MESSAGES)
            assert_non_null(strstr(found.last, path));
        spool_close(spool);
        simdisk_free(sim);
    }
}

/* Its ACCEPT may be among the damaged records. */
static void test_a_body_that_nobody_names_is_kept_when_records_are_lost(void **state)
{
    (void)state;
    for (int damaged = 0; damaged < 2; damaged++) {
        struct simdisk *sim = filled();
        struct found found;
        char name[LOGREC_BIG_NAME], path[64], aside[64];
        int fd = spool_big_create(simdisk_disk(sim), name);
        assert_true(fd >= 0);
        simdisk_disk(sim)->ops->close(simdisk_disk(sim), fd);
        snprintf(aside, sizeof(aside), "corrupt/body-%s", name);
        uint64_t at = written_segment(sim, path);
        if (damaged)
            assert_true(simdisk_flip(sim, path, at));
        struct spool *spool = open_spool(sim, &found);
        assert_int_equal(exists(sim, aside), damaged);
        snprintf(path, sizeof(path), "big/%s", name);
        assert_false(exists(sim, path));
        spool_close(spool);
        simdisk_free(sim);
    }
}

static void cut(struct simdisk *sim, const char *path, int64_t size)
{
    struct disk *disk = simdisk_disk(sim);
    int fd = disk->ops->open(disk, path, DISK_WRITE);
    assert_true(fd >= 0);
    assert_int_equal(disk->ops->truncate(disk, fd, size), 0);
    disk->ops->close(disk, fd);
}

static void test_a_truncated_segment_keeps_what_is_left_of_it(void **state)
{
    (void)state;
    size_t most = 0;
    for (int64_t size = 0; size < 10000; size += 100) {
        struct simdisk *sim = filled();
        struct found found;
        char path[64];
        written_segment(sim, path);
        cut(sim, path, size);
        struct spool *spool = open_spool(sim, &found);
        assert_non_null(spool);
        assert_true(found.troubles >= 1);
        assert_non_null(strstr(found.first, path));
        assert_true(found.messages >= most); /* the more is left, the more is found */
        most = found.messages;
        for (size_t i = 1; i <= found.messages; i++)
            assert_true(found.message[i]);
        spool_close(spool);
        simdisk_free(sim);
    }
    assert_int_equal(most, MESSAGES);
}

/* It has its size again, what the start could tell has been told. */
static void test_a_segment_that_was_cut_is_reported_once(void **state)
{
    (void)state;
    static const int64_t sizes[] = {0, 512, 9000, SEGMENT - 1};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct simdisk *sim = filled();
        struct found found;
        char path[64];
        written_segment(sim, path);
        cut(sim, path, sizes[i]);
        spool_close(open_spool(sim, &found));
        assert_non_null(strstr(found.first, "segment cut off: "));
        assert_non_null(strstr(found.first, path));
        spool_close(open_spool(sim, &found));
        assert_int_equal(found.troubles, 0);
        simdisk_free(sim);
    }
}

static void test_a_body_that_a_cut_segment_may_have_named_is_kept(void **state)
{
    (void)state;
    struct simdisk *sim = filled();
    struct found found;
    char name[LOGREC_BIG_NAME], path[64], aside[64];
    int fd = spool_big_create(simdisk_disk(sim), name);
    assert_true(fd >= 0);
    simdisk_disk(sim)->ops->close(simdisk_disk(sim), fd);
    snprintf(aside, sizeof(aside), "corrupt/body-%s", name);
    written_segment(sim, path);
    cut(sim, path, 0);
    spool_close(open_spool(sim, &found));
    assert_true(exists(sim, aside));
    simdisk_free(sim);
}

/* A start begins a segment of its own: the one before it is in the middle. */
static void test_a_segment_that_was_removed_from_the_middle_is_reported(void **state)
{
    (void)state;
    struct simdisk *sim = simdisk_new(1);
    struct found found;
    char oldest[64];
    struct spool *spool = open_spool(sim, &found);
    accept(spool, 1);
    written_segment(sim, oldest);
    spool_close(spool);
    spool = open_spool(sim, &found);
    accept(spool, 2);
    spool_close(spool);
    spool_close(open_spool(sim, &found));
    assert_true(found.message[1] && found.message[2]);
    struct place middle = {.sim = sim, .other = oldest};
    struct disk *disk = simdisk_disk(sim);
    assert_int_equal(disk->ops->list(disk, "log", look_into, &middle), 0);
    assert_int_equal(disk->ops->unlink(disk, middle.path), 0);
    spool = open_spool(sim, &found);
    assert_non_null(spool);
    assert_true(found.message[1] && !found.message[2]);
    assert_true(found.troubles > 0);
    spool_close(spool);
    simdisk_free(sim);
}

struct names {
    char list[16][64];
    size_t n;
};

static void note_name(const char *name, void *arg)
{
    struct names *names = arg;
    assert_in_range(names->n, 0, 15);
    snprintf(names->list[names->n++], 64, "log/%.32s", name);
}

static void overwrite(struct simdisk *sim, const char *path, char with)
{
    static char bytes[SEGMENT];
    struct disk *disk = simdisk_disk(sim);
    struct iovec iov = {bytes, SEGMENT};
    memset(bytes, with, SEGMENT);
    int fd = disk->ops->open(disk, path, DISK_WRITE);
    assert_int_equal(disk->ops->write(disk, fd, &iov, 1, 0), 0);
    disk->ops->close(disk, fd);
}

static void lose(struct simdisk *sim, const char *path, bool zeros)
{
    if (zeros)
        overwrite(sim, path, 0);
    else
        assert_int_equal(simdisk_disk(sim)->ops->unlink(simdisk_disk(sim), path), 0);
}

/* The oldest, the newest, and those that were never used. */
static void test_any_segment_that_is_removed_or_all_zeros_is_reported_once(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 8; round++) {
        struct simdisk *sim = filled();
        struct found found;
        struct names names = {.n = 0};
        char aside[80];
        spool_close(open_spool(sim, &found)); /* begins a segment of its own */
        struct disk *disk = simdisk_disk(sim);
        assert_int_equal(disk->ops->list(disk, "log", note_name, &names), 0);
        assert_int_equal(names.n, 4);
        const char *path = names.list[round / 2];
        lose(sim, path, round % 2);
        struct spool *spool = open_spool(sim, &found);
        assert_int_equal(found.troubles, 1);
        assert_non_null(strstr(found.first, "segment lost: "));
        assert_non_null(strstr(found.first, path));
        snprintf(aside, sizeof(aside), "corrupt/log-%s-lost", strrchr(path, '/') + 1);
        assert_true(exists(sim, aside));
        accept(spool, 1);
        spool_close(spool);
        spool_close(open_spool(sim, &found));
        assert_int_equal(found.troubles, 0);
        assert_true(found.message[1]);
        simdisk_free(sim);
    }
}

static void test_a_log_of_which_nothing_is_left_is_reported_segment_by_segment(void **state)
{
    (void)state;
    struct simdisk *sim = filled();
    struct found found;
    struct names names = {.n = 0};
    struct disk *disk = simdisk_disk(sim);
    assert_int_equal(disk->ops->list(disk, "log", note_name, &names), 0);
    for (size_t i = 0; i < names.n; i++)
        lose(sim, names.list[i], false);
    struct spool *spool = open_spool(sim, &found);
    assert_int_equal(found.troubles, names.n);
    assert_int_equal(found.messages, 0);
    accept(spool, 1);
    spool_close(spool);
    simdisk_free(sim);
}

/* Whatever is wrong with it: mail goes on, and the next start finds a sound one. */
static void test_a_list_of_segments_that_is_gone_or_damaged_is_reported_once(void **state)
{
    (void)state;
    for (uint64_t at = 0; at < 80; at++) {
        struct simdisk *sim = filled();
        struct found found;
        if (at == 0)
            lose(sim, "segments", false);
        else
            assert_true(simdisk_flip(sim, "segments", at));
        spool_close(open_spool(sim, &found));
        assert_int_equal(found.troubles, 1);
        assert_non_null(strstr(found.first, "segments"));
        assert_int_equal(found.messages, MESSAGES);
        spool_close(open_spool(sim, &found));
        assert_int_equal(found.troubles, 0);
        simdisk_free(sim);
    }
}

static void test_a_spool_without_the_file_format_keeps_its_format_and_says_so(void **state)
{
    (void)state;
    struct simdisk *sim = filled();
    struct found found;
    lose(sim, "format", false);
    struct spool *spool = open_spool(sim, &found);
    assert_int_equal(found.troubles, 1);
    assert_non_null(strstr(found.first, "format"));
    assert_int_equal(spool_format(spool), SPOOL_FORMAT);
    spool_close(spool);
    spool_close(open_spool(sim, &found));
    assert_int_equal(found.troubles, 0);
    simdisk_free(sim);
}

static void test_a_segment_whose_making_was_cut_off_is_removed(void **state)
{
    (void)state;
    struct simdisk *sim = filled();
    struct found found;
    put_file(sim, "log/new.00009", "");
    spool_close(open_spool(sim, &found));
    assert_int_equal(found.messages, MESSAGES);
    assert_int_equal(found.troubles, 0);
    assert_false(exists(sim, "log/new.00009"));
    simdisk_free(sim);
}

static void test_a_segment_overwritten_as_a_whole_is_reported_and_kept(void **state)
{
    (void)state;
    struct simdisk *sim = filled();
    struct disk *disk = simdisk_disk(sim);
    struct disk_stat st;
    struct found found;
    char path[64];
    written_segment(sim, path);
    assert_int_equal(disk->ops->stat(disk, path, &st), 0);
    assert_int_equal(st.size, SEGMENT);
    overwrite(sim, path, 'x');
    struct spool *spool = open_spool(sim, &found);
    assert_non_null(spool);
    assert_int_equal(found.messages, 0);
    assert_int_equal(found.troubles, 1);
    char aside[80];
    snprintf(aside, sizeof(aside), "corrupt/log-%s-0", strrchr(path, '/') + 1);
    assert_int_equal(disk->ops->stat(disk, aside, &st), 0);
    spool_close(spool);
    simdisk_free(sim);
}

static void test_foreign_files_are_reported_and_left_alone(void **state)
{
    (void)state;
    static const char *const names[] = {
        "log/notes.txt", "log/123456", "parked/README", "parked/xyz-1-2", "big/core.dump"};
    struct simdisk *sim = filled();
    struct found found;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        put_file(sim, names[i], "not ours");
    struct spool *spool = open_spool(sim, &found);
    assert_non_null(spool);
    assert_int_equal(found.troubles, ARRAY_LEN(names));
    assert_int_equal(found.messages, MESSAGES);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        assert_true(exists(sim, names[i]));
    spool_close(spool);
    simdisk_free(sim);
}

static void test_a_parked_file_cut_anywhere_in_its_first_block_is_corrupt_and_kept(void **state)
{
    (void)state;
    static const char whole[] = "hello\n== veredus parked message, format 1 ==\n"
                                "message qid=2 due=1000\nenvelope sender=s@test\n";
    struct simdisk *sim = simdisk_new(1);
    char path[PARKED_NAME], text[sizeof(whole)];
    parked_path(1, 6, path);
    for (size_t n = 0; n < sizeof(whole); n += 7) {
        struct error err;
        struct message *m = message_new(1, 6);
        m->parked = true;
        snprintf(text, sizeof(text), "%.*s", (int)n, whole);
        put_file(sim, path, text);
        assert_int_equal(message_load_parked(m, simdisk_disk(sim), &err), ERR_CORRUPT);
        assert_true(exists(sim, path));
        simdisk_disk(sim)->ops->unlink(simdisk_disk(sim), path);
        message_free(m);
    }
    simdisk_free(sim);
}

static void test_a_read_only_disk_refuses_the_start_and_says_so(void **state)
{
    (void)state;
    struct simdisk *sim = filled();
    struct found found;
    simdisk_fail(sim, 1, 30 /* EROFS */);
    assert_null(open_spool(sim, &found));
    simdisk_fail(sim, 0, 0);
    struct spool *spool = open_spool(sim, &found);
    assert_int_equal(found.messages, MESSAGES);
    spool_close(spool);
    simdisk_free(sim);
}

static int no_room(struct disk *disk, int fd, int64_t size)
{
    (void)disk, (void)fd, (void)size;
    return -ENOSPC;
}

/* Whatever the configuration wants. */
static void test_a_full_disk_starts_with_the_segments_that_are_there(void **state)
{
    (void)state;
    static const struct spool_config more = {.segment_size = SEGMENT, .segments = 9};
    static const struct spool_found_ops ops = {found_message, found_parked, found_trouble};
    struct simdisk *sim = filled();
    struct disk *disk = simdisk_disk(sim);
    struct disk_ops full = *simdisk_ops();
    struct spool_figures figures;
    struct found found = {.messages = 0};
    struct error err = {.text = ""};
    full.allocate = no_room;
    disk->ops = &full;
    struct spool *spool = spool_open(disk, &more, &ops, &found, &err);
    assert_non_null(spool);
    assert_int_equal(found.messages, MESSAGES);
    spool_figures(spool, &figures);
    assert_int_equal(figures.segments, 4);
    accept(spool, 1);
    disk->ops = simdisk_ops();
    spool_close(spool);
    simdisk_free(sim);
}

static int no_sync(struct disk *disk, int fd)
{
    (void)disk, (void)fd;
    return -EIO;
}

/* Nothing behind the head of a segment. */
static int no_records(struct disk *disk, int fd, const struct iovec *iov, int n, int64_t offset)
{
    return offset < SECTOR_FIRST * SECTOR ? simdisk_ops()->write(disk, fd, iov, n, offset)
                                          : -ENOSPC;
}

/* A message whose commit failed, and of which the FORGET failed as well, comes to light at the next
 * start. From then on it is mail like any other. */
static void test_what_a_start_has_believed_cannot_vanish_unnoticed(void **state)
{
    (void)state;
    struct simdisk *sim = simdisk_new(1);
    struct disk *disk = simdisk_disk(sim);
    struct found found;
    char path[64];
    struct spool *spool = open_spool(sim, &found);
    const struct disk_ops *honest = simdisk_ops();
    struct disk_ops failing = *honest;
    disk->ops = &failing;
    accept(spool, 1);
    failing.sync = no_sync;
    assert_int_not_equal(try_accept(spool, 2), OK);
    failing.sync = honest->sync;
    failing.write = no_records;
    assert_int_not_equal(try_accept(spool, 3), OK);
    disk->ops = honest;
    spool_close(spool);
    spool = open_spool(sim, &found);
    assert_true(found.message[1] && found.message[2]);
    spool_close(spool);
    assert_true(simdisk_flip(sim, path, written_segment(sim, path)));
    spool = open_spool(sim, &found);
    assert_true(found.message[1] && !found.message[2]);
    assert_non_null(strstr(found.last, path));
    spool_close(spool);
    simdisk_free(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            test_a_bit_flipped_anywhere_in_a_segment_costs_one_message_and_is_reported),
        cmocka_unit_test(test_what_a_start_has_believed_cannot_vanish_unnoticed),
        cmocka_unit_test(test_a_body_that_nobody_names_is_kept_when_records_are_lost),
        cmocka_unit_test(test_a_truncated_segment_keeps_what_is_left_of_it),
        cmocka_unit_test(test_a_segment_that_was_cut_is_reported_once),
        cmocka_unit_test(test_a_body_that_a_cut_segment_may_have_named_is_kept),
        cmocka_unit_test(test_a_segment_that_was_removed_from_the_middle_is_reported),
        cmocka_unit_test(test_any_segment_that_is_removed_or_all_zeros_is_reported_once),
        cmocka_unit_test(test_a_log_of_which_nothing_is_left_is_reported_segment_by_segment),
        cmocka_unit_test(test_a_list_of_segments_that_is_gone_or_damaged_is_reported_once),
        cmocka_unit_test(test_a_spool_without_the_file_format_keeps_its_format_and_says_so),
        cmocka_unit_test(test_a_segment_whose_making_was_cut_off_is_removed),
        cmocka_unit_test(test_a_segment_overwritten_as_a_whole_is_reported_and_kept),
        cmocka_unit_test(test_foreign_files_are_reported_and_left_alone),
        cmocka_unit_test(test_a_parked_file_cut_anywhere_in_its_first_block_is_corrupt_and_kept),
        cmocka_unit_test(test_a_full_disk_starts_with_the_segments_that_are_there),
        cmocka_unit_test(test_a_read_only_disk_refuses_the_start_and_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
