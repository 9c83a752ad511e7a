/* The configuration parser. What is accepted must mean the same after being written and read
 * again, for every role. */
#include "libutil/conf.h"
#include "libutil/role.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_written(const struct conf *conf, int role, struct buf *text, struct buf *again)
{
    struct error err;
    buf_reset(text);
    buf_reset(again);
    conf_write(conf, role, text);
    struct conf *c = conf_parse("again", buf_slice(text), &conf_root_schema, NULL, &err);
    if (!c)
        abort();
    conf_write(c, role, again);
    if (!slice_eq(buf_slice(text), buf_slice(again)))
        abort();
    buf_reset(again);
    if (role < 0 && conf_diff(conf, c, again) != 0)
        abort();
    conf_free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = slice_from(data, size);
    struct buf errors, written, again;
    struct error err = {0};
    /* Files of the machine are no part of the input. */
    if (slice_find(text, SLICE_LIT("include")) >= 0)
        return 0;
    buf_init(&errors, 1 << 16);
    buf_init(&written, 1 << 24);
    buf_init(&again, 1 << 24);
    struct conf *conf =
        conf_parse("/nonexistent/veredus.conf", text, &conf_root_schema, &errors, &err);
    if (!conf && (!err.text[0] || buf_len(&errors) == 0))
        abort();
    for (int role = -1; conf && role < ROLE_ANY_COUNT; role++)
        check_written(conf, role, &written, &again);
    if (conf && conf_check(conf, NULL, &err) && !err.text[0])
        abort();
    conf_free(conf);
    buf_clear(&errors);
    buf_clear(&written);
    buf_clear(&again);
    return 0;
}
