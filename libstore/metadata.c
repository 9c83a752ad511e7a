#include "libstore/metadata.h"

#include <errno.h>
#include <fcntl.h>

#include "libstore/private.h"

/* File: for each entry a line "LENGTH NAME", then LENGTH bytes and a line end. */

static const char of_folder[] = "veredus.metadata", of_server[] = "veredus.server";

bool metadata_name_ok(struct slice name)
{
    if (name.n > METADATA_NAME_MAX || slice_ends(name, "/") ||
        !(slice_istarts(name, "/private/") || slice_istarts(name, "/shared/")))
        return false;
    for (size_t i = 0; i < name.n; i++) {
        unsigned char c = (unsigned char)name.p[i];
        if (c < ' ' || c >= 127 || c == '*' || c == '%' ||
            (c == '/' && i > 0 && name.p[i - 1] == '/'))
            return false;
    }
    return true;
}

void metadata_clear(struct metadata *m)
{
    free(m->entries);
    buf_clear(&m->text);
    *m = (struct metadata){0};
}

struct slice metadata_find(const struct metadata *m, struct slice name)
{
    for (size_t i = 0; i < m->n; i++)
        if (slice_ieq(m->entries[i].name, name))
            return m->entries[i].value;
    return (struct slice){NULL, 0};
}

static int parse(struct metadata *m, struct error *err)
{
    struct slice rest = buf_slice(&m->text);
    m->entries = xcalloc(METADATA_ENTRIES_MAX, sizeof(*m->entries));
    while (rest.n) {
        struct slice line = slice_cut(&rest, '\n'), digits = slice_cut(&line, ' ');
        uint64_t n;
        if (m->n == METADATA_ENTRIES_MAX || slice_u64(digits, 0, METADATA_VALUE_MAX, &n) ||
            rest.n < n + 1 || rest.p[n] != '\n' || !metadata_name_ok(line))
            return error_set(err, ERR_CORRUPT, "metadata: entry %zu is damaged", m->n + 1);
        m->entries[m->n++] = (struct metadata_entry){line, slice_first(rest, (size_t)n)};
        rest = slice_from_index(rest, (size_t)n + 1);
    }
    return OK;
}

/* The directory to look in, to be closed unless it is the store's own. */
static int open_dir(
    struct store *s, struct slice folder, int *fd, const char **file, struct error *err)
{
    *file = folder.n ? of_folder : of_server;
    *fd = s->fd;
    return folder.n ? store_open_place(s, folder, fd, err) : OK;
}

static void close_dir(struct store *s, int fd)
{
    if (fd != s->fd)
        fs_close(&fd);
}

static int read_file(int dir, const char *file, struct metadata *m, struct error *err)
{
    *m = (struct metadata){0};
    buf_init(&m->text, 2 * (size_t)METADATA_TOTAL_MAX);
    int rc = io_slurp(dir, file, &m->text, err);
    if (rc == OK)
        rc = parse(m, err);
    if (rc)
        metadata_clear(m);
    return rc == ERR_NOT_FOUND ? OK : rc;
}

int store_metadata_get(struct store *s, struct slice folder, struct metadata *m, struct error *err)
{
    int fd;
    const char *file;
    *m = (struct metadata){0};
    int rc = open_dir(s, folder, &fd, &file, err);
    if (rc)
        return rc;
    rc = read_file(fd, file, m, err);
    close_dir(s, fd);
    return rc;
}

static const struct metadata_entry *change_of(
    const struct metadata_entry *changes, size_t n, struct slice name)
{
    for (size_t i = n; i--;) /* the last one counts */
        if (slice_ieq(changes[i].name, name))
            return &changes[i];
    return NULL;
}

static int by_name(const void *a, const void *b)
{
    const struct metadata_entry *x = a, *y = b;
    return slice_cmp(x->name, y->name);
}

