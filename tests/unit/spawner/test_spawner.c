/* The session spawner in its sandbox, with an authd and a login front of ours: each test runs in
 * a child, as an ordinary user and, where we are root, with the change of user as well. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libmail/proto/auth.h"
#include "libmail/proto/notify.h"
#include "libmail/proto/quota.h"
#include "libmail/proto/room.h"
#include "libmail/proto/spawn.h"
#include "libmail/spawner.h"
#include "tests/unit/spawner/inbox_probe.h"

#include <cmocka.h>

enum { NOBODY = 65534, OWNER = 4321 };

static char root[] = "/tmp/veredus-spawner-XXXXXX";

struct rig {
    struct daemon daemon;
    struct daemon_spec spec;
    struct peer auth, front, notify, quota, share;
    struct ipc *authd, *client, *notifyd, *agent, *administrator;
    unsigned questions, changes;
    char asked[64];
    struct auth_grant grant;
    bool answered;
    int64_t code;
    pid_t pid;
    char why[256];
    int fd; /* the client's end of the last session */
    unsigned admitted;
    char owner[64];
    const char *from;
};

/* --- the session that is spawned ------------------------------------------------------------- */

/* What the spawner says about room in a folder of carol's. */
static char room_in(struct session_env *env, struct ipc_sync *room, const char *directory)
{
    struct error err;
    struct ipc_in in;
    const struct room_ask m = {.owner = SLICE_LIT("carol@example.test"),
        .directory = slice_of(directory),
        .folder = SLICE_LIT("Team"),
        .bytes = 1000,
        .messages = 1};
    if (ipc_sync_call(room, room_ask_type, env->trace, &m, -1, &in, &err))
        return '?';
    return (char)('0' + ((const struct room_answer *)in.msg)->verdict);
}

/* What becomes of a folder of carol's that it wants deleted. */
static char deleted_in(struct session_env *env, struct ipc_sync *room, const char *directory)
{
    struct error err;
    struct ipc_in in;
    const struct room_change m = {.owner = SLICE_LIT("carol@example.test"),
        .directory = slice_of(directory),
        .verb = SHARE_DELETE,
        .folder = SLICE_LIT("Team")};
    if (ipc_sync_call(room, room_change_type, env->trace, &m, -1, &in, &err))
        return '?';
    return ((const struct room_changed *)in.msg)->code == ERR_NOT_FOUND ? 'n' : 'y';
}

