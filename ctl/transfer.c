/* mailbox import, export: between a folder and an mbox file or a Maildir of somebody else. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "ctl/import.h"
#include "ctl/json.h"
#include "ctl/mailuser.h"
#include "libstore/foreign.h"
#include "libstore/mbox.h"

/* The largest message the store can read back. */
static const uint64_t message_max = 1 << 30;

struct transfer {
    struct ctl *c;
    struct store *store;
    struct slice folder;
    const char *path;
    char *where; /* imports: what the source is called whoever asks; NULL: it has no name */
    bool import;
    uint64_t messages, size, present, skipped;
};

/* Says what is wrong with one message; the others go on. */
static void skip(struct transfer *t, const char *where, uint64_t number, const char *why)
{
    if (where)
        fprintf(stderr, "veredus: %s/%s: %s: skipped\n", t->path, where, why);
    else
        fprintf(
            stderr, "veredus: %s:%llu: %s: skipped\n", t->path, (unsigned long long)number, why);
    t->skipped++;
}

static int finish(struct transfer *t, int rc, const struct error *err)
{
    struct buf out;
    struct json j = {.out = &out};
    buf_init(&out, 4096);
    if (t->c->json) {
        json_begin(&j, NULL, '{');
        json_int(&j, "messages", (int64_t)t->messages);
        json_int(&j, "size", (int64_t)t->size);
        if (t->import)
            json_int(&j, "present", (int64_t)t->present);
        json_int(&j, "skipped", (int64_t)t->skipped);
        json_end(&j, '}');
        buf_putc(&out, '\n');
    } else {
        buf_printf(&out, "%llu messages, %llu bytes, ", (unsigned long long)t->messages,
            (unsigned long long)t->size);
        if (t->import)
            buf_printf(&out, "%llu there before, ", (unsigned long long)t->present);
        buf_printf(&out, "%llu skipped\n", (unsigned long long)t->skipped);
    }
    /* Standard output may be the mbox file. */
    fwrite(buf_slice(&out).p, 1, buf_len(&out), strcmp(t->path, "-") == 0 ? stderr : stdout);
    buf_clear(&out);
    store_close(t->store);
    free(t->where);
    return rc ? ctl_report(err) : t->skipped ? CTL_NO : CTL_OK;
}

/* --- import ----------------------------------------------------------------------------------- */

static int make_folder(struct transfer *t, struct error *err)
{
    int rc = store_name_check(t->folder);
    if (rc)
        return error_set(err, rc, "%.*s: not a name for a folder", SLICE_FMT(t->folder));
    return store_exists(t->store, t->folder) ? OK : store_create(t->store, t->folder, err);
}

/* Takes the append to its end. *why is set for a message that cannot be stored. */
static int commit(struct transfer *t, struct store_append *a, uint64_t size,
    const struct store_append_options *opt, const char **why, struct error *err)
{
    struct store_appended done;
    /* An empty line alone is what an mbox file has of a message that was cut off. */
    if (size <= 2 || size > message_max) {
        store_append_abort(a);
        *why = size > 2 ? "too large" : "empty";
        return OK;
    }
    int rc = store_append_commit(a, opt, &done, err);
    if (rc == ERR_LIMIT) {
        *why = err->text;
        return OK;
    }
    t->present += !rc && done.duplicate;
    t->messages += !rc && !done.duplicate;
    t->size += rc || done.duplicate ? 0 : size;
    return rc;
}

/* Of one message of this source, so that an import that was cut off can be repeated. */
static uint64_t message_id(const struct transfer *t, const char *message)
{
    const struct slice words[] = {slice_of(t->where), t->folder, slice_of(message)};
    return t->where ? import_id(words, ARRAY_LEN(words)) : 0;
}

static bool is_internal(struct slice line)
{
    return slice_starts(line, "Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA");
}

