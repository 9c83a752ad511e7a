#include "qmgr/message.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "libmail/proto/deliver.h"
#include "libutil/crc32c.h"
#include "qmgr/roster.h"

enum {
    CONTENT_MAX = 256 * 1024 * 1024,
    ENVELOPE_MAX = 8192,
    IN_ONE_MAX = 1024 * 1024 /* read as a whole; larger files line by line */
};

struct message *message_new(uint64_t qid, uint64_t size)
{
    struct message *m = NEW(struct message);
    m->qid = qid;
    m->size = size;
    list_init(&m->all);
    list_init(&m->fresh);
    list_init(&m->young);
    list_init(&m->jobs);
    list_init(&m->expansions);
    return m;
}

struct content *content_new(void)
{
    struct content *c = NEW(struct content);
    arena_init(&c->arena, CONTENT_MAX);
    buf_init(&c->record, CONTENT_MAX);
    buf_init(&c->encoded, ENVELOPE_MAX);
    return c;
}

void content_free(struct content *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->count; i++) {
        free(c->rcpts[i].text);
        forward_drop(&c->rcpts[i]);
    }
    free(c->rcpts);
    roster_free(c->roster);
    buf_clear(&c->record);
    buf_clear(&c->encoded);
    arena_reset(&c->arena);
    free(c);
}

void message_unload(struct message *m)
{
    content_free(m->content);
    m->content = NULL;
}

void message_free(struct message *m)
{
    if (!m)
        return;
    message_drop_expansions(m);
    message_unload(m);
    free(m->giving_up);
    free(m);
}

void content_append(struct content *c, const struct recipient *to)
{
    if (c->count == c->cap) {
        c->cap = c->cap ? 2 * c->cap : 1; /* most messages have one */
        c->rcpts = xrealloc(c->rcpts, c->cap, sizeof(*c->rcpts));
    }
    c->rcpts[c->count] = (struct rcpt){.to = *to,
        .st = {.index = (uint32_t)c->total,
            .state = RCPT_WAITING,
            .dsn = SLICE_LIT(""),
            .text = SLICE_LIT(""),
            .mta = SLICE_LIT("")}};
    c->count++;
    c->total++;
}

/* Slices point into packed. ERR_CORRUPT: some may have been appended. */
static int load_recipients(struct content *c, const struct record *record, struct slice packed)
{
    struct reader r = reader_of(packed);
    while (r.rest.n > 0) {
        struct recipient to;
        if (record_get(&r, record, &to) != OK)
            return ERR_CORRUPT;
        content_append(c, &to);
    }
    return c->count > 0 ? OK : ERR_CORRUPT;
}

static int load_accept(struct content *c, unsigned format, const struct logrec_accept *a)
{
    struct reader r = reader_of(a->envelope);
    if (record_get(&r, format_envelope(format), &c->envelope) != OK || !reader_done(&r))
        return ERR_CORRUPT;
    c->envelope_raw = a->envelope;
    if (format != SPOOL_FORMAT) {
        /* What agents are sent is of today's format. */
        if (record_put(&c->encoded, &envelope_record, &c->envelope) != OK)
            return ERR_CORRUPT;
        c->envelope_raw = buf_slice(&c->encoded);
    }
    c->body = a->big.n ? (struct slice){NULL, 0} : a->body;
    return load_recipients(c, format_recipient(format), a->recipients);
}

static void set_crc(struct message *m, uint32_t crc)
{
    if (crc)
        snprintf(m->crc, sizeof(m->crc), "%08" PRIx32, crc);
}

