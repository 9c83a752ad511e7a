#include "qmgr/parked.h"

#include <inttypes.h>
#include <string.h>

#include "libmail/text.h"
#include "libutil/crc32c.h"
#include "libutil/log.h"

RECORD_DEFINE(parked_state, PARKED_STATE_FIELDS)
RECORD_DEFINE(parked_message, PARKED_MESSAGE_FIELDS)

enum { SECTOR = 512 };

static const char magic_start[] = "== veredus parked message, format ";

void parked_path(uint64_t qid, uint64_t size, char out[PARKED_NAME])
{
    char id[ID_TEXT];
    id_print(qid, id);
    snprintf(out, PARKED_NAME, "parked/%s-%" PRIu64, id, size);
}

bool parked_parse_name(const char *name, uint64_t *qid, uint64_t *size)
{
    struct slice rest = slice_of(name);
    struct slice id = slice_cut(&rest, '-');
    if (!rest.p || id_parse(id, qid) != OK)
        return false;
    if (slice_u64(rest, 0, INT64_MAX, size) != OK)
        return false;
    /* One name for one message: no leading zeros. */
    char path[PARKED_NAME];
    parked_path(*qid, *size, path);
    return strcmp(path + strlen("parked/"), name) == 0;
}

static int put_end(struct buf *b, size_t from)
{
    struct slice block = slice_from_index(buf_slice(b), from);
    return buf_printf(b, "end crc=%08" PRIx32 "\n", b->failed ? 0 : crc32c(0, block));
}

/* The message line of format 1. */
#define MESSAGE_1_FIELDS(F, S) \
    F(S, STR, qid, 16)         \
    F(S, I64, due, 0)          \
    F(S, BOOL, held, 0) F(S, BOOL, warned, 0) F(S, U32, delivered, 0) F(S, U32, bounced, 0)

static const struct field message_1_fields[] = {
    MESSAGE_1_FIELDS(FIELD_ROW, parked_message) FIELD_END};
static const struct record message_1_record = {
    "message", message_1_fields, ARRAY_LEN(message_1_fields) - 1, sizeof(struct parked_message)};

static void put_message(struct buf *b, unsigned format, const struct parked_message *m)
{
    text_put(b, "message", format == 1 ? &message_1_record : &parked_message_record, m);
}

int parked_put(struct buf *b, const struct parked *p)
{
    size_t from = buf_len(b);
    unsigned format = p->format ? p->format : PARKED_FORMAT;
    buf_printf(b, "%s%u ==\n", magic_start, format);
    put_message(b, format, &p->message);
    text_put(b, "envelope", format_envelope(format), &p->envelope);
    for (size_t i = 0; i < p->count; i++)
        text_put(b, "recipient", format_recipient(format), &p->recipients[i]);
    for (size_t i = 0; i < p->count; i++)
        text_put(b, "state", &parked_state_record, &p->states[i]);
    return put_end(b, from);
}

int parked_put_growth(struct buf *b, unsigned format, const struct parked_message *message,
    const struct recipient *added, size_t n, const struct parked_state *states, size_t count)
{
    size_t from = buf_len(b);
    format = format ? format : PARKED_FORMAT;
    put_message(b, format, message);
    for (size_t i = 0; i < n; i++)
        text_put(b, "recipient", format_recipient(format), &added[i]);
    for (size_t i = 0; i < count; i++)
        text_put(b, "state", &parked_state_record, &states[i]);
    return put_end(b, from);
}

int parked_put_update(struct buf *b, unsigned format, const struct parked_message *message,
    const struct parked_state *states, size_t count)
{
    return parked_put_growth(b, format, message, NULL, 0, states, count);
}

/* Finds the end of the block at the start of s: its `end` line is sound. *block is what the
 * checksum covers, *total includes the end line. */
