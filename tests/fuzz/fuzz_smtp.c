/* Command lines, the DATA reader and replies. The first octet chooses. The reader must treat a
 * text the same however it is cut, and stuffing must undo unstuffing. */
#include "libmail/smtp_data.h"
#include "libmail/smtp_grammar.h"
#include "libmail/smtp_reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_command(struct slice s)
{
    struct arena arena;
    struct smtp_mail mail;
    struct smtp_rcpt rcpt;
    struct smtp_refusal why;
    struct smtp_command c = smtp_command_split(s);
    arena_init(&arena, 8192);
    if (smtp_parse_mail(c.args, ~0u, &arena, &mail, &why) != OK && why.code < 400)
        abort();
    if (smtp_parse_rcpt(c.args, ~0u, true, &arena, &rcpt, &why) != OK && why.code < 400)
        abort();
    arena_reset(&arena);
}

static size_t read_data(struct smtp_data *d, struct slice s, size_t piece, struct buf *out)
{
    size_t used = 0;
    smtp_data_init(d, 1 << 20, 1000);
    while (used < s.n && !smtp_data_done(d))
        used += smtp_data_feed(d, slice_first(slice_from_index(s, used), piece), out);
    return used;
}

static void try_data(struct slice s)
{
    struct smtp_data whole, cut;
    struct smtp_stuff stuff;
    struct buf a, b;
    buf_init(&a, 1 << 21);
    buf_init(&b, 1 << 21);
    size_t used = read_data(&whole, s, SIZE_MAX, &a);
    if (read_data(&cut, s, 1, &b) != used || cut.fault != whole.fault || cut.state != whole.state)
        abort();
    if (whole.fault == SMTP_DATA_GOOD && !slice_eq(buf_slice(&a), buf_slice(&b)))
        abort();
    if (whole.fault == SMTP_DATA_GOOD && smtp_data_done(&whole)) {
        buf_reset(&b);
        smtp_stuff_init(&stuff);
        if (smtp_stuff_feed(&stuff, buf_slice(&a), &b) || smtp_stuff_end(&stuff, &b))
            abort();
        struct buf c;
        buf_init(&c, 1 << 21);
        if (read_data(&cut, buf_slice(&b), SIZE_MAX, &c) != buf_len(&b) ||
            !slice_eq(buf_slice(&a), buf_slice(&c)))
            abort();
        buf_clear(&c);
    }
    buf_clear(&a);
    buf_clear(&b);
}

static void try_reply(struct slice s)
{
    struct smtp_reply r;
    struct buf in, out;
    buf_init(&in, 1 << 21);
    buf_init(&out, 1024);
    if (buf_put(&in, s))
        return;
    smtp_reply_init(&r);
    while (smtp_reply_read(&r, &in) == 1) {
        buf_reset(&out);
        smtp_reply_print(&r, &out);
        (void)smtp_reply_offers(&r, "SIZE", NULL);
        smtp_reply_reset(&r);
    }
    smtp_reply_clear(&r);
    buf_clear(&in);
    buf_clear(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct slice s = slice_from(data + 1, size - 1);
    if (data[0] % 3 == 0)
        try_command(s);
    else if (data[0] % 3 == 1)
        try_data(s);
    else
        try_reply(s);
    return 0;
}
