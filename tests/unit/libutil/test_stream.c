#include "libutil/loop.h"
#include "libutil/stream.h"

#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* One stream, the other end of its socket, and what the callbacks saw. */
struct fixture {
    struct loop *loop;
    struct stream *s;
    int peer;
    unsigned data_calls, drains, closes;
    int close_code;
    bool consume, free_in_data, free_in_close, pause_in_data, finish_in_data;
    const char *echo;
    struct buf seen;
};

static void on_data(struct stream *s, void *arg)
{
    struct fixture *f = arg;
    f->data_calls++;
    if (f->free_in_data) {
        f->s = NULL;
        stream_free(s);
        return;
    }
    if (f->consume) {
        buf_put(&f->seen, buf_slice(stream_in(s)));
        buf_consume(stream_in(s), buf_len(stream_in(s)));
    }
    if (f->echo) {
        buf_puts(stream_out(s), f->echo);
        stream_flush(s);
        buf_puts(stream_out(s), f->echo);
        stream_flush(s);
    }
    if (f->pause_in_data)
        stream_pause(s, true);
    if (f->finish_in_data)
        stream_finish(s);
}

static void on_drain(struct stream *s, void *arg)
{
    (void)s;
    struct fixture *f = arg;
    f->drains++;
}

static void on_close(struct stream *s, const struct error *err, void *arg)
{
    struct fixture *f = arg;
    f->closes++;
    f->close_code = err->code;
    if (f->free_in_close) {
        f->s = NULL;
        stream_free(s);
    }
}

static const struct stream_ops ops = {on_data, on_drain, NULL, on_close};

