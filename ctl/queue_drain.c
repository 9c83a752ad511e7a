/*
 * veredus queue drain: hands what waits to another node by SMTP. qmgr gives every waiting recipient
 * the node as its next hop; envelope and DSN parameters go along as with any relaying. Then this
 * waits until each message has gone or the node has refused it, which leaves it in the queue.
 */
#include <inttypes.h>
#include <time.h>
#include <unistd.h>

#include "ctl/json.h"
#include "ctl/queue.h"
#include "libutil/log.h"
#include "libutil/net.h"

enum { FILTER_MAX = 1024, POLL_MS = 200, PROGRESS_EVERY_MS = 2000 };

struct drain {
    struct ctl *c;
    struct ipc_sync s;
    char node[300]; /* [HOST] or [HOST]:PORT */
    bool held, dry_run;
    uint64_t *qids;
    size_t n, given; /* found; of these, handed to the scheduler */
    uint64_t skipped, sent, kept, act;
    int status;
};

static void collect(const struct queue_entry *e, void *arg)
{
    struct drain *d = arg;
    if (slice_is(e->state, "damaged") || (!d->held && slice_is(e->state, "held"))) {
        d->skipped++;
        return;
    }
    if (d->n % 1024 == 0)
        d->qids = xrealloc(d->qids, d->n + 1024, sizeof(*d->qids));
    d->qids[d->n++] = e->qid;
}

static bool parse_node(struct drain *d, const char *to)
{
    struct slice host;
    bool bracketed;
    uint16_t port = 0;
    if (net_hostport_parse(slice_of(to), &host, &bracketed, &port) || host.n > 255)
        return false;
    int n = port ? snprintf(d->node, sizeof(d->node), "[%.*s]:%u", SLICE_FMT(host), port)
                 : snprintf(d->node, sizeof(d->node), "[%.*s]", SLICE_FMT(host));
    return n > 0 && (size_t)n < sizeof(d->node);
}

/* One request about one message; NULL after printing why there is no answer. */
static const void *call(
    struct drain *d, unsigned type, uint64_t qid, const void *msg, struct ipc_in *in)
{
    struct error err = {0};
    if (ipc_sync_call(&d->s, type, qid, msg, -1, in, &err) == OK)
        return in->msg;
    d->status = queue_report(&err);
    return NULL;
}

/* Gives one message the node as its next hop. */
static void give(struct drain *d, uint64_t qid)
{
    struct ipc_in in;
    char id[ID_TEXT];
    struct queue_act msg = {
        .verb = SLICE_LIT("drain"), .qid = qid, .argument = slice_of(d->node), .act = d->act};
    const struct queue_acted *done = call(d, queue_act_type, qid, &msg, &in);
    if (!done)
        return;
    if (done->code == OK && done->count > 0) {
        d->qids[d->given++] = qid;
    } else if (done->code == ERR_NOT_FOUND) {
        d->skipped++; /* delivered meanwhile */
    } else {
        id_print(qid, id);
        d->kept++;
        d->status = ctl_fail(CTL_NO, "drain %s: %.*s", id, SLICE_FMT(done->text));
    }
}

/* Whether the node has said no to some recipient of the message, or could not be reached. */
static bool is_refused(const struct queue_details *details)
{
    struct reader r = reader_of(details->recipients);
    struct queue_recipient to;
    while (r.rest.n && record_get(&r, &queue_recipient_record, &to) == OK)
        if (slice_is(to.state, "waiting") && to.reason.n && slice_is(to.transport, TRANSPORT_DRAIN))
            return true;
    return false;
}

/* Waiting for the release that the sender asked for (RFC 4865). */
static bool is_for_later(const struct queue_details *details)
{
    struct reader r = reader_of(details->envelope);
    struct envelope e;
    return record_get(&r, &envelope_record, &e) == OK && e.hold_until > (int64_t)time(NULL) * 1000;
}

/* True when nothing more will happen to the message now. */
static bool is_settled(struct drain *d, uint64_t qid)
{
    struct ipc_in in;
    struct queue_show ask = {.qid = qid};
    do {
        const struct queue_details *details = call(d, queue_show_type, qid, &ask, &in);
        if (!details)
            return true;
        if (details->code == ERR_NOT_FOUND) {
            d->sent++;
            return true;
        }
        if (details->code != OK || is_refused(details) ||
            (ask.from == 0 && is_for_later(details))) {
            d->kept++;
            return true;
        }
        ask.from = details->next;
    } while (ask.from);
    return false;
}

static void show_progress(const struct drain *d, size_t left)
{
    if (!d->c->json)
        fprintf(stderr, "%" PRIu64 " handed over, %" PRIu64 " kept, %zu under way\n", d->sent,
            d->kept, left);
}

static void wait_for_all(struct drain *d)
{
    size_t left = d->given;
    unsigned since = 0;
    while (left > 0 && d->status != CTL_TEMPORARY) {
        size_t still = 0;
        for (size_t i = 0; i < left && d->status != CTL_TEMPORARY; i++)
            if (!is_settled(d, d->qids[i]))
                d->qids[still++] = d->qids[i];
        left = still;
        if (left == 0)
            break;
        usleep(POLL_MS * 1000);
        since += POLL_MS;
        if (since >= PROGRESS_EVERY_MS) {
            show_progress(d, left);
            since = 0;
        }
    }
}

static void print_result(const struct drain *d)
{
    if (d->c->json)
        printf("{\"dry_run\":%s,\"to\":\"%s\",\"sent\":%" PRIu64 ",\"kept\":%" PRIu64
               ",\"skipped\":%" PRIu64 ",\"found\":%zu}\n",
            d->dry_run ? "true" : "false", d->node, d->sent, d->kept, d->skipped, d->n);
    else if (d->dry_run)
        printf("%zu messages would be concerned, %" PRIu64 " left alone\n", d->n, d->skipped);
    else
        printf("%" PRIu64 " messages handed over to %s, %" PRIu64 " kept, %" PRIu64 " left alone\n",
            d->sent, d->node, d->kept, d->skipped);
}

static int run(struct drain *d, struct slice filter)
{
    int status = queue_open(d->c, &d->s, false);
    if (status != CTL_OK)
        return status;
    status = queue_each(&d->s, filter, collect, d);
    if (status == CTL_OK && !d->dry_run) {
        for (size_t i = 0; i < d->n && d->status != CTL_TEMPORARY; i++)
            give(d, d->qids[i]);
        wait_for_all(d);
    }
    if (status == CTL_OK)
        print_result(d);
    ipc_sync_close(&d->s);
    return status != CTL_OK ? status : d->kept && d->status == CTL_OK ? CTL_NO : d->status;
}

int queue_drain(struct ctl *c, int argc, char **argv)
{
    struct drain d = {.c = c, .act = id_new()};
    struct buf filter;
    const char *to = ctl_option(&argc, argv, "--to");
    d.held = ctl_flag(&argc, argv, "--held");
    d.dry_run = ctl_flag(&argc, argv, "--dry-run");
    buf_init(&filter, FILTER_MAX);
    int status = queue_filter_options(&argc, argv, &filter);
    if (status == CTL_OK && (argc > 0 || !to || !*to))
        status = ctl_usage(c);
    else if (status == CTL_OK && !parse_node(&d, to))
        status = ctl_fail(CTL_USAGE, "--to %s: HOST or HOST:PORT is needed", to);
    if (status == CTL_OK)
        status = run(&d, buf_slice(&filter));
    free(d.qids);
    buf_clear(&filter);
    return status;
}
