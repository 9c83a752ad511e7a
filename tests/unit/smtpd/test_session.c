/* Sessions on a fake loop: the test is the client, lookupd, qmgr and authd. */
#include "libmail/proto/auth.h"
#include "libmail/proto/inject.h"
#include "libmail/proto/route.h"
#include "smtpd/session.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
    struct daemon daemon;
    struct server server;
    struct service service;
    struct peer peers[3];
    struct ipc *others[3];
    int client; /* our end of the connection */
    struct buf replies;
    /* what qmgr got */
    struct buf envelope, recipients, body;
    unsigned accepts, drops, opens, mores;
    int body_file;
    /* how the others behave */
    unsigned qmgr_code;
    bool qmgr_silent, lookup_silent, no_file;
    uint32_t held; /* request of a silent one */
    struct buf password;
};

static struct fixture f;

/* --- the others --------------------------------------------------------------------------------
 */

static void put_recipient(struct buf *b, struct slice address)
{
    struct recipient r = {
        .address = address, .transport = SLICE_LIT("virtual"), .nexthop = address};
    assert_int_equal(record_put(b, &recipient_record, &r), OK);
}

static void lookupd(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    (void)arg;
    const struct route_check *c = in->msg;
    struct route_verdict v = {.code = 250};
    struct buf packed;
    buf_init(&packed, 60000);
    if (f.lookup_silent) {
        f.held = in->id;
        return;
    }
    if (slice_starts(c->address, "many")) {
        for (int i = 0; i < 400; i++) {
            char text[64];
            snprintf(
                text, sizeof(text), "%.*s-%d@lists.test", SLICE_FMT(slice_first(c->address, 6)), i);
            put_recipient(&packed, slice_of(text));
        }
    } else if (slice_starts(c->address, "nobody")) {
        v = (struct route_verdict){.code = 550,
            .dsn = SLICE_LIT("5.1.1"),
            .text = SLICE_LIT("No such\r\nuser"),
            .rule = SLICE_LIT("unknown-user")};
    } else if (slice_ends(c->address, "example.test") || c->may_relay) {
        put_recipient(&packed, c->address);
    } else {
        v = (struct route_verdict){.code = 554,
            .dsn = SLICE_LIT("5.7.1"),
            .text = SLICE_LIT("Relay denied"),
            .rule = SLICE_LIT("relay")};
    }
    v.recipients = buf_slice(&packed);
    ipc_reply(ipc, in->id, 0, route_verdict_type, &v, -1);
    buf_clear(&packed);
}

static void accept_message(struct ipc *ipc, struct ipc_in *in)
{
    const struct inject_accept *a = in->msg;
    struct inject_result r = {.code = f.qmgr_code,
        .dsn = SLICE_LIT("4.3.1"),
        .text = SLICE_LIT("Disk full"),
        .qid = a->qid};
    f.accepts++;
    buf_reset(&f.envelope);
    buf_reset(&f.body);
    buf_put(&f.envelope, a->envelope);
    buf_put(&f.recipients, a->recipients);
    if (f.body_file >= 0 && a->body.n == 0) {
        char *p = mmap(NULL, a->size, PROT_READ, MAP_SHARED, f.body_file, 0);
        assert_ptr_not_equal(p, MAP_FAILED);
        buf_put(&f.body, slice_from(p, a->size));
        munmap(p, a->size);
    } else {
        assert_int_equal(a->size, a->body.n);
        buf_put(&f.body, a->body);
    }
    if (f.qmgr_silent)
        f.held = in->id;
    else
        ipc_reply(ipc, in->id, 0, inject_result_type, &r, -1);
}

static void qmgr(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    (void)arg;
    if (in->type == inject_accept_type) {
        accept_message(ipc, in);
    } else if (in->type == inject_open_type) {
        struct inject_file r = {.code = f.no_file ? 452 : 250};
        f.opens++;
        f.body_file = memfd_create("body", 0);
        ipc_reply(ipc, in->id, 0, inject_file_type, &r, f.no_file ? -1 : f.body_file);
    } else if (in->type == inject_more_type) {
        const struct inject_more *m = in->msg;
        f.mores++;
        buf_put(&f.recipients, m->recipients);
    } else {
        f.drops++;
    }
}

static void authd(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    (void)arg;
    const struct auth_login *l = in->msg;
    bool good = slice_is(l->user, "alice@example.test") && slice_is(l->password, "secret");
    struct auth_verdict v = {.code = good                        ? AUTH_OK
                                     : slice_is(l->user, "temp") ? AUTH_TEMPORARY
                                                                 : AUTH_FAILED,
        .user = l->user};
    ipc_reply(ipc, in->id, 0, auth_verdict_type, &v, -1);
}

