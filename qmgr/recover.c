#include <stdlib.h>

#include "qmgr/qmgr.h"

struct recovery {
    struct qmgr *q;
    uint64_t log, parked;
};

static void found_message(struct spool_found *found, void *arg)
{
    struct recovery *rec = arg;
    struct qmgr *q = rec->q;
    struct message *m = message_new(found->qid, found->accept.size);
    struct error err;
    m->generation = found->generation;
    if (message_load_found(m, found, &err) != OK || queue_add(q, m) != OK) {
        log_event(q->log, spool_trouble, .what = SLICE_LIT("corrupt record"),
            .reason = slice_of("an accepted message with a malformed envelope"));
        message_free(m);
        return;
    }
    queue_wake_in(q, m, 0);
    rec->log++;
}

static void found_parked(uint64_t qid, uint64_t size, int64_t due, void *arg)
{
    struct recovery *rec = arg;
    struct qmgr *q = rec->q;
    struct message *m = message_new(qid, size);
    m->parked = true;
    m->held = due == 0;
    m->due_wall = due;
    if (queue_add(q, m) != OK) {
        message_free(m);
        return;
    }

    if (!m->held)
        queue_wake_at(q, m, due);
    rec->parked++;
}

static void found_trouble(const char *what, const char *reason, void *arg)
{
    struct recovery *rec = arg;
    rec->q->troubles++;
    log_event(rec->q->log, spool_trouble, .what = slice_of(what), .reason = slice_of(reason));
}

static int by_generation(const void *a, const void *b)
{
    const struct message *m = *(struct message *const *)a, *n = *(struct message *const *)b;
    return (m->generation > n->generation) - (m->generation < n->generation);
}

/* Those in the log were found in no order. */
static void find_young(struct qmgr *q, uint64_t count)
{
    struct message **found = xcalloc(count + 1, sizeof(struct message *));
    size_t n = 0;
    LIST_EACH(it, &q->all)
    {
        struct message *m = LIST_ENTRY(it, struct message, all);
        if (m->generation && n < count)
            found[n++] = m;
    }
    qsort(found, n, sizeof(*found), by_generation);
    for (size_t i = 0; i < n; i++)
        list_append(&q->young, &found[i]->young);
    free(found);
}

int recover_open(struct qmgr *q, struct error *err)
{
    static const struct spool_found_ops ops = {found_message, found_parked, found_trouble};
    struct recovery rec = {.q = q};
    int64_t begun = loop_wall(q->loop);
    q->spool = NULL; /* while its messages are added, nobody may ask it anything */
    q->spool = spool_open(q->disk, &q->set.spool, &ops, &rec, err);
    if (!q->spool)
        return err->code;
    LIST_EACH(it, &q->all)
    {
        LIST_ENTRY(it, struct message, all)->format = spool_format(q->spool);
    }
    find_young(q, rec.log);
    log_event(q->log, spool_recovered, .log = rec.log, .parked = rec.parked,
        .troubles = q->troubles, .took_ms = loop_wall(q->loop) - begun);
    return OK;
}

void recover_reports(struct qmgr *q)
{
    LIST_EACH(it, &q->all)
    {
        const struct message *m = LIST_ENTRY(it, struct message, all);
        if (m->content)
            report_found(q, &m->content->envelope);
    }
}
