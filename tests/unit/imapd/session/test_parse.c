#include "imapd/session/fetch.h"
#include "imapd/session/list.h"
#include "imapd/session/mutf7.h"
#include "imapd/session/search.h"
#include "libutil/error.h"

#include <setjmp.h>
#include <stdio.h>

#include <cmocka.h>

static struct arena arena;

static int setup(void **state)
{
    (void)state;
    arena_init(&arena, 16 << 20);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_reset(&arena);
    return 0;
}

static struct args args(const char *text)
{
    return (struct args){slice_of(text), &arena, NULL};
}

static const char *utf8(const char *wire)
{
    struct buf b;
    buf_init(&b, 1000);
    const char *s = mutf7_decode(slice_of(wire), &b) ? NULL : arena_cstr(&arena, buf_slice(&b));
    buf_clear(&b);
    return s;
}

static const char *wire(const char *text)
{
    struct buf b;
    buf_init(&b, 1000);
    const char *s = mutf7_encode(slice_of(text), &b) ? NULL : arena_cstr(&arena, buf_slice(&b));
    buf_clear(&b);
    return s;
}

/* RFC 3501 §5.1.3 */
static void test_modified_utf7(void **state)
{
    (void)state;
    const char *both = "~peter/mail/\xe5\x8f\xb0\xe5\x8c\x97/\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e";
    assert_string_equal(utf8("~peter/mail/&U,BTFw-/&ZeVnLIqe-"), both);
    assert_string_equal(wire(both), "~peter/mail/&U,BTFw-/&ZeVnLIqe-");
    assert_string_equal(utf8("a &- b"), "a & b");
    assert_string_equal(wire("a & b"), "a &- b");
    assert_string_equal(utf8(wire("\xf0\x9f\x98\x80")), "\xf0\x9f\x98\x80");
    assert_string_equal(utf8("caf&AOk-"), "caf\xc3\xa9");
}

static void test_malformed_utf7_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"&", "&A", "&AG", "&2AA-", "&3AA-", "&U,BTF-", "&*-", "\xff",
        "caf\xc3\xa9", "a\tb", "&AAA-", "&AAo-"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_null(utf8(bad[i]));
}

static void test_list_patterns(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *name;
        bool match;
    } cases[] = {
        {"*", "a/b", true},
        {"%", "a/b", false},
        {"%", "a", true},
        {"%/%", "a/b", true},
        {"a/%", "a/b/c", false},
        {"a/*", "a/b/c", true},
        {"a*c", "a/b/c", true},
        {"inbox", "INBOX", true},
        {"iNb*", "INBOX/x", true},
        {"inbox/X", "INBOX/x", false},
        {"A", "a", false},
        {"", "a", false},
        {"a%%%%%%%%%%%b", "aaaaaaaaaaaaaaaab", true},
        {"*%", "x/y", true},
        {"%*", "x/y", true},
        {"**a**", "xax", true},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(
            list_match(slice_of(cases[i].pattern), slice_of(cases[i].name), '/'), cases[i].match);
}

static void test_strings(void **state)
{
    (void)state;
    struct slice s;
    struct args a = args("\"a \\\"b\\\\\" {5}\r\nx y)z atom] NIL");
    assert_true(take_astring(&a, &s) && slice_is(s, "a \"b\\"));
    assert_true(take_space(&a) && take_astring(&a, &s) && slice_is(s, "x y)z"));
    assert_true(take_space(&a) && take_astring(&a, &s) && slice_is(s, "atom]"));
    assert_true(take_space(&a) && take_nstring(&a, &s) && !s.p);
    assert_true(take_end(&a));
}

static void test_malformed_strings(void **state)
{
    (void)state;
    static const char *const bad[] = {"", " ", "(", "\"", "\"a", "\"a\\", "\"a\\n\"", "{", "{5}",
        "{5}\r\nabcd", "{-1}\r\n", "{}\r\n", "{99999999999999999999}\r\n", "{1}\nx"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct slice s;
        struct args a = args(bad[i]);
        assert_false(take_astring(&a, &s));
        assert_non_null(a.wrong);
    }
    struct slice s;
    struct args nul = {{"{2}\r\n\0x", 7}, &arena, NULL};
    assert_false(take_astring(&nul, &s));
}

static void test_sequence_sets(void **state)
{
    (void)state;
    struct seq_set set;
    struct args a = args("2,4:7,9,12:*,*:3 x");
    assert_true(take_seq_set(&a, &set));
    assert_int_equal(set.n, 5);
    assert_int_equal(set.ranges[1].from, 4);
    assert_int_equal(set.ranges[1].to, 7);
    assert_int_equal(set.ranges[3].to, 0);
    assert_int_equal(set.ranges[4].from, 0);
    static const char *const bad[] = {"", "0", "1:", ":1", "1,,2", "1,", "a", "4294967296", "1:0"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        a = args(bad[i]);
        assert_false(take_seq_set(&a, &set));
    }
}

