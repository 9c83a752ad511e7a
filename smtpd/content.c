#include "smtpd/content.h"

#include "libmail/date.h"
#include "libmail/header.h"
#include "libmail/msgid.h"
#include "libutil/error.h"

size_t content_header_end(struct slice text, size_t *scanned)
{
    if (slice_starts(text, "\r\n"))
        return 2;
    ptrdiff_t at = slice_find(slice_from_index(text, *scanned), SLICE_LIT("\r\n\r\n"));
    if (at >= 0)
        return *scanned + (size_t)at + 4;
    *scanned = text.n > 3 ? text.n - 3 : 0;
    return 0;
}

/* RFC 6409 §8: what a mail client left out. */
static void add_missing(const struct content_job *job, struct slice head, struct buf *out)
{
    struct header_field f;
    char date[DATE_TEXT];
    if (!header_find(head, "Date", &f)) {
        date_print(job->received.when, date);
        (void)buf_printf(out, "Date: %s\r\n", date);
    }
    if (!header_find(head, "Message-ID", &f)) {
        (void)buf_puts(out, "Message-ID: ");
        (void)msgid_new(job->hostname, out);
        (void)buf_puts(out, "\r\n");
    }
    if (!header_find(head, "From", &f)) {
        if (job->sender.n)
            (void)buf_printf(out, "From: <%.*s>\r\n", SLICE_FMT(job->sender));
        else
            (void)buf_printf(out, "From: MAILER-DAEMON@%.*s\r\n", SLICE_FMT(job->hostname));
    }
}

/* Fields as they came; of a submitted message without those that are nobody else's business. */
static void put_fields(const struct content_job *job, struct slice fields, struct buf *out)
{
    struct header_iter it;
    struct header_field f;
    header_iter_init(&it, fields);
    size_t used = 0;
    while (job->complete && header_iter_next(&it, &f)) {
        used += f.raw.n;
        if (!slice_iis(f.name, "Bcc") && !slice_iis(f.name, "Resent-Bcc"))
            (void)buf_put(out, f.raw);
    }
    (void)buf_put(out, slice_from_index(fields, used)); /* all, or the empty line */
}

/* What is asked of the fields, found in one pass; of each name the first counts. */
enum seen { MESSAGE_ID, AUTO_SUBMITTED, PRECEDENCE, LIST_ID, LIST_UNSUBSCRIBE, SEEN };

struct survey {
    size_t length; /* of the fields and the empty line */
    unsigned received;
    struct slice bodies[SEEN]; /* p is NULL: not there */
};

static void survey(struct slice head, struct survey *v)
{
    static const char *const names[SEEN] = {
        "Message-ID", "Auto-Submitted", "Precedence", "List-Id", "List-Unsubscribe"};
    struct header_iter it;
    struct header_field f;
    *v = (struct survey){0};
    header_iter_init(&it, head);
    while (header_iter_next(&it, &f)) {
        v->received += slice_iis(f.name, "Received");
        for (size_t i = 0; i < SEEN; i++)
            if (!v->bodies[i].p && slice_iis(f.name, names[i]))
                v->bodies[i] = f.body;
    }
    v->length = head.n - it.rest.n;
}

/* Mail that can wait behind what a person has written: lists (RFC 2369, 2919), Precedence, and what
 * a machine says of itself (RFC 3834 §5). */
static bool is_bulk(const struct survey *v)
{
    static const char *const words[] = {"bulk", "list", "junk"};
    if (v->bodies[LIST_ID].p || v->bodies[LIST_UNSUBSCRIBE].p)
        return true;
    if (v->bodies[AUTO_SUBMITTED].p) {
        struct slice rest = v->bodies[AUTO_SUBMITTED], word = slice_trim(slice_cut(&rest, ';'));
        if (!slice_iis(word, "no"))
            return true;
    }
    struct slice precedence = slice_trim(v->bodies[PRECEDENCE]);
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (slice_iis(precedence, words[i]))
            return true;
    return false;
}

int content_begin(const struct content_job *job, struct slice head, struct buf *out,
    struct content_facts *facts, struct smtp_refusal *why)
{
    struct header_field f;
    struct survey v;
    survey(head, &v);
    struct slice fields = slice_first(head, v.length);
    struct slice rest = slice_from_index(head, fields.n);
    if (v.received >= RECEIVED_HOPS_MAX) {
        *why = (struct smtp_refusal){554, "5.4.6", "Too many hops: this message is in a loop"};
        return ERR_DENIED;
    }
    (void)received_print(&job->received, out);
    if (job->complete)
        add_missing(job, head, out);
    put_fields(job, fields, out);
    /* Text that is no field would become part of the header, or of our own fields. */
    bool ended = slice_is(fields, "\r\n") || slice_ends(fields, "\r\n\r\n");
    if (!ended && rest.n)
        (void)buf_puts(out, "\r\n");
    (void)buf_put(out, rest);
    struct slice id = v.bodies[MESSAGE_ID];
    if (!id.p && job->complete && header_find(buf_slice(out), "Message-ID", &f))
        id = f.body;
    facts->message_id = id.p ? msgid_find(id) : (struct slice){NULL, 0};
    facts->bulk = is_bulk(&v);
    facts->utf8 = !slice_is_ascii(fields);
    return out->failed ? ERR_LIMIT : OK;
}
