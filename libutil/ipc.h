/*
 * Conversations between processes: SOCK_SEQPACKET, records of at most 64 KiB, messages declared by
 * one table per conversation. A record is one message and at most one descriptor, or several
 * messages without any, one behind another, where both ends have a loop (ipc_pack).
 *
 *     #define ROUTE_CHECK_FIELDS(F, S) F(S, STR, address, 320)
 *     #define ROUTE_VERDICT_FIELDS(F, S) F(S, U32, code, 0)
 *     #define ROUTE_PROTO(M)                                                              \
 *         M(route_check, 1, IPC_CLIENT, 2, 20000, IPC_NO_FD, ROUTE_CHECK_FIELDS)          \
 *         M(route_verdict, 2, IPC_SERVER, 0, 0, IPC_NO_FD, ROUTE_VERDICT_FIELDS)
 *     IPC_DECLARE(route, ROUTE_PROTO)          // in the header: structs, enum, route_proto
 *     IPC_DEFINE(route, ROUTE_PROTO)           // in one .c file
 *
 * Columns: struct name, type number (from 1, dense), who may send it, type of the reply (0 for
 * a reply or a one-way message), deadline in ms, whether a descriptor travels with it, fields.
 * Enumerators are struct name + _type.
 *
 * The first record each way is a hash of the table: two builds that disagree part at once.
 * Decoding is total. An unknown type, a message its sender may not send, a reply nobody waits
 * for or of the wrong type, short, long or trailing bytes, a missing or surplus descriptor:
 * the channel is closed (`on_close` with the reason); the receiver lives on.
 */
#pragma once

#include "libutil/arena.h"
#include "libutil/error.h"
#include "libutil/field.h"
#include "libutil/loop.h"

enum ipc_side { IPC_CLIENT = 1, IPC_SERVER = 2, IPC_EITHER = 3 };
enum { IPC_NO_FD = 0, IPC_WITH_FD = 1, IPC_MAY_FD = 2 };
enum { IPC_MAX_RECORD = 65536, IPC_MAX_PAYLOAD = IPC_MAX_RECORD - 32 };

struct ipc_msg {
    struct record rec;
    uint16_t type;
    uint16_t reply;
    uint8_t from;
    uint8_t fd;
    uint32_t deadline_ms;
};

struct ipc_proto {
    const char *name;
    const struct ipc_msg *msgs; /* indexed by type - 1 */
    size_t nmsgs;
};

#define IPC_STRUCT_(S, num, side, reply, ms, fd, FIELDS) \
    struct S {                                           \
        FIELDS(FIELD_MEMBER, S)                          \
    };
#define IPC_ENUM_(S, num, side, reply, ms, fd, FIELDS) S##_type = (num),
#define IPC_FIELDS_(S, num, side, reply, ms, fd, FIELDS) \
    static const struct field S##_ipc_fields[] = {FIELDS(FIELD_ROW, S) FIELD_END};
