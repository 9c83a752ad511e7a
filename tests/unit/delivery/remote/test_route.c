#include "delivery/remote/nexthop.h"
#include "delivery/remote/remote.h"
#include "delivery/remote/route.h"
#include "libutil/proto/dns.h"

#include <setjmp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* One row of the name server's data. */
struct row {
    const char *name;
    unsigned type, status, preference;
    const char *data;
};

struct fixture {
    struct daemon daemon;
    struct remote remote;
    struct peer peer;
    struct ipc *server;
    const struct row *rows;
    unsigned calls;
    struct route_result got;
};

static void on_query(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    struct fixture *f = arg;
    const struct dns_query *q = in->msg;
    struct buf records;
    struct dns_answer answer = {.status = DNS_NO_NAME};
    buf_init(&records, 60000);
    for (const struct row *r = f->rows; r->name; r++) {
        if (!slice_is(q->name, r->name))
            continue;
        if (answer.status == DNS_NO_NAME)
            answer.status = DNS_NO_DATA;
        if (r->type != q->type)
            continue;
        answer.status = r->status;
        struct dns_record record = {.preference = r->preference, .data = slice_of(r->data)};
        if (r->data)
            assert_int_equal(record_put(&records, &dns_record_record, &record), OK);
    }
    answer.records = buf_slice(&records);
    ipc_reply(ipc, in->id, in->trace, dns_answer_type, &answer, -1);
    buf_clear(&records);
}

static const struct ipc_ops server_ops = {on_query, NULL};
static const struct ipc_ops client_ops = {NULL, NULL};

static int setup(void **state)
{
    struct fixture *f = NEW(struct fixture);
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fds), 0);
    f->daemon.loop = loop_new_fake(0);
    list_init(&f->daemon.peers);
    f->server = ipc_new(f->daemon.loop, fds[0], &dns_proto, IPC_SERVER, &server_ops, f);
    f->peer = (struct peer){.daemon = &f->daemon,
        .conv = CONV_DNS,
        .side = IPC_CLIENT,
        .role = ROLE_DNSD,
        .ipc = ipc_new(f->daemon.loop, fds[1], &dns_proto, IPC_CLIENT, &client_ops, f)};
    list_append(&f->daemon.peers, &f->peer.link);
    f->remote.daemon = &f->daemon;
    snprintf(f->remote.settings.hostname, sizeof(f->remote.settings.hostname), "us.example.test");
    snprintf(f->remote.settings.helo, sizeof(f->remote.settings.helo), "us.example.test");
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    ipc_free(f->server);
    ipc_free(f->peer.ipc);
    for (int i = 0; i < 3; i++)
        loop_poll(f->daemon.loop);
    loop_free(f->daemon.loop);
    free(f);
    return 0;
}

static void on_route(const struct route_result *result, void *arg)
{
    struct fixture *f = arg;
    f->calls++;
    f->got = *result;
}

static void run(struct fixture *f)
{
    for (int i = 0; i < 10; i++)
        loop_poll(f->daemon.loop);
}

static void find(struct fixture *f, const char *nexthop, const struct row *rows)
{
    struct nexthop hop;
    struct error err;
    f->rows = rows;
    assert_int_equal(nexthop_parse(slice_of(nexthop), 25, &hop, &err), OK);
    route_find(&f->remote, &hop, 0, on_route, f);
    assert_int_equal(f->calls, 0); /* never inside the call */
    run(f);
    assert_int_equal(f->calls, 1);
}

static void test_nexthop_forms(void **state)
{
    (void)state;
    static const struct {
        const char *text, *host;
        unsigned port;
        bool mx, lmtp;
    } cases[] = {{"example.test", "example.test", 25, true, false},
        {"example.test:2525", "example.test", 2525, true, false},
        {"[mx.example.test]", "mx.example.test", 25, false, false},
        {"[mx.example.test]:587", "mx.example.test", 587, false, false},
        {"[127.0.0.1]:2525", "127.0.0.1", 2525, false, false},
        {"[IPv6:::1]", "::1", 25, false, false},
        {"lmtp:[127.0.0.1]:2424", "127.0.0.1", 2424, false, true},
        {"lmtp:store.example.test", "store.example.test", 24, false, true}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct nexthop hop;
        struct error err = {0};
        assert_int_equal(nexthop_parse(slice_of(cases[i].text), 25, &hop, &err), OK);
        assert_string_equal(hop.host, cases[i].host);
        assert_int_equal(hop.port, cases[i].port);
        assert_int_equal(hop.mx, cases[i].mx);
        assert_int_equal(hop.lmtp, cases[i].lmtp);
    }
    struct nexthop hop;
    struct error err;
    assert_int_equal(nexthop_parse(slice_of(""), 25, &hop, &err), ERR_SYNTAX);
    assert_int_equal(nexthop_parse(slice_of("a b"), 25, &hop, &err), ERR_SYNTAX);
    assert_int_equal(nexthop_parse(slice_of("x:99999"), 25, &hop, &err), ERR_SYNTAX);
}

