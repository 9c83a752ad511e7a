/* backup list, verify, prune; and the table of verbs. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ctl/backup.h"
#include "ctl/json.h"
#include "libutil/map.h"

/* One manifest read to its end. */
struct reading {
    struct ctl *c;
    struct backup *b;
    uint64_t generation;
    const char *word;
    char user[MANIFEST_NAME];
    int64_t date;
    struct entry end;
    struct map seen; /* contents: hash */
    uint64_t users, contents, problems, removed;
    struct buf out;
    struct json json;
};

typedef int entry_fn(struct reading *, const struct entry *, struct error *);

static int read_manifest(struct reading *r, entry_fn *fn, struct error *err)
{
    struct manifest *m;
    struct entry e;
    int rc = backup_manifest(r->b, r->generation, r->word, &m, err), more;
    if (rc)
        return rc;
    while (!rc && (more = manifest_next(m, &e, err)) != 0) {
        if (more < 0) {
            rc = more;
        } else if (e.type == ENTRY_USER) {
            snprintf(r->user, sizeof(r->user), "%s", e.name);
            r->date = e.date;
        } else if (e.type == ENTRY_END) {
            r->end = e;
        } else if (fn) {
            rc = fn(r, &e, err);
        }
    }
    manifest_close(m);
    return rc;
}

static void flush(struct reading *r)
{
    fwrite(buf_slice(&r->out).p, 1, buf_len(&r->out), stdout);
    buf_reset(&r->out);
}

/* each: for every manifest; what it returns ends the walk. */
static int walk(struct reading *r, int (*each)(struct reading *, struct error *), struct error *err)
{
    uint64_t *all;
    size_t n;
    int rc = backup_generations(r->b, &all, &n, err);
    if (rc)
        return rc;
    for (size_t i = 0; !rc && i < n; i++) {
        char **users = backup_users(r->b, all[i], err);
        r->generation = all[i];
        rc = users ? OK : err->code;
        for (size_t k = 0; !rc && users && users[k]; k++) {
            r->word = users[k];
            rc = each(r, err);
            r->users++;
            flush(r);
        }
        backup_users_free(users);
    }
    free(all);
    return rc;
}

/* --- list ------------------------------------------------------------------------------------- */

static int list_one(struct reading *r, struct error *err)
{
    char date[32];
    struct tm tm;
    bool damaged = read_manifest(r, NULL, err) != OK;
    time_t at = (time_t)r->date;
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&at, &tm));
    if (damaged)
        fprintf(stderr, "veredus: %s\n", err->text);
    r->problems += damaged;
    if (r->c->json) {
        json_begin(&r->json, NULL, '{');
        json_int(&r->json, "generation", (int64_t)r->generation);
        json_str(&r->json, "user", slice_of(damaged ? r->word : r->user));
        json_str(&r->json, "time", slice_of(date));
        json_int(&r->json, "messages", (int64_t)r->end.number);
        json_int(&r->json, "size", (int64_t)r->end.size);
        json_int(&r->json, "skipped", (int64_t)r->end.damaged);
        json_bool(&r->json, "damaged", damaged);
        json_end(&r->json, '}');
    } else if (!damaged) {
        buf_printf(&r->out, "%llu %s %s %llu messages, %llu bytes\n",
            (unsigned long long)r->generation, date, r->user, (unsigned long long)r->end.number,
            (unsigned long long)r->end.size);
    }
    return OK;
}

static int list(struct ctl *c, struct reading *r, struct error *err)
{
    if (c->json)
        json_begin(&r->json, NULL, '[');
    int rc = walk(r, list_one, err);
    if (c->json)
        json_end(&r->json, ']'), buf_putc(&r->out, '\n');
    flush(r);
    return rc;
}

/* --- verify ----------------------------------------------------------------------------------- */

static void print_problem(struct reading *r, const char *user, uint32_t uid, const char *text)
{
    r->problems++;
    if (!r->c->json) {
        printf("generation %llu, %s", (unsigned long long)r->generation, user);
        if (uid)
            printf(", uid %u", uid);
        printf(": %s\n", text);
        return;
    }
    json_begin(&r->json, NULL, '{');
    json_int(&r->json, "generation", (int64_t)r->generation);
    json_str(&r->json, "user", slice_of(user));
    json_int(&r->json, "uid", uid);
    json_str(&r->json, "text", slice_of(text));
    json_end(&r->json, '}');
}

static int check_content(struct reading *r, const struct entry *e, struct error *err)
{
    FILE *content;
    bool message = e->type == ENTRY_MESSAGE;
    if ((!message && e->type != ENTRY_FILE) || map_set(&r->seen, slice_of(e->hash), r))
        return OK;
    r->contents++;
    if (backup_content(r->b, e->hash, message ? e->msg.size : e->size, &content, err)) {
        print_problem(r, r->user, message ? e->msg.uid : 0, err->text);
    } else {
        fclose(content);
    }
    return OK;
}

static int verify_one(struct reading *r, struct error *err)
{
    if (read_manifest(r, check_content, err))
        print_problem(r, r->word, 0, err->text);
    return OK;
}

static int verify(struct ctl *c, struct reading *r, struct error *err)
{
    if (c->json) {
        json_begin(&r->json, NULL, '{');
        json_begin(&r->json, "problems", '[');
    }
    int rc = walk(r, verify_one, err);
    if (c->json) {
        json_end(&r->json, ']');
        json_int(&r->json, "manifests", (int64_t)r->users);
        json_int(&r->json, "contents", (int64_t)r->contents);
        json_end(&r->json, '}');
        buf_putc(&r->out, '\n');
        flush(r);
    } else if (!rc) {
        printf("%llu manifests, %llu contents, %llu problems\n", (unsigned long long)r->users,
            (unsigned long long)r->contents, (unsigned long long)r->problems);
    }
    return rc;
}