static void connect_to(size_t i, enum conversation conv, const struct ipc_proto *proto,
    void (*fn)(struct ipc *, struct ipc_in *, void *))
{
    static struct ipc_ops ops[3];
    static const struct ipc_ops quiet;
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fds), 0);
    ops[i] = (struct ipc_ops){.on_message = fn};
    f.peers[i] = (struct peer){.daemon = &f.daemon,
        .conv = conv,
        .side = IPC_CLIENT,
        .ipc = ipc_new(f.daemon.loop, fds[0], proto, IPC_CLIENT, &quiet, NULL)};
    f.others[i] = ipc_new(f.daemon.loop, fds[1], proto, IPC_SERVER, &ops[i], NULL);
    list_append(&f.daemon.peers, &f.peers[i].link);
}

/* --- the client --------------------------------------------------------------------------------
 */

static void spin(void)
{
    char text[65536];
    for (int i = 0; i < 30; i++) {
        ssize_t n;
        loop_poll(f.daemon.loop);
        while (f.client >= 0 && (n = recv(f.client, text, sizeof(text), MSG_DONTWAIT)) > 0)
            buf_put(&f.replies, slice_from(text, (size_t)n));
    }
}

static void send_bytes(struct slice s)
{
    while (s.n) {
        ssize_t n = send(f.client, s.p, s.n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0)
            s = slice_from_index(s, (size_t)n);
        spin();
    }
    spin();
}

static void say(const char *text)
{
    send_bytes(slice_of(text));
}

/* The codes of all replies since the last call: "250 354"; continuation lines do not count. */
static void expect(const char *codes)
{
    struct slice rest = buf_slice(&f.replies);
    struct buf seen;
    buf_init(&seen, 65536);
    while (rest.n) {
        struct slice line = slice_cut(&rest, '\n');
        if (line.n > 3 && line.p[3] == ' ')
            buf_printf(&seen, "%s%.3s", buf_len(&seen) ? " " : "", line.p);
    }
    buf_putc(&seen, '\0');
    if (strcmp(buf_slice(&seen).p, codes) != 0)
        fail_msg("expected %s, got:\n%.*s", codes, SLICE_FMT(buf_slice(&f.replies)));
    buf_clear(&seen);
    buf_reset(&f.replies);
}

static bool reply_has(const char *text)
{
    return slice_find(buf_slice(&f.replies), slice_of(text)) >= 0;
}

static bool body_has(const char *text)
{
    return slice_find(buf_slice(&f.body), slice_of(text)) >= 0;
}

static bool ended(void)
{
    char c;
    spin();
    return recv(f.client, &c, 1, MSG_DONTWAIT) == 0;
}

static void connect_client(const char *protocol, const char *address)
{
    int fds[2];
    snprintf(f.service.name, sizeof(f.service.name), "%s", protocol);
    f.service.server = &f.server;
    service_settings(&f.service, f.daemon.conf, protocol);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    f.client = fds[1];
    f.service.sessions++;
    f.server.nsessions++;
    bool local = strcmp(protocol, "submit") == 0;
    session_new(&f.service, fds[0], slice_of(address), local ? 1000 : -1);
    spin();
}

static void hello(void)
{
    connect_client("smtp", "127.0.0.1");
    say("EHLO client.test\r\n");
    expect("220 250");
}

static void envelope(void)
{
    say("MAIL FROM:<s@else.test>\r\nRCPT TO:<alice@example.test>\r\n");
    expect("250 250");
}

static int setup(void **state)
{
    (void)state;
    static const char conf[] = "hostname mx.example.test\n"
                               "networks 192.0.2.0/24\nmessage-size 200K\n"
                               "listen smtp { on 127.0.0.1:25; max-errors 10; timeout 60s;\n"
                               "  max-recipients 5 }\n"
                               "listen submission { on 127.0.0.1:587; auth required }\n"
                               "listen lmtp { on 127.0.0.1:24 }\n";
    struct error err = {0};
    memset(&f, 0, sizeof(f));
    log_setup("test", LOG_ERROR);
    list_init(&f.daemon.peers);
    f.daemon.loop = loop_new_fake(1000000);
    f.daemon.conf = conf_parse("test", slice_of(conf), &conf_root_schema, NULL, &err);
    if (!f.daemon.conf)
        fail_msg("%s", err.text);
    assert_int_equal(server_settings(&f.server, &f.daemon, &err), OK);
    buf_init(&f.replies, 1 << 20);
    buf_init(&f.envelope, 1 << 20);
    buf_init(&f.recipients, 1 << 20);
    buf_init(&f.body, 1 << 20);
    f.qmgr_code = 250;
    f.body_file = f.client = -1;
    connect_to(0, CONV_ROUTE, &route_proto, lookupd);
    connect_to(1, CONV_INJECT, &inject_proto, qmgr);
    connect_to(2, CONV_AUTH, &auth_proto, authd);
    spin();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fd_close(&f.client);
    spin();
    for (size_t i = 0; i < 3; i++) {
        if (f.peers[i].ipc)
            ipc_free(f.peers[i].ipc);
        if (f.others[i])
            ipc_free(f.others[i]);
    }
    spin();
    assert_int_equal(f.server.nsessions, 0);
    fd_close(&f.body_file);
    buf_clear(&f.replies);
    buf_clear(&f.envelope);
    buf_clear(&f.recipients);
    buf_clear(&f.body);
    free(f.server.networks);
    map_clear(&f.server.clients);
    conf_free(f.daemon.conf);
    loop_free(f.daemon.loop);
    return 0;
}

