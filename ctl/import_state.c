#include "ctl/import_state.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "ctl/manifest.h"
#include "libutil/map.h"

enum { STATE_MAX = 16 << 20 };
static const char file_name[] = "veredus.import", new_name[] = "veredus.import.new";
static const char magic[] = "veredus-import 1\n";

struct progress {
    uint32_t uidvalidity, last;
};

struct import_state {
    int dirfd;
    struct buf prefix;  /* "SERVER LOGIN " */
    struct map folders; /* all lines, of other servers too: "SERVER LOGIN FOLDER" -> progress */
};

static void put(struct import_state *s, struct slice key, uint32_t uidvalidity, uint32_t last)
{
    struct progress *p = map_get(&s->folders, key);
    if (!p) {
        p = NEW(struct progress);
        map_set(&s->folders, key, p);
    }
    *p = (struct progress){uidvalidity, last};
}

static int parse(struct import_state *s, struct slice text, struct error *err)
{
    if (!slice_starts(text, magic))
        return error_set(err, ERR_VERSION, "%s: not of this release", file_name);
    text = slice_from_index(text, sizeof(magic) - 1);
    while (text.n) {
        struct slice line = slice_cut(&text, '\n');
        uint64_t last, uidvalidity = 0;
        ptrdiff_t second = slice_rchr(line, ' ');
        struct slice head = slice_first(line, second > 0 ? (size_t)second : 0);
        ptrdiff_t first = slice_rchr(head, ' ');
        if (first <= 0 ||
            slice_u64(slice_from_index(line, (size_t)second + 1), 0, UINT32_MAX, &last) ||
            slice_u64(slice_from_index(head, (size_t)first + 1), 1, UINT32_MAX, &uidvalidity))
            return error_set(err, ERR_CORRUPT, "%s: a line cannot be read", file_name);
        put(s, slice_first(head, (size_t)first), (uint32_t)uidvalidity, (uint32_t)last);
    }
    return OK;
}

static int read_file(struct import_state *s, struct error *err)
{
    struct buf text;
    char chunk[8192];
    ssize_t n = 0;
    int fd = openat(s->dirfd, file_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? OK : error_sys(err, "%s", file_name);
    buf_init(&text, STATE_MAX);
    while (!text.failed && (n = read(fd, chunk, sizeof(chunk))) > 0)
        buf_put(&text, slice_from(chunk, (size_t)n));
    fd_close(&fd);
    int rc = n < 0 ? error_sys(err, "%s", file_name) : parse(s, buf_slice(&text), err);
    buf_clear(&text);
    return rc;
}

int import_state_load(
    int dirfd, const char *server, const char *login, struct import_state **out, struct error *err)
{
    struct import_state *s = NEW(struct import_state);
    s->dirfd = dirfd;
    map_init(&s->folders);
    buf_init(&s->prefix, 8192);
    manifest_word(slice_of(server), &s->prefix);
    buf_putc(&s->prefix, ' ');
    manifest_word(slice_of(login), &s->prefix);
    buf_putc(&s->prefix, ' ');
    int rc = read_file(s, err);
    if (rc)
        import_state_free(s);
    else
        *out = s;
    return rc;
}

void import_state_free(struct import_state *s)
{
    size_t pos = 0;
    struct slice key;
    if (!s)
        return;
    for (void *p; map_next(&s->folders, &pos, &key, &p);)
        free(p);
    map_clear(&s->folders);
    buf_clear(&s->prefix);
    free(s);
}

static void key_of(const struct import_state *s, struct slice folder, struct buf *key)
{
    buf_init(key, 16384);
    buf_put(key, buf_slice(&s->prefix));
    manifest_word(folder, key);
}

uint32_t import_state_get(const struct import_state *s, struct slice folder, uint32_t uidvalidity)
{
    struct buf key;
    key_of(s, folder, &key);
    const struct progress *p = map_get(&s->folders, buf_slice(&key));
    buf_clear(&key);
    return p && p->uidvalidity == uidvalidity ? p->last : 0;
}

static int write_file(struct import_state *s, struct error *err)
{
    size_t pos = 0;
    struct slice key;
    int fd =
        openat(s->dirfd, new_name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    FILE *out = fd < 0 ? NULL : fdopen(fd, "w");
    if (!out)
        return error_sys(err, "%s", new_name);
    fputs(magic, out);
    for (void *v; map_next(&s->folders, &pos, &key, &v);) {
        const struct progress *p = v;
        fprintf(out, "%.*s %u %u\n", SLICE_FMT(key), p->uidvalidity, p->last);
    }
    int rc = fflush(out) || fsync(fd) ? error_sys(err, "%s", new_name) : OK;
    fclose(out);
    if (!rc && (renameat(s->dirfd, new_name, s->dirfd, file_name) || fsync(s->dirfd)))
        rc = error_sys(err, "%s", file_name);
    return rc;
}

int import_state_set(struct import_state *s, struct slice folder, uint32_t uidvalidity,
    uint32_t last, struct error *err)
{
    struct buf key;
    key_of(s, folder, &key);
    put(s, buf_slice(&key), uidvalidity, last);
    buf_clear(&key);
    return write_file(s, err);
}
