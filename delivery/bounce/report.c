#include "delivery/bounce/report.h"

#include <time.h>

#include "libmail/date.h"
#include "libmail/header.h"
#include "libmail/msgid.h"
#include "libutil/log.h"

enum { LINE_TEXT = 76, LINE_FIELD = 500 };

/* How each kind is worded. */
static const struct kind {
    const char *subject, *action, *text;
} kinds[] = {
    [REPORT_FAILURE] = {"Mail could not be delivered", "failed",
        "Your message could not be delivered to the recipients below. It will not be tried\r\n"
        "again. What went wrong is said under each address.\r\n"},
    [REPORT_DELAY] = {"Mail is delayed", "delayed",
        "Your message has not been delivered to the recipients below yet. You need not do\r\n"
        "anything: delivery will be tried again.\r\n"},
    [REPORT_SUCCESS] = {"Mail was delivered", "delivered",
        "You asked to be told: your message was delivered to the recipients below, or passed\r\n"
        "on to a server that gives no such reports.\r\n"},
};

bool report_is_8bit(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] > 127)
            return true;
    return false;
}

/* One word or text on its own, 7-bit, without anything that could end the line. */
static void put_clean(struct buf *b, struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        buf_putc(b, s.p[i] >= ' ' && s.p[i] < 0x7f ? s.p[i] : '?');
}

/* Text broken at spaces; further lines begin with indent. */
static void put_folded(
    struct buf *b, struct slice s, size_t column, size_t width, const char *indent)
{
    while (s.n > 0) {
        struct slice word = slice_cut(&s, ' ');
        if (word.n == 0)
            continue;
        if (column > strlen(indent) && column + 1 + word.n > width) {
            buf_printf(b, "\r\n%s", indent);
            column = strlen(indent);
        } else {
            buf_putc(b, ' ');
        }
        put_clean(b, slice_first(word, 900));
        column += 1 + word.n;
    }
}

static void put_date(struct buf *b, const char *name, int64_t ms)
{
    char date[DATE_TEXT];
    date_print((time_t)(ms / 1000), date);
    buf_printf(b, "%s: %s\r\n", name, date);
}

static void put_header(const struct report *r, struct buf *b, const char *boundary)
{
    char id[ID_TEXT], date[DATE_TEXT];
    id_print(r->report_qid, id);
    date_print((time_t)(r->now / 1000), date);
    buf_puts(b, "Received: by ");
    put_clean(b, r->hostname);
    buf_printf(b, " (Veredus) id %s;\r\n\t%s\r\n", id, date);
    put_date(b, "Date", r->now);
    buf_puts(b, "From: Mail Delivery System <MAILER-DAEMON@");
    put_clean(b, r->hostname);
    buf_puts(b, ">\r\nTo: <");
    put_clean(b, r->to);
    buf_printf(b, ">\r\nSubject: %s%s\r\nMessage-ID: ", kinds[r->kind].subject,
        r->postmaster ? " (postmaster notice)" : "");
    msgid_new(r->hostname, b);
    buf_puts(b, "\r\n");
    if (r->envelope.message_id.n > 0) {
        buf_puts(b, "In-Reply-To: ");
        put_clean(b, r->envelope.message_id);
        buf_puts(b, "\r\nReferences: ");
        put_clean(b, r->envelope.message_id);
        buf_puts(b, "\r\n");
    }
    buf_printf(b,
        "Auto-Submitted: auto-replied\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: multipart/report; report-type=delivery-status;\r\n"
        "\tboundary=\"%s\"\r\n"
        "Content-Transfer-Encoding: %s\r\n\r\n"
        "This is a MIME-encapsulated delivery report.\r\n",
        boundary, report_is_8bit(report_returned(r)) ? "8bit" : "7bit");
}

static void put_people(const struct report *r, struct buf *b)
{
    char id[ID_TEXT];
    struct reader reader = reader_of(r->recipients);
    struct report_recipient rr;
    id_print(r->qid, id);
    buf_puts(b, "This is the mail system at ");
    put_clean(b, r->hostname);
    buf_printf(b, ".\r\n\r\n%s", kinds[r->kind].text);
    if (r->postmaster)
        buf_puts(b, "\r\nIt had no sender to be told, so this report goes to the postmaster.\r\n");
    if (r->kind == REPORT_DELAY)
        put_date(b, "\r\nIt will be given up after", r->will_retry_until);
    while (reader.rest.n && record_get(&reader, &report_recipient_record, &rr) == OK) {
        buf_puts(b, "\r\n<");
        put_clean(b, rr.address);
        buf_puts(b, ">");
        if (rr.original.n && !slice_ieq(rr.original, rr.address)) {
            buf_puts(b, " (written to as <");
            put_clean(b, rr.original);
            buf_puts(b, ">)");
        }
        buf_puts(b, ":\r\n   ");
        if (rr.status == DELIVER_EXPIRED)
            buf_puts(b, " given up after too long; the last attempt said:\r\n   ");
        if (rr.mta.n) {
            buf_puts(b, " host ");
            put_clean(b, rr.mta);
            buf_puts(b, " said:\r\n   ");
        }
        put_folded(b, rr.text.n ? rr.text : SLICE_LIT("no reason was given"), 4, LINE_TEXT, "    ");
        buf_puts(b, "\r\n");
    }
    if (r->left_out)
        buf_printf(b, "\r\n... and %u more recipients.\r\n", r->left_out);
    buf_printf(b, "\r\n(queue id %s)\r\n", id);
}

