/* Figures of the queue: by state, by age, by recipient domain. */
#pragma once

#include "libmail/proto/queue.h"
#include "libutil/map.h"

enum { QUEUE_AGES = 6 };

struct queue_summary {
    int64_t now, oldest; /* ms since 1970 */
    uint64_t messages, bytes, active, deferred, held, damaged;
    uint64_t ages[QUEUE_AGES];
    struct map domains; /* domain -> struct queue_domain */
};

void queue_summary_init(struct queue_summary *, int64_t now);
void queue_summary_add(struct queue_summary *, const struct queue_entry *);
void queue_summary_print(const struct queue_summary *, bool as_json);
void queue_summary_clear(struct queue_summary *);
