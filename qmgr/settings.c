/* What the configuration says to qmgr. */
#include "qmgr/qmgr.h"

enum {
    MAX_LOADED = 6000, /* some 4 KiB each */
    MAX_RECIPIENTS = 100000
};

static unsigned count_of(const struct conf_block *b, const char *key)
{
    return (unsigned)conf_int(b, key);
}

static void take_limits(const struct conf_block *b, struct sched_limits *limits)
{
    if (conf_isset(b, "concurrency"))
        limits->concurrency = count_of(b, "concurrency");
    if (conf_isset(b, "rate"))
        limits->rate = count_of(b, "rate");
}

static void take_retry(const struct conf_block *b, struct retry *r)
{
    static const struct {
        const char *key;
        size_t at;
    } times[] = {{"retry-from", offsetof(struct retry, from)},
        {"retry-to", offsetof(struct retry, to)}, {"lifetime", offsetof(struct retry, lifetime)},
        {"bounce-lifetime", offsetof(struct retry, bounce_lifetime)},
        {"delay-warning", offsetof(struct retry, delay_warning)}};
    for (size_t i = 0; i < ARRAY_LEN(times); i++)
        if (conf_isset(b, times[i].key)) {
            int64_t value = conf_int(b, times[i].key);
            memcpy((char *)r + times[i].at, &value, sizeof(value));
        }
    r->to = MAX(r->to, r->from);
}

/* The row of a transport; a new one has the general times. NULL: no room. */
static struct transport_settings *row_of(struct settings *set, struct slice name)
{
    for (size_t i = 0; i < set->ntransports; i++)
        if (slice_is(name, set->transports[i].name))
            return &set->transports[i];
    if (set->ntransports == SETTINGS_TRANSPORTS)
        return NULL;
    struct transport_settings *t = &set->transports[set->ntransports++];
    *t = (struct transport_settings){.retry = set->retry};
    snprintf(t->name, sizeof(t->name), "%.*s", SLICE_FMT(name));
    return t;
}

static void read_transports(struct settings *set, const struct conf *conf)
{
    for (const struct conf_block *b = NULL; (b = conf_next(conf_root(conf), "agent", b));)
        for (size_t i = 0; i < conf_args(b); i++) {
            struct transport_settings *t = row_of(set, conf_arg(b, i));
            if (!t)
                continue;
            take_retry(b, &t->retry);
            take_limits(b, &t->limits);
        }
}

int settings_read(struct settings *set, const struct conf *conf, struct error *err)
{
    const struct conf_block *out = conf_one(conf, "outbound");
    const struct conf_block *queue = conf_one(conf, "queue");
    *set = (struct settings){
        .retry = {.from = conf_int(out, "retry-from"),
            .to = conf_int(out, "retry-to"),
            .lifetime = conf_int(out, "lifetime"),
            .bounce_lifetime = conf_int(out, "bounce-lifetime"),
            .delay_warning = conf_int(out, "delay-warning")},
        .each = {count_of(out, "concurrency"), count_of(out, "rate")},
        .host = {count_of(out, "host-concurrency"), count_of(out, "host-rate")},
        .remote = {count_of(out, "total-concurrency"), count_of(out, "total-rate")},
        .agent_timeout = conf_int(queue, "agent-timeout"),
        .report_wait = conf_int(conf_one(conf, "report"), "wait"),
        .message_size = (uint64_t)conf_int(conf_root(conf), "message-size"),
        .max_loaded = MAX_LOADED,
        .max_recipients = MAX_RECIPIENTS,
        .portion = count_of(queue, "message-recipients"),
        .max_active = count_of(queue, "active-recipients"),
        .spool = {.segment_size = (uint32_t)conf_int(queue, "segment-size") & ~UINT32_C(4095),
            .segments = count_of(queue, "segments")},
    };
    read_transports(set, conf);
    if (!slice_to_cstr(
            conf_string(conf_root(conf), "spool"), set->spool_path, sizeof(set->spool_path)))
        return error_set(err, ERR_LIMIT, "the path of the spool is too long");
    return OK;
}

const struct retry *settings_retry(const struct settings *set, struct slice transport)
{
    for (size_t i = 0; i < set->ntransports; i++)
        if (slice_is(transport, set->transports[i].name))
            return &set->transports[i].retry;
    return &set->retry;
}

int64_t settings_longest_retry(const struct settings *set)
{
    int64_t most = set->retry.to;
    for (size_t i = 0; i < set->ntransports; i++)
        most = MAX(most, set->transports[i].retry.to);
    return most;
}

void settings_transport(struct slice name, struct sched_transport *t, void *arg)
{
    const struct settings *set = &((struct qmgr *)arg)->set;
    t->dead_ms = settings_retry(set, name)->from;
    for (size_t i = 0; i < set->ntransports; i++) {
        const struct transport_settings *row = &set->transports[i];
        if (!slice_is(name, row->name))
            continue;
        if (row->limits.concurrency)
            t->limits.concurrency = row->limits.concurrency;
        if (row->limits.rate)
            t->limits.rate = row->limits.rate;
    }
}

/* What a block with this word among its arguments sets. */
static void limits_of(
    const struct conf *conf, const char *block, struct slice word, struct sched_limits *limits)
{
    for (const struct conf_block *b = NULL; conf && (b = conf_next(conf_root(conf), block, b));) {
        size_t i = 0;
        while (i < conf_args(b) && !slice_ieq(conf_arg(b, i), word))
            i++;
        if (i < conf_args(b))
            take_limits(b, limits);
    }
}

void settings_destination(struct slice nexthop, struct sched_limits *limits, void *arg)
{
    limits_of(((struct qmgr *)arg)->daemon->conf, "destination", nexthop, limits);
}

void settings_host(struct slice host, struct sched_limits *limits, void *arg)
{
    limits_of(((struct qmgr *)arg)->daemon->conf, "mx-host", host, limits);
}
