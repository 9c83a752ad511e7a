#include "ctl/import_run.h"

#include <time.h>
#include <unistd.h>

#include "ctl/imapclient.h"
#include "ctl/import.h"
#include "ctl/import_state.h"
#include "ctl/json.h"
#include "libmail/base64.h"
#include "libstore/housekeep.h"
#include "libstore/name.h"
#include "libutil/tls_digest.h"
#include "libutil/tls_sync.h"

enum { CHECKPOINT_MESSAGES = 1000, FOLDERS_MAX = 20000 };
static const uint64_t message_max = 1 << 30;

struct remote_folder {
    char *wire, *here;
    bool noselect, subscribed;
};

struct run {
    struct import_args *a;
    struct store *store;
    struct import_state *state;
    struct tls_sync *conn;
    struct imap_client *client;
    unsigned tag;
    bool starttls, plain, logindisabled, namespaces;
    char prefix[256]; /* of the personal namespace */
    struct remote_folder *folders;
    size_t nfolders, cap;
    /* The folder at hand. */
    const struct remote_folder *f;
    uint32_t uidvalidity, uidnext, exists, last, least;
    uint32_t after; /* the UIDs asked for are above */
    bool unordered; /* UIDs do not ascend: what is missing below the last is not known */
    bool bare;      /* bare: only UIDs were asked for */
    struct store_append *append;
    uint64_t size;
    uint32_t unsaved;
    char server[300];
    uint64_t messages, bytes, skipped, present, done_folders;
};

uint64_t import_id(const struct slice *words, size_t n)
{
    char hex[DIGEST_HEX];
    uint64_t id = 0;
    struct digest *d = digest_new();
    for (size_t i = 0; i < n; i++) {
        digest_put(d, words[i]);
        digest_put(d, slice_from("", 1));
    }
    digest_take(d, hex);
    digest_free(d);
    for (size_t i = 0; i < 16; i++)
        id = id << 4 | (unsigned)(hex[i] <= '9' ? hex[i] - '0' : hex[i] - 'a' + 10);
    return id ? id : 1;
}

/* --- what the server tells -------------------------------------------------------------------- */

static ssize_t more(void *arg, void *room, size_t n, struct error *err)
{
    struct run *r = arg;
    return tls_sync_read(r->conn, room, n, err);
}

static void capability(void *arg, struct slice word)
{
    struct run *r = arg;
    r->starttls |= slice_iis(word, "STARTTLS");
    r->plain |= slice_iis(word, "AUTH=PLAIN");
    r->logindisabled |= slice_iis(word, "LOGINDISABLED");
    r->namespaces |= slice_iis(word, "NAMESPACE");
}

static void namespace(void *arg, struct slice prefix, char separator)
{
    struct run *r = arg;
    (void)separator;
    if (!slice_to_cstr(prefix, r->prefix, sizeof(r->prefix)))
        r->prefix[0] = '\0';
}

static void number(void *arg, const char *what, uint64_t value)
{
    struct run *r = arg;
    if (strcmp(what, "UIDVALIDITY") == 0)
        r->uidvalidity = (uint32_t)value;
    else if (strcmp(what, "UIDNEXT") == 0)
        r->uidnext = (uint32_t)value;
    else
        r->exists = (uint32_t)value;
}

/* One level of a name, or what is between two dots of one. */
static void put_piece(struct buf *out, struct slice piece)
{
    struct buf disk;
    buf_init(&disk, 1024);
    buf_putc(&disk, '.');
    buf_put(&disk, piece);
    /* Modified UTF-7 as it stands on disk; what is none of it is taken literally. */
    if (name_from_disk(buf_slice(&disk), out))
        for (size_t i = 0; i < piece.n; i++)
            buf_putc(out, piece.p[i] == '/' ? '_' : piece.p[i]);
    buf_clear(&disk);
}

