#include "qmgr/upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "qmgr/message.h"
#include "qmgr/spool_private.h"

/* What is found: parked files are rewritten after the log has been read to its end. */
struct found_parked {
    uint64_t qid, size;
    int64_t due;
};

struct reversion {
    struct disk *disk;
    struct spool *spool;
    struct upgrade_sum *sum;
    struct found_parked *parked;
    size_t nparked;
    bool change; /* not only counting */
    struct error error;
};

static int64_t now_ms(void)
{
    return (int64_t)time(NULL) * 1000;
}

/* Writes one message as a parked file of the old format; body: all of it. */
static int rewrite(struct reversion *r, struct message *m, struct slice body)
{
    struct list batch;
    struct spool_job *job = spool_job_new(SPOOL_PARK, m->qid);
    m->format = SPOOL_FORMAT_OLDEST;
    if (!m->held && m->content->envelope.hold_until > now_ms()) {
        m->held = true; /* the old release would not wait for it */
        r->sum->held++;
    }
    job->size = m->size;
    job->body = body;
    job->due = m->held ? 0 : MAX(m->due_wall, (int64_t)1);
    int rc = message_put_parked(m, &job->text);
    list_init(&batch);
    list_append(&batch, &job->link);
    if (rc == OK)
        spool_run(r->spool, &batch);
    if (rc == OK && job->code != OK)
        rc = error_set(&r->error, job->code, "%s", job->error.text);
    else if (rc != OK)
        error_set(&r->error, rc, "the envelope of a message is too large");
    list_remove(&job->link);
    spool_job_free(job);
    return rc;
}

static void rewrite_with_body(struct reversion *r, struct message *m)
{
    struct buf body;
    buf_init(&body, m->size);
    if (message_check_body(m, r->disk, &r->error) == OK) {
        if (message_read_body(m, r->disk, 0, m->size, &body) != OK)
            error_set(&r->error, ERR_IO, "cannot read a message body");
        else
            (void)rewrite(r, m, buf_slice(&body));
    }
    buf_clear(&body);
}

static void found_message(struct spool_found *found, void *arg)
{
    struct reversion *r = arg;
    struct message *m = message_new(found->qid, found->accept.size);
    r->sum->logged++;
    if (r->change && !r->error.code && message_load_found(m, found, &r->error) == OK) {
        m->due_wall = now_ms();
        rewrite_with_body(r, m);
    }
    message_free(m);
}

static void found_parked(uint64_t qid, uint64_t size, int64_t due, void *arg)
{
    struct reversion *r = arg;
    r->sum->parked++;
    r->parked = xrealloc(r->parked, r->nparked + 1, sizeof(*r->parked));
    r->parked[r->nparked++] = (struct found_parked){qid, size, due};
}

static void found_trouble(const char *what, const char *reason, void *arg)
{
    (void)arg;
    fprintf(stderr, "qmgr: %s: %s\n", what, reason);
}

static int look(struct reversion *r)
{
    static const struct spool_found_ops ops = {found_message, found_parked, found_trouble};
    int rc = format_read(r->disk, &r->sum->written, &r->error);
    r->sum->newest = SPOOL_FORMAT;
    if (rc == OK)
        rc = spool_peek(r->disk, &ops, r, &r->error);
    if (rc == OK && r->sum->written == 0)
        r->sum->written = SPOOL_FORMAT_OLDEST;
    return rc == OK ? r->error.code : rc;
}

/* Damaged updates are not written again. */
static void set_rotten_aside(struct reversion *r, const struct message *m)
{
    char path[PARKED_NAME], aside[PARKED_NAME + 32], id[ID_TEXT];
    if (m->rotten.to == 0)
        return;
    parked_path(m->qid, m->size, path);
    id_print(m->qid, id);
    snprintf(aside, sizeof(aside), "corrupt/update-%s-%" PRIu64, id, m->rotten.from);
    int rc = disk_copy_part(r->disk, path, m->rotten.from, m->rotten.to, aside);
    if (rc < 0 && rc != -EEXIST)
        disk_error(&r->error, rc, "%s: damaged updates cannot be copied to %s", path, aside);
    else
        fprintf(stderr, "qmgr: %s: damaged updates, copied to %s\n", path, aside);
}

