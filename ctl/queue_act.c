/* Acting on messages of the queue: by id, by domain, or all that fit a filter. */
#include <inttypes.h>

#include "ctl/json.h"
#include "ctl/queue.h"
#include "libutil/log.h"

enum { FILTER_MAX = 1024, TEXT_MAX = 320 };

struct acting {
    struct ctl *c;
    struct ipc_sync s;
    const char *verb;
    struct slice argument;
    struct buf filter;
    bool dry_run;
    bool found; /* the message at hand was found by a filter, not named */
    uint64_t count, act;
    int status;
};

static bool is_flush(const char *verb)
{
    return strcmp(verb, "flush") == 0 || strcmp(verb, "retry") == 0;
}

/* Of a message that was found a moment ago: it has gone since, or is being tried. */
static bool is_settled(const char *verb, const struct queue_acted *done)
{
    return done->code == ERR_NOT_FOUND || (done->code == OK && is_flush(verb));
}

/* Asks for it; the answer's count, or -1 after printing why not. */
static int64_t ask(struct acting *a, uint64_t qid)
{
    struct ipc_in in;
    struct error err = {0};
    char id[ID_TEXT];
    struct queue_act msg = {
        .verb = slice_of(a->verb), .qid = qid, .argument = a->argument, .act = a->act};
    id_print(qid, id);
    if (ipc_sync_call(&a->s, queue_act_type, qid, &msg, -1, &in, &err) != OK) {
        a->status = queue_report(&err);
        return -1;
    }
    const struct queue_acted *done = in.msg;
    if (done->code == OK && (qid == 0 || done->count > 0))
        return (int64_t)done->count;
    if (a->found && is_settled(a->verb, done))
        return 0;
    a->status = ctl_fail(done->code == ERR_TEMP || done->code == ERR_BUSY ? CTL_TEMPORARY : CTL_NO,
        "%s%s%s: %.*s", a->c->verb->verb, qid ? " " : "", qid ? id : "", SLICE_FMT(done->text));
    return -1;
}

static void print_planned(struct acting *a, uint64_t qid)
{
    char id[ID_TEXT];
    id_print(qid, id);
    if (a->c->json)
        printf("%s\"%s\"", a->count ? "," : "", id);
    else
        printf("%s\n", id);
    a->count++;
}

/* Of a message that a dry run was told of by its id. */
static bool exists(struct acting *a, uint64_t qid)
{
    struct ipc_in in;
    struct error err = {0};
    char id[ID_TEXT];
    struct queue_show msg = {.qid = qid};
    id_print(qid, id);
    if (ipc_sync_call(&a->s, queue_show_type, qid, &msg, -1, &in, &err) != OK)
        a->status = queue_report(&err);
    else if (((const struct queue_details *)in.msg)->code == ERR_NOT_FOUND)
        a->status = ctl_fail(CTL_NO, "%s %s: no such message in the queue", a->c->verb->verb, id);
    else
        return true;
    return false;
}

static void act_one(struct acting *a, uint64_t qid)
{
    if (a->dry_run) {
        print_planned(a, qid);
        return;
    }
    int64_t n = ask(a, qid);
    a->count += n > 0 ? (uint64_t)n : 0;
}

/* The ids of a page are remembered, because acting uses the same channel. */
struct ids {
    const char *verb;
    uint64_t *qids;
    size_t n;
};

/* False where the verb has nothing to do: of a message named by its id that is an error. */
static bool concerned(const char *verb, const struct queue_entry *e)
{
    bool held = slice_is(e->state, "held"), later = e->until > 0;
    if (is_flush(verb))
        return !held && !later && !slice_is(e->state, "damaged");
    if (strcmp(verb, "hold") == 0)
        return !held;
    return strcmp(verb, "release") != 0 || held || later;
}

static void remember(const struct queue_entry *e, void *arg)
{
    struct ids *ids = arg;
    if (!concerned(ids->verb, e))
        return;
    if (ids->n % 1024 == 0)
        ids->qids = xrealloc(ids->qids, ids->n + 1024, sizeof(*ids->qids));
    ids->qids[ids->n++] = e->qid;
}

/* Whatever fits, eight bytes of memory for each. */
static void act_filtered(struct acting *a, struct slice filter)
{
    struct ids ids = {.verb = a->verb};
    int status = queue_each(&a->s, filter, remember, &ids);
    if (status != CTL_OK)
        a->status = status;
    a->found = true;
    for (size_t i = 0; status == CTL_OK && i < ids.n && a->status != CTL_TEMPORARY; i++)
        act_one(a, ids.qids[i]);
    a->found = false;
    free(ids.qids);
}

/* True for what needs look-ups for each message. */
static bool one_by_one(const char *verb)
{
    return strcmp(verb, "requeue") == 0 || strcmp(verb, "redirect") == 0;
}

/* All messages at once: qmgr counts them. */
static void act_all(struct acting *a)
{
    if (a->dry_run || one_by_one(a->verb)) {
        act_filtered(a, SLICE_LIT(""));
        return;
    }
    int64_t n = ask(a, 0);
    a->count += n > 0 ? (uint64_t)n : 0;
}

