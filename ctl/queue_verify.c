/* queue verify: qmgr reads the spool, running or not, and we say what it found. */
#include <fcntl.h>
#include <inttypes.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl/json.h"
#include "ctl/queue.h"

struct report {
    struct ctl *c;
    struct buf json;
    struct json j;
    unsigned damaged;
    bool complete; /* the sum has come */
};

static void take_finding(struct report *r, const char *kind, const char *name, const char *reason)
{
    r->damaged += strcmp(kind, "damaged") == 0;
    if (!r->c->json) {
        printf("%s: %s: %s\n", kind, name, reason);
        return;
    }
    json_begin(&r->j, NULL, '{');
    json_str(&r->j, "kind", slice_of(kind));
    json_str(&r->j, "name", slice_of(name));
    json_str(&r->j, "reason", slice_of(reason));
    json_end(&r->j, '}');
}

static void take_sum(struct report *r, struct slice logged, struct slice parked, struct slice bytes)
{
    uint64_t numbers[3] = {0};
    r->complete = slice_u64(logged, 0, UINT64_MAX, &numbers[0]) == OK &&
                  slice_u64(parked, 0, UINT64_MAX, &numbers[1]) == OK &&
                  slice_u64(bytes, 0, UINT64_MAX, &numbers[2]) == OK;
    if (!r->c->json) {
        printf("%" PRIu64 " messages in the log, %" PRIu64 " parked, %" PRIu64 " bytes: %s\n",
            numbers[0], numbers[1], numbers[2], r->damaged ? "DAMAGED" : "sound");
        return;
    }
    json_end(&r->j, ']');
    json_int(&r->j, "log", (int64_t)numbers[0]);
    json_int(&r->j, "parked", (int64_t)numbers[1]);
    json_int(&r->j, "bytes", (int64_t)numbers[2]);
    json_int(&r->j, "damaged", r->damaged);
}

static void take_line(struct report *r, char *line)
{
    char *words[4] = {NULL};
    line[strcspn(line, "\n")] = '\0';
    for (int i = 0; i < 4 && line; i++) {
        words[i] = line;
        line = strchr(line, '\t');
        if (line)
            *line++ = '\0';
    }
    if (words[0] && strcmp(words[0], "sum") == 0)
        take_sum(r, slice_of(words[1]), slice_of(words[2]), slice_of(words[3]));
    else if (words[0] && words[1])
        take_finding(r, words[0], words[1], words[2] ? words[2] : "");
}

/* Starts qmgr on the spool; its standard output, or NULL. */
static FILE *start(struct ctl *c, const char *spool, bool running, pid_t *pid)
{
    static char verify_word[] = "--verify", running_word[] = "--running";
    char command[8300], path[4096];
    int fds[2];
    snprintf(path, sizeof(path), "%s", spool);
    snprintf(command, sizeof(command), "%s/%s", c->bin_dir, role_info(ROLE_QMGR)->program);
    char *argv[] = {command, verify_word, path, running ? running_word : NULL, NULL};
    if (pipe2(fds, O_CLOEXEC) < 0)
        return NULL;
    *pid = fork();
    if (*pid == 0) {
        dup2(fds[1], STDOUT_FILENO);
        execv(command, argv);
        _exit(127);
    }
    fd_close(&fds[1]);
    FILE *in = *pid > 0 ? fdopen(fds[0], "r") : NULL;
    if (!in)
        fd_close(&fds[0]);
    return in;
}

int queue_verify(struct ctl *c, int argc, char **argv)
{
    struct report r = {.c = c, .j = {&r.json, false}};
    char line[2048], spool[4096];
    pid_t pid = -1;
    int status = 0;
    if (argc != 0)
        return (void)argv, ctl_usage(c);
    const struct conf *conf = ctl_conf(c);
    if (!conf || !slice_to_cstr(conf_string(conf_root(conf), "spool"), spool, sizeof(spool)))
        return CTL_NO; /* which has been told */
    bool running = ctl_is_running(c);
    if (!running && queue_has_no_spool(spool))
        return CTL_NO;
    FILE *in = start(c, spool, running, &pid);
    if (!in)
        return ctl_fail(CTL_TEMPORARY, "qmgr cannot be started on the spool");
    buf_init(&r.json, 16 * 1024 * 1024);
    json_begin(&r.j, NULL, '{');
    json_begin(&r.j, "findings", '[');
    while (fgets(line, sizeof(line), in))
        take_line(&r, line);
    fclose(in);
    json_end(&r.j, '}');
    if (c->json && r.complete)
        printf("%.*s\n", SLICE_FMT(buf_slice(&r.json)));
    buf_clear(&r.json);
    waitpid(pid, &status, 0);
    if (!r.complete)
        return ctl_fail(CTL_NO, "the spool could not be read");
    return r.damaged ? CTL_NO : CTL_OK;
}