static void test_hosts_by_preference_ipv6_before_ipv4(void **state)
{
    struct fixture *f = *state;
    static const struct row rows[] = {{"a.test", DNS_MX, DNS_OK, 20, "second.test"},
        {"a.test", DNS_MX, DNS_OK, 10, "first.test"}, {"first.test", DNS_A, DNS_OK, 0, "192.0.2.1"},
        {"first.test", DNS_AAAA, DNS_OK, 0, "2001:db8::1"},
        {"second.test", DNS_A, DNS_OK, 0, "192.0.2.2"}, {0}};
    find(f, "a.test", rows);
    assert_int_equal(f->got.status, ROUTE_FOUND);
    assert_int_equal(f->got.count, 3);
    assert_string_equal(f->got.targets[0].ip, "2001:db8::1");
    assert_string_equal(f->got.targets[1].ip, "192.0.2.1");
    assert_string_equal(f->got.targets[2].ip, "192.0.2.2");
    assert_string_equal(f->got.targets[2].host, "second.test");
}

static void test_without_mx_the_domain_itself(void **state)
{
    struct fixture *f = *state;
    static const struct row rows[] = {{"a.test", DNS_A, DNS_OK, 0, "192.0.2.7"}, {0}};
    find(f, "a.test", rows);
    assert_int_equal(f->got.count, 1);
    assert_string_equal(f->got.targets[0].ip, "192.0.2.7");
}

static void test_null_mx_is_refused_for_good(void **state)
{
    struct fixture *f = *state;
    static const struct row rows[] = {
        {"a.test", DNS_MX, DNS_OK, 0, "."}, {"a.test", DNS_A, DNS_OK, 0, "192.0.2.7"}, {0}};
    find(f, "a.test", rows);
    assert_int_equal(f->got.status, ROUTE_FAILED);
    assert_string_equal(f->got.dsn, "5.1.10");
}

static void test_a_domain_that_does_not_exist_fails(void **state)
{
    struct fixture *f = *state;
    static const struct row rows[] = {{0}};
    find(f, "gone.test", rows);
    assert_int_equal(f->got.status, ROUTE_FAILED);
    assert_string_equal(f->got.dsn, "5.1.2");
}

static void test_dns_trouble_and_bogus_answers_defer(void **state)
{
    struct fixture *f = *state;
    static const struct row trouble[] = {{"a.test", DNS_MX, DNS_TROUBLE, 0, NULL}, {0}};
    find(f, "a.test", trouble);
    assert_int_equal(f->got.status, ROUTE_DEFERRED);
    assert_string_equal(f->got.dsn, "4.4.3");
    f->calls = 0;
    static const struct row bogus[] = {{"b.test", DNS_MX, DNS_OK, 10, "mx.test"},
        {"mx.test", DNS_A, DNS_BOGUS, 0, NULL}, {"mx.test", DNS_AAAA, DNS_BOGUS, 0, NULL}, {0}};
    find(f, "b.test", bogus);
    assert_int_equal(f->got.status, ROUTE_DEFERRED);
}

static void test_mx_hosts_without_address_fail(void **state)
{
    struct fixture *f = *state;
    static const struct row rows[] = {{"a.test", DNS_MX, DNS_OK, 10, "mx.test"}, {0}};
    find(f, "a.test", rows);
    assert_int_equal(f->got.status, ROUTE_FAILED);
    assert_string_equal(f->got.dsn, "5.4.4");
}

static void test_a_relay_host_without_address_defers(void **state)
{
    struct fixture *f = *state;
    static const struct row rows[] = {{0}};
    find(f, "[relay.test]", rows);
    assert_int_equal(f->got.status, ROUTE_DEFERRED);
}

