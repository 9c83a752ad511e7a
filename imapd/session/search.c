#include "imapd/session/search.h"

#include "imapd/session/fetch.h"
#include "libmail/charset.h"
#include "libmail/date.h"
#include "libmail/encoding.h"
#include "libmail/mime.h"
#include "libutil/error.h"

enum {
    TEXT_MAX = 64 << 20, /* of one message, decoded; what is beyond is not searched */
    PARTS_ARENA = 48 << 20,
    FIELD_MAX = 1 << 20
};

void search_message_clear(struct search_message *m)
{
    if (m->has_body)
        store_body_release(&m->body);
    m->has_body = m->has_text = m->failed = false;
    if (m->text.cap > 1 << 20)
        buf_clear(&m->text);
    else
        buf_reset(&m->text);
}

static bool need_body(struct search_message *m)
{
    struct error err;
    if (!m->has_body && !m->failed) {
        m->has_body = store_body(m->mb, m->msg.uid, &m->body, &err) == OK;
        m->failed = !m->has_body;
    }
    return m->has_body;
}

static int64_t day_of(int64_t when)
{
    return when >= 0 ? when / 86400 : -((-when + 86399) / 86400);
}

/* The header, from the cache when it holds this field. */
static struct slice header_with(struct search_message *m, struct slice name)
{
    static const char *const cached[] = {"Date", "From", "Sender", "Reply-To", "To", "Cc", "Bcc",
        "Subject", "Message-ID", "In-Reply-To", "References"};
    struct store_cache cache;
    struct error err;
    for (size_t i = 0; i < ARRAY_LEN(cached); i++)
        if (slice_iis(name, cached[i]) && store_cached(m->mb, m->msg.uid, &cache, &err) == OK)
            return cache.header;
    return need_body(m) ? message_header(m->body.content) : SLICE_LIT("");
}

/* The Date field's day as it was where it was written (RFC 3501 §6.4.4: zone disregarded). */
static bool sent_day(struct search_message *m, int64_t *day)
{
    struct header_field f;
    time_t when;
    int zone;
    if (!mime_field_find(header_with(m, SLICE_LIT("Date")), "Date", &f) ||
        date_parse(f.body, &when, &zone))
        return false;
    *day = day_of((int64_t)when + zone * 60);
    return true;
}

static void put_field(struct slice body, struct buf *decoded, struct buf *out)
{
    buf_reset(decoded);
    rfc2047_decode(slice_first(body, FIELD_MAX), decoded);
    utf8_fold(buf_slice(decoded), out);
}

static bool header_matches(struct search_message *m, const struct search_key *k)
{
    struct header_iter it;
    struct header_field f;
    struct buf decoded, folded;
    bool found = false;
    buf_init(&decoded, 4 * FIELD_MAX);
    buf_init(&folded, 12 * FIELD_MAX);
    header_iter_init(&it, header_with(m, k->name));
    while (!found && mime_field_next(&it, &f)) {
        if (!slice_ieq(f.name, k->name))
            continue;
        buf_reset(&folded);
        put_field(f.body, &decoded, &folded);
        found = slice_find(buf_slice(&folded), k->text) >= 0;
    }
    buf_clear(&decoded);
    buf_clear(&folded);
    return found;
}

static void put_header(struct slice header, struct buf *out)
{
    struct header_iter it;
    struct header_field f;
    struct buf decoded;
    buf_init(&decoded, 4 * FIELD_MAX);
    header_iter_init(&it, header);
    while (mime_field_next(&it, &f) && !out->failed) {
        utf8_fold(f.name, out);
        buf_putc(out, ':');
        put_field(f.body, &decoded, out);
        buf_putc(out, '\n');
    }
    buf_clear(&decoded);
}

/* A text part as folded UTF-8. */
static void put_text_part(
    struct slice message, const struct mime_part *part, struct arena *arena, struct buf *out)
{
    struct buf plain, text;
    struct slice charset = mime_param(part->params, "charset", arena);
    buf_init(&plain, TEXT_MAX);
    buf_init(&text, TEXT_MAX);
    encoding_decode(encoding_of(part->encoding), mime_body(message, part), &plain);
    charset_to_utf8(charset_find(charset), buf_slice(&plain), &text);
    buf_clear(&plain);
    utf8_fold(buf_slice(&text), out);
    buf_putc(out, '\n');
    buf_clear(&text);
}

