#include "brokers/dnsd/resolver.h"
#include "libutil/proto/dns.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* A name server of one datagram: it answers every question with the same records. */
struct fixture {
    struct loop *loop;
    struct resolver *resolver;
    struct conf *conf;
    struct io *io;
    int fd;
    struct slice answer; /* count and records to put behind the question */
    unsigned rcode, asked;
    bool silent;
    unsigned answers, status;
    struct buf records;
};

static void on_question(int fd, unsigned events, void *arg)
{
    (void)events;
    struct fixture *f = arg;
    unsigned char m[1500];
    struct sockaddr_storage from;
    socklen_t from_len = sizeof(from);
    ssize_t n = recvfrom(fd, m, sizeof(m), 0, (struct sockaddr *)&from, &from_len);
    if (n < 12 || f->silent)
        return;
    f->asked++;
    size_t end = 12;
    while (m[end])
        end += m[end] + 1u;
    end += 5;
    m[2] = 0x81;
    m[3] = (unsigned char)(0x80 | f->rcode);
    m[6] = 0;
    m[7] = f->answer.n ? 1 : 0;
    memset(m + 8, 0, 4);
    if (f->answer.n)
        memcpy(m + end, f->answer.p, f->answer.n);
    sendto(fd, m, end + f->answer.n, 0, (struct sockaddr *)&from, from_len);
}

static void on_answer(const struct resolver_answer *a, void *arg)
{
    struct fixture *f = arg;
    f->answers++;
    f->status = a->status;
    buf_reset(&f->records);
    buf_put(&f->records, a->records);
    loop_stop(f->loop);
}

static void open_server(struct fixture *f)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    f->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(f->fd, (struct sockaddr *)&at, sizeof(at)), 0);
    f->loop = loop_new();
    f->io = io_new(f->loop, f->fd, IO_READ, on_question, f);
    buf_init(&f->records, 60000);
}

/* A resolver that asks this server, with more settings in its block. */
static struct resolver *make(
    struct fixture *f, const char *more, struct resolver_facts *facts, struct error *err)
{
    struct sockaddr_in at;
    socklen_t len = sizeof(at);
    char text[400];
    getsockname(f->fd, (struct sockaddr *)&at, &len);
    snprintf(text, sizeof(text), "hostname mx.example.test\ndns { servers 127.0.0.1@%u; %s }\n",
        ntohs(at.sin_port), more);
    conf_free(f->conf);
    f->conf = conf_parse("test", slice_of(text), &conf_root_schema, NULL, err);
    assert_string_equal(err->text, "");
    return resolver_new(f->loop, conf_one(f->conf, "dns"), facts, err);
}

static int setup(void **state)
{
    struct fixture *f = NEW(struct fixture);
    struct error err = {0};
    struct resolver_facts facts;
    open_server(f);
    f->resolver = make(f, "", &facts, &err);
    assert_string_equal(err.text, "");
    assert_int_equal(facts.servers, 1);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    resolver_free(f->resolver);
    io_free(f->io);
    loop_free(f->loop);
    conf_free(f->conf);
    buf_clear(&f->records);
    close(f->fd);
    free(f);
    return 0;
}

#define A_RECORD "\300\014\0\001\0\001\0\0\001\054\0\004\300\0\002\017"

static void test_answer_comes_from_the_configured_server_then_from_the_cache(void **state)
{
    struct fixture *f = *state;
    f->answer = slice_from(A_RECORD, sizeof(A_RECORD) - 1);
    for (int i = 0; i < 2; i++) {
        resolver_ask(f->resolver, SLICE_LIT("host.example.test"), DNS_A, on_answer, f);
        loop_run(f->loop);
        assert_int_equal(f->status, DNS_OK);
    }
    assert_int_equal(f->answers, 2);
    assert_int_equal(f->asked, 1);
    struct reader r = reader_of(buf_slice(&f->records));
    struct dns_record record;
    assert_int_equal(record_get(&r, &dns_record_record, &record), OK);
    assert_true(slice_is(record.data, "192.0.2.15"));
}

static void test_a_name_that_does_not_exist(void **state)
{
    struct fixture *f = *state;
    f->rcode = 3;
    resolver_ask(f->resolver, SLICE_LIT("gone.example.test"), DNS_MX, on_answer, f);
    loop_run(f->loop);
    assert_int_equal(f->status, DNS_NO_NAME);
}

static void test_a_name_without_such_records(void **state)
{
    struct fixture *f = *state;
    resolver_ask(f->resolver, SLICE_LIT("host.example.test"), DNS_MX, on_answer, f);
    loop_run(f->loop);
    assert_int_equal(f->status, DNS_NO_DATA);
}

static void test_what_cannot_be_a_name_does_not_exist(void **state)
{
    struct fixture *f = *state;
    resolver_ask(f->resolver, slice_of(""), DNS_A, on_answer, f);
    assert_int_equal(f->answers, 0); /* never inside the call */
    loop_run(f->loop);
    assert_int_equal(f->status, DNS_NO_NAME);
    assert_int_equal(f->asked, 0);
}

static void test_cancelled_questions_are_not_answered(void **state)
{
    struct fixture *f = *state;
    f->silent = true;
    struct resolver_query *q =
        resolver_ask(f->resolver, SLICE_LIT("slow.example.test"), DNS_A, on_answer, f);
    for (int i = 0; i < 3; i++)
        loop_poll(f->loop);
    resolver_cancel(q);
    for (int i = 0; i < 3; i++)
        loop_poll(f->loop);
    assert_int_equal(f->answers, 0);
}

/* A zone with a trust anchor whose answers carry no signatures. */
static void test_unsigned_answers_below_a_trust_anchor_are_bogus(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct resolver_facts facts;
    char path[] = "/tmp/veredus-anchor-XXXXXX", setting[64];
    static const char anchor[] =
        "; a comment\nexample.com. IN DS 12345 13 2 "
        "49FD46E6C4B45C55D4AC49FD46E6C4B45C55D4AC49FD46E6C4B45C55D4AC0000\n";
    int fd = mkstemp(path);
    assert_int_equal(write(fd, anchor, sizeof(anchor) - 1), (ssize_t)sizeof(anchor) - 1);
    close(fd);
    snprintf(setting, sizeof(setting), "trust-anchor %s", path);
    resolver_free(f->resolver);
    f->resolver = make(f, setting, &facts, &err);
    unlink(path);
    assert_string_equal(err.text, "");
    assert_true(facts.validates);
    f->answer = slice_from(A_RECORD, sizeof(A_RECORD) - 1);
    resolver_ask(f->resolver, SLICE_LIT("host.example.com"), DNS_A, on_answer, f);
    loop_run(f->loop);
    assert_int_equal(f->status, DNS_BOGUS);
}

static void test_a_configured_anchor_that_cannot_be_used_is_named(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct resolver_facts facts;
    assert_null(make(f, "trust-anchor /nonexistent/root.key", &facts, &err));
    assert_non_null(strstr(err.text, "/nonexistent/root.key"));
    err = (struct error){0};
    assert_null(make(f, "trust-anchor /etc/passwd", &facts, &err));
    assert_non_null(strstr(err.text, "not DS or DNSKEY records"));
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_answer_comes_from_the_configured_server_then_from_the_cache),
        TEST(test_a_name_that_does_not_exist),
        TEST(test_a_name_without_such_records),
        TEST(test_what_cannot_be_a_name_does_not_exist),
        TEST(test_cancelled_questions_are_not_answered),
        TEST(test_unsigned_answers_below_a_trust_anchor_are_bogus),
        TEST(test_a_configured_anchor_that_cannot_be_used_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