static void test_flags(void **state)
{
    (void)state;
    struct flag_list f;
    struct args a = args("(\\Seen \\deleted $Junk work)");
    assert_true(take_flags(&a, false, &f) && take_end(&a));
    assert_int_equal(f.flags, STORE_SEEN | STORE_DELETED);
    assert_int_equal(f.nkeywords, 2);
    a = args("()");
    assert_true(take_flags(&a, false, &f) && take_end(&a) && f.flags == 0);
    a = args("\\Seen work");
    assert_true(take_flags(&a, true, &f) && take_end(&a));
    static const char *const bad[] = {"", "\\Recent", "\\*", "(\\Seen", "( )", "(a  b)", "\\"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        a = args(bad[i]);
        assert_false(take_flags(&a, true, &f));
    }
}

static void test_dates(void **state)
{
    (void)state;
    int64_t v;
    struct args a = args("1-Feb-1994 \"02-jan-1970\"");
    assert_true(take_date(&a, &v));
    assert_int_equal(v, 8797);
    assert_true(take_space(&a) && take_date(&a, &v));
    assert_int_equal(v, 1);
    a = args("\" 7-Feb-1994 21:52:25 -0800\"");
    assert_true(take_date_time(&a, &v));
    assert_int_equal(v, 760686745);
    static const char *const bad[] = {"\"7-Feb-1994 21:52:25 -0800\"",
        "\"07-Feb-1994 24:52:25 -0800\"", "\"31-Feb-1994 21:52:25 -0800\"",
        "\"07-Foo-1994 21:52:25 -0800\"", "\"07-Feb-1994 21:52:25 0800\"", "07-Feb-1994", "\"\""};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        a = args(bad[i]);
        assert_false(take_date_time(&a, &v));
    }
}

static const char *item_name(const char *text)
{
    struct fetch_items list;
    struct args a = args(text);
    struct buf b;
    if (!take_fetch_items(&a, &list) || !take_end(&a) || list.n != 1)
        return a.wrong;
    buf_init(&b, 1000);
    section_put_name(&list.items[0], &b);
    const char *s = arena_cstr(&arena, buf_slice(&b));
    buf_clear(&b);
    return s;
}

static void test_fetch_sections(void **state)
{
    (void)state;
    assert_string_equal(item_name("BODY[]"), "BODY[]");
    assert_string_equal(item_name("body.peek[1.2.header.fields (date \"from\")]<10.20>"),
        "BODY[1.2.HEADER.FIELDS (date from)]<10>");
    assert_string_equal(item_name("BODY[3.MIME]"), "BODY[3.MIME]");
    assert_string_equal(item_name("BODY[TEXT]<0.1>"), "BODY[TEXT]<0>");
    static const char *const bad[] = {"BODY[", "BODY[]<", "BODY[]<1>", "BODY[]<1.0>", "BODY[MIME]",
        "BODY[0]", "BODY[1.]", "BODY[.1]", "BODY[1.FOO]", "BODY[HEADER.FIELDS]",
        "BODY[HEADER.FIELDS ()]", "BODY.PEEK", "BODY.PEEK[] ", "FOO", "", "(", "()", "(FLAGS",
        "(FLAGS  UID)", "(ALL)", "RFC822[]"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct fetch_items list;
        struct args a = args(bad[i]);
        assert_false(take_fetch_items(&a, &list) && take_end(&a));
    }
}

static void test_fetch_macros(void **state)
{
    (void)state;
    struct fetch_items list;
    struct args a = args("full");
    assert_true(take_fetch_items(&a, &list) && take_end(&a));
    assert_int_equal(list.n, 5);
    assert_true(list.flags && !list.seen && !list.uid);
    a = args("(UID RFC822.TEXT)");
    assert_true(take_fetch_items(&a, &list) && list.seen && list.uid);
    a = args("(UID BODY.PEEK[1])");
    assert_true(take_fetch_items(&a, &list) && !list.seen);
}

