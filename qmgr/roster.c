#include "qmgr/roster.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "libmail/proto/deliver.h"
#include "libmail/text.h"
#include "libutil/crc32c.h"

enum {
    PIECE = 256 * 1024,
    LINE_FIRST = 1024,
    LINE_MAX_BYTES = 65536,
    TAIL_MAX = 256 * 1024 * 1024
};

/* What is known of one recipient. */
struct entry {
    uint64_t recipient, state_at; /* offsets of its lines in the file; 0: none */
    int64_t next;
    uint32_t group; /* recipient_group */
    uint8_t state;
    bool here;      /* in the content: that is right about it */
    bool unwritten; /* the file does not have its state */
};

struct span {
    uint64_t from, to;
};

struct roster {
    struct entry *entries;
    struct span *bad; /* damaged updates, in the order of the file */
    size_t nbad;
    size_t n, cap;
    uint64_t message_at, envelope_at, end;
    bool spoilt, null_sender;
};

void roster_free(struct roster *r)
{
    if (!r)
        return;
    free(r->entries);
    free(r->bad);
    free(r);
}

size_t roster_total(const struct roster *r)
{
    return r->n;
}

void roster_spoil(struct roster *r)
{
    r->spoilt = true;
}

bool roster_spoilt(const struct roster *r)
{
    return r->spoilt;
}

/* --- asking ---------------------------------------------------------------------------------- */

size_t roster_open_count(const struct roster *r)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++)
        n += !r->entries[i].here && r->entries[i].state != RCPT_DONE;
    return n;
}

static bool fits(const struct entry *e, const struct roster_choice *c)
{
    if (e->here)
        return false;
    static const enum rcpt_state states[] = {[ROSTER_DUE] = RCPT_WAITING,
        [ROSTER_WAITING] = RCPT_WAITING,
        [ROSTER_FAILED] = RCPT_FAILED,
        [ROSTER_DELIVERED] = RCPT_DELIVERED};
    if (e->state != states[c->what] || (c->one_group && e->group != c->group))
        return false;
    return c->what != ROSTER_DUE || e->next <= c->now || e->next > c->latest;
}

bool roster_has(const struct roster *r, const struct roster_choice *c)
{
    for (size_t i = 0; i < r->n; i++)
        if (fits(&r->entries[i], c))
            return true;
    return false;
}

uint32_t roster_group(const struct roster *r, const struct roster_choice *c)
{
    for (size_t i = 0; i < r->n; i++)
        if (fits(&r->entries[i], c))
            return r->entries[i].group;
    return 0;
}

size_t roster_settle(struct roster *r, const struct roster_choice *c)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++) {
        if (!fits(&r->entries[i], c))
            continue;
        r->entries[i].state = RCPT_DONE;
        r->entries[i].unwritten = true;
        n++;
    }
    return n;
}

size_t roster_unwritten(const struct roster *r)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++)
        n += r->entries[i].unwritten;
    return n;
}

void roster_take_unwritten(struct roster *r, struct parked_state *out)
{
    for (size_t i = 0; i < r->n; i++) {
        struct entry *e = &r->entries[i];
        if (!e->unwritten)
            continue;
        e->unwritten = false;
        *out++ = (struct parked_state){.index = (uint32_t)i,
            .state = e->state,
            .dsn = SLICE_LIT(""),
            .text = SLICE_LIT(""),
            .mta = SLICE_LIT("")};
    }
}

int64_t roster_next(const struct roster *r)
{
    int64_t next = INT64_MAX;
    for (size_t i = 0; i < r->n; i++)
        if (!r->entries[i].here && r->entries[i].state == RCPT_WAITING)
            next = MIN(next, r->entries[i].next);
    return next;
}

void roster_hurry(struct roster *r)
{
    for (size_t i = 0; i < r->n; i++)
        if (!r->entries[i].here && r->entries[i].state == RCPT_WAITING)
            r->entries[i].next = 0;
}