static void map_name(const struct run *r, struct slice wire, char separator, struct buf *out)
{
    size_t prefix = strlen(r->prefix);
    if (slice_iis(wire, "INBOX")) {
        buf_puts(out, "INBOX");
        return;
    }
    if (prefix && slice_starts(wire, r->prefix) && wire.n > prefix)
        wire = slice_from_index(wire, prefix);
    while (wire.n) {
        size_t n = 0;
        while (n < wire.n && wire.p[n] != '.' && !(separator && wire.p[n] == separator))
            n++;
        if (n)
            put_piece(out, slice_first(wire, n));
        if (n < wire.n)
            buf_putc(out, separator && wire.p[n] == separator ? STORE_SEPARATOR : '.');
        wire = slice_from_index(wire, MIN(n + 1, wire.n));
    }
}

static void apply_maps(const struct run *r, struct buf *name)
{
    for (size_t i = 0; i < r->a->nmaps; i++) {
        struct slice to = slice_of(r->a->maps[i]), from = slice_cut(&to, '=');
        if (!slice_eq(from, buf_slice(name)))
            continue;
        buf_reset(name);
        buf_put(name, to);
        return;
    }
}

static void list(void *arg, const struct imap_list *l)
{
    struct run *r = arg;
    struct buf here;
    for (size_t i = 0; i < r->nfolders; i++)
        if (slice_is(l->name, r->folders[i].wire)) {
            r->folders[i].subscribed |= l->subscribed;
            return;
        }
    if (l->subscribed || r->nfolders == FOLDERS_MAX)
        return;
    buf_init(&here, 4096);
    map_name(r, l->name, l->separator, &here);
    if (r->nfolders == r->cap) {
        r->cap = r->cap ? 2 * r->cap : 64;
        r->folders = xrealloc(r->folders, r->cap, sizeof(*r->folders));
    }
    if (!r->a->folder || store_expire_matches(slice_of(r->a->folder), buf_slice(&here))) {
        apply_maps(r, &here);
        r->folders[r->nfolders++] = (struct remote_folder){.wire = xmemdup0(l->name.p, l->name.n),
            .here = xmemdup0(buf_slice(&here).p, buf_len(&here)),
            .noselect = l->noselect};
    }
    buf_clear(&here);
}

/* --- messages --------------------------------------------------------------------------------- */

static void skip(struct run *r, uint32_t uid, const char *why)
{
    fprintf(stderr, "veredus: %s: uid %u: %s: skipped\n", r->f->here, uid, why);
    r->skipped++;
}

static int begin(void *arg, struct error *err)
{
    struct run *r = arg;
    r->size = 0;
    return r->bare || !r->f
               ? OK
               : store_append_begin(r->store, slice_of(r->f->here), 0, &r->append, err);
}

static int piece(void *arg, struct slice s, struct error *err)
{
    struct run *r = arg;
    r->size += s.n;
    return !r->append || r->size > message_max ? OK : store_append_write(r->append, s, err);
}

static int checkpoint(struct run *r, struct error *err)
{
    int rc = store_sync(store_dirfd(r->store), err);
    if (!rc)
        rc = import_state_set(r->state, slice_of(r->f->wire), r->uidvalidity, r->last, err);
    r->unsaved = 0;
    return rc;
}

static int commit(struct run *r, const struct imap_message *m, struct error *err)
{
    char numbers[64];
    struct store_appended done;
    snprintf(numbers, sizeof(numbers), "%u %u", r->uidvalidity, m->uid);
    const struct slice words[] = {
        slice_of(r->server), slice_of(r->a->login), slice_of(r->f->wire), slice_of(numbers)};
    struct store_append_options opt = {.flags = m->flags,
        .keywords = m->keywords,
        .nkeywords = MIN(m->nkeywords, (size_t)STORE_KEYWORDS_MAX),
        .date = m->date,
        .delivery = import_id(words, ARRAY_LEN(words)),
        .import = true};
    int rc = store_append_commit(r->append, &opt, &done, err);
    r->append = NULL;
    if (rc == ERR_LIMIT) {
        skip(r, m->uid, err->text);
        return OK;
    }
    r->present += !rc && done.duplicate;
    r->messages += !rc && !done.duplicate;
    r->bytes += rc || done.duplicate ? 0 : r->size;
    return rc;
}

