#include "libstore/mbox.h"

#include <sys/stat.h>
#include <time.h>

enum { WORDS = 24, KEYWORDS_TEXT = 16384 };

struct mbox {
    FILE *in;
    char line[MBOX_PIECE];
    size_t n;     /* bytes in line */
    bool whole;   /* it ends with LF, or the file does */
    bool start;   /* line is the beginning of one */
    bool pending; /* line has not been handed out */
    bool blank;   /* an empty line was held back: it may be what divides messages */
    bool between; /* the line before was empty, or there was none */
    bool header;
    bool inside; /* a message */
    uint64_t number, strays;
    uint64_t length; /* Content-Length of the header; 0: none */
    uint64_t left;   /* so many bytes are of this message, whatever they look like */
    int64_t date;    /* of the From_ line in `line` */
    struct mbox_message message;
    struct buf keywords;
};

struct mbox *mbox_new(FILE *in)
{
    struct mbox *m = NEW(struct mbox);
    m->in = in;
    m->whole = m->between = true;
    buf_init(&m->keywords, KEYWORDS_TEXT);
    return m;
}

void mbox_free(struct mbox *m)
{
    if (!m)
        return;
    buf_clear(&m->keywords);
    free(m);
}

uint64_t mbox_strays(const struct mbox *m)
{
    return m->strays;
}

/* --- From_ lines ------------------------------------------------------------------------------ */

static int name_index(struct slice word, const char *names)
{
    for (int i = 0; word.n == 3 && names[3 * i]; i++)
        if (slice_ieq(word, slice_from(names + 3 * (size_t)i, 3)))
            return i;
    return -1;
}

static bool take_time(struct slice word, struct tm *tm)
{
    uint64_t v[3] = {0};
    size_t i = 0;
    static const uint64_t most[] = {23, 59, 60};
    for (; i < 3 && word.n; i++)
        if (slice_u64(slice_cut(&word, ':'), 0, most[i], &v[i]))
            return false;
    tm->tm_hour = (int)v[0];
    tm->tm_min = (int)v[1];
    tm->tm_sec = (int)v[2];
    return i >= 2 && word.n == 0;
}

/* "Sat Nov 21 02:00:00 2026", with a zone before or after the year. */
static bool take_date(const struct slice *w, size_t n, int64_t *date)
{
    struct tm tm = {0};
    uint64_t day, year, zone = 0;
    int sign = 0;
    if (n < 5 || name_index(w[0], "SunMonTueWedThuFriSat") < 0)
        return false;
    tm.tm_mon = name_index(w[1], "JanFebMarAprMayJunJulAugSepOctNovDec");
    if (tm.tm_mon < 0 || slice_u64(w[2], 1, 31, &day) || !take_time(w[3], &tm))
        return false;
    size_t at = 4;
    if (slice_u64(w[at], 1970, 2105, &year)) {
        at++;
        if (n < 6 || slice_u64(w[at], 1970, 2105, &year))
            return false;
    }
    const struct slice *z = at == 5 ? &w[4] : n > 5 ? &w[5] : NULL;
    if (z && z->n == 5 && (z->p[0] == '+' || z->p[0] == '-') &&
        slice_u64(slice_from_index(*z, 1), 0, 2359, &zone) == OK)
        sign = z->p[0] == '+' ? 1 : -1;
    tm.tm_mday = (int)day;
    tm.tm_year = (int)year - 1900;
    *date = (int64_t)timegm(&tm) - sign * (int64_t)(zone / 100 * 3600 + zone % 100 * 60);
    return true;
}

/* Without a date it is a line of a message that nobody quoted. */
static bool is_from_line(struct slice rest, int64_t *date)
{
    struct slice words[WORDS];
    size_t n = 0;
    if (!slice_starts(rest, "From "))
        return false;
    rest = slice_trim(slice_from_index(rest, 5));
    while (rest.n && n < WORDS) {
        struct slice word = slice_cut(&rest, ' ');
        if (word.n)
            words[n++] = word;
    }
    for (size_t i = 0; i < n; i++)
        if (take_date(words + i, n - i, date))
            return true;
    return false;
}

static bool from_line(struct mbox *m)
{
    return m->start && m->between && m->left == 0 &&
           is_from_line(slice_from(m->line, m->n), &m->date);
}

