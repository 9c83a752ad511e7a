/* Encoded words, transfer encodings and charsets: the result must be valid UTF-8. */
#include "libmail/charset.h"
#include "libmail/encoding.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice s = slice_from(data, size);
    struct buf text, folded;
    buf_init(&text, 8 * size + 64);
    buf_init(&folded, 32 * size + 64);
    rfc2047_decode(s, &text);
    utf8_fold(buf_slice(&text), &folded);
    if (!utf8_valid(buf_slice(&text)) || !utf8_valid(buf_slice(&folded)))
        abort();
    buf_reset(&text);
    encoding_decode(ENCODING_BASE64, s, &text);
    encoding_decode(ENCODING_QUOTED_PRINTABLE, s, &text);
    if (text.failed)
        abort();
    struct slice rest = s;
    struct slice name = slice_cut(&rest, '\n');
    buf_reset(&text);
    charset_to_utf8(charset_find(name), rest, &text);
    if (text.failed || !utf8_valid(buf_slice(&text)))
        abort();
    buf_clear(&text);
    buf_clear(&folded);
    return 0;
}