static int import_message(
    struct transfer *t, struct mbox *mbox, const struct mbox_message *m, struct error *err)
{
    struct store_append *a;
    struct slice piece;
    uint64_t size = 0;
    bool internal = false;
    const char *why = NULL;
    int rc = store_append_begin(t->store, t->folder, 0, &a, err);
    if (rc)
        return rc;
    while (!rc && mbox_piece(mbox, &piece)) {
        internal |= size < 2048 && is_internal(piece);
        size += piece.n;
        if (size <= message_max)
            rc = store_append_write(a, piece, err);
    }
    if (rc || internal) {
        store_append_abort(a);
        return rc;
    }
    char name[64];
    snprintf(name, sizeof(name), "%llu %lld", (unsigned long long)m->line, (long long)m->date);
    struct store_append_options opt = {.flags = m->flags,
        .keywords = m->keywords,
        .nkeywords = m->nkeywords,
        .date = m->date,
        .delivery = message_id(t, name),
        .import = true};
    rc = commit(t, a, size, &opt, &why, err);
    if (why)
        skip(t, NULL, m->line, why);
    return rc;
}

static int import_mbox(struct transfer *t, FILE *in, struct error *err)
{
    struct mbox *mbox = mbox_new(in);
    struct mbox_message *m;
    int rc = OK;
    while (!rc && mbox_next(mbox, &m))
        rc = import_message(t, mbox, m, err);
    if (!rc && ferror(in))
        rc = error_sys(err, "%s", t->path);
    if (!rc && mbox_strays(mbox))
        skip(t, NULL, 1, "does not begin with a From_ line");
    mbox_free(mbox);
    return rc;
}

struct entry {
    char *name; /* with cur/ or new/ */
    int64_t time;
};

struct entries {
    struct entry *list;
    size_t n, cap;
};

static int by_time(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->time != y->time)
        return x->time < y->time ? -1 : 1;
    return strcmp(x->name + 4, y->name + 4);
}

static int read_names(int dirfd, const char *where, struct entries *all, struct error *err)
{
    int fd = openat(dirfd, where, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        int rc = errno == ENOENT ? OK : error_sys(err, "%s", where);
        fd_close(&fd);
        return rc;
    }
    for (struct dirent *e; (e = readdir(d));) {
        uint64_t time = 0;
        char name[300];
        if (e->d_name[0] == '.')
            continue;
        if (all->n == all->cap) {
            all->cap = all->cap ? all->cap * 2 : 64;
            all->list = xrealloc(all->list, all->cap, sizeof(*all->list));
        }
        if (slice_u64(slice_first(slice_of(e->d_name), strspn(e->d_name, "0123456789")), 0,
                INT64_MAX, &time))
            time = 0;
        snprintf(name, sizeof(name), "%s/%s", where, e->d_name);
        all->list[all->n++] = (struct entry){xstrdup(name), (int64_t)time};
    }
    closedir(d);
    return OK;
}

/* Letters of the file's name, and keywords where Dovecot or Courier tell them. */
static void describe(const struct foreign *fo, const char *name, struct store_append_options *opt,
    struct slice keywords[STORE_KEYWORDS_MAX])
{
    static const struct {
        char letter;
        uint32_t flag;
    } letters[] = {{'D', STORE_DRAFT}, {'F', STORE_FLAGGED}, {'R', STORE_ANSWERED},
        {'S', STORE_SEEN}, {'T', STORE_DELETED}};
    const char *info = strstr(name, ":2,");
    char base[300];
    snprintf(base, sizeof(base), "%s", name);
    base[strcspn(base, ":")] = '\0';
    for (size_t i = 0; info && i < ARRAY_LEN(letters); i++)
        if (strchr(info + 3, letters[i].letter))
            opt->flags |= letters[i].flag;
    uint64_t words = foreign_words(fo, foreign_get(fo, base), name);
    for (size_t i = 0; i < STORE_KEYWORDS_MAX; i++)
        if (words >> i & 1 && fo->words[i])
            keywords[opt->nkeywords++] = slice_of(fo->words[i]);
    opt->keywords = keywords;
}

