/*
 * Loading parked messages, as a whole or in portions: of a message with more than
 * message-recipients only so many are in memory at a time (qmgr/roster.h). They are delivered, what
 * became of them goes to the disk, the next ones follow. What is to be reported comes last, out of
 * the file (qmgr/report.c).
 */
#include <errno.h>
#include <inttypes.h>

#include "qmgr/qmgr.h"
#include "qmgr/roster.h"

/* Updates of its file that were whole once: what they said is lost, and the rest counts. Told once,
 * with a copy of them for people to look at; the next update of the file may replace them. */
static void report_rotten(struct qmgr *q, struct message *m)
{
    char path[PARKED_NAME], aside[PARKED_NAME + 32], id[ID_TEXT];
    struct buf reason;
    parked_path(m->qid, m->size, path);
    id_print(m->qid, id);
    snprintf(aside, sizeof(aside), "corrupt/update-%s-%" PRIu64, id, m->rotten.from);
    int rc = disk_copy_part(q->disk, path, m->rotten.from, m->rotten.to, aside);
    if (rc != -EEXIST) {
        buf_init(&reason, 512);
        buf_printf(&reason,
            "%s at offset %" PRIu64 ": %" PRIu64 " bytes of updates are damaged, what they said "
            "of its recipients is lost and may be done again; %s %s",
            path, m->rotten.from, m->rotten.to - m->rotten.from,
            rc == 0 ? "copied to" : "they could not be copied to", aside);
        log_event(&m->log, spool_trouble, .what = SLICE_LIT("damaged update"),
            .reason = buf_slice(&reason));
        buf_clear(&reason);
    }
    m->rotten.to = 0;
}

void portion_loaded(struct qmgr *q, struct message *m)
{
    if (m->rotten.to > 0)
        report_rotten(q, m);
    q->loaded++;
    m->content->counted = m->content->count;
    q->active += m->content->counted;
}

void queue_unload(struct qmgr *q, struct message *m)
{
    if (!m->content)
        return;
    q->loaded--;
    q->active -= m->content->counted;
    message_unload(m);
}

/* Which recipients a portion is made of. */
static struct roster_choice choose_due(const struct qmgr *q, int64_t hold_until)
{
    /* What is due soon goes along, as in queue_deliver. */
    int64_t now = loop_wall(q->loop) + q->set.retry.from / 8;
    return (struct roster_choice){
        .what = ROSTER_DUE, .now = now, .latest = MAX(now + queue_longest_wait(q), hold_until)};
}

/* The file has more lines than a message of one portion could have. */
static bool is_large(const struct qmgr *q, const struct message *m)
{
    enum { LINES_LEAST = 64 }; /* of one recipient, in bytes */
    char path[PARKED_NAME];
    struct disk_stat st;
    parked_path(m->qid, m->size, path);
    return q->disk->ops->stat(q->disk, path, &st) == 0 &&
           st.size - (int64_t)m->size > (int64_t)(q->set.portion * LINES_LEAST);
}

struct roster_choice portion_choice(const struct qmgr *q, const struct message *m)
{
    static const struct roster_choice waiting = {.what = ROSTER_WAITING};
    return m->giving_up ? waiting : choose_due(q, m->content ? m->content->envelope.hold_until : 0);
}

int portion_read(struct message *m, const struct roster_choice *choice, size_t portion,
    struct disk *disk, struct error *err)
{
    struct roster *r = roster_read(m, disk, err);
    if (!r)
        return err->code;
    if (roster_total(r) > portion)
        return roster_load(m, r, choice, portion, disk, err);
    roster_free(r);
    return message_load_parked(m, disk, err);
}

int queue_load(struct qmgr *q, struct message *m, struct error *err)
{
    if (m->content)
        return OK;
    struct roster_choice due = portion_choice(q, m);
    int rc = is_large(q, m) ? portion_read(m, &due, q->set.portion, q->disk, err)
                            : message_load_parked(m, q->disk, err);
    if (rc == OK)
        portion_loaded(q, m);
    return rc;
}

int queue_load_whole(struct qmgr *q, struct message *m, struct error *err)
{
    if (m->content && !m->content->roster)
        return OK;
    if (m->busy || m->moving || m->reporting || m->updates || m->saved != m->changes)
        return error_set(err, ERR_BUSY, "it is being worked on: put it on hold first");
    queue_unload(q, m);
    struct message *copy = admin_look_take(q, m);
    int rc = OK;
    if (copy)
        message_adopt(m, copy);
    else
        rc = message_load_parked(m, q->disk, err);
    message_free(copy);
    if (rc == OK)
        portion_loaded(q, m);
    return rc;
}

