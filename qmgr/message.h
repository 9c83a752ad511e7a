/*
 * A queued message in memory. The small part always exists; content (envelope, recipients, body)
 * only while there is something to do with it. Between attempts a message is parked and its
 * content is dropped: then it costs sizeof(struct message).
 *
 *     committing -> loaded -> (attempts) -> settled: finished, or parked and unloaded
 *                     ^                                        |
 *                     +------------------ due -----------------+
 */
#pragma once

#include "libmail/envelope.h"
#include "libmail/proto/queue.h"
#include "libutil/arena.h"
#include "libutil/heap.h"
#include "libutil/list.h"
#include "libutil/log.h"
#include "qmgr/spool.h"

struct forwarding;
struct report;

struct rcpt {
    struct recipient to;           /* slices into the content */
    struct parked_state st;        /* slices into text */
    char *text;                    /* dsn, text, mta, one after the other; free(3) */
    uint64_t known;                /* digest of the state that the parked file has; 0: none */
    struct forwarding *forwarding; /* who shall take its place (qmgr/forward.c) */
    bool busy;                     /* queued in the scheduler, under way, or waiting for a sync */
};

struct roster;

/* A parked message with very many recipients has only some of them here: `roster` tells of the
 * others, and the place of a recipient in rcpts is not its index. */
struct content {
    struct envelope envelope;
    struct slice envelope_raw; /* encoded */
    struct slice body;         /* p == NULL: in a file */
    struct rcpt *rcpts;
    size_t count, cap;
    size_t counted;        /* of count, in qmgr's sum of recipients in memory */
    bool delay_told;       /* nobody in the file is to be told of a delay now */
    size_t total;          /* recipients of the message */
    struct roster *roster; /* NULL: all are here */
    struct buf record;     /* young: the ACCEPT record that all slices point into */
    struct arena arena;    /* parked: what was read from the file */
    struct buf encoded;    /* parked: envelope_raw */
};

struct message {
    uint64_t qid, serial, size;
    uint64_t generation; /* of the log segment; 0 when not in the log */
    struct list all;
    struct list fresh;    /* until its first delivery (qmgr/inject.c) */
    struct list young;    /* while it is in the log */
    struct heap_node due; /* monotonic ms; waiting, or a step to be repeated */
    int64_t due_wall;     /* ms since 1970, for listings */
    uint64_t parked_end;  /* where the next update goes */
    struct {
        uint64_t from, to; /* of its file: updates that are damaged; to 0: none, as last read */
    } rotten;
    struct content *content;
    struct list jobs;       /* in the scheduler */
    struct list expansions; /* that wait for the disk (qmgr/expand.c) */
    struct log log;
    size_t busy;      /* recipients with busy set */
    uint32_t changes; /* counts changes of recipients' states */
    uint32_t saved;   /* the value of `changes` the disk knows */
    uint32_t delivered, bounced;
    uint32_t reports;         /* accepted ones about it (qmgr/report.c) */
    struct report *reporting; /* one is under way */
    struct {                  /* the last that was accepted; a file with a lower number of them */
        uint32_t serial, kind, group; /* does not have what it told */
    } told;
    int64_t failed_since; /* ms since 1970: of the first failure not reported yet; 0: none */
    bool committing, parked, held, warned, deleted;
    bool moving;      /* a PARK, FORGET or REMOVE is under way */
    bool damaged;     /* its file cannot be read */
    bool flush;       /* all recipients are due now */
    bool routing;     /* its recipients are routed again; moving is set too */
    bool loading;     /* beside the loop (qmgr/large.c); moving is set too */
    char *giving_up;  /* all that wait are returned to the sender, portion by portion, with this
                       * reason; held is set until they are. NULL: they are not; free(3) */
    uint32_t updates; /* UPDATE jobs under way */
    uint32_t agent_failures;
    int64_t report_after; /* ms since 1970: the bounce agent is not asked again before */
    char big[LOGREC_BIG_NAME];
    char crc[9];     /* checksum of the body for the parked file, or empty */
    unsigned format; /* of the spool; 0: the newest */
};

struct message *message_new(uint64_t qid, uint64_t size);
void message_free(struct message *);
void message_unload(struct message *);
/* Forgets whom a delivery named (qmgr/forward.c). */
void forward_drop(struct rcpt *);
/* Expansions that will not be begun any more (qmgr/expand.c). */
void message_drop_expansions(struct message *);

enum { ENVELOPE_BYTES = 4096 };
/* The envelope that goes along with this recipient, encoded; made in space where it is not the
 * message's own. */
struct slice message_envelope(const struct message *, const struct recipient *, struct buf *space);
/* Fills content from an ACCEPT record, which is taken. ERR_CORRUPT when malformed. */
int message_load_record(struct message *, struct buf *record, struct error *) MUST_USE;
/* What was found in the log at start: the record, which is taken, and what happened since. */
int message_load_found(struct message *, struct spool_found *, struct error *) MUST_USE;
/* Appends recipients that wait (packed: encoded struct recipient; copied). ERR_CORRUPT, and nothing
 * is changed, when malformed. */
int message_add_recipients(struct message *, struct slice packed) MUST_USE;
/* Takes the last ones away again, down to this many. */
void message_cut_recipients(struct message *, size_t known);
/* Fills content from the parked file. */
int message_load_parked(struct message *, struct disk *, struct error *) MUST_USE;
/* The same when what is behind the body is no longer than `most`. ERR_LIMIT: it is. */
int message_load_small(struct message *, size_t most, struct disk *, struct error *) MUST_USE;
/* What a copy, a message of its own made for that, has loaded from the same file, which has not
 * changed since. */
void message_adopt(struct message *, struct message *copy);
/* Everything behind the body of the parked file. ERR_LIMIT: it does not fit into the buffer; or
 * (cut) only the end of it is read then. */
int message_read_trailer(
    struct message *, bool cut, struct disk *, struct buf *out, struct error *) MUST_USE;
/* The body into b (young or parked, at most b->max bytes). */
int message_read_body(
    struct message *, struct disk *, size_t from, size_t n, struct buf *b) MUST_USE;
/* Compares the body, where it is a file, with its checksum. ERR_CORRUPT: damaged. */
int message_check_body(struct message *, struct disk *, struct error *) MUST_USE;
/* A descriptor from which exactly the first `size` bytes are the body; -errno. */
int message_open_body(struct message *, struct disk *);

/* An empty content, for what fills it. */
struct content *content_new(void);
void content_free(struct content *);
/* One more recipient, waiting; its index is the next of the message. */
void content_append(struct content *, const struct recipient *);
/* The parked file has this state. */
void rcpt_set_known(struct rcpt *);
/* Sets what the last attempt said; strings are copied. */
void rcpt_note(
    struct rcpt *, uint32_t status, struct slice dsn, struct slice text, struct slice mta);
/* What a listing says; seen is the message's content, or NULL when it cannot be read. */
void message_describe(const struct message *, const struct content *seen, struct queue_entry *);
/* Recipients not RCPT_DONE, here or not. */
size_t message_open_count(const struct message *);
/* The whole first block / an update with the states that have changed since the last one. */
int message_put_parked(struct message *, struct buf *) MUST_USE;
int message_put_update(struct message *, struct buf *) MUST_USE;
/* The same, which also adds the recipients from place `known` on. */
int message_put_growth(struct message *, size_t known, struct buf *) MUST_USE;
/* A PARK job went well: it is not in the log any more. saved: the value of `changes` the file knows. */
void message_parked(struct message *, const struct spool_job *, uint32_t saved);
/* The last update did not reach the disk: the next has all states. */
void message_update_failed(struct message *);
