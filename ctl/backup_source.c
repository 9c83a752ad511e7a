#include "ctl/backup_source.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "ctl/manifest.h"
#include "libstore/name.h"

struct source {
    struct store *store;
    FILE *in, *out;
    struct buf line;
};

static void tell(struct source *s, const struct entry *e)
{
    buf_reset(&s->line);
    entry_print(e, &s->line);
    fwrite(buf_slice(&s->line).p, 1, buf_len(&s->line), s->out);
}

/* Sends the content, or says why not: a message that others expunged meanwhile is just gone. */
static int send_content(struct source *s, struct store_mailbox *mb, const struct store_msg *m)
{
    struct store_body body;
    struct error err = {0};
    if (store_body(mb, m->uid, &body, &err) == OK) {
        fprintf(s->out, "content %zu\n", body.content.n);
        fwrite(body.content.p, 1, body.content.n, s->out);
        store_body_release(&body);
    } else {
        struct store_changes changes;
        struct error ignored;
        struct store_msg now = {.gone = true};
        uint32_t seq;
        if (store_refresh(mb, false, &changes, &ignored) == OK &&
            (seq = store_seq(mb, m->uid)) > 0 && store_get(mb, seq, &now) && !now.gone)
            fprintf(s->out, "damaged %.*s\n", (int)strcspn(err.text, "\n"), err.text);
        else
            fputs("gone\n", s->out);
    }
    return ferror(s->out) ? ERR_CLOSED : OK;
}

static int send_messages(struct source *s, struct store_mailbox *mb)
{
    struct entry e = {.type = ENTRY_MESSAGE};
    for (uint32_t seq = 1; store_get(mb, seq, &e.msg); seq++) {
        if (e.msg.gone)
            continue;
        e.msg.flags &= STORE_RECENT - 1;
        tell(s, &e);
        if (fflush(s->out))
            return ERR_CLOSED;
        int answer = getc(s->in);
        if (answer == EOF || (answer == BACKUP_WANT && send_content(s, mb, &e.msg)))
            return ERR_CLOSED;
    }
    return OK;
}

bool backup_is_setting(const char *file)
{
    static const char *const others[] = {"index", "log", "cache", "subscriptions", "uidvalidity",
        "shared", "adopted", "uidlock", "folders", "maildrop", "import"};
    static const char prefix[] = "veredus.";
    if (strncmp(file, prefix, sizeof(prefix) - 1) != 0)
        return false;
    const char *kind = file + sizeof(prefix) - 1;
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        if (strcmp(kind, others[i]) == 0)
            return false;
    if (strncmp(kind, "seen.", 5) == 0) /* in a folder of others: ID is letters and digits */
        return kind[5] && kind[5 + strspn(kind + 5, "F0123456789abcdef")] == '\0';
    return *kind && kind[strspn(kind, "abcdefghijklmnopqrstuvwxyz")] == '\0';
}

static void send_file(struct source *s, int dir, const char *name)
{
    struct stat st;
    struct entry e = {.type = ENTRY_FILE};
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 &&
        st.st_size <= BACKUP_FILE_MAX) {
        char *content = xrealloc(NULL, (size_t)st.st_size, 1);
        ssize_t n = read(fd, content, (size_t)st.st_size);
        snprintf(e.name, sizeof(e.name), "%s", name);
        e.size = n > 0 ? (uint64_t)n : 0;
        if (n > 0) {
            tell(s, &e);
            fwrite(content, 1, (size_t)n, s->out);
        }
        free(content);
    }
    fd_close(&fd);
}

bool backup_is_of_folder(const char *file)
{
    return strcmp(file, "veredus.acl") == 0 || strcmp(file, "veredus.metadata") == 0 ||
           strcmp(file, "veredus.uidl") == 0;
}

/* Takes the descriptor. */
static void send_files(struct source *s, int fd, bool of_folder)
{
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d)
        fd_close(&fd);
    for (struct dirent *e; d && (e = readdir(d));)
        if (backup_is_setting(e->d_name) && backup_is_of_folder(e->d_name) == of_folder)
            send_file(s, fd, e->d_name);
    if (d)
        closedir(d);
}

static void send_settings(struct source *s, struct slice folder)
{
    struct error ignored;
    int fd;
    if (store_open_place(s->store, folder, &fd, &ignored) == OK)
        send_files(s, fd, true);
    if (name_is_inbox(folder))
        send_files(
            s, openat(store_dirfd(s->store), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), false);
}

static int send_folder(struct source *s, struct slice name, struct error *err)
{
    struct store_mailbox *mb;
    struct entry e = {.type = ENTRY_FOLDER};
    int rc = store_select(s->store, name, true, &mb, err);
    if (rc == ERR_NOT_FOUND)
        return OK; /* deleted a moment ago */
    if (rc)
        return rc;
    if (!slice_to_cstr(name, e.name, sizeof(e.name)))
        rc = error_set(err, ERR_LIMIT, "a folder's name is too long");
    e.uidvalidity = store_uidvalidity(mb);
    e.uidnext = store_uidnext(mb);
    e.modseq = store_highestmodseq(mb);
    e.mailbox = store_mailbox_number(mb);
    tell(s, &e);
    for (size_t i = 0; i < store_keywords(mb); i++) {
        struct entry word = {.type = ENTRY_KEYWORD, .number = i};
        if (slice_to_cstr(store_keyword(mb, i), word.name, sizeof(word.name)) && word.name[0])
            tell(s, &word);
    }
    send_settings(s, name);
    if (!rc && send_messages(s, mb))
        rc = error_set(err, ERR_CLOSED, "the other process of the backup has ended");
    store_unselect(mb);
    return rc;
}

static int send_all(struct source *s, struct error *err)
{
    struct store_folder *folders;
    size_t n;
    int rc = store_list_subscribed(s->store, &folders, &n, err);
    if (rc)
        return rc;
    for (size_t i = 0; i < n; i++) {
        struct entry e = {.type = ENTRY_SUBSCRIPTION};
        if (slice_to_cstr(folders[i].name, e.name, sizeof(e.name)))
            tell(s, &e);
    }
    store_list_free(folders, n);
    rc = store_list(s->store, &folders, &n, err);
    if (rc)
        return rc;
    for (size_t i = 0; !rc && i < n; i++)
        if (!(folders[i].attrs & STORE_NOSELECT))
            rc = send_folder(s, folders[i].name, err);
    store_list_free(folders, n);
    if (!rc)
        tell(s, &(struct entry){.type = ENTRY_END});
    return rc;
}

int backup_source(struct store *store, const char *name, int fd, void *arg)
{
    struct error err = {0};
    struct source s = {.store = store, .in = fdopen(dup(fd), "r"), .out = fdopen(fd, "w")};
    (void)name;
    (void)arg;
    buf_init(&s.line, MANIFEST_LINE);
    putc(BACKUP_READY, s.out);
    int rc = send_all(&s, &err);
    buf_clear(&s.line);
    fclose(s.in);
    if (fclose(s.out) && !rc)
        rc = ERR_CLOSED;
    return rc ? ctl_report(&err) : CTL_OK;
}