/* --- the dialogue ------------------------------------------------------------------------------
 */

static void test_greeting_and_ehlo(void **state)
{
    (void)state;
    connect_client("smtp", "198.51.100.1");
    assert_true(reply_has("220 mx.example.test ESMTP Veredus\r\n"));
    say("EHLO x\r\n");
    assert_true(reply_has("250-SIZE 204800\r\n"));
    assert_true(reply_has("250-PIPELINING\r\n"));
    assert_false(reply_has("AUTH"));
    assert_false(reply_has("STARTTLS")); /* no certificate */
    expect("220 250");
}

static void test_a_message_reaches_qmgr_with_envelope_and_received(void **state)
{
    (void)state;
    hello();
    say("MAIL FROM:<s@Else.test> BODY=8BITMIME RET=HDRS ENVID=e1\r\n"
        "RCPT TO:<alice@example.test> NOTIFY=DELAY ORCPT=rfc822;a@b\r\nDATA\r\n");
    expect("250 250 354");
    say("Subject: x\r\nMessage-ID: <m@x>\r\n\r\n..dot\r\n.\r\nQUIT\r\n");
    assert_true(reply_has("250 2.0.0 Ok: queued as "));
    expect("250 221");
    assert_true(ended());
    struct envelope e;
    struct recipient r;
    struct reader reader = reader_of(buf_slice(&f.envelope));
    assert_int_equal(record_get(&reader, &envelope_record, &e), OK);
    assert_true(slice_is(e.sender, "s@else.test"));
    assert_true(slice_is(e.envid, "e1") && e.ret == RET_HDRS && e.body == BODY_8BITMIME);
    assert_true(slice_is(e.message_id, "<m@x>") && slice_is(e.helo, "client.test"));
    reader = reader_of(buf_slice(&f.recipients));
    assert_int_equal(record_get(&reader, &recipient_record, &r), OK);
    assert_true(slice_is(r.address, "alice@example.test") && r.notify == NOTIFY_DELAY);
    assert_true(slice_is(r.orcpt, "rfc822;a@b") && slice_is(r.original, "alice@example.test"));
    assert_true(slice_starts(buf_slice(&f.body),
        "Received: from client.test (localhost [127.0.0.1])\r\n\tby mx.example.test (Veredus) with "
        "ESMTP id "));
    assert_true(body_has("\r\n\tfor <alice@example.test>;\r\n\t"));
    assert_true(
        slice_ends(buf_slice(&f.body), "\r\nSubject: x\r\nMessage-ID: <m@x>\r\n\r\n.dot\r\n"));
    assert_false(body_has("Date:"));
}

static void test_pipelined_replies_come_in_order(void **state)
{
    (void)state;
    hello();
    say("MAIL FROM:<s@else.test>\r\nRCPT TO:<nobody@example.test>\r\nRCPT "
        "TO:<alice@example.test>\r\n"
        "NOOP\r\nRCPT TO:<x@far.test>\r\nFROB\r\nRSET\r\nQUIT\r\n");
    expect("250 550 250 250 554 500 250 221");
}

static void test_a_whole_session_in_one_write(void **state)
{
    (void)state;
    connect_client("smtp", "127.0.0.1");
    say("EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\nSubject: "
        "a\r\n\r\nb\r\n.\r\n"
        "MAIL FROM:<>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\nc\r\n.\r\nQUIT\r\n");
    expect("220 250 250 250 354 250 250 250 354 250 221");
    assert_int_equal(f.accepts, 2);
}

