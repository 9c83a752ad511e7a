#include "ctl/queue.h"

/* "90", "15m", "2h", "3d", "1w" as ms: a number of seconds, minutes, hours, days, weeks. */
static int parse_age(struct slice s, int64_t *ms)
{
    static const struct unit {
        char letter;
        int64_t ms;
    } units[] = {{'s', 1000}, {'m', 60000}, {'h', 3600000}, {'d', 86400000}, {'w', 604800000}};
    int64_t factor = 1000;
    uint64_t number;
    for (size_t i = 0; s.n > 0 && i < ARRAY_LEN(units); i++)
        if (s.p[s.n - 1] == units[i].letter) {
            factor = units[i].ms;
            s.n--;
            break;
        }
    int rc = slice_u64(s, 1, 1000000000, &number);
    if (rc == OK)
        *ms = (int64_t)number * factor;
    return rc;
}

/* --age 2h: at least that old; --age -2h: less than that. */
static int take_age(const char *text, struct queue_filter *f)
{
    struct slice s = slice_of(text);
    bool younger = slice_starts(s, "-");
    if (parse_age(slice_from_index(s, younger), younger ? &f->younger : &f->older) == OK)
        return CTL_OK;
    return ctl_fail(CTL_USAGE, "--age %s: a time such as 30m, 2h, 3d is needed", text);
}

static int check_state(const char *state)
{
    static const char *const states[] = {"active", "deferred", "held", "damaged"};
    for (size_t i = 0; i < ARRAY_LEN(states); i++)
        if (strcmp(state, states[i]) == 0)
            return CTL_OK;
    return ctl_fail(CTL_USAGE, "--state %s: active, deferred, held or damaged is needed", state);
}

int queue_filter_options(int *argc, char **argv, struct buf *out)
{
    const char *age = ctl_option(argc, argv, "--age");
    const char *sender = ctl_option(argc, argv, "--sender");
    const char *domain = ctl_option(argc, argv, "--recipient-domain");
    const char *state = ctl_option(argc, argv, "--state");
    const char *reason = ctl_option(argc, argv, "--reason");
    struct queue_filter f = {.sender = slice_of(sender && !*sender ? "<>" : sender),
        .domain = slice_of(domain),
        .state = slice_of(state),
        .reason = slice_of(reason)};
    if (!age && !sender && !domain && !state && !reason)
        return CTL_OK;
    if ((domain && !*domain) || (reason && !*reason))
        return ctl_fail(
            CTL_USAGE, "%s needs a value", domain && !*domain ? "--recipient-domain" : "--reason");
    int status = age ? take_age(age, &f) : CTL_OK;
    if (status == CTL_OK && state)
        status = check_state(state);
    if (status == CTL_OK && record_put(out, &queue_filter_record, &f) != OK)
        status = ctl_fail(CTL_USAGE, "a filter is too long");
    return status;
}
