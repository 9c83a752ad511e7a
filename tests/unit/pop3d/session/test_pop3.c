/* POP3 sessions in children over a socket pair, against a real store in a temporary directory. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libmail/proto/notify.h"
#include "libstore/store.h"
#include "pop3d/session/pop3.h"

#include <cmocka.h>

struct rig {
    char dir[64];
    int mail, fd, notify;
    pid_t pid;
    char heard[1 << 18];
};

static const char *const first = "Subject: one\r\n\r\nline 1\r\n.dot\r\n..two\r\n\r\nend\r\n";
static const char *const second = "Subject: two\r\nTo: a\r\n\r\nbody without an end";

static struct store *open_store(struct rig *r)
{
    struct store_options options = {.create = true};
    struct store *s = NULL;
    struct error err = {0};
    assert_int_equal(store_open(r->mail, ".", &options, &s, &err), OK);
    return s;
}

static void deliver(struct rig *r, const char *text)
{
    struct error err = {0};
    struct store *s = open_store(r);
    struct store_append *a;
    struct store_append_options options = {0};
    struct store_appended done;
    assert_int_equal(store_append_begin(s, SLICE_LIT("INBOX"), 0, &a, &err), OK);
    assert_int_equal(store_append_write(a, slice_of(text), &err), OK);
    assert_int_equal(store_append_commit(a, &options, &done, &err), OK);
    store_close(s);
}

static uint32_t count(struct rig *r, uint32_t *unseen)
{
    struct store_status st;
    struct error err = {0};
    struct store *s = open_store(r);
    assert_int_equal(store_status(s, SLICE_LIT("INBOX"), &st, &err), OK);
    store_close(s);
    if (unseen)
        *unseen = st.unseen;
    return st.messages;
}

static int run_session(struct rig *r, int fd, int notify, const char *input)
{
    struct error err;
    volatile sig_atomic_t stopping = 0;
    struct session_env env = {.fd = fd,
        .mail = r->mail,
        .notify = notify,
        .user = "alice@x",
        .client = "127.0.0.1",
        .tag = "",
        .input = slice_of(input),
        .stopping = &stopping};
    env.conf = conf_parse(
        "test", SLICE_LIT("hostname a.b\npop3 { timeout 2s }\n"), &conf_root_schema, NULL, &err);
    return pop3_session(&env);
}

/* Starts a session; `input` came together with the login. */
static void dial(struct rig *r, const char *input)
{
    int fds[2], notify[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, notify), 0);
    fflush(NULL);
    r->pid = fork();
    if (r->pid == 0) {
        close(fds[0]);
        close(notify[0]);
        _exit(run_session(r, fds[1], notify[1], input));
    }
    close(fds[1]);
    close(notify[1]);
    r->fd = fds[0];
    r->notify = notify[0];
    struct timeval tv = {.tv_sec = 5};
    setsockopt(r->fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
}

/* All that is sent until this text comes, or the end. */
static const char *hear_until(struct rig *r, const char *end)
{
    size_t n = 0;
    r->heard[0] = '\0';
    while (n < sizeof(r->heard) - 1 &&
           !(end && n >= strlen(end) && strcmp(r->heard + n - strlen(end), end) == 0)) {
        ssize_t got = read(r->fd, r->heard + n, end ? 1 : sizeof(r->heard) - 1 - n);
        if (got <= 0)
            break;
        n += (size_t)got;
        r->heard[n] = '\0';
    }
    return r->heard;
}

static const char *say(struct rig *r, const char *text, const char *end)
{
    assert_int_equal(write(r->fd, text, strlen(text)), strlen(text));
    return hear_until(r, end);
}

static int hang_up(struct rig *r)
{
    int status = -1;
    fd_close(&r->fd);
    fd_close(&r->notify);
    waitpid(r->pid, &status, 0);
    return status;
}

