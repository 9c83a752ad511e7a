/* What the sectors of a log segment tell about its last commit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "qmgr/sectors.h"
#include "tests/crash/simdisk.h"

enum { SEGMENT = 16384, GENERATION = 100, FIRST = 103, LAST = 107, SECTORS = 4 };

static const char content[] = "the last commit of all";

/* A segment with one commit, of SECTORS sectors. before: it was used earlier, otherwise zeros. */
static void fill(char raw[SEGMENT], bool before, bool commit)
{
    char path[] = "log/00001", head[SECTOR], bytes[(SECTORS - 1) * SECTOR_ROOM];
    struct simdisk *sim = simdisk_new(1);
    struct disk *disk = simdisk_disk(sim);
    int fd = disk->ops->open(disk, path, DISK_CREATE);
    struct iovec iov = {bytes, sizeof(bytes)};
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = content[i % sizeof(content)];
    assert_int_equal(disk->ops->allocate(disk, fd, SEGMENT), 0);
    for (int64_t at = 0; before && at + SECTORS * SECTOR <= SEGMENT; at += SECTORS * SECTOR)
        assert_int_equal(sectors_write(disk, fd, at, &iov, 1, 50, 55), 0);
    if (commit)
        assert_int_equal(sectors_write(disk, fd, SECTOR_FIRST * SECTOR, &iov, 1, FIRST, LAST), 0);
    sector_fill(head, slice_of(content), GENERATION, 0);
    iov = (struct iovec){head, SECTOR};
    assert_int_equal(disk->ops->write(disk, fd, &iov, 1, 0), 0);
    assert_int_equal(disk->ops->read(disk, fd, raw, SEGMENT, 0), SEGMENT);
    simdisk_free(sim);
}

static uint64_t claim(const char raw[SEGMENT])
{
    struct sectors s = {.data = xmemdup0(raw, SEGMENT), .n = SEGMENT};
    assert_true(sectors_stamped(slice_from(raw, SEGMENT)));
    sectors_strip(&s);
    uint64_t found = sectors_claim(&s, SECTOR_FIRST * SECTOR_ROOM, GENERATION, FIRST - 1);
    sectors_clear(&s);
    return found;
}

static void test_a_complete_commit_claims_its_last_sequence(void **state)
{
    (void)state;
    char raw[SEGMENT];
    fill(raw, true, true);
    assert_int_equal(claim(raw), LAST);
}

/* Any of its sectors may be as they were before. */
static void test_a_commit_cut_off_anywhere_claims_nothing(void **state)
{
    (void)state;
    for (int before = 0; before < 2; before++)
        for (unsigned kept = 0; kept < (1u << SECTORS) - 1; kept++) {
            char raw[SEGMENT], old[SEGMENT];
            fill(raw, before, true);
            fill(old, before, false);
            for (size_t i = SECTOR_FIRST; i < SECTOR_FIRST + SECTORS; i++)
                if (!(kept >> (i - SECTOR_FIRST) & 1))
                    memcpy(raw + i * SECTOR, old + i * SECTOR, SECTOR);
            assert_in_range(claim(raw), 0, FIRST - 1);
        }
}

static void test_a_bit_flipped_anywhere_in_the_last_commit_does_not_hide_it(void **state)
{
    (void)state;
    char raw[SEGMENT];
    fill(raw, true, true);
    for (size_t at = SECTOR_FIRST * SECTOR; at < (SECTOR_FIRST + SECTORS) * SECTOR; at++)
        for (int bit = 0; bit < 8; bit++) {
            raw[at] = (char)(raw[at] ^ 1 << bit);
            assert_in_range(claim(raw), FIRST, LAST);
            raw[at] = (char)(raw[at] ^ 1 << bit);
        }
}

static void test_two_damaged_sectors_do_not_hide_it_either(void **state)
{
    (void)state;
    char raw[SEGMENT];
    for (size_t i = 0; i < SECTORS; i++)
        for (size_t j = 0; j < i; j++) {
            fill(raw, false, true);
            raw[(SECTOR_FIRST + i) * SECTOR + 9] ^= 4;
            raw[(SECTOR_FIRST + j) * SECTOR + 500] ^= 1;
            assert_in_range(claim(raw), FIRST, LAST);
        }
}

static void test_a_sector_in_the_wrong_place_is_damaged(void **state)
{
    (void)state;
    char raw[SEGMENT];
    fill(raw, true, true);
    memcpy(raw + (SECTOR_FIRST + 1) * SECTOR, raw + (SECTOR_FIRST + 2) * SECTOR, SECTOR);
    assert_in_range(claim(raw), FIRST, LAST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_complete_commit_claims_its_last_sequence),
        cmocka_unit_test(test_a_commit_cut_off_anywhere_claims_nothing),
        cmocka_unit_test(test_a_bit_flipped_anywhere_in_the_last_commit_does_not_hide_it),
        cmocka_unit_test(test_two_damaged_sectors_do_not_hide_it_either),
        cmocka_unit_test(test_a_sector_in_the_wrong_place_is_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
