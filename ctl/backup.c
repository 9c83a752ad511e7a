/* What there is in a directory of backups. */
#include "ctl/backup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DIR_FLAGS = O_RDONLY | O_DIRECTORY | O_CLOEXEC, CHUNK = 65536 };

static int check_version(struct backup *b, bool make, struct error *err)
{
    char text[64] = "";
    int fd = openat(b->fd, "version", O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && make) {
        static const char want[] = "veredus-backup 1\n";
        fd = openat(b->fd, "version", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        bool ok = fd >= 0 && write(fd, want, sizeof(want) - 1) == sizeof(want) - 1 && !fsync(fd);
        fd_close(&fd);
        return ok ? OK : error_sys(err, "%s/version", b->path);
    }
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    fd_close(&fd);
    if (n < 0)
        return error_set(err, ERR_NOT_FOUND, "%s: no backup is there", b->path);
    return strcmp(text, "veredus-backup 1\n") == 0
               ? OK
               : error_set(err, ERR_VERSION, "%s: not a backup that this release knows", b->path);
}

static int make_parts(struct backup *b, struct error *err)
{
    static const char *const parts[] = {"messages", "generations"};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        if (mkdirat(b->fd, parts[i], 0700) && errno != EEXIST)
            return error_sys(err, "%s/%s", b->path, parts[i]);
    b->lock = openat(b->fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (b->lock < 0)
        return error_sys(err, "%s/lock", b->path);
    return flock(b->lock, LOCK_EX | LOCK_NB)
               ? error_set(err, ERR_BUSY, "%s: another process writes to this backup", b->path)
               : OK;
}

int backup_open(const char *path, bool write, struct backup *b, struct error *err)
{
    uint64_t *all = NULL;
    size_t n = 0;
    *b = (struct backup){.fd = -1, .lock = -1};
    snprintf(b->path, sizeof(b->path), "%s", path);
    if (write && mkdir(path, 0700) && errno != EEXIST)
        return error_sys(err, "%s", path);
    b->fd = open(path, DIR_FLAGS);
    if (b->fd < 0)
        return error_sys(err, "%s", path);
    int rc = check_version(b, write, err);
    if (!rc && write)
        rc = make_parts(b, err);
    if (!rc)
        rc = backup_generations(b, &all, &n, err);
    b->last = n ? all[n - 1] : 0;
    free(all);
    if (rc)
        backup_close(b);
    return rc;
}

void backup_close(struct backup *b)
{
    fd_close(&b->lock);
    fd_close(&b->fd);
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

int backup_generations(struct backup *b, uint64_t **out, size_t *n, struct error *err)
{
    size_t cap = 0;
    int fd = openat(b->fd, "generations", DIR_FLAGS);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    *out = NULL;
    *n = 0;
    if (!d) {
        fd_close(&fd);
        return error_sys(err, "%s/generations", b->path);
    }
    for (struct dirent *e; (e = readdir(d));) {
        uint64_t number;
        if (slice_u64(slice_of(e->d_name), 1, INT64_MAX, &number))
            continue;
        if (*n == cap) {
            cap = cap ? 2 * cap : 16;
            *out = xrealloc(*out, cap, sizeof(**out));
        }
        (*out)[(*n)++] = number;
    }
    closedir(d);
    if (*n)
        qsort(*out, *n, sizeof(**out), by_number);
    return OK;
}

char **backup_users(struct backup *b, uint64_t generation, struct error *err)
{
    char path[64];
    size_t n = 0, cap = 16;
    snprintf(path, sizeof(path), "generations/%llu", (unsigned long long)generation);
    int fd = openat(b->fd, path, DIR_FLAGS);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        error_sys(err, "%s/%s", b->path, path);
        fd_close(&fd);
        return NULL;
    }
    char **names = xcalloc(cap, sizeof(*names));
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        if (n + 1 == cap) {
            cap *= 2;
            names = xrealloc(names, cap, sizeof(*names));
        }
        names[n++] = xstrdup(e->d_name);
    }
    names[n] = NULL;
    closedir(d);
    return names;
}

void backup_users_free(char **names)
{
    for (size_t i = 0; names && names[i]; i++)
        free(names[i]);
    free(names);
}

static void manifest_path(uint64_t generation, const char *word, char *out, size_t size)
{
    snprintf(out, size, "generations/%llu/%s", (unsigned long long)generation, word);
}

int backup_manifest(struct backup *b, uint64_t generation, const char *word, struct manifest **out,
    struct error *err)
{
    char path[MANIFEST_NAME], full[2 * MANIFEST_NAME];
    manifest_path(generation, word, path, sizeof(path));
    int fd = openat(b->fd, path, O_RDONLY | O_CLOEXEC);
    FILE *in = fd < 0 ? NULL : fdopen(fd, "r");
    if (!in)
        return error_sys(err, "%s/%s", b->path, path);
    snprintf(full, sizeof(full), "%s", path);
    return manifest_open(in, full, out, err);
}

uint64_t backup_newest(struct backup *b, uint64_t generation, const char *word)
{
    uint64_t *all = NULL, best = 0;
    size_t n = 0;
    struct error ignored;
    struct stat st;
    if (backup_generations(b, &all, &n, &ignored))
        return 0;
    for (size_t i = 0; i < n; i++) {
        char path[MANIFEST_NAME];
        manifest_path(all[i], word, path, sizeof(path));
        if ((!generation || all[i] <= generation) && fstatat(b->fd, path, &st, 0) == 0)
            best = all[i];
    }
    free(all);
    return best;
}

void backup_content_path(const char *hash, char out[128])
{
    snprintf(out, 128, "messages/%.2s/%s", hash, hash);
}

int backup_content(struct backup *b, const char *hash, uint64_t size, FILE **out, struct error *err)
{
    char path[128], sum[DIGEST_HEX], *chunk;
    uint64_t total = 0;
    backup_content_path(hash, path);
    int fd = openat(b->fd, path, O_RDONLY | O_CLOEXEC);
    FILE *in = fd < 0 ? NULL : fdopen(fd, "r");
    *out = NULL;
    if (!in)
        return error_sys(err, "%s/%s", b->path, path);
    struct digest *digest = digest_new();
    chunk = xrealloc(NULL, CHUNK, 1);
    for (size_t n; (n = fread(chunk, 1, CHUNK, in)) > 0; total += n)
        digest_put(digest, slice_from(chunk, n));
    digest_take(digest, sum);
    digest_free(digest);
    free(chunk);
    if (ferror(in) || total != size || strcmp(sum, hash) != 0) {
        fclose(in);
        return error_set(err, ERR_CORRUPT, "%s/%s: damaged", b->path, path);
    }
    rewind(in);
    *out = in;
    return OK;
}