/* Tells what it is and can do, then echoes until the end of input. */
static int session(struct session_env *env)
{
    char line[512], c;
    int inside = openat(env->mail, "file", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    int outside = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
    snprintf(line, sizeof(line), "%s/beside", root);
    int up = open(line, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    bool became_root = setresuid(0, 0, 0) == 0;
    int open_fds = 0;
    for (int fd = 3; fd < 256; fd++)
        open_fds += fcntl(fd, F_GETFD) >= 0;
    int n = snprintf(line, sizeof(line),
        "user=%s tag=%s input=%.*s uid=%d inside=%d outside=%d up=%d root=%d fds=%d notify=%d\n",
        env->user, env->tag, SLICE_FMT(env->input), (int)getuid(), inside >= 0, outside >= 0,
        up >= 0, became_root, open_fds, env->notify >= 0);
    if (write(env->fd, line, (size_t)n) != n)
        return 1;
    while (read(env->fd, &c, 1) == 1) {
        if (c == 'x')
            return 3;
        if (c == 'q') {
            struct ipc_sync room = {.fd = -1};
            struct error err;
            bool open = env->room >= 0 &&
                        ipc_sync_open(&room, env->room, &room_proto, IPC_CLIENT, &err) == OK;
            const char verdicts[] = {open ? room_in(env, &room, ".Team") : '-',
                open ? room_in(env, &room, ".Secret") : '-',
                open ? deleted_in(env, &room, ".Team") : '-',
                open ? deleted_in(env, &room, ".Secret") : '-'};
            if (write(env->fd, verdicts, sizeof(verdicts)) != sizeof(verdicts))
                return 5;
            continue;
        }
        if (c == 'i' && tell_inbox(env))
            continue;
        if (c == 's' && socketpair(AF_UNIX, SOCK_STREAM, 0, (int[2]){0}) == 0)
            return 4;
        if (write(env->fd, &c, 1) != 1)
            return 1;
    }
    if (*env->stopping && write(env->fd, "bye", 3) != 3)
        return 1;
    return 0;
}

/* --- the others ------------------------------------------------------------------------------ */

static void on_redeem(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    struct rig *r = arg;
    const struct auth_redeem *m = in->msg;
    struct auth_grant none = {.code = AUTH_FAILED};
    bool good = slice_is(m->ticket, "ticket") && slice_is(m->service, "imap");
    ipc_reply(ipc, in->id, in->trace, auth_grant_type, good ? &r->grant : &none, -1);
}

static void on_notify(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    (void)ipc;
    struct rig *r = arg;
    const struct notify_admit *m = in->msg;
    r->admitted++;
    (void)!slice_to_cstr(m->owner, r->owner, sizeof(r->owner));
}

static void on_quota(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    struct rig *r = arg;
    const struct quota_ask *m = in->msg;
    const struct quota_answer full = {QUOTA_FULL};
    r->questions += m->append && m->messages == 1 && m->size == 1000 && m->limits.n == 0;
    (void)!slice_to_cstr(m->mail, r->asked, sizeof(r->asked));
    ipc_reply(ipc, in->id, in->trace, quota_answer_type, &full, -1);
}

static void on_share(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    struct rig *r = arg;
    const struct share_ask *m = in->msg;
    const struct share_done done = {.code = OK};
    r->changes += m->verb == SHARE_DELETE && slice_is(m->folder, "Team") &&
                  slice_is(m->mail, "example.test/carol") &&
                  slice_is(m->user, "alice@example.test");
    ipc_reply(ipc, in->id, in->trace, share_done_type, &done, -1);
}

static void front_message(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    (void)ipc;
    struct peer *p = arg;
    spawner_convs[0].on_message(p, in);
}

static const struct ipc_ops authd_ops = {on_redeem, NULL}, notifyd_ops = {on_notify, NULL},
                            agent_ops = {on_quota, NULL}, share_ops = {on_share, NULL};
static const struct ipc_ops front_ops = {front_message, NULL}, no_ops = {NULL, NULL};

static void wire(struct rig *r, struct peer *p, enum conversation conv, enum ipc_side side,
    const struct ipc_proto *proto, const struct ipc_ops *ours, const struct ipc_ops *theirs,
    struct ipc **other)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds) < 0)
        _exit(80);
    *p = (struct peer){.daemon = &r->daemon, .conv = conv, .side = side, .fd = -1};
    p->ipc = ipc_new(r->daemon.loop, fds[0], proto, side, ours, p);
    *other = ipc_new(
        r->daemon.loop, fds[1], proto, side == IPC_CLIENT ? IPC_SERVER : IPC_CLIENT, theirs, r);
    list_append(&r->daemon.peers, &p->link);
}

static void rig_start(struct rig *r)
{
    static const struct spawner_kind kind = {.service = "imap", .session = session};
    struct error err = {0};
    char conf[256];
    snprintf(conf, sizeof(conf), "hostname mx.example.test\nmail-root %s\n", root);
    *r = (struct rig){
        .spec = {.role = ROLE_IMAP_SESSION, .profile = SPAWNER_PROFILE("test")}, .fd = -1};
    r->from = "127.0.0.1";
    r->spec.profile.account = "nobody";
    r->daemon.spec = &r->spec;
    r->daemon.rootless = geteuid() != 0;
    r->daemon.loop = loop_new();
    list_init(&r->daemon.peers);
    r->daemon.conf = conf_parse("test", slice_of(conf), &conf_root_schema, NULL, &err);
    r->grant = (struct auth_grant){.code = AUTH_OK,
        .user = SLICE_LIT("alice@example.test"),
        .uid = -1,
        .gid = -1,
        .mail = SLICE_LIT("example.test/alice")};
    if (!r->daemon.conf || spawner_configure(&r->daemon, &kind, &err) != OK ||
        sandbox_enter(&r->spec.profile, &r->daemon.paths, &r->daemon.sandbox, &err) != OK ||
        spawner_start(&r->daemon, &err) != OK) {
        dprintf(2, "rig: %s\n", err.text);
        _exit(81);
    }
    wire(r, &r->auth, CONV_AUTH, IPC_CLIENT, &auth_proto, &no_ops, &authd_ops, &r->authd);
    wire(r, &r->notify, CONV_NOTIFY, IPC_CLIENT, &notify_proto, &no_ops, &notifyd_ops, &r->notifyd);
    wire(r, &r->quota, CONV_QUOTA, IPC_CLIENT, &quota_proto, &no_ops, &agent_ops, &r->agent);
    wire(
        r, &r->share, CONV_SHARE, IPC_CLIENT, &share_proto, &no_ops, &share_ops, &r->administrator);
    r->quota.role = r->share.role = ROLE_VIRTUAL;
    wire(r, &r->front, CONV_SPAWN, IPC_SERVER, &spawn_proto, &front_ops, &no_ops, &r->client);
}