static int import_file(
    struct transfer *t, int dirfd, const struct foreign *fo, const char *name, struct error *err)
{
    struct store_append *a;
    struct store_append_options opt = {0};
    struct slice keywords[STORE_KEYWORDS_MAX];
    struct stat st;
    const char *why = NULL;
    int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC), rc = OK;
    if (fd < 0 || fstat(fd, &st)) {
        why = strerror(errno);
    } else if (!S_ISREG(st.st_mode)) {
        why = "not a file";
    } else {
        rc = store_append_begin(t->store, t->folder, (uint64_t)st.st_size, &a, err);
        if (rc)
            goto out;
        describe(fo, name + 4, &opt, keywords);
        opt.date = st.st_mtime;
        char base[300];
        snprintf(base, sizeof(base), "%.*s", (int)strcspn(name + 4, ":"), name + 4);
        opt.delivery = message_id(t, base);
        opt.import = true;
        if ((uint64_t)st.st_size <= message_max)
            rc = store_append_fd(a, fd, (uint64_t)st.st_size, err);
        if (rc == ERR_CORRUPT || rc == ERR_IO) {
            why = err->text;
            rc = OK;
            store_append_abort(a);
        } else if (rc) {
            store_append_abort(a);
        } else {
            rc = commit(t, a, (uint64_t)st.st_size, &opt, &why, err);
        }
    }
    if (why)
        skip(t, name, 0, why);
out:
    fd_close(&fd);
    return rc;
}

static int import_maildir(struct transfer *t, int dirfd, struct error *err)
{
    struct entries all = {0};
    struct foreign fo;
    int rc = foreign_read(dirfd, &fo, err);
    if (rc)
        return rc;
    rc = read_names(dirfd, "cur", &all, err);
    if (!rc)
        rc = read_names(dirfd, "new", &all, err);
    if (all.n)
        qsort(all.list, all.n, sizeof(*all.list), by_time);
    for (size_t i = 0; i < all.n; i++) {
        if (!rc)
            rc = import_file(t, dirfd, &fo, all.list[i].name, err);
        free(all.list[i].name);
    }
    free(all.list);
    foreign_clear(&fo);
    return rc;
}

/* Said before anything is made in the mailbox. */
static const char *not_importable(int fd, bool is_mbox)
{
    struct stat st;
    if (is_mbox)
        return fstat(fd, &st) == 0 && S_ISDIR(st.st_mode) ? strerror(EISDIR) : NULL;
    return fstatat(fd, "cur", &st, 0) && fstatat(fd, "new", &st, 0)
               ? "not a Maildir: it has neither cur nor new"
               : NULL;
}

static int import(struct ctl *c, int argc, char **argv)
{
    struct error err = {0};
    if (argc > 2 && strcmp(argv[1], "imap") == 0)
        return import_imap(c, argc, argv);
    if (argc != 4 || (strcmp(argv[2], "mbox") != 0 && strcmp(argv[2], "maildir") != 0))
        return ctl_usage(c);
    if (!ctl_conf(c))
        return CTL_NO;
    struct transfer t = {.c = c, .folder = slice_of(argv[1]), .path = argv[3], .import = true};
    bool is_mbox = strcmp(argv[2], "mbox") == 0, is_stdin = is_mbox && strcmp(argv[3], "-") == 0;
    int fd =
        is_stdin ? STDIN_FILENO : open(argv[3], O_RDONLY | O_CLOEXEC | (is_mbox ? 0 : O_DIRECTORY));
    FILE *in = fd >= 0 && is_mbox ? fdopen(fd, "r") : NULL;
    if (fd < 0 || (is_mbox && !in))
        return ctl_fail(CTL_NO, "%s: %s", argv[3], strerror(errno));
    const char *wrong = is_stdin ? NULL : not_importable(fd, is_mbox);
    if (wrong)
        return ctl_fail(CTL_NO, "%s: %s", argv[3], wrong);
    t.where = is_stdin ? NULL : realpath(argv[3], NULL);
    int rc = mailuser_open(c, argv[0], true, NULL, &t.store, &err);
    if (rc) {
        free(t.where);
        return ctl_report(&err);
    }
    rc = make_folder(&t, &err);
    if (!rc)
        rc = is_mbox ? import_mbox(&t, in, &err) : import_maildir(&t, fd, &err);
    struct error late;
    if (t.messages && store_sync(store_dirfd(t.store), &late) && !rc) {
        rc = late.code;
        err = late;
    }
    if (in)
        fclose(in);
    else
        fd_close(&fd);
    return finish(&t, rc, &err);
}

/* --- export ----------------------------------------------------------------------------------- */

struct target {
    FILE *mbox;
    int dirfd, cur;  /* of a Maildir */
    struct buf list; /* its dovecot-uidlist */
};