static void test_byte_by_byte_is_the_same(void **state)
{
    (void)state;
    static const char text[] = "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n"
                               "Subject: a\r\n\r\n..\r\n.\r\nQUIT\r\n";
    connect_client("smtp", "127.0.0.1");
    for (size_t i = 0; i < sizeof(text) - 1; i++)
        send_bytes(slice_from(text + i, 1));
    expect("220 250 250 250 354 250 221");
    assert_true(slice_ends(buf_slice(&f.body), "\r\n\r\n.\r\n"));
}

static void test_replies_of_others_cannot_break_the_dialogue(void **state)
{
    (void)state;
    hello();
    say("MAIL FROM:<s@else.test>\r\nRCPT TO:<nobody@example.test>\r\n");
    assert_true(reply_has("550 5.1.1 No such  user\r\n"));
}

/* --- order of commands -------------------------------------------------------------------------
 */

static void test_mail_before_hello_is_503(void **state)
{
    (void)state;
    connect_client("smtp", "127.0.0.1");
    say("MAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nDATA\r\nNOOP\r\nHELP\r\nVRFY x\r\n");
    expect("220 503 503 503 250 214 252");
}

static void test_rcpt_after_failed_mail_is_503(void **state)
{
    (void)state;
    hello();
    say("MAIL FROM:<a b@c>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n");
    expect("501 503 503");
}

static void test_nested_mail_is_503_and_keeps_the_first(void **state)
{
    (void)state;
    hello();
    envelope();
    say("MAIL FROM:<b@c.test>\r\nDATA\r\n");
    expect("503 354");
}

static void test_data_without_valid_recipients_is_554(void **state)
{
    (void)state;
    hello();
    say("MAIL FROM:<a@b.test>\r\nDATA\r\nRCPT TO:<nobody@example.test>\r\nDATA\r\n");
    expect("250 554 550 554");
}

static void check_reset_by(const char *command, const char *code)
{
    envelope();
    say(command);
    expect(code);
    say("RCPT TO:<alice@example.test>\r\nDATA\r\n");
    expect("503 503");
}

static void test_rset_ehlo_and_helo_forget_the_transaction(void **state)
{
    (void)state;
    hello();
    check_reset_by("RSET\r\n", "250");
    check_reset_by("HELO x\r\n", "250");
    check_reset_by("EHLO x\r\n", "250");
}

static void test_a_bad_ehlo_keeps_the_transaction(void **state)
{
    (void)state;
    hello();
    envelope();
    say("EHLO\r\nDATA\r\n");
    expect("501 354");
}

static void test_the_transaction_is_forgotten_after_every_answer_to_data(void **state)
{
    (void)state;
    hello();
    envelope();
    say("DATA\r\nx\r\n.\r\nDATA\r\nRCPT TO:<alice@example.test>\r\n");
    expect("354 250 503 503");
    f.qmgr_code = 452;
    envelope();
    say("DATA\r\nx\r\n.\r\nDATA\r\n");
    assert_true(reply_has("452 4.3.1 Disk full\r\n"));
    expect("354 452 503");
    envelope();
    say("DATA\r\nx\ny\r\n.\r\nDATA\r\n");
    expect("354 550 503");
}

static void test_arguments_where_none_belong_are_501(void **state)
{
    (void)state;
    hello();
    envelope();
    say("DATA now\r\nRSET now\r\nQUIT now\r\nDATA\r\n");
    expect("501 501 501 354");
}

static void test_helo_takes_no_esmtp_parameters(void **state)
{
    (void)state;
    connect_client("smtp", "127.0.0.1");
    say("HELO x\r\nMAIL FROM:<a@b.test> SIZE=1\r\nMAIL FROM:<a@b.test>\r\n");
    expect("220 250 555 250");
}

/* --- hostile input ------------------------------------------------------------------------------
 */

static void test_only_crlf_dot_crlf_ends_data_and_other_line_ends_are_550(void **state)
{
    (void)state;
    static const char *const ends[] = {"\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r"};
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        char text[300];
        if (i == 0)
            hello();
        envelope();
        snprintf(text, sizeof(text),
            "DATA\r\nSubject: x\r\n\r\na%sMAIL FROM:<evil@x.test>\r\nRCPT TO:<bob@example.test>\r\n"
            "DATA\r\nevil\r\n.\r\nNOOP\r\n",
            ends[i]);
        say(text);
        expect("354 550 250");
    }
    assert_int_equal(f.accepts, 0);
}

static void test_nul_in_data_is_550(void **state)
{
    (void)state;
    hello();
    envelope();
    send_bytes(SLICE_LIT("DATA\r\na\0b\r\n.\r\nNOOP\r\n"));
    expect("354 550 250");
}

