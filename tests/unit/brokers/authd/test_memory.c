#include "brokers/authd/memory.h"

#include <setjmp.h>
#include <stdio.h>

#include "libutil/error.h"

#include <cmocka.h>

/* From the reference vectors of SipHash's authors: key and input 00 01 02 ... */
static void test_siphash_agrees_with_its_authors(void **state)
{
    (void)state;
    static const uint8_t none[] = {0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72,
        0x14, 0xc7, 0x55, 0x02, 0x93};
    static const uint8_t one[] = {0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44, 0x34, 0x76, 0x59,
        0x11, 0x9b, 0x22, 0xfc, 0x45};
    uint8_t key[SIPHASH_KEY], out[SIPHASH_LEN];
    for (uint8_t i = 0; i < sizeof(key); i++)
        key[i] = i;
    siphash(key, SLICE_LIT(""), out);
    assert_memory_equal(out, none, sizeof(out));
    siphash(key, slice_from("\0", 1), out);
    assert_memory_equal(out, one, sizeof(out));
}

static void test_a_verified_password_is_known_until_its_time_or_hash_changes(void **state)
{
    (void)state;
    struct credentials c;
    credentials_init(&c, 1000);
    assert_false(credentials_known(&c, "u", "h", SLICE_LIT("p"), 0));
    credentials_remember(&c, "u", "h", SLICE_LIT("p"), 0);
    assert_true(credentials_known(&c, "u", "h", SLICE_LIT("p"), 999));
    assert_false(credentials_known(&c, "u", "h", SLICE_LIT("p"), 1000));
    assert_false(credentials_known(&c, "u", "h", SLICE_LIT("q"), 1));
    assert_false(credentials_known(&c, "u", "i", SLICE_LIT("p"), 1));
    assert_false(credentials_known(&c, "v", "h", SLICE_LIT("p"), 1));
    credentials_clear(&c);
}

static void test_credentials_are_bounded_and_expired_ones_make_room(void **state)
{
    (void)state;
    struct credentials c;
    char name[32];
    credentials_init(&c, 1000);
    for (int i = 0; i < CREDENTIALS_MAX + 5; i++) {
        snprintf(name, sizeof(name), "u%d", i);
        credentials_remember(&c, name, "h", SLICE_LIT("p"), 0);
    }
    assert_int_equal(map_count(&c.map), CREDENTIALS_MAX);
    credentials_remember(&c, "late", "h", SLICE_LIT("p"), 5000);
    assert_true(credentials_known(&c, "late", "h", SLICE_LIT("p"), 5001));
    assert_int_equal(map_count(&c.map), 1);
    credentials_clear(&c);
}

static void test_cache_of_zero_remembers_nothing(void **state)
{
    (void)state;
    struct credentials c;
    credentials_init(&c, 0);
    credentials_remember(&c, "u", "h", SLICE_LIT("p"), 0);
    assert_false(credentials_known(&c, "u", "h", SLICE_LIT("p"), 0));
    credentials_clear(&c);
}

static void test_failures_limit_address_and_account_for_a_window(void **state)
{
    (void)state;
    struct failures f;
    struct slice a = SLICE_LIT("192.0.2.1"), b = SLICE_LIT("192.0.2.2"), u = SLICE_LIT("u");
    failures_init(&f, 1000, 3);
    for (int i = 0; i < 3; i++) {
        assert_false(failures_too_many(&f, a, u, 0));
        failures_add(&f, a, u, 0);
    }
    assert_true(failures_too_many(&f, a, SLICE_LIT("other"), 1));
    assert_false(failures_too_many(&f, b, u, 1));
    assert_false(failures_too_many(&f, a, u, 1000));
    for (int i = 0; i < 30; i++) {
        char client[32];
        snprintf(client, sizeof(client), "198.51.100.%d", i);
        failures_add(&f, slice_of(client), SLICE_LIT("V"), 2000);
    }
    assert_true(failures_too_many(&f, b, SLICE_LIT("v"), 2001));
    assert_false(failures_too_many(&f, b, u, 2001));
    failures_clear(&f);
}

static void test_failures_of_ipv6_count_for_the_whole_64(void **state)
{
    (void)state;
    struct failures f;
    failures_init(&f, 1000, 1);
    failures_add(&f, SLICE_LIT("2001:db8:1:2::1"), SLICE_LIT("u"), 0);
    assert_true(failures_too_many(&f, SLICE_LIT("2001:db8:1:2:ffff::9"), SLICE_LIT("v"), 1));
    assert_false(failures_too_many(&f, SLICE_LIT("2001:db8:1:3::1"), SLICE_LIT("v"), 1));
    failures_clear(&f);
}

static void test_a_ticket_works_once_in_time_and_for_its_service(void **state)
{
    (void)state;
    struct tickets t;
    uint8_t bytes[TICKET_LEN] = {0}, other[TICKET_LEN] = {0};
    char user[256];
    struct slice ticket = slice_from(bytes, sizeof(bytes));
    struct slice imap = SLICE_LIT("imap"), pop3 = SLICE_LIT("pop3");
    tickets_init(&t);
    assert_int_equal(tickets_issue(&t, "u", imap, 0, bytes), OK);
    assert_false(tickets_redeem(&t, slice_from(other, sizeof(other)), imap, 1, user, 256));
    assert_true(tickets_redeem(&t, ticket, imap, TICKET_MS - 1, user, 256));
    assert_string_equal(user, "u");
    assert_false(tickets_redeem(&t, ticket, imap, 1, user, 256));
    assert_int_equal(tickets_issue(&t, "u", imap, 0, bytes), OK);
    assert_false(tickets_redeem(&t, ticket, pop3, 1, user, 256));
    assert_false(tickets_redeem(&t, ticket, imap, 1, user, 256));
    assert_int_equal(tickets_issue(&t, "u", imap, 0, bytes), OK);
    assert_false(tickets_redeem(&t, ticket, imap, TICKET_MS, user, 256));
    tickets_clear(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_siphash_agrees_with_its_authors),
        cmocka_unit_test(test_a_verified_password_is_known_until_its_time_or_hash_changes),
        cmocka_unit_test(test_credentials_are_bounded_and_expired_ones_make_room),
        cmocka_unit_test(test_cache_of_zero_remembers_nothing),
        cmocka_unit_test(test_failures_limit_address_and_account_for_a_window),
        cmocka_unit_test(test_failures_of_ipv6_count_for_the_whole_64),
        cmocka_unit_test(test_a_ticket_works_once_in_time_and_for_its_service),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
