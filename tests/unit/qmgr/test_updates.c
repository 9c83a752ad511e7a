/* Updates of parked files: one that a crash cut off is told from one that has been damaged since,
 * by both that read them (qmgr/message.c, qmgr/roster.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "qmgr/roster.h"
#include "tests/crash/simdisk.h"

enum { RCPTS = 3, UPDATES = 3, QID = 7, SIZE = 6 };

/* A file whose update number i says that recipient i is done, after so many attempts. */
struct file {
    struct simdisk *sim;
    struct buf text;
    size_t ends[UPDATES + 1]; /* of the first block and the updates */
    char path[PARKED_NAME];
};

static void put(struct file *f)
{
    struct disk *disk = simdisk_disk(f->sim);
    struct slice all = buf_slice(&f->text);
    struct iovec iov = {(char *)(uintptr_t)all.p, all.n};
    disk->ops->unlink(disk, f->path);
    int fd = disk->ops->open(disk, f->path, DISK_CREATE);
    assert_int_equal(disk->ops->write(disk, fd, &iov, 1, 0), 0);
    disk->ops->close(disk, fd);
}

static int setup(void **state)
{
    static const struct recipient to = {
        .address = {"r@test", 6}, .transport = {"remote", 6}, .nexthop = {"test", 4}};
    const struct recipient recipients[RCPTS] = {to, to, to};
    struct file *f = NEW(struct file);
    struct parked_state states[RCPTS];
    char id[ID_TEXT], why[400];
    memset(why, 'x', sizeof(why));
    id_print(QID, id);
    for (uint32_t i = 0; i < RCPTS; i++)
        states[i] =
            (struct parked_state){.index = i, .state = RCPT_WAITING, .text = {why, sizeof(why)}};
    struct parked p = {.message = {.qid = slice_of(id), .due = 5},
        .envelope = {.sender = SLICE_LIT("s@test")},
        .recipients = (struct recipient *)(uintptr_t)recipients,
        .states = states,
        .count = RCPTS};
    f->sim = simdisk_new(1);
    buf_init(&f->text, 65536);
    buf_puts(&f->text, "hello\n");
    assert_int_equal(parked_put(&f->text, &p), OK);
    f->ends[0] = buf_len(&f->text);
    for (size_t i = 0; i < UPDATES; i++) {
        states[i].state = RCPT_DONE;
        p.message.delivered++;
        assert_int_equal(parked_put_update(&f->text, SPOOL_FORMAT, &p.message, &states[i], 1), OK);
        f->ends[i + 1] = buf_len(&f->text);
    }
    parked_path(QID, SIZE, f->path);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct file *f = *state;
    buf_clear(&f->text);
    simdisk_free(f->sim);
    free(f);
    return 0;
}

/* What both read, which has to be the same: bits of recipients that are done. */
static unsigned read_both(struct file *f, uint64_t *end, uint64_t *bad, uint64_t *bad_end)
{
    struct disk *disk = simdisk_disk(f->sim);
    struct error err = {.text = ""};
    struct message *m = message_new(QID, SIZE), *large = message_new(QID, SIZE);
    unsigned done = 0, seen = 0;
    m->parked = large->parked = true;
    assert_int_equal(message_load_parked(m, disk, &err), OK);
    struct roster *r = roster_read(large, disk, &err);
    assert_non_null(r);
    struct roster_choice all = {.what = ROSTER_WAITING};
    assert_int_equal(roster_load(large, r, &all, RCPTS, disk, &err), OK);
    for (size_t i = 0; i < RCPTS; i++)
        done |= m->content->rcpts[i].st.state == RCPT_DONE ? 1u << i : 0;
    for (size_t i = 0; i < large->content->count; i++)
        seen |= 1u << large->content->rcpts[i].st.index;
    assert_int_equal(done, ~seen & 7);
    assert_int_equal(m->parked_end, large->parked_end);
    assert_int_equal(m->rotten.from, large->rotten.from);
    assert_int_equal(m->rotten.to, large->rotten.to);
    *end = m->parked_end;
    *bad = m->rotten.from;
    *bad_end = m->rotten.to;
    message_free(m);
    message_free(large);
    return done;
}

