/* The right side of aliases. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "libmail/aliases.h"

/* Kinds as letters, each followed by its text in brackets. */
static void cut(const char *text, unsigned flags, const char *wanted)
{
    static const char letters[] = {[ALIAS_ADDRESS] = 'a',
        [ALIAS_LITERAL] = 'l',
        [ALIAS_INCLUDE] = 'i',
        [ALIAS_COMMAND] = 'c',
        [ALIAS_FILE] = 'f'};
    struct slice rest = slice_of(text);
    struct alias_member m;
    char got[1000] = "";
    size_t n = 0;
    while (alias_next(&rest, flags, &m))
        n += (size_t)snprintf(
            got + n, sizeof(got) - n, "%c[%.*s]", letters[m.kind], SLICE_FMT(m.text));
    assert_string_equal(got, wanted);
}

static void test_members_are_parted_by_commas_and_line_ends(void **state)
{
    (void)state;
    cut("a, b@c\n d\r\n,,e", 0, "a[a]a[b@c]a[d]a[e]");
    cut("", 0, "");
    cut(" ,\n, ", 0, "");
}

static void test_blanks_part_them_where_they_may(void **state)
{
    (void)state;
    cut("a b@c\t\"d e\"@f /file", ALIAS_BLANKS, "a[a]a[b@c]a[\"d e\"@f]f[/file]");
    cut("a b@c", 0, "a[a b@c]"); /* no address: its reader says so */
}

static void test_commands_keep_their_words(void **state)
{
    (void)state;
    cut("|/bin/x -a b, c", ALIAS_BLANKS, "c[/bin/x -a b]a[c]");
    cut("\"|/bin/x a, b\", c", ALIAS_BLANKS, "c[/bin/x a, b]a[c]");
    cut("\"|sh -c \\\"a, b\\\" \\\\n\"", 0, "c[sh -c \"a, b\" \\n]");
    cut("|\"/bin/x y, z\" w", 0, "c[\"/bin/x y, z\" w]");
    cut("\"| /bin/x\"", 0, "c[/bin/x]");
}

static void test_full_names_and_comments_are_no_part_of_an_address(void **state)
{
    (void)state;
    cut("Full Name <a@b>, \"Last, F.\" <c@d> e@f (who, is)", ALIAS_BLANKS, "a[a@b]a[c@d]a[e@f]");
    cut("Full Name <a@b>\nc@d (who)", 0, "a[a@b]a[c@d]");
    cut("(only (nested) comment) a", 0, "a[a]");
    cut("(never closed", 0, "a[(never closed]");
}

static void test_hash_begins_a_comment_where_asked(void **state)
{
    (void)state;
    cut("# a, b\nc, # d\n e#f", ALIAS_COMMENTS, "a[c]a[e#f]");
    cut("#a", 0, "a[#a]");
}

static void test_other_kinds(void **state)
{
    (void)state;
    cut(":include:/x/y, :INCLUDE: /z, \":include:/a b\"", ALIAS_BLANKS, "i[/x/y]i[]f[/z]i[/a b]");
    cut("\\root, \"\\bob\", \"dave\", \"/a, b\"", 0, "l[root]l[bob]a[dave]f[/a, b]");
    cut("/dir/, \"never closed, a\nb", 0, "f[/dir/]a[\"never closed, a]a[b]");
}

static void test_what_is_too_long_in_quotes_is_not_cut(void **state)
{
    (void)state;
    char text[3000] = "\"|\\\"";
    memset(text + 4, 'x', 2000);
    text[2004] = '"';
    struct slice rest = slice_of(text);
    struct alias_member m;
    assert_true(alias_next(&rest, 0, &m));
    assert_true(m.text.n > ALIAS_COMMAND_MAX);
}

static void test_owners_have_no_owner(void **state)
{
    (void)state;
    assert_true(alias_may_have_owner(SLICE_LIT("list")));
    assert_false(alias_may_have_owner(SLICE_LIT("Owner-list")));
    assert_false(alias_may_have_owner(SLICE_LIT("list-Request")));
    assert_false(alias_may_have_owner(SLICE_LIT("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_members_are_parted_by_commas_and_line_ends),
        cmocka_unit_test(test_blanks_part_them_where_they_may),
        cmocka_unit_test(test_commands_keep_their_words),
        cmocka_unit_test(test_full_names_and_comments_are_no_part_of_an_address),
        cmocka_unit_test(test_hash_begins_a_comment_where_asked),
        cmocka_unit_test(test_other_kinds),
        cmocka_unit_test(test_what_is_too_long_in_quotes_is_not_cut),
        cmocka_unit_test(test_owners_have_no_owner),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
