/* Applying transactions to what is in memory. */
#include "libstore/private.h"

static void add_delivery(struct box *b, const struct op *op)
{
    if (b->ndeliveries >= 2 * DELIVERIES_MAX) {
        b->ndeliveries = DELIVERIES_MAX;
        memmove(
            b->deliveries, b->deliveries + DELIVERIES_MAX, DELIVERIES_MAX * sizeof(*b->deliveries));
        deliveries_moved(b);
    }
    if (b->ndeliveries == b->cap_deliveries) {
        b->cap_deliveries = b->cap_deliveries ? b->cap_deliveries * 2 : 16;
        b->deliveries = xrealloc(b->deliveries, b->cap_deliveries, sizeof(*b->deliveries));
    }
    b->deliveries[b->ndeliveries++] = (struct disk_delivery){op->delivery, op->rec.uid, op->time};
}

static int apply_append(struct box *b, const struct disk_txn *txn, const struct op *op)
{
    uint32_t last = box_count(b) ? box_rec(b, box_count(b) - 1)->uid : 0;
    if (op->rec.uid <= last || op->rec.uid < b->head.uidnext || op->rec.uid >= txn->uidnext)
        return ERR_CORRUPT;
    struct disk_rec rec = op->rec;
    rec.modseq = txn->sequence;
    rec.name = box_name(b, op->name);
    if (op->name.n && !rec.name)
        return ERR_CORRUPT;
    if (op->cache_end) {
        b->head.cache_end = op->cache_end;
        b->head.cache_records++;
    }
    box_push(b, &rec);
    if (op->delivery)
        add_delivery(b, op);
    return OK;
}

static void change_flags(struct disk_rec *rec, const struct op *op)
{
    switch (op->number) {
    case STORE_ADD:
        rec->flags |= (uint8_t)op->flags;
        rec->keywords |= op->keywords;
        break;
    case STORE_REMOVE:
        rec->flags &= (uint8_t)~op->flags;
        rec->keywords &= ~op->keywords;
        break;
    default:
        rec->flags = (uint8_t)op->flags;
        rec->keywords = op->keywords;
        break;
    }
}

static void apply_ranges(struct box *b, const struct disk_txn *txn, const struct op *op)
{
    uint32_t min, max;
    for (size_t i = 0; op_range(op, i, &min, &max); i++) {
        for (size_t pos = box_find(b, min); pos < box_count(b); pos++) {
            const struct disk_rec *seen = box_rec(b, pos);
            if (seen->uid > max)
                break;
            if (seen->bits & REC_GONE)
                continue;
            struct disk_rec *rec = box_edit(b, pos);
            box_tally(b, rec, -1);
            rec->modseq = txn->sequence;
            if (op->type == OP_EXPUNGE) {
                box_add_tomb(b, rec, op->time);
                rec->bits |= REC_GONE;
            } else if (op->type == OP_LOST) {
                box_lose(b, rec, op->time);
            } else {
                change_flags(rec, op);
                /* Our own change is reported by its result, not by the next refresh. */
                if (!b->own)
                    rec->bits |= REC_DIRTY;
            }
            box_tally(b, rec, 1);
        }
    }
}

static int apply_keyword(struct box *b, const struct op *op)
{
    if (op->number >= STORE_KEYWORDS_MAX || op->number > b->nkeywords)
        return ERR_CORRUPT;
    if (op->number == b->nkeywords)
        b->keywords[b->nkeywords++] = xmemdup0(op->name.p, op->name.n);
    return OK;
}

static void apply_record(struct box *b, const struct op *op)
{
    size_t pos = box_find(b, op->rec.uid);
    if (op->type == OP_META && op->cache_end) {
        b->head.cache_end = op->cache_end;
        b->head.cache_records++;
    }
    if (!box_find_rec(b, op->rec.uid))
        return;
    struct disk_rec *rec = box_edit(b, pos);
    box_tally(b, rec, -1);
    /* The writer may know a size that only a META tells. */
    uint16_t told = op->type == OP_FILE ? REC_NEW : REC_SIZED | REC_CRLF;
    rec->bits = (uint16_t)((rec->bits & ~told) | (op->rec.bits & told));
    if (op->type == OP_META) {
        rec->cache = op->rec.cache;
        rec->size = op->rec.size;
    } else {
        rec->file_flags = op->rec.file_flags;
    }
    box_tally(b, rec, 1);
}

/* One gap is remembered; what a repair did not know stays unknown, also when the machine stops once
 * more while the journal puts back what was lost. */
void box_note_gap(struct box *b, uint64_t from, uint64_t to)
{
    uint64_t last = b->head.lost_to;
    bool repair = b->head.lost_from == 0 && last >= REPAIR_JUMP;
    if (!repair || from > last + REPAIR_JUMP)
        b->head.lost_from = from;
    b->head.lost_to = to;
}

static int apply_op(struct box *b, const struct disk_txn *txn, const struct op *op)
{
    switch (op->type) {
    case OP_APPEND:
        return apply_append(b, txn, op);
    case OP_FLAGS:
    case OP_EXPUNGE:
    case OP_LOST:
        apply_ranges(b, txn, op);
        return OK;
    case OP_KEYWORD:
        return apply_keyword(b, op);
    case OP_RECENT:
        b->head.first_recent = op->number;
        return OK;
    case OP_BOOT:
        if (txn->sequence > b->head.sequence + 1)
            box_note_gap(b, b->head.sequence, txn->sequence);
        witness_note(&b->head.witness, (int64_t)op->a, (uint32_t)op->b);
        return OK;
    case OP_META:
    case OP_FILE:
        apply_record(b, op);
        return OK;
    case OP_SCAN:
        b->head.cur_mtime = op->a;
        b->head.new_mtime = op->b;
        return OK;
    }
    return ERR_CORRUPT;
}

int box_apply(struct box *b, const struct disk_txn *txn, struct slice ops)
{
    struct reader r = reader_of(ops);
    struct op op;
    if (txn->uidnext < b->head.uidnext || txn->sequence <= b->head.sequence)
        return ERR_CORRUPT;
    while (op_next(&r, &op))
        if (apply_op(b, txn, &op))
            return ERR_CORRUPT;
    if (r.bad)
        return ERR_CORRUPT;
    b->head.uidnext = txn->uidnext;
    b->head.reserved = txn->reserved;
    b->head.sequence = txn->sequence;
    if (txn->visible)
        b->head.modseq = txn->sequence;
    return OK;
}
