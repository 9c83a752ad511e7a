#include "libstore/acl.h"

#include <errno.h>
#include <fcntl.h>

#include "libstore/journal.h"
#include "libstore/private.h"

static const char list_file[] = "veredus.acl", summary_file[] = "veredus.shared";
enum { FILE_MAX = 256 * 1024, SUMMARY_MAX = 1 << 20 };

static const char letters[] = "lrswipkxtea";

int acl_parse_rights(struct slice s, unsigned *rights)
{
    *rights = 0;
    for (size_t i = 0; i < s.n; i++) {
        const char *at = s.p[i] ? strchr(letters, s.p[i]) : NULL;
        if (at)
            *rights |= 1U << (at - letters);
        else if (s.p[i] == 'c') /* RFC 4314 §2.1.1 */
            *rights |= ACL_CREATE | ACL_DELETE_BOX;
        else if (s.p[i] == 'd')
            *rights |= ACL_DELETE_MSG | ACL_EXPUNGE;
        else
            return ERR_SYNTAX;
    }
    return OK;
}

void acl_put_rights(unsigned rights, struct buf *out)
{
    for (size_t i = 0; letters[i]; i++)
        if (rights >> i & 1)
            buf_putc(out, letters[i]);
}

void acl_clear(struct acl *a)
{
    free(a->entries);
    *a = (struct acl){0};
}

unsigned acl_rights_of(const struct acl *a, struct slice user)
{
    unsigned given = 0, taken = 0;
    for (size_t i = 0; i < a->n; i++) {
        struct slice who = slice_of(a->entries[i].who);
        bool negative = slice_starts(who, "-");
        who = slice_from_index(who, negative);
        if (!slice_is(who, "anyone") && !slice_ieq(who, user))
            continue;
        *(negative ? &taken : &given) |= a->entries[i].rights;
    }
    return given & ~taken;
}

/* --- the list of a folder --------------------------------------------------------------------- */

static bool who_ok(struct slice who)
{
    struct slice name = slice_from_index(who, slice_starts(who, "-"));
    for (size_t i = 0; i < name.n; i++)
        if ((unsigned char)name.p[i] <= ' ' || (unsigned char)name.p[i] == 127)
            return false;
    return name.n > 0 && who.n <= ACL_IDENTIFIER_MAX;
}

static int parse(struct slice text, struct acl *a, struct error *err)
{
    a->entries = xcalloc(ACL_ENTRIES_MAX, sizeof(*a->entries));
    while (text.n) {
        struct slice rights = slice_cut(&text, '\n'), who = slice_cut(&rights, ' ');
        struct acl_entry *e = &a->entries[a->n];
        if (a->n == ACL_ENTRIES_MAX || !who_ok(who) || acl_parse_rights(rights, &e->rights) ||
            !slice_to_cstr(who, e->who, sizeof(e->who)))
            return error_set(err, ERR_CORRUPT, "%s: line %zu is damaged", list_file, a->n + 1);
        a->n++;
    }
    return OK;
}

static int read_list(int dir, struct acl *a, struct error *err)
{
    struct buf text;
    *a = (struct acl){0};
    buf_init(&text, FILE_MAX);
    int rc = io_slurp(dir, list_file, &text, err);
    if (rc == OK)
        rc = parse(buf_slice(&text), a, err);
    buf_clear(&text);
    if (rc)
        acl_clear(a); /* who may what is not known: nobody may anything */
    return rc == ERR_NOT_FOUND ? OK : rc;
}

int store_acl_get(struct store *s, struct slice folder, struct acl *a, struct error *err)
{
    int fd = -1;
    *a = (struct acl){0};
    int rc = store_open_place(s, folder, &fd, err);
    if (rc)
        return rc;
    rc = read_list(fd, a, err);
    fs_close(&fd);
    return rc;
}

int store_acl_rights(
    struct store *s, struct slice folder, struct slice user, unsigned *rights, struct error *err)
{
    struct acl a;
    int rc = store_acl_get(s, folder, &a, err);
    *rights = acl_rights_of(&a, user);
    acl_clear(&a);
    return rc;
}

static int apply(
    struct acl *a, const char *who, enum acl_how how, unsigned rights, struct error *err)
{
    size_t i = 0;
    while (i < a->n && strcmp(a->entries[i].who, who) != 0)
        i++;
    if (!a->entries)
        a->entries = xcalloc(ACL_ENTRIES_MAX, sizeof(*a->entries));
    if (i == ACL_ENTRIES_MAX)
        return error_set(err, ERR_LIMIT, "too many entries in the list");
    struct acl_entry *e = &a->entries[i];
    if (i == a->n) {
        *e = (struct acl_entry){.rights = 0};
        snprintf(e->who, sizeof(e->who), "%s", who);
        a->n++;
    }
    e->rights = how == ACL_SET ? rights : how == ACL_ADD ? e->rights | rights : e->rights & ~rights;
    if (e->rights == 0)
        *e = a->entries[--a->n];
    return OK;
}

