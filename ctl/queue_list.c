/* queue list: what waits, for people, for programs, and as mailq(1) has it. */
#include <inttypes.h>
#include <time.h>

#include "ctl/json.h"
#include "ctl/queue.h"
#include "libutil/log.h"

/* The same for a verb that does nothing else. */
static int each_entry(struct ctl *c, struct slice filter, queue_entry_fn *fn, void *arg)
{
    struct ipc_sync s;
    int status = queue_open(c, &s, true);
    if (status != CTL_OK)
        return status;
    status = queue_each(&s, filter, fn, arg);
    ipc_sync_close(&s);
    return status;
}

struct listing {
    struct buf line;
    uint64_t messages, bytes;
};

static void entry_json(const struct queue_entry *e, void *arg)
{
    struct listing *l = arg;
    struct json j = {&l->line, false};
    char id[ID_TEXT];
    id_print(e->qid, id);
    buf_reset(&l->line);
    json_begin(&j, NULL, '{');
    json_str(&j, "qid", slice_of(id));
    json_str(&j, "sender", e->sender);
    json_str(&j, "recipient", e->recipient);
    json_int(&j, "recipients", e->recipients);
    json_int(&j, "size", (int64_t)e->size);
    json_str(&j, "state", e->state);
    json_int(&j, "received", e->received);
    json_int(&j, "next", e->next);
    json_int(&j, "attempts", e->attempts);
    json_str(&j, "reason", e->reason);
    json_int(&j, "until", e->until);
    json_end(&j, '}');
    printf("%s%.*s", l->messages++ ? ",\n" : "", SLICE_FMT(buf_slice(&l->line)));
}

static void print_recipient(const struct queue_entry *e)
{
    queue_print_clean(e->recipient);
    if (e->recipients > 1)
        printf(" and %u more", e->recipients - 1);
}

static void entry_text(const struct queue_entry *e, void *arg)
{
    struct listing *l = arg;
    char id[ID_TEXT], when[32], next[32];
    id_print(e->qid, id);
    queue_print_time(e->received, "%Y-%m-%d %H:%M:%S", when);
    queue_print_time(e->next, "%H:%M:%S", next);
    if (l->messages++ == 0)
        printf("%-14s %-9s %9s  %-19s  %s\n", "QUEUE ID", "STATE", "SIZE", "ARRIVED",
            "SENDER -> RECIPIENT");
    printf("%-14s %-9.*s %9" PRIu64 "  %-19s  <", id, SLICE_FMT(e->state), e->size, when);
    queue_print_clean(e->sender);
    printf("> -> ");
    print_recipient(e);
    putchar('\n');
    if (e->until > (int64_t)time(NULL) * 1000 && e->attempts == 0) {
        queue_print_time(e->until, "%Y-%m-%d %H:%M:%S", when);
        printf("    deferred until %s, as its sender asked\n", when);
    }
    if (e->reason.n) {
        printf("    %u attempt%s%s%s: ", e->attempts, e->attempts == 1 ? "" : "s",
            next[0] ? ", next " : "", next);
        queue_print_clean(e->reason);
        putchar('\n');
    }
}

/* The form that mailq(1) has had for decades; scripts read it. */
static void entry_mailq(const struct queue_entry *e, void *arg)
{
    struct listing *l = arg;
    char id[ID_TEXT], when[32];
    id_print(e->qid, id);
    queue_print_time(e->received, "%a %b %e %H:%M:%S", when);
    if (l->messages++ == 0)
        printf("-Queue ID-------  --Size-- ----Arrival Time---- -Sender/Recipient-------\n");
    l->bytes += e->size;
    printf("%s%-*s %8" PRIu64 " %s  ", id, 16 - (int)strlen(id),
        slice_is(e->state, "active") ? "*"
        : slice_is(e->state, "held") ? "!"
                                     : " ",
        e->size, when);
    queue_print_clean(e->sender.n ? e->sender : SLICE_LIT("MAILER-DAEMON"));
    putchar('\n');
    if (e->reason.n) {
        printf("    (");
        queue_print_clean(e->reason);
        printf(")\n");
    }
    printf("%47s", "");
    print_recipient(e);
    printf("\n\n");
}

static int list_mailq(struct ctl *c, struct slice filter)
{
    struct listing l = {.messages = 0};
    int status = each_entry(c, filter, entry_mailq, &l);
    if (status != CTL_OK)
        return status;
    if (l.messages == 0)
        printf("Mail queue is empty\n");
    else
        printf("-- %" PRIu64 " Kbytes in %" PRIu64 " Request%s.\n", (l.bytes + 1023) / 1024,
            l.messages, l.messages == 1 ? "" : "s");
    return CTL_OK;
}

static int list_messages(struct ctl *c, struct slice filter)
{
    struct listing l = {.messages = 0};
    buf_init(&l.line, 65536);
    if (c->json)
        putchar('[');
    int status = each_entry(c, filter, c->json ? entry_json : entry_text, &l);
    if (c->json)
        printf("]\n");
    else if (status == CTL_OK && l.messages == 0)
        printf(filter.n ? "no message fits\n" : "the queue is empty\n");
    buf_clear(&l.line);
    return status;
}

int queue_list_verb(struct ctl *c, int argc, char **argv)
{
    struct buf filter;
    bool mailq = ctl_flag(&argc, argv, "--mailq");
    buf_init(&filter, 1024);
    int status = queue_filter_options(&argc, argv, &filter);
    if (status == CTL_OK && argc != 0)
        status = ctl_usage(c);
    if (status == CTL_OK && mailq)
        status = list_mailq(c, buf_slice(&filter));
    else if (status == CTL_OK)
        status = list_messages(c, buf_slice(&filter));
    buf_clear(&filter);
    return status;
}