int message_load_record(struct message *m, struct buf *record, struct error *err)
{
    struct content *c = content_new();
    struct logrec rec;
    struct logrec_accept accept;
    c->record = *record;
    buf_init(record, record->max);
    struct slice s = buf_slice(&c->record);
    struct reader v = reader_of(slice_from_index(s, 4));
    unsigned format = get_u16(&v);
    /* The record may not have been sealed yet, so its checksum is not looked at. */
    struct reader r = reader_of(s);
    get_bytes(&r, LOGREC_HEADER - 8);
    rec.payload = slice_first(slice_from_index(s, LOGREC_HEADER), get_u32(&r));
    if (logrec_get_accept(rec.payload, format, &accept) != OK ||
        load_accept(c, format, &accept) != OK ||
        !slice_to_cstr(accept.big, m->big, sizeof(m->big))) {
        content_free(c);
        return error_set(err, ERR_CORRUPT, "malformed envelope");
    }
    m->size = accept.size;
    set_crc(m, accept.crc);
    m->held = c->envelope.hold.n > 0; /* until it is parked, where releasing it is noted */
    message_unload(m);
    m->content = c;
    return OK;
}

void message_cut_recipients(struct message *m, size_t known)
{
    m->content->total -= m->content->count - known;
    m->content->count = known;
}

int message_add_recipients(struct message *m, struct slice packed)
{
    struct content *c = m->content;
    size_t known = c->count;
    struct slice copy = arena_dup(&c->arena, packed);
    int rc = copy.n == packed.n ? load_recipients(c, &recipient_record, copy) : ERR_LIMIT;
    if (rc != OK)
        message_cut_recipients(m, known);
    return rc;
}

int message_load_found(struct message *m, struct spool_found *found, struct error *err)
{
    int rc = message_load_record(m, &found->record, err);
    if (rc == OK && found->added.n > 0 && message_add_recipients(m, found->added) != OK)
        rc = error_set(err, ERR_CORRUPT, "malformed recipients");
    for (size_t i = 0; rc == OK && i < found->ndone; i++) {
        struct rcpt *r =
            found->done[i] < m->content->count ? &m->content->rcpts[found->done[i]] : NULL;
        if (!r || r->st.state == RCPT_DONE)
            continue;
        r->st.state = RCPT_DONE;
        m->delivered++;
        m->changes++;
    }
    return rc;
}

int message_read_trailer(
    struct message *m, bool cut, struct disk *disk, struct buf *out, struct error *err)
{
    char path[PARKED_NAME];
    struct disk_stat st;
    parked_path(m->qid, m->size, path);
    int rc = disk->ops->stat(disk, path, &st);
    int fd = rc < 0 ? rc : disk->ops->open(disk, path, DISK_READ);
    if (fd < 0)
        return disk_error(err, fd, "cannot open a parked message");
    int64_t n = st.size - (int64_t)m->size, from = (int64_t)m->size;
    if (n > (int64_t)out->max && cut) {
        from += n - (int64_t)out->max;
        n = (int64_t)out->max;
    }
    if (n > (int64_t)out->max) {
        disk->ops->close(disk, fd);
        return error_set(err, ERR_LIMIT, "what is known of its recipients is too large");
    }
    char *room = n > 0 ? buf_reserve(out, (size_t)n) : NULL;
    ssize_t got = room ? disk->ops->read(disk, fd, room, (size_t)n, from) : 0;
    disk->ops->close(disk, fd);
    if (got < 0)
        return disk_error(err, (int)got, "cannot read a parked message");
    if (!room || got != n)
        return error_set(err, ERR_CORRUPT, "parked message is cut off");
    buf_claim(out, (size_t)n);
    return OK;
}

/* After a report that the file does not know: whom it told of is done. */
static void apply_told(struct message *m)
{
    bool success = m->told.kind == REPORT_SUCCESS;
    uint32_t *sum = success ? &m->delivered : &m->bounced;
    bool null_sender = m->content->envelope.sender.n == 0;
    for (size_t i = 0; i < m->content->count && m->told.kind != REPORT_DELAY; i++) {
        struct rcpt *r = &m->content->rcpts[i];
        if (r->st.state != (success ? RCPT_DELIVERED : RCPT_FAILED) ||
            recipient_group(null_sender, &r->to) != m->told.group)
            continue;
        r->st.state = RCPT_DONE;
        ++*sum;
    }
    m->warned |= m->told.kind == REPORT_DELAY;
    m->reports = m->told.serial;
    m->changes++;
}

