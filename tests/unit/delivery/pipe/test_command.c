/* What is executed for a command, and what its end means. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>

#include <cmocka.h>

#include "delivery/pipe/run.h"

static const struct command_facts facts = {.sender = {"-f;rm@x.test", 12},
    .recipient = {"a+b@host.test", 13},
    .original = {"a+b@host.test", 13},
    .user = {"a", 1},
    .extension = {"b", 1},
    .domain = {"host.test", 9},
    .client = {"::1", 3},
    .helo = {"() { :;}", 8},
    .size = 42};

/* The words, each in []. */
static void check_words(const struct command *c, const char *wanted)
{
    char got[4096] = "";
    size_t n = 0;
    for (size_t i = 0; i < c->nwords; i++)
        n += (size_t)snprintf(got + n, sizeof(got) - n, "[%s]", c->argv[i]);
    assert_null(c->argv[c->nwords]);
    assert_string_equal(got, wanted);
}

static int line(const char *text, const char *directory, const char *wanted)
{
    struct command *c = NEW(struct command);
    struct error err = {0};
    int rc = command_line(c, slice_of(text), directory, &err);
    if (rc == OK)
        check_words(c, wanted);
    free(c);
    return rc;
}

static void test_a_plain_line_is_split_and_one_with_marks_goes_to_the_shell(void **state)
{
    (void)state;
    assert_int_equal(line(" /usr/bin/vacation  alice ", NULL, "[/usr/bin/vacation][alice]"), OK);
    assert_int_equal(line("cat >x", NULL, "[/bin/sh][-c][cat >x]"), OK);
    assert_int_equal(line("IFS=' ' && exec p || exit 75 #a", NULL,
                         "[/bin/sh][-c][IFS=' ' && exec p || exit 75 #a]"),
        OK);
    assert_int_equal(line("a $HOME", NULL, "[/bin/sh][-c][a $HOME]"), OK);
    assert_int_equal(line("  ", NULL, ""), ERR_DENIED);
}

static void test_words_that_are_the_shells_own_go_to_the_shell(void **state)
{
    (void)state;
    assert_int_equal(line("exit 75", NULL, "[/bin/sh][-c][exit 75]"), OK);
    assert_int_equal(line("exec /usr/bin/p -f", NULL, "[/bin/sh][-c][exec /usr/bin/p -f]"), OK);
    assert_int_equal(line("exit", NULL, "[/bin/sh][-c][exit]"), OK);
    assert_int_equal(line("exiting 1", NULL, "[exiting][1]"), OK);
    assert_int_equal(line("/opt/exit 1", NULL, "[/opt/exit][1]"), OK);
    assert_int_equal(line("exit 75", "/etc/smrsh", "[/etc/smrsh/exit][75]"), OK);
}

static void test_with_a_directory_only_its_programs_run_and_no_shell(void **state)
{
    (void)state;
    assert_int_equal(
        line("/usr/bin/vacation alice", "/etc/smrsh", "[/etc/smrsh/vacation][alice]"), OK);
    assert_int_equal(line("../../bin/sh x", "/etc/smrsh", "[/etc/smrsh/sh][x]"), OK);
    assert_int_equal(line("/bin/..", "/etc/smrsh", ""), ERR_DENIED);
    assert_int_equal(line("vacation; id", "/etc/smrsh", ""), ERR_DENIED);
    assert_int_equal(line("vacation `id`", "/etc/smrsh", ""), ERR_DENIED);
}

static int word(const char *text, const char *wanted)
{
    struct command *c = NEW(struct command);
    struct error err = {0};
    int rc = command_word(c, slice_of(text), &facts, &err);
    if (rc == OK)
        check_words(c, wanted);
    free(c);
    return rc;
}

static void test_templates_stay_one_word_and_hold_no_marks(void **state)
{
    (void)state;
    assert_int_equal(word("${sender}", "[_f_rm@x.test]"), OK);
    assert_int_equal(word("--to=${recipient}", "[--to=a+b@host.test]"), OK);
    assert_int_equal(word("${user}/${extension}:${size}", "[a/b:42]"), OK);
    assert_int_equal(word("$x {y}", "[$x {y}]"), OK);
    assert_int_equal(word("${secret}", ""), ERR_SYNTAX);
    assert_int_equal(word("${user", ""), ERR_SYNTAX);
}

static void test_too_many_words_are_refused(void **state)
{
    (void)state;
    char many[4 * COMMAND_WORDS];
    for (size_t i = 0; i < sizeof(many) - 1; i++)
        many[i] = i % 2 ? ' ' : 'x';
    many[sizeof(many) - 1] = '\0';
    assert_int_equal(line(many, NULL, ""), ERR_LIMIT);
}

static void test_the_environment_is_small_and_clean(void **state)
{
    struct command *c = NEW(struct command);
    struct error err = {0};
    bool helo = false;
    (void)state;
    assert_int_equal(command_environment(c, "alice", "/home/alice", &facts, &err), OK);
    assert_null(c->envp[c->nvariables]);
    for (size_t i = 0; i < c->nvariables; i++) {
        helo |= strcmp(c->envp[i], "CLIENT_HELO=___:__") == 0 ||
                strcmp(c->envp[i], "CLIENT_HELO=_____:__") == 0;
        assert_null(strpbrk(c->envp[i], ";`$() {}"));
    }
    assert_true(helo);
    free(c);
}

static void judged(int status, uint32_t wanted)
{
    struct run_result r = {0};
    run_judge(status, &r);
    assert_int_equal(r.status, wanted);
    assert_int_equal(r.dsn[0], wanted == DELIVERED ? '2' : wanted == DEFERRED ? '4' : '5');
}

static void test_exit_statuses(void **state)
{
    (void)state;
    judged(0, DELIVERED);
    for (int code = 1; code < 256; code++) {
        bool later = code == 71 || code == 74 || code == 75 || code == 126 || code == 127;
        judged(code << 8, later ? DEFERRED : FAILED);
    }
    judged(SIGKILL, DEFERRED);
    judged(SIGXCPU, DEFERRED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_plain_line_is_split_and_one_with_marks_goes_to_the_shell),
        cmocka_unit_test(test_words_that_are_the_shells_own_go_to_the_shell),
        cmocka_unit_test(test_with_a_directory_only_its_programs_run_and_no_shell),
        cmocka_unit_test(test_templates_stay_one_word_and_hold_no_marks),
        cmocka_unit_test(test_too_many_words_are_refused),
        cmocka_unit_test(test_the_environment_is_small_and_clean),
        cmocka_unit_test(test_exit_statuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
