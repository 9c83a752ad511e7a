#include "qmgr/verify.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "libutil/crc32c.h"
#include "libutil/log.h"
#include "libutil/map.h"
#include "qmgr/message.h"

enum { PASSES = 3, PAUSE_MS = 300, CHUNK = 65536, KEY_MAX = 1024 };

/* One pass over everything. */
struct pass {
    struct disk *disk;
    struct map found; /* "d" or "n", name, NUL, reason, NUL -> itself */
    struct verify_sum sum;
    char chunk[CHUNK];
};

static void note(struct pass *p, bool harmless, const char *name, const char *reason)
{
    char key[KEY_MAX];
    int n = snprintf(key, sizeof(key), "%c%.200s%c%.500s", harmless ? 'n' : 'd', name, 0, reason);
    map_set(&p->found, slice_from(key, (size_t)n + 1), p);
}

/* All bytes of a body can be read, and are those that came (crc: as in struct message). */
static void read_body(struct pass *p, const char *path, uint64_t size, const char *crc)
{
    struct error err;
    uint32_t sum = 0;
    char found[9];
    int fd = p->disk->ops->open(p->disk, path, DISK_READ);
    uint64_t at = 0;
    ssize_t got = fd < 0 ? fd : 0;
    while (got >= 0 && at < size) {
        got = p->disk->ops->read(
            p->disk, fd, p->chunk, (size_t)MIN(size - at, (uint64_t)CHUNK), (int64_t)at);
        if (got == 0)
            break;
        if (got > 0)
            sum = crc32c(sum, slice_from(p->chunk, (size_t)got));
        at += got > 0 ? (uint64_t)got : 0;
    }
    snprintf(found, sizeof(found), "%08" PRIx32, sum);
    if (fd >= 0)
        p->disk->ops->close(p->disk, fd);
    p->sum.bytes += at;
    if (got < 0) {
        disk_error(&err, (int)got, "cannot be read");
        note(p, false, path, err.text);
    } else if (at < size) {
        note(p, false, path, "is cut off");
    } else if (crc[0] && strcmp(found, crc) != 0) {
        note(p, false, path, "the message itself is damaged: its checksum is wrong");
    }
}

/* Behind the message and its first block. */
static void look_at_updates(struct pass *p, const char *path, const struct message *m)
{
    struct disk_stat st;
    if (m->rotten.to > 0)
        note(p, false, path, "an update with a bad checksum: what it said is lost");
    else if (p->disk->ops->stat(p->disk, path, &st) == 0 && st.size > (int64_t)m->parked_end)
        note(p, true, path, "ends with an unfinished update, which is ignored");
}

static void found_message(struct spool_found *found, void *arg)
{
    struct pass *p = arg;
    struct message *m = message_new(found->qid, found->accept.size);
    struct error err;
    char id[ID_TEXT], path[SPOOL_BIG_PATH], name[64];
    id_print(found->qid, id);
    snprintf(name, sizeof(name), "log, message %s", id);
    p->sum.logged++;
    if (message_load_found(m, found, &err) != OK) {
        note(p, false, name, err.text);
    } else if (m->big[0]) {
        spool_big_path(m->big, path);
        read_body(p, path, m->size, m->crc);
    } else {
        p->sum.bytes += m->size; /* its record's checksum was right */
    }
    message_free(m);
}

static void found_parked(uint64_t qid, uint64_t size, int64_t due, void *arg)
{
    (void)due;
    struct pass *p = arg;
    struct message *m = message_new(qid, size);
    struct error err;
    char path[PARKED_NAME];
    parked_path(qid, size, path);
    m->parked = true;
    p->sum.parked++;
    if (message_load_parked(m, p->disk, &err) != OK) {
        note(p, false, path, err.text);
    } else {
        read_body(p, path, size, m->crc);
        look_at_updates(p, path, m);
    }
    message_free(m);
}

