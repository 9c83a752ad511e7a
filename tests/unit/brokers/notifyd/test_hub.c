#include <setjmp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "brokers/notifyd/hub.h"
#include "libmail/proto/notify.h"

struct fixture {
    struct loop *loop;
    struct hub *hub;
    struct log log;
};

/* The session's end of a channel. */
struct session {
    struct ipc *ipc;
    unsigned begun, events;
    uint64_t sequence;
    char mailbox[64];
};

static void on_event(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    struct session *s = arg;
    const struct notify_event *e = in->msg;
    (void)ipc;
    if (e->sequence == 0) {
        s->begun++;
        return;
    }
    s->events++;
    s->sequence = e->sequence;
    assert_true(slice_to_cstr(e->mailbox, s->mailbox, sizeof(s->mailbox)));
}

static void on_gone(struct ipc *ipc, const struct error *why, void *arg)
{
    (void)ipc, (void)why;
    ((struct session *)arg)->ipc = NULL;
}

static const struct ipc_ops session_ops = {on_event, on_gone};

static int setup(void **state)
{
    struct fixture *f = NEW(struct fixture);
    f->loop = loop_new_fake(1000);
    f->hub = hub_new(f->loop, &f->log);
    log_setup("test", LOG_ERROR);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    hub_free(f->hub);
    loop_free(f->loop);
    free(f);
    return 0;
}

static void settle(struct fixture *f)
{
    for (int i = 0; i < 10; i++)
        loop_poll(f->loop);
}

static void admit_as(struct fixture *f, enum role role, const char *owner, struct session *s)
{
    int pair[2];
    *s = (struct session){0};
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    struct notify_admit m = {.owner = slice_of(owner)};
    struct ipc_in in = {.type = notify_admit_type, .msg = &m, .fd = pair[0]};
    hub_trusted(f->hub, role, &in);
    fd_close(&in.fd);
    s->ipc = ipc_new(f->loop, pair[1], &notify_proto, IPC_CLIENT, &session_ops, s);
    settle(f);
}

static void watch_box(struct fixture *f, struct session *s, const char *mailbox)
{
    struct notify_watch m = {.mailbox = slice_of(mailbox)};
    assert_int_equal(ipc_send(s->ipc, notify_watch_type, 0, &m, -1), OK);
    settle(f);
}

static void change(struct fixture *f, const char *owner, const char *mailbox, uint64_t sequence)
{
    struct notify_changed m = {slice_of(owner), slice_of(mailbox), sequence};
    struct ipc_in in = {.type = notify_changed_type, .msg = &m, .fd = -1};
    hub_trusted(f->hub, ROLE_VIRTUAL, &in);
    settle(f);
}

static void test_watcher_hears_of_its_mailbox_only(void **state)
{
    struct fixture *f = *state;
    struct session a, b;
    admit_as(f, ROLE_IMAP_SESSION, "example.test/alice", &a);
    admit_as(f, ROLE_IMAP_SESSION, "example.test/bob", &b);
    watch_box(f, &a, "INBOX");
    watch_box(f, &b, "INBOX");
    change(f, "example.test/alice", "Sent", 6);
    assert_int_equal(a.events, 0);
    change(f, "example.test/alice", "INBOX", 7);
    assert_int_equal(a.events, 1);
    assert_int_equal(a.sequence, 7);
    assert_string_equal(a.mailbox, "INBOX");
    assert_int_equal(b.events, 0);
    watch_box(f, &a, "");
    loop_advance(f->loop, 1000);
    change(f, "example.test/alice", "INBOX", 8);
    assert_int_equal(a.events, 1);
    ipc_free(a.ipc);
    ipc_free(b.ipc);
}

static void test_who_begins_to_watch_is_told_from_when_on_he_hears_of_changes(void **state)
{
    struct fixture *f = *state;
    struct session a;
    admit_as(f, ROLE_IMAP_SESSION, "alice", &a);
    watch_box(f, &a, "INBOX");
    assert_int_equal(a.begun, 1);
    change(f, "alice", "INBOX", 7);
    assert_int_equal(a.events, 1); /* without the pause that follows an event */
    watch_box(f, &a, "Sent");
    assert_int_equal(a.begun, 2);
    watch_box(f, &a, "");
    assert_int_equal(a.begun, 2);
    ipc_free(a.ipc);
}

static void test_many_changes_are_one_event(void **state)
{
    struct fixture *f = *state;
    struct session a;
    admit_as(f, ROLE_IMAP_SESSION, "alice", &a);
    watch_box(f, &a, "INBOX");
    for (uint64_t i = 1; i <= 50; i++)
        change(f, "alice", "INBOX", i);
    assert_int_equal(a.events, 1);
    loop_advance(f->loop, HUB_PAUSE_MS);
    settle(f);
    assert_int_equal(a.events, 2);
    assert_int_equal(a.sequence, 50);
    loop_advance(f->loop, HUB_PAUSE_MS);
    settle(f);
    assert_int_equal(a.events, 2);
    ipc_free(a.ipc);
}