/* xtext-decoded ORCPT is "addr-type;address" already; RFC 3464 §2.3.1. */
static void put_original_recipient(struct buf *b, const struct report_recipient *rr)
{
    if (rr->orcpt.n == 0)
        return;
    buf_puts(b, "Original-Recipient: ");
    if (slice_chr(rr->orcpt, ';') < 0)
        buf_puts(b, "rfc822; ");
    put_clean(b, rr->orcpt);
    buf_puts(b, "\r\n");
}

static const char *action(const struct report *r, const struct report_recipient *rr)
{
    if (r->kind == REPORT_SUCCESS && rr->status == RELAYED_NO_DSN)
        return "relayed";
    return kinds[r->kind].action;
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
    put_clean(b, fits ? rr->dsn : slice_of(want));
    buf_puts(b, "\r\n");
}

static void put_recipient(const struct report *r, struct buf *b, const struct report_recipient *rr)
{
    buf_puts(b, "\r\n");
    put_original_recipient(b, rr);
    buf_puts(b, "Final-Recipient: rfc822; ");
    put_clean(b, rr->address);
    buf_printf(b, "\r\nAction: %s\r\n", action(r, rr));
    put_status(b, r, rr);
    if (rr->mta.n) {
        buf_puts(b, "Remote-MTA: dns; ");
        put_clean(b, rr->mta);
        buf_puts(b, "\r\n");
    }
    if (rr->text.n) {
        buf_printf(b, "Diagnostic-Code: %s;", rr->mta.n ? "smtp" : "X-Veredus");
        put_folded(b, rr->text, 24, LINE_TEXT, "    ");
        buf_puts(b, "\r\n");
    }
    if (rr->last_attempt)
        put_date(b, "Last-Attempt-Date", rr->last_attempt);
    if (r->kind == REPORT_DELAY)
        put_date(b, "Will-Retry-Until", r->will_retry_until);
}

static void put_machines(const struct report *r, struct buf *b)
{
    char id[ID_TEXT];
    struct reader reader = reader_of(r->recipients);
    struct report_recipient rr;
    id_print(r->qid, id);
    if (r->envelope.envid.n) {
        buf_puts(b, "Original-Envelope-Id: ");
        put_clean(b, r->envelope.envid);
        buf_puts(b, "\r\n");
    }
    buf_puts(b, "Reporting-MTA: dns; ");
    put_clean(b, r->hostname);
    buf_puts(b, "\r\n");
    if (r->envelope.helo.n) {
        buf_puts(b, "Received-From-MTA: dns; ");
        put_clean(b, r->envelope.helo);
        buf_puts(b, "\r\n");
    }
    put_date(b, "Arrival-Date", r->envelope.received);
    buf_printf(b, "X-Veredus-Queue-ID: %s\r\n", id);
    while (reader.rest.n && record_get(&reader, &report_recipient_record, &rr) == OK)
        put_recipient(r, b, &rr);
}

struct slice report_returned(const struct report *r)
{
    return r->whole ? r->original : header_part(r->original);
}

int report_head(const struct report *r, struct buf *out, char boundary[REPORT_BOUNDARY])
{
    char first[ID_TEXT], second[ID_TEXT];
    id_print(id_new(), first);
    id_print(id_new(), second);
    /* Random: nobody can write it into a message beforehand. */
    snprintf(boundary, REPORT_BOUNDARY, "=_report_%s%s", first, second);
    put_header(r, out, boundary);
    buf_printf(out,
        "\r\n--%s\r\nContent-Description: Notification\r\n"
        "Content-Type: text/plain; charset=us-ascii\r\n\r\n",
        boundary);
    put_people(r, out);
    buf_printf(out,
        "\r\n--%s\r\nContent-Description: Delivery report\r\n"
        "Content-Type: message/delivery-status\r\n\r\n",
        boundary);
    put_machines(r, out);
    buf_printf(out, "\r\n--%s\r\nContent-Description: %s\r\nContent-Type: %s\r\n", boundary,
        r->whole ? "Undelivered message" : "Header of the message",
        r->whole ? "message/rfc822" : "text/rfc822-headers");
    if (report_is_8bit(report_returned(r)))
        buf_puts(out, "Content-Transfer-Encoding: 8bit\r\n");
    return buf_puts(out, "\r\n");
}

int report_tail(const char *boundary, struct buf *out)
{
    return buf_printf(out, "\r\n--%s--\r\n", boundary);
}