static int setup(void **state)
{
    struct fixture *f = NEW(struct fixture);
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    f->loop = loop_new_fake(1000);
    f->peer = fds[1];
    f->consume = true;
    buf_init(&f->seen, 1 << 20);
    f->s = stream_new(f->loop, fds[0], 1024, 1 << 20, &ops, f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    stream_free(f->s);
    loop_free(f->loop);
    fd_close(&f->peer);
    buf_clear(&f->seen);
    free(f);
    return 0;
}

static void run(struct fixture *f)
{
    for (int i = 0; i < 12; i++)
        loop_poll(f->loop);
}

static void send_text(struct fixture *f, const char *text)
{
    assert_int_equal(write(f->peer, text, strlen(text)), (ssize_t)strlen(text));
}

static void test_data_arrives_and_empty_buffer_is_released(void **state)
{
    struct fixture *f = *state;
    send_text(f, "EHLO x\r\n");
    run(f);
    assert_true(slice_is(buf_slice(&f->seen), "EHLO x\r\n"));
    assert_null(stream_in(f->s)->data);
}

static void test_reading_stops_at_max_in_and_resumes_after_consuming(void **state)
{
    struct fixture *f = *state;
    char big[3000];
    memset(big, 'a', sizeof(big));
    f->consume = false;
    assert_int_equal(write(f->peer, big, sizeof(big)), (ssize_t)sizeof(big));
    run(f);
    assert_int_equal(buf_len(stream_in(f->s)), 1024);
    unsigned calls = f->data_calls;
    run(f);
    assert_int_equal(f->data_calls, calls);
    f->consume = true;
    buf_consume(stream_in(f->s), 1000); /* outside any callback */
    run(f);
    assert_int_equal(buf_len(&f->seen), sizeof(big) - 1000);
}

static void test_flushes_inside_a_callback_leave_together_and_drain_is_told(void **state)
{
    struct fixture *f = *state;
    f->echo = "250 ok\r\n";
    send_text(f, "x");
    run(f);
    char got[64] = "";
    assert_int_equal(read(f->peer, got, sizeof(got)), 16);
    assert_string_equal(got, "250 ok\r\n250 ok\r\n");
    assert_int_equal(f->drains, 1);
}

static void test_output_waits_for_a_slow_reader_and_all_arrives(void **state)
{
    struct fixture *f = *state;
    static char big[600000];
    for (size_t i = 0; i < sizeof(big); i++)
        big[i] = (char)('a' + i % 23);
    buf_put(stream_out(f->s), slice_from(big, sizeof(big)));
    stream_flush(f->s);
    run(f);
    assert_int_equal(f->drains, 0);
    size_t total = 0;
    static char got[700000];
    for (int i = 0; i < 1000 && total < sizeof(big); i++) {
        ssize_t n = read(f->peer, got + total, sizeof(got) - total);
        if (n > 0)
            total += (size_t)n;
        loop_poll(f->loop);
    }
    run(f);
    assert_int_equal(total, sizeof(big));
    assert_memory_equal(got, big, sizeof(big));
    assert_int_equal(f->drains, 1);
}

static void test_output_over_max_out_closes_with_limit(void **state)
{
    struct fixture *f = *state;
    static char big[(1 << 20) + 1];
    buf_put(stream_out(f->s), slice_from(big, sizeof(big)));
    stream_flush(f->s);
    assert_int_equal(f->closes, 0); /* never inside the owner's call */
    run(f);
    assert_int_equal(f->closes, 1);
    assert_int_equal(f->close_code, ERR_LIMIT);
}

static void test_silence_closes_with_timeout_and_arrival_restarts(void **state)
{
    struct fixture *f = *state;
    stream_timeout(f->s, 5000);
    loop_advance(f->loop, 4000);
    send_text(f, "NOOP\r\n");
    run(f);
    loop_advance(f->loop, 4000);
    assert_int_equal(f->closes, 0);
    loop_advance(f->loop, 1001);
    run(f);
    assert_int_equal(f->closes, 1);
    assert_int_equal(f->close_code, ERR_TIMEOUT);
}

static void test_a_paused_stream_neither_reads_nor_times_out(void **state)
{
    struct fixture *f = *state;
    stream_timeout(f->s, 5000);
    stream_pause(f->s, true);
    run(f);
    send_text(f, "DATA\r\n");
    loop_advance(f->loop, 20000);
    run(f);
    assert_int_equal(f->data_calls, 0);
    assert_int_equal(f->closes, 0);
    stream_pause(f->s, false);
    run(f);
    assert_true(slice_is(buf_slice(&f->seen), "DATA\r\n"));
}

static void test_unread_input_is_offered_again_after_a_pause(void **state)
{
    struct fixture *f = *state;
    f->consume = false;
    f->pause_in_data = true;
    send_text(f, "A\r\nB\r\n");
    run(f);
    assert_int_equal(f->data_calls, 1);
    f->consume = true;
    f->pause_in_data = false;
    stream_pause(f->s, false);
    run(f);
    assert_true(slice_is(buf_slice(&f->seen), "A\r\nB\r\n"));
}

static void test_no_progress_of_output_closes_with_timeout(void **state)
{
    struct fixture *f = *state;
    static char big[600000];
    stream_write_timeout(f->s, 7000);
    buf_put(stream_out(f->s), slice_from(big, sizeof(big)));
    stream_flush(f->s);
    run(f);
    loop_advance(f->loop, 6999);
    assert_int_equal(f->closes, 0);
    loop_advance(f->loop, 2);
    run(f);
    assert_int_equal(f->close_code, ERR_TIMEOUT);
}

static void test_end_of_input_closes_after_data_and_pending_output(void **state)
{
    struct fixture *f = *state;
    f->echo = "221 bye\r\n";
    send_text(f, "QUIT\r\n");
    shutdown(f->peer, SHUT_WR);
    run(f);
    char got[64] = "";
    assert_true(read(f->peer, got, sizeof(got)) > 0);
    assert_true(slice_starts(slice_of(got), "221 bye\r\n"));
    assert_int_equal(f->closes, 1);
    assert_int_equal(f->close_code, ERR_CLOSED);
}

static void test_finish_writes_the_rest_then_closes_once(void **state)
{
    struct fixture *f = *state;
    f->finish_in_data = true;
    f->echo = "221 bye\r\n";
    send_text(f, "QUIT\r\n");
    run(f);
    char got[64] = "";
    assert_int_equal(read(f->peer, got, sizeof(got)), 18);
    assert_int_equal(read(f->peer, got, sizeof(got)), 0);
    assert_int_equal(f->closes, 1);
    assert_int_equal(f->close_code, ERR_CLOSED);
}

static void test_reset_by_the_peer_closes_once(void **state)
{
    struct fixture *f = *state;
    fd_close(&f->peer);
    buf_puts(stream_out(f->s), "220 hello\r\n");
    stream_flush(f->s);
    run(f);
    assert_int_equal(f->closes, 1);
}

static void test_free_inside_on_data_is_safe(void **state)
{
    struct fixture *f = *state;
    f->free_in_data = true;
    send_text(f, "x");
    run(f);
    assert_int_equal(f->data_calls, 1);
    assert_int_equal(f->closes, 0);
}

static void test_free_inside_on_close_is_safe(void **state)
{
    struct fixture *f = *state;
    f->free_in_close = true;
    shutdown(f->peer, SHUT_WR);
    run(f);
    assert_int_equal(f->closes, 1);
    assert_null(f->s);
}

static void test_take_fd_gives_descriptor_and_unread_input(void **state)
{
    struct fixture *f = *state;
    struct buf rest;
    buf_init(&rest, 100);
    f->consume = false;
    send_text(f, "rest");
    run(f);
    int fd = stream_take_fd(f->s, &rest);
    f->s = NULL;
    assert_true(slice_is(buf_slice(&rest), "rest"));
    assert_int_equal(write(fd, "y", 1), 1);
    close(fd);
    buf_clear(&rest);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        TEST(test_data_arrives_and_empty_buffer_is_released),
        TEST(test_reading_stops_at_max_in_and_resumes_after_consuming),
        TEST(test_flushes_inside_a_callback_leave_together_and_drain_is_told),
        TEST(test_output_waits_for_a_slow_reader_and_all_arrives),
        TEST(test_output_over_max_out_closes_with_limit),
        TEST(test_silence_closes_with_timeout_and_arrival_restarts),
        TEST(test_a_paused_stream_neither_reads_nor_times_out),
        TEST(test_unread_input_is_offered_again_after_a_pause),
        TEST(test_no_progress_of_output_closes_with_timeout),
        TEST(test_end_of_input_closes_after_data_and_pending_output),
        TEST(test_finish_writes_the_rest_then_closes_once),
        TEST(test_reset_by_the_peer_closes_once),
        TEST(test_free_inside_on_data_is_safe),
        TEST(test_free_inside_on_close_is_safe),
        TEST(test_take_fd_gives_descriptor_and_unread_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
