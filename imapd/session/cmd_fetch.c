/* FETCH (RFC 3501 §6.4.5, 7.4.2). Structure texts come from the store's cache; a message is
 * opened only for sections that the cache does not hold. */
#include <time.h>

#include "imapd/session/fetch.h"
#include "imapd/session/place.h"
#include "imapd/session/session.h"
#include "libmail/imapstruct.h"
#include "libutil/error.h"

enum { CHUNK = 64, PART_ARENA = 48 << 20 };

/* The message a response is being made for; what is expensive is fetched when first wanted. */
struct fetched {
    struct session *s;
    struct store_msg msg;
    struct arena arena; /* of this message */
    struct store_body body;
    bool has_body;
    struct mime_part *root;
    int rc; /* why an item could not be given */
    struct error err;
};

static void fetched_clear(struct fetched *f)
{
    if (f->has_body)
        store_body_release(&f->body);
    f->has_body = false;
    f->root = NULL;
    arena_reset(&f->arena);
}

static int need_body(struct fetched *f)
{
    if (f->has_body)
        return OK;
    int rc = store_body(f->s->mb, f->msg.uid, &f->body, &f->err);
    f->has_body = rc == OK;
    return rc;
}

static int need_parts(struct fetched *f)
{
    int rc = need_body(f);
    if (rc || f->root)
        return rc;
    f->root = mime_parse(f->body.content, &f->arena);
    return f->root ? OK : error_set(&f->err, ERR_LIMIT, "the message has too many parts");
}

