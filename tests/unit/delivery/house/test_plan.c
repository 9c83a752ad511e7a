/* When rounds of housekeeping begin. */
#include <setjmp.h>
#include <stdio.h>
#include <time.h>

#include "delivery/house/house.h"

#include <cmocka.h>

enum { HOUR = 3600, DAY = 24 * HOUR, FROM = 3 * HOUR };

/* 2026-11-20 at this time. */
static int64_t at(int hour, int minute)
{
    struct tm tm = {.tm_year = 126, .tm_mon = 10, .tm_mday = 20, .tm_hour = hour, .tm_min = minute};
    tm.tm_isdst = -1;
    return (int64_t)mktime(&tm);
}

static void zone(const char *name)
{
    setenv("TZ", name, 1);
    tzset();
}

static void test_a_daily_round_begins_at_its_hour(void **state)
{
    (void)state;
    zone("UTC");
    assert_int_equal(house_next(at(3, 0), DAY, FROM), at(3, 0) + DAY);
    assert_int_equal(house_next(at(3, 7), DAY, FROM), at(3, 0) + DAY);
    assert_int_equal(house_next(at(23, 59), DAY, FROM), at(3, 0) + DAY);
    assert_int_equal(house_next(at(0, 1), DAY, FROM), at(3, 0) + DAY);
    assert_int_equal(house_next(at(12, 0), DAY, 0), at(0, 0) + DAY);
}

static void test_a_weekly_round_begins_at_its_hour(void **state)
{
    (void)state;
    zone("UTC");
    assert_int_equal(house_next(at(12, 0), 7 * DAY, FROM), at(3, 0) + 7 * DAY);
}

static void test_a_short_interval_knows_no_hour(void **state)
{
    (void)state;
    zone("UTC");
    assert_int_equal(house_next(at(12, 0), HOUR, FROM), at(13, 0));
    assert_int_equal(house_next(at(12, 0), 1, FROM), at(12, 0) + 1);
}

static void test_the_hour_is_local_time(void **state)
{
    (void)state;
    zone("XXX-5:30");
    assert_int_equal(house_next(at(12, 0), DAY, FROM), at(3, 0) + DAY);
    zone("UTC");
}

/* Clocks go back an hour at 03:00 on 2026-10-25: that night is 25 hours long. */
static void test_the_hour_stays_when_clocks_are_changed(void **state)
{
    (void)state;
    struct tm tm = {.tm_year = 126, .tm_mon = 9, .tm_mday = 24, .tm_hour = 4, .tm_isdst = -1};
    zone("CET-1CEST,M3.5.0,M10.5.0/3");
    int64_t before = (int64_t)mktime(&tm);
    assert_int_equal(house_next(before, DAY, 4 * HOUR), before + DAY + HOUR);
    zone("UTC");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_daily_round_begins_at_its_hour),
        cmocka_unit_test(test_a_weekly_round_begins_at_its_hour),
        cmocka_unit_test(test_a_short_interval_knows_no_hour),
        cmocka_unit_test(test_the_hour_is_local_time),
        cmocka_unit_test(test_the_hour_stays_when_clocks_are_changed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