static void test_search_keys(void **state)
{
    (void)state;
    struct search s;
    static const char *const good[] = {"ALL", "1:3 UNSEEN", "OR SEEN (FLAGGED NOT 2)",
        "CHARSET UTF-8 SUBJECT {2}\r\n\xc3\xa9", "HEADER X-Foo \"\"", "UID 1:* SINCE 1-Feb-1994",
        "(((ALL)))", "KEYWORD $Junk LARGER 100 SMALLER 4294967295", "NOT NOT NOT ALL"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct args a = args(good[i]);
        assert_true(take_search(&a, &s));
        assert_null(s.bad_charset.p);
    }
    static const char *const bad[] = {"", "FOO", "OR SEEN", "NOT", "()", "(ALL", "ALL)", "ALL  ALL",
        "SUBJECT", "SINCE x", "CHARSET", "CHARSET UTF-8", "UID", "LARGER -1", "HEADER a"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct args a = args(bad[i]);
        assert_false(take_search(&a, &s));
    }
    struct args a = args("CHARSET KOI8-R TEXT x");
    assert_true(take_search(&a, &s) && slice_is(s.bad_charset, "KOI8-R"));
}

static void test_deep_search_is_refused(void **state)
{
    (void)state;
    struct search s;
    struct buf b;
    buf_init(&b, 100000);
    for (int i = 0; i < 10000; i++)
        buf_puts(&b, "NOT ");
    buf_puts(&b, "ALL");
    struct args a = {buf_slice(&b), &arena, NULL};
    assert_false(take_search(&a, &s));
    buf_clear(&b);
}

static const char message[] = "Subject: outer\r\n"
                              "Content-Type: multipart/mixed; boundary=o\r\n\r\n"
                              "--o\r\n\r\nplain\r\n"
                              "--o\r\nContent-Type: message/rfc822\r\nX: mime\r\n\r\n"
                              "Subject: inner\r\nTo: a@b\r\n"
                              "Content-Type: multipart/alternative; boundary=i\r\n\r\n"
                              "--i\r\n\r\none\r\n--i\r\n\r\ntwo\r\n--i--\r\n"
                              "--o\r\nContent-Type: message/rfc822\r\n\r\n"
                              "Subject: leaf\r\n\r\nthree\r\n--o--\r\n";

static const char *section(const char *item)
{
    struct fetch_items list;
    struct slice found;
    struct args a = args(item);
    struct mime_part *root = mime_parse(slice_of(message), &arena);
    assert_true(take_fetch_items(&a, &list));
    assert_int_equal(
        section_find(slice_of(message), root, &list.items[0].section, &arena, &found), OK);
    return found.p ? arena_cstr(&arena, found) : "NIL";
}

/* The numbering of RFC 3501 §6.4.5. */
static void test_sections_of_nested_messages(void **state)
{
    (void)state;
    assert_string_equal(section("BODY[]"), message);
    assert_string_equal(section("BODY[1]"), "plain");
    assert_string_equal(section("BODY[1.MIME]"), "\r\n");
    assert_string_equal(section("BODY[2.HEADER.FIELDS (Subject)]"), "Subject: inner\r\n\r\n");
    assert_string_equal(section("BODY[2.MIME]"), "Content-Type: message/rfc822\r\nX: mime\r\n\r\n");
    assert_string_equal(section("BODY[2.1]"), "one");
    assert_string_equal(section("BODY[2.2]"), "two");
    assert_string_equal(section("BODY[2.TEXT]"), "--i\r\n\r\none\r\n--i\r\n\r\ntwo\r\n--i--");
    assert_string_equal(section("BODY[3.1]"), "three");
    assert_string_equal(section("BODY[3.TEXT]"), "three");
    assert_string_equal(section("BODY[3]"), "Subject: leaf\r\n\r\nthree");
    assert_string_equal(section("BODY[HEADER.FIELDS.NOT (subject)]"),
        "Content-Type: multipart/mixed; boundary=o\r\n\r\n");
}

static void test_sections_that_do_not_exist_are_nil(void **state)
{
    (void)state;
    static const char *const none[] = {"BODY[4]", "BODY[1.1]", "BODY[1.HEADER]", "BODY[2.3]",
        "BODY[2.1.1]", "BODY[3.2]", "BODY[1.2.MIME]"};
    for (size_t i = 0; i < ARRAY_LEN(none); i++)
        assert_string_equal(section(none[i]), "NIL");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_modified_utf7),
        TEST(test_malformed_utf7_is_refused),
        TEST(test_list_patterns),
        TEST(test_strings),
        TEST(test_malformed_strings),
        TEST(test_sequence_sets),
        TEST(test_flags),
        TEST(test_dates),
        TEST(test_fetch_sections),
        TEST(test_fetch_macros),
        TEST(test_search_keys),
        TEST(test_deep_search_is_refused),
        TEST(test_sections_of_nested_messages),
        TEST(test_sections_that_do_not_exist_are_nil),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
