/* Views of mailboxes: sequence numbers over a box, and what changes them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "libstore/view.h"

/* Position of a sequence number. */
static size_t position(const struct store_mailbox *mb, uint32_t seq)
{
    return mb->map ? mb->map[seq - 1] : seq - 1;
}

struct disk_rec *view_rec(const struct store_mailbox *mb, uint32_t seq)
{
    return box_rec(mb->box, position(mb, seq));
}

static void push(struct store_mailbox *mb, size_t pos)
{
    if (!mb->map && pos == mb->count) {
        mb->count++;
        return;
    }
    if (!mb->map || mb->count == mb->cap) {
        bool identity = !mb->map;
        mb->cap = mb->count + mb->count / 2 + 64;
        mb->map = xrealloc(mb->map, mb->cap, sizeof(*mb->map));
        for (uint32_t i = 0; identity && i < mb->count; i++)
            mb->map[i] = i;
    }
    mb->map[mb->count++] = (uint32_t)pos;
}

/* Messages that came after the view was last brought up to date. */
static uint32_t take_arrivals(struct store_mailbox *mb)
{
    uint32_t before = mb->count;
    for (; mb->next_pos < box_count(mb->box); mb->next_pos++) {
        struct disk_rec *rec = box_rec(mb->box, mb->next_pos);
        /* Not written to without need: each page written is a private copy. */
        if (rec->bits & REC_DIRTY)
            rec->bits &= (uint16_t)~REC_DIRTY;
        if (!(rec->bits & REC_GONE))
            push(mb, mb->next_pos);
    }
    return mb->count - before;
}

/* Messages no session has seen yet become recent here; with write access, only here. */
static int claim_recent(struct store_mailbox *mb, struct error *err)
{
    struct box *b = mb->box;
    if (b->head.first_recent >= b->head.uidnext)
        return OK;
    if (mb->read_only) {
        uidset_add_range(&mb->recent, MAX(b->head.first_recent, 1), b->head.uidnext - 1);
        return OK;
    }
    int rc = box_lock(b, err);
    if (rc)
        return rc;
    uint32_t first = MAX(b->head.first_recent, 1), end = b->head.uidnext;
    if (first < end) {
        box_begin(b);
        txn_op(&b->txn, &(struct op){.type = OP_RECENT, .number = end});
        rc = box_commit(b, 0, false, err);
        if (!rc)
            uidset_add_range(&mb->recent, first, end - 1);
    }
    box_unlock(b);
    return rc;
}

int store_select(struct store *s, struct slice folder, bool read_only, struct store_mailbox **out,
    struct error *err)
{
    char disk[NAME_DISK_MAX];
    struct box *b;
    if (name_to_disk(folder, disk))
        return error_set(err, ERR_SYNTAX, "not a name for a folder");
    int rc = box_open(s, disk, &b, err);
    if (rc)
        return rc;
    struct store_mailbox *mb = NEW(struct store_mailbox);
    *mb = (struct store_mailbox){.store = s, .box = b, .read_only = read_only};
    b->keep = true;
    rc = claim_recent(mb, err);
    if (rc) {
        store_unselect(mb);
        return rc;
    }
    take_arrivals(mb);
    mb->keywords = b->nkeywords;
    mb->sequence = b->head.sequence;
    *out = mb;
    return OK;
}

/* Sizes that were found by reading, so that nobody has to read again. */
static int write_meta(struct box *b, struct error *err)
{
    size_t n = 0;
    for (size_t i = 0; i < box_count(b); i++)
        n += (box_rec(b, i)->bits & (REC_META | REC_GONE)) == REC_META;
    if (n == 0)
        return OK;
    int rc = box_lock(b, err);
    if (rc)
        return rc;
    box_begin(b);
    for (size_t i = 0; i < box_count(b); i++) {
        struct disk_rec *rec = box_rec(b, i);
        if ((rec->bits & (REC_META | REC_GONE)) != REC_META)
            continue;
        txn_op(&b->txn, &(struct op){.type = OP_META, .rec = *rec});
        rec->bits &= (uint16_t)~REC_META;
    }
    rc = box_commit(b, 0, false, err);
    box_unlock(b);
    return rc;
}

