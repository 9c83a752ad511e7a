#include "libstore/foreign.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "libstore/private.h"

enum { FILE_MAX = 256 << 20, WORDS_FILE_MAX = 65536, UID_MAX = UINT32_MAX / 2 };

/* --- messages and words ----------------------------------------------------------------------- */

struct foreign_msg *foreign_get(const struct foreign *fo, const char *base)
{
    return map_get(&fo->msgs, slice_of(base));
}

/* By a file's name, with or without flags behind a ':'. */
static struct foreign_msg *msg_of(struct foreign *fo, struct slice name)
{
    struct slice base = slice_cut(&name, ':');
    if (base.n == 0)
        return NULL;
    struct foreign_msg *m = map_get(&fo->msgs, base);
    if (m)
        return m;
    m = NEW(struct foreign_msg);
    m->next = fo->list;
    fo->list = m;
    map_set(&fo->msgs, base, m);
    return m;
}

void foreign_clear(struct foreign *fo)
{
    map_clear(&fo->msgs);
    while (fo->list) {
        struct foreign_msg *m = fo->list;
        fo->list = m->next;
        free(m->uidl);
        free(m);
    }
    for (size_t i = 0; i < STORE_KEYWORDS_MAX; i++)
        free(fo->words[i]);
    *fo = (struct foreign){0};
}

static void set_word(struct foreign *fo, uint64_t i, struct slice name)
{
    if (i >= STORE_KEYWORDS_MAX || name.n == 0 || name.n > 255)
        return;
    free(fo->words[i]);
    fo->words[i] = xmemdup0(name.p, name.n);
}

/* Bit of a word, new ones at the end; 0 when there are too many. */
static uint64_t word_bit(struct foreign *fo, struct slice name)
{
    for (unsigned i = 0; i < STORE_KEYWORDS_MAX && name.n; i++) {
        if (!fo->words[i])
            set_word(fo, i, name);
        if (fo->words[i] && slice_ieq(slice_of(fo->words[i]), name))
            return (uint64_t)1 << i;
    }
    return 0;
}

static void set_uidl(struct foreign_msg *m, struct slice uidl)
{
    if (uidl.n == 0 || uidl.n > STORE_UIDL_MAX)
        return;
    for (size_t i = 0; i < uidl.n; i++)
        if (uidl.p[i] <= ' ' || uidl.p[i] > '~')
            return;
    free(m->uidl);
    m->uidl = xmemdup0(uidl.p, uidl.n);
}

/* --- numbers ---------------------------------------------------------------------------------- */

/* "1 UIDVALIDITY NEXT", as Courier and old releases of Dovecot begin. */
static bool plain_header(struct foreign *fo, struct slice line)
{
    uint64_t validity, next;
    if (!slice_is(slice_cut(&line, ' '), "1") ||
        slice_u64(slice_cut(&line, ' '), 1, UINT32_MAX - 1, &validity) ||
        slice_u64(slice_cut(&line, ' '), 1, UID_MAX, &next))
        return false;
    fo->uidvalidity = (uint32_t)validity;
    fo->uidnext = (uint32_t)next;
    return true;
}

/* "3 V<UIDVALIDITY> N<NEXT> ..." */
static bool dovecot_header(struct foreign *fo, struct slice line)
{
    uint64_t validity = 0, next = 0;
    if (!slice_is(slice_cut(&line, ' '), "3"))
        return false;
    while (line.n) {
        struct slice field = slice_cut(&line, ' '), value = slice_from_index(field, 1);
        if (slice_starts(field, "V") && slice_u64(value, 1, UINT32_MAX - 1, &validity))
            return false;
        if (slice_starts(field, "N") && slice_u64(value, 1, UID_MAX, &next))
            return false;
    }
    fo->uidvalidity = (uint32_t)validity;
    fo->uidnext = (uint32_t)next;
    return validity && next;
}