static void test_bare_lf_does_not_end_a_command(void **state)
{
    (void)state;
    hello();
    say("NOOP\nNOOP\r\nNOOP\rNOOP\r\nRSET\r\n");
    expect("500 500 250");
}

static void test_nul_in_a_command_is_500(void **state)
{
    (void)state;
    hello();
    send_bytes(SLICE_LIT("NO\0OP\r\nNOOP\r\n"));
    expect("500 250");
}

static void test_an_over_long_line_is_500_once_and_the_next_is_understood(void **state)
{
    (void)state;
    char text[9000];
    hello();
    memset(text, 'x', sizeof(text));
    send_bytes(slice_from(text, sizeof(text)));
    expect("500");
    send_bytes(slice_from(text, sizeof(text)));
    say("NOOP\r\nNOOP\r\n");
    expect("250");
    memcpy(text, "NOOP ", 5);
    memcpy(text + 4000, "\r\n", 2);
    send_bytes(slice_from(text, 4002));
    expect("250");
}

static void test_a_long_line_ended_by_crlf_cut_between_reads(void **state)
{
    (void)state;
    char text[5000];
    hello();
    memset(text, 'x', sizeof(text));
    text[4999] = '\r';
    send_bytes(slice_from(text, sizeof(text)));
    say("\nNOOP\r\n");
    expect("500 250");
}

static void test_an_endless_line_ends_the_session(void **state)
{
    (void)state;
    static char text[65536];
    hello();
    memset(text, 'x', sizeof(text));
    for (int i = 0; i < 17; i++) {
        (void)!send(f.client, text, sizeof(text), MSG_DONTWAIT | MSG_NOSIGNAL);
        spin();
    }
    expect("500 421");
}

static void test_too_many_errors_are_421(void **state)
{
    (void)state;
    hello();
    say("A\r\nB\r\nC\r\nD\r\nE\r\nF\r\nG\r\nH\r\nI\r\nJ\r\nK\r\nNOOP\r\n");
    expect("500 500 500 500 500 500 500 500 500 500 421");
    assert_true(ended());
}

static void test_http_is_cut_off(void **state)
{
    (void)state;
    connect_client("smtp", "127.0.0.1");
    say("POST / HTTP/1.1\r\nHost: x\r\n\r\nEHLO x\r\n");
    expect("220 421");
    assert_true(ended());
}

static void test_a_message_over_the_limit_is_552_and_read_to_its_end(void **state)
{
    (void)state;
    static char text[70000];
    hello();
    say("MAIL FROM:<a@b.test> SIZE=204801\r\n");
    expect("552");
    envelope();
    say("DATA\r\nSubject: x\r\n\r\n");
    memset(text, 'x', sizeof(text));
    for (size_t i = 70; i + 2 < sizeof(text); i += 72)
        memcpy(text + i, "\r\n", 2);
    for (int i = 0; i < 4; i++)
        send_bytes(slice_from(text, sizeof(text)));
    say("\r\n.\r\nNOOP\r\n");
    expect("354 552 250");
    assert_int_equal(f.accepts, 0);
    assert_int_equal(f.drops, 1);
}

static void test_a_hundred_received_fields_are_a_loop(void **state)
{
    (void)state;
    hello();
    envelope();
    say("DATA\r\n");
    for (int i = 0; i < 100; i++)
        say("Received: x\r\n");
    say("\r\nx\r\n.\r\n");
    assert_true(reply_has("554 5.4.6 "));
    expect("354 554");
}

static void test_too_many_recipients_are_452(void **state)
{
    (void)state;
    hello();
    say("MAIL FROM:<>\r\n");
    for (char c = 'a'; c <= 'f'; c++) {
        char text[64];
        snprintf(text, sizeof(text), "RCPT TO:<%c@example.test>\r\n", c);
        say(text);
    }
    assert_true(reply_has("452 4.5.3 "));
    expect("250 250 250 250 250 250 452");
}

/* --- bodies and recipients beyond one record ----------------------------------------------------
 */

static void test_a_big_body_goes_to_the_lent_file(void **state)
{
    (void)state;
    static char text[72000];
    hello();
    envelope();
    memset(text, 'y', sizeof(text));
    for (size_t i = 70; i + 2 <= sizeof(text); i += 72)
        memcpy(text + i, "\r\n", 2);
    say("DATA\r\nSubject: big\r\n\r\n");
    send_bytes(slice_from(text, sizeof(text)));
    send_bytes(slice_from(text, sizeof(text)));
    say(".\r\nNOOP\r\n");
    expect("354 250 250");
    assert_int_equal(f.opens, 1);
    struct slice body = buf_slice(&f.body);
    ptrdiff_t at = slice_find(body, SLICE_LIT("\r\n\r\n"));
    assert_int_equal(body.n - (size_t)at - 4, 2 * sizeof(text));
    assert_memory_equal(body.p + at + 4, text, sizeof(text));
    assert_int_equal(f.drops, 0);
}