static void act_domain(struct acting *a, const char *domain)
{
    struct buf filter;
    struct queue_filter f = {.sender = SLICE_LIT(""),
        .domain = slice_of(domain),
        .state = SLICE_LIT(""),
        .reason = SLICE_LIT("")};
    buf_init(&filter, FILTER_MAX);
    a->argument = f.domain;
    if (record_put(&filter, &queue_filter_record, &f) != OK)
        a->status = ctl_fail(CTL_USAGE, "%s: too long for a domain", domain);
    else
        act_filtered(a, buf_slice(&filter));
    a->argument = SLICE_LIT("");
    buf_clear(&filter);
}

static bool is_domain(const char *word)
{
    return strchr(word, '.') != NULL;
}

static void act_word(struct acting *a, const char *word)
{
    uint64_t qid;
    if (strcmp(word, "all") == 0)
        act_all(a);
    else if (is_domain(word))
        act_domain(a, word);
    else if (id_parse(slice_of(word), &qid) == OK && (!a->dry_run || exists(a, qid)))
        act_one(a, qid);
}

static int check_words(const char *verb, int argc, char **argv)
{
    bool domains = is_flush(verb);
    for (int i = 0; i < argc; i++) {
        uint64_t qid;
        bool known = strcmp(argv[i], "all") == 0 || (domains && is_domain(argv[i])) ||
                     id_parse(slice_of(argv[i]), &qid) == OK;
        if (!known)
            return ctl_fail(CTL_USAGE, "%s: neither a queue id%s nor \"all\"", argv[i],
                domains ? ", a domain" : "");
    }
    return CTL_OK;
}

static void print_sum(const struct acting *a, bool sum)
{
    if (a->c->json && a->dry_run)
        printf("],\"count\":%" PRIu64 "}\n", a->count);
    else if (a->c->json)
        printf("{\"count\":%" PRIu64 "}\n", a->count);
    else if (a->dry_run)
        printf("%" PRIu64 " messages would be concerned\n", a->count);
    else if (sum)
        printf("%" PRIu64 " messages\n", a->count);
}

/* Words, or a filter. Without either nothing is done: that must be said as "all". */
static int run(struct acting *a, int argc, char **argv)
{
    bool filtered = buf_len(&a->filter) > 0;
    if (filtered ? argc > 0 : argc == 0)
        return ctl_usage(a->c);
    int status = check_words(a->verb, argc, argv);
    if (status == CTL_OK)
        status = queue_open(a->c, &a->s, false);
    if (status != CTL_OK)
        return status;
    if (a->c->json && a->dry_run)
        printf("{\"dry_run\":true,\"messages\":[");
    bool sum = filtered;
    if (filtered)
        act_filtered(a, buf_slice(&a->filter));
    for (int i = 0; i < argc; i++) {
        act_word(a, argv[i]);
        sum = sum || strcmp(argv[i], "all") == 0 || is_domain(argv[i]);
    }
    print_sum(a, sum);
    ipc_sync_close(&a->s);
    return a->status;
}

static int act(struct ctl *c, const char *verb, const char *argument, int argc, char **argv)
{
    struct acting a = {.c = c, .verb = verb, .argument = slice_of(argument), .act = id_new()};
    static char all_word[] = "all";
    char *all[] = {all_word};
    buf_init(&a.filter, FILTER_MAX);
    a.dry_run = ctl_flag(&argc, argv, "--dry-run");
    int status = queue_filter_options(&argc, argv, &a.filter);
    if (status == CTL_OK && argc == 0 && buf_len(&a.filter) == 0 &&
        strcmp(c->verb->verb, "flush") == 0) {
        argc = 1;
        argv = all;
    }
    if (status == CTL_OK)
        status = run(&a, argc, argv);
    buf_clear(&a.filter);
    return status;
}

int queue_act_verb(struct ctl *c, int argc, char **argv)
{
    return act(c, c->verb->verb, "", argc, argv);
}

int queue_retry(struct ctl *c, int argc, char **argv)
{
    return act(c, "retry", "", argc, argv);
}

int queue_bounce(struct ctl *c, int argc, char **argv)
{
    const char *text = ctl_option(&argc, argv, "--text");
    if (text && strlen(text) > TEXT_MAX)
        return ctl_fail(CTL_USAGE, "--text: longer than %d bytes", TEXT_MAX);
    return act(c, "bounce", text, argc, argv);
}

int queue_redirect(struct ctl *c, int argc, char **argv)
{
    bool filtered = false;
    for (int i = 0; i < argc; i++)
        filtered |= strncmp(argv[i], "--", 2) == 0 && strcmp(argv[i], "--dry-run") != 0;
    if (argc < (filtered ? 1 : 2))
        return ctl_usage(c);
    if (!strchr(argv[argc - 1], '@'))
        return ctl_fail(CTL_USAGE, "%s: an address to redirect to must be last", argv[argc - 1]);
    return act(c, "redirect", argv[argc - 1], argc - 1, argv);
}