static void test_a_bit_flipped_anywhere_in_an_update_is_damage_and_costs_no_other(void **state)
{
    struct file *f = *state;
    struct slice all = buf_slice(&f->text);
    for (size_t bit = f->ends[0] * 8; bit < all.n * 8; bit++) {
        uint64_t end, bad, bad_end;
        size_t at = bit / 8, which = 0;
        char *byte = f->text.data + f->text.off + at;
        while (at >= f->ends[which + 1])
            which++;
        bool newline = at + 1 == f->ends[which + 1];
        *byte = (char)(*byte ^ 1 << bit % 8);
        put(f);
        unsigned done = read_both(f, &end, &bad, &bad_end);
        *byte = (char)(*byte ^ 1 << bit % 8);
        assert_int_equal(bad, f->ends[which]);
        assert_in_range(bad_end, f->ends[which + 1], all.n);
        /* Without its last line end it takes the first line of the next one along. */
        unsigned lost = newline && which + 1 < UPDATES ? 3u << which : 1u << which;
        assert_int_equal(done, 7 & ~lost);
        assert_int_equal(end, 7 & ~lost & 4 ? all.n : f->ends[which]);
    }
}

static void test_an_update_that_is_cut_off_anywhere_is_none_and_no_damage(void **state)
{
    struct file *f = *state;
    for (size_t n = f->ends[UPDATES - 1]; n < f->ends[UPDATES]; n++) {
        uint64_t end, bad, bad_end;
        buf_truncate(&f->text, n);
        f->text.len = n;
        put(f);
        assert_int_equal(read_both(f, &end, &bad, &bad_end), 3);
        assert_int_equal(end, f->ends[UPDATES - 1]);
        assert_int_equal(bad_end, 0);
        f->text.len = f->ends[UPDATES];
    }
}

/* It was cut off behind one that is damaged: which is told of all the same. */
static void test_damage_before_an_update_that_was_cut_off_is_damage(void **state)
{
    struct file *f = *state;
    size_t from = f->ends[1], to = f->ends[2];
    memset(f->text.data + f->text.off + to, 0, 100); /* perhaps no part of it was written */
    for (int zeros = 0; zeros < 2; zeros++, f->text.data[f->text.off + to] = 'm')
        for (size_t at = from; at < to; at++) {
            uint64_t end, bad, bad_end;
            char *byte = f->text.data + f->text.off + at;
            *byte = (char)(*byte ^ 1);
            buf_truncate(&f->text, to + 90);
            put(f);
            assert_int_equal(read_both(f, &end, &bad, &bad_end), 1);
            *byte = (char)(*byte ^ 1);
            assert_int_equal(end, from);
            assert_int_equal(bad, from);
            assert_int_equal(bad_end, to);
        }
}

/* The disk had made room for it, and had not written all of it yet. */
static void test_an_update_that_lacks_a_sector_is_none_and_no_damage(void **state)
{
    struct file *f = *state;
    size_t from = f->ends[UPDATES - 1], to = f->ends[UPDATES];
    for (size_t sector = from / 512; sector <= (to - 1) / 512; sector++) {
        uint64_t end, bad, bad_end;
        char kept[512];
        size_t at = MAX(sector * 512, from), n = MIN((sector + 1) * 512, to) - at;
        char *part = f->text.data + f->text.off + at;
        memcpy(kept, part, n);
        memset(part, 0, n);
        put(f);
        assert_int_equal(read_both(f, &end, &bad, &bad_end), 3);
        assert_int_equal(end, from);
        assert_int_equal(bad_end, 0);
        memcpy(part, kept, n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_a_bit_flipped_anywhere_in_an_update_is_damage_and_costs_no_other, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_an_update_that_is_cut_off_anywhere_is_none_and_no_damage, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_damage_before_an_update_that_was_cut_off_is_damage, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_an_update_that_lacks_a_sector_is_none_and_no_damage, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