static void test_no_room_for_a_big_body_is_452(void **state)
{
    (void)state;
    static char text[72000];
    f.no_file = true;
    hello();
    envelope();
    memset(text, 'y', sizeof(text));
    for (size_t i = 70; i + 2 <= sizeof(text); i += 72)
        memcpy(text + i, "\r\n", 2);
    say("DATA\r\nSubject: big\r\n\r\n");
    send_bytes(slice_from(text, sizeof(text)));
    say(".\r\nNOOP\r\n");
    expect("354 452 250");
    assert_int_equal(f.accepts, 0);
}

static void test_many_recipients_travel_ahead_of_the_message(void **state)
{
    (void)state;
    hello();
    say("MAIL FROM:<>\r\nRCPT TO:<many-a@example.test>\r\nRCPT TO:<many-b@example.test>\r\n"
        "DATA\r\nx\r\n.\r\n");
    expect("250 250 250 354 250");
    assert_in_range(f.mores, 1, 9);
    struct reader reader = reader_of(buf_slice(&f.recipients));
    struct recipient r;
    unsigned count = 0;
    while (reader.rest.n && record_get(&reader, &recipient_record, &r) == OK)
        count++;
    assert_int_equal(count, 800);
}

static void test_the_same_recipient_twice_is_one(void **state)
{
    (void)state;
    hello();
    envelope();
    say("RCPT TO:<alice@EXAMPLE.test>\r\nDATA\r\nx\r\n.\r\n");
    expect("250 354 250");
    struct reader reader = reader_of(buf_slice(&f.recipients));
    struct recipient r;
    assert_int_equal(record_get(&reader, &recipient_record, &r), OK);
    assert_true(reader_done(&reader));
}

static void test_rset_lets_qmgr_drop_nothing_it_never_had(void **state)
{
    (void)state;
    hello();
    envelope();
    say("RSET\r\n");
    expect("250");
    assert_int_equal(f.drops, 0);
}

/* --- relaying, networks, the local socket, LMTP --------------------------------------------------
 */

static void test_relaying_is_refused_for_loopback_and_allowed_for_networks(void **state)
{
    (void)state;
    hello();
    say("MAIL FROM:<a@b.test>\r\nRCPT TO:<x@far.test>\r\n");
    expect("250 554");
    fd_close(&f.client);
    spin();
    connect_client("smtp", "192.0.2.77");
    say("EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<x@far.test>\r\n");
    expect("220 250 250 250");
}

static void test_a_domain_is_needed_except_for_postmaster(void **state)
{
    (void)state;
    hello();
    say("MAIL FROM:<root>\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<bob>\r\nRCPT TO:<PostMaster>\r\n");
    expect("501 250 501 250");
}

static void test_submitted_messages_are_completed(void **state)
{
    (void)state;
    connect_client("submit", "uid:1000");
    say("EHLO x\r\nMAIL FROM:<root>\r\nRCPT TO:<x@far.test>\r\nDATA\r\nTo: x\r\n\r\nx\r\n.\r\n");
    expect("220 250 250 250 354 250");
    assert_true(
        body_has("Received: by mx.example.test (Veredus, from userid 1000) with ESMTP id "));
    assert_true(body_has("\r\nDate: "));
    assert_true(body_has("\r\nMessage-ID: <"));
    assert_true(body_has("\r\nFrom: <root@mx.example.test>\r\n"));
}

static void test_text_without_a_header_does_not_become_one(void **state)
{
    (void)state;
    connect_client("submit", "uid:1000");
    say("EHLO x\r\nMAIL FROM:<root>\r\nRCPT TO:<x@far.test>\r\nDATA\r\nhello there\r\n.\r\n");
    expect("220 250 250 250 354 250");
    assert_true(slice_ends(buf_slice(&f.body), "\r\n\r\nhello there\r\n"));
}

static void test_lmtp_answers_for_each_accepted_recipient(void **state)
{
    (void)state;
    connect_client("lmtp", "127.0.0.1");
    say("EHLO x\r\nHELO x\r\nLHLO x\r\nMAIL FROM:<>\r\nDATA\r\nRCPT TO:<alice@example.test>\r\n"
        "RCPT TO:<nobody@example.test>\r\nRCPT "
        "TO:<bob@example.test>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n");
    expect("220 500 500 250 250 503 250 550 250 354 250 250 221");
    assert_true(body_has(" with LMTP id "));
}

