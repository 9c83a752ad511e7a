/*
 * backup create. Two processes a user: one that has become the owner reads the mailbox and tells
 * about every message; the other, still who called, knows what the backup has already, asks for
 * the contents it lacks and writes. What the first says is believed as far as that user's own
 * backup goes, and no further.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ctl/backup.h"
#include "ctl/backup_source.h"
#include "ctl/json.h"
#include "ctl/people.h"
#include "libutil/map.h"

enum { CHUNK = 65536 };
static const uint64_t content_max = (uint64_t)1 << 30;

struct known {
    uint64_t size;
    char hash[DIGEST_HEX];
};

/* One run. */
struct creation {
    struct ctl *c;
    struct backup backup;
    char part[64];
    uint64_t users, messages, size, fresh, damaged; /* fresh: contents that were not there */
    int status;
};

/* One user of it. */
struct job {
    struct creation *run;
    const char *name;
    struct map known; /* GUID -> what the generation before says about its content */
    FILE *in, *out, *manifest;
    struct digest *sum, *digest;
    struct entry totals;
    char *chunk;
};

static void emit(struct job *j, struct slice text)
{
    digest_put(j->sum, text);
    fwrite(text.p, 1, text.n, j->manifest);
}

static void emit_entry(struct job *j, const struct entry *e)
{
    struct buf line;
    buf_init(&line, MANIFEST_LINE);
    entry_print(e, &line);
    emit(j, buf_slice(&line));
    buf_clear(&line);
}

static void load_known(struct job *j, const char *word)
{
    struct backup *b = &j->run->backup;
    struct manifest *m;
    struct entry e;
    struct error ignored;
    uint64_t before = backup_newest(b, 0, word);
    /* What is damaged there is read from the mailbox again. */
    if (!before || backup_manifest(b, before, word, &m, &ignored))
        return;
    while (manifest_next(m, &e, &ignored) == 1) {
        if (e.type != ENTRY_MESSAGE || !e.hash[0])
            continue;
        struct known *k = NEW(struct known);
        k->size = e.msg.size;
        memcpy(k->hash, e.hash, sizeof(k->hash));
        free(map_set(&j->known, slice_from(e.msg.guid, STORE_GUID), k));
    }
    manifest_close(m);
}

static bool is_known(struct job *j, struct entry *e)
{
    struct known *k = map_get(&j->known, slice_from(e->msg.guid, STORE_GUID));
    char path[128];
    struct stat st;
    if (!k || k->size != e->msg.size)
        return false;
    backup_content_path(k->hash, path);
    if (fstatat(j->run->backup.fd, path, &st, AT_SYMLINK_NOFOLLOW) ||
        (uint64_t)st.st_size != k->size)
        return false;
    memcpy(e->hash, k->hash, sizeof(e->hash));
    return true;
}

/* A content that came whole gets its name. One that is there may be of a run that was cut off,
 * and be damaged: it counts only when it reads well. */
static int keep(struct job *j, uint64_t size, const char *hash, struct error *err)
{
    int dir = j->run->backup.fd;
    char path[128];
    FILE *there = NULL;
    struct error ignored;
    backup_content_path(hash, path);
    path[11] = '\0';
    if (mkdirat(dir, path, 0700) && errno != EEXIST)
        return error_sys(err, "%s/%s", j->run->backup.path, path);
    if (backup_content(&j->run->backup, hash, size, &there, &ignored) == OK) {
        fclose(there);
        unlinkat(dir, "messages/new", 0);
        return OK;
    }
    backup_content_path(hash, path);
    if (renameat(dir, "messages/new", dir, path))
        return error_sys(err, "%s/%s", j->run->backup.path, path);
    j->run->fresh++;
    return OK;
}

