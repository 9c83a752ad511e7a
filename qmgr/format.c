#include "qmgr/format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Frozen: what release 1 wrote. */
#define ENVELOPE_1_FIELDS(F, S)                                                                  \
    F(S, STR, sender, 320)                                                                       \
    F(S, STR, envid, 100)                                                                        \
    F(S, U32, ret, 0)                                                                            \
    F(S, U32, body, 0)                                                                           \
    F(S, BOOL, smtputf8, 0)                                                                      \
    F(S, I64, received, 0)                                                                       \
    F(S, U64, session, 0)                                                                        \
    F(S, STR, client, 64) F(S, STR, client_name, 255) F(S, STR, helo, 255) F(S, STR, login, 255) \
        F(S, STR, listener, 64) F(S, STR, message_id, 255)
#define RECIPIENT_1_FIELDS(F, S) \
    F(S, STR, address, 320)      \
    F(S, STR, original, 320)     \
    F(S, STR, orcpt, 500) F(S, U32, notify, 0) F(S, STR, transport, 32) F(S, STR, nexthop, 1024)

static const struct field envelope_1_fields[] = {ENVELOPE_1_FIELDS(FIELD_ROW, envelope) FIELD_END};
static const struct field recipient_1_fields[] = {
    RECIPIENT_1_FIELDS(FIELD_ROW, recipient) FIELD_END};
static const struct record envelope_1_record = {
    "envelope", envelope_1_fields, ARRAY_LEN(envelope_1_fields) - 1, sizeof(struct envelope)};
static const struct record recipient_1_record = {
    "recipient", recipient_1_fields, ARRAY_LEN(recipient_1_fields) - 1, sizeof(struct recipient)};

static const char word_before[] = "veredus spool format ";

const struct record *format_envelope(unsigned format)
{
    return format == 1 ? &envelope_1_record : &envelope_record;
}

const struct record *format_recipient(unsigned format)
{
    return format == 1 ? &recipient_1_record : &recipient_record;
}

bool format_lacks(unsigned format, const struct envelope *e)
{
    return format == 1 && (e->hold_until > 0 || e->hold.n > 0);
}

int format_convert(
    struct slice packed, const struct record *today, const struct record *then, struct buf *out)
{
    struct reader r = reader_of(packed);
    char *value = xcalloc(1, MAX(today->size, then->size));
    int rc = OK;
    while (rc == OK && r.rest.n > 0) {
        rc = record_get(&r, today, value) == OK ? OK : ERR_CORRUPT;
        if (rc == OK)
            rc = record_put(out, then, value);
    }
    free(value);
    return rc;
}

int format_read(struct disk *disk, unsigned *format, struct error *err)
{
    char text[64] = "";
    uint64_t number;
    *format = 0;
    int fd = disk->ops->open(disk, "format", DISK_READ);
    if (fd == -ENOENT)
        return OK;
    if (fd < 0)
        return disk_error(err, fd, "cannot open format, the file that names the spool's format");
    ssize_t got = disk->ops->read(disk, fd, text, sizeof(text) - 1, 0);
    disk->ops->close(disk, fd);
    if (got < 0)
        return disk_error(
            err, (int)got, "cannot read format, the file that names the spool's format");
    struct slice line = {text, (size_t)got};
    line = slice_cut(&line, '\n');
    if (!slice_starts(line, word_before) ||
        slice_u64(slice_from_index(line, strlen(word_before)), 1, UINT32_MAX, &number) != OK)
        return error_set(err, ERR_CORRUPT, "the file format of the spool does not name a format");
    if (number > SPOOL_FORMAT)
        return error_set(err, ERR_VERSION,
            "the spool is of format %" PRIu64
            " (file format), written by a newer release; this one reads up to %d",
            number, SPOOL_FORMAT);
    *format = (unsigned)number;
    return OK;
}

int format_write(struct disk *disk, unsigned format, struct error *err)
{
    char text[64];
    int n = snprintf(text, sizeof(text), "%s%u\n", word_before, format);
    int rc = disk_replace(disk, "format", slice_from(text, (size_t)n));
    return rc < 0
               ? disk_error(err, rc, "cannot write format, the file that names the spool's format")
               : OK;
}