static int write_list(int dir, const struct acl *a, struct error *err)
{
    struct buf text;
    buf_init(&text, FILE_MAX);
    for (size_t i = 0; i < a->n; i++) {
        buf_printf(&text, "%s ", a->entries[i].who);
        acl_put_rights(a->entries[i].rights, &text);
        buf_putc(&text, '\n');
    }
    int rc = text.failed ? error_set(err, ERR_LIMIT, "the list is too long")
                         : io_replace(dir, list_file, buf_slice(&text), err);
    if (!rc && fs_sync(dir))
        rc = error_sys(err, "syncing a folder");
    buf_clear(&text);
    return rc;
}

/* One at a time: the lock of the set of folders. */
static int lock_lists(struct store *s, int *fd, struct error *err)
{
    *fd = fs_open(s->fd, "veredus.acllock", O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
    if (*fd < 0)
        return error_sys(err, "opening veredus.acllock");
    int rc = dir_lock(*fd, err);
    if (rc)
        fs_close(fd);
    return rc;
}

int store_acl_change(struct store *s, struct slice folder, struct slice who, enum acl_how how,
    unsigned rights, struct error *err)
{
    char name[ACL_IDENTIFIER_MAX + 1];
    struct acl a = {0};
    int fd = -1, lock = -1;
    if (!who_ok(who) || !slice_to_cstr(who, name, sizeof(name)))
        return error_set(err, ERR_SYNTAX, "not an identifier");
    ascii_lower(name, strlen(name));
    /* What others find is complete, and has its numbers: they see too little to give any. */
    struct box *ready;
    int rc = store_exists(s, folder) ? store_box(s, folder, &ready, err) : OK;
    if (!rc)
        rc = store_open_place(s, folder, &fd, err);
    if (rc)
        return rc;
    rc = lock_lists(s, &lock, err);
    if (!rc) {
        rc = read_list(fd, &a, err);
        if (rc == ERR_CORRUPT)
            rc = OK;         /* begun anew */
        if (!rc && a.n == 0) /* what the journal has for it, others would not find */
            rc = journal_settle(s, err);
        if (!rc && a.n == 0 && fs_sync_all(fd))
            rc = error_sys(err, "syncing the mail directory");
        if (!rc)
            rc = apply(&a, name, how, rights, err);
        if (!rc)
            rc = write_list(fd, &a, err);
        fs_close(&lock);
    }
    acl_clear(&a);
    fs_close(&fd);
    return rc ? rc : store_acl_summary(s, NULL, err);
}

struct slice store_acl_above(struct store *s, struct slice name)
{
    ptrdiff_t cut;
    while ((cut = slice_rchr(name, STORE_SEPARATOR)) > 0) {
        name = slice_first(name, (size_t)cut);
        if (store_exists(s, name))
            return name;
    }
    return SLICE_LIT("INBOX");
}

int store_acl_inherit(
    struct store *s, struct slice above, struct slice folder, bool *any, struct error *err)
{
    struct acl a;
    int rc = OK;
    (void)!store_acl_get(s, above, &a, err); /* of a damaged list nobody has any right */
    for (size_t i = 0; !rc && i < a.n; i++)
        rc = store_acl_change(
            s, folder, slice_of(a.entries[i].who), ACL_SET, a.entries[i].rights, err);
    if (any)
        *any = a.n > 0;
    acl_clear(&a);
    return rc;
}

/* --- the summary ------------------------------------------------------------------------------ */

static void put_folder(struct store *s, struct slice folder, struct buf *out)
{
    char disk[NAME_DISK_MAX];
    struct acl a;
    struct error ignored;
    if (store_folder_dir(s, folder, disk, &ignored) || store_acl_get(s, folder, &a, &ignored))
        return;
    for (size_t i = 0; i < a.n; i++)
        if (a.entries[i].who[0] != '-' && a.entries[i].rights)
            buf_printf(out, "%s %s\n", disk, a.entries[i].who);
    acl_clear(&a);
}

int store_acl_summary(struct store *s, bool *shared, struct error *err)
{
    struct store_folder *folders;
    size_t n;
    struct buf text, old;
    int lock;
    int rc = lock_lists(s, &lock, err);
    if (rc)
        return rc;
    rc = store_list(s, &folders, &n, err);
    if (rc) {
        fs_close(&lock);
        return rc;
    }
    buf_init(&text, SUMMARY_MAX);
    buf_init(&old, SUMMARY_MAX);
    for (size_t i = 0; i < n; i++)
        if (!(folders[i].attrs & STORE_NOSELECT))
            put_folder(s, folders[i].name, &text);
    store_list_free(folders, n);
    int had = io_slurp(s->fd, summary_file, &old, err);
    if (text.failed)
        rc = error_set(err, ERR_LIMIT, "too many folders are shared");
    else if ((had || !slice_eq(buf_slice(&old), buf_slice(&text))) &&
             (had != ERR_NOT_FOUND || buf_len(&text)))
        rc = io_replace(s->fd, summary_file, buf_slice(&text), err);
    if (shared)
        *shared = buf_len(&text) > 0;
    buf_clear(&text);
    buf_clear(&old);
    fs_close(&lock);
    return rc;
}
