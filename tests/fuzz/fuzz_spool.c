/* What the queue reads back from its disk: log records, parked files, their names. */
#include <stddef.h>
#include <stdint.h>

#include "qmgr/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void as_record(struct slice s)
{
    struct logrec rec;
    struct logrec_accept accept;
    if (logrec_decode(s, &rec) == OK && rec.total > s.n)
        abort();
    /* Without the checksum, which no fuzzer finds. */
    (void)logrec_get_accept(s, SPOOL_FORMAT, &accept);
    struct error err;
    struct message *m = message_new(1, 0);
    struct buf b;
    buf_init(&b, 1 << 20);
    if (buf_put(&b, s) == OK && message_load_record(m, &b, &err) == OK && !m->content)
        abort();
    buf_clear(&b);
    message_free(m);
}

static void as_parked(struct slice s)
{
    struct arena arena;
    struct parked p;
    struct error err;
    arena_init(&arena, 1 << 20);
    if (parked_parse(s, 0, &arena, &p, &err) == OK) {
        struct buf again;
        buf_init(&again, 1 << 22);
        if (p.end > s.n)
            abort();
        /* What was read can be written and read again. */
        if (parked_put(&again, &p) == OK &&
            parked_parse(buf_slice(&again), 0, &arena, &p, &err) != OK && err.code != ERR_LIMIT)
            abort();
        buf_clear(&again);
    }
    arena_reset(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice s = {(const char *)data, size};
    char name[64];
    uint64_t qid, length;
    as_record(s);
    as_parked(s);
    if (slice_to_cstr(s, name, sizeof(name)))
        (void)parked_parse_name(name, &qid, &length);
    return 0;
}