/* --- others fail
 * ---------------------------------------------------------------------------------- */

static void lose(size_t i)
{
    ipc_free(f.others[i]);
    f.others[i] = NULL;
    f.peers[i].ipc = NULL; /* freed by its own close */
    list_remove(&f.peers[i].link);
    spin();
}

static void test_without_lookupd_rcpt_is_451(void **state)
{
    (void)state;
    hello();
    lose(0);
    say("MAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nNOOP\r\n");
    expect("250 451 250");
}

static void test_without_qmgr_the_message_is_451(void **state)
{
    (void)state;
    hello();
    envelope();
    lose(1);
    say("DATA\r\nx\r\n.\r\nNOOP\r\n");
    assert_true(reply_has("451 4.3.0 "));
    expect("354 451 250");
}

static void test_qmgr_dying_before_its_answer_is_451(void **state)
{
    (void)state;
    f.qmgr_silent = true;
    hello();
    envelope();
    say("DATA\r\nx\r\n.\r\nNOOP\r\n");
    expect("");
    lose(1);
    expect("354 451 250");
}

static void test_a_client_that_leaves_while_others_work_is_forgotten(void **state)
{
    (void)state;
    f.lookup_silent = true;
    hello();
    say("MAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\n");
    fd_close(&f.client);
    spin();
    struct route_verdict v = {.code = 550, .dsn = SLICE_LIT("5.1.1")};
    ipc_reply(f.others[0], f.held, 0, route_verdict_type, &v, -1);
    spin();
    assert_int_equal(f.server.nsessions, 0);
}

static void test_commands_wait_while_lookupd_thinks(void **state)
{
    (void)state;
    f.lookup_silent = true;
    hello();
    say("MAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nNOOP\r\n");
    expect("");
    struct route_verdict v = {.code = 451, .dsn = SLICE_LIT("4.4.3"), .text = SLICE_LIT("later")};
    ipc_reply(f.others[0], f.held, 0, route_verdict_type, &v, -1);
    spin();
    expect("250 451 250");
}

static void test_silence_is_421_after_the_timeout(void **state)
{
    (void)state;
    hello();
    loop_advance(f.daemon.loop, 59000);
    spin();
    expect("");
    loop_advance(f.daemon.loop, 2000);
    spin();
    assert_true(reply_has("421 4.4.2 "));
    expect("421");
    assert_true(ended());
}

static void test_draining_ends_idle_sessions_and_finishes_others(void **state)
{
    (void)state;
    hello();
    envelope();
    f.daemon.draining = true;
    LIST_EACH(it, &f.server.sessions)
    session_shut_down(LIST_ENTRY(it, struct session, link));
    say("DATA\r\nx\r\n.\r\n");
    expect("354 250 421");
    assert_int_equal(f.accepts, 1);
}

/* --- authentication
 * ------------------------------------------------------------------------------- */

#define GOOD "AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQ=" /* \0alice@example.test\0secret */
#define BAD "AGFsaWNlQGV4YW1wbGUudGVzdAB3cm9uZw=="  /* \0alice@example.test\0wrong */

static void submission(void)
{
    connect_client("submission", "127.0.0.1");
    say("EHLO x\r\n");
    assert_true(reply_has("250-AUTH PLAIN LOGIN\r\n"));
    expect("220 250");
}

static void test_submission_needs_login(void **state)
{
    (void)state;
    submission();
    say("MAIL FROM:<alice@example.test>\r\nAUTH PLAIN " GOOD
        "\r\nMAIL FROM:<alice@example.test>\r\n"
        "RCPT TO:<x@far.test>\r\n");
    expect("530 235 250 250");
}

static void test_auth_plain_and_login_by_challenge(void **state)
{
    (void)state;
    submission();
    say("AUTH PLAIN\r\n");
    expect("334");
    say(GOOD "\r\n");
    expect("235");
    say("AUTH PLAIN " GOOD "\r\n");
    expect("503");
    fd_close(&f.client);
    submission();
    say("AUTH LOGIN\r\nYWxpY2VAZXhhbXBsZS50ZXN0\r\n");
    assert_true(reply_has("334 VXNlcm5hbWU6\r\n334 UGFzc3dvcmQ6\r\n"));
    say("c2VjcmV0\r\n");
    expect("334 334 235");
}

static void test_auth_failures(void **state)
{
    (void)state;
    submission();
    say("AUTH PLAIN " BAD "\r\nAUTH FROB\r\nAUTH PLAIN !!\r\nAUTH PLAIN =\r\nAUTH PLAIN AAAA\r\n");
    expect("535 504 501 501 501");
    say("AUTH PLAIN\r\n*\r\nAUTH PLAIN AHRlbXAAeA==\r\nNOOP\r\n");
    expect("334 501 454 250");
    say("AUTH PLAIN " BAD "\r\nAUTH PLAIN " BAD "\r\nAUTH PLAIN " BAD "\r\nAUTH PLAIN " BAD "\r\n");
    expect("535 535 535 535 421");
}

