/* Figures of the queue: by state, by age, by domain of recipients or senders. */
#pragma once

#include "libmail/proto/queue.h"
#include "libutil/map.h"

/* Less than 5, 10, 20 ... 1280 minutes old, and older. */
enum { QUEUE_AGES = 10 };

struct queue_tally {
    uint64_t messages, recipients, active, deferred, held, damaged; /* the latter are messages */
    uint64_t ages[QUEUE_AGES];
};

struct queue_summary {
    int64_t now, oldest; /* ms since 1970 */
    uint64_t bytes;
    bool by_sender;
    struct queue_tally total;
    struct map domains; /* domain -> struct queue_domain */
};

void queue_summary_init(struct queue_summary *, int64_t now, bool by_sender);
void queue_summary_add(struct queue_summary *, const struct queue_share *);
/* The domains with the most messages, at most `rows` of them. */
void queue_summary_print(const struct queue_summary *, size_t rows);
void queue_summary_json(const struct queue_summary *, struct buf *out);
void queue_summary_clear(struct queue_summary *);
