#include "libstore/mbox_deliver.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "libstore/mbox.h"
#include "libstore/userfile.h"

enum { LOCK_STEP_MS = 100, CHUNK = 64 * 1024 };

/* --- locks ----------------------------------------------------------------------------------- */

static void pause_a_step(void)
{
    nanosleep(&(struct timespec){.tv_nsec = LOCK_STEP_MS * 1000000L}, NULL);
}

static bool is_stale(int dir, const char *lock)
{
    struct stat st;
    return fstatat(dir, lock, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           st.st_mtime + MBOX_LOCK_STALE_S < time(NULL);
}

/* *held: whether there is a lock file to remove afterwards. */
static int dot_lock(int dir, const char *lock, int *steps, bool *held, struct error *err)
{
    for (;;) {
        struct error why;
        int fd, rc = userfile_open(dir, lock, O_WRONLY | O_CREAT | O_EXCL, &fd, &why);
        *held = rc == OK;
        if (rc == OK)
            fd_close(&fd);
        if (rc == OK || rc == ERR_DENIED)
            return OK;
        if (rc != ERR_EXISTS)
            return error_set(err, rc, "lock of the mailbox file: %s", why.text);
        if (is_stale(dir, lock) && unlinkat(dir, lock, 0) == 0)
            continue;
        if ((*steps)-- <= 0)
            return error_set(err, ERR_BUSY, "the mailbox file is locked by another program");
        pause_a_step();
    }
}

static int file_lock(int fd, int *steps, struct error *err)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    while (fcntl(fd, F_SETLK, &whole)) {
        if (errno != EAGAIN && errno != EACCES && errno != EINTR)
            return error_sys(err, "lock of the mailbox file");
        if ((*steps)-- <= 0)
            return error_set(err, ERR_BUSY, "the mailbox file is locked by another program");
        pause_a_step();
    }
    return OK;
}

/* --- writing --------------------------------------------------------------------------------- */

struct writer {
    int fd;
    struct buf out;
    struct error *err;
};

