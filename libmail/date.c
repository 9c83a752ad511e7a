#include "libmail/date.h"

static const char day_names[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
static const char month_names[12][4] = {
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

void date_print_zone(time_t when, int minutes, char out[DATE_TEXT])
{
    struct tm tm;
    time_t shifted = when + (time_t)minutes * 60;
    int off = minutes < 0 ? -minutes : minutes;
    if (!gmtime_r(&shifted, &tm))
        gmtime_r(&(time_t){0}, &tm);
    snprintf(out, DATE_TEXT, "%s, %02d %s %04d %02d:%02d:%02d %c%02d%02d",
        day_names[(unsigned)tm.tm_wday % 7], tm.tm_mday, month_names[(unsigned)tm.tm_mon % 12],
        tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec, minutes < 0 ? '-' : '+',
        off / 60 % 100, off % 60);
}

void date_print(time_t when, char out[DATE_TEXT])
{
    struct tm tm;
    long offset = localtime_r(&when, &tm) ? tm.tm_gmtoff : 0;
    date_print_zone(when, (int)(offset / 60), out);
}

static bool is_leap(int year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

int date_from_civil(int year, int month, int day, int hour, int minute, int second, time_t *when)
{
    static const int lengths[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (year < 1900 || year > 9999 || month < 1 || month > 12 || day < 1 ||
        day > lengths[month - 1] + (month == 2 && is_leap(year)))
        return ERR_SYNTAX;
    if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60)
        return ERR_SYNTAX;
    /* Days since 1970 with the year beginning in March, so that the leap day is its last. */
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t m = month <= 2 ? month + 9 : month - 3;
    int64_t days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1 - 719468;
    *when = (time_t)(days * 86400 + hour * 3600 + minute * 60 + second);
    return OK;
}

/* Skips white space and comments (which nest). */
static void skip_cfws(struct slice *s)
{
    int depth = 0;
    size_t i = 0;
    for (; i < s->n; i++) {
        char c = s->p[i];
        if (c == '(')
            depth++;
        else if (c == ')' && depth > 0)
            depth--;
        else if (c == '\\' && depth > 0)
            i++;
        else if (depth == 0 && c != ' ' && c != '\t' && c != '\r' && c != '\n')
            break;
    }
    *s = slice_from_index(*s, i);
}

/* The next word: up to white space, a comment or a comma (which is dropped). */
static struct slice next_word(struct slice *s)
{
    size_t n = 0;
    skip_cfws(s);
    while (n < s->n && !strchr(" \t\r\n(,", s->p[n] ? s->p[n] : ' '))
        n++;
    struct slice word = slice_first(*s, n);
    *s = slice_from_index(*s, n + (n < s->n && s->p[n] == ','));
    return word;
}

static int parse_month(struct slice word)
{
    for (int i = 0; i < 12; i++)
        if (slice_iis(word, month_names[i]))
            return i + 1;
    return 0;
}

/* RFC 5322 §4.3: two digits below 50 are 20xx, other short years count from 1900. */
static int parse_year(struct slice word, int *year)
{
    uint64_t y;
    if (word.n < 2 || word.n > 4 || slice_u64(word, 0, 9999, &y))
        return ERR_SYNTAX;
    *year = (int)(word.n == 2 && y < 50 ? y + 2000 : word.n < 4 ? y + 1900 : y);
    return OK;
}

static int parse_time(struct slice word, int *hour, int *minute, int *second)
{
    uint64_t h, m, s = 0;
    struct slice a = slice_cut(&word, ':');
    struct slice b = slice_cut(&word, ':');
    if (slice_u64(a, 0, 23, &h) || slice_u64(b, 0, 59, &m) ||
        (word.p && slice_u64(word, 0, 60, &s)))
        return ERR_SYNTAX;
    *hour = (int)h;
    *minute = (int)m;
    *second = (int)s;
    return OK;
}

/* Minutes east of UTC. Unknown names mean nothing certain: UTC (RFC 5322 §4.3). */
static int parse_zone(struct slice word)
{
    static const struct {
        const char *name;
        int hours;
    } names[] = {{"EST", -5}, {"EDT", -4}, {"CST", -6}, {"CDT", -5}, {"MST", -7}, {"MDT", -6},
        {"PST", -8}, {"PDT", -7}};
    uint64_t v;
    if (word.n == 5 && (word.p[0] == '+' || word.p[0] == '-') &&
        slice_u64(slice_from_index(word, 1), 0, 9959, &v) == OK) {
        int minutes = (int)(v / 100 * 60 + v % 100);
        return word.p[0] == '-' ? -minutes : minutes;
    }
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (slice_iis(word, names[i].name))
            return names[i].hours * 60;
    return 0;
}

int date_parse(struct slice s, time_t *when, int *zone)
{
    int year, hour, minute, second;
    uint64_t day;
    time_t local;
    struct slice word = next_word(&s);
    if (word.n && (word.p[0] < '0' || word.p[0] > '9'))
        word = next_word(&s); /* the day of the week says nothing new */
    if (word.n > 2 || slice_u64(word, 1, 31, &day))
        return ERR_SYNTAX;
    int month = parse_month(next_word(&s));
    if (month == 0 || parse_year(next_word(&s), &year) ||
        parse_time(next_word(&s), &hour, &minute, &second))
        return ERR_SYNTAX;
    int offset = parse_zone(next_word(&s));
    int rc = date_from_civil(year, month, (int)day, hour, minute, second, &local);
    if (rc)
        return rc;
    *when = local - (time_t)offset * 60;
    if (zone)
        *zone = offset;
    return OK;
}

/* --- RFC 3339 --------------------------------------------------------------------------------- */

/* n digits and then the character `end` (0: whatever follows). */
static bool take_number(struct slice *s, size_t n, char end, int *out)
{
    uint64_t v;
    if (s->n < n + (end != 0) || slice_u64(slice_first(*s, n), 0, 9999, &v) ||
        (end && s->p[n] != end))
        return false;
    *out = (int)v;
    *s = slice_from_index(*s, n + (end != 0));
    return true;
}

/* ["." 1*DIGIT] */
static bool skip_fraction(struct slice *s)
{
    size_t n = 1;
    if (!slice_starts(*s, "."))
        return true;
    while (n < s->n && s->p[n] >= '0' && s->p[n] <= '9')
        n++;
    *s = slice_from_index(*s, n);
    return n > 1;
}

/* "Z" or +-hh:mm, in minutes. */
static bool take_offset(struct slice s, int *minutes)
{
    int h, m;
    *minutes = 0;
    if (slice_iis(s, "Z"))
        return true;
    if (s.n != 6 || (s.p[0] != '+' && s.p[0] != '-'))
        return false;
    bool west = s.p[0] == '-';
    s = slice_from_index(s, 1);
    if (!take_number(&s, 2, ':', &h) || !take_number(&s, 2, 0, &m) || h > 23 || m > 59)
        return false;
    *minutes = west ? -(h * 60 + m) : h * 60 + m;
    return true;
}

int date_parse_rfc3339(struct slice s, time_t *when)
{
    int year, month, day, hour, minute, second, offset;
    if (!take_number(&s, 4, '-', &year) || !take_number(&s, 2, '-', &month) ||
        !take_number(&s, 2, 0, &day) || s.n == 0 || !strchr("Tt", s.p[0]))
        return ERR_SYNTAX;
    s = slice_from_index(s, 1);
    if (!take_number(&s, 2, ':', &hour) || !take_number(&s, 2, ':', &minute) ||
        !take_number(&s, 2, 0, &second) || !skip_fraction(&s) || !take_offset(s, &offset))
        return ERR_SYNTAX;
    int rc = date_from_civil(year, month, day, hour, minute, second, when);
    *when -= rc ? 0 : (time_t)offset * 60;
    return rc;
}

void date_print_rfc3339(time_t when, char out[DATE_TEXT])
{
    struct tm tm;
    if (!gmtime_r(&when, &tm))
        gmtime_r(&(time_t){0}, &tm);
    snprintf(out, DATE_TEXT, "%04d-%02d-%02dT%02d:%02d:%02dZ", tm.tm_year + 1900, tm.tm_mon + 1,
        tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
}
