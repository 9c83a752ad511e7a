#include "ctl/manifest.h"

#include <inttypes.h>

static const char magic[] = "veredus-backup ";

static const char *const words[ENTRY_COUNT] = {[ENTRY_USER] = "user",
    [ENTRY_SUBSCRIPTION] = "subscription",
    [ENTRY_FOLDER] = "folder",
    [ENTRY_KEYWORD] = "keyword",
    [ENTRY_FILE] = "file",
    [ENTRY_MESSAGE] = "message",
    [ENTRY_END] = "end"};

void manifest_word(struct slice name, struct buf *out)
{
    for (size_t i = 0; i < name.n; i++) {
        unsigned char c = (unsigned char)name.p[i];
        if (c <= ' ' || c == '%' || c == '/' || c == 0x7f || (c == '.' && i == 0))
            buf_printf(out, "%%%02x", c);
        else
            buf_putc(out, (char)c);
    }
}

bool manifest_unword(struct slice word, char *out, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < word.n; i++) {
        int c = (unsigned char)word.p[i];
        if (c == '%') {
            int high = i + 2 < word.n ? hex_digit_lower(word.p[i + 1]) : -1;
            int low = i + 2 < word.n ? hex_digit_lower(word.p[i + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            c = high * 16 + low;
            i += 2;
        }
        if (c == 0 || n + 1 >= size)
            return false;
        out[n++] = (char)c;
    }
    out[n] = '\0';
    return n > 0;
}

static void print_message(const struct entry *e, struct buf *out)
{
    const struct store_msg *m = &e->msg;
    buf_printf(out, "%" PRIu32 " ", m->uid);
    for (size_t i = 0; i < STORE_GUID; i++)
        buf_printf(out, "%02x", m->guid[i]);
    buf_printf(out, " %" PRIu32 " %" PRIu64 " %" PRIu64 " %" PRId64 " %" PRId64 " %" PRIu64 " %s",
        m->flags, m->keywords, m->modseq, m->date, m->saved, m->size, e->hash[0] ? e->hash : "-");
}

void entry_print(const struct entry *e, struct buf *out)
{
    buf_printf(out, "%s ", words[e->type]);
    if (e->type == ENTRY_KEYWORD)
        buf_printf(out, "%" PRIu64 " ", e->number);
    if (e->type != ENTRY_MESSAGE && e->type != ENTRY_END)
        manifest_word(slice_of(e->name), out);
    switch (e->type) {
    case ENTRY_USER:
        buf_printf(out, " %" PRId64, e->date);
        break;
    case ENTRY_FOLDER:
        buf_printf(out, " %" PRIu32 " %" PRIu32 " %" PRIu64 " %" PRIu64, e->uidvalidity, e->uidnext,
            e->modseq, e->mailbox);
        break;
    case ENTRY_FILE:
        buf_printf(out, " %" PRIu64 " %s", e->size, e->hash[0] ? e->hash : "-");
        break;
    case ENTRY_MESSAGE:
        print_message(e, out);
        break;
    case ENTRY_END:
        buf_printf(out, "%" PRIu64 " %" PRIu64 " %" PRIu64, e->number, e->size, e->damaged);
        break;
    case ENTRY_SUBSCRIPTION:
    case ENTRY_KEYWORD:
    case ENTRY_COUNT:
        break;
    }
    buf_putc(out, '\n');
}

/* --- parsing ---------------------------------------------------------------------------------- */

/* Words of a line, in order; one failure makes all fail. */
struct words {
    struct slice rest;
    bool bad;
};

static struct slice word(struct words *w)
{
    struct slice s = slice_cut(&w->rest, ' ');
    w->bad |= s.n == 0;
    return s;
}

static uint64_t number(struct words *w, uint64_t min, uint64_t max)
{
    uint64_t value = 0;
    w->bad |= slice_u64(word(w), min, max, &value) != OK;
    return value;
}

static void name(struct words *w, struct entry *e)
{
    w->bad |= !manifest_unword(word(w), e->name, sizeof(e->name));
}

static void hash(struct words *w, struct entry *e)
{
    struct slice s = word(w);
    if (slice_is(s, "-"))
        e->hash[0] = '\0';
    else
        w->bad |= !digest_is_hex(s) || !slice_to_cstr(s, e->hash, sizeof(e->hash));
}

static void guid(struct words *w, unsigned char out[STORE_GUID])
{
    struct slice s = word(w);
    for (size_t i = 0; i < STORE_GUID; i++) {
        int high = s.n == 2 * STORE_GUID ? hex_digit_lower(s.p[2 * i]) : -1;
        int low = s.n == 2 * STORE_GUID ? hex_digit_lower(s.p[2 * i + 1]) : -1;
        w->bad |= high < 0 || low < 0;
        out[i] = (unsigned char)(high * 16 + low);
    }
}

static void parse_message(struct words *w, struct entry *e)
{
    struct store_msg *m = &e->msg;
    m->uid = (uint32_t)number(w, 1, UINT32_MAX);
    guid(w, m->guid);
    m->flags = (uint32_t)number(w, 0, STORE_RECENT - 1);
    m->keywords = number(w, 0, UINT64_MAX);
    m->modseq = number(w, 0, UINT64_MAX);
    m->date = (int64_t)number(w, 0, UINT32_MAX);
    m->saved = (int64_t)number(w, 0, UINT32_MAX);
    m->size = number(w, 0, UINT32_MAX);
    hash(w, e);
}

static void parse_rest(struct words *w, struct entry *e)
{
    if (e->type == ENTRY_KEYWORD)
        e->number = number(w, 0, STORE_KEYWORDS_MAX - 1);
    if (e->type != ENTRY_MESSAGE && e->type != ENTRY_END)
        name(w, e);
    switch (e->type) {
    case ENTRY_USER:
        e->date = (int64_t)number(w, 0, INT64_MAX);
        break;
    case ENTRY_FOLDER:
        e->uidvalidity = (uint32_t)number(w, 1, UINT32_MAX);
        e->uidnext = (uint32_t)number(w, 1, UINT32_MAX);
        e->modseq = number(w, 0, UINT64_MAX / 2);
        e->mailbox = number(w, 0, UINT64_MAX);
        break;
    case ENTRY_FILE:
        e->size = number(w, 0, UINT32_MAX);
        hash(w, e);
        break;
    case ENTRY_MESSAGE:
        parse_message(w, e);
        break;
    case ENTRY_END:
        e->number = number(w, 0, INT64_MAX);
        e->size = number(w, 0, INT64_MAX);
        e->damaged = number(w, 0, INT64_MAX);
        break;
    case ENTRY_SUBSCRIPTION:
    case ENTRY_KEYWORD:
    case ENTRY_COUNT:
        break;
    }
}

int entry_parse(struct slice line, struct entry *e)
{
    struct words w = {.rest = line};
    struct slice kind = word(&w);
    *e = (struct entry){.type = ENTRY_COUNT};
    for (size_t i = 0; i < ENTRY_COUNT; i++)
        if (slice_is(kind, words[i]))
            e->type = (enum entry_type)i;
    if (e->type == ENTRY_COUNT)
        return ERR_SYNTAX;
    parse_rest(&w, e);
    return w.bad || w.rest.n ? ERR_SYNTAX : OK;
}

/* --- files ------------------------------------------------------------------------------------ */

struct manifest {
    FILE *in;
    struct digest *digest;
    char what[MANIFEST_NAME];
    bool ended;
};

int manifest_line(FILE *in, char line[MANIFEST_LINE], struct error *err)
{
    size_t n = 0;
    int c;
    while ((c = getc_unlocked(in)) != EOF && c != '\n') {
        if (c == '\0' || n + 1 >= MANIFEST_LINE)
            return error_set(err, ERR_SYNTAX, "a line is too long, or has a NUL");
        line[n++] = (char)c;
    }
    line[n] = '\0';
    return c == EOF ? error_set(err, ERR_CLOSED, "it ends too early") : OK;
}

static int next_line(struct manifest *m, char line[MANIFEST_LINE], struct error *err)
{
    int rc = manifest_line(m->in, line, err);
    if (rc)
        return error_set(err, ERR_CORRUPT, "%s: damaged: a line is cut off", m->what);
    return OK;
}

static void count(struct manifest *m, const char *line)
{
    digest_put(m->digest, slice_of(line));
    digest_put(m->digest, SLICE_LIT("\n"));
}

int manifest_open(FILE *in, const char *what, struct manifest **out, struct error *err)
{
    char line[MANIFEST_LINE];
    uint64_t version = 0;
    struct manifest *m = NEW(struct manifest);
    m->in = in;
    m->digest = digest_new();
    snprintf(m->what, sizeof(m->what), "%s", what);
    int rc = next_line(m, line, err);
    if (!rc && (!slice_starts(slice_of(line), magic) ||
                   slice_u64(slice_of(line + sizeof(magic) - 1), 1, UINT32_MAX, &version)))
        rc = error_set(err, ERR_CORRUPT, "%s: not a manifest of a backup", what);
    if (!rc && version != MANIFEST_VERSION)
        rc = error_set(err, ERR_VERSION, "%s: written by a newer release", what);
    if (rc) {
        manifest_close(m);
        return rc;
    }
    count(m, line);
    *out = m;
    return OK;
}

int manifest_next(struct manifest *m, struct entry *e, struct error *err)
{
    char line[MANIFEST_LINE], sum[DIGEST_HEX];
    int rc = next_line(m, line, err);
    if (rc)
        return rc;
    if (!m->ended) {
        count(m, line);
        rc = entry_parse(slice_of(line), e);
        m->ended = e->type == ENTRY_END;
        return rc ? error_set(err, ERR_CORRUPT, "%s: damaged: %.60s", m->what, line) : 1;
    }
    digest_take(m->digest, sum);
    if (strncmp(line, "sha256 ", 7) != 0 || strcmp(line + 7, sum) != 0)
        return error_set(err, ERR_CORRUPT, "%s: damaged: the checksum is wrong", m->what);
    return 0;
}

void manifest_close(struct manifest *m)
{
    if (!m)
        return;
    fclose(m->in);
    digest_free(m->digest);
    free(m);
}