static int end(void *arg, const struct imap_message *m, struct error *err)
{
    struct run *r = arg;
    int rc = OK;
    /* "N:*" tells the last message even when it is below N; others report flags alone. */
    bool wanted = m->has_uid && m->uid > r->after;
    if (r->bare && wanted && (!r->least || m->uid < r->least))
        r->least = m->uid;
    if (!r->append)
        return OK;
    if (wanted && m->has_body && r->size > 2 && r->size <= message_max) {
        rc = commit(r, m, err);
    } else {
        store_append_abort(r->append);
        r->append = NULL;
        if (wanted)
            skip(r, m->uid,
                !m->has_body            ? "the server does not give its content"
                : r->size > message_max ? "too large"
                                        : "empty");
    }
    if (rc || !wanted)
        return rc;
    r->unordered |= m->uid < r->last;
    r->last = MAX(r->last, m->uid);
    return ++r->unsaved >= CHECKPOINT_MESSAGES && !r->unordered ? checkpoint(r, err) : OK;
}

/* --- commands --------------------------------------------------------------------------------- */

static int send_text(struct run *r, struct slice text, struct error *err)
{
    return tls_sync_write(r->conn, text, err);
}

/* Sends one command and reads to its end. */
static int command(struct run *r, struct slice text, enum imap_result *result, struct slice *answer,
    struct error *err)
{
    char tag[16];
    struct buf line;
    snprintf(tag, sizeof(tag), "v%u", ++r->tag);
    buf_init(&line, 16384);
    buf_printf(&line, "%s ", tag);
    buf_put(&line, text);
    buf_puts(&line, "\r\n");
    int rc = line.failed ? error_set(err, ERR_LIMIT, "a command is too long")
                         : send_text(r, buf_slice(&line), err);
    buf_wipe(&line);
    return rc ? rc : imap_client_read(r->client, tag, result, answer, err);
}

static int must(struct run *r, const char *what, struct error *err)
{
    enum imap_result result = IMAP_BAD;
    struct slice answer;
    int rc = command(r, slice_of(what), &result, &answer, err);
    if (!rc && result != IMAP_OK)
        rc = error_set(err, ERR_UNSUPPORTED, "%s: the server says:%.*s", what, SLICE_FMT(answer));
    return rc;
}

static void put_quoted(struct buf *out, struct slice s)
{
    buf_putc(out, '"');
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '"' || s.p[i] == '\\')
            buf_putc(out, '\\');
        buf_putc(out, s.p[i]);
    }
    buf_putc(out, '"');
}

/* The answer to a continuation request, then the end of the command. */
static int authenticate(struct run *r, struct buf *line, enum imap_result *result,
    struct slice *answer, struct error *err)
{
    struct buf plain;
    char tag[16];
    int rc = command(r, SLICE_LIT("AUTHENTICATE PLAIN"), result, answer, err);
    if (rc || *result != IMAP_CONTINUE)
        return rc;
    snprintf(tag, sizeof(tag), "v%u", r->tag);
    buf_init(&plain, 4096);
    buf_putc(&plain, '\0');
    buf_puts(&plain, r->a->login);
    buf_putc(&plain, '\0');
    buf_puts(&plain, r->a->password);
    rc = base64_encode(buf_slice(&plain), line);
    buf_puts(line, "\r\n");
    buf_wipe(&plain);
    if (!rc)
        rc = send_text(r, buf_slice(line), err);
    return rc ? rc : imap_client_read(r->client, tag, result, answer, err);
}

static int log_in(struct run *r, struct error *err)
{
    enum imap_result result = IMAP_BAD;
    struct slice answer = SLICE_LIT("");
    struct buf line;
    int rc;
    buf_init(&line, 8192);
    if (r->plain) {
        rc = authenticate(r, &line, &result, &answer, err);
    } else if (r->logindisabled) {
        rc = error_set(err, ERR_UNSUPPORTED, "the server offers no way to log in here");
    } else {
        buf_puts(&line, "LOGIN ");
        put_quoted(&line, slice_of(r->a->login));
        buf_putc(&line, ' ');
        put_quoted(&line, slice_of(r->a->password));
        rc = command(r, buf_slice(&line), &result, &answer, err);
    }
    buf_wipe(&line);
    explicit_bzero(r->a->password, sizeof(r->a->password));
    if (!rc && result != IMAP_OK)
        rc = error_set(
            err, ERR_DENIED, "login as %s: the server says:%.*s", r->a->login, SLICE_FMT(answer));
    return rc;
}