/* Takes what a file says of the message, but for where it ends. */
static void take_content(struct message *m, struct content *c, const struct parked_message *line)
{
    m->held = line->held;
    m->warned = line->warned;
    m->delivered = line->delivered;
    m->bounced = line->bounced;
    snprintf(m->crc, sizeof(m->crc), "%.*s", SLICE_FMT(line->crc));
    m->reports = line->reports;
    message_unload(m);
    m->content = c;
    if (m->told.serial > m->reports)
        apply_told(m);
}

static void take_parked(struct message *m, struct content *c, const struct parked *p)
{
    c->envelope = p->envelope;
    c->count = c->total = p->count;
    c->cap = MAX(p->count, (size_t)1);
    c->rcpts = xcalloc(c->cap, sizeof(*c->rcpts));
    for (size_t i = 0; i < p->count; i++) {
        c->rcpts[i].to = p->recipients[i];
        c->rcpts[i].st = p->states[i];
        c->rcpts[i].st.index = (uint32_t)i;
        rcpt_set_known(&c->rcpts[i]);
    }
    m->parked_end = m->size + p->end;
    m->rotten.from = p->bad_end ? m->size + p->bad : 0;
    m->rotten.to = p->bad_end ? m->size + p->bad_end : 0;
    take_content(m, c, &p->message);
}

int message_load_parked(struct message *m, struct disk *disk, struct error *err)
{
    struct parked_message line;
    uint64_t end;
    int rc = message_load_small(m, IN_ONE_MAX, disk, err);
    if (rc != ERR_LIMIT)
        return rc;
    struct content *c = roster_read_all(m, &line, &end, disk, err);
    if (!c)
        return err->code;
    m->parked_end = end;
    take_content(m, c, &line);
    return OK;
}

int message_load_small(struct message *m, size_t most, struct disk *disk, struct error *err)
{
    struct content *c = content_new();
    struct parked p;
    struct buf trailer;
    buf_init(&trailer, most);
    uint64_t qid = 0;
    int rc = message_read_trailer(m, false, disk, &trailer, err);
    if (rc == OK)
        rc = parked_parse(buf_slice(&trailer), m->size, &c->arena, &p, err);
    buf_clear(&trailer);
    if (rc == OK && (id_parse(p.message.qid, &qid) != OK || qid != m->qid || p.count == 0))
        rc = error_set(err, ERR_CORRUPT, "parked message does not belong to its name");
    if (rc == OK && record_put(&c->encoded, &envelope_record, &p.envelope) != OK)
        rc = error_set(err, ERR_CORRUPT, "parked message with a malformed envelope");
    if (rc != OK) {
        content_free(c);
        return rc;
    }
    c->envelope_raw = buf_slice(&c->encoded);
    take_parked(m, c, &p);
    return OK;
}

void message_adopt(struct message *m, struct message *copy)
{
    message_unload(m);
    m->content = copy->content;
    copy->content = NULL;
    m->held = copy->held;
    m->warned = copy->warned;
    m->delivered = copy->delivered;
    m->bounced = copy->bounced;
    snprintf(m->crc, sizeof(m->crc), "%s", copy->crc);
    m->reports = copy->reports;
    m->parked_end = copy->parked_end;
    m->rotten.from = copy->rotten.from;
    m->rotten.to = copy->rotten.to;
    m->changes += copy->changes;
}

static int open_file(struct message *m, struct disk *disk)
{
    char path[SPOOL_BIG_PATH];
    if (m->parked)
        parked_path(m->qid, m->size, path);
    else
        spool_big_path(m->big, path);
    return disk->ops->open(disk, path, DISK_READ);
}