static void found_trouble(const char *what, const char *reason, void *arg)
{
    note(arg, strcmp(what, "foreign file") == 0, what, reason);
}

static void set_aside(const char *name, void *arg)
{
    char path[512];
    snprintf(path, sizeof(path), "corrupt/%s", name);
    note(arg, true, path, "was set aside at an earlier start");
}

struct directory {
    struct pass *pass;
    const char *name;
};

/* root can read what the spool's account cannot. */
static void look_at_access(const char *name, void *arg)
{
    const struct directory *dir = arg;
    struct disk *disk = dir->pass->disk;
    struct disk_stat st;
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", dir->name, name);
    if (disk->ops->stat(disk, path, &st) == 0 && st.foreign)
        note(dir->pass, false, path,
            "the owner of the spool may not read and write it: wrong owner or mode");
}

static int run_pass(struct pass *p, struct error *err)
{
    static const struct spool_found_ops ops = {found_message, found_parked, found_trouble};
    map_init(&p->found);
    p->sum = (struct verify_sum){0};
    int rc = spool_peek(p->disk, &ops, p, err);
    static const char *const used[] = {"log", "big", "parked"};
    for (size_t i = 0; i < ARRAY_LEN(used); i++) {
        struct directory dir = {p, used[i]};
        p->disk->ops->list(p->disk, used[i], look_at_access, &dir);
    }
    p->disk->ops->list(p->disk, "corrupt", set_aside, p);
    return rc;
}

/* Of what was found before, only what is found again stays. */
static void keep_common(struct map *all, const struct map *now)
{
    struct map common;
    struct slice key;
    map_init(&common);
    for (size_t pos = 0; map_next(all, &pos, &key, NULL);)
        if (map_get(now, key))
            map_set(&common, key, all);
    map_clear(all);
    *all = common;
}

static void tell(const struct map *found, verify_found_fn *fn, void *arg, struct verify_sum *sum)
{
    struct slice key;
    for (size_t pos = 0; map_next(found, &pos, &key, NULL);) {
        bool harmless = key.p[0] == 'n';
        sum->notes += harmless;
        sum->damaged += !harmless;
        fn(harmless, key.p + 1, key.p + 1 + strlen(key.p + 1) + 1, arg);
    }
}

int verify_spool(struct disk *disk, bool running, verify_found_fn *found, void *arg,
    struct verify_sum *sum, struct error *err)
{
    struct pass *p = NEW(struct pass);
    struct map all;
    p->disk = disk;
    int rc = run_pass(p, err);
    all = p->found;
    for (int i = 1; running && i < PASSES && (rc != OK || map_count(&all) > 0); i++) {
        struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000L};
        bool failed = rc != OK;
        nanosleep(&pause, NULL);
        rc = run_pass(p, err);
        if (failed) {
            map_clear(&all);
            all = p->found; /* the pass before had not seen everything */
        } else {
            keep_common(&all, &p->found);
            map_clear(&p->found);
        }
    }
    *sum = p->sum;
    tell(&all, found, arg, sum);
    map_clear(&all);
    free(p);
    return rc;
}

static void print_finding(bool harmless, const char *name, const char *reason, void *arg)
{
    (void)arg;
    printf("%s\t%s\t%s\n", harmless ? "note" : "damaged", name, reason);
}

int verify_main(const char *directory, bool running)
{
    struct error err = {.text = ""};
    struct verify_sum sum = {0};
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd < 0 ? error_sys(&err, "%s", directory) : OK;
    if (rc == OK) {
        struct disk *disk = disk_posix_read_only(fd);
        rc = verify_spool(disk, running, print_finding, NULL, &sum, &err);
        disk_posix_free(disk);
    }
    if (rc == OK)
        printf("sum\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\n", sum.logged, sum.parked, sum.bytes);
    else
        fprintf(stderr, "qmgr: %s\n", err.text);
    if (rc != OK || fflush(stdout) != 0)
        return 2;
    return sum.damaged > 0;
}
