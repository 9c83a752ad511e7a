/* Header fields, dates, message ids. The parts of a message must add up to it. */
#include "libmail/date.h"
#include "libmail/header.h"
#include "libmail/msgid.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice s = slice_from(data, size);
    struct header_iter it;
    struct header_field f;
    time_t when;
    size_t fields = 0;
    header_iter_init(&it, s);
    while (header_iter_next(&it, &f)) {
        struct buf b;
        fields += f.raw.n;
        buf_init(&b, 1 << 20);
        (void)header_unfold(f.body, &b);
        buf_clear(&b);
        (void)msgid_find(f.body);
        if (date_parse(f.body, &when, NULL) == OK) {
            char text[DATE_TEXT];
            time_t again;
            date_print_zone(when, 0, text);
            if (date_parse(slice_of(text), &again, NULL) || again != when)
                abort();
        }
    }
    if (fields > s.n || header_part(s).n + header_body(s).n != s.n)
        abort();
    return 0;
}