static void on_started(struct ipc_in *in, void *arg)
{
    struct rig *r = arg;
    const struct spawn_started *m = in ? in->msg : NULL;
    r->answered = true;
    r->code = m ? (int32_t)m->code : ERR_CLOSED;
    r->pid = m ? (pid_t)m->pid : 0;
    if (m)
        (void)!slice_to_cstr(m->why, r->why, sizeof(r->why));
}

static void turn(struct rig *r, bool *until)
{
    for (int i = 0; i < 5000 && !(until && *until); i++) {
        loop_poll(r->daemon.loop);
        usleep(until ? 1000 : 0);
        if (!until && i > 50)
            break;
    }
}

static int64_t ask(struct rig *r, const char *ticket)
{
    int fds[2];
    struct spawn_start m = {.ticket = slice_of(ticket),
        .client = slice_of(r->from),
        .tag = SLICE_LIT("a1"),
        .input = SLICE_LIT("more")};
    fd_close(&r->fd);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        _exit(82);
    r->answered = false;
    ipc_call(r->client, spawn_start_type, 7, &m, fds[1], on_started, r);
    close(fds[1]);
    turn(r, &r->answered);
    r->fd = fds[0];
    struct timeval tv = {.tv_sec = 5};
    setsockopt(r->fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
    return r->code;
}

static size_t hear(struct rig *r, char *line, size_t size)
{
    ssize_t n = TEMP_FAILURE_RETRY(read(r->fd, line, size - 1)); /* SIGCHLD comes when it likes */
    line[MAX(n, 0)] = '\0';
    return (size_t)MAX(n, 0);
}

static bool gone(struct rig *r)
{
    for (int i = 0; i < 3000 && spawner_sessions(&r->daemon); i++) {
        loop_poll(r->daemon.loop);
        usleep(1000);
    }
    return spawner_sessions(&r->daemon) == 0;
}

/* --- running in a child ---------------------------------------------------------------------- */

typedef int case_fn(struct rig *);

static int in_child(case_fn *fn, bool drop)
{
    fflush(NULL);
    if (chown(root, drop || geteuid() == 0 ? NOBODY : (uid_t)-1, (gid_t)-1) < 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        struct rig r;
        if (drop && (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
                        setresuid(NOBODY, NOBODY, NOBODY) < 0))
            _exit(83);
        rig_start(&r);
        _exit(fn(&r));
    }
    int status = -1;
    waitpid(pid, &status, 0);
    return status;
}

static void each_way(case_fn *fn)
{
    assert_int_equal(in_child(fn, geteuid() == 0), 0);
    if (geteuid() == 0)
        assert_int_equal(in_child(fn, false), 0);
}

#define CHECK(cond)                                       \
    do {                                                  \
        if (!(cond)) {                                    \
            dprintf(2, "line %d: %s\n", __LINE__, #cond); \
            return 1;                                     \
        }                                                 \
    } while (0)

static int virtual_case(struct rig *r)
{
    char line[512], expected[512];
    CHECK(ask(r, "ticket") == OK);
    CHECK(r->pid > 0 && spawner_sessions(&r->daemon) == 1);
    hear(r, line, sizeof(line));
    snprintf(expected, sizeof(expected),
        "user=alice@example.test tag=a1 input=more uid=%d inside=1 outside=0 up=0 root=0 fds=5 "
        "notify=1\n",
        (int)(geteuid() == 0 ? NOBODY : geteuid()));
    if (strcmp(line, expected) != 0)
        dprintf(2, "%s", line);
    CHECK(strcmp(line, expected) == 0);
    turn(r, NULL);
    CHECK(r->admitted == 1 && strcmp(r->owner, "example.test/alice") == 0);
    CHECK(write(r->fd, "e", 1) == 1 && hear(r, line, sizeof(line)) == 1);
    struct buf children;
    buf_init(&children, 4096);
    spawner_children(&r->daemon, &children);
    struct master_child row;
    struct reader reader = reader_of(buf_slice(&children));
    CHECK(record_get(&reader, &master_child_record, &row) == OK && row.pid == r->pid);
    CHECK(slice_is(row.what, "alice@example.test"));
    buf_clear(&children);
    fd_close(&r->fd);
    CHECK(gone(r));
    return 0;
}

static void test_a_virtual_user_gets_a_process_with_one_directory(void **state)
{
    (void)state;
    each_way(virtual_case);
}

static int system_case(struct rig *r)
{
    char line[512], home[128];
    snprintf(home, sizeof(home), "%s/home/Maildir", root);
    r->grant.uid = r->grant.gid = OWNER;
    r->grant.mail = slice_of(home);
    CHECK(ask(r, "ticket") == OK);
    hear(r, line, sizeof(line));
    CHECK(strstr(line, "uid=4321 inside=1 outside=0 up=0 root=0"));
    fd_close(&r->fd);
    CHECK(gone(r));
    return 0;
}

static void test_a_system_user_owns_the_process(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        print_message("needs root\n");
        skip();
    }
    char home[128];
    struct stat st;
    snprintf(home, sizeof(home), "%s/home", root);
    assert_int_equal(mkdir(home, 0700), 0);
    assert_int_equal(chown(home, OWNER, OWNER), 0);
    assert_int_equal(chmod(root, 0755), 0);
    assert_int_equal(in_child(system_case, false), 0);
    snprintf(home, sizeof(home), "%s/home/Maildir", root);
    assert_int_equal(stat(home, &st), 0);
    assert_int_equal(st.st_uid, OWNER);
}

static int refused_case(struct rig *r)
{
    CHECK(ask(r, "stolen") == ERR_DENIED);
    r->grant.mail = SLICE_LIT("/etc");
    CHECK(ask(r, "ticket") == ERR_DENIED);
    r->grant.uid = 0;
    r->grant.gid = 0;
    CHECK(ask(r, "ticket") == ERR_DENIED);
    r->grant.uid = r->grant.gid = 4322;
    r->grant.mail = SLICE_LIT("relative");
    CHECK(ask(r, "ticket") == ERR_DENIED);
    r->grant.uid = r->grant.gid = -1;
    r->grant.user = SLICE_LIT("");
    CHECK(ask(r, "ticket") == ERR_DENIED);
    CHECK(spawner_sessions(&r->daemon) == 0);
    return 0;
}

static void test_without_a_proper_grant_there_is_no_session(void **state)
{
    (void)state;
    each_way(refused_case);
}

static int escape_case(struct rig *r)
{
    char c[2];
    r->grant.mail = SLICE_LIT("../escape");
    CHECK(ask(r, "ticket") == OK);
    CHECK(hear(r, c, sizeof(c)) == 0);
    CHECK(gone(r));
    return 0;
}

static void test_a_path_that_climbs_ends_the_child(void **state)
{
    (void)state;
    each_way(escape_case);
}

static int floor_case(struct rig *r)
{
    char c[2];
    r->grant.uid = r->grant.gid = 999;
    r->grant.mail = slice_of(root);
    CHECK(ask(r, "ticket") == OK);
    CHECK(hear(r, c, sizeof(c)) == 0);
    CHECK(gone(r));
    return 0;
}

static void test_no_account_below_the_floor_gets_a_session(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        print_message("needs root\n");
        skip();
    }
    assert_int_equal(in_child(floor_case, false), 0);
}

