#include "delivery/pipe/run.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 32 * 1024, OUTPUT_MAX = 300, GRACE_MS = 5000, FILES_MAX = 1024 };

struct running {
    const struct run *run;
    pid_t pid;
    int pidfd, in, out; /* in: our end of its standard input; -1: closed */
    struct slice rest;  /* of the body */
    void *map;
    struct buf feed; /* ready to be written */
    char output[OUTPUT_MAX + 1];
    size_t noutput;
    uint64_t heard;
    int64_t deadline;
    bool late, ended, loud;
    int status;
};

static void say(struct run_result *r, enum deliver_status status, const char *dsn, const char *text)
{
    r->status = status;
    snprintf(r->dsn, sizeof(r->dsn), "%s", dsn);
    snprintf(r->text, sizeof(r->text), "%s", text);
}

/* --- what it ends with ----------------------------------------------------------------------- */

void run_judge(int status, struct run_result *r)
{
    static const struct {
        int code;
        enum deliver_status status;
        const char *dsn, *text;
    } codes[] = {{EX_OK, DELIVERED, "2.0.0", "delivered to a command"},
        {EX_USAGE, FAILED, "5.3.5", "the command was called wrongly"},
        {EX_DATAERR, FAILED, "5.6.0", "the command does not accept the data"},
        {EX_NOINPUT, FAILED, "5.3.0", "the command found no input"},
        {EX_NOUSER, FAILED, "5.1.1", "the command knows no such user"},
        {EX_NOHOST, FAILED, "5.1.2", "the command knows no such host"},
        {EX_UNAVAILABLE, FAILED, "5.3.0", "the service of the command is not there"},
        {EX_SOFTWARE, FAILED, "5.3.0", "the command has a fault"},
        {EX_OSERR, DEFERRED, "4.3.0", "the command met an error of the system"},
        {EX_OSFILE, FAILED, "5.3.0", "the command misses a file of the system"},
        {EX_CANTCREAT, FAILED, "5.2.0", "the command cannot make a file"},
        {EX_IOERR, DEFERRED, "4.3.0", "the command could not read or write"},
        {EX_TEMPFAIL, DEFERRED, "4.3.0", "the command failed for now"},
        {EX_PROTOCOL, FAILED, "5.5.0", "the command met an error of protocol"},
        {EX_NOPERM, FAILED, "5.7.0", "the command refuses permission"},
        {EX_CONFIG, FAILED, "5.3.5", "the command is configured wrongly"},
        {126, DEFERRED, "4.3.5", "the command cannot be executed"},
        {127, DEFERRED, "4.3.5", "the command was not found"}};
    if (WIFSIGNALED(status)) {
        r->signal = (uint32_t)WTERMSIG(status);
        say(r, DEFERRED, "4.3.0", "the command was ended by a signal");
        return;
    }
    int code = WEXITSTATUS(status);
    r->exit_status = (uint32_t)code;
    for (size_t i = 0; i < ARRAY_LEN(codes); i++)
        if (codes[i].code == code) {
            say(r, codes[i].status, codes[i].dsn, codes[i].text);
            return;
        }
    say(r, FAILED, "5.3.0", "the command failed");
}

/* Its own words go behind ours, on one line. */
static void quote_output(const struct running *p, struct run_result *r)
{
    size_t n = strlen(r->text), end = p->noutput;
    while (end && strchr(" \t\r\n", p->output[end - 1]))
        end--;
    if (end == 0 || n + 4 >= sizeof(r->text))
        return;
    n += (size_t)snprintf(r->text + n, sizeof(r->text) - n, ": ");
    for (size_t i = 0; i < end && n + 1 < sizeof(r->text); i++) {
        unsigned char c = (unsigned char)p->output[i];
        r->text[n++] = c >= ' ' && c < 127 ? (char)c : c == '\n' || c == '\t' ? ' ' : '?';
    }
    r->text[n] = '\0';
}

/* --- the beginning --------------------------------------------------------------------------- */

static void limit(int what, uint64_t value)
{
    struct rlimit l = {value, value};
    if (value && setrlimit(what, &l))
        _exit(EX_OSERR);
}