/* "mboxcl": a field tells how long the body is, whose lines need not be quoted then. It is believed
 * when what follows is the end of the file or the next message; in a pipe nobody can see that. */
static uint64_t confirmed_length(struct mbox *m)
{
    char line[1000];
    struct stat st;
    int64_t date;
    off_t here = ftello(m->in);
    if (m->length == 0 || here < 0 || fstat(fileno(m->in), &st) || !S_ISREG(st.st_mode) ||
        m->length > (uint64_t)MAX(st.st_size - here, 0) ||
        fseeko(m->in, here + (off_t)m->length, SEEK_SET))
        return 0;
    struct slice rest = slice_from(line, fread(line, 1, sizeof(line), m->in));
    if (slice_starts(rest, "\r\n"))
        rest = slice_from_index(rest, 2);
    else if (slice_starts(rest, "\n"))
        rest = slice_from_index(rest, 1);
    bool good = rest.n == 0 || is_from_line(slice_cut(&rest, '\n'), &date);
    return fseeko(m->in, here, SEEK_SET) == 0 && good ? m->length : 0;
}

/* --- lines ------------------------------------------------------------------------------------ */

/* The next line, or the next part of a long one. */
static bool fill(struct mbox *m)
{
    int c = EOF;
    if (m->pending)
        return true;
    m->start = m->whole;
    m->n = 0;
    while (m->n < sizeof(m->line) && (c = getc_unlocked(m->in)) != EOF) {
        m->line[m->n++] = (char)c;
        if (c == '\n')
            break;
    }
    m->whole = c == '\n' || c == EOF;
    m->number += m->start && m->n;
    m->pending = m->n > 0;
    return m->pending;
}

static bool is_blank(const struct mbox *m)
{
    return m->start && (m->n == 1 || (m->n == 2 && m->line[0] == '\r')) &&
           m->line[m->n - 1] == '\n';
}

/* Done with the line. */
static void drop(struct mbox *m)
{
    bool last = m->left > 0 && m->left <= m->n;
    m->left -= MIN(m->left, m->n);
    m->between = last || is_blank(m);
    m->pending = false;
}

static const struct {
    char letter;
    uint32_t flag;
} letters[] = {{'R', STORE_SEEN}, {'A', STORE_ANSWERED}, {'F', STORE_FLAGGED}, {'T', STORE_DRAFT},
    {'D', STORE_DELETED}};

/* Whether the header line is ours to keep out of the message. */
static bool take_status(struct mbox *m)
{
    struct slice value = slice_from(m->line, m->n);
    struct slice name = slice_cut(&value, ':');
    value = slice_trim(value);
    if (slice_iis(name, "X-Keywords")) {
        while (value.n && m->message.nkeywords < STORE_KEYWORDS_MAX) {
            struct slice word = slice_cut(&value, ' ');
            /* Held as offsets until the buffer does not move any more. */
            if (word.n && word.n < 256 && buf_put(&m->keywords, word) == OK)
                m->message.keywords[m->message.nkeywords++].n = word.n;
        }
        return true;
    }
    if (slice_iis(name, "Content-Length") && slice_u64(value, 1, INT64_MAX / 2, &m->length))
        m->length = 0;
    if (!slice_iis(name, "Status") && !slice_iis(name, "X-Status"))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(letters); i++)
        if (slice_chr(value, letters[i].letter) >= 0)
            m->message.flags |= letters[i].flag;
    return true;
}

static void place_keywords(struct mbox *m)
{
    const char *p = buf_slice(&m->keywords).p;
    for (size_t i = 0; i < m->message.nkeywords; i++) {
        m->message.keywords[i].p = p;
        p += m->message.keywords[i].n;
    }
}

bool mbox_next(struct mbox *m, struct mbox_message **out)
{
    struct slice rest;
    while (m->inside && mbox_piece(m, &rest))
        continue;
    while (fill(m) && !from_line(m)) {
        m->strays += m->start && !is_blank(m);
        drop(m);
    }
    if (!m->pending)
        return false;
    buf_reset(&m->keywords);
    m->message = (struct mbox_message){.line = m->number, .date = m->date};
    m->header = m->inside = true;
    m->blank = false;
    m->length = m->left = 0;
    *out = &m->message;
    drop(m);
    while (!m->whole && fill(m))
        m->pending = false; /* the rest of a very long From_ line */
    return true;
}