int message_read_body(struct message *m, struct disk *disk, size_t from, size_t n, struct buf *b)
{
    if (from > m->size || n > m->size - from)
        return ERR_LIMIT;
    if (m->content && m->content->body.p)
        return buf_put(b, slice_first(slice_from_index(m->content->body, from), n));
    char *room = buf_reserve(b, n);
    int fd = room ? open_file(m, disk) : -EMSGSIZE;
    if (fd < 0)
        return disk_error(NULL, fd, "%s", "");
    ssize_t got = disk->ops->read(disk, fd, room, n, (int64_t)from);
    disk->ops->close(disk, fd);
    if (got != (ssize_t)n)
        return ERR_IO;
    buf_claim(b, n);
    return OK;
}

int message_check_body(struct message *m, struct disk *disk, struct error *err)
{
    char found[9];
    uint32_t crc;
    if (!m->crc[0] || (m->content && m->content->body.p))
        return OK;
    int fd = open_file(m, disk);
    int rc = fd < 0 ? fd : body_crc(disk, fd, m->size, &crc);
    if (fd >= 0)
        disk->ops->close(disk, fd);
    if (rc < 0)
        return disk_error(err, rc, "cannot read a message body");
    snprintf(found, sizeof(found), "%08" PRIx32, crc);
    return strcmp(found, m->crc) == 0
               ? OK
               : error_set(err, ERR_CORRUPT,
                     "the message body is damaged: its checksum is %s, not %s", found, m->crc);
}