static _Noreturn void become_command(
    const struct run *run, const struct command *c, const int in[2], const int out[2])
{
    const struct run_rules *rules = &run->rules;
    struct rlimit no_core = {0, 0};
    setsid();
    for (int s = 1; s < NSIG; s++)
        signal(s, SIG_DFL);
    if (dup2(in[0], STDIN_FILENO) < 0 || dup2(out[1], STDOUT_FILENO) < 0 ||
        dup2(out[1], STDERR_FILENO) < 0 || setrlimit(RLIMIT_CORE, &no_core) ||
        prctl(PR_SET_PDEATHSIG, SIGKILL))
        _exit(EX_OSERR);
    close_range(STDERR_FILENO + 1, ~0U, 0);
    limit(RLIMIT_NOFILE, FILES_MAX);
    limit(RLIMIT_CPU, rules->cpu_s);
    limit(RLIMIT_AS, rules->memory);
    limit(RLIMIT_FSIZE, rules->file_size);
    limit(RLIMIT_NPROC, rules->processes);
    clearenv();
    for (size_t i = 0; i < c->nvariables; i++)
        putenv(c->envp[i]);
    execvp(c->argv[0], c->argv);
    _exit(errno == ENOENT ? 127 : 126);
}

static int make_command(const struct run *run, struct command *c, struct error *err)
{
    ptrdiff_t domain = slice_rchr(run->address, '@');
    struct slice local = domain < 0 ? run->address : slice_first(run->address, (size_t)domain);
    ptrdiff_t plus = slice_chr(local, '+');
    struct slice user = plus > 0 ? slice_first(local, (size_t)plus) : local;
    struct slice extension = plus > 0 ? slice_from_index(local, (size_t)plus + 1) : SLICE_LIT("");
    struct command_facts facts = {.sender = run->sender,
        .recipient = run->address,
        .original = run->original,
        .user = user,
        .extension = extension,
        .domain = domain < 0 ? SLICE_LIT("") : slice_from_index(run->address, (size_t)domain + 1),
        .client = run->client,
        .helo = run->helo,
        .size = run->size};
    int rc = OK;
    size_t words = run->rules.block ? conf_list_len(run->rules.block, "run") : 0;
    for (size_t i = 0; !rc && i < words; i++)
        rc = command_word(c, conf_list_at(run->rules.block, "run", i), &facts, err);
    if (!run->rules.block)
        rc = command_line(c, run->line, run->rules.directory, err);
    return rc ? rc : command_environment(c, run->account->name, run->account->home, &facts, err);
}

static void put_field(struct buf *out, const char *name, struct slice value, const char *end)
{
    buf_puts(out, name);
    for (size_t i = 0; i < value.n; i++)
        buf_putc(out, (unsigned char)value.p[i] < ' ' ? ' ' : value.p[i]);
    buf_puts(out, end);
}

static void put_head(const struct run *run, struct buf *out)
{
    if (run->rules.from_line) {
        char date[64];
        time_t now = time(NULL);
        struct tm tm;
        gmtime_r(&now, &tm);
        strftime(date, sizeof(date), " %a %b %e %H:%M:%S %Y\n", &tm);
        put_field(out, "From ", run->sender.n ? run->sender : SLICE_LIT("MAILER-DAEMON"), date);
    }
    put_field(out, "Return-Path: <", run->sender, ">\n");
    if (run->original.n && !slice_ieq(run->original, run->address))
        put_field(out, "X-Original-To: ", run->original, "\n");
    /* Commands of a .forward run for the address that stands last in via: once is enough. */
    struct slice via = run->via;
    ptrdiff_t last = slice_rchr(via, '\n');
    if (!slice_ieq(slice_from_index(via, (size_t)(last + 1)), run->address))
        put_field(out, "Delivered-To: ", run->address, "\n");
    while (via.n) {
        last = slice_rchr(via, '\n');
        put_field(out, "Delivered-To: ", slice_from_index(via, (size_t)(last + 1)), "\n");
        via = slice_first(via, last < 0 ? 0 : (size_t)last);
    }
}

static int open_body(struct running *p, struct error *err)
{
    const struct run *run = p->run;
    p->rest = run->body;
    if (run->body.n || run->size == 0)
        return OK;
    p->map = mmap(NULL, run->size, PROT_READ, MAP_PRIVATE, run->fd, 0);
    if (p->map == MAP_FAILED)
        return error_sys(err, "message");
    p->rest = slice_from(p->map, run->size);
    return OK;
}

static int begin(struct running *p, const struct command *c, struct error *err)
{
    int in[2], out[2];
    if (pipe2(in, O_CLOEXEC))
        return error_sys(err, "pipe");
    if (pipe2(out, O_CLOEXEC)) {
        close(in[0]);
        close(in[1]);
        return error_sys(err, "pipe");
    }
    p->pid = fork();
    if (p->pid == 0)
        become_command(p->run, c, in, out);
    close(in[0]);
    close(out[1]);
    p->in = in[1];
    p->out = out[0];
    fcntl(p->in, F_SETFL, O_NONBLOCK);
    fcntl(p->out, F_SETFL, O_NONBLOCK);
    if (p->pid < 0)
        return error_sys(err, "no process for the command");
    p->pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
    return p->pidfd < 0 ? error_sys(err, "pidfd") : OK;
}