static void forget_capabilities(struct run *r)
{
    r->starttls = r->plain = r->logindisabled = r->namespaces = false;
}

static int greet(struct run *r, struct error *err)
{
    enum imap_result result = IMAP_BAD;
    struct slice answer;
    int rc = OK;
    if (r->a->tls == IMPORT_TLS_IMPLICIT)
        rc = tls_sync_start(r->conn, r->a->context, r->a->host, err);
    if (!rc)
        rc = imap_client_read(r->client, NULL, &result, &answer, err);
    bool known = !rc && result == IMAP_PREAUTH;
    if (!rc && r->a->tls == IMPORT_TLS_STARTTLS) {
        rc = must(r, "STARTTLS", err);
        /* What came before the handshake was in the clear: from anyone. */
        imap_client_forget(r->client);
        if (!rc)
            rc = tls_sync_start(r->conn, r->a->context, r->a->host, err);
    }
    forget_capabilities(r);
    if (!rc)
        rc = must(r, "CAPABILITY", err);
    if (!rc && !known)
        rc = log_in(r, err);
    if (!rc)
        rc = must(r, "CAPABILITY", err);
    if (!rc && r->namespaces)
        rc = must(r, "NAMESPACE", err);
    return rc;
}

/* --- folders ---------------------------------------------------------------------------------- */

static int list_folders(struct run *r, struct error *err)
{
    enum imap_result result;
    struct slice answer;
    struct buf line;
    int rc = must(r, "LIST \"\" \"INBOX\"", err);
    buf_init(&line, 2048);
    buf_puts(&line, "LIST \"\" ");
    char pattern[260];
    snprintf(pattern, sizeof(pattern), "%s*", r->prefix);
    put_quoted(&line, slice_of(pattern));
    if (!rc)
        rc = command(r, buf_slice(&line), &result, &answer, err);
    buf_clear(&line);
    if (!rc)
        rc = must(r, "LSUB \"\" \"*\"", err);
    return rc;
}

static int open_folder(struct run *r, const char *verb, bool *opened, struct error *err)
{
    enum imap_result result = IMAP_NO;
    struct slice answer;
    struct buf line;
    buf_init(&line, 8192);
    buf_printf(&line, "%s ", verb);
    put_quoted(&line, slice_of(r->f->wire));
    r->uidvalidity = r->uidnext = r->exists = 0;
    int rc = command(r, buf_slice(&line), &result, &answer, err);
    buf_clear(&line);
    *opened = !rc && result == IMAP_OK && r->uidvalidity;
    if (!rc && !*opened) {
        fprintf(
            stderr, "veredus: %s: the server says:%.*s: skipped\n", r->f->here, SLICE_FMT(answer));
        r->skipped++;
    }
    return rc;
}

static int fetch(struct run *r, const char *items, enum imap_result *result, struct error *err)
{
    char line[128];
    struct slice answer;
    r->after = r->last;
    snprintf(line, sizeof(line), "UID FETCH %u:* %s", r->last + 1, items);
    return command(r, slice_of(line), result, &answer, err);
}

/* All messages after the last one in one command, as fast as they come. A server that refuses to
 * give one of them is asked again for those after it. */
static int fetch_all(struct run *r, struct error *err)
{
    enum imap_result result = IMAP_OK;
    int rc;
    do {
        uint32_t before = r->last;
        rc = fetch(r, "(UID FLAGS INTERNALDATE BODY.PEEK[])", &result, err);
        if (rc || result == IMAP_OK || r->last > before)
            continue;
        enum imap_result ignored;
        r->bare = true;
        r->least = 0;
        rc = fetch(r, "(UID)", &ignored, err);
        r->bare = false;
        if (!rc && !r->least)
            return OK;
        if (!rc) {
            skip(r, r->least, "the server does not give it");
            r->last = r->least;
        }
    } while (!rc && result != IMAP_OK);
    return rc;
}