static int drain_case(struct rig *r)
{
    char line[512];
    CHECK(ask(r, "ticket") == OK);
    CHECK(hear(r, line, sizeof(line)) > 10);
    r->daemon.draining = true;
    spawner_drain(&r->daemon);
    CHECK(hear(r, line, sizeof(line)) == 3 && strcmp(line, "bye") == 0);
    CHECK(gone(r));
    int held = r->fd;
    r->fd = -1;
    CHECK(ask(r, "ticket") == ERR_TEMP);
    close(held);
    return 0;
}

static void test_draining_lets_sessions_say_good_bye(void **state)
{
    (void)state;
    each_way(drain_case);
}

static int killed_case(struct rig *r)
{
    char line[512];
    CHECK(ask(r, "ticket") == OK);
    CHECK(hear(r, line, sizeof(line)) > 10);
    CHECK(write(r->fd, "s", 1) == 1);
    CHECK(hear(r, line, sizeof(line)) == 0);
    CHECK(gone(r));
    CHECK(ask(r, "ticket") == OK);
    return 0;
}

static void test_a_session_that_makes_a_forbidden_call_dies_alone(void **state)
{
    (void)state;
    each_way(killed_case);
}

static int limit_case(struct rig *r)
{
    int held[100];
    r->from = "192.0.2.1";
    for (size_t i = 0; i < ARRAY_LEN(held); i++) {
        CHECK(ask(r, "ticket") == OK);
        held[i] = r->fd;
        r->fd = -1;
    }
    CHECK(ask(r, "ticket") == ERR_DENIED);
    r->from = "127.0.0.1";
    CHECK(ask(r, "ticket") == OK);
    fd_close(&r->fd);
    r->from = "192.0.2.1";
    for (int i = 0; i < 3000 && spawner_sessions(&r->daemon) > 100; i++) {
        loop_poll(r->daemon.loop);
        usleep(1000);
    }
    CHECK(ask(r, "ticket") == ERR_DENIED);
    close(held[0]);
    for (int i = 0; i < 3000 && spawner_sessions(&r->daemon) == 100; i++) {
        loop_poll(r->daemon.loop);
        usleep(1000);
    }
    CHECK(ask(r, "ticket") == OK);
    return 0;
}