static void test_session_announces_only_for_its_owner(void **state)
{
    struct fixture *f = *state;
    struct session a, other, bob;
    admit_as(f, ROLE_IMAP_SESSION, "alice", &a);
    admit_as(f, ROLE_POP3_SESSION, "alice", &other);
    admit_as(f, ROLE_IMAP_SESSION, "bob", &bob);
    watch_box(f, &a, "INBOX");
    watch_box(f, &other, "INBOX");
    watch_box(f, &bob, "INBOX");
    struct notify_changed lie = {SLICE_LIT("bob"), SLICE_LIT("INBOX"), 9};
    assert_int_equal(ipc_send(a.ipc, notify_changed_type, 0, &lie, -1), OK);
    settle(f);
    assert_int_equal(bob.events, 0);
    assert_int_equal(other.events, 1);
    assert_int_equal(a.events, 0);
    ipc_free(a.ipc);
    ipc_free(other.ipc);
    ipc_free(bob.ipc);
}

static void test_only_spawners_admit(void **state)
{
    struct fixture *f = *state;
    struct session a;
    admit_as(f, ROLE_VIRTUAL, "alice", &a);
    assert_int_equal(hub_channels(f->hub), 0);
    assert_null(a.ipc);
    admit_as(f, ROLE_POP3_SESSION, "alice", &a);
    assert_int_equal(hub_channels(f->hub), 1);
    watch_box(f, &a, "INBOX");
    ipc_free(a.ipc);
    settle(f);
    assert_int_equal(hub_channels(f->hub), 0);
    change(f, "alice", "INBOX", 1);
}

static void share_box(struct fixture *f, struct session *s, const char *owner, const char *mailbox)
{
    struct notify_share m = {slice_of(owner), slice_of(mailbox)};
    assert_int_equal(ipc_send(s->ipc, notify_share_type, 0, &m, -1), OK);
    settle(f);
}

static void seal(struct fixture *f, struct session *s)
{
    struct notify_seal m = {0};
    assert_int_equal(ipc_send(s->ipc, notify_seal_type, 0, &m, -1), OK);
    settle(f);
}

static void watch_of(struct fixture *f, struct session *s, const char *owner, const char *mailbox)
{
    struct notify_watch m = {slice_of(owner), slice_of(mailbox)};
    assert_int_equal(ipc_send(s->ipc, notify_watch_type, 0, &m, -1), OK);
    settle(f);
}

static void test_a_shared_mailbox_is_watched_and_changed_by_both(void **state)
{
    struct fixture *f = *state;
    struct session alice, bob;
    admit_as(f, ROLE_IMAP_SESSION, "alice", &alice);
    admit_as(f, ROLE_IMAP_SESSION, "bob", &bob);
    share_box(f, &bob, "alice", "Team");
    seal(f, &bob);
    watch_box(f, &alice, "Team");
    watch_of(f, &bob, "alice", "Team");
    change(f, "alice", "Team", 3);
    assert_int_equal(bob.events, 1);
    assert_string_equal(bob.mailbox, "Team");
    loop_advance(f->loop, 1000);
    struct notify_changed m = {SLICE_LIT("alice"), SLICE_LIT("Team"), 4};
    assert_int_equal(ipc_send(bob.ipc, notify_changed_type, 0, &m, -1), OK);
    settle(f);
    assert_int_equal(alice.events, 2);
    assert_int_equal(alice.sequence, 4);
    assert_int_equal(bob.events, 1);
    ipc_free(alice.ipc);
    ipc_free(bob.ipc);
}

static void test_nothing_of_others_is_told_but_what_is_shared(void **state)
{
    struct fixture *f = *state;
    struct session bob;
    admit_as(f, ROLE_IMAP_SESSION, "bob", &bob);
    share_box(f, &bob, "alice", "Team");
    seal(f, &bob);
    share_box(f, &bob, "alice", "INBOX"); /* too late */
    watch_of(f, &bob, "alice", "INBOX");
    change(f, "alice", "INBOX", 1);
    watch_of(f, &bob, "carol", "Team");
    change(f, "carol", "Team", 1);
    change(f, "bob", "Team", 1); /* nor is it one of his own by mistake */
    assert_int_equal(bob.events, 0);
    ipc_free(bob.ipc);
}

static void test_only_imap_sessions_have_shared_mailboxes(void **state)
{
    struct fixture *f = *state;
    struct session bob;
    admit_as(f, ROLE_POP3_SESSION, "bob", &bob);
    share_box(f, &bob, "alice", "Team");
    watch_of(f, &bob, "alice", "Team");
    change(f, "alice", "Team", 1);
    assert_int_equal(bob.events, 0);
    ipc_free(bob.ipc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_watcher_hears_of_its_mailbox_only, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_who_begins_to_watch_is_told_from_when_on_he_hears_of_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_changes_are_one_event, setup, teardown),
        cmocka_unit_test_setup_teardown(test_session_announces_only_for_its_owner, setup, teardown),
        cmocka_unit_test_setup_teardown(test_only_spawners_admit, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_a_shared_mailbox_is_watched_and_changed_by_both, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_nothing_of_others_is_told_but_what_is_shared, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_only_imap_sessions_have_shared_mailboxes, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