/* --- while it runs --------------------------------------------------------------------------- */

/* The next part of the body, with LF line ends. */
static void refill(struct running *p)
{
    size_t i = 0;
    buf_reset(&p->feed);
    for (; i < p->rest.n && i < CHUNK; i++)
        if (p->rest.p[i] != '\r' || i + 1 == p->rest.n || p->rest.p[i + 1] != '\n')
            buf_putc(&p->feed, p->rest.p[i]);
    p->rest = slice_from_index(p->rest, i);
}

static void feed(struct running *p)
{
    while (p->in >= 0) {
        if (buf_len(&p->feed) == 0)
            refill(p);
        struct slice s = buf_slice(&p->feed);
        ssize_t n = s.n ? write(p->in, s.p, s.n) : 0;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) /* all is written, or it reads no more: its exit status tells what that means */
            fd_close(&p->in);
        else
            buf_consume(&p->feed, (size_t)n);
    }
}

/* At most so much at a time: one that writes without end must not keep us from the clock. */
static void hear(struct running *p)
{
    char chunk[4096];
    ssize_t n = 1;
    for (size_t got = 0; n > 0 && got < CHUNK; got += (size_t)n) {
        n = read(p->out, chunk, sizeof(chunk));
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        size_t take = n > 0 ? MIN((size_t)n, OUTPUT_MAX - p->noutput) : 0;
        memcpy(p->output + p->noutput, chunk, take);
        p->noutput += take;
        p->heard += n > 0 ? (uint64_t)n : 0;
    }
    if (n <= 0)
        fd_close(&p->out);
    if (p->run->rules.output && p->heard > p->run->rules.output && !p->loud) {
        p->loud = true;
        p->deadline = 0;
    }
}

/* First a request, then force, for the whole group. Even a process that is killed may take long to
 * end, in a system call that cannot be broken off. */
static void press(struct running *p)
{
    kill(-p->pid, p->late ? SIGKILL : SIGTERM);
    p->late = true;
    p->deadline = monotonic_ms() + GRACE_MS;
}

static void watch(struct running *p)
{
    while (!p->ended) {
        struct pollfd fds[] = {{p->pidfd, POLLIN, 0}, {p->in, POLLOUT, 0}, {p->out, POLLIN, 0}};
        int64_t left = p->deadline - monotonic_ms();
        if (left <= 0) {
            press(p);
            continue;
        }
        if (poll(fds, ARRAY_LEN(fds), (int)MIN(left, (int64_t)60000)) <= 0)
            continue;
        if (fds[1].revents)
            feed(p);
        if (fds[2].revents)
            hear(p);
        p->ended = fds[0].revents && waitpid(p->pid, &p->status, WNOHANG) == p->pid;
    }
    if (p->out >= 0)
        hear(p);
}

static void run_to_end(struct running *p, const struct command *c, struct run_result *r)
{
    struct error err = {0};
    int rc = open_body(p, &err);
    if (!rc)
        rc = begin(p, c, &err);
    if (rc) {
        say(r, DEFERRED, "4.3.0", err.text);
        return;
    }
    put_head(p->run, &p->feed);
    watch(p);
    run_judge(p->status, r);
    if (p->loud)
        say(r, DEFERRED, "4.3.0", "the command wrote too much");
    else if (p->late)
        say(r, DEFERRED, "4.3.0", "the command took too long");
    quote_output(p, r);
}

void run_command(const struct run *run, struct run_result *r)
{
    struct command *c = NEW(struct command);
    struct error err = {0};
    struct running p = {.run = run,
        .pidfd = -1,
        .in = -1,
        .out = -1,
        .deadline = monotonic_ms() + run->rules.timeout_ms};
    int rc = make_command(run, c, &err);
    buf_init(&p.feed, 256 * 1024);
    signal(SIGPIPE, SIG_IGN);
    if (rc)
        say(r, rc == ERR_DENIED ? FAILED : DEFERRED, rc == ERR_DENIED ? "5.7.1" : "4.3.5",
            err.text);
    else if (chdir(run->account->home) && !(run->rules.homeless && chdir("/") == 0))
        say(r, DEFERRED, "4.2.0", "the home directory of the command's user is not there");
    else
        run_to_end(&p, c, r);
    if (p.map && p.map != MAP_FAILED)
        munmap(p.map, run->size);
    fd_close(&p.in);
    fd_close(&p.out);
    fd_close(&p.pidfd);
    buf_clear(&p.feed);
    free(c);
}
