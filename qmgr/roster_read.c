/* Reads a parked file line by line, in pieces, and notes where the lines are that count. */
#include "qmgr/roster_private.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "libmail/text.h"
#include "libutil/crc32c.h"

enum { PIECE = 256 * 1024, LINE_MAX_BYTES = 65536, TAIL_MAX = 256 * 1024 * 1024 };

struct lines {
    struct disk *disk;
    int fd;
    char *piece;
    size_t used, at;
    uint64_t offset; /* in the file, of piece */
    int code;        /* negative errno */
};

/* The next line without its end, and where it begins. False at the end, or on trouble. */
static bool next_line(struct lines *l, struct slice *line, uint64_t *offset)
{
    for (;;) {
        struct slice rest = {l->piece + l->at, l->used - l->at};
        ptrdiff_t end = slice_chr(rest, '\n');
        if (end >= 0) {
            *line = slice_first(rest, (size_t)end);
            *offset = l->offset + l->at;
            l->at += (size_t)end + 1;
            return true;
        }
        if (rest.n == PIECE)
            return false; /* no line is that long */
        memmove(l->piece, rest.p, rest.n);
        l->offset += l->at;
        l->used = rest.n;
        l->at = 0;
        ssize_t n = l->disk->ops->read(
            l->disk, l->fd, l->piece + l->used, PIECE - l->used, (int64_t)(l->offset + l->used));
        if (n < 0)
            l->code = (int)n;
        if (n <= 0)
            return false;
        l->used += (size_t)n;
    }
}

static void rewind_to(struct lines *l, uint64_t offset)
{
    l->offset = offset;
    l->used = l->at = 0;
}

static void note_damage(struct roster *r, uint64_t from, uint64_t to)
{
    r->bad = xrealloc(r->bad, r->nbad + 1, sizeof(*r->bad));
    r->bad[r->nbad++] = (struct span){from, to};
}

/* Sets r->end to where the last sound block ends (0: there is none), and r->bad to what is not
 * sound before that. A later block begins with its `message` line. */
static void find_blocks(struct roster *r, struct lines *l)
{
    struct slice line;
    uint64_t at, begin = l->offset;
    uint32_t crc = 0;
    while (next_line(l, &line, &at)) {
        char expect[32];
        bool over = slice_starts(line, "end crc=");
        if (r->end > 0 && slice_starts(line, "message ")) {
            begin = at;
            crc = 0;
        }
        snprintf(expect, sizeof(expect), "end crc=%08" PRIx32, crc);
        crc = over ? 0 : crc32c(crc32c(crc, line), SLICE_LIT("\n"));
        if (!over)
            continue;
        bool sound = slice_is(line, expect);
        if (!sound && r->end == 0)
            return;
        if (sound && r->end > 0 && begin > r->end)
            note_damage(r, r->end, begin);
        begin = at + line.n + 1;
        r->end = sound ? begin : r->end;
    }
}

/* What is behind the last sound block: nothing, or an update that was cut off, or damage. */
static void judge_tail(struct roster *r, struct lines *l)
{
    struct buf tail;
    ssize_t n = 1;
    buf_init(&tail, TAIL_MAX);
    while (n > 0) {
        char *room = buf_reserve(&tail, PIECE);
        n = room ? l->disk->ops->read(
                       l->disk, l->fd, room, PIECE, (int64_t)(r->end + buf_len(&tail)))
                 : 0;
        if (n > 0)
            buf_claim(&tail, (size_t)n);
    }
    size_t damaged = n < 0 ? 0 : parked_damaged_tail(buf_slice(&tail), r->end);
    if (damaged > 0)
        note_damage(r, r->end, r->end + damaged);
    buf_clear(&tail);
}

static bool is_bad(const struct roster *r, uint64_t at)
{
    for (size_t i = 0; i < r->nbad; i++)
        if (at >= r->bad[i].from && at < r->bad[i].to)
            return true;
    return false;
}

static struct entry *add_entry(struct roster *r)
{
    if (r->n == r->cap) {
        r->cap = r->cap ? 2 * r->cap : 1024;
        r->entries = xrealloc(r->entries, r->cap, sizeof(*r->entries));
    }
    r->entries[r->n] = (struct entry){0};
    return &r->entries[r->n++];
}