static void test_hosts_at_and_behind_our_preference_are_cut(void **state)
{
    struct fixture *f = *state;
    static const struct row rows[] = {{"a.test", DNS_MX, DNS_OK, 5, "best.test"},
        {"a.test", DNS_MX, DNS_OK, 10, "Us.Example.Test"},
        {"a.test", DNS_MX, DNS_OK, 10, "equal.test"}, {"a.test", DNS_MX, DNS_OK, 20, "behind.test"},
        {"best.test", DNS_A, DNS_OK, 0, "192.0.2.1"}, {"equal.test", DNS_A, DNS_OK, 0, "192.0.2.2"},
        {"behind.test", DNS_A, DNS_OK, 0, "192.0.2.3"}, {0}};
    find(f, "a.test", rows);
    assert_int_equal(f->got.count, 1);
    assert_string_equal(f->got.targets[0].host, "best.test");
}

static void test_mail_that_would_come_back_fails(void **state)
{
    struct fixture *f = *state;
    static const struct row rows[] = {{"a.test", DNS_MX, DNS_OK, 10, "us.example.test"}, {0}};
    find(f, "a.test", rows);
    assert_int_equal(f->got.status, ROUTE_FAILED);
    assert_string_equal(f->got.dsn, "5.4.6");
}

static void test_equal_preferences_are_shuffled(void **state)
{
    struct fixture *f = *state;
    static const struct row rows[] = {{"a.test", DNS_MX, DNS_OK, 10, "x.test"},
        {"a.test", DNS_MX, DNS_OK, 10, "y.test"}, {"x.test", DNS_A, DNS_OK, 0, "192.0.2.1"},
        {"y.test", DNS_A, DNS_OK, 0, "192.0.2.2"}, {0}};
    unsigned first = 0;
    for (int i = 0; i < 40; i++) {
        f->calls = 0;
        find(f, "a.test", rows);
        first += strcmp(f->got.targets[0].host, "x.test") == 0;
    }
    assert_in_range(first, 1, 39);
}

static void test_the_best_of_many_mx_are_kept(void **state)
{
    struct fixture *f = *state;
    static struct row rows[ROUTE_HOSTS_MAX * 2 + 4];
    static char names[ROUTE_HOSTS_MAX + 3][16];
    size_t n = 0;
    for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(names[i], sizeof(names[i]), "h%u.test", i);
        rows[n++] = (struct row){"a.test", DNS_MX, DNS_OK, 100 - i, names[i]};
    }
    rows[n] = (struct row){names[ARRAY_LEN(names) - 1], DNS_A, DNS_OK, 0, "192.0.2.9"};
    find(f, "a.test", rows);
    assert_int_equal(f->got.status, ROUTE_FOUND);
    assert_string_equal(f->got.targets[0].ip, "192.0.2.9");
}

static void test_a_cancelled_search_is_silent(void **state)
{
    struct fixture *f = *state;
    static const struct row rows[] = {{"a.test", DNS_MX, DNS_OK, 10, "mx.test"}, {0}};
    struct nexthop hop;
    struct error err;
    f->rows = rows;
    assert_int_equal(nexthop_parse(slice_of("a.test"), 25, &hop, &err), OK);
    route_cancel(route_find(&f->remote, &hop, 0, on_route, f));
    assert_int_equal(nexthop_parse(slice_of("[127.0.0.1]"), 25, &hop, &err), OK);
    route_cancel(route_find(&f->remote, &hop, 0, on_route, f));
    run(f);
    loop_advance(f->daemon.loop, 1);
    assert_int_equal(f->calls, 0);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nexthop_forms),
        TEST(test_hosts_by_preference_ipv6_before_ipv4),
        TEST(test_without_mx_the_domain_itself),
        TEST(test_null_mx_is_refused_for_good),
        TEST(test_a_domain_that_does_not_exist_fails),
        TEST(test_dns_trouble_and_bogus_answers_defer),
        TEST(test_mx_hosts_without_address_fail),
        TEST(test_a_relay_host_without_address_defers),
        TEST(test_hosts_at_and_behind_our_preference_are_cut),
        TEST(test_mail_that_would_come_back_fails),
        TEST(test_equal_preferences_are_shuffled),
        TEST(test_the_best_of_many_mx_are_kept),
        TEST(test_a_cancelled_search_is_silent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
