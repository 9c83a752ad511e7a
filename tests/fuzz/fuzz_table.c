/* The text of lookup tables: every pair that is read can be looked up under its key. */
#include "libutil/table_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int look_up(struct slice key, struct slice value, void *arg)
{
    struct buf out;
    buf_init(&out, TABLE_VALUE_MAX);
    if (table_text_get(arg, key, &out) || !slice_eq(buf_slice(&out), value))
        abort();
    if (key.n == 0 || key.n > TABLE_KEY_MAX || slice_chr(value, '\n') >= 0)
        abort();
    buf_clear(&out);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = slice_from(data, size), body;
    struct table_text t;
    struct error err = {0};
    table_text_init(&t);
    if (table_text_parse(&t, "fuzz", text, &err) == OK)
        table_text_each(&t, look_up, &t);
    else if (!err.text[0])
        abort();
    table_text_clear(&t);
    if (table_check_spec(text, &err) == OK && slice_starts(text, "inline:") &&
        table_inline_body(slice_from_index(text, 7), &body))
        abort();
    return 0;
}
