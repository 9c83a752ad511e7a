/* Records as a captured process could send them, for every conversation and both receivers. */
#include "libmail/proto/auth.h"
#include "libmail/proto/deliver.h"
#include "libmail/proto/inject.h"
#include "libmail/proto/notify.h"
#include "libmail/proto/quota.h"
#include "libmail/proto/room.h"
#include "libmail/proto/queue.h"
#include "libmail/proto/route.h"
#include "libmail/proto/spawn.h"
#include "libutil/proto/ctl.h"
#include "libutil/proto/dns.h"
#include "libutil/proto/master.h"
#include "libutil/proto/sign.h"

static const struct ipc_proto *const protos[] = {&auth_proto, &deliver_proto, &inject_proto,
    &notify_proto, &queue_proto, &quota_proto, &room_proto, &route_proto, &share_proto, &spawn_proto, &ctl_proto, &dns_proto, &master_proto,
    &sign_proto};
static const struct record *const records[] = {&envelope_record, &recipient_record, &outcome_record,
    &report_recipient_record, &queue_entry_record, &queue_recipient_record, &dns_record_record,
    &master_child_record, &ctl_process_record};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);

/* Whatever decodes must encode to the same bytes: there is one form of every message. */
static void round_trip(const struct ipc_proto *proto, const struct ipc_in *in, struct slice record)
{
    struct buf again;
    buf_init(&again, IPC_MAX_RECORD);
    if (ipc_encode(proto, in->type, in->id, in->trace, in->msg, &again) != OK ||
        !slice_eq(buf_slice(&again), record))
        abort();
    buf_reset(&again);
    ipc_print(proto, in, &again);
    buf_clear(&again);
}

static void unpack(struct slice packed)
{
    for (size_t i = 0; i < ARRAY_LEN(records); i++) {
        struct reader r = reader_of(packed);
        char value[1024];
        if (records[i]->size > sizeof(value))
            abort();
        while (r.rest.n && record_get(&r, records[i], value) == OK)
            continue;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > IPC_MAX_RECORD)
        return 0;
    const struct ipc_proto *proto = protos[data[0] % ARRAY_LEN(protos)];
    enum ipc_side side = data[1] & 1 ? IPC_CLIENT : IPC_SERVER;
    struct slice record = slice_from(data + 2, size - 2);
    struct ipc_in in;
    struct error err;
    void *value = xcalloc(1, ipc_proto_max_size(proto));
    if (ipc_decode(proto, side, record, data[1] & 2, &in, value, &err) == OK && in.type != 0)
        round_trip(proto, &in, record);
    unpack(record);
    free(value);
    return 0;
}

/* Starts from well-formed messages: the seeds come from the tables themselves. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    if (seed % 16 != 0)
        return LLVMFuzzerMutate(data, size, max);
    const struct ipc_proto *proto = protos[seed / 16 % ARRAY_LEN(protos)];
    unsigned type = 1 + seed / 256 % (unsigned)proto->nmsgs;
    struct buf b;
    buf_init(&b, IPC_MAX_RECORD);
    if (ipc_seed(proto, type, &b) == OK && buf_len(&b) + 2 <= max) {
        data[0] = (uint8_t)(seed / 16 % ARRAY_LEN(protos));
        data[1] = (uint8_t)((proto->msgs[type - 1].from == IPC_CLIENT ? 0 : 1) |
                            (proto->msgs[type - 1].fd == IPC_WITH_FD ? 2 : 0));
        memcpy(data + 2, b.data + b.off, buf_len(&b));
        size = buf_len(&b) + 2;
    }
    buf_clear(&b);
    return size;
}
