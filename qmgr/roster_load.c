/* Reads the lines of some recipients. */
#include "qmgr/roster_private.h"

#include <stdlib.h>

#include "libmail/proto/deliver.h"
#include "libmail/text.h"

enum { LINE_FIRST = 8192, LINE_MAX_BYTES = 65536 };

/* A part of the file. */
struct window {
    struct buf bytes;
    uint64_t at;
};

struct loading {
    struct disk *disk;
    int fd;
    struct content *c;
    struct window recipients, states; /* most of their lines follow each other */
};

static int loading_begin(struct loading *l, struct message *m, struct disk *disk, struct error *err)
{
    *l = (struct loading){.disk = disk, .fd = roster_open(m, disk, err)};
    if (l->fd < 0)
        return l->fd;
    l->c = content_new();
    buf_init(&l->recipients.bytes, LINE_MAX_BYTES);
    buf_init(&l->states.bytes, LINE_MAX_BYTES);
    return OK;
}

static void loading_end(struct loading *l)
{
    l->disk->ops->close(l->disk, l->fd);
    buf_clear(&l->recipients.bytes);
    buf_clear(&l->states.bytes);
}

/* The line that begins at this place, if its end is in the window. */
static bool line_in(const struct window *w, uint64_t at, struct slice *line)
{
    struct slice bytes = buf_slice(&w->bytes);
    if (at < w->at || at >= w->at + bytes.n)
        return false;
    *line = slice_from_index(bytes, (size_t)(at - w->at));
    ptrdiff_t end = slice_chr(*line, '\n');
    *line = slice_first(*line, end < 0 ? 0 : (size_t)end);
    return end >= 0;
}

/* The fields of the line at this place, in the window. */
static int read_fields(struct loading *l, struct window *w, uint64_t at, struct slice *fields)
{
    for (size_t size = LINE_FIRST; !line_in(w, at, fields); size *= 8) {
        if (size > LINE_MAX_BYTES)
            return ERR_CORRUPT;
        buf_reset(&w->bytes);
        char *room = buf_reserve(&w->bytes, size);
        ssize_t n = l->disk->ops->read(l->disk, l->fd, room, size, (int64_t)at);
        if (n <= 0)
            return ERR_IO;
        buf_claim(&w->bytes, (size_t)n);
        w->at = at;
    }
    slice_cut(fields, ' ');
    return OK;
}

static int read_record(
    struct loading *l, struct window *w, uint64_t at, const struct record *rec, void *value)
{
    struct slice fields;
    int rc = read_fields(l, w, at, &fields);
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

static int read_head(
    struct loading *l, const struct message *m, const struct roster *r, struct parked_message *line)
{
    struct content *c = l->c;
    uint64_t qid;
    int rc = read_record(l, &l->states, r->message_at, &parked_message_record, line);
    if (rc == OK)
        rc = read_record(l, &l->recipients, r->envelope_at, &envelope_record, &c->envelope);
    if (rc == OK && (id_parse(line->qid, &qid) != OK || qid != m->qid))
        rc = ERR_CORRUPT;
    if (rc == OK)
        rc = record_put(&c->encoded, &envelope_record, &c->envelope);
    c->envelope_raw = buf_slice(&c->encoded);
    return rc;
}

static int load_head(struct loading *l, struct message *m, struct roster *r)
{
    struct parked_message line;
    int rc = read_head(l, m, r, &line);
    if (rc != OK)
        return rc;
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
    int rc = read_record(l, &l->recipients, e->recipient, &recipient_record, &to->to);
    if (rc == OK)
        rc = read_record(l, &l->states, e->state_at, &parked_state_record, &to->st);
    if (rc != OK)
        return rc;
    to->st.index = (uint32_t)i;
    rcpt_set_known(to);
    to->st.next = e->next; /* somebody may be in a hurry */
    l->c->count++;
    return OK;
}

/* choice NULL: all. */
static int load_chosen(struct loading *l, const struct roster *r,
    const struct roster_choice *choice, size_t *from, size_t most)
{
    l->c->rcpts = xcalloc(most + 1, sizeof(*l->c->rcpts));
    l->c->cap = most;
    l->c->total = r->n;
    int rc = OK;
    size_t i = *from;
    for (; rc == OK && i < r->n && l->c->count < most; i++)
        if (!choice || roster_fits(&r->entries[i], choice))
            rc = load_one(l, r, i);
    *from = i;
    return rc;
}

struct content *roster_peek(struct message *m, const struct roster_choice *choice, size_t *from,
    size_t most, struct disk *disk, struct error *err)
{
    struct loading l;
    if (loading_begin(&l, m, disk, err) != OK)
        return NULL;
    int rc = load_chosen(&l, m->content->roster, choice, from, most);
    loading_end(&l);
    if (rc == OK)
        return l.c;
    error_set(err, rc, "parked message with a malformed line");
    content_free(l.c);
    return NULL;
}

int roster_load(struct message *m, struct roster *r, const struct roster_choice *choice,
    size_t most, struct disk *disk, struct error *err)
{
    struct loading l;
    size_t from = 0;
    if (loading_begin(&l, m, disk, err) != OK) {
        roster_free(r);
        return err->code;
    }
    int rc = load_head(&l, m, r);
    if (rc == OK)
        rc = load_chosen(&l, r, choice, &from, most);
    for (size_t i = 0; rc == OK && i < l.c->count; i++)
        r->entries[l.c->rcpts[i].st.index].here = true;
    loading_end(&l);
    l.c->roster = r;
    if (rc != OK) {
        content_free(l.c);
        return error_set(err, rc, "parked message with a malformed line");
    }
    m->parked_end = MAX(m->parked_end, r->end);
    m->content = l.c;
    return OK;
}

struct content *roster_read_all(struct message *m, struct parked_message *line, uint64_t *end,
    struct disk *disk, struct error *err)
{
    struct loading l;
    size_t from = 0;
    struct roster *r = roster_read(m, disk, err);
    if (!r || loading_begin(&l, m, disk, err) != OK) {
        roster_free(r);
        return NULL;
    }
    int rc = read_head(&l, m, r, line);
    if (rc == OK)
        rc = load_chosen(&l, r, NULL, &from, r->n);
    *end = r->end;
    roster_free(r);
    loading_end(&l);
    if (rc == OK)
        return l.c;
    error_set(err, rc, "parked message with a malformed line");
    content_free(l.c);
    return NULL;
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
