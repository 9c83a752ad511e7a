#include "libutil/log.h"

#include <errno.h>
#include <pthread.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libutil/error.h"

enum { LINE_MAX_BYTES = 8192, GATHER_MAX = 32 * 1024, WAITING_MAX = 1024 * 1024 };

/* The one piece of process-wide state besides main.c's: every part of a program logs. */
static struct {
    char program[32];
    enum log_level least;
    int fd;
    uint64_t dropped;
    bool gather;        /* a loop sends what waits at the end of its turn */
    struct buf waiting; /* lines that were gathered, or that logd had no room for */
    void (*on_waiting)(void *arg);
    void *arg;
} logger = {.program = "veredus", .least = LOG_INFO, .fd = -1, .waiting = {.max = WAITING_MAX}};

LOG_EVENTS_DEFINE(log_common, LOG_COMMON_EVENTS)

void log_setup(const char *program, enum log_level least)
{
    snprintf(logger.program, sizeof(logger.program), "%s", program);
    logger.least = least;
}

void log_set_fd(int fd)
{
    fd_close(&logger.fd);
    logger.fd = fd;
}

int log_fd(void)
{
    return logger.fd;
}

bool log_tracing(const char *what)
{
    struct slice rest = slice_of(getenv("VEREDUS_TRACE"));
    while (rest.n)
        if (slice_is(slice_trim(slice_cut(&rest, ',')), what))
            return true;
    return false;
}

static void put_ids(struct buf *b, const struct log *log)
{
    if (!log)
        return;
    put_ids(b, log->parent);
    if (log->key && log->value[0]) {
        buf_putc(b, ' ');
        buf_puts(b, log->key);
        buf_putc(b, '=');
        field_print_str(b, slice_of(log->value));
    }
}

static const char *const level_names[] = {"debug", "info", "notice", "warn", "error"};

enum log_level log_level_of(struct slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(level_names); i++)
        if (slice_is(name, level_names[i]))
            return (enum log_level)i;
    return LOG_INFO;
}

static void write_stderr(struct buf *b)
{
    char head[64];
    int n = snprintf(head, sizeof(head), "%s[%d] ", logger.program, (int)getpid());
    buf_putc(b, '\n');
    struct slice line = buf_slice(b);
    ssize_t done = write(STDERR_FILENO, head, (size_t)n);
    done = write(STDERR_FILENO, line.p, line.n);
    (void)done;
}

void log_on_waiting(void (*fn)(void *arg), void *arg)
{
    logger.on_waiting = fn;
    logger.arg = arg;
}