void store_unselect(struct store_mailbox *mb)
{
    struct error ignored; /* nothing acknowledged depends on these two */
    if (!mb)
        return;
    int rc = write_meta(mb->box, &ignored);
    if (!rc && !mb->read_only && mb->store->opt.coexist)
        rc = box_write_names(mb->box, &ignored);
    box_close(mb->box);
    uidset_clear(&mb->recent);
    free(mb->map);
    free(mb->lists);
    uidls_free(mb->uidls);
    free(mb);
}

uint32_t store_count(const struct store_mailbox *mb)
{
    return mb->count;
}

uint32_t store_uidvalidity(const struct store_mailbox *mb)
{
    return mb->box->head.uidvalidity;
}

uint32_t store_uidnext(const struct store_mailbox *mb)
{
    return mb->box->head.uidnext;
}

uint64_t store_highestmodseq(const struct store_mailbox *mb)
{
    return mb->box->head.modseq;
}

bool store_read_only(const struct store_mailbox *mb)
{
    return mb->read_only;
}

bool store_get(struct store_mailbox *mb, uint32_t seq, struct store_msg *m)
{
    if (seq == 0 || seq > mb->count)
        return false;
    struct disk_rec *rec = view_rec(mb, seq);
    if (!(rec->bits & (REC_SIZED | REC_GONE)))
        body_size(mb->box, rec);
    *m = (struct store_msg){.uid = rec->uid,
        .flags = rec->flags | (uidset_has(&mb->recent, rec->uid) ? STORE_RECENT : 0),
        .keywords = rec->keywords,
        .modseq = rec->modseq,
        .size = rec->size,
        .date = rec->date,
        .saved = rec->saved ? rec->saved : rec->date,
        .gone = rec->bits & REC_GONE};
    memcpy(m->guid, rec->guid, sizeof(m->guid));
    return true;
}

uint32_t store_seq_from(const struct store_mailbox *mb, uint32_t uid)
{
    uint32_t low = 0, high = mb->count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (view_rec(mb, mid + 1)->uid < uid)
            low = mid + 1;
        else
            high = mid;
    }
    return low + 1;
}

uint32_t store_seq(const struct store_mailbox *mb, uint32_t uid)
{
    uint32_t seq = store_seq_from(mb, uid);
    return seq <= mb->count && view_rec(mb, seq)->uid == uid ? seq : 0;
}

size_t store_keywords(const struct store_mailbox *mb)
{
    return mb->box->nkeywords;
}

struct slice store_keyword(const struct store_mailbox *mb, size_t i)
{
    return i < mb->box->nkeywords ? slice_of(mb->box->keywords[i]) : SLICE_LIT("");
}

/* Takes expunged messages out of the view; numbers are those before, highest first. */
static void take_vanished(struct store_mailbox *mb, struct store_changes *ch, uint32_t *lists)
{
    uint32_t *seqs = lists, *uids = lists + mb->count, n = 0;
    for (uint32_t seq = mb->count; seq >= 1; seq--) {
        const struct disk_rec *rec = view_rec(mb, seq);
        if (rec->bits & REC_GONE) {
            seqs[n] = seq;
            uids[n++] = rec->uid;
        }
    }
    ch->vanished = seqs;
    ch->vanished_uids = uids;
    ch->nvanished = n;
    if (n == 0)
        return;
    uint32_t *map = xrealloc(NULL, mb->count, sizeof(*map)), kept = 0;
    for (uint32_t seq = 1; seq <= mb->count; seq++)
        if (!(view_rec(mb, seq)->bits & REC_GONE))
            map[kept++] = (uint32_t)position(mb, seq);
    free(mb->map);
    mb->map = map;
    mb->cap = mb->count;
    mb->count = kept;
}

static void take_changed(struct store_mailbox *mb, struct store_changes *ch, uint32_t *list)
{
    size_t n = 0;
    for (uint32_t seq = 1; seq <= mb->count; seq++) {
        struct disk_rec *rec = view_rec(mb, seq);
        if ((rec->bits & (REC_DIRTY | REC_GONE)) != REC_DIRTY)
            continue;
        rec->bits &= (uint16_t)~REC_DIRTY;
        list[n++] = seq;
    }
    ch->changed = list;
    ch->nchanged = n;
}

