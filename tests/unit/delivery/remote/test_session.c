#include "delivery/remote/remote.h"
#include "libmail/proto/deliver.h"
#include "libutil/loop.h"
#include "libutil/proto/dns.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { LINES_MAX = 64 };

/*
 * A scripted server on a loopback socket. A script is pairs: the command a line must begin with
 * ("" at connect, "." for the end of data) and the reply to it. A reply of NULL closes the
 * connection. Lines of data are collected. Every connection begins the script anew.
 */
struct turn {
    const char *command, *reply;
};

struct server {
    int listener, fd;
    uint16_t port;
    const struct turn *script;
    size_t at;
    bool in_data;
    bool garble; /* answers what it does not understand with text */
    unsigned connections, unexpected;
    struct buf in, data;
    char commands[LINES_MAX][300];
    size_t ncommands;
    size_t most_pending; /* whole lines seen at once */
};

struct fixture {
    struct daemon daemon;
    struct remote *remote;
    struct peer peer;
    struct ipc *qmgr;
    struct server server;
    bool done;
    size_t noutcomes;
    struct outcome outcomes[DELIVER_RECIPIENTS_MAX];
    struct buf texts;
    char nexthop[64];
    struct ipc *dnsd; /* with name_server */
    struct peer resolver;
    unsigned questions;
};

/* --- the server ---------------------------------------------------------------------------- */

static void server_listen(struct server *s)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    s->fd = -1;
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(s->listener, (struct sockaddr *)&at, len), 0);
    assert_int_equal(listen(s->listener, 8), 0);
    getsockname(s->listener, (struct sockaddr *)&at, &len);
    s->port = ntohs(at.sin_port);
    buf_init(&s->in, 1 << 20);
    buf_init(&s->data, 1 << 24);
}

static void server_say(struct server *s)
{
    const char *reply = s->script[s->at].reply;
    s->at++;
    if (!reply)
        fd_close(&s->fd);
    else if (*reply)
        assert_true(write(s->fd, reply, strlen(reply)) > 0);
}

static void server_line(struct server *s, struct slice line)
{
    if (s->in_data && !slice_is(line, ".")) {
        buf_put(&s->data, line);
        buf_puts(&s->data, "\r\n");
        return;
    }
    s->in_data = false;
    if (s->ncommands < LINES_MAX)
        snprintf(s->commands[s->ncommands++], sizeof(s->commands[0]), "%.*s", SLICE_FMT(line));
    if (!s->script[s->at].command || !slice_starts(line, s->script[s->at].command)) {
        s->unexpected += !slice_is(line, "QUIT");
        fd_close(&s->fd);
        return;
    }
    const char *reply = s->script[s->at].reply;
    s->in_data = reply && slice_starts(slice_of(reply), "354");
    server_say(s);
}

static void server_accept(struct server *s)
{
    int fd = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0)
        return;
    fd_close(&s->fd);
    buf_reset(&s->in);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    s->fd = fd;
    s->at = 0;
    s->in_data = false;
    s->connections++;
    server_say(s);
}

static void server_run(struct server *s)
{
    char chunk[16384];
    server_accept(s);
    if (s->fd < 0)
        return;
    ssize_t n = read(s->fd, chunk, sizeof(chunk));
    if (n == 0)
        fd_close(&s->fd);
    if (n > 0)
        buf_put(&s->in, slice_from(chunk, (size_t)n));
    size_t lines = 0;
    while (s->fd >= 0) {
        struct slice text = buf_slice(&s->in);
        ptrdiff_t end = slice_find(text, SLICE_LIT("\r\n"));
        if (end < 0)
            break;
        lines += !s->in_data;
        server_line(s, slice_first(text, (size_t)end));
        buf_consume(&s->in, (size_t)end + 2);
    }
    s->most_pending = MAX(s->most_pending, lines);
    if (s->garble && s->fd >= 0 && buf_len(&s->in) > 100)
        s->garble = write(s->fd, "this is no TLS record\r\n", 23) < 0;
}

/* --- the frame around remote --------------------------------------------------------------- */

static void on_message(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    (void)ipc;
    struct fixture *f = arg;
    remote_message(&f->peer, in);
}

static void on_host(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    const struct deliver_grant grant = {.granted = true};
    (void)arg;
    ipc_reply(ipc, in->id, in->trace, deliver_grant_type, &grant, -1);
}

static const struct ipc_ops remote_ops = {on_message, NULL};
static const struct ipc_ops qmgr_ops = {on_host, NULL};

