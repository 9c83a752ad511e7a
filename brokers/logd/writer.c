#include "brokers/logd/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "brokers/logd/events.h"

enum { PENDING_MAX = 4 * 1024 * 1024, FLUSH_AT = 64 * 1024, CHECK_MS = 1000 };

struct writer {
    struct daemon *daemon;
    struct list channels;
    char directory[4096], path[4096]; /* path as seen from inside the sandbox */
    int fd;
    struct buf pending;
    bool flush_due;
    int64_t checked; /* when the path was last compared with the open file */
    uint64_t lost;
    int64_t second; /* of `stamp` */
    char stamp[32];
};

struct writer *writer_new(struct daemon *d, struct error *err)
{
    const struct conf_block *b = conf_one(d->conf, "log");
    char path[4000];
    if (conf_list_len(b, "to") != 2 || !slice_is(conf_list_at(b, "to", 0), "file") ||
        !slice_to_cstr(conf_list_at(b, "to", 1), path, sizeof(path))) {
        error_set(err, ERR_SYNTAX, "log.to: must be: file PATH");
        return NULL;
    }
    struct writer *w = NEW(struct writer);
    char *slash = strrchr(path, '/');
    w->daemon = d;
    list_init(&w->channels);
    w->fd = -1;
    w->second = -1;
    buf_init(&w->pending, PENDING_MAX);
    if (slash) {
        *slash = '\0';
        snprintf(w->directory, sizeof(w->directory), "%s", path[0] ? path : "/");
        if (d->rootless)
            *slash = '/';
    }
    snprintf(w->path, sizeof(w->path), "%s%s", d->rootless ? "" : "/",
        d->rootless || !slash ? path : slash + 1);
    return w;
}

struct list *writer_channels(struct writer *w)
{
    return &w->channels;
}

const char *writer_directory(const struct writer *w)
{
    return w->directory;
}

int writer_open(struct writer *w, struct error *err)
{
    int fd = open(w->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (fd < 0)
        return error_sys(err, "log file %s in %s", w->path, w->directory);
    fd_close(&w->fd);
    w->fd = fd;
    return OK;
}

/* Compares the path with the open file, once a second at most. */
static void check_moved(struct writer *w)
{
    struct stat here, there;
    int64_t now = loop_now(w->daemon->loop);
    if (now - w->checked < CHECK_MS)
        return;
    w->checked = now;
    if (fstat(w->fd, &here) == 0 && stat(w->path, &there) == 0 && here.st_ino == there.st_ino &&
        here.st_dev == there.st_dev)
        return;
    if (writer_open(w, NULL) == OK)
        log_event(&w->daemon->log, log_opened, .path = slice_of(w->path));
}

void writer_flush(struct writer *w)
{
    struct slice s = buf_slice(&w->pending);
    if (s.n == 0)
        return;
    check_moved(w);
    ssize_t n = write(w->fd, s.p, s.n);
    if (n < (ssize_t)s.n) {
        struct slice rest = slice_from_index(s, n > 0 ? (size_t)n : 0);
        for (size_t i = 0; i < rest.n; i++)
            w->lost += rest.p[i] == '\n';
    } else if (w->lost) {
        log_event(&w->daemon->log, log_lost, .path = slice_of(w->path), .lost = w->lost);
        w->lost = 0;
    }
    buf_reset(&w->pending);
}

static void flush_deferred(void *arg)
{
    struct writer *w = arg;
    w->flush_due = false;
    writer_flush(w);
}

/* What begins each line: the time, and who says so. */
static size_t make_head(struct writer *w, const char *program, int pid, char *out, size_t room)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (now.tv_sec != w->second) {
        struct tm tm;
        gmtime_r(&now.tv_sec, &tm);
        strftime(w->stamp, sizeof(w->stamp), "%Y-%m-%dT%H:%M:%S", &tm);
        w->second = now.tv_sec;
    }
    int n = snprintf(
        out, room, "%s.%03dZ %s[%d] ", w->stamp, (int)(now.tv_nsec / 1000000), program, pid);
    return MIN((size_t)n, room - 1);
}

static void put_line(struct buf *b, struct slice head, struct slice line)
{
    char *at = buf_reserve(b, head.n + line.n + 1);
    if (!at)
        return;
    memcpy(at, head.p, head.n);
    at += head.n;
    for (size_t i = 0; i < line.n; i++) {
        unsigned char c = (unsigned char)line.p[i];
        at[i] = (char)(c < ' ' || c == 0x7f ? '?' : c);
    }
    at[line.n] = '\n';
    buf_claim(b, head.n + line.n + 1);
}

void writer_add(struct writer *w, const char *program, int pid, struct slice record)
{
    char text[128];
    struct slice head = slice_from(text, make_head(w, program, pid, text, sizeof(text)));
    while (record.n) {
        struct slice line = slice_cut(&record, '\n');
        if (buf_len(&w->pending) + head.n + line.n + 1 > PENDING_MAX)
            writer_flush(w);
        put_line(&w->pending, head, line);
    }
    if (buf_len(&w->pending) >= FLUSH_AT) {
        writer_flush(w);
    } else if (!w->flush_due) {
        w->flush_due = true;
        loop_defer(w->daemon->loop, flush_deferred, w);
    }
}