static struct foreign_msg *take_uid(struct foreign *fo, struct slice number, struct slice name)
{
    uint64_t uid;
    if (slice_u64(number, 1, UID_MAX - 1, &uid))
        return NULL;
    /* Also of a message that is gone: lines are appended without a new header. */
    fo->uidnext = MAX(fo->uidnext, (uint32_t)uid + 1);
    struct foreign_msg *m = msg_of(fo, name);
    if (m)
        m->uid = (uint32_t)uid;
    return m;
}

static bool take_hex(struct slice s, unsigned char *out, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; s.n == 2 * n && i < s.n; i++) {
        const char *d = memchr(digits, s.p[i], 16);
        if (!d)
            return false;
        out[i / 2] = (unsigned char)(out[i / 2] << 4 | (d - digits));
    }
    return s.n == 2 * n;
}

/* "UID [KVALUE ...] :NAME". P is a unique id for POP3, G a GUID; sizes (S, W) are found in the
 * messages themselves, and O only orders POP3 listings. */
static void dovecot_line(struct foreign *fo, struct slice line)
{
    ptrdiff_t colon = slice_find(line, SLICE_LIT(" :"));
    if (colon < 0)
        return;
    struct slice left = slice_first(line, (size_t)colon);
    struct slice number = slice_cut(&left, ' ');
    struct foreign_msg *m = take_uid(fo, number, slice_from_index(line, (size_t)colon + 2));
    while (m && left.n) {
        struct slice field = slice_cut(&left, ' '), value = slice_from_index(field, 1);
        if (slice_starts(field, "P"))
            set_uidl(m, value);
        else if (slice_starts(field, "G"))
            m->has_guid = take_hex(value, m->guid, sizeof(m->guid));
    }
}

static void plain_line(struct foreign *fo, struct slice line)
{
    struct slice number = slice_cut(&line, ' ');
    take_uid(fo, number, line);
}

/* False: there is no such file, or nothing in it can be used. */
static int read_numbers(
    int dirfd, const char *name, struct foreign *fo, bool *found, struct error *err)
{
    struct buf text;
    buf_init(&text, FILE_MAX);
    int rc = io_slurp(dirfd, name, &text, err);
    struct slice rest = buf_slice(&text), header = slice_cut(&rest, '\n');
    bool plain = !rc && plain_header(fo, header);
    *found = plain || (!rc && dovecot_header(fo, header));
    while (*found && rest.n) {
        struct slice line = slice_cut(&rest, '\n');
        /* The last line may be half written. */
        if (rest.p)
            plain ? plain_line(fo, line) : dovecot_line(fo, line);
    }
    buf_clear(&text);
    return rc == ERR_NOT_FOUND ? OK : rc;
}

/* --- Dovecot's keywords ----------------------------------------------------------------------- */

static int dovecot_keywords(int dirfd, struct foreign *fo, struct error *err)
{
    struct buf text;
    uint64_t i;
    buf_init(&text, WORDS_FILE_MAX);
    int rc = io_slurp(dirfd, "dovecot-keywords", &text, err);
    struct slice rest = buf_slice(&text);
    while (!rc && rest.n) {
        struct slice line = slice_cut(&rest, '\n');
        if (slice_u64(slice_cut(&line, ' '), 0, STORE_KEYWORDS_MAX - 1, &i) == OK)
            set_word(fo, i, line);
    }
    buf_clear(&text);
    return rc == ERR_NOT_FOUND ? OK : rc;
}

uint64_t foreign_words(const struct foreign *fo, const struct foreign_msg *m, const char *name)
{
    uint64_t words = m ? m->words : 0;
    const char *info = fo->dovecot && name ? strstr(name, ":2,") : NULL;
    for (const char *p = info ? info + 3 : ""; *p; p++)
        if (*p >= 'a' && *p <= 'z' && fo->words[*p - 'a'])
            words |= (uint64_t)1 << (*p - 'a');
    return words;
}

