/* ~/.forward files. What a plan holds must be countable and within its limits. */
#include "delivery/local/forward.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int include(struct slice path, struct buf *out, void *arg, struct error *err)
{
    const struct slice *all = arg;
    (void)err;
    return buf_put(out, slice_from_index(*all, path.n));
}

static unsigned count(const struct buf *b)
{
    struct reader r = reader_of(buf_slice(b));
    unsigned n = 0;
    for (; r.rest.n; n++)
        if (get_lv(&r, FORWARD_BYTES_MAX).n == 0 || r.bad)
            abort();
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = slice_from(data, size);
    struct forward_owner owner = {SLICE_LIT("alice"), SLICE_LIT("alice@example.org")};
    struct forward_plan plan;
    struct error err = {0};
    forward_init(&plan);
    if (forward_parse(&plan, text, &owner, include, &text, &err) == OK) {
        if (count(&plan.targets) != plan.ntargets || count(&plan.files) != plan.nfiles ||
            plan.ntargets > FORWARD_ADDRESSES_MAX || plan.nfiles > FORWARD_FILES_MAX)
            abort();
        if (!plan.mailbox && !plan.nowhere && !plan.ntargets && !plan.nfiles)
            abort(); /* mail would vanish */
    }
    forward_clear(&plan);
    return 0;
}
