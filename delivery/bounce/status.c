#include "delivery/bounce/status.h"

#include "delivery/bounce/words.h"
#include "libmail/orcpt.h"
#include "libutil/log.h"

/* With more than STATUS_MAX bytes of recipients, the others are counted: some 100 000 fit. */
enum { LINE_TEXT = 76, STATUS_MAX = 12 * 1024 * 1024 };

/* Text of others in a field, as far as the form of the report lets it be. */
static void put(const struct report *r, struct buf *b, struct slice s)
{
    if (r->utf8)
        words_put(b, s);
    else
        words_put_ascii(b, s);
}

/* ORCPT is "addr-type;address", decoded; RFC 3464 §2.3.1, RFC 6533 §3. */
static void put_original(const struct report *r, struct buf *b, struct slice orcpt)
{
    struct slice address = orcpt, type = slice_cut(&address, ';');
    if (orcpt.n == 0)
        return;
    buf_puts(b, "Original-Recipient: ");
    if (slice_iis(type, "utf-8")) {
        buf_puts(b, "utf-8;");
        (void)orcpt_utf8_encode(address, r->utf8, b);
    } else {
        put(r, b, orcpt);
    }
    buf_puts(b, "\r\n");
}

static void put_final(const struct report *r, struct buf *b, struct slice address)
{
    buf_puts(b, "Final-Recipient: ");
    if (slice_is_ascii(address)) {
        buf_puts(b, "rfc822; ");
        words_put_ascii(b, address);
    } else {
        buf_puts(b, "utf-8; ");
        (void)orcpt_utf8_encode(address, r->utf8, b);
    }
    buf_puts(b, "\r\n");
}

static const char *action(const struct report *r, const struct report_recipient *rr)
{
    static const char *const actions[] = {
        [REPORT_FAILURE] = "failed", [REPORT_DELAY] = "delayed", [REPORT_SUCCESS] = "delivered"};
    if (r->kind == REPORT_SUCCESS && rr->status == RELAYED_NO_DSN)
        return "relayed";
    if (r->kind == REPORT_SUCCESS && rr->status == EXPANDED)
        return "expanded";
    return actions[r->kind];
}

/* RFC 3464 §2.3.4: the class has to fit the action, whatever the agent said. */
static void put_status(struct buf *b, const struct report *r, const struct report_recipient *rr)
{
    static const char *const fallback[] = {
        [REPORT_FAILURE] = "5.0.0", [REPORT_DELAY] = "4.0.0", [REPORT_SUCCESS] = "2.0.0"};
    const char *want = fallback[r->kind];
    bool fits = rr->dsn.n >= 5 && rr->dsn.p[1] == '.' &&
                (rr->dsn.p[0] == want[0] || (r->kind == REPORT_FAILURE && rr->dsn.p[0] == '4'));
    buf_puts(b, "Status: ");
    words_put_ascii(b, fits ? rr->dsn : slice_of(want));
    buf_puts(b, "\r\n");
}

/* What the other server said, in the words of remote (HOST[IP] said: REPLY (in reply to VERB));
 * empty when it said nothing: only a reply is of the type smtp (RFC 3461 §9.2). */
static struct slice smtp_reply_in(const struct report_recipient *rr)
{
    static const struct slice said = {" said: ", 7}, verb = {" (in reply to ", 14};
    struct slice reply = rr->text;
    uint64_t code;
    ptrdiff_t at = slice_find(reply, said);
    if (at >= 0)
        reply = slice_from_index(reply, (size_t)at + said.n);
    if (!rr->mta.n || reply.n < 4 || (reply.p[3] != ' ' && reply.p[3] != '-') ||
        slice_u64(slice_first(reply, 3), 200, 599, &code) != OK)
        return SLICE_LIT("");
    ptrdiff_t end = slice_find(reply, verb);
    return end < 0 ? reply : slice_first(reply, (size_t)end);
}

static void put_recipient(const struct report *r, struct buf *b, const struct report_recipient *rr)
{
    buf_puts(b, "\r\n");
    put_original(r, b, rr->orcpt);
    put_final(r, b, rr->address);
    buf_printf(b, "Action: %s\r\n", action(r, rr));
    put_status(b, r, rr);
    if (rr->mta.n) {
        buf_puts(b, "Remote-MTA: dns; ");
        put(r, b, rr->mta);
        buf_puts(b, "\r\n");
    }
    if (rr->text.n) {
        struct buf text;
        buf_init(&text, rr->text.n);
        struct slice reply = smtp_reply_in(rr);
        put(r, &text, reply.n ? reply : rr->text);
        buf_printf(b, "Diagnostic-Code: %s;", reply.n ? "smtp" : "X-Veredus");
        words_put_folded(b, buf_slice(&text), 24, LINE_TEXT, "    ");
        buf_puts(b, "\r\n");
        buf_clear(&text);
    }
    if (rr->last_attempt)
        words_put_date(b, "Last-Attempt-Date", rr->last_attempt);
    if (r->kind == REPORT_DELAY)
        words_put_date(b, "Will-Retry-Until", r->will_retry_until);
}

/* The name as given, and in a comment what is certain (RFC 3464 §2.2.4). */
static void put_received_from(const struct report *r, struct buf *b)
{
    const struct envelope *e = &r->envelope;
    if (e->helo.n == 0)
        return;
    buf_puts(b, "Received-From-MTA: dns; ");
    put(r, b, e->helo);
    if (e->client.n) {
        buf_puts(b, " (");
        words_put_ascii(b, e->client_name);
        buf_puts(b, e->client_name.n ? " [" : "[");
        words_put_ascii(b, e->client);
        buf_puts(b, "])");
    }
    buf_puts(b, "\r\n");
}

/* Groups of fields, one a recipient. Returns how many recipients are left out. */
static uint32_t put_recipients(const struct report *r, struct buf *b)
{
    struct reader reader = reader_of(r->recipients);
    struct report_recipient rr;
    uint32_t left_out = r->left_out;
    size_t from = buf_len(b);
    while (reader.rest.n && record_get(&reader, &report_recipient_record, &rr) == OK) {
        if (buf_len(b) - from < STATUS_MAX)
            put_recipient(r, b, &rr);
        else
            left_out++;
    }
    return left_out;
}

void status_print(const struct report *r, struct buf *b)
{
    char id[ID_TEXT];
    struct buf recipients;
    buf_init(&recipients, 2 * STATUS_MAX);
    uint32_t left_out = put_recipients(r, &recipients);
    id_print(r->qid, id);
    if (r->envelope.envid.n) {
        buf_puts(b, "Original-Envelope-Id: ");
        words_put_ascii(b, r->envelope.envid);
        buf_puts(b, "\r\n");
    }
    buf_puts(b, "Reporting-MTA: dns; ");
    words_put_ascii(b, r->hostname);
    buf_puts(b, "\r\n");
    put_received_from(r, b);
    words_put_date(b, "Arrival-Date", r->envelope.received);
    buf_printf(b, "X-Veredus-Queue-ID: %s\r\n", id);
    if (left_out)
        buf_printf(b, "X-Veredus-Recipients-Left-Out: %u\r\n", left_out);
    buf_put(b, buf_slice(&recipients));
    b->failed |= recipients.failed;
    buf_clear(&recipients);
}
