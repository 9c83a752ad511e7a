/* Views of mailboxes: sequence numbers over a box, and what changes them. */
#include "libstore/view.h"

enum { IDLE_MS = 10, LEAVE_MS = 50 };

/* Position of a sequence number: holes[k] - k messages of the view are before hole k. */
static size_t position(const struct store_mailbox *mb, uint32_t seq)
{
    size_t low = 0, high = mb->nholes;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (mb->holes[mid] - mid <= seq - 1)
            low = mid + 1;
        else
            high = mid;
    }
    return seq - 1 + low;
}

/* Sequence number of a position that is in the view. */
static uint32_t number_of(const struct store_mailbox *mb, size_t pos)
{
    size_t low = 0, high = mb->nholes;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (mb->holes[mid] < pos)
            low = mid + 1;
        else
            high = mid;
    }
    return (uint32_t)(pos - low) + 1;
}

const struct disk_rec *view_rec(const struct store_mailbox *mb, uint32_t seq)
{
    return box_rec(mb->box, position(mb, seq));
}

/* Both ascending; `more` is taken. */
static void add_holes(struct store_mailbox *mb, uint32_t *more, size_t n)
{
    if (mb->nholes == 0 || n == 0) {
        if (n) {
            free(mb->holes);
            mb->holes = more;
            mb->nholes = n;
        } else {
            free(more);
        }
        return;
    }
    uint32_t *all = xrealloc(NULL, mb->nholes + n, sizeof(*all));
    for (size_t i = 0, j = 0; i < mb->nholes || j < n;) {
        bool old = j == n || (i < mb->nholes && mb->holes[i] < more[j]);
        all[i + j] = old ? mb->holes[i] : more[j];
        i += old;
        j += !old;
    }
    free(mb->holes);
    free(more);
    mb->holes = all;
    mb->nholes += n;
}

/* Marked records from one position up to another; *n of them, moved to the front. */
static uint32_t *marked_between(struct box *b, uint16_t bits, size_t from, size_t to, size_t *n)
{
    uint32_t *list;
    size_t all = box_marked(b, bits, &list);
    *n = 0;
    for (size_t i = 0; i < all; i++)
        if (list[i] >= from && list[i] < to)
            list[(*n)++] = list[i];
    return list;
}

/* Messages that came after the view was last brought up to date. */
static uint32_t take_arrivals(struct store_mailbox *mb)
{
    size_t before = mb->count, end = box_count(mb->box), n;
    uint32_t *dirty = marked_between(mb->box, REC_DIRTY, mb->next_pos, end, &n);
    for (size_t i = 0; i < n; i++)
        box_edit(mb->box, dirty[i])->bits &= (uint16_t)~REC_DIRTY;
    free(dirty);
    uint32_t *gone = marked_between(mb->box, REC_GONE, mb->next_pos, end, &n);
    add_holes(mb, gone, n);
    mb->next_pos = end;
    mb->count = (uint32_t)(end - mb->nholes);
    return mb->count - (uint32_t)before;
}

