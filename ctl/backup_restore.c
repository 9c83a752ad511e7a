/* backup restore, list, verify, prune. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ctl/backup.h"
#include "ctl/backup_target.h"
#include "ctl/json.h"
#include "ctl/people.h"
#include "libmail/users.h"

/* What is wanted of a generation. */
struct wish {
    struct backup *b;
    struct manifest *m;
    FILE *to;
    const char *folder; /* NULL: all */
    uint64_t uid;       /* 0: all */
    unsigned char guid[STORE_GUID];
    bool by_guid, here; /* here: the entries at hand are of a wanted folder */
    uint64_t found, damaged;
    uint64_t counts[3]; /* as backup_target tells them */
};

static bool wanted(struct wish *w, const struct entry *e)
{
    if (e->type == ENTRY_FOLDER)
        w->here = !w->folder || strcmp(w->folder, e->name) == 0 ||
                  (strcasecmp(w->folder, "INBOX") == 0 && strcasecmp(e->name, "INBOX") == 0);
    if (e->type == ENTRY_MESSAGE)
        return w->here && (!w->uid || e->msg.uid == w->uid) &&
               (!w->by_guid || memcmp(e->msg.guid, w->guid, STORE_GUID) == 0);
    if (e->type == ENTRY_SUBSCRIPTION)
        return !w->folder && !w->uid && !w->by_guid;
    if (e->type == ENTRY_USER)
        return false;
    if (e->type == ENTRY_FILE && (w->uid || w->by_guid))
        return false;
    return e->type == ENTRY_END || w->here;
}

static int send_content(struct wish *w, const struct entry *e, FILE *content, struct error *err)
{
    char chunk[8192];
    size_t n;
    struct buf line;
    buf_init(&line, MANIFEST_LINE);
    entry_print(e, &line);
    fwrite(buf_slice(&line).p, 1, buf_len(&line), w->to);
    buf_clear(&line);
    while (content && (n = fread(chunk, 1, sizeof(chunk), content)) > 0)
        fwrite(chunk, 1, n, w->to);
    return ferror(w->to) ? error_set(err, ERR_CLOSED, "the mailbox's process has ended") : OK;
}

static int send_all(struct wish *w, struct error *err)
{
    struct entry e;
    int rc;
    while ((rc = manifest_next(w->m, &e, err)) == 1) {
        FILE *content = NULL;
        bool has = e.type == ENTRY_MESSAGE || e.type == ENTRY_FILE;
        if (!wanted(w, &e))
            continue;
        uint64_t size = e.type == ENTRY_MESSAGE ? e.msg.size : e.size;
        if (has && backup_content(w->b, e.hash, size, &content, err)) {
            fprintf(stderr, "veredus: %s: skipped\n", err->text);
            w->damaged++;
            continue;
        }
        w->found += e.type == ENTRY_MESSAGE || (e.type == ENTRY_FOLDER && !w->uid && !w->by_guid);
        rc = send_content(w, &e, content, err);
        if (content)
            fclose(content);
        if (rc)
            return rc;
    }
    return rc < 0          ? rc
           : fflush(w->to) ? error_set(err, ERR_CLOSED, "the mailbox's process has ended")
                           : OK;
}

static bool parse_guid(const char *text, unsigned char out[STORE_GUID])
{
    for (size_t i = 0; i < STORE_GUID; i++) {
        char two[3] = {text[2 * i], text[2 * i] ? text[2 * i + 1] : '\0', '\0'}, *end;
        unsigned long value = strtoul(two, &end, 16);
        if (end != two + 2)
            return false;
        out[i] = (unsigned char)value;
    }
    return text[(size_t)2 * STORE_GUID] == '\0';
}

struct restore_args {
    const char *from, *user, *to, *folder, *uid, *guid, *generation;
};

static int check_args(const struct restore_args *a, struct wish *w, uint64_t *generation)
{
    w->folder = a->folder;
    w->by_guid = a->guid != NULL;
    if ((a->uid && (!a->folder || slice_u64(slice_of(a->uid), 1, UINT32_MAX, &w->uid))) ||
        (a->guid && !parse_guid(a->guid, w->guid)) ||
        (a->generation && slice_u64(slice_of(a->generation), 1, INT64_MAX, generation)))
        return ERR_SYNTAX;
    return OK;
}

static int canonical(struct ctl *c, const char *who, char *out, size_t size, struct error *err)
{
    struct people p;
    int rc = people_find(c, who, &p, err);
    /* A user who is not known any more has the name under which the backup was made. */
    snprintf(out, size, "%s", !rc && p.n == 1 ? p.names[0] : who);
    if (!rc)
        people_clear(&p);
    return OK;
}

static int read_counts(struct wish *w, int fd, struct error *err)
{
    char line[128];
    size_t n = 0;
    for (ssize_t got; n < sizeof(line) && (got = read(fd, line + n, sizeof(line) - n)) > 0;)
        n += (size_t)got;
    struct slice rest = slice_from(line, n), words = slice_cut(&rest, '\n');
    for (size_t i = 0; i < ARRAY_LEN(w->counts); i++)
        if (slice_u64(slice_cut(&words, ' '), 0, INT64_MAX, &w->counts[i]))
            return error_set(err, ERR_CLOSED, "the mailbox's process has ended");
    return OK;
}