int store_refresh(
    struct store_mailbox *mb, bool may_expunge, struct store_changes *ch, struct error *err)
{
    struct box *b = mb->box;
    int rc = mb->store->opt.coexist ? box_scan(b, err) : OK;
    *ch = (struct store_changes){0};
    if (!rc)
        rc = box_catch_up(b, err);
    if (!rc)
        rc = claim_recent(mb, err);
    if (rc || (b->head.sequence == mb->sequence && !(mb->owed && may_expunge)))
        return rc;
    mb->lists = xrealloc(mb->lists, 3 * (size_t)mb->count, sizeof(*mb->lists));
    uint32_t *changed = mb->lists + 2 * (size_t)mb->count;
    if (may_expunge)
        take_vanished(mb, ch, mb->lists);
    take_changed(mb, ch, changed);
    ch->arrived = take_arrivals(mb);
    ch->keywords = b->nkeywords != mb->keywords;
    mb->keywords = b->nkeywords;
    mb->owed = !may_expunge;
    mb->sequence = b->head.sequence;
    return OK;
}

static int find_live(
    struct store_mailbox *mb, uint32_t uid, struct disk_rec **rec, struct error *err)
{
    *rec = box_find_rec(mb->box, uid);
    return *rec ? OK : error_set(err, ERR_NOT_FOUND, "message %u is gone", uid);
}

int store_body(struct store_mailbox *mb, uint32_t uid, struct store_body *body, struct error *err)
{
    struct disk_rec *rec;
    int rc = find_live(mb, uid, &rec, err);
    return rc ? rc : body_read(mb->box, rec, body, err);
}

/* Keeps what was made, so that it is made once. Failing is no harm. */
static void keep_cache(struct box *b, uint32_t uid, struct slice built)
{
    struct error ignored;
    if (box_lock(b, &ignored))
        return;
    struct disk_rec *rec = box_find_rec(b, uid);
    struct op op = {.type = OP_META};
    if (rec) {
        op.rec = *rec;
        if (cache_put(b, uid, built, &op.rec.cache, &op.cache_end, &ignored) == OK) {
            box_begin(b);
            txn_op(&b->txn, &op);
            if (box_commit(b, 0, false, &ignored) == OK)
                rec->bits &= (uint16_t)~REC_META;
        }
    }
    box_unlock(b);
}

int store_cached(struct store_mailbox *mb, uint32_t uid, struct store_cache *c, struct error *err)
{
    struct disk_rec *rec;
    struct box *b = mb->box;
    int rc = find_live(mb, uid, &rec, err);
    if (rc || cache_get(b, rec, c) == OK)
        return rc;
    struct store_body body;
    rc = body_read(b, rec, &body, err);
    if (rc)
        return rc;
    if (!(rec->bits & REC_SIZED)) {
        box_tally(b, rec, -1);
        rec->size = (uint32_t)MIN(body.content.n, UINT32_MAX);
        rec->bits |= REC_SIZED | REC_META;
        box_tally(b, rec, 1);
    }
    struct buf built;
    buf_init(&built, b->cached.max);
    cache_build(body.content, &built);
    store_body_release(&body);
    keep_cache(b, uid, buf_slice(&built));
    buf_reset(&b->cached);
    rc = buf_put(&b->cached, buf_slice(&built));
    buf_clear(&built);
    if (!rc)
        rc = cache_parse(buf_slice(&b->cached), c);
    return rc ? error_set(err, rc, "structure of message %u", uid) : OK;
}

int store_changes_since(struct store_mailbox *mb, uint64_t modseq, struct uidset *changed,
    struct uidset *vanished, bool *complete, struct error *err)
{
    struct box *b = mb->box;
    int rc = box_catch_up(b, err);
    if (rc)
        return rc;
    for (uint32_t seq = 1; changed && seq <= mb->count; seq++) {
        const struct disk_rec *rec = view_rec(mb, seq);
        if (rec->modseq > modseq && !(rec->bits & REC_GONE))
            uidset_add(changed, rec->uid);
    }
    for (size_t i = 0; vanished && i < b->ntombs; i++)
        if (b->tombs[i].modseq > modseq)
            uidset_add(vanished, b->tombs[i].uid);
    *complete = modseq >= b->head.tomb_floor;
    return OK;
}
