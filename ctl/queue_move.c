/*
 * queue export and import: a message as a file, beside it its envelope as text (libmail/text.h):
 *
 *     veredus envelope 1
 *     envelope sender=bob@sender.example envid= ...
 *     recipient address=carol@gmail.com original=... notify=0
 *
 * On the way in every recipient is routed anew: mailboxes and relays may be different here.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ctl/json.h"
#include "ctl/queue.h"
#include "libmail/header.h"
#include "libmail/proto/inject.h"
#include "libmail/proto/route.h"
#include "libmail/text.h"
#include "libutil/log.h"

enum { BODY_MAX = 1 << 30, TEXT_MAX = 64 << 20, RECIPIENTS_MAX = 64 << 20, PATH = 4096 };

static const char first_line[] = "veredus envelope 1";

/* What an envelope file says of a recipient. */
#define EXPORTED_FIELDS(F, S) \
    F(S, STR, address, 320)   \
    F(S, STR, original, 320)  \
    F(S, STR, orcpt, 500) F(S, U32, notify, 0) F(S, STR, owner, 320)
RECORD_DECLARE(exported, EXPORTED_FIELDS)
RECORD_DEFINE(exported, EXPORTED_FIELDS)

/* --- export ---------------------------------------------------------------------------------- */

static void put_recipients(struct buf *out, struct slice packed)
{
    struct queue_recipient q;
    for (struct reader r = reader_of(packed);
         r.rest.n && record_get(&r, &queue_recipient_record, &q) == OK;) {
        struct exported e = {.address = q.address,
            .original = q.original,
            .orcpt = q.orcpt,
            .notify = q.notify,
            .owner = q.owner};
        if (!slice_is(q.state, "done") && !slice_is(q.transport, TRANSPORT_EXPANDED))
            text_put(out, "recipient", &exported_record, &e);
    }
}

/* The envelope as text. */
static int read_envelope(struct ipc_sync *s, uint64_t qid, struct buf *out, struct error *err)
{
    struct queue_show ask = {.qid = qid};
    struct ipc_in in;
    buf_printf(out, "%s\n", first_line);
    do {
        if (ipc_sync_call(s, queue_show_type, qid, &ask, -1, &in, err) != OK)
            return err->code;
        const struct queue_details *d = in.msg;
        struct envelope e;
        struct reader r = reader_of(d->envelope);
        if (d->code != OK)
            return error_set(err, (int)d->code,
                d->code == ERR_NOT_FOUND ? "no such message in the queue" : "it cannot be read");
        if (ask.from == 0 && record_get(&r, &envelope_record, &e) == OK)
            text_put(out, "envelope", &envelope_record, &e);
        put_recipients(out, d->recipients);
        ask.from = d->next;
    } while (ask.from);
    return out->failed ? error_set(err, ERR_LIMIT, "its envelope is too large") : OK;
}

/* A new file that only its owner may read; with the bytes of s, or of the descriptor from. */
static int write_file(const char *path, struct slice s, int from, uint64_t n, struct error *err)
{
    char chunk[65536];
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_sys(err, "%s", path);
    bool good = true;
    for (uint64_t at = 0; good && at < n;) {
        ssize_t got = (ssize_t)MIN(n - at, (uint64_t)sizeof(chunk));
        if (from >= 0)
            got = pread(from, chunk, (size_t)got, (off_t)at);
        good = got > 0 && write(fd, from >= 0 ? chunk : s.p + at, (size_t)got) == got;
        at += (uint64_t)MAX(got, 0);
    }
    good = fsync(fd) == 0 && good;
    int rc = good ? OK : error_sys(err, "%s: cannot be written", path);
    close(fd);
    if (rc != OK)
        unlink(path);
    return rc;
}

static int read_body(struct ipc_sync *s, uint64_t qid, const char *path, struct error *err)
{
    struct queue_body ask = {.qid = qid};
    struct ipc_in in;
    if (ipc_sync_call(s, queue_body_type, qid, &ask, -1, &in, err) != OK)
        return err->code;
    const struct queue_content *content = in.msg;
    if (content->code != OK || in.fd < 0)
        return error_set(err, ERR_NOT_FOUND, "no such message in the queue");
    int fd = in.fd;
    in.fd = -1;
    int rc = write_file(path, SLICE_LIT(""), fd, content->size, err);
    close(fd);
    return rc;
}

