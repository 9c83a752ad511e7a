/*
 * Unique ids that another server gave its POP3 clients. Dovecot's usual ones are made of UID and
 * UIDVALIDITY, and so is then the GUID, which tells them without a file. Others stand in
 * veredus.uidl, "GUID UIDL" a line, written when the mailbox is adopted.
 */
#include "libstore/foreign.h"
#include "libstore/view.h"

enum { UIDLS_MAX = 256 << 20 };

static const unsigned char made_by_dovecot[4] = {0x7f, 'd', 'v', 'c'};

static void put32(unsigned char *out, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        out[i] = (unsigned char)(v >> (24 - 8 * i));
}

void uidl_guid(
    const struct box *b, uint32_t uidvalidity, uint32_t uid, unsigned char guid[STORE_GUID])
{
    uint32_t folder = (uint32_t)slice_hash(slice_of(b->disk));
    memcpy(guid, made_by_dovecot, 4);
    put32(guid + 4, uid);
    put32(guid + 8, uidvalidity ^ folder);
    put32(guid + 12, folder);
}

/* Not of a copy: that has a unique id of its own. */
static bool told_by_guid(
    const struct box *b, const unsigned char guid[STORE_GUID], char out[STORE_UIDL_MAX + 1])
{
    unsigned char folder[4];
    put32(folder, (uint32_t)slice_hash(slice_of(b->disk)));
    if (memcmp(guid, made_by_dovecot, 4) != 0 || memcmp(guid + 12, folder, 4) != 0)
        return false;
    snprintf(out, STORE_UIDL_MAX + 1, "%02x%02x%02x%02x%02x%02x%02x%02x", guid[4], guid[5], guid[6],
        guid[7], guid[8] ^ folder[0], guid[9] ^ folder[1], guid[10] ^ folder[2],
        guid[11] ^ folder[3]);
    return true;
}

static void guid_of_file(const struct box *b, const struct foreign *fo,
    const struct found_file *file, unsigned char guid[STORE_GUID])
{
    struct op op;
    found_record(file, b->dirfd, &op);
    adopt_guid(b, fo, foreign_get(fo, file->base), op.rec.guid);
    memcpy(guid, op.rec.guid, STORE_GUID);
}

int uidl_save(struct box *b, const struct foreign *fo, const struct found *f, struct error *err)
{
    struct buf text;
    char uidl[STORE_UIDL_MAX + 1], hex[2 * STORE_GUID + 1];
    unsigned char guid[STORE_GUID];
    int rc = OK;
    buf_init(&text, UIDLS_MAX);
    for (const struct found_file *file = f->list; file; file = file->next) {
        const struct foreign_msg *m = foreign_get(fo, file->base);
        if (!m || (!m->uidl && !m->has_guid) || !foreign_uidl(fo, m, uidl))
            continue;
        guid_of_file(b, fo, file, guid);
        guid_hex(guid, hex);
        buf_printf(&text, "%s %s\n", hex, uidl);
    }
    if (text.failed)
        rc = error_set(err, ERR_LIMIT, "too many unique ids");
    else if (buf_len(&text))
        rc = io_replace(b->ixfd, "veredus.uidl", buf_slice(&text), err);
    buf_clear(&text);
    return rc;
}

/* --- asking ----------------------------------------------------------------------------------- */

struct uidls {
    struct map by_guid; /* hex -> NUL-ended text in `text` */
    struct buf text;
};

void uidls_free(struct uidls *u)
{
    if (!u)
        return;
    map_clear(&u->by_guid);
    buf_clear(&u->text);
    free(u);
}

static struct uidls *uidls_read(const struct box *b)
{
    struct uidls *u = NEW(struct uidls);
    struct error ignored; /* without the file there are none */
    map_init(&u->by_guid);
    buf_init(&u->text, UIDLS_MAX);
    if (io_slurp(b->ixfd, "veredus.uidl", &u->text, &ignored))
        return u;
    for (char *p = u->text.data, *end = p + u->text.len, *lf; p < end; p = lf + 1) {
        lf = memchr(p, '\n', (size_t)(end - p));
        if (!lf)
            break;
        *lf = '\0';
        size_t n = (size_t)(lf - p), key = 2 * (size_t)STORE_GUID;
        if (n > key + 1 && n <= key + 1 + STORE_UIDL_MAX && p[key] == ' ')
            map_set(&u->by_guid, slice_from(p, key), p + key + 1);
    }
    return u;
}

void store_uidl(
    struct store_mailbox *mb, const unsigned char guid[STORE_GUID], char out[STORE_UIDL_MAX + 1])
{
    char hex[2 * STORE_GUID + 1];
    if (!mb->uidls)
        mb->uidls = uidls_read(mb->box);
    guid_hex(guid, hex);
    const char *other = map_get(&mb->uidls->by_guid, slice_of(hex));
    if (other)
        snprintf(out, STORE_UIDL_MAX + 1, "%s", other);
    else if (!told_by_guid(mb->box, guid, out))
        snprintf(out, STORE_UIDL_MAX + 1, "%s", hex);
}