#define IPC_ROW_(S, num, side, reply, ms, fd, FIELDS)                                          \
    [(num)-1] = {{#S, S##_ipc_fields, ARRAY_LEN(S##_ipc_fields) - 1, sizeof(struct S)}, (num), \
        (reply), (side), (fd), (ms)},

#define IPC_DECLARE(proto, TABLE) \
    TABLE(IPC_STRUCT_)            \
    enum { TABLE(IPC_ENUM_) };    \
    extern const struct ipc_proto proto##_proto;
#define IPC_DEFINE(proto, TABLE)                                    \
    TABLE(IPC_FIELDS_)                                              \
    static const struct ipc_msg proto##_msgs[] = {TABLE(IPC_ROW_)}; \
    const struct ipc_proto proto##_proto = {#proto, proto##_msgs, ARRAY_LEN(proto##_msgs)};

/* A decoded message. Its slices live until the handler returns. */
struct ipc_in {
    uint16_t type;
    uint32_t id;    /* request id; a reply carries its request's */
    uint64_t trace; /* session or message id; 0 for none */
    const void *msg;
    int fd; /* -1, or a descriptor that the handler may take by setting this to -1 */
};

struct ipc;

struct ipc_ops {
    /* A message the peer began (not a reply). */
    void (*on_message)(struct ipc *, struct ipc_in *, void *arg);
    /* The channel is dead and will be freed after this returns; all pending calls have been
     * answered with NULL. err->code is ERR_CLOSED for an ordinary end. May be NULL. */
    void (*on_close)(struct ipc *, const struct error *, void *arg);
};

/* The answer to a call: in->msg has the declared reply type. `in` is NULL when the deadline
 * passed, the peer died or broke the rules: treat as a temporary failure. */
typedef void ipc_reply_fn(struct ipc_in *in, void *arg);

/* Takes fd. The channel frees itself after on_close, or when ipc_free is called (no callbacks
 * then, except NULL replies to pending calls). */
struct ipc *ipc_new(struct loop *, int fd, const struct ipc_proto *, enum ipc_side,
    const struct ipc_ops *, void *arg);
void ipc_free(struct ipc *);
/* The other end has a loop too: messages of one turn may share a record. The kernel lets only a
 * few records wait in a socket (net.unix.max_dgram_qlen), and each wakes the reader. */
void ipc_pack(struct ipc *);

/* Sends a request; cb is called exactly once unless ipc_cancel comes first. Never calls cb
 * before returning. Returns the request id. fd (or -1) is duplicated by the kernel: the caller
 * keeps its own. A message over a limit fails as if the peer had died (and is logged). */
uint32_t ipc_call(struct ipc *, unsigned type, uint64_t trace, const void *msg, int fd,
    ipc_reply_fn *cb, void *arg);
/* Forgets a call: its answer will be dropped. Unknown ids are ignored. */
void ipc_cancel(struct ipc *, uint32_t id);
/* Calls that wait for their answer. */
size_t ipc_pending(const struct ipc *);
/* A one-way message. Returns 0, ERR_LIMIT or ERR_CLOSED. */
int ipc_send(struct ipc *, unsigned type, uint64_t trace, const void *msg, int fd);
/* Sends now what would be sent at the end of this turn of the loop: before a process ends. */
void ipc_flush(struct ipc *);
/* Answers the request `id`. */
int ipc_reply(struct ipc *, uint32_t id, uint64_t trace, unsigned type, const void *msg, int fd);

/* The blocking end, for processes without a loop (sessions, ctl). */
struct ipc_sync {
    int fd;
    enum ipc_side side;
    const struct ipc_proto *proto;
    uint32_t next_id;
    char *rx; /* holds the last received message */
    void *decoded;
};

/* Takes fd, exchanges hashes. */
int ipc_sync_open(
    struct ipc_sync *, int fd, const struct ipc_proto *, enum ipc_side, struct error *) MUST_USE;
void ipc_sync_close(struct ipc_sync *);
/* Sends and waits for the reply, at most its deadline; *in is valid until the next call.
 * One-way messages that arrive meanwhile are dropped. */
int ipc_sync_call(struct ipc_sync *, unsigned type, uint64_t trace, const void *msg, int fd,
    struct ipc_in *in, struct error *) MUST_USE;
int ipc_sync_send(struct ipc_sync *, unsigned type, uint64_t trace, uint32_t id, const void *msg,
    int fd, struct error *) MUST_USE;
/* Waits up to timeout_ms (-1: for ever) for any message. ERR_TIMEOUT, ERR_CLOSED. */
int ipc_sync_receive(struct ipc_sync *, int timeout_ms, struct ipc_in *in, struct error *) MUST_USE;

/* The codec by itself, for tests, fuzzing and captures. */

/* Cuts the first message off a record. */
struct slice ipc_cut(struct slice *rest);
/* Decodes one message as received by a peer of `receiver`. value must have room for the largest
 * struct (ipc_proto_max_size). */
int ipc_decode(const struct ipc_proto *, enum ipc_side receiver, struct slice record, bool has_fd,
    struct ipc_in *in, void *value, struct error *) MUST_USE;
int ipc_encode(const struct ipc_proto *, unsigned type, uint32_t id, uint64_t trace,
    const void *msg, struct buf *out) MUST_USE;
size_t ipc_proto_max_size(const struct ipc_proto *);
/* One logfmt line, secrets masked. */
void ipc_print(const struct ipc_proto *, const struct ipc_in *in, struct buf *out);
/* A well-formed record of this type with every field filled, as a fuzz seed. */
int ipc_seed(const struct ipc_proto *, unsigned type, struct buf *out) MUST_USE;
