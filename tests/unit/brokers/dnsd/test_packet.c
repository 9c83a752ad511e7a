#include "brokers/dnsd/packet.h"
#include "libutil/proto/dns.h"

#include <setjmp.h>
#include <stdio.h>

#include <cmocka.h>

/* Messages are written out as octal strings: header, question, answers. */
#define QUESTION "\007example\004test\0"
#define ANSWER(type) "\300\014" type "\0\001\0\0\001\054"
#define MESSAGE(answers, rest) "\0\1\201\200\0\1\0" answers "\0\0\0\0" QUESTION "\0\017\0\1" rest
#define BYTES(literal) slice_from(literal, sizeof(literal) - 1)

static int read_message(struct slice message, unsigned type, struct packet *p, struct buf *out)
{
    buf_init(out, 60000);
    return packet_read(message, type, p, out);
}

static struct dns_record first_record(const struct buf *out)
{
    struct reader r = reader_of(buf_slice(out));
    struct dns_record record = {0};
    assert_int_equal(record_get(&r, &dns_record_record, &record), OK);
    return record;
}

static void test_mx_with_compressed_name(void **state)
{
    (void)state;
    struct packet p;
    struct buf out;
    struct slice m = BYTES(MESSAGE("\1", ANSWER("\0\017") "\0\007\0\012\002mx\300\014"));
    assert_int_equal(read_message(m, DNS_MX, &p, &out), OK);
    assert_int_equal(p.count, 1);
    assert_int_equal(p.ttl, 300);
    assert_int_equal(first_record(&out).preference, 10);
    assert_true(slice_is(first_record(&out).data, "mx.example.test"));
    buf_clear(&out);
}

static void test_null_mx_is_a_dot(void **state)
{
    (void)state;
    struct packet p;
    struct buf out;
    struct slice m = BYTES(MESSAGE("\1", ANSWER("\0\017") "\0\003\0\0\0"));
    assert_int_equal(read_message(m, DNS_MX, &p, &out), OK);
    assert_true(slice_is(first_record(&out).data, "."));
    buf_clear(&out);
}

static void test_addresses_become_text(void **state)
{
    (void)state;
    struct packet p;
    struct buf out;
    struct slice a = BYTES(MESSAGE("\1", ANSWER("\0\001") "\0\004\300\0\002\017"));
    assert_int_equal(read_message(a, DNS_A, &p, &out), OK);
    assert_true(slice_is(first_record(&out).data, "192.0.2.15"));
    buf_clear(&out);
    struct slice wrong = BYTES(MESSAGE("\1", ANSWER("\0\001") "\0\003\300\0\002"));
    assert_int_equal(read_message(wrong, DNS_A, &p, &out), OK);
    assert_int_equal(p.count, 0);
    buf_clear(&out);
}

static void test_txt_strings_are_joined(void **state)
{
    (void)state;
    struct packet p;
    struct buf out;
    struct slice m = BYTES(MESSAGE("\1", ANSWER("\0\020") "\0\010\003v=s\003pf1"));
    assert_int_equal(read_message(m, DNS_TXT, &p, &out), OK);
    assert_true(slice_is(first_record(&out).data, "v=spf1"));
    buf_clear(&out);
}

static void test_records_of_other_types_are_passed_over(void **state)
{
    (void)state;
    struct packet p;
    struct buf out;
    struct slice m = BYTES(
        MESSAGE("\2", ANSWER("\0\005") "\0\002\300\014" ANSWER("\0\001") "\0\004\300\0\002\001"));
    assert_int_equal(read_message(m, DNS_A, &p, &out), OK);
    assert_int_equal(p.count, 1);
    buf_clear(&out);
}

static void test_a_name_that_is_no_host_name_is_left_out(void **state)
{
    (void)state;
    struct packet p;
    struct buf out;
    struct slice m = BYTES(MESSAGE("\1", ANSWER("\0\017") "\0\010\0\012\003a b\300\014"));
    assert_int_equal(read_message(m, DNS_MX, &p, &out), OK);
    assert_int_equal(p.count, 0);
    buf_clear(&out);
}

static void test_compression_loops_and_short_messages_are_errors(void **state)
{
    (void)state;
    struct packet p;
    struct buf out;
    struct slice loop = BYTES(MESSAGE("\1", ANSWER("\0\017") "\0\004\0\012\300\054"));
    assert_int_equal(read_message(loop, DNS_MX, &p, &out), OK); /* the data, not the message */
    assert_int_equal(p.count, 0);
    buf_clear(&out);
    struct slice self = BYTES("\0\1\201\200\0\1\0\1\0\0\0\0\300\014\0\1\0\1");
    assert_int_equal(read_message(self, DNS_A, &p, &out), ERR_SYNTAX);
    buf_clear(&out);
    struct slice good = BYTES(MESSAGE("\1", ANSWER("\0\001") "\0\004\300\0\002\001"));
    for (size_t n = 0; n < good.n; n++) {
        char *copy = xmemdup0(good.p, n);
        assert_int_equal(read_message(slice_from(copy, n), DNS_A, &p, &out), ERR_SYNTAX);
        buf_clear(&out);
        free(copy);
    }
}

static void test_reverse_names(void **state)
{
    (void)state;
    char out[PACKET_NAME_MAX];
    assert_int_equal(packet_reverse_name(SLICE_LIT("192.0.2.1"), out), OK);
    assert_string_equal(out, "1.2.0.192.in-addr.arpa");
    assert_int_equal(packet_reverse_name(SLICE_LIT("2001:db8::1"), out), OK);
    assert_string_equal(
        out, "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa");
    assert_int_equal(packet_reverse_name(SLICE_LIT("mx.example.test"), out), ERR_SYNTAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mx_with_compressed_name),
        cmocka_unit_test(test_null_mx_is_a_dot),
        cmocka_unit_test(test_addresses_become_text),
        cmocka_unit_test(test_txt_strings_are_joined),
        cmocka_unit_test(test_records_of_other_types_are_passed_over),
        cmocka_unit_test(test_a_name_that_is_no_host_name_is_left_out),
        cmocka_unit_test(test_compression_loops_and_short_messages_are_errors),
        cmocka_unit_test(test_reverse_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