static bool whole_block(struct slice s, struct slice *block, size_t *total)
{
    for (size_t at = 0; at < s.n;) {
        struct slice rest = slice_from_index(s, at);
        ptrdiff_t newline = slice_chr(rest, '\n');
        if (newline < 0)
            return false;
        struct slice line = slice_first(rest, (size_t)newline);
        if (slice_starts(line, "end crc=")) {
            char expect[32];
            *block = slice_first(s, at);
            snprintf(expect, sizeof(expect), "end crc=%08" PRIx32, crc32c(0, *block));
            *total = at + line.n + 1;
            return slice_is(line, expect);
        }
        at += line.n + 1;
    }
    return false;
}

/* One that the disk has not written is zeros, as no part of a block is. */
static bool lacks_sector(struct slice part, uint64_t offset)
{
    static const char zeros[SECTOR];
    while (part.n > 0) {
        size_t n = MIN(part.n, SECTOR - (size_t)(offset % SECTOR));
        if (memcmp(part.p, zeros, n) == 0)
            return true;
        part = slice_from_index(part, n);
        offset += n;
    }
    return false;
}

static const char end_form[] = "end crc=00000000\n";
enum { END = sizeof(end_form) - 1 };

/* How many characters are not as in an `end` line. */
static size_t unlike_end(struct slice s)
{
    size_t wrong = 0;
    if (s.n < END)
        return END;
    for (size_t i = 0; i < END; i++) {
        char c = s.p[i];
        bool hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
        wrong += end_form[i] == '0' ? !hex : c != end_form[i];
    }
    return wrong;
}

size_t parked_damaged_tail(struct slice tail, uint64_t offset)
{
    size_t begin = 0, damaged = 0;
    for (size_t at = 0; at < tail.n; at++) {
        struct slice rest = slice_from_index(tail, at);
        bool first = at == 0 || tail.p[at - 1] == '\n';
        /* Damage in the line itself is one wrong character, or the line end before it. */
        if (*rest.p != 'e' && !first)
            continue;
        if (first && at > begin && slice_starts(rest, "message "))
            begin = damaged = at; /* something was written behind it, so it was sound once */
        if (unlike_end(rest) > (first ? 1 : 0))
            continue;
        struct slice block = slice_first(slice_from_index(tail, begin), at + END - begin);
        if (!lacks_sector(block, offset + begin))
            damaged = at + END;
        begin = at + END;
    }
    return damaged;
}

/* The next sound block from *at on, which goes to where it begins: there, or, past damage, where a
 * `message` line begins one. */
static bool find_block(struct slice trailer, size_t *at, struct slice *block, size_t *total)
{
    struct slice rest = slice_from_index(trailer, *at);
    if (whole_block(rest, block, total))
        return true;
    while (rest.n > 0) {
        slice_cut(&rest, '\n');
        if (slice_starts(rest, "message ") && whole_block(rest, block, total)) {
            *at = (size_t)(rest.p - trailer.p);
            return true;
        }
    }
    return false;
}

bool parked_next_block(struct slice *trailer, struct slice *block)
{
    size_t at = 0, total;
    if (!find_block(*trailer, &at, block, &total))
        return false;
    *trailer = slice_from_index(*trailer, at + total);
    return true;
}

static size_t count_lines(struct slice block, const char *word)
{
    size_t n = 0;
    while (block.n > 0)
        n += slice_starts(slice_cut(&block, '\n'), word);
    return n;
}

static int take_state(struct slice fields, struct arena *a, struct parked *p)
{
    struct parked_state st;
    if (text_get(fields, &parked_state_record, &st, a) != OK || st.index >= p->count ||
        st.state < RCPT_WAITING || st.state > RCPT_DONE)
        return ERR_CORRUPT;
    p->states[st.index] = st;
    return OK;
}

static int take_line(struct slice line, struct arena *a, struct parked *p, size_t *nrcpt)
{
    struct slice fields = line;
    struct slice word = slice_cut(&fields, ' ');
    if (slice_is(word, "message"))
        return text_get(fields, &parked_message_record, &p->message, a);
    if (slice_is(word, "envelope"))
        return text_get(fields, &envelope_record, &p->envelope, a);
    if (slice_is(word, "state"))
        return take_state(fields, a, p);
    if (slice_is(word, "recipient") && *nrcpt < p->count)
        return text_get(fields, &recipient_record, &p->recipients[(*nrcpt)++], a);
    return ERR_CORRUPT;
}

