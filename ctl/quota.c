/* quota: what users may keep and what they have. */
#include <errno.h>
#include <sys/stat.h>

#include "ctl/ctl.h"
#include "ctl/json.h"
#include "ctl/mailuser.h"
#include "libmail/users.h"
#include "libstore/quota.h"
#include "libutil/table.h"

/* The user's mail, with the limits of today remembered in it. */
static int open_limited(struct ctl *c, const char *name, struct store **out, struct error *err)
{
    struct user user = {0};
    int rc = mailuser_find(c, name, &user, err);
    if (!rc)
        rc = mailuser_open(c, name, false, NULL, out, err);
    if (!rc)
        rc = store_quota_set(*out, slice_of(user.quota), err);
    user_wipe(&user);
    return rc;
}

static void print(
    struct ctl *c, const char *name, const struct quota *q, const struct quota_usage *used)
{
    struct buf text, *out = &text;
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {{"bytes", used->bytes}, {"max-bytes", q->bytes}, {"messages", used->messages},
        {"max-messages", q->messages}};
    struct json json = {.out = out};
    buf_init(out, 65536);
    if (c->json) {
        json_begin(&json, NULL, '{');
        json_str(&json, "user", slice_of(name));
    } else {
        buf_printf(out, "%s:", name);
    }
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (c->json)
            json_int(&json, rows[i].name, (int64_t)rows[i].value);
        else if (rows[i].value || i % 2 == 0)
            buf_printf(out, " %s=%llu", rows[i].name, (unsigned long long)rows[i].value);
    if (c->json)
        json_end(&json, '}');
    buf_putc(out, '\n');
    fwrite(buf_slice(out).p, 1, buf_len(out), stdout);
    buf_clear(out);
}

static int usage_of(struct store *s, struct quota *q, struct quota_usage *used, struct error *err)
{
    int rc = store_quota_get(s, q, err);
    return rc ? rc : store_quota_usage(s, used, err);
}

static int usage_of_store(
    struct ctl *c, const char *name, struct quota *q, struct quota_usage *used, struct error *err)
{
    struct store *s = NULL;
    int rc = open_limited(c, name, &s, err);
    if (!rc)
        rc = usage_of(s, q, used, err);
    store_close(s);
    return rc;
}

/* An account's mbox file: its bytes; nobody counts its messages. */
static int usage_of_file(struct ctl *c, const struct user *user, struct quota *q,
    struct quota_usage *used, struct error *err)
{
    struct slice mailbox = conf_string(conf_one(ctl_conf(c), "local"), "mailbox");
    ptrdiff_t brace = slice_find(mailbox, SLICE_LIT("{user}"));
    struct slice domain = slice_of(user->name), account = slice_cut(&domain, '@');
    char path[2048];
    struct stat st;
    int rc = quota_parse(slice_of(user->quota), q, err);
    snprintf(path, sizeof(path), "%.*s%.*s%s", (int)MAX(brace, (ptrdiff_t)0), mailbox.p,
        SLICE_FMT(account), brace < 0 ? "" : mailbox.p + brace + strlen("{user}"));
    *used = (struct quota_usage){0};
    if (!rc && stat(path, &st) == 0)
        used->bytes = (uint64_t)st.st_size;
    else if (!rc && errno != ENOENT)
        rc = error_sys(err, "%s", path);
    q->messages = 0;
    return rc;
}

static int show(struct ctl *c, int argc, char **argv)
{
    struct quota q;
    struct quota_usage used;
    struct user user = {0};
    struct error err = {0};
    if (argc != 1)
        return ctl_usage(c);
    int rc = mailuser_find(c, argv[0], &user, &err);
    if (!rc)
        rc = user.system && !user.mail[0] ? usage_of_file(c, &user, &q, &used, &err)
                                          : usage_of_store(c, argv[0], &q, &used, &err);
    user_wipe(&user);
    if (rc)
        return ctl_report(&err);
    print(c, argv[0], &q, &used);
    return CTL_OK;
}

/* The totals of a folder against its messages, one by one; made anew when they differ. */
static int recount_folder(struct store *s, struct slice folder, bool *wrong, struct error *err)
{
    struct store_status st;
    struct store_mailbox *mb;
    struct store_msg m;
    uint64_t bytes = 0, n = 0;
    int rc = store_status(s, folder, &st, err);
    if (!rc)
        rc = store_select(s, folder, true, &mb, err);
    if (rc)
        return rc;
    for (uint32_t seq = 1; store_get(mb, seq, &m); seq++) {
        bytes += m.size;
        n++;
    }
    store_unselect(mb);
    *wrong = bytes != st.size || n != st.messages;
    return *wrong ? store_rebuild(s, folder, err) : OK;
}

