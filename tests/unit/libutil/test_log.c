#include <setjmp.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libutil/error.h"
#include "libutil/log.h"

#include <cmocka.h>

#define SAMPLE_FIELDS(F, S) \
    F(S, STR, who, 0) F(S, SECRET, password, 0) F(S, U32, count, 0) F(S, BOOL, tls, 0)
#define SAMPLE_EVENTS(E)                                            \
    E(sample, "sample.event", LOG_INFO, SAMPLE_FIELDS, "A sample.") \
    E(quiet, "sample.quiet", LOG_DEBUG, SAMPLE_FIELDS, "Below the level.")
LOG_EVENTS_DECLARE(SAMPLE_EVENTS)
LOG_EVENTS_DEFINE(sample, SAMPLE_EVENTS)

static int reader;

static int setup(void **state)
{
    int pair[2];
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    log_setup("test", LOG_INFO);
    log_set_fd(pair[0]);
    reader = pair[1];
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    log_on_waiting(NULL, NULL);
    log_set_fd(-1);
    close(reader);
    return 0;
}

static const char *next_line(void)
{
    static char line[16384];
    ssize_t n = recv(reader, line, sizeof(line) - 1, MSG_DONTWAIT);
    line[n > 0 ? n : 0] = '\0';
    return line;
}

static void test_line_has_ids_of_all_levels_and_leaves_empty_fields_out(void **state)
{
    (void)state;
    struct log session = {.key = "sid", .value = "4xg2k1"};
    struct log message = {.parent = &session, .key = "qid", .value = "m7f3"};
    log_event(&message, sample, .who = SLICE_LIT("bob"), .tls = true);
    assert_string_equal(next_line(), "event=sample.event sid=4xg2k1 qid=m7f3 who=bob tls=yes");
}

static void test_values_that_could_break_the_line_are_quoted_and_escaped(void **state)
{
    (void)state;
    log_event(NULL, sample, .who = SLICE_LIT("a \"b\"\r\nevent=fake\x01"));
    assert_string_equal(next_line(), "event=sample.event who=\"a \\\"b\\\"\\r\\nevent=fake\\x01\"");
}

static void test_secrets_never_reach_the_log(void **state)
{
    (void)state;
    log_event(NULL, sample, .password = SLICE_LIT("hunter2"));
    assert_string_equal(next_line(), "event=sample.event password=***");
}

static void test_events_below_the_level_are_not_sent(void **state)
{
    (void)state;
    log_event(NULL, quiet, .count = 1);
    assert_string_equal(next_line(), "");
}

static void test_over_long_lines_are_cut_and_say_so(void **state)
{
    (void)state;
    char *big = xcalloc(1, 20000);
    memset(big, 'x', 19999);
    log_event(NULL, sample, .who = slice_of(big));
    const char *line = next_line();
    assert_true(strlen(line) < 9000);
    assert_non_null(strstr(line, " cut=yes"));
    free(big);
}

/* Counts the lines of the records that have arrived. */
static void read_lines(unsigned long long *kept, unsigned long long *dropped)
{
    for (const char *record; *(record = next_line());) {
        struct slice rest = slice_of(record);
        while (rest.n) {
            struct slice line = slice_cut(&rest, '\n');
            *kept += slice_is(line, "event=sample.event count=7");
            if (slice_starts(line, "event=log.dropped"))
                sscanf(line.p, "event=log.dropped level=warn count=%llu", dropped);
        }
    }
}

static void test_a_full_channel_keeps_lines_then_drops_and_counts(void **state)
{
    (void)state;
    enum { LINES = 100000 };
    for (int i = 0; i < LINES; i++)
        log_event(NULL, sample, .count = 7);
    unsigned long long kept = 0, dropped = 0;
    do
        read_lines(&kept, &dropped);
    while (!log_send_waiting());
    read_lines(&kept, &dropped);
    assert_true(kept > 20000); /* a megabyte of them */
    assert_true(dropped > 0);
    assert_int_equal(kept + dropped, LINES);
}

static void note_waiting(void *arg)
{
    ++*(int *)arg;
}

static void test_gathered_lines_share_a_record_and_a_warning_sends_them(void **state)
{
    (void)state;
    int told = 0;
    log_on_waiting(note_waiting, &told);
    log_gather();
    log_event(NULL, sample, .count = 1);
    log_event(NULL, sample, .count = 2);
    assert_int_equal(told, 1);
    assert_string_equal(next_line(), "");
    assert_true(log_send_waiting());
    assert_string_equal(next_line(), "event=sample.event count=1\nevent=sample.event count=2");
    log_event(NULL, sample, .count = 3);
    log_event(NULL, log_warning, .what = SLICE_LIT("x"));
    assert_string_equal(next_line(), "event=sample.event count=3");
    assert_string_equal(next_line(), "event=warning level=warn what=x");
}

static void test_a_child_sends_no_lines_its_parent_gathered(void **state)
{
    (void)state;
    log_gather();
    log_event(NULL, sample, .count = 1);
    pid_t pid = fork();
    if (pid == 0) {
        log_event(NULL, sample, .count = 2);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_string_equal(next_line(), "event=sample.event count=2");
    assert_true(log_send_waiting());
    assert_string_equal(next_line(), "event=sample.event count=1");
}

static void test_ids_survive_printing_and_parsing(void **state)
{
    (void)state;
    const uint64_t ids[] = {1, 31, 32, UINT64_MAX, 0x123456789abcdef0};
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        char text[ID_TEXT];
        uint64_t back;
        id_print(ids[i], text);
        assert_int_equal(id_parse(slice_of(text), &back), OK);
        assert_true(back == ids[i]);
    }
    uint64_t none;
    assert_int_equal(id_parse(SLICE_LIT(""), &none), ERR_SYNTAX);
    assert_int_equal(id_parse(SLICE_LIT("0"), &none), ERR_SYNTAX); /* would mean all messages */
    assert_int_equal(id_parse(SLICE_LIT("0000000000000"), &none), ERR_SYNTAX);
    assert_int_equal(id_parse(SLICE_LIT("AB"), &none), ERR_SYNTAX);
    assert_int_equal(id_parse(SLICE_LIT("zzzzzzzzzzzzz"), &none), ERR_SYNTAX); /* over 64 bits */
}

#define LOG_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOG_TEST(test_line_has_ids_of_all_levels_and_leaves_empty_fields_out),
        LOG_TEST(test_values_that_could_break_the_line_are_quoted_and_escaped),
        LOG_TEST(test_secrets_never_reach_the_log),
        LOG_TEST(test_events_below_the_level_are_not_sent),
        LOG_TEST(test_over_long_lines_are_cut_and_say_so),
        LOG_TEST(test_a_full_channel_keeps_lines_then_drops_and_counts),
        LOG_TEST(test_gathered_lines_share_a_record_and_a_warning_sends_them),
        LOG_TEST(test_a_child_sends_no_lines_its_parent_gathered),
        cmocka_unit_test(test_ids_survive_printing_and_parsing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