int message_open_body(struct message *m, struct disk *disk)
{
    if (!m->content || !m->content->body.p)
        return open_file(m, disk);
    int fd = memfd_create("message", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    struct slice s = m->content->body;
    if (write(fd, s.p, s.n) != (ssize_t)s.n) {
        fd_close(&fd);
        return -EIO;
    }
    lseek(fd, 0, SEEK_SET);
    return fd;
}

void rcpt_note(
    struct rcpt *r, uint32_t status, struct slice dsn, struct slice text, struct slice mta)
{
    dsn = slice_first(dsn, 16);
    text = slice_first(text, 480);
    mta = slice_first(mta, 255);
    char *copy = xcalloc(dsn.n + text.n + mta.n + 1, 1);
    memcpy(copy, dsn.p, dsn.n);
    memcpy(copy + dsn.n, text.p, text.n);
    memcpy(copy + dsn.n + text.n, mta.p, mta.n);
    free(r->text);
    r->text = copy;
    r->st.status = status;
    r->st.dsn = (struct slice){copy, dsn.n};
    r->st.text = (struct slice){copy + dsn.n, text.n};
    r->st.mta = (struct slice){copy + dsn.n + text.n, mta.n};
}

size_t message_open_count(const struct message *m)
{
    size_t n = m->content->roster ? roster_open_count(m->content->roster) : 0;
    for (size_t i = 0; i < m->content->count; i++)
        n += m->content->rcpts[i].st.state != RCPT_DONE;
    return n;
}

void message_describe(const struct message *m, const struct content *seen, struct queue_entry *e)
{
    e->next = m->held ? 0 : m->due_wall;
    if (!seen)
        return;
    e->sender = seen->envelope.sender;
    e->received = seen->envelope.received;
    e->until = seen->envelope.hold_until;
    for (size_t i = 0; i < seen->count; i++) {
        const struct rcpt *r = &seen->rcpts[i];
        if (r->st.state == RCPT_DONE)
            continue;
        if (e->recipients++ == 0)
            e->recipient = r->to.address;
        e->attempts = MAX(e->attempts, r->st.attempts);
        if (e->reason.n == 0)
            e->reason = r->st.text;
    }
}

static struct parked_message message_line(const struct message *m, char id[ID_TEXT])
{
    id_print(m->qid, id);
    return (struct parked_message){.qid = slice_of(id),
        .due = m->due_wall,
        .held = m->held,
        .warned = m->warned,
        .delivered = m->delivered,
        .bounced = m->bounced,
        .crc = slice_of(m->crc),
        .reports = m->reports};
}

/* FNV-1a, over bytes and over numbers. */
static uint64_t digest(uint64_t h, struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        h = (h ^ (unsigned char)s.p[i]) * UINT64_C(1099511628211);
    return h;
}

static uint64_t state_digest(const struct parked_state *st)
{
    const uint64_t numbers[] = {st->state, st->status, st->attempts, (uint64_t)st->next,
        (uint64_t)st->last, st->dsn.n, st->text.n};
    uint64_t h = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
        h = (h ^ numbers[i]) * UINT64_C(1099511628211);
    h = digest(h, st->dsn);
    h = digest(h, st->text);
    return digest(h, st->mta) | 1;
}

void rcpt_set_known(struct rcpt *r)
{
    r->known = state_digest(&r->st);
}

/* States that the file does not have yet, or all; the caller frees. They count as known then. */
static struct parked_state *take_states(struct content *c, bool all, size_t *n)
{
    size_t others = c->roster ? roster_unwritten(c->roster) : 0;
    struct parked_state *states = xcalloc(c->count + others + 1, sizeof(*states));
    *n = 0;
    for (size_t i = 0; i < c->count; i++) {
        struct rcpt *r = &c->rcpts[i];
        if (!all && r->known == state_digest(&r->st))
            continue;
        states[(*n)++] = r->st;
        rcpt_set_known(r);
    }
    if (others > 0)
        roster_take_unwritten(c->roster, states + *n);
    *n += others;
    return states;
}

void message_parked(struct message *m, const struct spool_job *job, uint32_t saved)
{
    m->parked = true;
    m->generation = 0;
    list_remove(&m->young);
    m->big[0] = '\0';
    m->parked_end = job->size + buf_len(&job->text);
    m->saved = saved;
}

void message_update_failed(struct message *m)
{
    for (size_t i = 0; m->content && i < m->content->count; i++)
        m->content->rcpts[i].known = 0;
    if (m->content && m->content->roster)
        roster_spoil(m->content->roster);
}

int message_put_parked(struct message *m, struct buf *b)
{
    struct content *c = m->content;
    char id[ID_TEXT];
    size_t n;
    struct recipient *to = xcalloc(c->count, sizeof(*to));
    if (c->body.p)
        set_crc(m, crc32c(0, c->body));
    for (size_t i = 0; i < c->count; i++)
        to[i] = c->rcpts[i].to;
    struct parked p = {.message = message_line(m, id),
        .envelope = c->envelope,
        .recipients = to,
        .format = m->format,
        .states = take_states(c, true, &n),
        .count = c->count};
    int rc = parked_put(b, &p);
    free(p.states);
    free(to);
    return rc;
}

int message_put_growth(struct message *m, size_t known, struct buf *b)
{
    struct content *c = m->content;
    char id[ID_TEXT];
    size_t n;
    struct parked_message line = message_line(m, id);
    struct parked_state *states = take_states(c, false, &n);
    struct recipient *added = xcalloc(c->count - known + 1, sizeof(*added));
    for (size_t i = known; i < c->count; i++)
        added[i - known] = c->rcpts[i].to;
    int rc = parked_put_growth(b, m->format, &line, added, c->count - known, states, n);
    free(added);
    free(states);
    if (c->roster && c->count > known)
        roster_spoil(c->roster);
    return rc;
}

int message_put_update(struct message *m, struct buf *b)
{
    return message_put_growth(m, m->content->count, b);
}

struct slice message_envelope(
    const struct message *m, const struct recipient *to, struct buf *space)
{
    const struct content *c = m->content;
    if (c->envelope.sender.n == 0 || to->owner.n == 0)
        return c->envelope_raw;
    struct envelope its = recipient_envelope(&c->envelope, to);
    buf_reset(space);
    return record_put(space, &envelope_record, &its) == OK ? buf_slice(space) : c->envelope_raw;
}
