#include "delivery/bounce/report.h"

#include <time.h>

#include "delivery/bounce/status.h"
#include "delivery/bounce/words.h"
#include "libmail/date.h"
#include "libmail/header.h"
#include "libmail/msgid.h"
#include "libutil/log.h"

enum { LINE_TEXT = 76, REPORT_PEOPLE = 1000, TEXT_MAX = 4 * 1024 * 1024 };

void report_choose_form(struct report *r)
{
    struct reader reader = reader_of(r->recipients);
    struct report_recipient rr;
    bool ascii = slice_is_ascii(r->to) && slice_is_ascii(header_part(r->original));
    while (reader.rest.n && record_get(&reader, &report_recipient_record, &rr) == OK)
        ascii = ascii && slice_is_ascii(rr.address) && slice_is_ascii(rr.original) &&
                slice_is_ascii(rr.orcpt);
    r->utf8 = r->envelope.smtputf8 && !ascii;
}

bool report_is_8bit(const struct report *r)
{
    bool body = r->whole && r->envelope.body == BODY_8BITMIME;
    return r->utf8 || body || !slice_is_ascii(report_returned(r));
}

/* --- the administrator's words ------------------------------------------------------------- */

static uint32_t count_recipients(const struct report *r)
{
    struct reader reader = reader_of(r->recipients);
    struct report_recipient rr;
    uint32_t n = r->left_out;
    while (reader.rest.n && record_get(&reader, &report_recipient_record, &rr) == OK)
        n++;
    return n;
}

static void put_placeholder(const struct report *r, struct buf *b, struct slice name)
{
    char text[DATE_TEXT] = "";
    if (slice_is(name, "{hostname}")) {
        words_put(b, r->hostname);
    } else if (slice_is(name, "{sender}")) {
        words_put(b, r->envelope.sender);
    } else if (slice_is(name, "{count}")) {
        buf_printf(b, "%u", count_recipients(r));
    } else if (slice_is(name, "{queue-id}")) {
        id_print(r->qid, text);
        buf_puts(b, text);
    } else if (slice_is(name, "{arrived}") || slice_is(name, "{until}")) {
        bool arrived = slice_is(name, "{arrived}");
        date_print((time_t)((arrived ? r->envelope.received : r->will_retry_until) / 1000), text);
        buf_puts(b, text);
    } else {
        words_put(b, name);
    }
}

/* One line of a template; the configuration has been checked, so braces are sound. */
static void put_line(const struct report *r, struct buf *b, struct slice line)
{
    while (line.n) {
        ptrdiff_t open = slice_chr(line, '{');
        ptrdiff_t close = open < 0 ? -1 : slice_chr(slice_from_index(line, (size_t)open), '}');
        size_t plain = open < 0 || close < 0 ? line.n : (size_t)open;
        words_put(b, slice_first(line, plain));
        line = slice_from_index(line, plain);
        if (line.n == 0)
            return;
        put_placeholder(r, b, slice_first(line, (size_t)close + 1));
        line = slice_from_index(line, (size_t)close + 1);
    }
}

static void put_template(const struct report *r, struct buf *b, struct slice text)
{
    while (text.n) {
        put_line(r, b, slice_cut(&text, '\n'));
        buf_puts(b, "\r\n");
    }
}

/* --- parts --------------------------------------------------------------------------------- */

static void put_subject(const struct report *r, struct buf *b)
{
    struct buf subject;
    buf_init(&subject, 2048);
    put_line(r, &subject, r->subject);
    if (r->postmaster)
        buf_puts(&subject, " (postmaster notice)");
    buf_puts(b, "\r\nSubject: ");
    if (r->utf8)
        words_put(b, buf_slice(&subject));
    else
        words_put_encoded(b, buf_slice(&subject));
    buf_puts(b, "\r\n");
    buf_clear(&subject);
}

static void put_header(const struct report *r, struct buf *b, const char *boundary)
{
    char id[ID_TEXT], date[DATE_TEXT];
    id_print(r->report_qid, id);
    date_print((time_t)(r->now / 1000), date);
    buf_puts(b, "Received: by ");
    words_put_ascii(b, r->hostname);
    buf_printf(b, " (Veredus) id %s;\r\n\t%s\r\n", id, date);
    words_put_date(b, "Date", r->now);
    buf_puts(b, "From: Mail Delivery System <MAILER-DAEMON@");
    words_put_ascii(b, r->hostname);
    buf_puts(b, ">\r\nTo: <");
    if (r->utf8)
        words_put(b, r->to);
    else
        words_put_ascii(b, r->to);
    buf_puts(b, ">");
    put_subject(r, b);
    buf_puts(b, "Message-ID: ");
    msgid_new(r->hostname, b);
    buf_puts(b, "\r\n");
    if (r->envelope.message_id.n > 0) {
        buf_puts(b, "In-Reply-To: ");
        words_put_ascii(b, r->envelope.message_id);
        buf_puts(b, "\r\nReferences: ");
        words_put_ascii(b, r->envelope.message_id);
        buf_puts(b, "\r\n");
    }
    buf_printf(b,
        "Auto-Submitted: auto-replied\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: multipart/report; report-type=%s;\r\n"
        "\tboundary=\"%s\"\r\n"
        "Content-Transfer-Encoding: %s\r\n\r\n"
        "This is a MIME-encapsulated delivery report.\r\n",
        r->utf8 ? "global-delivery-status" : "delivery-status", boundary,
        report_is_8bit(r) ? "8bit" : "7bit");
}