/* Every domain has the one MX host mx.test, which is the server. */
static void on_query(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    struct fixture *f = arg;
    const struct dns_query *q = in->msg;
    struct dns_record record = {
        .preference = 10, .data = slice_of(q->type == DNS_MX ? "mx.test" : "127.0.0.1")};
    struct dns_answer answer = {.status = q->type == DNS_AAAA ? DNS_NO_DATA : DNS_OK};
    struct buf records;
    f->questions++;
    buf_init(&records, 1024);
    if (answer.status == DNS_OK)
        assert_int_equal(record_put(&records, &dns_record_record, &record), OK);
    answer.records = buf_slice(&records);
    ipc_reply(ipc, in->id, in->trace, dns_answer_type, &answer, -1);
    buf_clear(&records);
}

static void name_server(struct fixture *f)
{
    static const struct ipc_ops dnsd_ops = {on_query, NULL}, resolver_ops = {NULL, NULL};
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fds), 0);
    f->dnsd = ipc_new(f->daemon.loop, fds[0], &dns_proto, IPC_SERVER, &dnsd_ops, f);
    f->resolver = (struct peer){.daemon = &f->daemon,
        .conv = CONV_DNS,
        .side = IPC_CLIENT,
        .role = ROLE_DNSD,
        .ipc = ipc_new(f->daemon.loop, fds[1], &dns_proto, IPC_CLIENT, &resolver_ops, f)};
    list_append(&f->daemon.peers, &f->resolver.link);
}

static void on_done(struct ipc_in *in, void *arg)
{
    struct fixture *f = arg;
    if (!in)
        return; /* the channel was closed at the end of the test */
    const struct deliver_done *done = in->msg;
    buf_reset(&f->texts);
    buf_put(&f->texts, done->outcomes);
    struct reader r = reader_of(buf_slice(&f->texts));
    f->done = true;
    f->noutcomes = 0;
    while (r.rest.n)
        assert_int_equal(record_get(&r, &outcome_record, &f->outcomes[f->noutcomes++]), OK);
}

static const struct remote_settings plain_settings = {.hostname = "us.example.test",
    .helo = "us.example.test",
    .port = 25,
    .connect_ms = 3000,
    .reply_ms = 60000,
    .tls = TLS_OPTIONAL};

static int setup(void **state)
{
    struct fixture *f = NEW(struct fixture);
    struct error err = {0};
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fds), 0);
    log_setup("test", LOG_ERROR);
    f->daemon.loop = loop_new_fake(0);
    list_init(&f->daemon.peers);
    f->remote = remote_new(&f->daemon, &plain_settings, &err);
    assert_string_equal(err.text, "");
    f->daemon.data = f->remote;
    f->peer = (struct peer){.daemon = &f->daemon,
        .conv = CONV_DELIVER,
        .side = IPC_SERVER,
        .ipc = ipc_new(f->daemon.loop, fds[0], &deliver_proto, IPC_SERVER, &remote_ops, f)};
    f->qmgr = ipc_new(f->daemon.loop, fds[1], &deliver_proto, IPC_CLIENT, &qmgr_ops, f);
    buf_init(&f->texts, 65536);
    server_listen(&f->server);
    snprintf(f->nexthop, sizeof(f->nexthop), "[127.0.0.1]:%u", f->server.port);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(f->server.unexpected, 0);
    remote_free(f->remote);
    ipc_free(f->qmgr);
    ipc_free(f->peer.ipc);
    if (f->dnsd) {
        ipc_free(f->dnsd);
        ipc_free(f->resolver.ipc);
    }
    for (int i = 0; i < 3; i++)
        loop_poll(f->daemon.loop);
    loop_free(f->daemon.loop);
    fd_close(&f->server.fd);
    close(f->server.listener);
    buf_clear(&f->server.in);
    buf_clear(&f->server.data);
    buf_clear(&f->texts);
    free(f);
    return 0;
}

static void run(struct fixture *f)
{
    for (int i = 0; i < 400 && !f->done; i++) {
        loop_poll(f->daemon.loop);
        server_run(&f->server);
    }
    for (int i = 0; i < 4; i++) {
        loop_poll(f->daemon.loop);
        server_run(&f->server);
    }
}

struct message {
    const char *recipients[4];
    struct slice body;
    uint32_t notify;
    const char *orcpt;
    enum envelope_ret ret;
    const char *envid;
    bool smtputf8, utf8_header;
    int64_t priority;
    uint64_t size; /* 0: of the body */
    int fd;        /* 0: inline */
};