static void report_folder(const struct run *r)
{
    uint32_t first = r->last + 1;
    if (r->a->json)
        return;
    printf("%s: %u messages there%s\n", r->f->here, r->exists,
        r->uidnext && r->uidnext <= first ? ", all of them here" : "");
}

static int one_folder(struct run *r, struct error *err)
{
    struct slice here = slice_of(r->f->here);
    bool opened = false;
    r->unordered = false;
    if (store_name_check(here)) {
        fprintf(stderr, "veredus: %s: not a name for a folder: skipped\n", r->f->here);
        r->skipped++;
        return OK;
    }
    int rc = open_folder(r, "EXAMINE", &opened, err);
    if (rc || !opened)
        return rc;
    r->last = import_state_get(r->state, slice_of(r->f->wire), r->uidvalidity);
    r->done_folders++;
    if (r->a->dry) {
        report_folder(r);
        return OK;
    }
    if (!store_exists(r->store, here))
        rc = store_create(r->store, here, err);
    if (!rc && r->f->subscribed)
        rc = store_subscribe(r->store, here, true, err);
    if (!rc && r->exists && (!r->uidnext || r->uidnext > r->last + 1)) {
        rc = fetch_all(r, err);
        /* What came before an error counts too. */
        struct error late;
        int saved = rc && r->unordered ? OK : checkpoint(r, rc ? &late : err);
        rc = rc ? rc : saved;
    }
    return rc;
}

static int all_folders(struct run *r, struct error *err)
{
    int rc = list_folders(r, err);
    if (!rc && r->nfolders == 0 && r->a->folder)
        rc = error_set(err, ERR_NOT_FOUND, "the server has no folder %s", r->a->folder);
    for (size_t i = 0; !rc && i < r->nfolders; i++) {
        r->f = &r->folders[i];
        if (!r->f->noselect)
            rc = one_folder(r, err);
    }
    r->f = NULL;
    return rc;
}

static void report(const struct run *r)
{
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {{"folders", r->done_folders}, {"messages", r->messages}, {"size", r->bytes},
        {"present", r->present}, {"skipped", r->skipped}};
    struct buf out;
    struct json json = {.out = &out};
    buf_init(&out, 4096);
    if (r->a->json)
        json_begin(&json, NULL, '{');
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (r->a->json)
            json_int(&json, rows[i].name, (int64_t)rows[i].value);
        else
            buf_printf(
                &out, "%s%s %llu", i ? ", " : "", rows[i].name, (unsigned long long)rows[i].value);
    }
    if (r->a->json)
        json_end(&json, '}');
    printf("%.*s\n", SLICE_FMT(buf_slice(&out)));
    buf_clear(&out);
}

int import_run(struct import_args *a, struct store *store)
{
    struct run r = {.a = a, .store = store};
    const struct imap_events on = {.more = more,
        .list = list,
        .namespace = namespace,
        .capability = capability,
        .number = number,
        .begin = begin,
        .piece = piece,
        .end = end,
        .arg = &r};
    struct error err = {0};
    snprintf(r.server, sizeof(r.server), "%s:%u", a->host, a->port);
    r.conn = tls_sync_new(a->fd);
    a->fd = -1;
    r.client = imap_client_new(&on);
    int rc = import_state_load(store_dirfd(store), r.server, a->login, &r.state, &err);
    if (!rc)
        rc = greet(&r, &err);
    if (!rc)
        rc = all_folders(&r, &err);
    struct error ignored;
    if (!rc)
        (void)!must(&r, "LOGOUT", &ignored);
    store_append_abort(r.append);
    report(&r);
    for (size_t i = 0; i < r.nfolders; i++) {
        free(r.folders[i].wire);
        free(r.folders[i].here);
    }
    free(r.folders);
    imap_client_free(r.client);
    tls_sync_free(r.conn);
    import_state_free(r.state);
    if (!rc)
        return r.skipped ? 1 : 0;
    bool passes = rc == ERR_CLOSED || rc == ERR_TIMEOUT || rc == ERR_TEMP || rc == ERR_BUSY;
    fprintf(
        stderr, "veredus: %s: %s%s\n", r.server, err.text, passes ? ": run it again to go on" : "");
    return passes ? 75 : 1;
}