static bool send_now(struct slice record)
{
    return send(logger.fd, record.p, record.n, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

static bool tell_dropped(void)
{
    char note[64];
    int n = snprintf(note, sizeof(note), "event=log.dropped level=warn count=%llu",
        (unsigned long long)logger.dropped);
    if (!send_now(slice_from(note, (size_t)n)))
        return false;
    logger.dropped = 0;
    return true;
}

/* As many whole lines as a record holds, at least one; without the last line end. */
static struct slice next_lines(void)
{
    struct slice all = buf_slice(&logger.waiting), part = slice_first(all, LINE_MAX_BYTES);
    const char *end = part.n < all.n ? memrchr(part.p, '\n', part.n) : part.p + part.n - 1;
    return slice_first(part, end ? (size_t)(end - part.p) : part.n);
}

bool log_send_waiting(void)
{
    while (buf_len(&logger.waiting)) {
        struct slice lines = next_lines();
        if (!send_now(lines))
            return false;
        buf_consume(&logger.waiting, lines.n + 1);
    }
    return logger.dropped == 0 || tell_dropped();
}

/* In a child of fork, which has no loop; what was gathered is the parent's to send. */
static void forget_gathered(void)
{
    logger.gather = false;
    buf_reset(&logger.waiting);
}

void log_gather(void)
{
    logger.gather = true;
    (void)!pthread_atfork(NULL, NULL, forget_gathered);
}

static void keep(struct slice line)
{
    bool first = buf_len(&logger.waiting) == 0;
    if (buf_len(&logger.waiting) + line.n + 1 > WAITING_MAX) {
        logger.dropped++;
        return;
    }
    buf_put(&logger.waiting, line);
    buf_putc(&logger.waiting, '\n');
    if (first && logger.on_waiting)
        logger.on_waiting(logger.arg);
}

/* A record to logd, which knows from the wiring whose channel it is. Nobody waits for logd:
 * what it has no room for is kept up to a limit, then dropped and counted. */
static void send_record(struct slice line, enum log_level level)
{
    if (logger.gather && level < LOG_WARN && buf_len(&logger.waiting) < GATHER_MAX)
        keep(line);
    else if (!log_send_waiting() || !send_now(line))
        keep(line);
}

void log_emit(const struct log *log, const struct log_event *event, const void *fields)
{
    if (event->level < logger.least)
        return;
    int saved = errno;
    char line[LINE_MAX_BYTES] __attribute__((uninitialized));
    struct buf b;
    buf_over(&b, line, LINE_MAX_BYTES - 1);
    buf_puts(&b, "event=");
    buf_puts(&b, event->name);
    if (event->level != LOG_INFO)
        buf_printf(&b, " level=%s", level_names[event->level]);
    put_ids(&b, log);
    record_print(&b, &event->rec, fields, false);
    if (b.failed) {
        b.failed = false;
        buf_truncate(&b, MIN(buf_len(&b), (size_t)LINE_MAX_BYTES - 16));
        buf_puts(&b, " cut=yes");
    }
    if (logger.fd >= 0)
        send_record(buf_slice(&b), event->level);
    else
        write_stderr(&b);
    errno = saved;
}

/* Digits, consonants and e: few words can be spelled with them. */
static const char digits[] = "0123456789bcdefghjklmnpqrstvwxyz";

void id_print(uint64_t id, char out[ID_TEXT])
{
    char text[ID_TEXT];
    size_t n = 0;
    do {
        text[n++] = digits[id & 31];
        id >>= 5;
    } while (id);
    for (size_t i = 0; i < n; i++)
        out[i] = text[n - 1 - i];
    out[n] = '\0';
}

int id_parse(struct slice s, uint64_t *id)
{
    uint64_t v = 0;
    if (s.n == 0 || s.n >= ID_TEXT)
        return ERR_SYNTAX;
    for (size_t i = 0; i < s.n; i++) {
        const char *d = s.p[i] ? memchr(digits, s.p[i], 32) : NULL;
        if (!d || v >> 59)
            return ERR_SYNTAX;
        v = v << 5 | (uint64_t)(d - digits);
    }
    if (v == 0)
        return ERR_SYNTAX; /* "none" everywhere, and "all" where messages are acted on */
    *id = v;
    return OK;
}

uint64_t id_new(void)
{
    uint64_t id = 0;
    while (id == 0)
        if (getrandom(&id, sizeof(id), 0) != (ssize_t)sizeof(id))
            id = 0;
    return id;
}

void log_set_id(struct log *log, const struct log *parent, const char *key, uint64_t id)
{
    log->parent = parent;
    log->key = key;
    id_print(id, log->value);
}

int log_print_events(const struct log_event *const *events)
{
    const struct log_event *const *lists[] = {events, log_common_events};
    for (size_t l = 0; l < ARRAY_LEN(lists); l++)
        for (const struct log_event *const *e = lists[l]; e && *e; e++) {
            printf("%s\t%d\t%s\t", (*e)->name, (int)(*e)->level, (*e)->meaning);
            for (size_t i = 0; i < (*e)->rec.nfields; i++)
                printf("%s%s", i ? " " : "", (*e)->rec.fields[i].name);
            putchar('\n');
        }
    return 0;
}