static int claim(struct store_mailbox *mb, struct error *err)
{
    struct box *b = mb->box;
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

/* Messages no session has seen yet become recent here; with write access, only here. On a disk that
 * is full or must not be written to they can be read all the same. */
static int claim_recent(struct store_mailbox *mb, struct error *err)
{
    const struct disk_index *head = &mb->box->head;
    if (head->first_recent >= head->uidnext)
        return OK;
    int rc = mb->read_only ? ERR_DENIED : claim(mb, err);
    if (rc == ERR_NO_SPACE || rc == ERR_IO || rc == ERR_DENIED) {
        uidset_add_range(&mb->recent, MAX(head->first_recent, 1), head->uidnext - 1);
        rc = OK;
    }
    return rc;
}

int store_select(struct store *s, struct slice folder, bool read_only, struct store_mailbox **out,
    struct error *err)
{
    char disk[NAME_DISK_MAX];
    struct box *b;
    int rc = store_folder_dir(s, folder, disk, err);
    if (rc)
        return rc;
    rc = box_open(s, disk, &b, err);
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
    uint32_t *list;
    size_t n = box_marked(b, REC_META, &list);
    int rc = n ? box_lock(b, err) : OK;
    free(list);
    if (rc || n == 0)
        return rc;
    n = box_marked(b, REC_META, &list);
    box_begin(b);
    for (size_t i = 0; i < n; i++) {
        struct disk_rec *rec = box_edit(b, list[i]);
        if (!(rec->bits & REC_GONE))
            txn_op(&b->txn, &(struct op){.type = OP_META, .rec = *rec});
        rec->bits &= (uint16_t)~REC_META;
    }
    rc = box_commit(b, 0, false, err);
    free(list);
    box_unlock(b);
    return rc;
}

void store_unselect(struct store_mailbox *mb)
{
    struct error ignored; /* nothing acknowledged depends on these two */
    bool more;
    if (!mb)
        return;
    view_discard(mb, LEAVE_MS);
    int rc = write_meta(mb->box, &ignored);
    if (!rc && !mb->read_only && mb->store->opt.coexist)
        rc = box_write_names(mb->box, true, &more, &ignored);
    box_close(mb->box);
    uidset_clear(&mb->recent);
    uidset_clear(&mb->leftover);
    free(mb->holes);
    free(mb->lists);
    uidls_free(mb->uidls);
    seen_free(mb->seen);
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
    const struct disk_rec *rec = view_rec(mb, seq);
    if (!(rec->bits & (REC_SIZED | REC_GONE))) {
        body_size(mb->box, position(mb, seq));
        rec = view_rec(mb, seq);
    }
    *m = (struct store_msg){.uid = rec->uid,
        .flags = seen_flags(mb->seen, rec->uid, rec->flags) |
                 (uidset_has(&mb->recent, rec->uid) ? STORE_RECENT : 0),
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

static uint32_t *new_lists(struct store_mailbox *mb, size_t n)
{
    free(mb->lists);
    mb->lists = xrealloc(NULL, n + 1, sizeof(*mb->lists));
    return mb->lists;
}

static bool is_hole(const struct store_mailbox *mb, uint32_t pos)
{
    size_t at = pos - (number_of(mb, pos) - 1); /* holes before it */
    return at < mb->nholes && mb->holes[at] == pos;
}

/* Positions in the view of records with this bit; *n of them. */
static uint32_t *marked_in_view(struct store_mailbox *mb, uint16_t bits, size_t *n)
{
    size_t all;
    uint32_t *list = marked_between(mb->box, bits, 0, mb->next_pos, &all);
    *n = 0;
    for (size_t i = 0; i < all; i++)
        if (!is_hole(mb, list[i]))
            list[(*n)++] = list[i];
    return list;
}

/* Takes expunged messages out of the view, and tells what else changed in it. */
static void take_changes(struct store_mailbox *mb, bool may_expunge, struct store_changes *ch)
{
    size_t ngone = 0, ndirty = 0;
    uint32_t *gone = may_expunge ? marked_in_view(mb, REC_GONE, &ngone) : NULL;
    uint32_t *dirty = marked_in_view(mb, REC_DIRTY, &ndirty);
    uint32_t *seqs = new_lists(mb, 2 * ngone + ndirty), *uids = seqs + ngone;
    uint32_t *changed = uids + ngone;
    for (size_t i = 0; i < ngone; i++) {
        seqs[ngone - 1 - i] = number_of(mb, gone[i]);
        uids[ngone - 1 - i] = box_rec(mb->box, gone[i])->uid;
    }
    add_holes(mb, gone, ngone);
    mb->count = (uint32_t)(mb->next_pos - mb->nholes);
    ch->vanished = seqs;
    ch->vanished_uids = uids;
    ch->nvanished = ngone;
    ch->changed = changed;
    for (size_t i = 0; i < ndirty; i++) {
        if (box_rec(mb->box, dirty[i])->bits & REC_GONE)
            continue;
        box_edit(mb->box, dirty[i])->bits &= (uint16_t)~REC_DIRTY;
        changed[ch->nchanged++] = number_of(mb, dirty[i]);
    }
    free(dirty);
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
    if (rc)
        return rc;
    if (b->head.sequence == mb->sequence && !(mb->owed && may_expunge)) {
        if (mb->store->opt.coexist && !mb->read_only)
            box_idle(b);
        view_discard(mb, IDLE_MS);
        mb->sequence = b->head.sequence;
        return OK;
    }
    take_changes(mb, may_expunge, ch);
    ch->arrived = take_arrivals(mb);
    ch->keywords = b->nkeywords != mb->keywords;
    mb->keywords = b->nkeywords;
    mb->owed = !may_expunge;
    mb->sequence = b->head.sequence;
    return OK;
}

bool store_tidy(struct store_mailbox *mb)
{
    if (mb->store->opt.coexist && !mb->read_only)
        box_idle(mb->box);
    view_discard(mb, IDLE_MS);
    return mb->leftover.n > 0;
}

static int find_live(
    struct store_mailbox *mb, uint32_t uid, const struct disk_rec **rec, struct error *err)
{
    *rec = box_find_rec(mb->box, uid);
    return *rec ? OK : error_set(err, ERR_NOT_FOUND, "message %u is gone", uid);
}

int store_body(struct store_mailbox *mb, uint32_t uid, struct store_body *body, struct error *err)
{
    const struct disk_rec *rec;
    int rc = find_live(mb, uid, &rec, err);
    return rc ? rc : body_read(mb->box, rec, body, err);
}

/* Keeps what was made, so that it is made once. Failing is no harm. */
static void keep_cache(struct box *b, uint32_t uid, struct buf *built)
{
    struct error ignored;
    if (box_lock(b, &ignored))
        return;
    const struct disk_rec *rec = box_find_rec(b, uid);
    struct op op = {.type = OP_META};
    if (rec) {
        op.rec = *rec;
        if (cache_put(b, rec, built, &op.rec.cache, &op.cache_end, &ignored) == OK) {
            box_begin(b);
            txn_op(&b->txn, &op);
            if (box_commit(b, 0, false, &ignored) == OK)
                box_edit(b, box_find(b, uid))->bits &= (uint16_t)~REC_META;
        }
    }
    box_unlock(b);
}

int store_cached(struct store_mailbox *mb, uint32_t uid, struct store_cache *c, struct error *err)
{
    const struct disk_rec *rec;
    struct box *b = mb->box;
    int rc = find_live(mb, uid, &rec, err);
    if (rc || cache_get(b, rec, c) == OK)
        return rc;
    struct store_body body;
    rc = body_read(b, rec, &body, err);
    if (rc)
        return rc;
    if (!(rec->bits & REC_SIZED)) {
        struct disk_rec *sized = box_edit(b, box_find(b, uid));
        box_tally(b, sized, -1);
        sized->size = (uint32_t)MIN(body.content.n, UINT32_MAX);
        sized->bits |= REC_SIZED | REC_META;
        box_tally(b, sized, 1);
    }
    struct buf built;
    buf_init(&built, b->cached.max);
    cache_build(body.content, &built);
    store_body_release(&body);
    keep_cache(b, uid, &built);
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
    /* Who has seen what was lost can believe nothing. */
    bool lost = modseq > b->head.lost_from && modseq < b->head.lost_to;
    for (uint32_t seq = 1; changed && seq <= mb->count; seq++) {
        const struct disk_rec *rec = view_rec(mb, seq);
        if ((lost || rec->modseq > modseq) && !(rec->bits & REC_GONE))
            uidset_add(changed, rec->uid);
    }
    for (size_t i = 0; vanished && i < box_tombs(b); i++)
        if (box_tomb(b, i)->modseq > modseq)
            uidset_add(vanished, box_tomb(b, i)->uid);
    *complete = !lost && modseq >= b->head.tomb_floor;
    return OK;
}