static int rewrite_parked(struct reversion *r)
{
    for (size_t i = 0; i < r->nparked && !r->error.code; i++) {
        struct message *m = message_new(r->parked[i].qid, r->parked[i].size);
        m->parked = true;
        m->due_wall = r->parked[i].due;
        if (message_load_parked(m, r->disk, &r->error) == OK) {
            set_rotten_aside(r, m);
            rewrite_with_body(r, m);
        }
        if (r->error.code == ERR_CORRUPT) {
            char path[PARKED_NAME];
            parked_path(m->qid, m->size, path);
            fprintf(stderr, "qmgr: %s: %s; left as it is\n", path, r->error.text);
            r->error = (struct error){0};
            r->sum->damaged++;
        }
        message_free(m);
    }
    return r->error.code;
}

/* Everything in the log has a file now. */
static int empty_log(struct reversion *r)
{
    static const struct spool_found_ops ops = {.trouble = found_trouble};
    struct spool_scan *scan = spool_scan_run(r->disk, true, &ops, r, &r->error);
    if (!scan)
        return r->error.code;
    int rc = spool_scan_remove_log(scan);
    spool_scan_free(scan);
    return rc < 0 ? disk_error(&r->error, rc, "cannot remove the spool log") : OK;
}

static int finish(struct reversion *r, int rc, struct error *err)
{
    if (rc != OK)
        error_set(err, rc, "%s", r->error.text);
    spool_close(r->spool);
    free(r->parked);
    return rc;
}

int upgrade_show(struct disk *disk, struct upgrade_sum *sum, struct error *err)
{
    *sum = (struct upgrade_sum){0};
    struct reversion r = {.disk = disk, .sum = sum};
    return finish(&r, look(&r), err);
}

int upgrade_commit(struct disk *disk, struct error *err)
{
    unsigned format;
    int rc = format_read(disk, &format, err);
    return rc == OK && format != SPOOL_FORMAT ? format_write(disk, SPOOL_FORMAT, err) : rc;
}

int upgrade_revert(struct disk *disk, struct upgrade_sum *sum, struct error *err)
{
    *sum = (struct upgrade_sum){0};
    struct reversion r = {.disk = disk, .sum = sum, .change = true};
    int rc = format_read(disk, &sum->written, err);
    if (rc != OK)
        return rc;
    rc = format_write(disk, SPOOL_FORMAT_OLDEST, err);
    if (rc != OK)
        return rc;
    r.spool = spool_without_log(disk, SPOOL_FORMAT_OLDEST);
    rc = look(&r);
    if (rc == OK)
        rc = rewrite_parked(&r);
    if (rc == OK)
        rc = empty_log(&r);
    return finish(&r, rc, err);
}

/* Files made here have to belong to whom the spool belongs to. */
static int become_owner(int fd, struct error *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return error_sys(err, "the spool");
    if (geteuid() != 0 || st.st_uid == 0)
        return OK;
    if (setgroups(0, NULL) < 0 || setgid(st.st_gid) < 0 || setuid(st.st_uid) < 0)
        return error_sys(err, "cannot become the owner of the spool");
    return OK;
}

int upgrade_main(const char *directory, const char *verb)
{
    struct error err = {.text = ""};
    struct upgrade_sum sum = {0};
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd < 0 ? error_sys(&err, "%s", directory) : become_owner(fd, &err);
    if (rc == OK) {
        struct disk *disk = disk_posix_read_only(fd);
        if (strcmp(verb, "commit") == 0)
            rc = upgrade_commit(disk, &err);
        else if (strcmp(verb, "revert") == 0)
            rc = upgrade_revert(disk, &sum, &err);
        if (rc == OK) {
            struct upgrade_sum now;
            rc = upgrade_show(disk, &now, &err);
            now.held = sum.held;
            now.damaged = sum.damaged;
            sum = now;
        }
        disk_posix_free(disk);
    }
    if (rc != OK) {
        fprintf(stderr, "qmgr: %s\n", err.text);
        return 2;
    }
    printf("format\t%u\t%u\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\n", sum.written,
        sum.newest, sum.logged, sum.parked, sum.held, sum.damaged);
    return fflush(stdout) != 0 ? 2 : 0;
}