static int take_block(struct slice block, struct arena *a, struct parked *p, size_t *nrcpt)
{
    while (block.n > 0) {
        struct slice line = slice_cut(&block, '\n');
        if (line.n > 0 && take_line(line, a, p, nrcpt) != OK)
            return ERR_CORRUPT;
    }
    return OK;
}

int parked_check_format(struct slice line, struct error *err)
{
    uint64_t format;
    if (!slice_starts(line, magic_start) || !slice_ends(line, " =="))
        return error_set(err, ERR_CORRUPT, "not a parked message");
    struct slice number = slice_from_index(line, strlen(magic_start));
    number.n -= strlen(" ==");
    if (slice_u64(number, 1, UINT32_MAX, &format) != OK)
        return error_set(err, ERR_CORRUPT, "not a parked message");
    if (format > PARKED_FORMAT)
        return error_set(err, ERR_VERSION,
            "parked message of format %" PRIu64
            ", written by a newer release; this one reads up to %d",
            format, PARKED_FORMAT);
    return OK;
}

/* Makes room for the recipients that this block adds. */
static int grow(struct slice block, struct arena *a, struct parked *p)
{
    size_t n = count_lines(block, "recipient ");
    if (n == 0)
        return OK;
    struct recipient *recipients = arena_array(a, p->count + n, sizeof(*recipients));
    struct parked_state *states = arena_array(a, p->count + n, sizeof(*states));
    if (!recipients || !states)
        return ERR_LIMIT;
    if (p->count > 0) {
        memcpy(recipients, p->recipients, p->count * sizeof(*recipients));
        memcpy(states, p->states, p->count * sizeof(*states));
    }
    memset(states + p->count, 0, n * sizeof(*states));
    p->recipients = recipients;
    p->states = states;
    p->count += n;
    return OK;
}

/* One block: each recipient has a state afterwards. */
static int parse_block(struct slice block, struct arena *a, struct parked *p, struct error *err)
{
    size_t nrcpt = p->count;
    if (grow(block, a, p) != OK)
        return error_set(err, ERR_LIMIT, "parked message with too many recipients");
    if (take_block(block, a, p, &nrcpt) != OK)
        return error_set(err, ERR_CORRUPT, "parked message with a malformed line");
    for (size_t i = 0; i < p->count; i++)
        if (p->states[i].state == 0)
            return error_set(err, ERR_CORRUPT, "parked message without the state of a recipient");
    return OK;
}

/* Damage between sound blocks, or behind the last one. */
static void note_damage(struct parked *p, size_t from, size_t to)
{
    if (p->bad_end == 0)
        p->bad = from;
    p->bad_end = to;
}

int parked_parse(
    struct slice trailer, uint64_t offset, struct arena *a, struct parked *out, struct error *err)
{
    *out = (struct parked){0};
    struct slice block;
    size_t total, at;
    /* A newer format may end its blocks differently: look at the name first. */
    struct slice rest = trailer;
    int rc = parked_check_format(slice_cut(&rest, '\n'), err);
    if (rc != OK)
        return rc;
    if (!whole_block(trailer, &block, &total))
        return error_set(err, ERR_CORRUPT, "parked message with a bad checksum");
    slice_cut(&block, '\n'); /* the format's line */
    rc = parse_block(block, a, out, err);
    out->end = at = total;
    while (rc == OK && find_block(trailer, &at, &block, &total)) {
        if (at > out->end)
            note_damage(out, out->end, at);
        rc = parse_block(block, a, out, err);
        out->end = at += total;
    }
    at = parked_damaged_tail(slice_from_index(trailer, out->end), offset + out->end);
    if (at > 0)
        note_damage(out, out->end, out->end + at);
    return rc;
}