static void keywords_of(
    struct store_mailbox *mb, const struct store_msg *m, struct mbox_message *out)
{
    for (size_t i = 0; i < store_keywords(mb); i++)
        if (m->keywords >> i & 1)
            out->keywords[out->nkeywords++] = store_keyword(mb, i);
}

static int write_file(
    int dirfd, const char *name, struct slice content, bool crlf, int64_t date, struct error *err)
{
    int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    FILE *out = fd < 0 ? NULL : fdopen(fd, "w");
    struct timespec times[2] = {{.tv_sec = date}, {.tv_sec = date}};
    if (!out)
        return error_sys(err, "%s", name);
    while (content.n) {
        struct slice line = slice_cut(&content, '\n');
        bool lf = content.p != NULL;
        if (crlf && lf && slice_ends(line, "\r"))
            line.n--;
        fwrite(line.p, 1, line.n, out);
        if (lf)
            putc('\n', out);
    }
    int rc = fflush(out) || ferror(out) || (date && futimens(fd, times))
                 ? error_sys(err, "%s", name)
                 : OK;
    fclose(out);
    return rc;
}

/* In cur/, with flags and keywords as letters; and a line for dovecot-uidlist, so that whoever
 * adopts the Maildir keeps UIDs and unique ids. */
static int put_file(struct target *to, struct store_mailbox *mb, const struct store_msg *m,
    struct slice content, struct error *err)
{
    static const struct {
        uint32_t flag;
        char letter;
    } letters[] = {{STORE_DRAFT, 'D'}, {STORE_FLAGGED, 'F'}, {STORE_ANSWERED, 'R'},
        {STORE_SEEN, 'S'}, {STORE_DELETED, 'T'}};
    char name[200], uidl[STORE_UIDL_MAX + 1];
    int n = snprintf(name, sizeof(name), "%lld.V%uU%u.veredus", (long long)m->date,
        store_uidvalidity(mb), m->uid);
    store_uidl(mb, m->guid, uidl);
    buf_printf(&to->list, "%u P%s :%s\n", m->uid, uidl, name);
    n += snprintf(name + n, sizeof(name) - (size_t)n, ":2,");
    for (size_t i = 0; i < ARRAY_LEN(letters); i++)
        if (m->flags & letters[i].flag)
            name[n++] = letters[i].letter;
    for (size_t i = 0; i < store_keywords(mb) && i < 26; i++)
        if (m->keywords >> i & 1)
            name[n++] = (char)('a' + i);
    name[n] = '\0';
    return write_file(to->cur, name, content, true, m->date, err);
}

static int put_lists(struct target *to, struct store_mailbox *mb, struct error *err)
{
    struct buf text;
    buf_init(&text, 65536);
    for (size_t i = 0; i < store_keywords(mb) && i < 26; i++)
        buf_printf(&text, "%zu %.*s\n", i, SLICE_FMT(store_keyword(mb, i)));
    int rc = to->list.failed ? error_set(err, ERR_LIMIT, "too many messages") : OK;
    if (!rc)
        rc = write_file(to->dirfd, "dovecot-keywords", buf_slice(&text), false, 0, err);
    if (!rc)
        rc = write_file(to->dirfd, "dovecot-uidlist", buf_slice(&to->list), false, 0, err);
    buf_clear(&text);
    return rc;
}

static int export_all(
    struct transfer *t, struct store_mailbox *mb, struct target *to, struct error *err)
{
    struct store_msg m;
    int rc = OK;
    if (!to->mbox)
        buf_printf(&to->list, "3 V%u N%u\n", store_uidvalidity(mb), store_uidnext(mb));
    for (uint32_t seq = 1; !rc && store_get(mb, seq, &m); seq++) {
        struct store_body body;
        struct mbox_message about = {.date = m.date, .flags = m.flags & (STORE_RECENT - 1)};
        char where[32];
        snprintf(where, sizeof(where), "uid %u", m.uid);
        if (store_body(mb, m.uid, &body, err)) {
            skip(t, where, 0, err->text);
            continue;
        }
        keywords_of(mb, &m, &about);
        if (!to->mbox)
            rc = put_file(to, mb, &m, body.content, err);
        else if (mbox_write(to->mbox, body.content, &about))
            rc = error_sys(err, "%s", t->path);
        t->messages += !rc;
        t->size += rc ? 0 : body.content.n;
        store_body_release(&body);
    }
    return rc || to->mbox ? rc : put_lists(to, mb, err);
}