static void send_message(struct fixture *f, const struct message *m)
{
    struct buf envelope, recipients;
    buf_init(&envelope, 4096);
    buf_init(&recipients, 11264);
    struct envelope e = {.sender = SLICE_LIT("bob@example.test"),
        .ret = m->ret,
        .body = BODY_8BITMIME,
        .smtputf8 = m->smtputf8,
        .utf8_header = m->utf8_header,
        .priority = m->priority,
        .envid = slice_of(m->envid)};
    assert_int_equal(record_put(&envelope, &envelope_record, &e), OK);
    for (size_t i = 0; i < 4 && m->recipients[i]; i++) {
        struct recipient r = {.address = slice_of(m->recipients[i]),
            .nexthop = slice_of(f->nexthop),
            .notify = m->notify,
            .orcpt = slice_of(m->orcpt)};
        assert_int_equal(record_put(&recipients, &recipient_record, &r), OK);
    }
    struct deliver_start start = {.envelope = buf_slice(&envelope),
        .recipients = buf_slice(&recipients),
        .body = m->fd ? slice_of("") : m->body,
        .size = m->size ? m->size : m->body.n};
    f->done = false;
    ipc_call(f->qmgr, deliver_start_type, 7, &start, m->fd ? m->fd : -1, on_done, f);
    buf_clear(&envelope);
    buf_clear(&recipients);
}

static void deliver(struct fixture *f, const struct turn *script, const struct message *m)
{
    f->server.script = script;
    send_message(f, m);
    run(f);
    assert_true(f->done);
}

static bool said(const struct fixture *f, size_t i, const char *text)
{
    return slice_find(f->outcomes[i].text, slice_of(text)) >= 0;
}

static bool commanded(const struct server *s, const char *command)
{
    for (size_t i = 0; i < s->ncommands; i++)
        if (strcmp(s->commands[i], command) == 0)
            return true;
    return false;
}

#define BODY SLICE_LIT("Subject: x\r\n\r\n.dot\r\ntext\r\n")
#define HELLO                                             \
    {"", "220 mx.example.test\r\n"},                      \
    {                                                     \
        "EHLO us.example.test", "250 mx.example.test\r\n" \
    }
static const struct message one = {.recipients = {"a@x.test"}, .body = BODY};
static const struct message two = {.recipients = {"a@x.test", "b@x.test"}, .body = BODY};

/* --- what goes well ------------------------------------------------------------------------ */

static void test_message_arrives_with_dots_doubled_on_the_wire(void **state)
{
    struct fixture *f = *state;
    static const struct turn script[] = {HELLO, {"MAIL FROM:<bob@example.test>", "250 ok\r\n"},
        {"RCPT TO:<a@x.test>", "250 ok\r\n"}, {"DATA", "354 go\r\n"},
        {".", "250 2.0.0 queued as 1\r\n"}, {0}};
    deliver(f, script, &one);
    assert_int_equal(f->noutcomes, 1);
    assert_int_equal(f->outcomes[0].status, DELIVERED);
    assert_true(slice_is(f->outcomes[0].dsn, "2.0.0"));
    assert_true(said(f, 0, "250 2.0.0 queued as 1"));
    assert_true(slice_is(buf_slice(&f->server.data), "Subject: x\r\n\r\n..dot\r\ntext\r\n"));
    assert_int_equal(f->server.most_pending, 1); /* no PIPELINING, one by one */
}