static int export_one(struct ctl *c, struct ipc_sync *s, uint64_t qid, const char *dir)
{
    char eml[PATH], text[PATH], id[ID_TEXT];
    struct error err = {0};
    struct buf envelope;
    id_print(qid, id);
    int n = snprintf(eml, sizeof(eml), "%s/%s.eml", dir, id);
    snprintf(text, sizeof(text), "%s/%s.envelope", dir, id);
    if (n >= PATH - 16)
        return ctl_fail(CTL_USAGE, "%s: too long", dir);
    buf_init(&envelope, TEXT_MAX);
    int rc = read_envelope(s, qid, &envelope, &err);
    if (rc == OK)
        rc = read_body(s, qid, eml, &err);
    if (rc == OK) {
        struct slice all = buf_slice(&envelope);
        rc = write_file(text, all, -1, all.n, &err);
        if (rc != OK)
            unlink(eml);
    }
    buf_clear(&envelope);
    if (rc != OK)
        return ctl_fail(CTL_NO, "%s: %s", id, err.text);
    if (!c->json)
        printf("%s\n", eml);
    return CTL_OK;
}

struct ids {
    uint64_t *qids;
    size_t n;
};

static void add_id(struct ids *ids, uint64_t qid)
{
    if (ids->n % 1024 == 0)
        ids->qids = xrealloc(ids->qids, ids->n + 1024, sizeof(*ids->qids));
    ids->qids[ids->n++] = qid;
}

static void remember(const struct queue_entry *e, void *arg)
{
    add_id(arg, e->qid);
}

/* filter: what is to be exported beside ids; NULL: nothing. */
static int export_all(struct ctl *c, struct ids *ids, const struct slice *filter, const char *dir)
{
    struct ipc_sync s;
    if (mkdir(dir, 0700) != 0 && errno != EEXIST)
        return ctl_fail(CTL_NO, "%s: %s", dir, strerror(errno));
    int status = queue_open(c, &s, true);
    if (status != CTL_OK)
        return status;
    if (filter)
        status = queue_each(&s, *filter, remember, ids);
    size_t good = 0;
    for (size_t i = 0; i < ids->n; i++) {
        int result = export_one(c, &s, ids->qids[i], dir);
        good += result == CTL_OK;
        status = result == CTL_OK ? status : result;
    }
    if (c->json)
        printf("{\"count\":%zu}\n", good);
    ipc_sync_close(&s);
    return status;
}

int queue_export(struct ctl *c, int argc, char **argv)
{
    struct buf filter;
    struct ids ids = {0};
    buf_init(&filter, 1024);
    int status = queue_filter_options(&argc, argv, &filter);
    struct slice fits = buf_slice(&filter);
    bool filtered = fits.n > 0, all = !filtered && argc == 2 && strcmp(argv[0], "all") == 0;
    if (status == CTL_OK && (filtered ? argc != 1 : argc < 2))
        status = ctl_usage(c);
    for (int i = 0; status == CTL_OK && !all && i < argc - 1; i++) {
        uint64_t qid;
        if (id_parse(slice_of(argv[i]), &qid) != OK)
            status = ctl_fail(CTL_USAGE, "%s: not a queue id", argv[i]);
        else
            add_id(&ids, qid);
    }
    if (status == CTL_OK)
        status = export_all(c, &ids, filtered || all ? &fits : NULL, argv[argc - 1]);
    free(ids.qids);
    buf_clear(&filter);
    return status;
}

/* --- import ---------------------------------------------------------------------------------- */

struct import {
    struct ctl *c;
    struct buf body, text;
    struct arena arena;
    struct envelope envelope;
    struct exported *given;
    size_t ngiven;
    struct buf recipients; /* packed, routed */
    uint64_t qid;
};

static int read_file(const char *path, struct buf *out, struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : 1;
    while (n > 0) {
        char *room = buf_reserve(out, 65536);
        n = room ? read(fd, room, 65536) : -1;
        if (n > 0)
            buf_claim(out, (size_t)n);
        else if (!room)
            errno = EFBIG;
    }
    int rc = n < 0 ? error_sys(err, "%s", path) : OK;
    if (fd >= 0)
        close(fd);
    return rc;
}

