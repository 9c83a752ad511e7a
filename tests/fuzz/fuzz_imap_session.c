/* A whole session on a real store: what the client says is the input. The store lives as long as
 * the fuzzer, so that later inputs meet what earlier ones left. */
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "imapd/session/session.h"
#include "libutil/conf.h"
#include "tests/fuzz/scratch.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
    struct conf *conf;
    int mail, wake;
} fixture;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct error err;
    (void)argc;
    (void)argv;
    fixture.mail = scratch();
    fixture.wake = open("/dev/null", O_WRONLY);
    fixture.conf =
        conf_parse("fuzz", SLICE_LIT("message-size 64K\n"), &conf_root_schema, NULL, &err);
    if (!fixture.conf)
        abort();
    log_setup("fuzz", LOG_ERROR);
    return 0;
}

/* Reads all that the session says. */
static void *drain(void *arg)
{
    char sink[65536];
    while (read(*(int *)arg, sink, sizeof(sink)) > 0)
        continue;
    return NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char hello[] = "a APPEND INBOX {11+}\r\nA: b\r\n\r\nx\r\n\r\nb SELECT INBOX\r\n";
    int ends[2];
    pthread_t reader;
    if (size > 16384 || socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
        return 0;
    if (write(ends[0], hello, strlen(hello)) < 0 || write(ends[0], data, size) < 0)
        abort();
    shutdown(ends[0], SHUT_WR);
    if (pthread_create(&reader, NULL, drain, &ends[0]))
        abort();
    struct session_env env = {.fd = ends[1],
        .mail = fixture.mail,
        .notify = -1,
        .wake = fixture.wake,
        .room = -1,
        .user = "u@example.test",
        .client = "192.0.2.1",
        .tag = "t",
        .input = SLICE_LIT(""),
        .conf = fixture.conf};
    (void)session_run(&env);
    close(ends[1]);
    pthread_join(reader, NULL);
    close(ends[0]);
    return 0;
}
