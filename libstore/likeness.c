/* Whether a file is the message that a repeated delivery has written, or what is left of it. */
#include "libmail/mime.h"
#include "libstore/private.h"

enum { SECTOR = 512 };

static bool zeros_at(struct slice s, size_t at)
{
    static const char zeros[SECTOR];
    return memcmp(s.p + at, zeros, MIN((size_t)SECTOR, s.n - at)) == 0;
}

/* Whether these can be what the stop of a machine left of `ours`: a beginning of it, in which
 * sectors that had not reached the disk read as zeros. */
static bool left_over(struct slice theirs, struct slice ours)
{
    bool may = theirs.n <= ours.n;
    for (size_t at = 0; may && at < theirs.n; at += SECTOR) {
        size_t n = MIN((size_t)SECTOR, theirs.n - at);
        may = memcmp(theirs.p + at, ours.p + at, n) == 0 || zeros_at(theirs, at);
    }
    return may;
}

/* The same for a file with the other line ends: `coexist` has changed since. A sector of zeros ends
 * what can be compared, for those behind it lie at different places in the two; no message begins
 * with one. */
static enum likeness compare_forms(struct slice theirs, struct slice ours)
{
    struct buf a, b;
    ptrdiff_t zero = slice_chr(theirs, '\0');
    bool torn = zero >= 0 && zero % SECTOR == 0 && zeros_at(theirs, (size_t)zero);
    size_t n = torn ? (size_t)zero : theirs.n;
    buf_init(&a, 2 * (size_t)LIKENESS_MAX);
    buf_init(&b, 2 * (size_t)LIKENESS_MAX);
    enum likeness like = LIKENESS_OTHER;
    if (mime_put_crlf(&a, slice_first(theirs, n)) == OK && mime_put_crlf(&b, ours) == OK) {
        bool begins = slice_eq(buf_slice(&a), slice_first(buf_slice(&b), buf_len(&a)));
        like = !begins                             ? LIKENESS_OTHER
               : torn || buf_len(&a) < buf_len(&b) ? LIKENESS_BROKEN
                                                   : LIKENESS_SAME;
    }
    buf_clear(&a);
    buf_clear(&b);
    return like;
}

enum likeness likeness_of(struct slice theirs, struct slice ours)
{
    if (slice_eq(theirs, ours))
        return LIKENESS_SAME;
    return left_over(theirs, ours) ? LIKENESS_BROKEN : compare_forms(theirs, ours);
}