/* ">From " and ">>From " lose one '>'. */
static bool is_quoted(struct slice line)
{
    size_t i = 0;
    while (i < line.n && line.p[i] == '>')
        i++;
    return i && slice_starts(slice_from_index(line, i), "From ");
}

bool mbox_piece(struct mbox *m, struct slice *out)
{
    while (m->inside && fill(m)) {
        if (from_line(m))
            break;
        if (m->blank) {
            m->blank = false;
            *out = SLICE_LIT("\n");
            return true;
        }
        /* An empty line that is counted in the length is text. */
        bool counted = m->left >= m->n;
        m->blank = is_blank(m) && !m->header && !counted;
        bool ends_header = m->header && is_blank(m);
        m->header &= !ends_header;
        bool skip = m->blank || (m->header && m->start && take_status(m));
        *out = slice_from(m->line, m->n);
        if (m->start && is_quoted(*out))
            *out = slice_from_index(*out, 1);
        drop(m);
        if (ends_header)
            m->left = confirmed_length(m);
        if (!skip)
            return true;
    }
    m->inside = false;
    place_keywords(m);
    return false;
}

/* --- writing ---------------------------------------------------------------------------------- */

bool mbox_is_from(struct slice line)
{
    return slice_starts(line, "From ") || is_quoted(line);
}

bool mbox_is_note(struct slice line, bool before)
{
    static const char *const names[] = {"Content-Length:", "Status:", "X-Status:", "X-Keywords:"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (slice_istarts(line, names[i]))
            return true;
    return before && (slice_starts(line, " ") || slice_starts(line, "\t"));
}

static void put_status(FILE *out, const struct mbox_message *msg)
{
    fputs(msg->flags & STORE_SEEN ? "Status: RO\n" : "Status: O\n", out);
    if (msg->flags & ~(uint32_t)STORE_SEEN) {
        fputs("X-Status: ", out);
        for (size_t i = 1; i < ARRAY_LEN(letters); i++)
            if (msg->flags & letters[i].flag)
                putc(letters[i].letter, out);
        putc('\n', out);
    }
    if (msg->nkeywords)
        fputs("X-Keywords:", out);
    for (size_t i = 0; i < msg->nkeywords; i++)
        fprintf(out, " %.*s", SLICE_FMT(msg->keywords[i]));
    if (msg->nkeywords)
        putc('\n', out);
}

/* The sender as Return-Path tells it, without blanks. */
static void put_sender(FILE *out, struct slice content)
{
    struct slice line = slice_cut(&content, '\n');
    if (slice_istarts(line, "Return-Path:")) {
        line = slice_trim(slice_from_index(line, 12));
        if (slice_starts(line, "<") && slice_ends(line, ">"))
            line = slice_first(slice_from_index(line, 1), line.n - 2);
        if (line.n && slice_chr(line, ' ') < 0 && slice_chr(line, '\t') < 0) {
            fwrite(line.p, 1, line.n, out);
            return;
        }
    }
    fputs("MAILER-DAEMON", out);
}

int mbox_write(FILE *out, struct slice content, const struct mbox_message *msg)
{
    char date[32];
    struct tm tm;
    time_t at = (time_t)msg->date;
    bool header = true, note = false;
    strftime(date, sizeof(date), "%a %b %e %H:%M:%S %Y", gmtime_r(&at, &tm));
    fputs("From ", out);
    put_sender(out, content);
    fprintf(out, " %s\n", date);
    while (content.n) {
        struct slice line = slice_cut(&content, '\n');
        if (slice_ends(line, "\r"))
            line.n--;
        if (header && line.n == 0)
            put_status(out, msg);
        header &= line.n > 0;
        note = header && mbox_is_note(line, note);
        if (note)
            continue;
        if (mbox_is_from(line))
            putc('>', out);
        fwrite(line.p, 1, line.n, out);
        putc('\n', out);
    }
    if (header)
        put_status(out, msg);
    putc('\n', out);
    return ferror(out) ? ERR_IO : OK;
}
