#include "libutil/ipc.h"

#include "libutil/log.h"

/*
 * Header, 24 bytes, little endian: magic and layout (4), type (2), flags (2), payload length
 * (4), request id (4), trace id (8). Type 0 is the greeting that carries the table's hash.
 */
enum { HEADER = 24, MAGIC = 0x31445256 /* "VRD1" */ };

static const struct ipc_msg *find(const struct ipc_proto *proto, unsigned type)
{
    return type >= 1 && type <= proto->nmsgs ? &proto->msgs[type - 1] : NULL;
}

static uint64_t proto_hash(const struct ipc_proto *proto)
{
    uint64_t h = slice_hash(slice_of(proto->name)) + HEADER;
    for (size_t i = 0; i < proto->nmsgs; i++) {
        const struct ipc_msg *m = &proto->msgs[i];
        h = record_hash(&m->rec, h * 31 + m->type);
        h = h * 31 + (uint64_t)(m->reply << 8 | m->from << 4 | m->fd);
    }
    return h;
}

size_t ipc_proto_max_size(const struct ipc_proto *proto)
{
    size_t max = sizeof(uint64_t);
    for (size_t i = 0; i < proto->nmsgs; i++)
        max = MAX(max, proto->msgs[i].rec.size);
    return max;
}

static int put_header(struct buf *out, unsigned type, uint32_t length, uint32_t id, uint64_t trace)
{
    buf_u32(out, MAGIC);
    buf_u16(out, (uint16_t)type);
    buf_u16(out, 0);
    buf_u32(out, length);
    buf_u32(out, id);
    return buf_u64(out, trace);
}

int ipc_encode(const struct ipc_proto *proto, unsigned type, uint32_t id, uint64_t trace,
    const void *msg, struct buf *out)
{
    if (type == 0) {
        int rc = put_header(out, 0, 8, id, trace);
        return rc ? rc : buf_u64(out, proto_hash(proto));
    }
    const struct ipc_msg *m = find(proto, type);
    assert(m);
    size_t start = buf_len(out);
    int rc = put_header(out, type, 0, id, trace);
    if (rc == OK)
        rc = record_put(out, &m->rec, msg);
    if (rc || out->failed)
        return rc ? rc : ERR_LIMIT;
    size_t length = buf_len(out) - start - HEADER;
    if (length > IPC_MAX_PAYLOAD)
        return ERR_LIMIT;
    char *at = out->data + out->off + start + 8;
    for (int i = 0; i < 4; i++)
        at[i] = (char)(length >> (8 * i) & 0xff);
    return OK;
}

static int check_greeting(const struct ipc_proto *proto, struct reader *r, struct error *err)
{
    uint64_t hash = get_u64(r);
    if (!reader_done(r))
        return error_set(err, ERR_SYNTAX, "%s: malformed greeting", proto->name);
    if (hash != proto_hash(proto))
        return error_set(err, ERR_VERSION,
            "%s: the other program is from another build; run `veredus reload`", proto->name);
    return OK;
}

struct slice ipc_cut(struct slice *rest)
{
    struct reader r = reader_of(*rest);
    get_u64(&r); /* magic, type, flags */
    size_t n = (size_t)get_u32(&r) + HEADER;
    struct slice message = slice_first(*rest, r.bad ? rest->n : n);
    *rest = slice_from_index(*rest, message.n);
    return message;
}

int ipc_decode(const struct ipc_proto *proto, enum ipc_side receiver, struct slice record,
    bool has_fd, struct ipc_in *in, void *value, struct error *err)
{
    struct reader r = reader_of(record);
    uint32_t magic = get_u32(&r);
    uint16_t type = get_u16(&r), flags = get_u16(&r);
    uint32_t length = get_u32(&r), id = get_u32(&r);
    uint64_t trace = get_u64(&r);
    if (r.bad || magic != MAGIC || flags != 0 || length != r.rest.n)
        return error_set(err, ERR_SYNTAX, "%s: malformed header", proto->name);
    *in = (struct ipc_in){.type = type, .id = id, .trace = trace, .msg = value, .fd = -1};
    if (type == 0)
        return has_fd ? error_set(err, ERR_SYNTAX, "%s: descriptor with greeting", proto->name)
                      : check_greeting(proto, &r, err);
    const struct ipc_msg *m = find(proto, type);
    if (!m)
        return error_set(err, ERR_SYNTAX, "%s: unknown message type %u", proto->name, type);
    if (m->from == (uint8_t)receiver)
        return error_set(
            err, ERR_DENIED, "%s: %s may not come from the other side", proto->name, m->rec.name);
    if ((m->fd == IPC_WITH_FD && !has_fd) || (m->fd == IPC_NO_FD && has_fd))
        return error_set(err, ERR_SYNTAX, "%s: %s with%s descriptor", proto->name, m->rec.name,
            has_fd ? " a surplus" : "out its");
    if (record_get(&r, &m->rec, value) != OK || !reader_done(&r))
        return error_set(err, ERR_SYNTAX, "%s: malformed %s", proto->name, m->rec.name);
    return OK;
}

void ipc_print(const struct ipc_proto *proto, const struct ipc_in *in, struct buf *out)
{
    const struct ipc_msg *m = find(proto, in->type);
    char trace[ID_TEXT];
    id_print(in->trace, trace);
    buf_printf(out, "ipc=%s msg=%s id=%u", proto->name, m ? m->rec.name : "greeting", in->id);
    if (in->trace)
        buf_printf(out, " trace=%s", trace);
    if (in->fd >= 0)
        buf_puts(out, " fd=yes");
    if (m && in->msg)
        record_print(out, &m->rec, in->msg, true);
}

int ipc_seed(const struct ipc_proto *proto, unsigned type, struct buf *out)
{
    const struct ipc_msg *m = find(proto, type);
    if (!m)
        return ERR_NOT_FOUND;
    char *value = xcalloc(1, MAX(m->rec.size, sizeof(uint64_t)));
    for (size_t i = 0; i < m->rec.nfields; i++) {
        const struct field *f = &m->rec.fields[i];
        void *at = value + f->offset;
        if (f->kind == FIELD_U32)
            *(uint32_t *)at = (uint32_t)i + 1;
        else if (f->kind == FIELD_U64 || f->kind == FIELD_I64)
            *(uint64_t *)at = i + 1;
        else if (f->kind == FIELD_BOOL)
            *(bool *)at = true;
        else
            *(struct slice *)at = slice_first(slice_of(f->name), f->max);
    }
    int rc = ipc_encode(proto, type, 1, 2, value, out);
    free(value);
    return rc;
}
