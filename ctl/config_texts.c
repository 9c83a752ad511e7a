#include "ctl/config_texts.h"

#include <unistd.h>

#include "libmail/address.h"
#include "libmail/report_texts.h"
#include "libutil/conf_place.h"
#include "libutil/file.h"
#include "libutil/net.h"
#include "libutil/table_internal.h"

static int check_pair(struct slice key, struct slice value, void *arg)
{
    struct error err;
    if (report_text_check(key, value, &err) != OK)
        buf_printf(arg, "report-texts: %.*s: %s\n", SLICE_FMT(key), err.text);
    return 0;
}

/* Its entries with their lines. That they are well-formed has been seen. */
static void check_lines(const char *path, struct slice text, struct buf *errors)
{
    unsigned line = 0, starts = 0;
    struct error err;
    for (struct slice entry; (entry = table_next_entry(&text, &line, &starts)).p;) {
        struct slice key, raw;
        struct buf value;
        if (table_split_entry(slice_trim(entry), &key, &raw) != OK)
            continue;
        buf_init(&value, raw.n);
        for (size_t i = 0; i < raw.n; i++)
            buf_putc(&value, raw.p[i] == '\n' || raw.p[i] == '\r' ? ' ' : raw.p[i]);
        if (report_text_check(key, buf_slice(&value), &err) != OK)
            buf_printf(errors, "%s:%u: %.*s: %s\n", path, starts, SLICE_FMT(key), err.text);
        buf_clear(&value);
    }
}

void config_check_texts(const struct conf *conf, struct buf *errors)
{
    struct slice spec = conf_string(conf_root(conf), "report-texts");
    struct error err = {0};
    struct buf text;
    char path[4096];
    if (!spec.p)
        return;
    struct table *t = table_open(spec, &err);
    if (!t) {
        conf_key_where(conf, conf_root(conf), "report-texts", errors);
        buf_printf(errors, ": %.*s: %s\n", SLICE_FMT(spec), err.text);
        return;
    }
    buf_init(&text, TABLE_FILE_MAX);
    struct slice argument = spec, type = slice_cut(&argument, ':');
    if (table_has_path(type) && slice_to_cstr(argument, path, sizeof(path)) &&
        file_read(path, &text, &err) == OK)
        check_lines(path, buf_slice(&text), errors);
    else if (table_each(t, check_pair, errors, &err) != OK)
        buf_printf(errors, "report-texts: %.*s: %s\n", SLICE_FMT(spec), err.text);
    buf_clear(&text);
    table_close(t);
}

static void check_table(const struct conf *conf, const char *key, struct buf *errors)
{
    struct error err = {0};
    const struct conf_block *root = conf_root(conf);
    struct slice spec = conf_string(root, key);
    if (!spec.p)
        return;
    struct table *t =
        strcmp(key, "aliases") == 0 ? table_open_aliases(spec, &err) : table_open(spec, &err);
    /* At SIGHUP we are a root that may not read everything; who uses the table may. */
    if (!t && !(err.code == ERR_DENIED && geteuid() == 0)) {
        conf_key_where(conf, root, key, errors);
        buf_printf(errors, ": %.*s: %s\n", SLICE_FMT(spec), err.text);
    }
    table_close(t);
}

struct transports {
    const struct conf *conf;
    struct buf *errors;
};

static bool has_command(const struct conf *conf, struct slice name)
{
    const struct conf_block *b = NULL;
    while ((b = conf_next(conf_root(conf), "command", b)) != NULL)
        if (slice_eq(conf_arg(b, 0), name))
            return true;
    return false;
}

/* As lookupd and pipe read it, who can only let mail wait. NULL: it is fine. */
static const char *transport_fault(const struct conf *conf, struct slice value)
{
    struct slice rest = value, host;
    bool bracketed;
    uint16_t port;
    slice_cut(&rest, ':');
    if (slice_is(value, "virtual:") || slice_is(value, "local:"))
        return NULL;
    if (slice_starts(value, "pipe:"))
        return has_command(conf, rest) ? NULL : "there is no such command block";
    if (!slice_starts(value, "smtp:") && !slice_starts(value, "lmtp:"))
        return "must begin with smtp:, lmtp:, pipe:, virtual: or local:";
    if (rest.n == 0 || address_is_literal(rest) ||
        net_hostport_parse(rest, &host, &bracketed, &port) == OK)
        return NULL;
    return "must be DOMAIN, [HOST] or [HOST]:PORT";
}

static int check_transport(struct slice key, struct slice value, void *arg)
{
    const struct transports *t = arg;
    const char *fault = transport_fault(t->conf, slice_trim(value));
    if (fault) {
        conf_key_where(t->conf, conf_root(t->conf), "transport", t->errors);
        buf_printf(
            t->errors, ": %.*s: '%.*s': %s\n", SLICE_FMT(key), SLICE_FMT(slice_trim(value)), fault);
    }
    return 0;
}

static void check_transports(const struct conf *conf, struct buf *errors)
{
    struct error err;
    struct transports all = {conf, errors};
    struct slice spec = conf_string(conf_root(conf), "transport");
    struct table *t = spec.p ? table_open(spec, &err) : NULL;
    if (t) /* what keeps it from being opened has been said */
        (void)!table_each(t, check_transport, &all, &err);
    table_close(t);
}

void config_check_tables(const struct conf *conf, struct buf *errors)
{
    static const char *const tables[] = {
        "users", "aliases", "virtual-aliases", "transport", "hold"};
    for (size_t i = 0; i < ARRAY_LEN(tables); i++)
        check_table(conf, tables[i], errors);
    check_transports(conf, errors);
}
