#include "tests/unit/smtpd/fixture.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture f;

/* --- the others --- */

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
    } else if (slice_starts(c->address, "list")) {
        put_recipient(&packed, SLICE_LIT("one@example.test"));
        put_recipient(&packed, SLICE_LIT("two@example.test"));
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
    if (slice_starts(c->address, "suspect"))
        v.hold = SLICE_LIT("recipient=suspect@example.test");
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
    } else if (in->type == inject_etrn_type) {
        const struct inject_etrn *e = in->msg;
        struct inject_etrned r = {.count = slice_is(e->domain, "empty.test") ? 0 : 3};
        assert_true(slice_to_cstr(e->domain, f.etrn, sizeof(f.etrn)));
        ipc_reply(ipc, in->id, 0, inject_etrned_type, &r, -1);
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

/* --- the client --- */

void spin(void)
{
    char text[65536];
    for (int i = 0; i < 30; i++) {
        ssize_t n;
        loop_poll(f.daemon.loop);
        while (f.client >= 0 && (n = recv(f.client, text, sizeof(text), MSG_DONTWAIT)) > 0)
            buf_put(&f.replies, slice_from(text, (size_t)n));
    }
}

void send_bytes(struct slice s)
{
    while (s.n) {
        ssize_t n = send(f.client, s.p, s.n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0)
            s = slice_from_index(s, (size_t)n);
        spin();
    }
    spin();
}

void say(const char *text)
{
    send_bytes(slice_of(text));
}

/* The codes of all replies since the last call: "250 354"; continuation lines do not count. */
void expect(const char *codes)
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

bool reply_has(const char *text)
{
    return slice_find(buf_slice(&f.replies), slice_of(text)) >= 0;
}

bool body_has(const char *text)
{
    return slice_find(buf_slice(&f.body), slice_of(text)) >= 0;
}

bool ended(void)
{
    char c;
    spin();
    return recv(f.client, &c, 1, MSG_DONTWAIT) == 0;
}

void connect_client(const char *protocol, const char *address)
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

void hello(void)
{
    connect_client("smtp", "127.0.0.1");
    say("EHLO client.test\r\n");
    expect("220 250");
}

void envelope(void)
{
    say("MAIL FROM:<s@else.test>\r\nRCPT TO:<alice@example.test>\r\n");
    expect("250 250");
}

int setup(void **state)
{
    (void)state;
    static const char conf[] = "hostname mx.example.test\n"
                               "networks 192.0.2.0/24\nmessage-size 200K\n"
                               "listen smtp { on 127.0.0.1:25; max-errors 10; timeout 60s;\n"
                               "  max-recipients 5 }\n"
                               "listen submission { on 127.0.0.1:587; auth required }\n"
                               "listen lmtp { on 127.0.0.1:24 }\n"
                               "domain relayed.test empty.test { relay [192.0.2.9]:25 }\n"
                               "domain kept.test { }\n";
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

int teardown(void **state)
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