static const char *const months[] = {
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

static void put_date(struct buf *out, const char *name, int64_t date)
{
    struct tm tm;
    time_t t = date;
    gmtime_r(&t, &tm);
    buf_printf(out, "%s \"%2d-%s-%04d %02d:%02d:%02d +0000\"", name, tm.tm_mday, months[tm.tm_mon],
        tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

/* The names of which store_cache.header holds every field. */
static bool is_cached_field(struct slice name)
{
    static const char *const names[] = {"Date", "From", "Sender", "Reply-To", "To", "Cc", "Bcc",
        "Subject", "Message-ID", "In-Reply-To", "References"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (slice_iis(name, names[i]))
            return true;
    return false;
}

/* HEADER.FIELDS answered from the cache; false when it cannot be. */
static bool cached_fields(struct fetched *f, const struct section *s, struct slice *found)
{
    struct store_cache cache;
    struct error err;
    if (s->npath || s->text != SECTION_FIELDS)
        return false;
    for (size_t i = 0; i < s->nfields; i++)
        if (!is_cached_field(s->fields[i]))
            return false;
    return store_cached(f->s->mb, f->msg.uid, &cache, &err) == OK &&
           section_fields(cache.header, s, &f->arena, found) == OK;
}

/* The bytes of a section. Whole header and text need no MIME parse. */
static int find_section(struct fetched *f, const struct section *s, struct slice *found)
{
    if (cached_fields(f, s, found))
        return OK;
    int rc = need_body(f);
    if (rc)
        return rc;
    struct slice all = f->body.content;
    if (s->npath == 0 && s->text == SECTION_ALL) {
        *found = all;
        return OK;
    }
    if (s->npath == 0) {
        struct slice header = message_header(all);
        *found = s->text == SECTION_TEXT ? slice_from_index(all, header.n) : header;
        if (s->text == SECTION_FIELDS || s->text == SECTION_FIELDS_NOT)
            return section_fields(*found, s, &f->arena, found);
        return OK;
    }
    rc = need_parts(f);
    return rc ? rc : section_find(all, f->root, s, &f->arena, found);
}

static int put_section(struct fetched *f, const struct fetch_item *item, const char *name)
{
    struct buf *out = &f->s->io.out;
    struct slice found;
    int rc = find_section(f, &item->section, &found);
    if (rc)
        return rc;
    if (name)
        buf_puts(out, name);
    else
        section_put_name(item, out);
    if (!found.p) {
        buf_puts(out, " NIL");
        return OK;
    }
    if (item->partial) {
        found = slice_from_index(found, (size_t)MIN(item->offset, found.n));
        found = slice_first(found, (size_t)MIN(item->count, found.n));
    }
    buf_printf(out, " {%zu}\r\n", found.n);
    return io_put_large(&f->s->io, found);
}

/* Object ids (RFC 8474 §5) and preview (RFC 8970). */
static int put_object(struct fetched *f, enum fetch_kind kind)
{
    struct buf *out = &f->s->io.out;
    struct store_cache cache;
    char id[STORE_OBJECTID];
    if (kind == FETCH_EMAILID) {
        store_email_id(f->msg.guid, id);
        return buf_printf(out, "EMAILID (%s)", id);
    }
    int rc = store_cached(f->s->mb, f->msg.uid, &cache, &f->err);
    if (rc)
        return rc;
    if (kind == FETCH_PREVIEW) {
        buf_puts(out, "PREVIEW ");
        imap_put_string(out, cache.preview);
        return OK;
    }
    store_thread_id(cache.thread, f->msg.guid, id);
    return buf_printf(out, "THREADID (%s)", id);
}

/* One of the texts made at delivery. */
static int put_cached(struct fetched *f, enum fetch_kind kind)
{
    struct buf *out = &f->s->io.out;
    struct store_cache cache;
    int rc = store_cached(f->s->mb, f->msg.uid, &cache, &f->err);
    if (rc)
        return rc;
    if (kind == FETCH_ENVELOPE) {
        buf_puts(out, "ENVELOPE ");
        return buf_put(out, cache.envelope);
    }
    buf_puts(out, kind == FETCH_BODY ? "BODY " : "BODYSTRUCTURE ");
    return buf_put(out, kind == FETCH_BODY ? cache.body : cache.bodystructure);
}

static int put_item(struct fetched *f, const struct fetch_item *item)
{
    struct buf *out = &f->s->io.out;
    struct fetch_item old = {.kind = FETCH_SECTION};
    switch (item->kind) {
    case FETCH_UID:
        return buf_printf(out, "UID %u", f->msg.uid);
    case FETCH_FLAGS:
        updates_put_flags(f->s, &f->msg);
        return OK;
    case FETCH_INTERNALDATE:
        put_date(out, "INTERNALDATE", f->msg.date);
        return OK;
    case FETCH_SIZE:
        return buf_printf(out, "RFC822.SIZE %llu", (unsigned long long)f->msg.size);
    case FETCH_ENVELOPE:
    case FETCH_BODY:
    case FETCH_BODYSTRUCTURE:
        return put_cached(f, item->kind);
    case FETCH_EMAILID:
    case FETCH_THREADID:
    case FETCH_PREVIEW:
        return put_object(f, item->kind);
    case FETCH_SAVEDATE:
        put_date(out, "SAVEDATE", f->msg.saved);
        return OK;
    case FETCH_RFC822:
        return put_section(f, &old, "RFC822");
    case FETCH_RFC822_HEADER:
        old.section.text = SECTION_HEADER;
        return put_section(f, &old, "RFC822.HEADER");
    case FETCH_RFC822_TEXT:
        old.section.text = SECTION_TEXT;
        return put_section(f, &old, "RFC822.TEXT");
    case FETCH_SECTION:
        return put_section(f, item, NULL);
    }
    return OK;
}

/* One response. An item that cannot be given is left out: f->rc tells. */
static void put_message(
    struct fetched *f, uint32_t seq, const struct fetch_items *list, bool uid, bool flags)
{
    struct buf *out = &f->s->io.out;
    const struct fetch_item implied[] = {{.kind = FETCH_UID}, {.kind = FETCH_FLAGS}};
    const bool wanted[] = {uid && !list->uid, flags && !list->flags};
    size_t count = 0, begin = buf_len(out);
    buf_printf(out, "* %u FETCH (", seq);
    for (size_t i = 0; i < ARRAY_LEN(implied) + list->n; i++) {
        bool own = i < ARRAY_LEN(implied);
        if (own && !wanted[i])
            continue;
        size_t before = buf_len(out);
        if (count)
            buf_putc(out, ' ');
        int rc = put_item(f, own ? &implied[i] : &list->items[i - ARRAY_LEN(implied)]);
        if (f->s->io.error)
            return;
        if (rc) {
            buf_truncate(out, before);
            f->rc = rc;
            continue;
        }
        count++;
    }
    if (count)
        buf_puts(out, ")\r\n");
    else
        buf_truncate(out, begin);
}

/* Sets \Seen on these messages, of which those get into *changed that had not been seen. A full
 * disk must not keep mail from being read: then they stay unseen. */
static void mark_seen(struct command *c, const struct uidset *seqs, struct uidset *changed)
{
    const struct store_flags seen = {.how = STORE_ADD, .flags = STORE_SEEN};
    struct uidset unseen = {0};
    struct store_msg m;
    struct error err;
    for (uint32_t seq = 0; uidset_next(seqs, &seq);)
        if (store_get(c->s->mb, seq, &m) && !(m.flags & STORE_SEEN) && !m.gone)
            uidset_add(&unseen, m.uid);
    if (unseen.n && store_change(c->s->mb, &unseen, &seen, changed, NULL, &err))
        log_event(&c->s->env->log, log_warning, .what = SLICE_LIT("cannot mark as seen"),
            .reason = slice_of(err.text));
    uidset_clear(&unseen);
}

/* The next CHUNK numbers after *seq. */
static void take_chunk(const struct uidset *seqs, uint32_t *seq, struct uidset *chunk)
{
    uidset_clear(chunk);
    for (int i = 0; i < CHUNK && uidset_next(seqs, seq); i++)
        uidset_add(chunk, *seq);
}

static void fetch_all(
    struct command *c, const struct uidset *seqs, const struct fetch_items *list, struct fetched *f)
{
    struct session *s = c->s;
    struct uidset chunk = {0}, changed = {0};
    bool marks = list->seen && !store_read_only(s->mb) && (session_rights(s) & ACL_SEEN);
    uint32_t last = 0;
    for (take_chunk(seqs, &last, &chunk); chunk.n; take_chunk(seqs, &last, &chunk)) {
        uidset_clear(&changed);
        if (marks)
            mark_seen(c, &chunk, &changed);
        for (uint32_t seq = 0; uidset_next(&chunk, &seq) && io_pace(&s->io) == OK;) {
            if (!store_get(s->mb, seq, &f->msg))
                continue;
            put_message(f, seq, list, c->uid, uidset_has(&changed, f->msg.uid));
            fetched_clear(f);
        }
        if (s->io.error)
            break;
    }
    uidset_clear(&chunk);
    uidset_clear(&changed);
}

void cmd_fetch(struct command *c)
{
    struct args *a = &c->args;
    struct seq_set set;
    struct uidset *seqs;
    struct fetch_items list;
    if (!take_space(a) || !take_seq_set(a, &set) || !take_space(a) || !take_fetch_items(a, &list) ||
        !take_end(a) || !command_sequence(c, &set, &seqs)) {
        command_bad(c);
        return;
    }
    if (!command_may(c, ACL_READ))
        return;
    struct fetched f = {.s = c->s};
    arena_init(&f.arena, PART_ARENA);
    fetch_all(c, seqs, &list, &f);
    fetched_clear(&f);
    if (f.rc == ERR_NOT_FOUND)
        command_no(c, "EXPUNGEISSUED", "Some of the messages no longer exist");
    else if (f.rc)
        command_error(c, f.rc, &f.err);
    else
        command_ok(c, "%s completed", c->uid ? "UID FETCH" : "FETCH");
}
