/* upgrade: the version of what is on disk, and the step to the newest or back by one. qmgr does it
 * for the spool. */
#include <fcntl.h>
#include <inttypes.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "ctl/json.h"

struct figures {
    uint64_t written, newest, logged, parked, held, damaged;
};

/* Runs `qmgr --format`; OK when it said the figures. */
static int run_qmgr(struct ctl *c, char *verb, struct figures *f)
{
    static char word[] = "--format";
    char command[8300], path[4096], line[256] = "";
    int fds[2], status = 0;
    const struct conf *conf = ctl_conf(c);
    if (!conf || !slice_to_cstr(conf_string(conf_root(conf), "spool"), path, sizeof(path)))
        return ERR_NOT_FOUND;
    snprintf(command, sizeof(command), "%s/%s", c->bin_dir, role_info(ROLE_QMGR)->program);
    char *argv[] = {command, word, path, verb, NULL};
    if (pipe2(fds, O_CLOEXEC) < 0)
        return ERR_IO;
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fds[1], STDOUT_FILENO);
        execv(command, argv);
        _exit(127);
    }
    fd_close(&fds[1]);
    FILE *in = pid > 0 ? fdopen(fds[0], "r") : NULL;
    if (in && !fgets(line, sizeof(line), in))
        line[0] = '\0';
    if (in)
        fclose(in);
    if (pid > 0)
        waitpid(pid, &status, 0);
    struct slice rest = slice_of(line);
    uint64_t *numbers[] = {&f->written, &f->newest, &f->logged, &f->parked, &f->held, &f->damaged};
    size_t n = 0;
    rest.n -= rest.n > 0 && rest.p[rest.n - 1] == '\n';
    if (!slice_is(slice_cut(&rest, '\t'), "format"))
        return ERR_IO;
    while (n < ARRAY_LEN(numbers) &&
           slice_u64(slice_cut(&rest, '\t'), 0, UINT64_MAX, numbers[n]) == OK)
        n++;
    return n == ARRAY_LEN(numbers) && status == 0 ? OK : ERR_IO;
}

static void print_json(const struct figures *f)
{
    struct buf b;
    struct json j = {&b, false};
    buf_init(&b, 4096);
    json_begin(&j, NULL, '{');
    json_begin(&j, "spool", '{');
    json_int(&j, "format", (int64_t)f->written);
    json_int(&j, "newest", (int64_t)f->newest);
    json_int(&j, "log", (int64_t)f->logged);
    json_int(&j, "parked", (int64_t)f->parked);
    json_int(&j, "held", (int64_t)f->held);
    json_int(&j, "damaged", (int64_t)f->damaged);
    json_end(&j, '}');
    json_end(&j, '}');
    printf("%.*s\n", SLICE_FMT(buf_slice(&b)));
    buf_clear(&b);
}

static void print_words(const struct figures *f, const char *verb)
{
    printf("spool: format %" PRIu64 " is written, the newest is %" PRIu64 "; %" PRIu64
           " messages in the log, %" PRIu64 " parked\n",
        f->written, f->newest, f->logged, f->parked);
    if (strcmp(verb, "revert") == 0) {
        if (f->held)
            printf("%" PRIu64 " messages with a release time are on hold now\n", f->held);
        if (f->damaged)
            printf("%" PRIu64 " damaged files were left as they are\n", f->damaged);
        printf("the release before this one can be started on it\n");
    } else if (f->written < f->newest) {
        printf("`veredus upgrade --commit` would write format %" PRIu64
               " from the next start on: priorities, release times, forwarding without repetition\n"
               "and checksums of bodies are kept over a crash then. The release before this one\n"
               "would need `veredus upgrade --revert` to read it.\n",
            f->newest);
    } else if (strcmp(verb, "commit") == 0) {
        printf("it is written from the next start on\n");
    } else {
        printf("nothing to do\n");
    }
}

static int upgrade(struct ctl *c, int argc, char **argv)
{
    static char show[] = "show", commit[] = "commit", revert[] = "revert";
    struct figures f = {0};
    char *verb = show;
    if (ctl_flag(&argc, argv, "--commit"))
        verb = commit;
    else if (ctl_flag(&argc, argv, "--revert"))
        verb = revert;
    if (argc != 0)
        return ctl_usage(c);
    if (verb == revert && ctl_is_running(c))
        return ctl_fail(CTL_NO, "stop it first: the whole spool is written again");
    if (run_qmgr(c, verb, &f) != OK)
        return ctl_fail(
            CTL_NO, "the spool's format could not be %s", verb == show ? "read" : "changed");
    if (c->json)
        print_json(&f);
    else
        print_words(&f, verb);
    return f.damaged ? CTL_NO : CTL_OK;
}

const struct ctl_verb upgrade_verbs[] = {
    {"upgrade", NULL, "[--commit | --revert] [--json]",
        "Tell which formats are written to disk and what would change; go on with the newest; or "
        "(while\n        down) write all again for the release before this one.",
        upgrade},
    {0},
};