static int rig_new(void **state)
{
    struct rig *r = NEW(struct rig);
    snprintf(r->dir, sizeof(r->dir), "/tmp/veredus-pop3-XXXXXX");
    if (!mkdtemp(r->dir))
        return -1;
    r->mail = open(r->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    r->fd = r->notify = -1;
    *state = r;
    return r->mail < 0 ? -1 : 0;
}

static int rig_free(void **state)
{
    struct rig *r = *state;
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", r->dir);
    fd_close(&r->mail);
    free(r);
    return system(command);
}

static struct rig *two_messages(void **state)
{
    struct rig *r = *state;
    deliver(r, first);
    deliver(r, second);
    dial(r, "");
    assert_string_equal(hear_until(r, "\r\n"), "+OK Logged in, 2 messages\r\n");
    return r;
}

static void test_stat_and_list_count_crlf_octets(void **state)
{
    struct rig *r = two_messages(state);
    char expected[128];
    snprintf(expected, sizeof(expected), "+OK 2 %zu\r\n", strlen(first) + strlen(second));
    assert_string_equal(say(r, "STAT\r\n", "\r\n"), expected);
    snprintf(expected, sizeof(expected), "+OK 2 messages\r\n1 %zu\r\n2 %zu\r\n.\r\n", strlen(first),
        strlen(second));
    assert_string_equal(say(r, "LIST\r\n", "\r\n.\r\n"), expected);
    snprintf(expected, sizeof(expected), "+OK 2 %zu\r\n", strlen(second));
    assert_string_equal(say(r, "list 2\r\n", "\r\n"), expected);
    assert_string_equal(say(r, "LIST 3\r\n", "\r\n"), "-ERR No such message\r\n");
    assert_string_equal(say(r, "LIST x\r\n", "\r\n"), "-ERR No such message\r\n");
    assert_string_equal(say(r, "LIST 1 2\r\n", "\r\n"), "-ERR Wrong number of arguments\r\n");
    assert_int_equal(hang_up(r), 0);
}

static void test_retr_stuffs_dots_and_ends_the_last_line(void **state)
{
    struct rig *r = two_messages(state);
    char expected[256];
    snprintf(expected, sizeof(expected),
        "+OK %zu octets\r\nSubject: one\r\n\r\nline 1\r\n..dot\r\n...two\r\n\r\nend\r\n.\r\n",
        strlen(first));
    assert_string_equal(say(r, "RETR 1\r\n", "\r\n.\r\n"), expected);
    snprintf(expected, sizeof(expected), "+OK %zu octets\r\n%s\r\n.\r\n", strlen(second), second);
    assert_string_equal(say(r, "RETR 2\r\n", "\r\n.\r\n"), expected);
    hang_up(r);
}

static void test_top_gives_the_header_and_some_lines(void **state)
{
    struct rig *r = two_messages(state);
    assert_string_equal(say(r, "TOP 1 0\r\n", "\r\n.\r\n"), "+OK\r\nSubject: one\r\n\r\n.\r\n");
    assert_string_equal(
        say(r, "TOP 1 2\r\n", "\r\n.\r\n"), "+OK\r\nSubject: one\r\n\r\nline 1\r\n..dot\r\n.\r\n");
    assert_non_null(strstr(say(r, "TOP 1 999\r\n", "\r\n.\r\n"), "end\r\n.\r\n"));
    assert_string_equal(say(r, "TOP 1\r\n", "\r\n"), "-ERR Wrong number of arguments\r\n");
    assert_memory_equal(say(r, "TOP 1 -1\r\n", "\r\n"), "-ERR", 4);
    hang_up(r);
}

static void test_uidl_is_unique_and_stable_over_sessions(void **state)
{
    struct rig *r = two_messages(state);
    char before[256], one[64], two[64];
    snprintf(before, sizeof(before), "%s", say(r, "UIDL\r\n", "\r\n.\r\n"));
    assert_int_equal(sscanf(before, "+OK 2 messages\r\n1 %63s\r\n2 %63s", one, two), 2);
    assert_string_not_equal(one, two);
    assert_int_equal(strlen(one), 32);
    hang_up(r);
    dial(r, "");
    hear_until(r, "\r\n");
    assert_string_equal(say(r, "UIDL\r\n", "\r\n.\r\n"), before);
    snprintf(before, sizeof(before), "+OK 2 %s\r\n", two);
    assert_string_equal(say(r, "UIDL 2\r\n", "\r\n"), before);
    hang_up(r);
}

static void test_dele_hides_and_quit_removes(void **state)
{
    struct rig *r = two_messages(state);
    assert_memory_equal(say(r, "DELE 1\r\n", "\r\n"), "+OK", 3);
    assert_memory_equal(say(r, "DELE 1\r\n", "\r\n"), "-ERR", 4);
    assert_memory_equal(say(r, "RETR 1\r\n", "\r\n"), "-ERR", 4);
    assert_memory_equal(say(r, "STAT\r\n", "\r\n"), "+OK 1 ", 6);
    assert_int_equal(count(r, NULL), 2);
    assert_string_equal(say(r, "QUIT\r\n", NULL), "+OK Good bye\r\n");
    assert_int_equal(hang_up(r), 0);
    assert_int_equal(count(r, NULL), 1);
}

static void test_hanging_up_removes_nothing(void **state)
{
    struct rig *r = two_messages(state);
    say(r, "DELE 1\r\n", "\r\n");
    say(r, "RETR 2\r\n", "\r\n.\r\n");
    hang_up(r);
    uint32_t unseen;
    assert_int_equal(count(r, &unseen), 2);
    assert_int_equal(unseen, 2);
}

static void test_rset_forgets_deletions(void **state)
{
    struct rig *r = two_messages(state);
    say(r, "DELE 1\r\n", "\r\n");
    say(r, "DELE 2\r\n", "\r\n");
    assert_memory_equal(say(r, "STAT\r\n", "\r\n"), "+OK 0 0", 7);
    assert_memory_equal(say(r, "RSET\r\n", "\r\n"), "+OK", 3);
    assert_memory_equal(say(r, "STAT\r\n", "\r\n"), "+OK 2 ", 6);
    say(r, "QUIT\r\n", NULL);
    hang_up(r);
    assert_int_equal(count(r, NULL), 2);
}

static void test_quit_marks_what_was_retrieved_as_seen(void **state)
{
    struct rig *r = two_messages(state);
    say(r, "RETR 1\r\n", "\r\n.\r\n");
    say(r, "QUIT\r\n", NULL);
    hang_up(r);
    uint32_t unseen;
    count(r, &unseen);
    assert_int_equal(unseen, 1);
}

static void test_the_maildrop_is_for_one_session_at_a_time(void **state)
{
    struct rig *r = two_messages(state);
    struct rig other = *r;
    dial(&other, "");
    assert_memory_equal(hear_until(&other, NULL), "-ERR [IN-USE]", 13);
    hang_up(&other);
    assert_memory_equal(say(r, "NOOP\r\n", "\r\n"), "+OK", 3);
    hang_up(r);
    dial(r, "");
    assert_memory_equal(hear_until(r, "\r\n"), "+OK", 3);
    hang_up(r);
}

static void test_pipelined_commands_are_answered_in_order(void **state)
{
    struct rig *r = *state;
    deliver(r, first);
    dial(r, "NOOP\r\nSTA");
    const char *got = say(r, "T\r\nCAPA\r\nFROB\r\nQUIT\r\n", NULL);
    char expected[512];
    snprintf(expected, sizeof(expected),
        "+OK Logged in, 1 messages\r\n+OK\r\n+OK 1 %zu\r\n+OK Capability list follows\r\nTOP\r\n"
        "UIDL\r\nRESP-CODES\r\nPIPELINING\r\nEXPIRE NEVER\r\nIMPLEMENTATION Veredus\r\n.\r\n"
        "-ERR Unknown command\r\n+OK Good bye\r\n",
        strlen(first));
    assert_string_equal(got, expected);
    assert_int_equal(hang_up(r), 0);
}

static void test_an_endless_line_ends_the_session(void **state)
{
    struct rig *r = two_messages(state);
    char line[2000];
    memset(line, 'a', sizeof(line) - 1);
    line[sizeof(line) - 1] = '\0';
    assert_string_equal(say(r, line, NULL), "-ERR The command is too long\r\n");
    hang_up(r);
}

static void test_silence_ends_the_session_without_update(void **state)
{
    struct rig *r = two_messages(state);
    say(r, "DELE 1\r\n", "\r\n");
    assert_string_equal(hear_until(r, NULL), "");
    hang_up(r);
    assert_int_equal(count(r, NULL), 2);
}

static void test_a_message_expunged_elsewhere_is_an_error_not_the_end(void **state)
{
    struct rig *r = two_messages(state);
    struct error err = {0};
    struct store *s = open_store(r);
    struct store_mailbox *box;
    assert_int_equal(store_select(s, SLICE_LIT("INBOX"), false, &box, &err), OK);
    struct uidset all = {0};
    uidset_add_range(&all, 1, 1);
    assert_int_equal(store_expunge(box, &all, false, NULL, &err), OK);
    uidset_clear(&all);
    store_unselect(box);
    store_close(s);
    assert_memory_equal(say(r, "RETR 1\r\n", "\r\n"), "-ERR", 4);
    assert_memory_equal(say(r, "DELE 1\r\n", "\r\n"), "+OK", 3);
    assert_memory_equal(say(r, "QUIT\r\n", NULL), "+OK", 3);
    hang_up(r);
}

static void test_big_messages_come_through_whole(void **state)
{
    struct rig *r = *state;
    enum { LINES = 3000 };
    struct buf text;
    buf_init(&text, 1 << 18);
    buf_puts(&text, "Subject: big\r\n\r\n");
    for (int i = 0; i < LINES; i++)
        buf_puts(&text, ".a line that begins with a dot\r\n");
    buf_putc(&text, '\0');
    deliver(r, buf_slice(&text).p);
    dial(r, "");
    hear_until(r, "\r\n");
    const char *got = say(r, "RETR 1\r\n", "\r\n.\r\n");
    size_t dots = 0;
    for (const char *p = got; (p = strstr(p, "\r\n..a line")); p++)
        dots++;
    assert_int_equal(dots, LINES);
    buf_clear(&text);
    hang_up(r);
}

static void test_deletions_are_announced(void **state)
{
    struct rig *r = two_messages(state);
    struct ipc_sync server;
    struct ipc_in in;
    struct error err = {0};
    assert_int_equal(ipc_sync_open(&server, r->notify, &notify_proto, IPC_SERVER, &err), OK);
    r->notify = -1;
    assert_int_equal(write(r->fd, "DELE 1\r\nQUIT\r\n", 14), 14);
    assert_int_equal(ipc_sync_receive(&server, 3000, &in, &err), OK);
    assert_int_equal(in.type, notify_changed_type);
    const struct notify_changed *m = in.msg;
    assert_true(slice_is(m->owner, "alice@x"));
    assert_true(slice_is(m->mailbox, "INBOX"));
    assert_string_equal(hear_until(r, NULL), "+OK Marked for deletion\r\n+OK Good bye\r\n");
    ipc_sync_close(&server);
    hang_up(r);
}

#define SESSION_TEST(name) cmocka_unit_test_setup_teardown(name, rig_new, rig_free)

int main(void)
{
    log_setup("test", LOG_ERROR);
    const struct CMUnitTest tests[] = {
        SESSION_TEST(test_stat_and_list_count_crlf_octets),
        SESSION_TEST(test_retr_stuffs_dots_and_ends_the_last_line),
        SESSION_TEST(test_top_gives_the_header_and_some_lines),
        SESSION_TEST(test_uidl_is_unique_and_stable_over_sessions),
        SESSION_TEST(test_dele_hides_and_quit_removes),
        SESSION_TEST(test_hanging_up_removes_nothing),
        SESSION_TEST(test_rset_forgets_deletions),
        SESSION_TEST(test_quit_marks_what_was_retrieved_as_seen),
        SESSION_TEST(test_the_maildrop_is_for_one_session_at_a_time),
        SESSION_TEST(test_pipelined_commands_are_answered_in_order),
        SESSION_TEST(test_an_endless_line_ends_the_session),
        SESSION_TEST(test_silence_ends_the_session_without_update),
        SESSION_TEST(test_a_message_expunged_elsewhere_is_an_error_not_the_end),
        SESSION_TEST(test_big_messages_come_through_whole),
        SESSION_TEST(test_deletions_are_announced),
    };
    return cmocka_run_group_tests_name("pop3", tests, NULL, NULL);
}
