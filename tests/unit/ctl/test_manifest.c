/* Lines of a backup's manifest. */
#include "ctl/manifest.h"

#include <setjmp.h>

#include <cmocka.h>

static void test_a_message_is_read_as_it_was_written(void **state)
{
    (void)state;
    struct entry e = {.type = ENTRY_MESSAGE}, back;
    struct buf line;
    e.msg = (struct store_msg){.uid = 7,
        .flags = 5,
        .keywords = UINT64_MAX,
        .modseq = 12,
        .size = 4096,
        .date = 1000,
        .saved = 2000,
        .guid = {1, 0xab, 0xff}};
    memset(e.hash, 'a', DIGEST_HEX - 1);
    buf_init(&line, MANIFEST_LINE);
    entry_print(&e, &line);
    struct slice text = buf_slice(&line);
    assert_true(slice_ends(text, "\n"));
    assert_int_equal(entry_parse(slice_first(text, text.n - 1), &back), OK);
    assert_memory_equal(&back.msg.guid, &e.msg.guid, STORE_GUID);
    assert_int_equal(back.msg.uid, 7);
    assert_int_equal(back.msg.keywords, UINT64_MAX);
    assert_int_equal(back.msg.saved, 2000);
    assert_string_equal(back.hash, e.hash);
    buf_clear(&line);
}

static void test_names_become_one_word_that_is_a_file_name_too(void **state)
{
    (void)state;
    static const char *const names[] = {"a b", "..", "x/y", "100%", "\xc3\xbc", "a\nb"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char back[64];
        struct buf word;
        buf_init(&word, 200);
        manifest_word(slice_of(names[i]), &word);
        assert_int_equal(slice_chr(buf_slice(&word), ' '), -1);
        assert_int_equal(slice_chr(buf_slice(&word), '/'), -1);
        assert_true(buf_slice(&word).p[0] != '.');
        assert_true(manifest_unword(buf_slice(&word), back, sizeof(back)));
        assert_string_equal(back, names[i]);
        buf_clear(&word);
    }
}

static void test_what_is_no_entry_is_refused(void **state)
{
    (void)state;
    static const char *const lines[] = {"", "folder", "folder a 1 2 3", "folder a 0 2 3 4",
        "folder a 1 2 3 4 5", "keyword 64 x", "subscription %zz", "subscription %0",
        "message 1 00 0 0 0 0 0 0 -", "file x 1 abc", "nothing 1", "user a -1"};
    struct entry e;
    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        assert_int_equal(entry_parse(slice_of(lines[i]), &e), ERR_SYNTAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_message_is_read_as_it_was_written),
        cmocka_unit_test(test_names_become_one_word_that_is_a_file_name_too),
        cmocka_unit_test(test_what_is_no_entry_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
