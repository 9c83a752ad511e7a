#include "libmail/address.h"
#include "libmail/address_list.h"
#include "libutil/buf.h"

#include <setjmp.h>
#include <stdio.h>

#include <cmocka.h>

static int parse(const char *text, unsigned flags, struct address *a)
{
    return address_parse(a, slice_of(text), flags);
}

static void assert_normal(const char *text, const char *normal)
{
    struct address a;
    assert_int_equal(parse(text, 0, &a), OK);
    assert_string_equal(a.text, normal);
    assert_int_equal(a.len, strlen(normal));
}

static void assert_refused(const char *text, unsigned flags)
{
    struct address a;
    if (parse(text, flags, &a) == OK)
        fail_msg("accepted: %s", text);
}

static void test_normal_form_lowers_the_domain_only(void **state)
{
    (void)state;
    assert_normal("Smith@Bar.COM", "Smith@bar.com");
    assert_normal("smith@bar.com.", "smith@bar.com");
    assert_normal("a+b=c/d@x-y.example", "a+b=c/d@x-y.example");
}

static void test_needless_quotes_are_removed(void **state)
{
    (void)state;
    assert_normal("\"smith\"@x.org", "smith@x.org");
    assert_normal("\"s\\mith\"@x.org", "smith@x.org");
    assert_normal("\"a\\b.c\"@x.org", "ab.c@x.org");
}

static void test_needed_quotes_stay(void **state)
{
    (void)state;
    assert_normal("\"john smith\"@x.org", "\"john smith\"@x.org");
    assert_normal("\"a@b\"@x.org", "\"a@b\"@x.org");
    assert_normal("\"a\\\"b\\\\\"@x.org", "\"a\\\"b\\\\\"@x.org");
    assert_normal("\"a..b\"@x.org", "\"a..b\"@x.org");
    assert_normal("\".a\"@x.org", "\".a\"@x.org");
    assert_normal("\"a.\"@x.org", "\"a.\"@x.org");
    assert_normal("\"\"@x.org", "\"\"@x.org");
}

