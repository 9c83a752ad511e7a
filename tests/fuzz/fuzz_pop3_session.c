/* What a logged-in client may say to a POP3 session, against a store with two messages. */
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libstore/store.h"
#include "pop3d/session/pop3.h"
#include "tests/fuzz/scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int mail = -1;
static struct conf *conf;

static void deliver(struct store *s)
{
    static const char text[] = "Subject: x\r\n\r\n.one\r\ntwo\r\n";
    struct store_append *a;
    struct store_append_options options = {0};
    struct store_appended done;
    struct error err;
    if (store_append_begin(s, SLICE_LIT("INBOX"), 0, &a, &err) != OK ||
        store_append_write(a, SLICE_LIT(text), &err) != OK ||
        store_append_commit(a, &options, &done, &err) != OK)
        abort();
}

static void set_up(void)
{
    struct error err;
    struct store_options options = {.create = true};
    struct store *s;
    signal(SIGPIPE, SIG_IGN);
    log_setup("fuzz", LOG_ERROR + 1);
    mail = scratch();
    conf = conf_parse("fuzz", SLICE_LIT("hostname a.b\n"), &conf_root_schema, NULL, &err);
    if (!conf || store_open(mail, ".", &options, &s, &err) != OK)
        abort();
    deliver(s);
    deliver(s);
    store_close(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const volatile sig_atomic_t running;
    int fds[2];
    if (mail < 0)
        set_up();
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0)
        abort();
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    /* What does not fit into the socket is not asked; nobody reads the answers, and the
     * connection ends when they are too many. */
    if (write(fds[0], data, size) < 0)
        size = 0;
    shutdown(fds[0], SHUT_RDWR);
    struct session_env env = {.fd = fds[1],
        .mail = mail,
        .notify = -1,
        .user = "alice@a.b",
        .client = "127.0.0.1",
        .tag = "",
        .input = slice_from(data, MIN(size, 16384)),
        .conf = conf,
        .stopping = &running};
    pop3_session(&env);
    close(fds[0]);
    close(fds[1]);
    return 0;
}
