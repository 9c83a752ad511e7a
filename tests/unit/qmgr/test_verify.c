/* What `veredus queue verify` finds, on a simulated disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libutil/log.h"
#include "qmgr/spool.h"
#include "qmgr/verify.h"
#include "tests/crash/simdisk.h"

struct world {
    struct simdisk *sim;
    struct disk *disk;
    struct verify_sum sum;
    char last[1024]; /* the last damage: name and reason */
    char path[PARKED_NAME];
};

static const char body[] = "Subject: x\r\n\r\nhello\r\n";
static struct recipient to = {.address = SLICE_LIT("a@one.test"), .transport = SLICE_LIT("remote")};
static struct parked_state parked_state = {.state = RCPT_WAITING, .text = SLICE_LIT("why")};

static void no_message(struct spool_found *found, void *arg)
{
    (void)found, (void)arg;
}

static void no_parked(uint64_t qid, uint64_t size, int64_t due, void *arg)
{
    (void)qid, (void)size, (void)due, (void)arg;
}

static void no_trouble(const char *what, const char *reason, void *arg)
{
    (void)what, (void)reason, (void)arg;
}

static void write_at(struct world *w, const char *path, struct slice bytes, int64_t at)
{
    struct iovec iov = {(char *)bytes.p, bytes.n};
    int fd = w->disk->ops->open(w->disk, path, at ? DISK_WRITE : DISK_CREATE);
    assert_true(fd >= 0);
    assert_int_equal(w->disk->ops->write(w->disk, fd, &iov, 1, at), 0);
    w->disk->ops->close(w->disk, fd);
}

static int64_t size_of(struct world *w)
{
    struct disk_stat st;
    assert_int_equal(w->disk->ops->stat(w->disk, w->path, &st), 0);
    return st.size;
}

/* A spool with one parked message. */
static int setup(void **state)
{
    static const struct spool_found_ops ops = {no_message, no_parked, no_trouble};
    struct spool_config config = {.segment_size = 65536, .segments = 3};
    struct error err;
    struct world *w = NEW(struct world);
    log_setup("test", LOG_ERROR + 1);
    w->sim = simdisk_new(1);
    w->disk = simdisk_disk(w->sim);
    struct spool *spool = spool_open(w->disk, &config, &ops, w, &err);
    assert_non_null(spool);
    spool_close(spool);
    char id[ID_TEXT];
    struct buf b;
    buf_init(&b, 65536);
    id_print(77, id);
    struct parked p = {.message = {.qid = slice_of(id), .due = 5},
        .recipients = &to,
        .states = &parked_state,
        .count = 1};
    buf_puts(&b, body);
    assert_int_equal(parked_put(&b, &p), OK);
    assert_int_equal(parked_put_update(&b, SPOOL_FORMAT, &p.message, &parked_state, 1), OK);
    parked_path(77, sizeof(body) - 1, w->path);
    write_at(w, w->path, buf_slice(&b), 0);
    buf_clear(&b);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    simdisk_free(w->sim);
    free(w);
    return 0;
}

static void remember(bool harmless, const char *name, const char *reason, void *arg)
{
    struct world *w = arg;
    if (!harmless)
        snprintf(w->last, sizeof(w->last), "%s: %s", name, reason);
}

static void verify(struct world *w, bool running)
{
    struct error err;
    w->last[0] = '\0';
    assert_int_equal(verify_spool(w->disk, running, remember, w, &w->sum, &err), OK);
}

static void test_a_sound_spool_has_no_findings_and_is_read_whole(void **state)
{
    struct world *w = *state;
    verify(w, false);
    assert_int_equal(w->sum.damaged, 0);
    assert_int_equal(w->sum.notes, 0);
    assert_int_equal(w->sum.parked, 1);
    assert_int_equal(w->sum.bytes, sizeof(body) - 1);
}

static void test_a_flipped_bit_in_the_envelope_is_damage_and_named(void **state)
{
    struct world *w = *state;
    assert_true(simdisk_flip(w->sim, w->path, sizeof(body) + 60));
    verify(w, false);
    assert_int_equal(w->sum.damaged, 1);
    assert_non_null(strstr(w->last, w->path));
}

static void test_a_flipped_bit_in_the_last_update_is_damage(void **state)
{
    struct world *w = *state;
    assert_true(simdisk_flip(w->sim, w->path, (uint64_t)size_of(w) - 40));
    verify(w, false);
    assert_int_equal(w->sum.damaged, 1);
    assert_non_null(strstr(w->last, "bad checksum"));
}

static void test_an_update_that_a_crash_cut_off_is_only_a_note(void **state)
{
    struct world *w = *state;
    write_at(w, w->path, SLICE_LIT("message qid=x due"), size_of(w));
    verify(w, false);
    assert_int_equal(w->sum.damaged, 0);
    assert_int_equal(w->sum.notes, 1);
}

