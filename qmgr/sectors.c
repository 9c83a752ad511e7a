#include "qmgr/sectors.h"

#include <stdlib.h>
#include <string.h>

#include "libutil/buf.h"
#include "libutil/crc32c.h"

enum { CHUNK = 512, LOOK_AT = 64, AT_FOLLOW = 8, AT_CRC = 12 };

static void put_le(char *to, uint64_t v, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        to[i] = (char)(v >> (8 * i) & 0xff);
}

uint32_t sectors_of(size_t bytes)
{
    return (uint32_t)((bytes + SECTOR_ROOM - 1) / SECTOR_ROOM) + 1;
}

static uint32_t checksum(const char *content, const char *stamp, uint32_t place)
{
    char at[4];
    put_le(at, place, sizeof(at));
    uint32_t crc = crc32c(0, slice_from(content, SECTOR_ROOM));
    return crc32c(crc32c(crc, slice_from(stamp, AT_CRC)), slice_from(at, sizeof(at)));
}

static void seal(char *sector, uint64_t commit, uint32_t follow, uint32_t place)
{
    char *stamp = sector + SECTOR_ROOM;
    put_le(stamp, commit, 8);
    put_le(stamp + AT_FOLLOW, follow, 4);
    put_le(stamp + AT_CRC, checksum(sector, stamp, place), 4);
}

void sector_fill(char sector[SECTOR], struct slice content, uint64_t commit, uint32_t place)
{
    memset(sector, 0, SECTOR);
    memcpy(sector, content.p, MIN(content.n, (size_t)SECTOR_ROOM));
    seal(sector, commit, 0, place);
}

/* A commit on its way into sectors. */
struct source {
    const struct iovec *iov;
    int n;
    size_t used; /* of the first */
};

static void take(struct source *from, char *to, size_t room)
{
    while (room > 0 && from->n > 0) {
        size_t part = MIN(room, from->iov->iov_len - from->used);
        memcpy(to, (const char *)from->iov->iov_base + from->used, part);
        to += part;
        room -= part;
        from->used += part;
        if (from->used == from->iov->iov_len) {
            from->iov++;
            from->n--;
            from->used = 0;
        }
    }
    memset(to, 0, room);
}

int sectors_write(struct disk *disk, int fd, int64_t offset, const struct iovec *iov, int n,
    uint64_t first, uint64_t last)
{
    size_t bytes = 0;
    for (int i = 0; i < n; i++)
        bytes += iov[i].iov_len;
    uint32_t count = sectors_of(bytes);
    struct source from = {iov, n, 0};
    char *chunk = xaligned(DISK_SECTOR, (size_t)MIN(count, (uint32_t)CHUNK) * SECTOR);
    int rc = 0;
    for (uint32_t done = 0; rc == 0 && done < count;) {
        uint32_t part = MIN(count - done, (uint32_t)CHUNK);
        for (uint32_t i = 0; i < part; i++, done++) {
            char *sector = chunk + (size_t)i * SECTOR;
            take(&from, sector, SECTOR_ROOM);
            if (done == count - 1)
                put_le(sector, last, 8);
            seal(sector, first, count - 1 - done, (uint32_t)(offset / SECTOR) + i);
        }
        struct iovec out = {chunk, (size_t)part * SECTOR};
        rc = disk->ops->write(disk, fd, &out, 1, offset);
        offset += (int64_t)out.iov_len;
    }
    free(chunk);
    return rc;
}

enum state { OLD, SOUND, DAMAGED };

struct stamp {
    uint64_t commit;
    uint32_t follow;
};

/* OLD: never written to, or by an earlier use of the segment. */
static enum state look(
    const char *content, const char *stamp, uint32_t place, uint64_t generation, struct stamp *out)
{
    static const char nothing[SECTOR_ROOM];
    struct reader r = reader_of(slice_from(stamp, SECTOR_STAMP));
    out->commit = get_u64(&r);
    out->follow = get_u32(&r);
    if (get_u32(&r) == checksum(content, stamp, place))
        return out->commit < generation ? OLD : SOUND;
    return memcmp(stamp, nothing, SECTOR_STAMP) == 0 && memcmp(content, nothing, SECTOR_ROOM) == 0
               ? OLD
               : DAMAGED;
}

bool sectors_stamped(struct slice raw)
{
    struct stamp ignored;
    for (uint32_t i = 0; i < LOOK_AT && (i + 1) * (size_t)SECTOR <= raw.n; i++) {
        const char *sector = raw.p + i * (size_t)SECTOR;
        if (look(sector, sector + SECTOR_ROOM, i, 0, &ignored) == SOUND)
            return true;
    }
    return false;
}

void sectors_strip(struct sectors *s)
{
    s->count = s->n / SECTOR;
    s->stamps = xcalloc(s->count + 1, SECTOR_STAMP);
    for (size_t i = 0; i < s->count; i++) {
        memcpy(s->stamps + i * SECTOR_STAMP, s->data + i * SECTOR + SECTOR_ROOM, SECTOR_STAMP);
        memmove(s->data + i * SECTOR_ROOM, s->data + i * SECTOR, SECTOR_ROOM);
    }
    s->n = s->count * SECTOR_ROOM;
}

void sectors_clear(struct sectors *s)
{
    free(s->data);
    free(s->stamps);
    *s = (struct sectors){0};
}

size_t sectors_raw(const struct sectors *s, size_t at)
{
    return s->stamps ? at / SECTOR_ROOM * SECTOR + at % SECTOR_ROOM : at;
}

size_t sectors_next(size_t at)
{
    return (at + SECTOR_ROOM - 1) / SECTOR_ROOM * SECTOR_ROOM + SECTOR_ROOM;
}

static enum state state_of(
    const struct sectors *s, size_t place, uint64_t generation, struct stamp *out)
{
    return look(s->data + place * SECTOR_ROOM, s->stamps + place * SECTOR_STAMP, (uint32_t)place,
        generation, out);
}

bool sectors_damaged(const struct sectors *s, size_t from, size_t end)
{
    struct stamp ignored;
    for (size_t i = from; i < MIN(end, s->count); i++)
        if (state_of(s, i, 0, &ignored) == DAMAGED)
            return true;
    return false;
}

uint64_t sectors_claim(const struct sectors *s, size_t from, uint64_t generation, uint64_t good)
{
    struct stamp last = {0}, at;
    size_t begin = from / SECTOR_ROOM, end = begin, place = 0;
    for (; end < s->count; end++) {
        enum state state = state_of(s, end, generation, &at);
        if (state == OLD)
            break;
        if (state == SOUND) {
            last = at;
            place = end;
        }
    }
    if (last.commit == 0)
        return 0; /* a first sector that a failing write left half way, or nothing at all */
    if (place + last.follow >= end)
        return last.commit - 1; /* it was cut off; those before it had been durable */
    if (last.follow > 0)        /* the closing sector itself is damaged, and perhaps others */
        return sectors_damaged(s, begin, place + last.follow) ? MAX(last.commit, good + 1)
                                                              : last.commit;
    struct reader r = reader_of(slice_from(s->data + place * SECTOR_ROOM, SECTOR_ROOM));
    return get_u64(&r);
}
