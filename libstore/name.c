#include "libstore/name.h"

#include "libmail/charset.h"
#include "libstore/store.h"

static const char base64_imap[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

bool name_is_inbox(struct slice folder)
{
    return slice_iis(folder, "INBOX");
}

/* Bits waiting to be written as base64 digits. */
struct shift {
    uint32_t bits;
    unsigned n;
    bool open;
};

static void shift_unit(struct buf *out, struct shift *s, uint32_t unit)
{
    if (!s->open)
        buf_putc(out, '&');
    s->open = true;
    s->bits = s->bits << 16 | unit;
    for (s->n += 16; s->n >= 6; s->n -= 6)
        buf_putc(out, base64_imap[s->bits >> (s->n - 6) & 63]);
}

static void shift_end(struct buf *out, struct shift *s)
{
    if (!s->open)
        return;
    if (s->n)
        buf_putc(out, base64_imap[s->bits << (6 - s->n) & 63]);
    buf_putc(out, '-');
    *s = (struct shift){0};
}

static void put_disk(struct buf *out, struct shift *shift, uint32_t c)
{
    if (c >= 0x10000) {
        shift_unit(out, shift, 0xd800 + ((c - 0x10000) >> 10));
        shift_unit(out, shift, 0xdc00 + ((c - 0x10000) & 0x3ff));
    } else if (c >= 0x7f || c == '.') {
        shift_unit(out, shift, c);
    } else {
        shift_end(out, shift);
        if (c == '&')
            buf_puts(out, "&-");
        else
            buf_putc(out, c == STORE_SEPARATOR ? '.' : (char)c);
    }
}

/* Controls, and what RFC 9755 §3 forbids besides: separators of lines and paragraphs. */
static bool is_forbidden(uint32_t c)
{
    return c < ' ' || (c >= 0x7f && c <= 0x9f) || c == 0x2028 || c == 0x2029;
}

static bool is_legal(struct slice folder)
{
    uint32_t before = STORE_SEPARATOR;
    if (folder.n > STORE_NAME_MAX || !utf8_valid(folder))
        return false;
    while (folder.n) {
        uint32_t c = utf8_take(&folder);
        if (is_forbidden(c) || (c == STORE_SEPARATOR && before == c))
            return false;
        before = c;
    }
    return before != STORE_SEPARATOR;
}

int name_to_disk(struct slice folder, char out[NAME_DISK_MAX])
{
    static const size_t inbox = sizeof("INBOX") - 1;
    if (name_is_inbox(folder)) {
        memcpy(out, ".", 2);
        return OK;
    }
    if (!is_legal(folder))
        return ERR_SYNTAX;
    struct buf disk;
    struct shift shift = {0};
    buf_init(&disk, STORE_NAME_MAX);
    buf_putc(&disk, '.');
    if (folder.n > inbox && folder.p[inbox] == STORE_SEPARATOR &&
        name_is_inbox(slice_first(folder, inbox))) {
        buf_puts(&disk, "INBOX");
        folder = slice_from_index(folder, inbox);
    }
    while (folder.n)
        put_disk(&disk, &shift, utf8_take(&folder));
    shift_end(&disk, &shift);
    bool fits = !disk.failed && slice_to_cstr(buf_slice(&disk), out, NAME_DISK_MAX);
    buf_clear(&disk);
    return fits ? OK : ERR_SYNTAX;
}

/* Decodes base64 up to '-' behind '&'; false when malformed. */
static bool take_shifted(struct slice *s, struct buf *out)
{
    uint32_t bits = 0, high = 0;
    unsigned n = 0;
    while (s->n && s->p[0] != '-') {
        const char *digit = memchr(base64_imap, s->p[0], 64);
        if (!digit)
            return false;
        *s = slice_from_index(*s, 1);
        bits = bits << 6 | (uint32_t)(digit - base64_imap);
        n += 6;
        if (n < 16)
            continue;
        n -= 16;
        uint32_t unit = bits >> n & 0xffff;
        if (unit >= 0xd800 && unit < 0xdc00)
            high = unit;
        else if (high)
            utf8_put(out, 0x10000 + ((high - 0xd800) << 10) + (unit - 0xdc00)), high = 0;
        else
            utf8_put(out, unit);
    }
    if (s->n == 0)
        return false;
    *s = slice_from_index(*s, 1);
    return high == 0;
}

static int decode(struct slice disk, struct buf *out)
{
    for (struct slice rest = slice_from_index(disk, 1); rest.n;) {
        char c = rest.p[0];
        rest = slice_from_index(rest, 1);
        if (c == '&' && rest.n && rest.p[0] == '-') {
            buf_putc(out, '&');
            rest = slice_from_index(rest, 1);
        } else if (c == '&') {
            if (!take_shifted(&rest, out))
                return ERR_SYNTAX;
        } else {
            buf_putc(out, c == '.' ? STORE_SEPARATOR : c);
        }
    }
    return out->failed ? ERR_SYNTAX : OK;
}

/* Whether some folder's directory is called so by us. */
static bool is_made_by_us(const char *disk)
{
    char made[NAME_DISK_MAX];
    struct buf folder;
    buf_init(&folder, 4 * NAME_DISK_MAX);
    bool ours = decode(slice_of(disk), &folder) == OK &&
                name_to_disk(buf_slice(&folder), made) == OK && strcmp(made, disk) == 0;
    buf_clear(&folder);
    return ours;
}

int name_to_raw(struct slice folder, char out[NAME_DISK_MAX])
{
    if (name_is_inbox(folder) || !is_legal(folder) || slice_chr(folder, '.') >= 0)
        return ERR_NOT_FOUND;
    out[0] = '.';
    for (size_t i = 0; i < folder.n; i++)
        out[i + 1] = folder.p[i] == STORE_SEPARATOR ? '.' : folder.p[i];
    out[folder.n + 1] = '\0';
    return is_made_by_us(out) ? ERR_NOT_FOUND : OK;
}

/* One name per directory and one directory per name, whatever a stranger created there. */
static bool is_name_of(struct slice folder, struct slice disk)
{
    char again[NAME_DISK_MAX];
    return (name_to_disk(folder, again) == OK && slice_is(disk, again)) ||
           (name_to_raw(folder, again) == OK && slice_is(disk, again));
}

int name_from_disk(struct slice disk, struct buf *out)
{
    size_t before = buf_len(out);
    if (disk.n < 2 || disk.p[0] != '.')
        return ERR_SYNTAX;
    if (decode(disk, out) == OK && is_name_of(slice_from_index(buf_slice(out), before), disk))
        return OK;
    if (!out->failed)
        buf_truncate(out, before);
    for (size_t i = 1; i < disk.n; i++)
        buf_putc(out, disk.p[i] == '.' ? STORE_SEPARATOR : disk.p[i]);
    if (is_name_of(slice_from_index(buf_slice(out), before), disk))
        return OK;
    buf_truncate(out, MIN(before, buf_len(out)));
    return ERR_SYNTAX;
}

int store_name_check(struct slice folder)
{
    char disk[NAME_DISK_MAX];
    return name_to_disk(folder, disk);
}