/* Makes DEST, which must not exist; while we are still who called. */
static int make_maildir(const char *path, struct target *to, struct mailuser_gift *gift)
{
    static const char *const parts[] = {"new", "tmp", "cur"};
    if (mkdir(path, 0700))
        return -1;
    to->dirfd = gift->fds[gift->n++] = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (to->dirfd < 0 || mkdirat(to->dirfd, parts[i], 0700))
            return -1;
        int fd = openat(to->dirfd, parts[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
            return -1;
        to->cur = gift->fds[gift->n++] = fd;
    }
    return 0;
}

static int make_mbox(const char *path, struct target *to)
{
    int fd = strcmp(path, "-") == 0 ? STDOUT_FILENO
                                    : open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    to->mbox = fd < 0 ? NULL : fdopen(fd, "w");
    return to->mbox ? 0 : -1;
}

/* Nothing was written: DEST goes again. */
static void unmake(const char *path, const struct target *to)
{
    if (to->mbox && strcmp(path, "-") != 0)
        unlink(path);
    if (!to->mbox) {
        unlinkat(to->dirfd, "new", AT_REMOVEDIR);
        unlinkat(to->dirfd, "tmp", AT_REMOVEDIR);
        unlinkat(to->dirfd, "cur", AT_REMOVEDIR);
        rmdir(path);
    }
}

static int export_folder(struct transfer *t, struct target *to, struct error *err)
{
    struct store_mailbox *mb;
    if (!store_exists(t->store, t->folder))
        return error_set(err, ERR_NOT_FOUND, "%.*s: no such folder", SLICE_FMT(t->folder));
    int rc = store_select(t->store, t->folder, true, &mb, err);
    if (rc)
        return rc;
    rc = export_all(t, mb, to, err);
    store_unselect(mb);
    bool file = to->mbox && fileno(to->mbox) != STDOUT_FILENO;
    if (!rc && to->mbox && (fflush(to->mbox) || (file && fsync(fileno(to->mbox)))))
        rc = error_sys(err, "%s", t->path);
    return rc || to->mbox ? rc : store_sync(to->dirfd, err);
}

static int export(struct ctl *c, int argc, char **argv)
{
    struct error err = {0};
    struct target to = {.dirfd = -1, .cur = -1};
    struct mailuser_gift gift = {.n = 0};
    if (argc != 4 || (strcmp(argv[2], "mbox") != 0 && strcmp(argv[2], "maildir") != 0))
        return ctl_usage(c);
    if (!ctl_conf(c))
        return CTL_NO;
    struct transfer t = {.c = c, .folder = slice_of(argv[1]), .path = argv[3]};
    bool is_mbox = strcmp(argv[2], "mbox") == 0;
    if (is_mbox ? make_mbox(argv[3], &to) : make_maildir(argv[3], &to, &gift))
        return ctl_fail(CTL_NO, "%s: %s", argv[3], strerror(errno));
    buf_init(&to.list, 1 << 28);
    int rc = mailuser_open(c, argv[0], false, &gift, &t.store, &err);
    if (rc) {
        unmake(argv[3], &to);
        return ctl_report(&err);
    }
    rc = export_folder(&t, &to, &err);
    buf_clear(&to.list);
    for (size_t i = 0; i < gift.n; i++)
        fd_close(&gift.fds[i]);
    return finish(&t, rc, &err);
}

const struct ctl_verb transfer_verbs[] = {
    {"mailbox", "import",
        "USER FOLDER (mbox FILE | maildir DIR)\n"
        "    | USER imap HOST[:PORT] --login NAME (--password-file FILE | --password-stdin)\n"
        "      [--tls implicit|starttls|none] [--ca FILE] [--insecure]\n"
        "      [--folder PATTERN] [--map THERE=HERE]... [--dry-run]",
        "takes mail over from an mbox file (- is standard input), a Maildir, or an IMAP server; "
        "what was imported before is not imported again",
        import},
    {"mailbox", "export", "USER FOLDER (mbox FILE | maildir DIR)",
        "writes a folder as a new mbox file (- is standard output) or Maildir", export},
    {NULL}};