static void test_auth_is_not_offered_on_port_25_nor_in_plaintext_from_afar(void **state)
{
    (void)state;
    hello();
    say("AUTH PLAIN " GOOD "\r\n");
    expect("502");
    fd_close(&f.client);
    connect_client("submission", "198.51.100.1");
    say("EHLO x\r\n");
    assert_false(reply_has("AUTH"));
    say("AUTH PLAIN " GOOD "\r\n");
    expect("220 250 538");
}

static void test_auth_within_a_transaction_is_503(void **state)
{
    (void)state;
    submission();
    f.service.auth = DEMAND_OPTIONAL;
    say("MAIL FROM:<a@b.test>\r\nAUTH PLAIN " GOOD "\r\n");
    expect("250 503");
}

static void test_an_over_long_answer_ends_the_exchange(void **state)
{
    (void)state;
    static char text[9000];
    submission();
    say("AUTH PLAIN\r\n");
    memset(text, 'A', sizeof(text));
    send_bytes(slice_from(text, sizeof(text)));
    say("\r\nNOOP\r\n");
    expect("334 500 250");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_greeting_and_ehlo),
        TEST(test_a_message_reaches_qmgr_with_envelope_and_received),
        TEST(test_pipelined_replies_come_in_order),
        TEST(test_a_whole_session_in_one_write),
        TEST(test_byte_by_byte_is_the_same),
        TEST(test_replies_of_others_cannot_break_the_dialogue),
        TEST(test_mail_before_hello_is_503),
        TEST(test_rcpt_after_failed_mail_is_503),
        TEST(test_nested_mail_is_503_and_keeps_the_first),
        TEST(test_data_without_valid_recipients_is_554),
        TEST(test_rset_ehlo_and_helo_forget_the_transaction),
        TEST(test_a_bad_ehlo_keeps_the_transaction),
        TEST(test_the_transaction_is_forgotten_after_every_answer_to_data),
        TEST(test_arguments_where_none_belong_are_501),
        TEST(test_helo_takes_no_esmtp_parameters),
        TEST(test_only_crlf_dot_crlf_ends_data_and_other_line_ends_are_550),
        TEST(test_nul_in_data_is_550),
        TEST(test_bare_lf_does_not_end_a_command),
        TEST(test_nul_in_a_command_is_500),
        TEST(test_an_over_long_line_is_500_once_and_the_next_is_understood),
        TEST(test_a_long_line_ended_by_crlf_cut_between_reads),
        TEST(test_an_endless_line_ends_the_session),
        TEST(test_too_many_errors_are_421),
        TEST(test_http_is_cut_off),
        TEST(test_a_message_over_the_limit_is_552_and_read_to_its_end),
        TEST(test_a_hundred_received_fields_are_a_loop),
        TEST(test_too_many_recipients_are_452),
        TEST(test_a_big_body_goes_to_the_lent_file),
        TEST(test_no_room_for_a_big_body_is_452),
        TEST(test_many_recipients_travel_ahead_of_the_message),
        TEST(test_the_same_recipient_twice_is_one),
        TEST(test_rset_lets_qmgr_drop_nothing_it_never_had),
        TEST(test_relaying_is_refused_for_loopback_and_allowed_for_networks),
        TEST(test_a_domain_is_needed_except_for_postmaster),
        TEST(test_submitted_messages_are_completed),
        TEST(test_text_without_a_header_does_not_become_one),
        TEST(test_lmtp_answers_for_each_accepted_recipient),
        TEST(test_without_lookupd_rcpt_is_451),
        TEST(test_without_qmgr_the_message_is_451),
        TEST(test_qmgr_dying_before_its_answer_is_451),
        TEST(test_a_client_that_leaves_while_others_work_is_forgotten),
        TEST(test_commands_wait_while_lookupd_thinks),
        TEST(test_silence_is_421_after_the_timeout),
        TEST(test_draining_ends_idle_sessions_and_finishes_others),
        TEST(test_submission_needs_login),
        TEST(test_auth_plain_and_login_by_challenge),
        TEST(test_auth_failures),
        TEST(test_auth_is_not_offered_on_port_25_nor_in_plaintext_from_afar),
        TEST(test_auth_within_a_transaction_is_503),
        TEST(test_an_over_long_answer_ends_the_exchange),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
