/*
 * Taking over a Maildir from another server, where it lies.
 *
 * The numbers are taken once: later our log goes on from them and the other server's files grow
 * old. veredus.adopted says that this was done; if index and log are lost after that, the folder
 * is numbered anew, for a UID from the old files may have been given again since (I8).
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "libstore/foreign.h"
#include "libstore/private.h"

/* When in doubt, it was. */
static bool adopted_before(int dirfd)
{
    struct stat st;
    return fs_stat(dirfd, "veredus.adopted", &st) == 0 || errno != ENOENT;
}

int adopt_begin(struct box *b, bool fresh, struct foreign *fo, bool *numbers, struct error *err)
{
    *numbers = false;
    *fo = (struct foreign){.uidvalidity = 0};
    /* A guest cannot read those beside INBOX, and gives no numbers. */
    if (b->store->opt.single)
        return OK;
    int rc = foreign_read(b->dirfd, fo, err);
    if (rc || !fresh || !fo->uidvalidity || fo->uidnext >= UINT32_MAX / 2 ||
        adopted_before(b->dirfd))
        return rc;
    *numbers = true;
    b->head.uidvalidity = fo->uidvalidity;
    b->head.uidnext = b->head.first_recent = fo->uidnext;
    return store_note_uidvalidity(b->store, fo->uidvalidity, err);
}

void adopt_guid(const struct box *b, const struct foreign *fo, const struct foreign_msg *m,
    unsigned char guid[STORE_GUID])
{
    if (m && m->has_guid)
        memcpy(guid, m->guid, STORE_GUID);
    else if (m && fo->dovecot && m->uid)
        uidl_guid(b, fo->uidvalidity, m->uid, guid);
}

/* The bit of a keyword, defined when it is new; 0 when there are too many. */
static uint64_t keyword_bit(struct box *b, const char *word)
{
    int bit = box_keyword(b, slice_of(word));
    if (bit < 0 && b->nkeywords < STORE_KEYWORDS_MAX) {
        bit = (int)b->nkeywords++;
        b->keywords[bit] = xstrdup(word);
    }
    return bit < 0 ? 0 : (uint64_t)1 << bit;
}

void adopt_record(
    struct box *b, const struct foreign *fo, const struct found_file *file, struct op *op)
{
    const struct foreign_msg *m = foreign_get(fo, file->base);
    uint64_t words = foreign_words(fo, m, file->name);
    for (size_t i = 0; i < STORE_KEYWORDS_MAX; i++)
        if (words >> i & 1 && fo->words[i])
            op->rec.keywords |= keyword_bit(b, fo->words[i]);
    op->rec.uid = m ? m->uid : 0;
    adopt_guid(b, fo, m, op->rec.guid);
}

int adopt_end(
    struct box *b, const struct foreign *fo, const struct found *f, bool numbers, struct error *err)
{
    char text[64];
    int rc = uidl_save(b, fo, f, err);
    if (rc || !numbers)
        return rc;
    int n = snprintf(text, sizeof(text), "%s %u %u\n", fo->dovecot ? "dovecot" : "courier",
        fo->uidvalidity, fo->uidnext);
    return io_replace(b->dirfd, "veredus.adopted", slice_from(text, (size_t)n), err);
}