void queue_load_failed(struct qmgr *q, struct message *m, const struct error *err)
{
    char path[SPOOL_BIG_PATH + PARKED_NAME];
    struct buf reason;
    m->damaged = err->code == ERR_CORRUPT || err->code == ERR_VERSION;
    if (m->big[0])
        spool_big_path(m->big, path);
    else
        parked_path(m->qid, m->size, path);
    buf_init(&reason, 1024);
    buf_printf(&reason, "%s: %s", path, err->text);
    log_event(&m->log, spool_trouble,
        .what = m->damaged ? SLICE_LIT("a message cannot be used and is on hold")
                           : SLICE_LIT("a message cannot be read, it is tried again"),
        .reason = buf_slice(&reason));
    buf_clear(&reason);
    m->held = m->held || m->damaged;
    if (m->parked) /* its envelope may have been sound, its body is not */
        queue_unload(q, m);
    if (!m->damaged)
        queue_wake_in(q, m, 30 * DISK_RETRY_MS);
}

/* A message with more recipients than may be in memory: it gets a file, from which it is delivered
 * in portions. True: it will go on when that is done. */
bool portion_split(struct qmgr *q, struct message *m)
{
    struct content *c = m->content;
    struct error err;
    if (c->roster || c->total <= q->set.portion || m->busy || m->moving || m->updates ||
        m->committing)
        return false;
    if (!m->parked) {
        m->due_wall = loop_wall(q->loop);
        queue_park(q, m, "so many recipients are delivered in portions");
        return true;
    }
    if (m->saved != m->changes) {
        queue_update(q, m);
        return true;
    }
    queue_unload(q, m);
    if (large_file(q, m)) {
        large_load(q, m, NULL, NULL);
        return true;
    }
    if (queue_load(q, m, &err) == OK)
        return false;
    queue_load_failed(q, m, &err);
    return true;
}

/* Up to `most` of these instead of the portion in memory. */
static int change_portion(
    struct qmgr *q, struct message *m, const struct roster_choice *choice, size_t most)
{
    struct error err = {0};
    bool spoilt = roster_spoilt(m->content->roster);
    q->loaded--;
    q->active -= m->content->counted;
    struct roster *r = roster_unload(m);
    if (spoilt) {
        roster_free(r);
        r = roster_read(m, q->disk, &err);
    }
    if (!r || roster_load(m, r, choice, most, q->disk, &err) != OK) {
        queue_load_failed(q, m, &err);
        return ERR_IO;
    }
    portion_loaded(q, m);
    return OK;
}

int portion_leave(struct qmgr *q, struct message *m)
{
    struct roster_choice due = choose_due(q, 0);
    return m->content->count > 0 ? change_portion(q, m, &due, 0) : OK;
}

void portion_give_up(struct qmgr *q, struct message *m)
{
    static const struct roster_choice waiting = {.what = ROSTER_WAITING};
    struct content *c = m->content;
    m->changes += !m->held;
    m->held = true; /* a crash in between must not deliver to the others */
    for (size_t i = 0; i < c->count; i++) {
        struct rcpt *r = &c->rcpts[i];
        if (r->st.state != RCPT_WAITING || r->busy)
            continue;
        rcpt_note(r, FAILED, SLICE_LIT("5.3.0"), slice_of(m->giving_up), SLICE_LIT(""));
        r->st.last = loop_wall(q->loop);
        queue_rcpt_failed(q, m, r);
    }
    if (c->roster && roster_has(c->roster, &waiting))
        return;
    free(m->giving_up);
    m->giving_up = NULL;
    m->held = false;
    m->changes++;
}

bool portion_next(struct qmgr *q, struct message *m)
{
    struct content *c = m->content;
    struct roster_choice due = portion_choice(q, m);
    if ((m->held && !m->giving_up) || q->draining || !roster_has(c->roster, &due) ||
        report_overdue(q, m))
        return false;
    if (m->saved != m->changes)
        queue_update(q, m);
    else if (change_portion(q, m, &due, q->set.portion) == OK)
        queue_deliver(q, m);
    return true;
}