bool foreign_uidl(
    const struct foreign *fo, const struct foreign_msg *m, char out[STORE_UIDL_MAX + 1])
{
    if (m->uidl)
        return slice_to_cstr(slice_of(m->uidl), out, STORE_UIDL_MAX + 1);
    if (!fo->dovecot || !m->uid)
        return false;
    /* Dovecot's pop3_uidl_format unless it is changed. */
    snprintf(out, STORE_UIDL_MAX + 1, "%08x%08x", m->uid, fo->uidvalidity);
    return true;
}

/* --- Courier's keywords and unique ids ---------------------------------------------------------
 */

/* The keywords' names, an empty line, then "BASE:INDEX INDEX". */
static int courier_list(int dirfd, struct foreign *fo, struct error *err)
{
    struct buf text;
    struct slice line;
    uint64_t bits[STORE_KEYWORDS_MAX] = {0}, n = 0, i;
    buf_init(&text, FILE_MAX);
    int rc = io_slurp(dirfd, ":list", &text, err);
    struct slice rest = buf_slice(&text);
    while (rest.n && (line = slice_cut(&rest, '\n')).n && n < STORE_KEYWORDS_MAX)
        bits[n++] = word_bit(fo, line);
    while (rest.n) {
        line = slice_cut(&rest, '\n');
        struct slice base = slice_cut(&line, ':');
        struct foreign_msg *m = msg_of(fo, base);
        while (m && line.n)
            if (slice_u64(slice_cut(&line, ' '), 0, STORE_KEYWORDS_MAX - 1, &i) == OK)
                m->words |= bits[i];
    }
    buf_clear(&text);
    return rc == ERR_NOT_FOUND ? OK : rc;
}

/* A change not yet in the list: BASE, or .N.BASE, of which the highest N counts, but BASE more. */
static void courier_update(int dirfd, struct foreign *fo, const char *name)
{
    struct slice base = slice_of(name);
    struct error ignored;
    struct buf text;
    uint64_t order = UINT64_MAX;
    if (base.p[0] == '.') {
        base = slice_from_index(base, 1);
        if (slice_u64(slice_cut(&base, '.'), 0, UINT64_MAX - 2, &order))
            return;
        order++;
    }
    struct foreign_msg *m = msg_of(fo, base);
    buf_init(&text, WORDS_FILE_MAX);
    if (m && order > m->update && io_slurp(dirfd, name, &text, &ignored) == OK) {
        m->update = order;
        m->words = 0;
        for (struct slice rest = buf_slice(&text); rest.n;)
            m->words |= word_bit(fo, slice_cut(&rest, '\n'));
    }
    buf_clear(&text);
}

