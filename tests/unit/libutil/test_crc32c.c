#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "libutil/crc32c.h"

/* RFC 3720 appendix B.4. */
static void test_known_vectors(void **state)
{
    (void)state;
    char zeros[32] = {0}, ones[32];
    memset(ones, 0xff, sizeof(ones));
    assert_int_equal(crc32c(0, SLICE_LIT("123456789")), 0xe3069283);
    assert_int_equal(crc32c(0, slice_from(zeros, 32)), 0x8a9136aa);
    assert_int_equal(crc32c(0, slice_from(ones, 32)), 0x62a8ab43);
}

static void test_continued_equals_whole(void **state)
{
    (void)state;
    struct slice s = SLICE_LIT("The quick brown fox jumps over the lazy dog");
    for (size_t cut = 0; cut <= s.n; cut++)
        assert_int_equal(
            crc32c(crc32c(0, slice_first(s, cut)), slice_from_index(s, cut)), crc32c(0, s));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_vectors),
        cmocka_unit_test(test_continued_equals_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