static void test_sessions_of_one_user_are_limited_but_for_this_host(void **state)
{
    (void)state;
    assert_int_equal(in_child(limit_case, geteuid() == 0), 0);
}

static int room_case(struct rig *r)
{
    char line[512];
    CHECK(ask(r, "ticket") == OK);
    CHECK(hear(r, line, sizeof(line)) > 10);
    CHECK(write(r->fd, "q", 1) == 1);
    for (int i = 0; i < 3000 && poll(&(struct pollfd){.fd = r->fd, .events = POLLIN}, 1, 1) == 0;
         i++)
        loop_poll(r->daemon.loop);
    CHECK(hear(r, line, sizeof(line)) == 4);
    CHECK(line[2] == 'y' && line[3] == 'n' && r->changes == 1);
    CHECK(line[0] == '0' + QUOTA_FULL && line[1] == '0' + QUOTA_UNKNOWN);
    CHECK(r->questions == 1 && strcmp(r->asked, "example.test/carol") == 0);
    fd_close(&r->fd);
    CHECK(gone(r));
    return 0;
}

static void give(const char *full)
{
    assert_true(geteuid() != 0 || chown(full, NOBODY, (gid_t)-1) == 0);
}

static void put_file(const char *path, const char *text)
{
    char full[256];
    snprintf(full, sizeof(full), "%s/%s", root, path);
    int fd = open(full, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
    give(full);
}

static void make_dir(const char *path)
{
    char full[256];
    snprintf(full, sizeof(full), "%s/%s", root, path);
    mkdir(full, 0755);
    give(full);
}

static void test_a_session_reaches_only_folders_that_are_shared_with_its_user(void **state)
{
    static const char *const dirs[] = {"veredus.shares", "example.test", "example.test/carol"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
        make_dir(dirs[i]);
    put_file("veredus.shares/carol@example.test", "example.test/carol");
    put_file("example.test/carol/veredus.shared",
        ".Team alice@example.test\n.Secret bob@example.test\n");
    each_way(room_case);
}

static int inbox_case(struct rig *r)
{
    char line[512];
    CHECK(ask(r, "ticket") == OK);
    CHECK(hear(r, line, sizeof(line)) > 10);
    CHECK(write(r->fd, "i", 1) == 1 && hear(r, line, sizeof(line)) == 2);
    if (strcmp(line, "00") != 0)
        dprintf(2, "missing: %d, open: %d\n", line[0] - '0', line[1] - '0');
    CHECK(strcmp(line, "00") == 0);
    fd_close(&r->fd);
    CHECK(gone(r));
    return 0;
}

static void test_a_shared_inbox_opens_nothing_else_of_its_owner(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(inbox_dirs); i++)
        make_dir(inbox_dirs[i]);
    for (size_t i = 0; i < ARRAY_LEN(inbox_files); i++)
        put_file(inbox_files[i], "example.test/carol");
    put_file("example.test/carol/veredus.shared", ". alice@example.test\n.Sent bob@x\n");
    each_way(inbox_case);
}

static int make_root(void **state)
{
    (void)state;
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", root);
    return system(command);
}

int main(void)
{
    log_setup("test", LOG_ERROR + 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_virtual_user_gets_a_process_with_one_directory),
        cmocka_unit_test(test_a_system_user_owns_the_process),
        cmocka_unit_test(test_without_a_proper_grant_there_is_no_session),
        cmocka_unit_test(test_a_path_that_climbs_ends_the_child),
        cmocka_unit_test(test_no_account_below_the_floor_gets_a_session),
        cmocka_unit_test(test_draining_lets_sessions_say_good_bye),
        cmocka_unit_test(test_a_session_that_makes_a_forbidden_call_dies_alone),
        cmocka_unit_test(test_sessions_of_one_user_are_limited_but_for_this_host),
        cmocka_unit_test(test_a_session_reaches_only_folders_that_are_shared_with_its_user),
        cmocka_unit_test(test_a_shared_inbox_opens_nothing_else_of_its_owner),
    };
    return cmocka_run_group_tests_name("spawner", tests, make_root, remove_root);
}