/* CRLF line ends, whatever the file has. */
static int take_body(const char *path, struct buf *body, struct error *err)
{
    struct buf file;
    buf_init(&file, BODY_MAX);
    int rc = read_file(path, &file, err);
    struct slice rest = buf_slice(&file);
    while (rc == OK && rest.n > 0) {
        struct slice line = slice_cut(&rest, '\n');
        if (slice_ends(line, "\r"))
            line.n--;
        buf_put(body, line);
        if (buf_puts(body, "\r\n") != OK)
            rc = error_set(err, ERR_LIMIT, "%s: too large", path);
    }
    buf_clear(&file);
    if (rc == OK && buf_len(body) == 0)
        rc = error_set(err, ERR_SYNTAX, "%s: empty", path);
    return rc;
}

static int take_line(struct import *im, struct slice line)
{
    struct slice word = slice_cut(&line, ' ');
    if (slice_is(word, "envelope"))
        return text_get(line, &envelope_record, &im->envelope, &im->arena);
    if (!slice_is(word, "recipient"))
        return ERR_SYNTAX;
    im->given = xrealloc(im->given, im->ngiven + 1, sizeof(*im->given));
    struct exported *e = &im->given[im->ngiven++];
    int rc = text_get(line, &exported_record, e, &im->arena);
    return rc == OK && e->address.n == 0 ? ERR_SYNTAX : rc;
}

static int take_envelope(struct import *im, const char *path, struct error *err)
{
    int rc = read_file(path, &im->text, err);
    struct slice rest = buf_slice(&im->text);
    if (rc != OK)
        return rc;
    if (!slice_is(slice_trim(slice_cut(&rest, '\n')), first_line))
        return error_set(err, ERR_SYNTAX, "%s:1: not \"%s\"", path, first_line);
    for (int n = 2; rest.n > 0; n++) {
        struct slice line = slice_trim(slice_cut(&rest, '\n'));
        if (line.n > 0 && take_line(im, line) != OK)
            return error_set(err, ERR_SYNTAX, "%s:%d: malformed", path, n);
    }
    if (im->ngiven == 0)
        return error_set(err, ERR_SYNTAX, "%s: no recipient", path);
    return OK;
}

/* What the file does not say. */
static void complete(struct import *im)
{
    struct envelope *e = &im->envelope;
    struct header_field f;
    e->about = e->about_indexes = 0; /* what it tells of may be in another spool */
    e->about_serial = e->about_kind = e->about_group = 0;
    if (e->received <= 0)
        e->received = (int64_t)time(NULL) * 1000;
    if (e->listener.n == 0)
        e->listener = SLICE_LIT("import");
    if (e->message_id.n == 0 && header_find(buf_slice(&im->body), "Message-ID", &f))
        e->message_id = slice_first(slice_trim(f.body), 255);
}

static int route_one(
    struct import *im, struct ipc_sync *s, const struct exported *e, struct error *err)
{
    struct ipc_in in;
    struct recipient to;
    struct route_check ask = {.address = e->address,
        .sender = im->envelope.sender,
        .login = SLICE_LIT(""),
        .client = SLICE_LIT(""),
        .may_relay = true};
    if (ipc_sync_call(s, route_check_type, im->qid, &ask, -1, &in, err) != OK)
        return err->code;
    const struct route_verdict *v = in.msg;
    if (v->code != 250)
        return error_set(err, v->code < 500 ? ERR_TEMP : ERR_DENIED, "%.*s: %u %.*s",
            SLICE_FMT(e->address), v->code, SLICE_FMT(v->text));
    for (struct reader r = reader_of(v->recipients);
         r.rest.n && record_get(&r, &recipient_record, &to) == OK;) {
        to.original = e->original.n ? e->original : e->address;
        to.orcpt = e->orcpt;
        to.notify = e->notify;
        if (to.owner.n == 0)
            to.owner = e->owner;
        if (record_put(&im->recipients, &recipient_record, &to) != OK)
            return error_set(err, ERR_LIMIT, "too many recipients");
    }
    return OK;
}

static int route_all(struct import *im, struct error *err)
{
    struct ipc_sync s;
    int rc = ctl_connect_daemon(im->c, CONV_ROUTE, ROLE_LOOKUPD, &route_proto, &s, err);
    if (rc != OK)
        return rc;
    for (size_t i = 0; rc == OK && i < im->ngiven; i++)
        rc = route_one(im, &s, &im->given[i], err);
    ipc_sync_close(&s);
    return rc;
}