static void test_commands_leave_in_one_group_with_pipelining(void **state)
{
    struct fixture *f = *state;
    static const struct turn script[] = {{"", "220 hi\r\n"},
        {"EHLO", "250-mx.example.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n"},
        {"MAIL FROM:<bob@example.test> BODY=8BITMIME", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"},
        {"RCPT", "550 5.1.1 no such user\r\n"}, {"DATA", "354 go\r\n"}, {".", "250 ok\r\n"}, {0}};
    deliver(f, script, &two);
    assert_int_equal(f->server.most_pending, 4);
    assert_int_equal(f->outcomes[0].status, DELIVERED);
    assert_int_equal(f->outcomes[1].status, FAILED);
    assert_true(slice_is(f->outcomes[1].dsn, "5.1.1"));
    assert_true(said(f, 1, "550 5.1.1 no such user (in reply to RCPT TO)"));
}

static void test_dsn_parameters_are_passed_on(void **state)
{
    struct fixture *f = *state;
    static const struct turn script[] = {{"", "220 hi\r\n"},
        {"EHLO", "250-mx\r\n250-SIZE 9999\r\n250 DSN\r\n"}, {"MAIL", "250 ok\r\n"},
        {"RCPT", "250 ok\r\n"}, {"DATA", "354 go\r\n"}, {".", "250 ok\r\n"}, {0}};
    struct message m = {.recipients = {"a@x.test"},
        .body = BODY,
        .notify = NOTIFY_SUCCESS | NOTIFY_FAILURE,
        .orcpt = "rfc822;a+b@y.test",
        .ret = RET_HDRS,
        .envid = "e=1"};
    deliver(f, script, &m);
    assert_true(commanded(&f->server, "MAIL FROM:<bob@example.test> SIZE=26 RET=HDRS ENVID=e+3D1"));
    assert_true(commanded(
        &f->server, "RCPT TO:<a@x.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+2Bb@y.test"));
    assert_int_equal(f->outcomes[0].status, DELIVERED);
}

static void test_a_server_without_dsn_ends_the_trail(void **state)
{
    struct fixture *f = *state;
    static const struct turn script[] = {HELLO, {"MAIL", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"},
        {"DATA", "354 go\r\n"}, {".", "250 ok\r\n"}, {0}};
    struct message m = one;
    m.notify = NOTIFY_SUCCESS;
    deliver(f, script, &m);
    assert_int_equal(f->outcomes[0].status, RELAYED_NO_DSN);
}

static void test_helo_after_ehlo_is_refused(void **state)
{
    struct fixture *f = *state;
    static const struct turn script[] = {{"", "220 hi\r\n"}, {"EHLO", "502 what\r\n"},
        {"HELO us.example.test", "250 hello\r\n"}, {"MAIL", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"},
        {"DATA", "354 go\r\n"}, {".", "250 ok\r\n"}, {0}};
    deliver(f, script, &one);
    assert_int_equal(f->outcomes[0].status, DELIVERED);
}

static void test_connection_is_kept_for_the_next_message_then_quits(void **state)
{
    struct fixture *f = *state;
    static const struct turn script[] = {HELLO, {"MAIL", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"},
        {"DATA", "354 go\r\n"}, {".", "250 ok\r\n"}, {"MAIL", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"},
        {"DATA", "354 go\r\n"}, {".", "250 second\r\n"}, {"QUIT", "221 bye\r\n"}, {0}};
    deliver(f, script, &one);
    send_message(f, &one);
    run(f);
    assert_int_equal(f->server.connections, 1);
    assert_true(said(f, 0, "250 second"));
    loop_advance(f->daemon.loop, 5001);
    run(f);
    assert_true(commanded(&f->server, "QUIT"));
}

static void test_idle_connection_closed_by_the_server_costs_nothing(void **state)
{
    struct fixture *f = *state;
    static const struct turn script[] = {HELLO, {"MAIL", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"},
        {"DATA", "354 go\r\n"}, {".", "250 ok\r\n"}, {"MAIL", NULL}, {0}};
    deliver(f, script, &one);
    send_message(f, &one);
    run(f);
    assert_int_equal(f->server.connections, 2);
    assert_int_equal(f->outcomes[0].status, DELIVERED);
}

static void test_a_host_whose_idle_connection_was_gone_is_not_looked_up_again(void **state)
{
    struct fixture *f = *state;
    static const struct turn script[] = {HELLO, {"MAIL", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"},
        {"DATA", "354 go\r\n"}, {".", "250 ok\r\n"}, {"MAIL", NULL}, {0}};
    name_server(f);
    snprintf(f->nexthop, sizeof(f->nexthop), "one.test:%u", f->server.port);
    deliver(f, script, &one);
    snprintf(f->nexthop, sizeof(f->nexthop), "two.test:%u", f->server.port);
    send_message(f, &one);
    run(f);
    assert_int_equal(f->server.connections, 2);
    assert_int_equal(f->outcomes[0].status, DELIVERED);
    assert_int_equal(f->questions, 6);
}

static void test_large_body_comes_from_the_descriptor_up_to_its_size(void **state)
{
    struct fixture *f = *state;
    static const struct turn script[] = {HELLO, {"MAIL", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"},
        {"DATA", "354 go\r\n"}, {".", "250 ok\r\n"}, {0}};
    int fd = memfd_create("body", 0);
    for (int i = 0; i < 40000; i++)
        assert_int_equal(write(fd, "0123456789abcdef0123456789abcd\r\n", 32), 32);
    assert_int_equal(write(fd, "RECORDS BEHIND THE BODY\r\n", 25), 25);
    struct message m = {.recipients = {"a@x.test"}, .fd = fd, .size = 40000 * 32};
    deliver(f, script, &m);
    close(fd);
    assert_int_equal(f->outcomes[0].status, DELIVERED);
    assert_int_equal(buf_len(&f->server.data), 40000 * 32);
}

static void test_lmtp_has_a_reply_for_every_recipient(void **state)
{
    struct fixture *f = *state;
    static const struct turn script[] = {{"", "220 hi\r\n"},
        {"LHLO us.example.test", "250-mx\r\n250 PIPELINING\r\n"}, {"MAIL", "250 ok\r\n"},
        {"RCPT", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"}, {"DATA", "354 go\r\n"},
        {".", "250 2.0.0 stored\r\n452 4.2.2 mailbox full\r\n"}, {0}};
    snprintf(f->nexthop, sizeof(f->nexthop), "lmtp:[127.0.0.1]:%u", f->server.port);
    deliver(f, script, &two);
    assert_int_equal(f->outcomes[0].status, DELIVERED);
    assert_int_equal(f->outcomes[1].status, DEFERRED);
    assert_true(slice_is(f->outcomes[1].dsn, "4.2.2"));
}

/* --- refusals ------------------------------------------------------------------------------ */

static void test_all_recipients_refused_under_pipelining_sends_only_a_dot(void **state)
{
    struct fixture *f = *state;
    static const struct turn script[] = {{"", "220 hi\r\n"},
        {"EHLO", "250-mx\r\n250 PIPELINING\r\n"}, {"MAIL", "250 ok\r\n"},
        {"RCPT", "450 4.2.1 later\r\n"}, {"DATA", "354 go on\r\n"}, {".", "554 no recipients\r\n"},
        {"RSET", "250 ok\r\n"}, {0}};
    deliver(f, script, &one);
    assert_int_equal(buf_len(&f->server.data), 0);
    assert_int_equal(f->outcomes[0].status, DEFERRED);
    assert_false(f->outcomes[0].site);
    assert_true(slice_is(f->outcomes[0].dsn, "4.2.1"));
}

static void test_refused_mail_counts_for_all_and_resets(void **state)
{
    struct fixture *f = *state;
    static const struct turn script[] = {
        HELLO, {"MAIL", "550 5.7.1 not you\r\n"}, {"RSET", "250 ok\r\n"}, {0}};
    deliver(f, script, &two);
    assert_int_equal(f->outcomes[0].status, FAILED);
    assert_int_equal(f->outcomes[1].status, FAILED);
    assert_true(said(f, 1, "in reply to MAIL FROM"));
    assert_true(commanded(&f->server, "RSET"));
}

static void test_552_to_rcpt_is_temporary(void **state)
{
    struct fixture *f = *state;
    static const struct turn script[] = {HELLO, {"MAIL", "250 ok\r\n"},
        {"RCPT", "552 too many recipients\r\n"}, {"RSET", "250 ok\r\n"}, {0}};
    deliver(f, script, &one);
    assert_int_equal(f->outcomes[0].status, DEFERRED);
}

static void test_a_yes_to_another_question_defers_and_has_no_status_of_success(void **state)
{
    struct fixture *f = *state;
    static const struct turn data[] = {HELLO, {"MAIL", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"},
        {"DATA", "250 2.0.0 what\r\n"}, {"RSET", "250 ok\r\n"}, {0}};
    deliver(f, data, &one);
    assert_int_equal(f->outcomes[0].status, DEFERRED);
    assert_true(slice_is(f->outcomes[0].dsn, "4.5.0"));
}

static void test_refused_end_of_data_fails_accepted_recipients(void **state)
{
    struct fixture *f = *state;
    static const struct turn script[] = {HELLO, {"MAIL", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"},
        {"DATA", "354 go\r\n"}, {".", "554 5.6.0 no\r\n"}, {"RSET", "250 ok\r\n"}, {0}};
    deliver(f, script, &one);
    assert_int_equal(f->outcomes[0].status, FAILED);
    assert_true(slice_is(f->outcomes[0].dsn, "5.6.0"));
}

static void test_message_over_the_announced_size_is_not_sent(void **state)
{
    struct fixture *f = *state;
    static const struct turn script[] = {
        {"", "220 hi\r\n"}, {"EHLO", "250-mx\r\n250 SIZE 10\r\n"}, {0}};
    deliver(f, script, &one);
    assert_int_equal(f->outcomes[0].status, FAILED);
    assert_true(slice_is(f->outcomes[0].dsn, "5.3.4"));
    assert_false(commanded(&f->server, "DATA"));
}

static void test_utf8_address_needs_smtputf8(void **state)
{
    struct fixture *f = *state;
    static const struct turn script[] = {HELLO, {0}};
    struct message m = {.recipients = {"j\303\266rg@x.test"}, .body = BODY};
    deliver(f, script, &m);
    assert_int_equal(f->outcomes[0].status, FAILED);
    assert_true(slice_is(f->outcomes[0].dsn, "5.6.7"));
}

static const struct turn utf8_server[] = {{"", "220 hi\r\n"},
    {"EHLO", "250-mx\r\n250-8BITMIME\r\n250-DSN\r\n250-MT-PRIORITY\r\n250 SMTPUTF8\r\n"},
    {"MAIL", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"}, {"DATA", "354 go\r\n"}, {".", "250 ok\r\n"},
    {0}};
static const struct turn plain_server[] = {HELLO, {"MAIL", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"},
    {"DATA", "354 go\r\n"}, {".", "250 ok\r\n"}, {0}};

static void test_utf8_addresses_go_with_smtputf8(void **state)
{
    struct fixture *f = *state;
    struct message m = {
        .recipients = {"j\303\266rg@x.test"}, .body = BODY, .orcpt = "utf-8;j\303\266rg@y.test"};
    deliver(f, utf8_server, &m);
    assert_int_equal(f->outcomes[0].status, DELIVERED);
    assert_true(commanded(&f->server, "MAIL FROM:<bob@example.test> BODY=8BITMIME SMTPUTF8"));
    assert_true(
        commanded(&f->server, "RCPT TO:<j\303\266rg@x.test> ORCPT=utf-8;j\303\266rg@y.test"));
}

static void test_what_is_ascii_after_all_goes_without_smtputf8(void **state)
{
    struct fixture *f = *state;
    struct message m = {.recipients = {"a@x.test"}, .body = BODY, .smtputf8 = true};
    deliver(f, plain_server, &m);
    assert_int_equal(f->outcomes[0].status, DELIVERED);
    assert_true(commanded(&f->server, "MAIL FROM:<bob@example.test>"));
}

static void test_a_utf8_header_needs_smtputf8(void **state)
{
    struct fixture *f = *state;
    struct message m = {
        .recipients = {"a@x.test"}, .body = BODY, .smtputf8 = true, .utf8_header = true};
    deliver(f, plain_server, &m);
    assert_int_equal(f->outcomes[0].status, FAILED);
    assert_true(slice_is(f->outcomes[0].dsn, "5.6.7"));
}

static void test_priority_is_passed_on_where_it_is_known(void **state)
{
    struct fixture *f = *state;
    struct message m = one;
    m.priority = -4;
    deliver(f, utf8_server, &m);
    assert_true(commanded(&f->server, "MAIL FROM:<bob@example.test> BODY=8BITMIME MT-PRIORITY=-4"));
}

/* --- hosts that cannot be used ------------------------------------------------------------- */

static void test_refused_connection_defers_as_site(void **state)
{
    struct fixture *f = *state;
    close(f->server.listener);
    f->server.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0); /* not listening */
    static const struct turn script[] = {{0}};
    deliver(f, script, &one);
    assert_int_equal(f->outcomes[0].status, DEFERRED);
    assert_true(f->outcomes[0].site);
    assert_true(slice_is(f->outcomes[0].dsn, "4.4.1"));
    assert_true(said(f, 0, "Connection refused"));
}

static void test_greeting_of_refusal_defers_as_site(void **state)
{
    struct fixture *f = *state;
    static const struct turn script[] = {{"", "554 5.3.2 go away\r\n"}, {0}};
    deliver(f, script, &one);
    assert_int_equal(f->outcomes[0].status, DEFERRED);
    assert_true(f->outcomes[0].site);
    assert_true(said(f, 0, "554 5.3.2 go away (in reply to greeting)"));
}

static void test_disconnect_at_each_step_before_the_dot_defers_as_site(void **state)
{
    struct fixture *f = *state;
    static const struct turn full[] = {{"", "220 hi\r\n"}, {"EHLO", "250 mx\r\n"},
        {"MAIL", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"}, {"DATA", "354 go\r\n"}};
    for (size_t cut = 0; cut < ARRAY_LEN(full); cut++) {
        struct turn script[ARRAY_LEN(full) + 1] = {0};
        memcpy(script, full, sizeof(full));
        script[cut].reply = NULL;
        deliver(f, script, &one);
        assert_int_equal(f->outcomes[0].status, DEFERRED);
        assert_true(f->outcomes[0].site);
        assert_true(said(f, 0, "lost connection with 127.0.0.1[127.0.0.1]"));
    }
}

static void test_disconnect_after_the_dot_says_it_may_have_been_taken(void **state)
{
    struct fixture *f = *state;
    static const struct turn script[] = {HELLO, {"MAIL", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"},
        {"DATA", "354 go\r\n"}, {".", NULL}, {0}};
    deliver(f, script, &one);
    assert_int_equal(f->outcomes[0].status, DEFERRED);
    assert_false(f->outcomes[0].site);
    assert_true(said(f, 0, "may have been taken"));
    assert_int_equal(f->server.connections, 1);
}

static void test_421_defers_as_site(void **state)
{
    struct fixture *f = *state;
    static const struct turn script[] = {HELLO, {"MAIL", "421 4.7.0 slow down\r\n"}, {0}};
    deliver(f, script, &one);
    assert_int_equal(f->outcomes[0].status, DEFERRED);
    assert_true(f->outcomes[0].site);
    assert_true(said(f, 0, "421 4.7.0 slow down"));
}

static void test_silence_times_out(void **state)
{
    struct fixture *f = *state;
    static const struct turn script[] = {{"", ""}, {0}};
    f->server.script = script;
    send_message(f, &one);
    run(f);
    assert_false(f->done);
    loop_advance(f->daemon.loop, 60001);
    run(f);
    assert_true(f->done);
    assert_true(said(f, 0, "no reply to greeting in time"));
}

static void test_drops_of_a_reply_do_not_put_the_timeout_off(void **state)
{
    struct fixture *f = *state;
    static const struct turn script[] = {{"", ""}, {0}};
    f->server.script = script;
    send_message(f, &one);
    run(f);
    for (int i = 0; i < 7 && !f->done; i++) {
        assert_true(write(f->server.fd, "220-x\r\n", 7) == 7);
        loop_advance(f->daemon.loop, 10000);
        loop_poll(f->daemon.loop);
    }
    run(f);
    assert_true(f->done);
}

static void hostile_greeting(struct fixture *f, const char *bytes, size_t repeat)
{
    static const struct turn script[] = {{"", ""}, {0}};
    f->server.script = script;
    send_message(f, &one);
    run(f);
    for (size_t i = 0; i < repeat; i++)
        if (write(f->server.fd, bytes, strlen(bytes)) < 0)
            break;
    run(f);
    assert_true(f->done);
    assert_int_equal(f->outcomes[0].status, DEFERRED);
    assert_true(f->outcomes[0].site);
}

static void test_garbage_floods_and_endless_lines_end_the_connection(void **state)
{
    struct fixture *f = *state;
    hostile_greeting(f, "SSH-2.0-OpenSSH\r\n", 1);
    hostile_greeting(f, "220-more\r\n", 5000);
    hostile_greeting(f, "220 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 1000);
    hostile_greeting(f, "220-a\r\n250 b\r\n", 1);
}

static void test_replies_out_of_turn_end_the_connection(void **state)
{
    struct fixture *f = *state;
    static const struct turn script[] = {HELLO, {"MAIL", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"},
        {"DATA", "354 go\r\n"}, {".", "250 ok\r\n250 surplus\r\n"}, {0}};
    deliver(f, script, &one);
    assert_int_equal(f->outcomes[0].status, DELIVERED);
    deliver(f, script, &one);
    assert_int_equal(f->outcomes[0].status, DELIVERED);
    assert_int_equal(f->server.connections, 2);
}

static void test_tls_required_but_not_offered_defers(void **state)
{
    struct fixture *f = *state;
    static const struct turn script[] = {HELLO, {0}};
    f->remote->settings.tls = TLS_REQUIRED;
    deliver(f, script, &one);
    assert_int_equal(f->outcomes[0].status, DEFERRED);
    assert_true(slice_is(f->outcomes[0].dsn, "4.7.4"));
}

/* The handshake meets a line of text: the second connection does without TLS. */
static void test_failed_handshake_falls_back_to_plain(void **state)
{
    struct fixture *f = *state;
    static const struct turn broken[] = {{"", "220 hi\r\n"}, {"EHLO", "250-mx\r\n250 STARTTLS\r\n"},
        {"STARTTLS", "220 go\r\n"}, {0}};
    static const struct turn plain[] = {{"", "220 hi\r\n"}, {"EHLO", "250-mx\r\n250 STARTTLS\r\n"},
        {"MAIL", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"}, {"DATA", "354 go\r\n"}, {".", "250 ok\r\n"},
        {0}};
    f->server.script = broken;
    f->server.garble = true;
    send_message(f, &one);
    for (int i = 0; i < 200 && f->server.connections < 2; i++) {
        loop_poll(f->daemon.loop);
        if (commanded(&f->server, "STARTTLS"))
            f->server.script = plain;
        server_run(&f->server);
    }
    f->server.unexpected = 0; /* what the handshake looks like */
    run(f);
    assert_true(f->done);
    assert_int_equal(f->server.connections, 2);
    assert_int_equal(f->outcomes[0].status, DELIVERED);
}

static void test_failed_handshake_defers_when_tls_is_required(void **state)
{
    struct fixture *f = *state;
    static const struct turn script[] = {{"", "220 hi\r\n"}, {"EHLO", "250-mx\r\n250 STARTTLS\r\n"},
        {"STARTTLS", "220 go\r\n"}, {0}};
    f->remote->settings.tls = TLS_REQUIRED;
    f->server.garble = true;
    deliver(f, script, &one);
    assert_int_equal(f->outcomes[0].status, DEFERRED);
    assert_true(slice_is(f->outcomes[0].dsn, "4.7.5"));
    f->server.unexpected = 0; /* what the handshake looks like */
}

static void test_a_bad_next_hop_fails(void **state)
{
    struct fixture *f = *state;
    static const struct turn script[] = {{0}};
    snprintf(f->nexthop, sizeof(f->nexthop), "not a host");
    deliver(f, script, &one);
    assert_int_equal(f->outcomes[0].status, FAILED);
    assert_true(slice_is(f->outcomes[0].dsn, "5.4.4"));
}

static void test_a_server_that_never_answers_rset_is_left(void **state)
{
    struct fixture *f = *state;
    static const struct turn script[] = {
        HELLO, {"MAIL", "550 no\r\n"}, {"RSET", ""}, {"QUIT", ""}, {0}};
    deliver(f, script, &one);
    assert_int_equal(f->outcomes[0].status, FAILED);
    loop_advance(f->daemon.loop, 60001);
    run(f);
    assert_int_equal(f->server.fd, -1);
}

static void test_qmgr_gone_drops_its_work(void **state)
{
    struct fixture *f = *state;
    static const struct turn script[] = {{"", ""}, {0}};
    f->server.script = script;
    send_message(f, &one);
    run(f);
    assert_int_equal(f->remote->active, 1);
    remote_peer_down(&f->peer);
    assert_int_equal(f->remote->active, 0);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        TEST(test_message_arrives_with_dots_doubled_on_the_wire),
        TEST(test_commands_leave_in_one_group_with_pipelining),
        TEST(test_dsn_parameters_are_passed_on),
        TEST(test_a_server_without_dsn_ends_the_trail),
        TEST(test_helo_after_ehlo_is_refused),
        TEST(test_connection_is_kept_for_the_next_message_then_quits),
        TEST(test_idle_connection_closed_by_the_server_costs_nothing),
        TEST(test_a_host_whose_idle_connection_was_gone_is_not_looked_up_again),
        TEST(test_large_body_comes_from_the_descriptor_up_to_its_size),
        TEST(test_lmtp_has_a_reply_for_every_recipient),
        TEST(test_all_recipients_refused_under_pipelining_sends_only_a_dot),
        TEST(test_refused_mail_counts_for_all_and_resets),
        TEST(test_552_to_rcpt_is_temporary),
        TEST(test_a_yes_to_another_question_defers_and_has_no_status_of_success),
        TEST(test_refused_end_of_data_fails_accepted_recipients),
        TEST(test_message_over_the_announced_size_is_not_sent),
        TEST(test_utf8_address_needs_smtputf8),
        TEST(test_utf8_addresses_go_with_smtputf8),
        TEST(test_what_is_ascii_after_all_goes_without_smtputf8),
        TEST(test_a_utf8_header_needs_smtputf8),
        TEST(test_priority_is_passed_on_where_it_is_known),
        TEST(test_refused_connection_defers_as_site),
        TEST(test_greeting_of_refusal_defers_as_site),
        TEST(test_disconnect_at_each_step_before_the_dot_defers_as_site),
        TEST(test_disconnect_after_the_dot_says_it_may_have_been_taken),
        TEST(test_421_defers_as_site),
        TEST(test_silence_times_out),
        TEST(test_drops_of_a_reply_do_not_put_the_timeout_off),
        TEST(test_garbage_floods_and_endless_lines_end_the_connection),
        TEST(test_replies_out_of_turn_end_the_connection),
        TEST(test_tls_required_but_not_offered_defers),
        TEST(test_failed_handshake_falls_back_to_plain),
        TEST(test_failed_handshake_defers_when_tls_is_required),
        TEST(test_a_bad_next_hop_fails),
        TEST(test_a_server_that_never_answers_rset_is_left),
        TEST(test_qmgr_gone_drops_its_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