static void put_person(struct buf *b, const struct report_recipient *rr)
{
    buf_puts(b, "\r\n<");
    words_put(b, rr->address);
    buf_puts(b, ">");
    if (rr->original.n && !slice_ieq(rr->original, rr->address)) {
        buf_puts(b, " (written to as <");
        words_put(b, rr->original);
        buf_puts(b, ">)");
    }
    buf_puts(b, ":\r\n   ");
    if (rr->status == DELIVER_EXPIRED)
        buf_puts(b, " given up after too long; the last attempt said:\r\n   ");
    if (rr->mta.n && slice_find(rr->text, rr->mta) < 0) {
        buf_puts(b, " host ");
        words_put(b, rr->mta);
        buf_puts(b, " said:\r\n   ");
    }
    words_put_folded(
        b, rr->text.n ? rr->text : SLICE_LIT("no reason was given"), 4, LINE_TEXT, "    ");
    buf_puts(b, "\r\n");
}

static void put_people(const struct report *r, struct buf *b)
{
    char id[ID_TEXT];
    struct reader reader = reader_of(r->recipients);
    struct report_recipient rr;
    uint32_t n;
    id_print(r->qid, id);
    put_template(r, b, r->text);
    if (r->postmaster && r->envelope.sender.n == 0)
        buf_puts(b, "\r\nIt had no sender to be told, so this report goes to the postmaster.\r\n");
    else if (r->postmaster)
        buf_puts(b, "\r\nIts sender cannot be told, so this report goes to the postmaster.\r\n");
    for (n = 0; n < REPORT_PEOPLE && reader.rest.n; n++)
        if (record_get(&reader, &report_recipient_record, &rr) == OK)
            put_person(b, &rr);
    if (count_recipients(r) > n)
        buf_printf(b, "\r\n... and %u more recipients, see the delivery report below.\r\n",
            count_recipients(r) - n);
    buf_printf(b, "\r\n(queue id %s)\r\n", id);
}

/* The text for people; of what is outside ASCII, only a report in UTF-8 keeps the bytes. */
static void put_notification(const struct report *r, struct buf *out)
{
    struct buf text;
    buf_init(&text, TEXT_MAX);
    put_people(r, &text);
    out->failed |= text.failed;
    bool ascii = slice_is_ascii(buf_slice(&text));
    buf_printf(out, "Content-Description: Notification\r\nContent-Type: text/plain; charset=%s\r\n",
        ascii ? "us-ascii" : "utf-8");
    if (ascii || r->utf8) {
        buf_puts(out, ascii ? "\r\n" : "Content-Transfer-Encoding: 8bit\r\n\r\n");
        buf_put(out, buf_slice(&text));
    } else {
        buf_puts(out, "Content-Transfer-Encoding: quoted-printable\r\n\r\n");
        words_put_quoted_printable(out, buf_slice(&text));
    }
    buf_clear(&text);
}

struct slice report_returned(const struct report *r)
{
    return r->whole ? r->original : header_part(r->original);
}

int report_head(const struct report *r, struct buf *out, char boundary[REPORT_BOUNDARY])
{
    static const char *const types[2][2] = {
        {"text/rfc822-headers", "message/rfc822"}, {"message/global-headers", "message/global"}};
    char first[ID_TEXT], second[ID_TEXT];
    id_print(id_new(), first);
    id_print(id_new(), second);
    /* Random: nobody can write it into a message beforehand. */
    snprintf(boundary, REPORT_BOUNDARY, "=_report_%s%s", first, second);
    put_header(r, out, boundary);
    buf_printf(out, "\r\n--%s\r\n", boundary);
    put_notification(r, out);
    buf_printf(out,
        "\r\n--%s\r\nContent-Description: Delivery report\r\nContent-Type: message/%s\r\n",
        boundary, r->utf8 ? "global-delivery-status" : "delivery-status");
    buf_puts(out, r->utf8 ? "Content-Transfer-Encoding: 8bit\r\n\r\n" : "\r\n");
    status_print(r, out);
    buf_printf(out, "\r\n--%s\r\nContent-Description: %s\r\nContent-Type: %s\r\n", boundary,
        r->whole ? "Undelivered message" : "Header of the message", types[r->utf8][r->whole]);
    if (report_is_8bit(r))
        buf_puts(out, "Content-Transfer-Encoding: 8bit\r\n");
    return buf_puts(out, "\r\n");
}

int report_tail(const char *boundary, struct buf *out)
{
    return buf_printf(out, "\r\n--%s--\r\n", boundary);
}