/* Old entries and changes together, as a file. */
static int merge(const struct metadata *old, const struct metadata_entry *changes, size_t n,
    struct buf *out, struct error *err)
{
    struct metadata_entry *all = xcalloc(old->n + n + 1, sizeof(*all));
    size_t count = 0;
    for (size_t i = 0; i < old->n; i++)
        if (!change_of(changes, n, old->entries[i].name))
            all[count++] = old->entries[i];
    for (size_t i = 0; i < n; i++)
        if (changes[i].value.p && change_of(changes, n, changes[i].name) == &changes[i])
            all[count++] = changes[i];
    qsort(all, count, sizeof(*all), by_name);
    int rc = count > METADATA_ENTRIES_MAX ? error_set(err, ERR_LIMIT, "too many entries") : OK;
    for (size_t i = 0; !rc && i < count; i++) {
        if (all[i].value.n > METADATA_VALUE_MAX)
            rc = error_set(err, ERR_LIMIT, "a value is too large");
        buf_printf(out, "%zu %.*s\n", all[i].value.n, SLICE_FMT(all[i].name));
        buf_put(out, all[i].value);
        buf_putc(out, '\n');
    }
    if (!rc && (out->failed || buf_len(out) > METADATA_TOTAL_MAX))
        rc = error_set(err, ERR_LIMIT, "too much metadata");
    free(all);
    return rc;
}

/* One at a time: a lock of its own, since the directory's guards the index. */
static int set_locked(
    int dir, const char *file, const struct metadata_entry *changes, size_t n, struct error *err)
{
    struct metadata old;
    struct buf text;
    int lock = fs_open(dir, "veredus.metalock", O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
    if (lock < 0)
        return error_sys(err, "opening veredus.metalock");
    int rc = dir_lock(lock, err);
    if (rc) {
        fs_close(&lock);
        return rc;
    }
    rc = read_file(dir, file, &old, err);
    if (rc == ERR_CORRUPT) {
        old = (struct metadata){0}; /* written anew: better than never again */
        rc = OK;
    }
    buf_init(&text, 4 * (size_t)METADATA_TOTAL_MAX);
    if (!rc)
        rc = merge(&old, changes, n, &text, err);
    if (!rc)
        rc = io_replace(dir, file, buf_slice(&text), err);
    if (!rc && fs_sync(dir))
        rc = error_sys(err, "syncing a folder");
    buf_clear(&text);
    metadata_clear(&old);
    fs_close(&lock);
    return rc;
}

int store_metadata_set(struct store *s, struct slice folder, const struct metadata_entry *changes,
    size_t n, struct error *err)
{
    int fd;
    const char *file;
    for (size_t i = 0; i < n; i++)
        if (!metadata_name_ok(changes[i].name))
            return error_set(err, ERR_SYNTAX, "not a name for an entry");
    int rc = open_dir(s, folder, &fd, &file, err);
    if (rc)
        return rc;
    rc = set_locked(fd, file, changes, n, err);
    close_dir(s, fd);
    return rc;
}

/* --- special use ------------------------------------------------------------------------------ */

static const char *const use_names[] = {
    "\\All", "\\Archive", "\\Drafts", "\\Flagged", "\\Junk", "\\Sent", "\\Trash"};
_Static_assert(ARRAY_LEN(use_names) == STORE_USES, "");

const char *store_use_name(unsigned i)
{
    return i < STORE_USES ? use_names[i] : NULL;
}

unsigned store_use_bit(struct slice name)
{
    for (unsigned i = 0; i < STORE_USES; i++)
        if (slice_iis(name, use_names[i]) || slice_iis(name, use_names[i] + 1))
            return 1U << i;
    return 0;
}

#define USE_ENTRY SLICE_LIT("/private/specialuse")

int store_use_get(
    struct store *s, struct slice folder, unsigned *uses, bool *assigned, struct error *err)
{
    struct metadata m;
    *uses = 0;
    *assigned = false;
    int rc = store_metadata_get(s, folder, &m, err);
    if (rc)
        return rc;
    struct slice value = metadata_find(&m, USE_ENTRY);
    *assigned = value.p != NULL;
    while (value.n)
        *uses |= store_use_bit(slice_cut(&value, ' '));
    metadata_clear(&m);
    return OK;
}

int store_use_set(struct store *s, struct slice folder, unsigned uses, struct error *err)
{
    struct buf value;
    buf_init(&value, 200);
    for (unsigned i = 0; i < STORE_USES; i++)
        if (uses >> i & 1)
            buf_printf(&value, "%s%s", buf_len(&value) ? " " : "", use_names[i]);
    struct metadata_entry change = {USE_ENTRY, buf_slice(&value)};
    if (!change.value.p)
        change.value = SLICE_LIT("");
    int rc = store_metadata_set(s, folder, &change, 1, err);
    buf_clear(&value);
    return rc;
}