/* --- prune ------------------------------------------------------------------------------------ */

static int note_content(struct reading *r, const struct entry *e, struct error *err)
{
    (void)err;
    if (e->type == ENTRY_MESSAGE || e->type == ENTRY_FILE)
        map_set(&r->seen, slice_of(e->hash), r);
    return OK;
}

/* A manifest that cannot be read may need anything: then nothing is removed. */
static int note_one(struct reading *r, struct error *err)
{
    return read_manifest(r, note_content, err);
}

static int drop_manifests(struct backup *b, uint64_t keep, struct error *err)
{
    struct map counts; /* of a user, from the newest generation */
    uint64_t *all;
    size_t n;
    int rc = backup_generations(b, &all, &n, err);
    map_init(&counts);
    for (size_t i = rc ? 0 : n; !rc && i--;) {
        char path[MANIFEST_NAME + 64];
        char **users = backup_users(b, all[i], err);
        rc = users ? OK : err->code;
        for (size_t k = 0; !rc && users && users[k]; k++) {
            uintptr_t have = (uintptr_t)map_get(&counts, slice_of(users[k])) + 1;
            map_set(&counts, slice_of(users[k]), (void *)have);
            snprintf(
                path, sizeof(path), "generations/%llu/%s", (unsigned long long)all[i], users[k]);
            if (have > keep && unlinkat(b->fd, path, 0))
                rc = error_sys(err, "%s/%s", b->path, path);
        }
        backup_users_free(users);
        /* Stays while something is in it; the newest always, for its number. */
        snprintf(path, sizeof(path), "generations/%llu", (unsigned long long)all[i]);
        if (!rc && i + 1 < n)
            unlinkat(b->fd, path, AT_REMOVEDIR);
    }
    map_clear(&counts);
    free(all);
    return rc;
}

static void sweep(struct reading *r, int parent, const char *name)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d)
        fd_close(&fd);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        if (strlen(e->d_name) == 2)
            sweep(r, fd, e->d_name);
        else if (!map_get(&r->seen, slice_of(e->d_name)) && unlinkat(fd, e->d_name, 0) == 0)
            r->removed++;
    }
    if (d)
        closedir(d);
}

static int prune(struct reading *r, uint64_t keep, struct error *err)
{
    int rc = drop_manifests(r->b, keep, err);
    if (!rc)
        rc = walk(r, note_one, err);
    if (!rc && syncfs(r->b->fd))
        rc = error_sys(err, "%s", r->b->path);
    if (rc)
        return rc;
    sweep(r, r->b->fd, "messages");
    printf(r->c->json ? "{\"manifests\":%llu,\"removed\":%llu}\n"
                      : "%llu manifests kept, %llu contents removed\n",
        (unsigned long long)r->users, (unsigned long long)r->removed);
    return OK;
}

/* --- verbs ------------------------------------------------------------------------------------ */

static int with_backup(struct ctl *c, const char *path, uint64_t keep,
    int (*run)(struct ctl *, struct reading *, struct error *))
{
    struct backup b;
    struct error err = {0};
    struct reading r = {.c = c, .b = &b};
    int rc = backup_open(path, false, &b, &err);
    if (!rc && keep > 0) { /* to write, which would make one that is not there */
        backup_close(&b);
        rc = backup_open(path, true, &b, &err);
    }
    if (rc)
        return ctl_report(&err);
    map_init(&r.seen);
    buf_init(&r.out, 1 << 20);
    r.json.out = &r.out;
    rc = run ? run(c, &r, &err) : prune(&r, keep, &err);
    buf_clear(&r.out);
    map_clear(&r.seen);
    backup_close(&b);
    return rc ? ctl_report(&err) : r.problems ? CTL_NO : CTL_OK;
}

static int run_list(struct ctl *c, int argc, char **argv)
{
    const char *from = ctl_option(&argc, argv, "--from");
    return from && argc == 0 ? with_backup(c, from, 0, list) : ctl_usage(c);
}

static int run_verify(struct ctl *c, int argc, char **argv)
{
    const char *from = ctl_option(&argc, argv, "--from");
    return from && argc == 0 ? with_backup(c, from, 0, verify) : ctl_usage(c);
}

static int run_prune(struct ctl *c, int argc, char **argv)
{
    const char *from = ctl_option(&argc, argv, "--from"), *keep = ctl_option(&argc, argv, "--keep");
    uint64_t n = 0;
    if (!from || !keep || argc || slice_u64(slice_of(keep), 1, UINT32_MAX, &n))
        return ctl_usage(c);
    return with_backup(c, from, n, NULL);
}

const struct ctl_verb backup_verbs[] = {
    {"backup", "create", "--to DIR (USER | DOMAIN | --all)",
        "saves mailboxes as a new generation; copies only what the backup does not have",
        backup_create},
    {"backup", "list", "--from DIR", "generations, and whose mail they have", run_list},
    {"backup", "verify", "--from DIR",
        "reads everything and compares checksums; status 1 when something is damaged", run_verify},
    {"backup", "restore",
        "--from DIR USER [--folder F] [--uid N | --guid G] [--generation N] [--to OTHERUSER]",
        "puts mail back: all, a folder, or one message", backup_restore},
    {"backup", "prune", "--from DIR --keep N",
        "keeps each user's newest N generations and removes what no other needs", run_prune},
    {NULL}};