static int receive(struct job *j, uint64_t size, char hash[DIGEST_HEX], struct error *err)
{
    int rc = OK, fd = openat(j->run->backup.fd, "messages/new",
                     O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_sys(err, "%s/messages/new", j->run->backup.path);
    for (uint64_t left = size; left && !rc;) {
        size_t n = fread(j->chunk, 1, (size_t)MIN(left, (uint64_t)CHUNK), j->in);
        if (n == 0)
            rc = error_set(err, ERR_CLOSED, "%s: reading the mailbox ended early", j->name);
        else if (write(fd, j->chunk, n) != (ssize_t)n)
            rc = error_sys(err, "%s/messages/new", j->run->backup.path);
        digest_put(j->digest, slice_from(j->chunk, n));
        left -= n;
    }
    digest_take(j->digest, hash);
    fd_close(&fd);
    return rc ? rc : keep(j, size, hash, err);
}

static int ask(struct job *j, struct entry *e, struct error *err)
{
    char line[MANIFEST_LINE];
    uint64_t size = 0;
    bool have = is_known(j, e);
    putc(have ? BACKUP_HAVE : BACKUP_WANT, j->out);
    if (fflush(j->out))
        return error_set(err, ERR_CLOSED, "%s: reading the mailbox ended early", j->name);
    if (have)
        return OK;
    int rc = manifest_line(j->in, line, err);
    if (rc)
        return rc;
    if (strcmp(line, "gone") == 0)
        return ERR_NOT_FOUND;
    if (strncmp(line, "damaged ", 8) == 0) {
        fprintf(stderr, "veredus: %s: uid %u: %s: skipped\n", j->name, e->msg.uid, line + 8);
        j->totals.damaged++;
        return ERR_NOT_FOUND;
    }
    if (strncmp(line, "content ", 8) != 0 || slice_u64(slice_of(line + 8), 0, content_max, &size))
        return error_set(err, ERR_SYNTAX, "%s: a wrong word about a message", j->name);
    e->msg.size = size;
    return receive(j, size, e->hash, err);
}

static int take_entry(struct job *j, struct entry *e, struct error *err)
{
    int rc = OK;
    if (e->type == ENTRY_USER)
        return error_set(err, ERR_SYNTAX, "%s: a wrong word", j->name);
    if (e->type == ENTRY_MESSAGE)
        rc = ask(j, e, err);
    else if (e->type == ENTRY_FILE)
        rc = receive(j, e->size, e->hash, err);
    if (rc == ERR_NOT_FOUND)
        return OK;
    if (!rc && e->type == ENTRY_MESSAGE) {
        j->totals.number++;
        j->totals.size += e->msg.size;
    }
    if (!rc && e->type != ENTRY_END)
        emit_entry(j, e);
    return rc;
}

static int take_all(struct job *j, struct error *err)
{
    struct entry e = {.type = ENTRY_USER, .date = time(NULL)};
    char line[MANIFEST_LINE];
    emit(j, SLICE_LIT("veredus-backup 1\n"));
    snprintf(e.name, sizeof(e.name), "%s", j->name);
    emit_entry(j, &e);
    int rc = OK;
    while (!rc && e.type != ENTRY_END) {
        rc = manifest_line(j->in, line, err);
        if (!rc && entry_parse(slice_of(line), &e))
            rc = error_set(err, ERR_SYNTAX, "%s: a wrong word", j->name);
        if (!rc)
            rc = take_entry(j, &e, err);
    }
    if (rc)
        return rc;
    j->totals.type = ENTRY_END;
    emit_entry(j, &j->totals);
    char sum[DIGEST_HEX];
    digest_take(j->sum, sum);
    fprintf(j->manifest, "sha256 %s\n", sum);
    return fflush(j->manifest) || ferror(j->manifest) ? error_sys(err, "writing a manifest") : OK;
}

static int open_manifest(struct job *j, const char *word, struct error *err)
{
    char path[MANIFEST_NAME + 80];
    snprintf(path, sizeof(path), "%s/%s", j->run->part, word);
    int fd =
        openat(j->run->backup.fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    j->manifest = fd < 0 ? NULL : fdopen(fd, "w");
    return j->manifest ? OK : error_sys(err, "%s/%s", j->run->backup.path, path);
}

static void close_job(struct job *j)
{
    size_t pos = 0;
    struct slice key;
    for (void *k; map_next(&j->known, &pos, &key, &k);)
        free(k);
    map_clear(&j->known);
    digest_free(j->sum);
    digest_free(j->digest);
    free(j->chunk);
    if (j->manifest)
        fclose(j->manifest);
    if (j->in)
        fclose(j->in);
    if (j->out)
        fclose(j->out);
}

static int one_user(struct creation *run, const char *name, struct error *err)
{
    struct job j = {.run = run, .name = name};
    struct people_child kid;
    struct buf word;
    char file[MANIFEST_NAME];
    int rc = people_start(run->c, name, false, backup_source, NULL, &kid, err);
    if (rc)
        return rc;
    buf_init(&word, sizeof(file) - 1);
    manifest_word(slice_of(name), &word);
    if (!slice_to_cstr(buf_slice(&word), file, sizeof(file)))
        rc = error_set(err, ERR_LIMIT, "%s: the name is too long", name);
    buf_clear(&word);
    map_init(&j.known);
    j.sum = digest_new();
    j.digest = digest_new();
    j.chunk = xrealloc(NULL, CHUNK, 1);
    j.in = fdopen(dup(kid.fd), "r");
    j.out = fdopen(dup(kid.fd), "w");
    /* The child begins by saying that there is mail. */
    int first = j.in ? getc(j.in) : EOF;
    if (!rc && first == BACKUP_READY) {
        load_known(&j, file);
        rc = open_manifest(&j, file, err);
        if (!rc)
            rc = take_all(&j, err);
    }
    close_job(&j);
    int status = people_wait(&kid);
    if (first == EOF)
        return status == PEOPLE_NO_MAIL ? OK : error_set(err, ERR_IO, "%s: not read", name);
    if (!rc && status)
        rc = error_set(err, ERR_IO, "%s: reading the mailbox failed", name);
    run->users += !rc;
    run->messages += j.totals.number;
    run->size += j.totals.size;
    run->damaged += j.totals.damaged;
    return rc;
}

/* Removes generations/N.part of runs that were cut off. */
static void remove_parts(struct backup *b)
{
    int fd = openat(b->fd, "generations", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (!slice_ends(slice_of(e->d_name), ".part"))
            continue;
        int part = openat(fd, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        DIR *p = part < 0 ? NULL : fdopendir(part);
        for (struct dirent *f; p && (f = readdir(p));)
            if (strcmp(f->d_name, ".") != 0 && strcmp(f->d_name, "..") != 0)
                unlinkat(part, f->d_name, 0);
        if (p)
            closedir(p);
        unlinkat(fd, e->d_name, AT_REMOVEDIR);
    }
    if (d)
        closedir(d);
}

/* Everything is on disk before the generation has its name. */
static int finish(struct creation *run, uint64_t number, struct error *err)
{
    char name[64];
    struct backup *b = &run->backup;
    snprintf(name, sizeof(name), "generations/%llu", (unsigned long long)number);
    if (syncfs(b->fd) || renameat(b->fd, run->part, b->fd, name))
        return error_sys(err, "%s/%s", b->path, name);
    int fd = openat(b->fd, "generations", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd < 0 || fsync(fd) ? error_sys(err, "%s/generations", b->path) : OK;
    fd_close(&fd);
    return rc;
}

static void report(struct creation *run, uint64_t number)
{
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {{"generation", number}, {"users", run->users}, {"messages", run->messages},
        {"size", run->size}, {"new", run->fresh}, {"damaged", run->damaged}};
    struct buf out;
    struct json json = {.out = &out};
    buf_init(&out, 4096);
    if (run->c->json)
        json_begin(&json, NULL, '{');
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (run->c->json)
            json_int(&json, rows[i].name, (int64_t)rows[i].value);
        else
            buf_printf(
                &out, "%s%s %llu", i ? ", " : "", rows[i].name, (unsigned long long)rows[i].value);
    }
    if (run->c->json)
        json_end(&json, '}');
    printf("%.*s\n", SLICE_FMT(buf_slice(&out)));
    buf_clear(&out);
}

static int create_all(struct creation *run, const struct people *who, struct error *err)
{
    struct backup *b = &run->backup;
    uint64_t number = b->last + 1;
    remove_parts(b);
    snprintf(run->part, sizeof(run->part), "generations/%llu.part", (unsigned long long)number);
    if (mkdirat(b->fd, run->part, 0700))
        return error_sys(err, "%s/%s", b->path, run->part);
    for (size_t i = 0; i < who->n; i++) {
        int rc = one_user(run, who->names[i], err);
        if (rc == ERR_NO_SPACE)
            return rc;
        if (rc) {
            run->status = ctl_report(err);
            char file[MANIFEST_NAME + 64];
            struct buf word;
            buf_init(&word, MANIFEST_NAME);
            manifest_word(slice_of(who->names[i]), &word);
            snprintf(file, sizeof(file), "%s/%.*s", run->part, SLICE_FMT(buf_slice(&word)));
            buf_clear(&word);
            unlinkat(b->fd, file, 0);
        }
    }
    if (run->users == 0)
        return error_set(err, ERR_NOT_FOUND, "there is no mail to be backed up");
    int rc = finish(run, number, err);
    if (!rc)
        report(run, number);
    return rc;
}

int backup_create(struct ctl *c, int argc, char **argv)
{
    struct creation run = {.c = c};
    struct people who = {0};
    struct error err = {0};
    signal(SIGPIPE, SIG_IGN);
    const char *to = ctl_option(&argc, argv, "--to");
    bool all = ctl_flag(&argc, argv, "--all");
    if (!to || !*to || argc > 1 || (argc == 1) == all)
        return ctl_usage(c);
    if (!ctl_conf(c))
        return CTL_NO;
    int rc = people_find(c, all ? NULL : argv[0], &who, &err);
    if (!rc)
        rc = backup_open(to, true, &run.backup, &err);
    if (!rc) {
        rc = create_all(&run, &who, &err);
        if (rc)
            remove_parts(&run.backup);
        backup_close(&run.backup);
    }
    people_clear(&who);
    return rc ? ctl_report(&err) : run.damaged ? CTL_NO : run.status;
}
