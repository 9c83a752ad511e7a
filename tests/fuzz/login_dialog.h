/* A login front on a fake loop, without authd and spawner: every login is a temporary failure. */
#pragma once

#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libmail/loginfront.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int login_dialog(const struct login_protocol *protocol, const uint8_t *data, size_t size)
{
    static const char text[] = "hostname mx.example.test\n"
                               "listen imap { on *:1; max-errors 10000 }\n"
                               "listen pop3 { on *:2; max-errors 10000 }\n";
    struct error err;
    struct daemon d = {.loop = loop_new_fake(0)};
    int fds[2];
    char waste[4096];
    signal(SIGPIPE, SIG_IGN);
    log_setup("fuzz", LOG_ERROR + 1);
    d.conf = conf_parse("fuzz", SLICE_LIT(text), &conf_root_schema, NULL, &err);
    list_init(&d.peers);
    if (!d.conf || login_front_configure(&d, protocol, &err) != OK)
        abort();
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) < 0)
        abort();
    login_front_serve(d.data, fds[0], "127.0.0.1", protocol->service);
    /* In pieces, the sizes taken from the data: framing must not depend on them. */
    for (size_t at = 0; at < size;) {
        size_t n = MIN(size - at, (size_t)data[at] + 1);
        if (write(fds[1], data + at, n) != (ssize_t)n)
            break;
        at += n;
        for (int i = 0; i < 4; i++)
            loop_poll(d.loop);
        while (read(fds[1], waste, sizeof(waste)) > 0)
            continue;
    }
    close(fds[1]);
    for (int i = 0; i < 8; i++)
        loop_poll(d.loop);
    login_front_free(d.data);
    conf_free(d.conf);
    loop_free(d.loop);
    return 0;
}
