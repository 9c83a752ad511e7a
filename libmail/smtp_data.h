/*
 * The content after DATA (RFC 5321 §4.5.2): what comes in is unstuffed and checked, what goes
 * out is stuffed.
 *
 * Only CRLF "." CRLF ends the data. A bare CR or bare LF never does; it marks the message as
 * damaged, which is refused as a whole after its end, so that no other server can see a second
 * message where we saw text (smuggling). NUL likewise. Lines may be longer than the 998 octets
 * of RFC 5322 §2.1.1 (common, harmless) up to max_line.
 */
#pragma once

#include "libutil/buf.h"

enum smtp_data_fault {
    SMTP_DATA_GOOD,
    SMTP_DATA_BARE_LF,
    SMTP_DATA_BARE_CR,
    SMTP_DATA_NUL,
    SMTP_DATA_LONG_LINE,
    SMTP_DATA_TOO_BIG
};

enum smtp_data_state { DATA_BOL, DATA_LINE, DATA_CR, DATA_DOT, DATA_DOT_CR, DATA_END };

struct smtp_data {
    enum smtp_data_state state;
    enum smtp_data_fault fault; /* the first one met */
    uint64_t size;              /* octets of content */
    uint64_t max_size;
    size_t line; /* octets of the current line */
    size_t max_line;
    bool eight_bit; /* an octet over 127 was seen */
    bool chunks;    /* behind BDAT (RFC 3030): dots are text, smtp_data_end ends it */
};

void smtp_data_init(struct smtp_data *, uint64_t max_size, size_t max_line);
/*
 * Looks at the front of in. Returns how many octets of it were consumed (all of it unless the
 * end was found) and appends the content they stand for to out. Once a fault is met content is
 * dropped, so that out never holds more than max_size. done is state == DATA_END; what follows
 * in `in` belongs to the next command. out needs room for in.n + 2 octets.
 */
size_t smtp_data_feed(struct smtp_data *, struct slice in, struct buf *out);
bool smtp_data_done(const struct smtp_data *);
/* The last chunk is over: completes the last line, which needs 2 octets of room in out. */
void smtp_data_end(struct smtp_data *, struct buf *out);

/* The other way: content with CRLF line ends to dots stuffed. */
struct smtp_stuff {
    bool at_bol;
    bool last_cr;
};
void smtp_stuff_init(struct smtp_stuff *);
/* Appends the stuffed form; needs at most 2 * in.n octets of room. 0 or ERR_LIMIT. */
int smtp_stuff_feed(struct smtp_stuff *, struct slice in, struct buf *out) MUST_USE;
/* Ends the last line if need be and appends the final dot. */
int smtp_stuff_end(struct smtp_stuff *, struct buf *out) MUST_USE;