static int run_child(
    struct ctl *c, struct wish *w, const char *user, struct backup_target *how, struct error *err)
{
    struct people_child kid;
    int rc = people_start(c, user, true, backup_target, how, &kid, err);
    if (rc)
        return rc;
    w->to = fdopen(dup(kid.fd), "w");
    rc = w->to ? send_all(w, err) : error_sys(err, "a socket");
    if (w->to)
        fclose(w->to);
    if (!rc)
        rc = read_counts(w, kid.fd, err);
    int status = people_wait(&kid);
    if (status && (!rc || rc == ERR_CLOSED))
        rc = status == PEOPLE_NO_MAIL
                 ? error_set(err, ERR_NOT_FOUND, "%s: no such user (any more)", user)
                 : error_set(err, ERR_IO, "%s: not restored", user);
    return rc;
}

static int run_restore(struct ctl *c, struct wish *w, const char *user, bool own, const char *word,
    uint64_t generation, struct error *err)
{
    struct user virtual = {0};
    struct backup_target how = {.whole = !w->uid && !w->by_guid, .own = own};
    /* The table of users is not for the mailbox's owner. */
    struct users *users = users_new(ctl_conf(c), "/etc", err);
    if (!users)
        return err->code;
    if (users_mailbox(users, slice_of(user), &virtual, err) == OK) {
        how.mail_root = conf_string(conf_root(ctl_conf(c)), "mail-root").p;
        how.mail = virtual.mail;
    }
    users_free(users);
    int rc = backup_manifest(w->b, generation, word, &w->m, err);
    if (!rc) {
        rc = run_child(c, w, user, &how, err);
        manifest_close(w->m);
    }
    user_wipe(&virtual);
    return rc;
}

static void print_counts(const struct ctl *c, const struct wish *w, const char *user)
{
    static const char *const names[] = {"restored", "old-uids", "present"};
    struct buf out;
    struct json json = {.out = &out};
    if (!c->json) {
        printf("%s: %llu messages restored, %llu under their old UIDs, %llu were there already\n",
            user, (unsigned long long)w->counts[0], (unsigned long long)w->counts[1],
            (unsigned long long)w->counts[2]);
        return;
    }
    buf_init(&out, 4096);
    json_begin(&json, NULL, '{');
    json_str(&json, "user", slice_of(user));
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        json_int(&json, names[i], (int64_t)w->counts[i]);
    json_int(&json, "damaged", (int64_t)w->damaged);
    json_end(&json, '}');
    printf("%.*s\n", SLICE_FMT(buf_slice(&out)));
    buf_clear(&out);
}

static int restore(struct ctl *c, const struct restore_args *a, struct wish *w, uint64_t generation,
    struct error *err)
{
    char from[MANIFEST_NAME], to[MANIFEST_NAME], file[MANIFEST_NAME];
    struct buf word;
    int rc = canonical(c, a->user, from, sizeof(from), err);
    if (!rc)
        rc = canonical(c, a->to ? a->to : a->user, to, sizeof(to), err);
    buf_init(&word, sizeof(file) - 1);
    manifest_word(slice_of(from), &word);
    if (!rc && !slice_to_cstr(buf_slice(&word), file, sizeof(file)))
        rc = error_set(err, ERR_LIMIT, "%s: the name is too long", from);
    buf_clear(&word);
    uint64_t newest = rc ? 0 : backup_newest(w->b, generation, file);
    if (!rc && (!newest || (generation && newest != generation)))
        rc = error_set(err, ERR_NOT_FOUND, "%s is not in that backup", from);
    if (!rc)
        rc = run_restore(c, w, to, strcmp(from, to) == 0, file, newest, err);
    if (!rc && !w->found)
        rc = error_set(err, ERR_NOT_FOUND, "nothing like that is in generation %llu",
            (unsigned long long)newest);
    if (!rc)
        print_counts(c, w, to);
    return rc;
}

int backup_restore(struct ctl *c, int argc, char **argv)
{
    struct restore_args a = {.from = ctl_option(&argc, argv, "--from"),
        .to = ctl_option(&argc, argv, "--to"),
        .folder = ctl_option(&argc, argv, "--folder"),
        .uid = ctl_option(&argc, argv, "--uid"),
        .guid = ctl_option(&argc, argv, "--guid"),
        .generation = ctl_option(&argc, argv, "--generation")};
    struct backup b;
    struct wish w = {.b = &b};
    struct error err = {0};
    uint64_t generation = 0;
    if (argc != 1 || !a.from || check_args(&a, &w, &generation))
        return ctl_usage(c);
    a.user = argv[0];
    if (!ctl_conf(c))
        return CTL_NO;
    signal(SIGPIPE, SIG_IGN);
    int rc = backup_open(a.from, false, &b, &err);
    if (rc)
        return ctl_report(&err);
    rc = restore(c, &a, &w, generation, &err);
    backup_close(&b);
    return rc ? ctl_report(&err) : w.damaged ? CTL_NO : CTL_OK;
}