static int flush(struct writer *w)
{
    while (buf_len(&w->out)) {
        struct slice s = buf_slice(&w->out);
        ssize_t n = write(w->fd, s.p, s.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_sys(w->err, "mailbox file");
        buf_consume(&w->out, (size_t)n);
    }
    buf_reset(&w->out);
    return OK;
}

static int put(struct writer *w, struct slice s)
{
    int rc = OK;
    while (!rc && s.n) {
        struct slice part = slice_first(s, CHUNK);
        buf_put(&w->out, part);
        s = slice_from_index(s, part.n);
        if (buf_len(&w->out) >= CHUNK)
            rc = flush(w);
    }
    return rc;
}

/* Without notes: a sender must not mark his message as read or deleted, nor say where it ends. */
static int put_lines(struct writer *w, struct slice text)
{
    int rc = OK;
    bool header = true, dropped = false;
    while (!rc && text.p && text.n) {
        struct slice line = slice_cut(&text, '\n');
        if (line.n && line.p[line.n - 1] == '\r')
            line.n--;
        header = header && line.n > 0;
        dropped = header && mbox_is_note(line, dropped);
        if (dropped)
            continue;
        if (mbox_is_from(line))
            rc = put(w, SLICE_LIT(">"));
        if (!rc)
            rc = put(w, line);
        if (!rc)
            rc = put(w, SLICE_LIT("\n"));
    }
    return rc;
}

/* Addresses hold no line end, but nothing here may depend on it. */
static void put_word(struct buf *out, struct slice s, char blank)
{
    for (size_t i = 0; i < s.n; i++)
        buf_putc(out, (unsigned char)s.p[i] <= ' ' ? blank : s.p[i]);
}

/* The field that marks our delivery. While the message is being written it has another name of the
 * same length, so that what a crash leaves behind is not taken for the message. */
static void id_field(const struct store_delivery *d, bool whole, char out[64])
{
    snprintf(out, 64, "X-Veredus-%s: %016llx\n", whole ? "Delivery" : "Underway",
        (unsigned long long)d->id);
}

/* *mark: where the field with the delivery id begins, from the start of what is written. */
static int put_head(struct writer *w, const struct store_delivery *d, bool gap, size_t *mark)
{
    char date[64], id[64];
    time_t now = time(NULL);
    struct tm tm;
    gmtime_r(&now, &tm);
    strftime(date, sizeof(date), "%a %b %e %H:%M:%S %Y", &tm);
    buf_puts(&w->out, gap ? "\nFrom " : "From ");
    put_word(&w->out, d->sender.n ? d->sender : SLICE_LIT("MAILER-DAEMON"), '_');
    buf_printf(&w->out, " %s\nReturn-Path: <", date);
    put_word(&w->out, d->sender, ' ');
    buf_puts(&w->out, ">\n");
    if (d->original.n && !slice_ieq(d->original, d->address)) {
        buf_puts(&w->out, "X-Original-To: ");
        put_word(&w->out, d->original, ' ');
        buf_puts(&w->out, "\n");
    }
    buf_puts(&w->out, "Delivered-To: ");
    put_word(&w->out, d->address, ' ');
    buf_puts(&w->out, "\n");
    for (struct slice via = d->via; via.n;) {
        ptrdiff_t at = slice_rchr(via, '\n');
        buf_puts(&w->out, "Delivered-To: ");
        put_word(&w->out, slice_from_index(via, (size_t)(at + 1)), ' ');
        buf_puts(&w->out, "\n");
        via = slice_first(via, at < 0 ? 0 : (size_t)at);
    }
    id_field(d, false, id);
    *mark = buf_len(&w->out);
    buf_puts(&w->out, d->id ? id : "");
    return w->out.failed ? error_set(w->err, ERR_LIMIT, "addresses are too long") : OK;
}

static int put_body(struct writer *w, const struct store_delivery *d)
{
    if (d->body.n || d->size == 0)
        return put_lines(w, d->body);
    void *map = mmap(NULL, d->size, PROT_READ, MAP_PRIVATE, d->fd, 0);
    if (map == MAP_FAILED)
        return error_sys(w->err, "message");
    int rc = put_lines(w, slice_from(map, d->size));
    munmap(map, d->size);
    return rc;
}

/* The end of the file as it is. */
struct past {
    off_t size;
    bool gap;   /* a line must be ended first */
    bool again; /* we were here, and the message is whole */
    bool half;  /* we were here and did not come to the end; size is where that begins */
};

/* Where a message begins that was left unfinished and that nothing follows; -1: there is none. */
static ptrdiff_t find_half(struct slice end, const struct store_delivery *d)
{
    char id[64];
    id_field(d, false, id);
    ptrdiff_t at = slice_find(end, slice_of(id));
    if (at < 0 || slice_find(slice_from_index(end, (size_t)at), SLICE_LIT("\nFrom ")) >= 0)
        return -1;
    while (at > 0 &&
           !(end.p[at - 1] == '\n' && slice_starts(slice_from_index(end, (size_t)at), "From ")))
        at--;
    return slice_starts(slice_from_index(end, (size_t)at), "From ") ? at : -1;
}

static int look_back(int fd, const struct store_delivery *d, struct past *past, struct error *err)
{
    *past = (struct past){.size = lseek(fd, 0, SEEK_END)};
    if (past->size < 0)
        return error_sys(err, "mailbox file");
    /* Half of this message may be there, with a '>' more here and there. */
    size_t n = (size_t)MIN(past->size, (off_t)(MBOX_SEARCH + d->size + d->size / 4));
    char *tail = xcalloc(1, n + 1), id[64];
    ssize_t got = n ? pread(fd, tail, n, past->size - (off_t)n) : 0;
    struct slice end = slice_from(tail, n);
    id_field(d, true, id);
    past->again = d->id && slice_find(end, slice_of(id)) >= 0;
    ptrdiff_t half = d->id && !past->again ? find_half(end, d) : -1;
    if (half >= 0) {
        past->half = true;
        past->size -= (off_t)n - half;
        end = slice_first(end, (size_t)half);
    }
    past->gap = end.n && !slice_ends(end, "\n\n");
    free(tail);
    return got == (ssize_t)n ? OK : error_sys(err, "mailbox file");
}

/* The message is on the disk before its mark says so. */
static int confirm(int fd, const struct store_delivery *d, off_t mark, struct error *err)
{
    char id[64];
    id_field(d, true, id);
    size_t n = strlen(id);
    if (fsync(fd) || (d->id && pwrite(fd, id, n, mark) != (ssize_t)n))
        return error_sys(err, "mailbox file");
    return OK;
}

static bool has_room(const struct quota *q, const struct past *past, const struct store_delivery *d)
{
    const struct quota_usage used = {(uint64_t)past->size, 0};
    struct quota bytes = {.bytes = q->bytes, .grace = q->grace};
    return quota_fits(&bytes, &used, SLICE_LIT("INBOX"), d->size, 0, QUOTA_DELIVERY);
}

static int append(int fd, const struct store_delivery *d, const struct quota *limits, bool *again,
    struct error *err)
{
    struct writer w = {.fd = fd, .err = err};
    struct past past;
    size_t mark = 0;
    int rc = look_back(fd, d, &past, err);
    *again = !rc && past.again;
    if (rc || *again)
        return rc;
    if (limits && !has_room(limits, &past, d))
        return error_set(err, ERR_QUOTA, "the mailbox is over its quota");
    if (past.half && (ftruncate(fd, past.size) || lseek(fd, 0, SEEK_END) < 0))
        return error_sys(err, "mailbox file");
    buf_init(&w.out, 4 * CHUNK);
    rc = put_head(&w, d, past.gap, &mark);
    if (!rc)
        rc = put_body(&w, d);
    if (!rc)
        rc = put(&w, SLICE_LIT("\n"));
    if (!rc)
        rc = flush(&w);
    if (!rc)
        rc = confirm(fd, d, past.size + (off_t)mark, err);
    if (rc && ftruncate(fd, past.size)) {
        struct error why = *err;
        rc = error_set(err, rc, "%s, and a part of the message remains in the file", why.text);
    }
    buf_clear(&w.out);
    return rc;
}

/* --- the whole ------------------------------------------------------------------------------- */

static int check_file(int fd, bool *gone, struct error *err)
{
    struct stat st;
    if (fstat(fd, &st))
        return error_sys(err, "mailbox file");
    *gone = st.st_nlink == 0;
    if (*gone)
        return error_set(err, ERR_BUSY, "the mailbox file is replaced again and again");
    if (!S_ISREG(st.st_mode) || st.st_nlink != 1 || st.st_uid != geteuid())
        return error_set(
            err, ERR_DENIED, "the mailbox file is not a regular file of the user with one name");
    return OK;
}

/* What stood at the path may be replaced until it is locked, by programs that know no dot lock. */
static int open_locked(int dir, const char *path, int *steps, int *fd, struct error *err)
{
    enum { TRIES = 20 };
    bool gone = true;
    int rc = ERR_BUSY;
    for (int i = 0; i < TRIES && gone; i++) {
        gone = false;
        fd_close(fd);
        rc = userfile_open(dir, path, O_RDWR, fd, err);
        if (rc == ERR_NOT_FOUND) {
            rc = userfile_open(dir, path, O_RDWR | O_CREAT | O_EXCL, fd, err);
            gone = rc == ERR_EXISTS;
            if (rc == ERR_DENIED)
                error_set(err, rc, "there is no mailbox file, and the account may not make it");
        }
        if (!rc)
            rc = check_file(*fd, &gone, err);
        if (!rc)
            rc = file_lock(*fd, steps, err);
        if (!rc)
            rc = check_file(*fd, &gone, err);
    }
    return rc;
}

int mbox_deliver(
    int dir, const char *path, const struct store_delivery *d, bool *again, struct error *err)
{
    return mbox_deliver_within(dir, path, d, NULL, again, err);
}

int mbox_deliver_within(int dir, const char *path, const struct store_delivery *d,
    const struct quota *limits, bool *again, struct error *err)
{
    char lock[1100];
    int fd = -1, steps = (int)(d->patience_ms ? d->patience_ms : MBOX_LOCK_MS) / LOCK_STEP_MS;
    bool held = false;
    *again = false;
    int n = snprintf(lock, sizeof(lock), "%s.lock", path);
    if (n < 0 || (size_t)n >= sizeof(lock))
        return error_set(err, ERR_LIMIT, "the mailbox file has too long a name");
    int rc = dot_lock(dir, lock, &steps, &held, err);
    if (!rc)
        rc = open_locked(dir, path, &steps, &fd, err);
    if (!rc)
        rc = append(fd, d, limits, again, err);
    fd_close(&fd);
    if (held)
        (void)unlinkat(dir, lock, 0);
    return rc;
}

int path_deliver(
    int dir, const char *path, const struct store_delivery *d, bool *again, struct error *err)
{
    const struct store_options opt = {.coexist = true, .create = true};
    struct store_appended out;
    struct store *store;
    size_t n = strlen(path);
    if (n == 0 || path[n - 1] != '/')
        return mbox_deliver(dir, path, d, again, err);
    while (n && path[n - 1] == '/')
        n--;
    char *maildir = xmemdup0(path, n);
    int rc = store_open(dir, maildir, &opt, &store, err);
    free(maildir);
    if (rc)
        return rc;
    rc = store_deliver(store, SLICE_LIT("INBOX"), d, &out, err);
    *again = !rc && out.duplicate;
    if (!rc)
        rc = store_sync(store_dirfd(store), err);
    store_close(store);
    return rc;
}
