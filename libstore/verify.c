/* Checking a folder against its Maildir. What is missing in veredus.cache is no problem: it is
 * made again when it is asked for. */
#include "libstore/private.h"

#include <sys/stat.h>
#include <unistd.h>

/* Nothing tells what such a file held; a redo of its delivery or the sender brings the message. */
static const char kept[] = "; `rebuild` keeps it as it is";

/* What a stop of the machine leaves of a file whose data had not reached the disk, though its name
 * and record had: nothing, or zeros. NULL: it is not like that. */
static const char *unwritten(struct box *b, const struct disk_rec *rec, struct slice content)
{
    char base[FILE_NAME_MAX];
    size_t n = 0;
    file_base(b, rec, base);
    const char *size = strstr(base, ",S=");
    while (n < content.n && content.p[n] == '\0')
        n++;
    if (content.n && n == content.n)
        return "zeros alone";
    /* A stranger's file may be empty on purpose, unless its name tells another size. */
    bool filled = rec->name == 0 || (size && size[3] != '0');
    return content.n == 0 && filled ? "nothing" : NULL;
}

/* A file that was cut or has grown. */
static bool other_size(struct box *b, const struct disk_rec *rec)
{
    struct stat st;
    char path[FILE_NAME_MAX];
    file_where(b, rec, path);
    return (rec->bits & REC_CRLF) && fs_stat(b->dirfd, path, &st) == 0 && S_ISREG(st.st_mode) &&
           (uint64_t)st.st_size != rec->size;
}

static int check_message(struct box *b, const struct disk_rec *rec, struct buf *report)
{
    struct store_body body;
    struct error err;
    int problems = 0;
    if (body_read(b, rec, &body, &err)) {
        bool cut = other_size(b, rec);
        buf_printf(report, "message %u: %s%s\n", rec->uid, err.text, cut ? kept : "");
        return 1;
    }
    const char *what = unwritten(b, rec, body.content);
    if (what) {
        buf_printf(report, "message %u: the file holds %s, as after a power cut%s\n", rec->uid,
            what, kept);
        problems++;
    } else if ((rec->bits & REC_SIZED) && body.content.n != rec->size) {
        buf_printf(report, "message %u: size %zu, the index says %u%s\n", rec->uid, body.content.n,
            rec->size, kept);
        problems++;
    }
    store_body_release(&body);
    return problems;
}

/* The file of an expunged message, whose end has not come yet. */
static bool awaits_removal(struct box *b, const struct found_file *file)
{
    struct op op;
    found_record(file, b->dirfd, &op);
    return !b->store->opt.coexist && op.name.n == 0 && box_has_tomb(b, op.rec.guid);
}

static int check_files(struct box *b, struct buf *report, struct error *err)
{
    struct found f;
    char base[FILE_NAME_MAX];
    int problems = 0, rc = found_read(b->dirfd, &f, err);
    if (rc)
        return rc;
    for (size_t i = 0; i < box_count(b); i++) {
        file_base(b, box_rec(b, i), base);
        struct found_file *file = found_get(&f, base);
        if (file && !(box_rec(b, i)->bits & REC_GONE))
            file->known = true;
    }
    for (struct found_file *file = f.list; file; file = file->next) {
        if (file->known || awaits_removal(b, file))
            continue;
        buf_printf(report, "file %s is in no index\n", file->base);
        problems++;
    }
    found_clear(&f);
    return problems;
}

static int check_folder(struct box *b, struct buf *report, struct error *err)
{
    bool switched;
    enum txn_state state = TXN_END;
    struct error why = {0};
    int problems = 0, rc = box_load(b, &why);
    if (!rc)
        rc = box_follow(b, &switched, &state, &why);
    if (rc == ERR_VERSION || rc == ERR_IO || rc == ERR_DENIED)
        return error_set(err, rc, "%s", why.text);
    /* Nobody has opened the folder yet; then its files, if any, are in no index. */
    if (rc == ERR_NOT_FOUND)
        rc = OK;
    if (!rc && box_check_all(b))
        rc = error_set(&why, ERR_CORRUPT, "a record of veredus.index is damaged");
    if (rc || state == TXN_TORN) {
        buf_printf(report, "%s\n", rc ? why.text : "veredus.log has a torn end");
        return 1;
    }
    for (size_t i = 0; i < box_count(b); i++)
        if (!(box_rec(b, i)->bits & REC_GONE))
            problems += check_message(b, box_rec(b, i), report);
    rc = check_files(b, report, err);
    return rc < 0 ? rc : problems + rc;
}

int store_verify(struct store *s, struct slice folder, struct buf *report, struct error *err)
{
    char disk[NAME_DISK_MAX];
    struct box *b;
    int rc = store_folder_dir(s, folder, disk, err);
    if (!rc)
        rc = box_open_dir(s, disk, &b, err);
    if (rc)
        return rc;
    rc = check_folder(b, report, err);
    box_close(b);
    return rc;
}
