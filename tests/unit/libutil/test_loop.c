#include <setjmp.h>
#include <signal.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "libutil/loop.h"

#include <cmocka.h>

struct trail {
    struct loop *loop;
    struct timer a, b;
    int fired_a, fired_b, deferred, ready;
    int64_t at;
};

static void fire_a(void *arg)
{
    struct trail *t = arg;
    t->fired_a++;
    t->at = loop_now(t->loop);
}

static void fire_b_and_restart(void *arg)
{
    struct trail *t = arg;
    t->fired_b++;
    timer_start(&t->b, 10);
}

static void test_fake_clock_runs_timers_at_their_time(void **state)
{
    (void)state;
    struct trail t = {.loop = loop_new_fake(1000)};
    timer_init(&t.a, t.loop, fire_a, &t);
    timer_start(&t.a, 250);
    loop_advance(t.loop, 249);
    assert_int_equal(t.fired_a, 0);
    loop_advance(t.loop, 100);
    assert_int_equal(t.fired_a, 1);
    assert_int_equal(t.at, 1250);
    assert_int_equal(loop_now(t.loop), 1349);
    loop_free(t.loop);
}

static void test_timer_that_restarts_itself_fires_every_period(void **state)
{
    (void)state;
    struct trail t = {.loop = loop_new_fake(0)};
    timer_init(&t.b, t.loop, fire_b_and_restart, &t);
    timer_start(&t.b, 10);
    loop_advance(t.loop, 100);
    assert_int_equal(t.fired_b, 10);
    timer_stop(&t.b);
    loop_advance(t.loop, 100);
    assert_int_equal(t.fired_b, 10);
    loop_free(t.loop);
}

static void defer_again(void *arg)
{
    struct trail *t = arg;
    if (++t->deferred < 3)
        loop_defer(t->loop, defer_again, t);
}

static void test_deferred_calls_run_once_per_round(void **state)
{
    (void)state;
    struct trail t = {.loop = loop_new_fake(0)};
    loop_defer(t.loop, defer_again, &t);
    loop_poll(t.loop);
    assert_int_equal(t.deferred, 1);
    loop_poll(t.loop);
    assert_int_equal(t.deferred, 2);
    loop_cancel(t.loop, &t);
    loop_poll(t.loop);
    assert_int_equal(t.deferred, 2);
    loop_free(t.loop);
}

static void on_ready(int fd, unsigned events, void *arg)
{
    char c;
    struct trail *t = arg;
    assert_int_equal(events, IO_READ);
    assert_int_equal(read(fd, &c, 1), 1);
    t->ready++;
}

static void test_io_is_level_triggered_and_can_be_turned_off(void **state)
{
    (void)state;
    int pair[2];
    struct trail t = {.loop = loop_new_fake(0)};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    struct io *io = io_new(t.loop, pair[0], IO_READ, on_ready, &t);
    assert_int_equal(write(pair[1], "abc", 3), 3);
    loop_poll(t.loop);
    loop_poll(t.loop);
    assert_int_equal(t.ready, 2);
    io_set(io, 0);
    loop_poll(t.loop);
    assert_int_equal(t.ready, 2);
    io_set(io, IO_READ);
    loop_poll(t.loop);
    assert_int_equal(t.ready, 3);
    io_free(io);
    loop_free(t.loop);
    close(pair[0]);
    close(pair[1]);
}

static void on_signal(int signo, void *arg)
{
    struct trail *t = arg;
    t->ready += signo == SIGUSR1;
    loop_stop(t->loop);
}

static void raise_signal(void *arg)
{
    (void)arg;
    raise(SIGUSR1);
}

static void test_signals_arrive_in_the_loop(void **state)
{
    (void)state;
    struct trail t = {.loop = loop_new()};
    loop_signal(t.loop, SIGUSR1, on_signal, &t);
    loop_defer(t.loop, raise_signal, &t);
    loop_run(t.loop);
    assert_int_equal(t.ready, 1);
    loop_free(t.loop);
}

static void note_time(int signo, void *arg)
{
    struct trail *t = arg;
    t->at = loop_now(t->loop);
    on_signal(signo, arg);
}

static void sleep_and_raise(void *arg)
{
    nanosleep(&(struct timespec){.tv_nsec = 20 * 1000000L}, NULL);
    raise_signal(arg);
}

static void test_a_signal_comes_at_its_time_not_at_that_of_the_event_before(void **state)
{
    (void)state;
    struct trail t = {.loop = loop_new()};
    int64_t before = loop_now(t.loop);
    loop_signal(t.loop, SIGUSR1, note_time, &t);
    loop_defer(t.loop, sleep_and_raise, &t);
    loop_run(t.loop);
    assert_true(t.at >= before + 20);
    loop_free(t.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fake_clock_runs_timers_at_their_time),
        cmocka_unit_test(test_timer_that_restarts_itself_fires_every_period),
        cmocka_unit_test(test_deferred_calls_run_once_per_round),
        cmocka_unit_test(test_io_is_level_triggered_and_can_be_turned_off),
        cmocka_unit_test(test_signals_arrive_in_the_loop),
        cmocka_unit_test(test_a_signal_comes_at_its_time_not_at_that_of_the_event_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