static int courier_keywords(int parent, struct foreign *fo, struct error *err)
{
    int fd = fs_open(parent, "courierimapkeywords", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    struct fs_dir *d = fs_dir_open(fd);
    if (!d) {
        fs_close(&fd);
        return OK;
    }
    int rc = courier_list(fd, fo, err);
    for (struct fs_entry e; !rc && fs_dir_next(d, &e);)
        if (strcmp(e.name, ":list") != 0)
            courier_update(fd, fo, e.name);
    fs_dir_close(d);
    return rc;
}

/* "/VERSION NEXT UIDVALIDITY", then "NAME SIZE UID:UIDVALIDITY[:UTF8]". */
static int courier_uidls(int dirfd, struct foreign *fo, struct error *err)
{
    struct buf text;
    char uidl[64];
    uint64_t uid, validity;
    buf_init(&text, FILE_MAX);
    int rc = io_slurp(dirfd, "courierpop3dsizelist", &text, err);
    struct slice rest = buf_slice(&text);
    bool good = slice_starts(slice_cut(&rest, '\n'), "/");
    while (!rc && good && rest.n) {
        struct slice line = slice_cut(&rest, '\n'), name = slice_cut(&line, ' ');
        slice_cut(&line, ' ');
        if (slice_u64(slice_cut(&line, ':'), 1, UINT64_MAX, &uid) ||
            slice_u64(slice_cut(&line, ':'), 0, UINT64_MAX, &validity))
            continue;
        struct foreign_msg *m = msg_of(fo, name);
        int n = validity ? snprintf(uidl, sizeof(uidl), "UID%llu-%llu", (unsigned long long)uid,
                               (unsigned long long)validity)
                         : snprintf(uidl, sizeof(uidl), "UID%llu", (unsigned long long)uid);
        if (m)
            set_uidl(m, slice_from(uidl, (size_t)n));
        fo->courier = true;
    }
    buf_clear(&text);
    return rc == ERR_NOT_FOUND ? OK : rc;
}

int foreign_read(int dirfd, struct foreign *fo, struct error *err)
{
    *fo = (struct foreign){0};
    map_init(&fo->msgs);
    int rc = read_numbers(dirfd, "dovecot-uidlist", fo, &fo->dovecot, err);
    if (!rc && fo->dovecot)
        rc = dovecot_keywords(dirfd, fo, err);
    if (!rc && !fo->dovecot) {
        rc = read_numbers(dirfd, "courierimapuiddb", fo, &fo->courier, err);
        if (!rc)
            rc = courier_uidls(dirfd, fo, err);
        if (!rc)
            rc = courier_keywords(dirfd, fo, err);
    }
    if (rc)
        foreign_clear(fo);
    return rc;
}

/* --- subscriptions ---------------------------------------------------------------------------- */

/* A folder's name with '.' between levels, in modified UTF-7, or else in UTF-8. */
static void put_folder(struct slice name, struct buf *out)
{
    char disk[NAME_DISK_MAX];
    struct buf folder;
    buf_init(&folder, STORE_NAME_MAX * 4);
    if (slice_iis(name, "INBOX")) {
        buf_puts(out, "INBOX\n");
    } else if (snprintf(disk, sizeof(disk), ".%.*s", SLICE_FMT(name)) < (int)sizeof(disk)) {
        /* One that stands there as it is may be too long to be written our way. */
        if (name_from_disk(slice_of(disk), &folder) == OK &&
            store_name_check(buf_slice(&folder)) == OK)
            buf_printf(out, "%.*s\n", SLICE_FMT(buf_slice(&folder)));
    }
    buf_clear(&folder);
}

/* Version 2 begins with a line of its own and has a tab between levels. */
static void dovecot_subscriptions(struct slice rest, struct buf *out)
{
    char name[NAME_DISK_MAX];
    bool tabs = slice_starts(rest, "V\t");
    while (rest.n) {
        struct slice line = slice_cut(&rest, '\n');
        if (line.n == 0 || (tabs && slice_starts(line, "V\t")) ||
            !slice_to_cstr(line, name, sizeof(name)))
            continue;
        for (char *p = name; tabs && *p; p++)
            if (*p == '\t')
                *p = '.';
        put_folder(slice_of(name), out);
    }
}

static void courier_subscriptions(struct slice rest, struct buf *out)
{
    while (rest.n) {
        struct slice line = slice_cut(&rest, '\n');
        if (slice_istarts(line, "INBOX."))
            line = slice_from_index(line, 6);
        if (line.n)
            put_folder(line, out);
    }
}

int foreign_subscriptions(int dirfd, struct buf *out, struct error *err)
{
    struct buf text;
    buf_init(&text, 8 << 20);
    int rc = io_slurp(dirfd, "subscriptions", &text, err);
    if (!rc) {
        dovecot_subscriptions(buf_slice(&text), out);
    } else if (rc == ERR_NOT_FOUND) {
        rc = io_slurp(dirfd, "courierimapsubscribed", &text, err);
        if (!rc)
            courier_subscriptions(buf_slice(&text), out);
    }
    buf_clear(&text);
    return rc == ERR_NOT_FOUND ? OK : rc;
}