/* Text parts, and headers of messages within. */
static void put_part(
    struct slice message, const struct mime_part *part, struct arena *arena, struct buf *out)
{
    if (part->kind == MIME_LEAF && slice_iis(part->type, "text"))
        put_text_part(message, part, arena, out);
    if (part->kind == MIME_MESSAGE)
        put_header(mime_header(message, part->first), out);
    for (const struct mime_part *c = part->first; c && !out->failed; c = c->next)
        put_part(message, c, arena, out);
}

/* Decodes all text of the message once, for as many keys as there are. */
static bool need_text(struct search_message *m)
{
    struct arena arena;
    if (m->has_text || !need_body(m))
        return m->has_text;
    struct slice all = m->body.content;
    arena_init(&arena, PARTS_ARENA);
    m->text.max = TEXT_MAX;
    const struct mime_part *root = mime_parse(all, &arena);
    if (root) {
        put_header(mime_header(all, root), &m->text);
        m->body_at = buf_len(&m->text);
        put_part(all, root, &arena, &m->text);
    }
    arena_reset(&arena);
    m->has_text = true;
    return true;
}

static bool keyword_set(struct search_message *m, struct slice name)
{
    for (size_t i = 0; i < store_keywords(m->mb); i++)
        if (slice_ieq(store_keyword(m->mb, i), name))
            return m->msg.keywords >> i & 1;
    return false;
}

/* Cheap keys first, so that messages are opened only when the index does not decide. */
static bool all_match(struct search_message *m, const struct search_key *first)
{
    for (int opens = 0; opens < 2; opens++)
        for (const struct search_key *k = first; k; k = k->next)
            if (k->opens == (opens == 1) && !search_matches(m, k))
                return false;
    return true;
}

static bool any_matches(struct search_message *m, const struct search_key *first)
{
    for (const struct search_key *k = first; k; k = k->next)
        if (search_matches(m, k))
            return true;
    return false;
}

static bool date_matches(int64_t day, const struct search_key *k, enum search_op before)
{
    return k->op == before ? day < k->day : k->op == before + 1 ? day == k->day : day >= k->day;
}

static bool thread_matches(struct search_message *m, struct slice wanted)
{
    struct store_cache cache;
    struct error err;
    char id[STORE_OBJECTID];
    if (store_cached(m->mb, m->msg.uid, &cache, &err))
        return false;
    store_thread_id(cache.thread, m->msg.guid, id);
    return slice_is(wanted, id);
}

bool search_matches(struct search_message *m, const struct search_key *k)
{
    char id[STORE_OBJECTID];
    int64_t day;
    switch (k->op) {
    case SEARCH_AND:
        return all_match(m, k->first);
    case SEARCH_OR:
        return any_matches(m, k->first);
    case SEARCH_NOT:
        return !search_matches(m, k->first);
    case SEARCH_SEQUENCE:
    case SEARCH_UID:
        return uidset_has(k->seqs, m->seq);
    case SEARCH_FLAGS:
        return (m->msg.flags & k->mask) == k->value;
    case SEARCH_KEYWORD:
        return keyword_set(m, k->name) == (k->value != 0);
    case SEARCH_BEFORE:
    case SEARCH_ON:
    case SEARCH_SINCE:
        return date_matches(day_of(m->msg.date), k, SEARCH_BEFORE);
    case SEARCH_SAVEDBEFORE:
    case SEARCH_SAVEDON:
    case SEARCH_SAVEDSINCE:
        return date_matches(day_of(m->msg.saved), k, SEARCH_SAVEDBEFORE);
    case SEARCH_EMAILID:
        store_email_id(m->msg.guid, id);
        return slice_is(k->name, id);
    case SEARCH_THREADID:
        return thread_matches(m, k->name);
    case SEARCH_SENTBEFORE:
    case SEARCH_SENTON:
    case SEARCH_SENTSINCE:
        return sent_day(m, &day) && date_matches(day, k, SEARCH_SENTBEFORE);
    case SEARCH_LARGER:
        return m->msg.size > k->size;
    case SEARCH_SMALLER:
        return m->msg.size < k->size;
    case SEARCH_HEADER:
        return header_matches(m, k);
    case SEARCH_BODY:
        return need_text(m) &&
               slice_find(slice_from_index(buf_slice(&m->text), m->body_at), k->text) >= 0;
    case SEARCH_TEXT:
        return need_text(m) && slice_find(buf_slice(&m->text), k->text) >= 0;
    }
    return false;
}