static void test_bad_local_parts(void **state)
{
    (void)state;
    static const char *const bad[] = {"@x.org", ".a@x.org", "a.@x.org", "a..b@x.org", "a b@x.org",
        "a\"b@x.org", "\"a@x.org", "\"a\"b@x.org", "\"a\nb\"@x.org", "a@b@x.org", "a(c)@x.org",
        "\"a\\", "a", "<a@x.org>", "\xc3\xa9@x.org"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_refused(bad[i], 0);
}

static void test_bad_domains(void **state)
{
    (void)state;
    static const char *const bad[] = {"a@", "a@.", "a@.x", "a@x..y", "a@-x.y", "a@x-.y", "a@x.y-",
        "a@x y", "a@x,y", "a@[1.2.3]", "a@[1.2.3.4", "a@[IPv6:1.2.3.4]", "a@[::1]", "a@x.org>",
        "a@x.\xc3\xa9", "a@x\x01"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_refused(bad[i], 0);
}

static void test_address_literals(void **state)
{
    (void)state;
    struct address a;
    assert_int_equal(parse("u@[192.0.2.1]", 0, &a), OK);
    assert_true(a.literal);
    assert_true(slice_is(address_domain(&a), "[192.0.2.1]"));
    assert_int_equal(parse("u@[IPv6:2001:db8::1]", 0, &a), OK);
    assert_true(a.literal);
}

static void test_lengths(void **state)
{
    (void)state;
    char text[400];
    struct address a;
    snprintf(text, sizeof(text), "%.*s@x.org", 64,
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    assert_int_equal(parse(text, ADDRESS_SHORT_LOCAL, &a), OK);
    snprintf(text, sizeof(text), "%.*s@x.org", 65,
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    assert_int_equal(parse(text, ADDRESS_SHORT_LOCAL, &a), ERR_LIMIT);
    assert_int_equal(parse(text, 0, &a), OK);
    memset(text, 'a', sizeof(text));
    memcpy(text + 248, "@x.org", 7);
    assert_int_equal(parse(text, 0, &a), OK);
    assert_int_equal(a.len, ADDRESS_MAX);
    text[248] = 'a';
    memcpy(text + 249, "@x.org", 7);
    assert_int_equal(parse(text, 0, &a), ERR_LIMIT);
    memset(text, 'a', sizeof(text));
    memcpy(text, "a@", 2);
    text[2 + 64] = '\0';
    assert_int_equal(parse(text, 0, &a), ERR_SYNTAX); /* a label of 64 */
}

static void test_utf8_only_when_allowed_and_well_formed(void **state)
{
    (void)state;
    struct address a;
    assert_int_equal(parse("\xc3\xa9@x.org", ADDRESS_UTF8, &a), OK);
    assert_true(a.utf8);
    assert_int_equal(parse("e@x.\xc3\xa9", ADDRESS_UTF8, &a), OK);
    assert_refused("\xc3@x.org", ADDRESS_UTF8);
    assert_refused("\xed\xa0\x80@x.org", ADDRESS_UTF8); /* a surrogate */
    assert_refused("\xc0\xaf@x.org", ADDRESS_UTF8);     /* overlong */
}

static void test_paths_ignore_source_routes(void **state)
{
    (void)state;
    struct address a;
    struct slice rest = SLICE_LIT("<@ONE,@TWO:JOE@THREE> SIZE=1");
    assert_int_equal(address_parse_path(&a, &rest, 0), OK);
    assert_string_equal(a.text, "JOE@three");
    assert_true(slice_is(rest, " SIZE=1"));
}

static void test_paths_need_brackets(void **state)
{
    (void)state;
    static const char *const bad[] = {"a@x.org", "<a@x.org", "a@x.org>", "<@one joe@x>", "<@one:>",
        "<@one,joe@x>", "< a@x.org>", "<<a@x.org>>", ""};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct address a;
        struct slice rest = slice_of(bad[i]);
        if (address_parse_path(&a, &rest, 0) == OK && rest.n == 0)
            fail_msg("accepted: %s", bad[i]);
    }
}

static void test_a_bracket_in_quotes_does_not_end_the_path(void **state)
{
    (void)state;
    struct address a;
    struct slice rest = SLICE_LIT("<\"a>b\"@x.org>");
    assert_int_equal(address_parse_path(&a, &rest, 0), OK);
    assert_string_equal(a.text, "\"a>b\"@x.org");
    assert_int_equal(rest.n, 0);
}

static void test_null_sender_and_postmaster_need_their_flags(void **state)
{
    (void)state;
    struct address a;
    struct slice rest = SLICE_LIT("<>");
    assert_int_equal(address_parse_path(&a, &rest, ADDRESS_NULL), OK);
    assert_int_equal(a.len, 0);
    rest = SLICE_LIT("<>");
    assert_int_equal(address_parse_path(&a, &rest, 0), ERR_SYNTAX);
    rest = SLICE_LIT("<Postmaster>");
    assert_int_equal(address_parse_path(&a, &rest, ADDRESS_NO_DOMAIN), OK);
    assert_true(slice_is(address_local(&a), "Postmaster"));
    assert_int_equal(address_domain(&a).n, 0);
}

static void test_plain_local_part_round_trip(void **state)
{
    (void)state;
    struct address a, b;
    char plain[ADDRESS_MAX + 1];
    assert_int_equal(parse("\"a \\\"b\"@x.org", 0, &a), OK);
    struct slice local = address_local_plain(&a, plain);
    assert_true(slice_is(local, "a \"b"));
    assert_int_equal(address_make(&b, local, SLICE_LIT("X.org")), OK);
    assert_true(address_equal(&a, &b));
    assert_int_equal(address_make(&b, SLICE_LIT("a\nb"), SLICE_LIT("x.org")), ERR_SYNTAX);
}

static void test_split_detail_and_cut(void **state)
{
    (void)state;
    struct slice user, detail;
    address_split_detail(SLICE_LIT("bob+a+b"), '+', &user, &detail);
    assert_true(slice_is(user, "bob") && slice_is(detail, "a+b"));
    address_split_detail(SLICE_LIT("+bob"), '+', &user, &detail);
    assert_true(slice_is(user, "+bob") && detail.p == NULL);
    assert_true(address_cut(SLICE_LIT("\"a@b\"@c"), &user, &detail));
    assert_true(slice_is(user, "\"a@b\"") && slice_is(detail, "c"));
    assert_false(address_cut(SLICE_LIT("a"), &user, &detail));
}

/* Prints a list as "name|route|local|domain;" with "{name" and "}" for groups, "!" for errors. */
static void assert_list(const char *body, const char *expected)
{
    struct arena arena;
    struct address_iter it;
    struct address_item item;
    struct buf out;
    int rc;
    arena_init(&arena, 65536);
    buf_init(&out, 65536);
    address_iter_init(&it, slice_of(body), &arena);
    while ((rc = address_iter_next(&it, &item)) != 0) {
        if (rc < 0)
            buf_puts(&out, "!");
        else if (item.kind == ADDRESS_GROUP_START)
            buf_printf(&out, "{%.*s ", SLICE_FMT(item.name));
        else if (item.kind == ADDRESS_GROUP_END)
            buf_puts(&out, "}");
        else
            buf_printf(&out, "%.*s|%.*s|%.*s|%.*s;", SLICE_FMT(item.name), SLICE_FMT(item.route),
                SLICE_FMT(item.local), SLICE_FMT(item.domain));
    }
    buf_putc(&out, '\0');
    assert_string_equal(buf_slice(&out).p, expected);
    buf_clear(&out);
    arena_reset(&arena);
}

static void test_list_examples_of_rfc5322(void **state)
{
    (void)state;
    assert_list("\"Joe Q. Public\" <john.q.public@example.com>",
        "Joe Q. Public||john.q.public|example.com;");
    assert_list("Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>",
        "Mary Smith||mary|x.test;||jdoe|example.org;Who?||one|y.test;");
    assert_list("<boss@nil.test>, \"Giant; \\\"Big\\\" Box\" <sysservices@example.net>",
        "||boss|nil.test;Giant; \"Big\" Box||sysservices|example.net;");
    assert_list("A Group:Ed Jones <joe@where.test>,John <jdoe@one.test>;",
        "{A Group Ed Jones||joe|where.test;John||jdoe|one.test;}");
    assert_list("Undisclosed recipients:;", "{Undisclosed recipients }");
    assert_list(
        "Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", "Pete||pete|silly.test;");
    assert_list("A Group(Some people)\r\n     :Chris Jones <c@(Chris's host.)public.example>,\r\n"
                "         joe@example.org,\r\n  John <jdoe@one.test> (my dear friend); (the end of "
                "the group)",
        "{A Group Chris Jones||c|public.example;||joe|example.org;John||jdoe|one.test;}");
    assert_list(
        "Joe Q. Public <john.q.public@example.com>", "Joe Q. Public||john.q.public|example.com;");
    assert_list("Mary Smith <@node.test:mary@example.net>, , jdoe@test  . example",
        "Mary Smith|@node.test|mary|example.net;||jdoe|test.example;");
}

static void test_list_keeps_going_behind_nonsense(void **state)
{
    (void)state;
    assert_list("foo bar, a@b.c", "!||a|b.c;");
    assert_list("<>, a@b.c", "!||a|b.c;");
    assert_list("@b.c, a@, root", "!!||root|;");
    assert_list("a@b.c (Name Here)", "Name Here||a|b.c;");
    assert_list("=?utf-8?q?J=C3=B6rg?= <j@x.de>", "=?utf-8?q?J=C3=B6rg?=||j|x.de;");
    assert_list("g: a@b.c", "{g ||a|b.c;}");
    assert_list("\"unended <a@b.c>", "!");
    assert_list("u@[192.0.2.1], v@[IPv6:2001:db8::1]", "||u|[192.0.2.1];||v|[IPv6:2001:db8::1];");
    assert_list("\"john doe\"@x.org", "||john doe|x.org;");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_normal_form_lowers_the_domain_only),
        cmocka_unit_test(test_needless_quotes_are_removed),
        cmocka_unit_test(test_needed_quotes_stay),
        cmocka_unit_test(test_bad_local_parts),
        cmocka_unit_test(test_bad_domains),
        cmocka_unit_test(test_address_literals),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_utf8_only_when_allowed_and_well_formed),
        cmocka_unit_test(test_paths_ignore_source_routes),
        cmocka_unit_test(test_paths_need_brackets),
        cmocka_unit_test(test_a_bracket_in_quotes_does_not_end_the_path),
        cmocka_unit_test(test_null_sender_and_postmaster_need_their_flags),
        cmocka_unit_test(test_plain_local_part_round_trip),
        cmocka_unit_test(test_split_detail_and_cut),
        cmocka_unit_test(test_list_examples_of_rfc5322),
        cmocka_unit_test(test_list_keeps_going_behind_nonsense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