static int recount(struct ctl *c, int argc, char **argv)
{
    struct store *s = NULL;
    struct store_folder *folders = NULL;
    size_t n = 0;
    struct quota q;
    struct quota_usage used;
    struct error err = {0};
    if (argc != 1)
        return ctl_usage(c);
    int rc = open_limited(c, argv[0], &s, &err);
    if (!rc)
        rc = store_list(s, &folders, &n, &err);
    for (size_t i = 0; !rc && i < n; i++) {
        bool wrong = false;
        if (folders[i].attrs & STORE_NOSELECT)
            continue;
        rc = recount_folder(s, folders[i].name, &wrong, &err);
        if (!rc && wrong && !c->json)
            printf("%.*s: totals were wrong, made anew\n", SLICE_FMT(folders[i].name));
    }
    store_list_free(folders, n);
    /* As the owner by now, who may not read the users table again. */
    if (!rc)
        rc = usage_of(s, &q, &used, &err);
    store_close(s);
    if (rc)
        return ctl_report(&err);
    print(c, argv[0], &q, &used);
    return CTL_OK;
}

/* The entry with these fields instead of its own: HASH:DIRECTORY:FIELDS. */
static int write_fields(
    const struct conf *conf, const char *name, const char *fields, struct error *err)
{
    struct slice spec = conf_string(conf_root(conf), "users");
    struct buf old, value;
    struct table *t = table_open(spec, err);
    if (!t)
        return err->code;
    buf_init(&old, TABLE_VALUE_MAX);
    buf_init(&value, TABLE_VALUE_MAX);
    int rc = table_get(t, slice_of(name), &old, err);
    if (rc == ERR_NOT_FOUND)
        error_set(err, rc, "%s has no entry in the users table", name);
    if (!rc) {
        struct slice rest = buf_slice(&old);
        struct slice hash = slice_cut(&rest, ':'), directory = slice_cut(&rest, ':');
        buf_printf(&value, "%.*s", SLICE_FMT(hash));
        if (directory.n || fields[0])
            buf_printf(&value, ":%.*s", SLICE_FMT(directory));
        if (fields[0])
            buf_printf(&value, ":%s", fields);
        rc = table_change(spec, TABLE_REPLACE, slice_of(name), buf_slice(&value), err);
    }
    table_close(t);
    buf_wipe(&old);
    buf_wipe(&value);
    return rc;
}

static bool is_size(const char *s)
{
    size_t n = strspn(s, "0123456789");
    return n > 0 && n < 16 && (!s[n] || (strchr("KMGT", s[n]) && !s[n + 1]));
}

static int set(struct ctl *c, int argc, char **argv)
{
    struct error err = {0};
    struct user user = {0};
    char fields[128] = "";
    if (argc < 2 || argc > 3)
        return ctl_usage(c);
    const struct conf *conf = ctl_conf(c);
    if (!conf)
        return CTL_NO;
    bool back = strcmp(argv[1], "default") == 0;
    if ((!back && !is_size(argv[1])) || (argc > 2 && (back || !is_size(argv[2]))))
        return ctl_fail(CTL_USAGE, "quota set: must be SIZE [MESSAGES], or default");
    ascii_lower(argv[0], strlen(argv[0]));
    bool system = mailuser_find(c, argv[0], &user, &err) == OK && user.system;
    user_wipe(&user);
    if (system)
        return ctl_fail(CTL_NO, "accounts of the host all have the limits of the block local");
    if (!back)
        snprintf(fields, sizeof(fields), "quota=%.20s%s%.20s", argv[1],
            argc > 2 ? " quota-messages=" : "", argc > 2 ? argv[2] : "");
    return write_fields(conf, argv[0], fields, &err) ? ctl_report(&err) : CTL_OK;
}

const struct ctl_verb quota_verbs[] = {
    {"quota", "show", "USER", "what a user may keep, and has", show},
    {"quota", "set", "USER (SIZE [MESSAGES] | default)",
        "limits of one user instead of the domain's; 0: none", set},
    {"quota", "recount", "USER", "checks the folders' totals by counting, and shows", recount},
    {NULL}};