/* --- reading the file line by line ----------------------------------------------------------- */

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

static int open_parked(struct message *m, struct disk *disk, struct error *err)
{
    char path[PARKED_NAME];
    parked_path(m->qid, m->size, path);
    int fd = disk->ops->open(disk, path, DISK_READ);
    return fd < 0 ? disk_error(err, fd, "cannot open a parked message") : fd;
}

struct roster *roster_read(struct message *m, struct disk *disk, struct error *err)
{
    struct lines l = {.disk = disk, .fd = open_parked(m, disk, err)};
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

/* --- a portion ------------------------------------------------------------------------------- */

struct loading {
    struct disk *disk;
    int fd;
    struct content *c;
    struct buf line;
};

/* The fields of the line at this place, in l->line. */
static int read_fields(struct loading *l, uint64_t at, struct slice *fields)
{
    for (size_t size = LINE_FIRST; size <= LINE_MAX_BYTES; size *= 8) {
        buf_reset(&l->line);
        char *room = buf_reserve(&l->line, size);
        ssize_t n = l->disk->ops->read(l->disk, l->fd, room, size, (int64_t)at);
        if (n <= 0)
            return ERR_IO;
        buf_claim(&l->line, (size_t)n);
        struct slice line = buf_slice(&l->line);
        ptrdiff_t end = slice_chr(line, '\n');
        if (end < 0)
            continue;
        *fields = slice_first(line, (size_t)end);
        slice_cut(fields, ' ');
        return OK;
    }
    return ERR_CORRUPT;
}

static int read_record(struct loading *l, uint64_t at, const struct record *rec, void *value)
{
    struct slice fields;
    int rc = read_fields(l, at, &fields);
    return rc == OK ? text_get(fields, rec, value, &l->c->arena) : rc;
}

/* What a report has told of, and the file does not know yet, as after a crash. */
static void apply_told(struct message *m, struct roster *r, uint32_t reports)
{
    bool success = m->told.kind == REPORT_SUCCESS;
    struct roster_choice told = {.what = success ? ROSTER_DELIVERED : ROSTER_FAILED,
        .one_group = true,
        .group = m->told.group};
    if (m->told.serial <= reports)
        return;
    size_t n = m->told.kind == REPORT_DELAY ? 0 : roster_settle(r, &told);
    if (m->reports < m->told.serial) { /* not noted in memory either */
        m->reports = m->told.serial;
        m->warned |= m->told.kind == REPORT_DELAY;
        *(success ? &m->delivered : &m->bounced) += (uint32_t)n;
        m->changes++;
    }
}

static int load_head(struct loading *l, struct message *m, struct roster *r)
{
    struct parked_message line;
    struct content *c = l->c;
    uint64_t qid;
    int rc = read_record(l, r->message_at, &parked_message_record, &line);
    if (rc == OK)
        rc = read_record(l, r->envelope_at, &envelope_record, &c->envelope);
    if (rc == OK && (id_parse(line.qid, &qid) != OK || qid != m->qid))
        rc = ERR_CORRUPT;
    if (rc == OK)
        rc = record_put(&c->encoded, &envelope_record, &c->envelope);
    if (rc != OK)
        return rc;
    c->envelope_raw = buf_slice(&c->encoded);
    if (m->saved == m->changes) { /* otherwise we know better */
        m->held = line.held;
        m->warned = line.warned;
        m->delivered = line.delivered;
        m->bounced = line.bounced;
        m->reports = line.reports;
    }
    snprintf(m->crc, sizeof(m->crc), "%.*s", SLICE_FMT(line.crc));
    apply_told(m, r, line.reports);
    return OK;
}

static int load_one(struct loading *l, const struct roster *r, size_t i)
{
    const struct entry *e = &r->entries[i];
    struct rcpt *to = &l->c->rcpts[l->c->count];
    *to = (struct rcpt){0};
    int rc = read_record(l, e->recipient, &recipient_record, &to->to);
    if (rc == OK)
        rc = read_record(l, e->state_at, &parked_state_record, &to->st);
    if (rc != OK)
        return rc;
    to->st.index = (uint32_t)i;
    rcpt_set_known(to);
    to->st.next = e->next; /* somebody may be in a hurry */
    l->c->count++;
    return OK;
}

static int load_chosen(struct loading *l, const struct roster *r,
    const struct roster_choice *choice, size_t *from, size_t most)
{
    l->c->rcpts = xcalloc(most + 1, sizeof(*l->c->rcpts));
    l->c->cap = most;
    l->c->total = r->n;
    int rc = OK;
    size_t i = *from;
    for (; rc == OK && i < r->n && l->c->count < most; i++)
        if (fits(&r->entries[i], choice))
            rc = load_one(l, r, i);
    *from = i;
    return rc;
}

struct content *roster_peek(struct message *m, const struct roster_choice *choice, size_t *from,
    size_t most, struct disk *disk, struct error *err)
{
    struct loading l = {.disk = disk, .fd = open_parked(m, disk, err)};
    if (l.fd < 0)
        return NULL;
    l.c = content_new();
    buf_init(&l.line, LINE_MAX_BYTES);
    int rc = load_chosen(&l, m->content->roster, choice, from, most);
    disk->ops->close(disk, l.fd);
    buf_clear(&l.line);
    if (rc == OK)
        return l.c;
    error_set(err, rc, "parked message with a malformed line");
    content_free(l.c);
    return NULL;
}

int roster_load(struct message *m, struct roster *r, const struct roster_choice *choice,
    size_t most, struct disk *disk, struct error *err)
{
    struct loading l = {.disk = disk, .fd = open_parked(m, disk, err)};
    size_t from = 0;
    if (l.fd < 0) {
        roster_free(r);
        return l.fd;
    }
    l.c = content_new();
    buf_init(&l.line, LINE_MAX_BYTES);
    int rc = load_head(&l, m, r);
    if (rc == OK)
        rc = load_chosen(&l, r, choice, &from, most);
    for (size_t i = 0; rc == OK && i < l.c->count; i++)
        r->entries[l.c->rcpts[i].st.index].here = true;
    disk->ops->close(disk, l.fd);
    buf_clear(&l.line);
    l.c->roster = r;
    if (rc != OK) {
        content_free(l.c);
        return error_set(err, rc, "parked message with a malformed line");
    }
    m->parked_end = MAX(m->parked_end, r->end);
    m->content = l.c;
    return OK;
}

struct roster *roster_unload(struct message *m)
{
    struct content *c = m->content;
    struct roster *r = c->roster;
    for (size_t i = 0; i < c->count; i++) {
        const struct parked_state *st = &c->rcpts[i].st;
        if (st->index >= r->n)
            continue;
        struct entry *e = &r->entries[st->index];
        e->state = (uint8_t)st->state;
        e->next = st->next;
        e->here = false;
    }
    c->roster = NULL;
    message_unload(m);
    return r;
}

void roster_follow(struct message *m, struct slice text, uint64_t offset)
{
    struct roster *r = m->content->roster;
    for (const char *start = text.p; text.n > 0;) {
        uint64_t at = offset + (uint64_t)(text.p - start);
        struct slice fields = slice_cut(&text, '\n');
        uint64_t index;
        struct slice word = slice_cut(&fields, ' ');
        if (slice_is(word, "message"))
            r->message_at = at;
        if (!slice_is(word, "state"))
            continue;
        struct slice value = slice_cut(&fields, ' ');
        slice_cut(&value, '=');
        if (slice_u64(value, 0, UINT32_MAX, &index) == OK && index < r->n)
            r->entries[index].state_at = at;
        else
            roster_spoil(r);
    }
}