static void test_a_parked_message_that_is_cut_off_is_damage(void **state)
{
    struct world *w = *state;
    int fd = w->disk->ops->open(w->disk, w->path, DISK_WRITE);
    assert_int_equal(w->disk->ops->truncate(w->disk, fd, 10), 0);
    w->disk->ops->close(w->disk, fd);
    verify(w, false);
    assert_int_equal(w->sum.damaged, 1);
}

static void test_a_foreign_file_is_only_a_note(void **state)
{
    struct world *w = *state;
    write_at(w, "parked/readme", SLICE_LIT("hello"), 0);
    verify(w, false);
    assert_int_equal(w->sum.damaged, 0);
    assert_int_equal(w->sum.notes, 1);
}

static void test_lasting_damage_is_found_while_running_too(void **state)
{
    struct world *w = *state;
    assert_true(simdisk_flip(w->sim, w->path, sizeof(body) + 60));
    verify(w, true);
    assert_int_equal(w->sum.damaged, 1);
}

static void cut_segment(const char *name, void *arg)
{
    struct world *w = arg;
    char path[64];
    snprintf(path, sizeof(path), "log/%s", name);
    int fd = w->disk->ops->open(w->disk, path, DISK_WRITE);
    assert_int_equal(w->disk->ops->truncate(w->disk, fd, 0), 0);
    w->disk->ops->close(w->disk, fd);
}

static void test_segments_that_were_emptied_are_damage_and_named(void **state)
{
    struct world *w = *state;
    for (int running = 0; running < 2; running++) {
        assert_int_equal(w->disk->ops->list(w->disk, "log", cut_segment, w), 0);
        verify(w, running);
        assert_int_equal(w->sum.damaged, 3);
        assert_non_null(strstr(w->last, "log/0000"));
    }
}

static void test_a_segment_that_is_gone_is_damage_while_running_and_while_down(void **state)
{
    struct world *w = *state;
    for (int running = 0; running < 2; running++) {
        if (!running)
            assert_int_equal(w->disk->ops->unlink(w->disk, "log/00002"), 0);
        verify(w, running);
        assert_int_equal(w->sum.damaged, 1);
        assert_non_null(strstr(w->last, "segment lost: log/00002"));
    }
}

static void test_a_file_that_the_spools_account_cannot_write_is_damage(void **state)
{
    struct world *w = *state;
    struct error err;
    char dir[] = "/tmp/veredus-test-XXXXXX";
    static const char *const made[] = {"parked", "big", "log", "corrupt"};
    assert_non_null(mkdtemp(dir));
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct disk *disk = disk_posix_read_only(fd);
    for (size_t i = 0; i < ARRAY_LEN(made); i++)
        assert_int_equal(disk->ops->make_dir(disk, made[i]), 0);
    disk->ops->close(disk, disk->ops->open(disk, "big/notes", DISK_CREATE));
    for (int wrong = 0; wrong < 2; wrong++) {
        assert_int_equal(fchmodat(fd, "big/notes", wrong ? 0400 : 0600, 0), 0);
        w->last[0] = '\0';
        assert_int_equal(verify_spool(disk, false, remember, w, &w->sum, &err), OK);
        assert_int_equal(w->sum.damaged, wrong);
    }
    assert_non_null(strstr(w->last, "big/notes"));
    assert_int_equal(disk->ops->unlink(disk, "big/notes"), 0);
    for (size_t i = 0; i < ARRAY_LEN(made); i++)
        assert_int_equal(unlinkat(fd, made[i], AT_REMOVEDIR), 0);
    assert_int_equal(rmdir(dir), 0);
    disk_posix_free(disk);
}

static void test_a_disk_that_cannot_be_read_is_an_error_not_soundness(void **state)
{
    struct world *w = *state;
    struct error err;
    simdisk_fail(w->sim, 1, 5);
    assert_int_not_equal(verify_spool(w->disk, false, remember, w, &w->sum, &err), OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_a_sound_spool_has_no_findings_and_is_read_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_a_flipped_bit_in_the_envelope_is_damage_and_named, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_a_flipped_bit_in_the_last_update_is_damage, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_an_update_that_a_crash_cut_off_is_only_a_note, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_a_parked_message_that_is_cut_off_is_damage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_foreign_file_is_only_a_note, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_lasting_damage_is_found_while_running_too, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_segments_that_were_emptied_are_damage_and_named, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_a_segment_that_is_gone_is_damage_while_running_and_while_down, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_a_file_that_the_spools_account_cannot_write_is_damage, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_a_disk_that_cannot_be_read_is_an_error_not_soundness, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