/* A body that does not fit into one message goes into a file that qmgr lends. */
static int send_body(struct import *im, struct ipc_sync *s, struct error *err)
{
    struct ipc_in in;
    struct inject_open ask = {.txn = im->qid};
    struct slice rest = buf_slice(&im->body);
    if (ipc_sync_call(s, inject_open_type, im->qid, &ask, -1, &in, err) != OK)
        return err->code;
    const struct inject_file *f = in.msg;
    if (f->code != 250 || in.fd < 0)
        return error_set(err, ERR_TEMP, "%u %.*s", f->code, SLICE_FMT(f->text));
    int fd = in.fd, rc = OK;
    in.fd = -1;
    while (rest.n > 0 && rc == OK) {
        ssize_t n = write(fd, rest.p, rest.n);
        if (n <= 0)
            rc = error_sys(err, "the body cannot be written");
        else
            rest = slice_from_index(rest, (size_t)n);
    }
    close(fd); /* before the message is accepted: nobody may be able to write then */
    return rc;
}

/* Whole records, at most max bytes, off the front. */
static struct slice cut_records(struct slice *rest, size_t max)
{
    struct reader r = reader_of(*rest);
    struct recipient to;
    size_t used = 0;
    while (r.rest.n && record_get(&r, &recipient_record, &to) == OK && rest->n - r.rest.n <= max)
        used = rest->n - r.rest.n;
    struct slice part = slice_first(*rest, used);
    *rest = slice_from_index(*rest, used);
    return part;
}

static int send_message(
    struct import *im, struct ipc_sync *s, struct slice envelope, struct error *err)
{
    struct ipc_in in;
    struct slice rest = buf_slice(&im->recipients);
    bool large = buf_len(&im->body) > INJECT_INLINE_BODY;
    int rc = large ? send_body(im, s, err) : OK;
    while (rc == OK && rest.n > INJECT_RECIPIENTS) {
        struct inject_more more = {.txn = im->qid, .recipients = cut_records(&rest, INJECT_MORE)};
        rc = ipc_sync_send(s, inject_more_type, im->qid, 0, &more, -1, err);
    }
    if (rc != OK)
        return rc;
    struct inject_accept accept = {.txn = im->qid,
        .envelope = envelope,
        .recipients = rest,
        .size = buf_len(&im->body),
        .body = large ? SLICE_LIT("") : buf_slice(&im->body),
        .qid = im->qid};
    if (ipc_sync_call(s, inject_accept_type, im->qid, &accept, -1, &in, err) != OK)
        return err->code;
    const struct inject_result *r = in.msg;
    return r->code == 250 ? OK : error_set(err, ERR_TEMP, "%u %.*s", r->code, SLICE_FMT(r->text));
}

static int inject(struct import *im, struct error *err)
{
    struct ipc_sync s;
    struct buf envelope;
    buf_init(&envelope, 4096);
    int rc = record_put(&envelope, &envelope_record, &im->envelope);
    if (rc != OK)
        rc = error_set(err, ERR_LIMIT, "the envelope is too large");
    else
        rc = ctl_connect_daemon(im->c, CONV_INJECT, ROLE_QMGR, &inject_proto, &s, err);
    if (rc == OK) {
        rc = send_message(im, &s, buf_slice(&envelope), err);
        ipc_sync_close(&s);
    }
    buf_clear(&envelope);
    return rc;
}

int queue_import(struct ctl *c, int argc, char **argv)
{
    struct import im = {.c = c, .qid = id_new()};
    struct error err = {0};
    char id[ID_TEXT];
    if (argc != 2)
        return ctl_usage(c);
    buf_init(&im.body, BODY_MAX);
    buf_init(&im.text, TEXT_MAX);
    buf_init(&im.recipients, RECIPIENTS_MAX);
    arena_init(&im.arena, TEXT_MAX);
    int rc = text_get(SLICE_LIT(""), &envelope_record, &im.envelope, &im.arena);
    if (rc == OK)
        rc = take_body(argv[0], &im.body, &err);
    if (rc == OK)
        rc = take_envelope(&im, argv[1], &err);
    if (rc == OK) {
        complete(&im);
        rc = route_all(&im, &err);
    }
    if (rc == OK)
        rc = inject(&im, &err);
    id_print(im.qid, id);
    if (rc == OK)
        printf(c->json ? "{\"qid\":\"%s\"}\n" : "%s\n", id);
    buf_clear(&im.body);
    buf_clear(&im.text);
    buf_clear(&im.recipients);
    arena_reset(&im.arena);
    free(im.given);
    return rc == OK ? CTL_OK : ctl_report(&err);
}