/* The three fields that matter, which stand among the first. */
static int take_state(struct roster *r, struct slice fields, uint64_t at)
{
    uint64_t index = 0, state = 0, next = 0;
    while (fields.n > 0) {
        struct slice value = slice_cut(&fields, ' ');
        struct slice name = slice_cut(&value, '=');
        int rc = slice_is(name, "index")   ? slice_u64(value, 0, UINT32_MAX, &index)
                 : slice_is(name, "state") ? slice_u64(value, 0, RCPT_DONE, &state)
                 : slice_is(name, "next")  ? slice_u64(value, 0, INT64_MAX, &next)
                                           : OK;
        if (rc != OK)
            return ERR_CORRUPT;
    }
    if (index >= r->n || state < RCPT_WAITING)
        return ERR_CORRUPT;
    struct entry *e = &r->entries[index];
    e->state = (uint8_t)state;
    e->next = (int64_t)next;
    e->state_at = at;
    return OK;
}

/* Few recipients have an owner: only their lines are read in full. */
static int take_recipient(struct roster *r, struct slice fields, uint64_t at)
{
    struct entry *e = add_entry(r);
    struct arena arena;
    struct recipient to;
    e->recipient = at;
    if (slice_find(fields, SLICE_LIT(" owner=")) < 0 || slice_ends(fields, " owner="))
        return OK;
    arena_init(&arena, LINE_MAX_BYTES);
    int rc = text_get(fields, &recipient_record, &to, &arena);
    if (rc == OK)
        e->group = recipient_group(r->null_sender, &to);
    arena_reset(&arena);
    return rc;
}

static int take_envelope(struct roster *r, struct slice fields, uint64_t at)
{
    struct slice sender = slice_cut(&fields, ' ');
    r->envelope_at = at;
    r->null_sender = slice_is(sender, "sender=");
    return slice_starts(sender, "sender=") ? OK : ERR_CORRUPT;
}

static int take_line(struct roster *r, struct slice line, uint64_t at)
{
    struct slice fields = line;
    struct slice word = slice_cut(&fields, ' ');
    if (slice_is(word, "message"))
        r->message_at = at;
    else if (slice_is(word, "envelope"))
        return take_envelope(r, fields, at);
    else if (slice_is(word, "recipient"))
        return take_recipient(r, fields, at);
    else if (slice_is(word, "state"))
        return take_state(r, fields, at);
    return OK;
}

static bool complete(const struct roster *r)
{
    for (size_t i = 0; i < r->n; i++)
        if (r->entries[i].state_at == 0)
            return false;
    return r->n > 0 && r->message_at > 0 && r->envelope_at > 0;
}

static int read_lines(struct roster *r, struct lines *l, uint64_t from, struct error *err)
{
    struct slice line;
    uint64_t at;
    find_blocks(r, l);
    if (l->code < 0)
        return disk_error(err, l->code, "cannot read a parked message");
    if (r->end == 0)
        return error_set(err, ERR_CORRUPT, "parked message with a bad checksum");
    rewind_to(l, from);
    int rc = next_line(l, &line, &at) ? parked_check_format(line, err) : ERR_CORRUPT;
    if (rc != OK)
        return rc;
    while (rc == OK && next_line(l, &line, &at) && at < r->end)
        rc = is_bad(r, at) ? OK : take_line(r, line, at);
    if (rc != OK || !complete(r))
        return error_set(err, ERR_CORRUPT, "parked message with a malformed line");
    judge_tail(r, l);
    return OK;
}

int roster_open(struct message *m, struct disk *disk, struct error *err)
{
    char path[PARKED_NAME];
    parked_path(m->qid, m->size, path);
    int fd = disk->ops->open(disk, path, DISK_READ);
    return fd < 0 ? disk_error(err, fd, "cannot open a parked message") : fd;
}

struct roster *roster_read(struct message *m, struct disk *disk, struct error *err)
{
    struct lines l = {.disk = disk, .fd = roster_open(m, disk, err)};
    if (l.fd < 0)
        return NULL;
    struct roster *r = NEW(struct roster);
    l.piece = xcalloc(1, PIECE);
    rewind_to(&l, m->size);
    int rc = read_lines(r, &l, m->size, err);
    disk->ops->close(disk, l.fd);
    free(l.piece);
    m->rotten.from = rc == OK && r->nbad > 0 ? r->bad[0].from : 0;
    m->rotten.to = rc == OK && r->nbad > 0 ? r->bad[r->nbad - 1].to : 0;
    if (rc == OK)
        return r;
    roster_free(r);
    return NULL;
}
