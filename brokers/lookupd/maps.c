#include "brokers/lookupd/maps.h"

#include <limits.h>
#include <unistd.h>

#include "libmail/address.h"
#include "libmail/aliases.h"

static struct slice lower(struct slice s, char out[ADDRESS_MAX + 2])
{
    size_t n = MIN(s.n, (size_t)ADDRESS_MAX + 1);
    if (n)
        memcpy(out, s.p, n);
    ascii_lower(out, n);
    return slice_from(out, n);
}

/* --- opening ---------------------------------------------------------------------------------- */
static void add_directory(struct maps *m, const char *path)
{
    if (path[0] && !map_get(&m->directories, slice_of(path)))
        map_set(&m->directories, slice_of(path), xstrdup(path));
}

static int open_table(struct maps *m, const char *key, struct table **out, struct error *err)
{
    char dir[PATH_MAX];
    const struct conf_block *root = conf_root(m->conf);
    if (!conf_isset(root, key))
        return OK;
    struct error why;
    *out = out == &m->aliases ? table_open_aliases(conf_string(root, key), &why)
                              : table_open(conf_string(root, key), &why);
    if (!*out)
        return error_set(err, why.code, "%s: %s", key, why.text);
    if (table_directory(conf_string(root, key), dir, sizeof(dir)))
        add_directory(m, dir);
    return OK;
}

/* Files that aliases include must stay readable in the sandbox. */
static int note_includes(struct slice key, struct slice value, void *arg)
{
    struct alias_member m;
    (void)key;
    while (alias_next(&value, ALIAS_BLANKS, &m)) {
        ptrdiff_t slash = slice_rchr(m.text, '/');
        char dir[PATH_MAX];
        if (m.kind == ALIAS_INCLUDE && slash > 0 &&
            slice_to_cstr(slice_first(m.text, (size_t)slash), dir, sizeof(dir)) &&
            access(dir, R_OK | X_OK) == 0)
            add_directory(arg, dir);
    }
    return 0;
}

static void list_directories(struct maps *m)
{
    size_t pos = 0, n = 0;
    struct slice key;
    void *path;
    m->read = xcalloc(map_count(&m->directories) + 1, sizeof(*m->read));
    while (map_next(&m->directories, &pos, &key, &path))
        m->read[n++] = path;
}

static void add_domains(struct maps *m)
{
    char name[ADDRESS_MAX + 2];
    for (const struct conf_block *b = NULL; (b = conf_next(conf_root(m->conf), "domain", b));)
        for (size_t i = 0; i < conf_args(b); i++)
            map_set(&m->domains, lower(conf_arg(b, i), name), (void *)(uintptr_t)b);
    for (size_t i = 0; i < conf_list_len(m->local, "domains"); i++)
        map_set(&m->domains, lower(conf_list_at(m->local, "domains", i), name),
            (void *)(uintptr_t)m->local);
}

struct maps *maps_new(const struct conf *conf, const char *etc, struct error *err)
{
    struct maps *m = NEW(struct maps);
    m->conf = conf;
    m->local = conf_one(conf, "local");
    map_init(&m->domains);
    map_init(&m->directories);
    add_domains(m);
    int rc = open_table(m, "aliases", &m->aliases, err);
    if (rc == OK)
        rc = open_table(m, "virtual-aliases", &m->virtual_aliases, err);
    if (rc == OK)
        rc = open_table(m, "transport", &m->transport, err);
    if (rc == OK)
        rc = open_table(m, "hold", &m->hold, err);
    if (rc == OK)
        rc = open_table(m, "report-texts", &m->report_texts, err);
    if (rc == OK && m->aliases)
        rc = table_each(m->aliases, note_includes, m, err);
    if (rc == OK && conf_list_len(m->local, "domains") > 0) {
        m->accounts = accounts_open(etc, err);
        add_directory(m, etc);
        rc = m->accounts ? users_limits(m->local, m->limits, err) : ERR_IO;
    }
    if (rc) {
        maps_free(m);
        return NULL;
    }
    list_directories(m);
    return m;
}

void maps_free(struct maps *m)
{
    size_t pos = 0;
    struct slice key;
    void *path;
    if (!m)
        return;
    while (map_next(&m->directories, &pos, &key, &path))
        free(path);
    map_clear(&m->directories);
    map_clear(&m->domains);
    table_close(m->aliases);
    table_close(m->virtual_aliases);
    table_close(m->transport);
    table_close(m->hold);
    table_close(m->report_texts);
    accounts_close(m->accounts);
    free(m->read);
    free(m);
}

/* --- domains ---------------------------------------------------------------------------------- */
enum domain_class maps_class(
    const struct maps *m, struct slice domain, const struct conf_block **block)
{
    char name[ADDRESS_MAX + 2];
    *block = map_get(&m->domains, lower(domain, name));
    if (*block == m->local)
        return DOMAIN_LOCAL;
    if (*block)
        return conf_isset(*block, "relay") ? DOMAIN_RELAY : DOMAIN_VIRTUAL;
    if (slice_ieq(domain, conf_string(conf_root(m->conf), "hostname")) ||
        slice_iis(domain, "localhost"))
        return DOMAIN_SELF;
    return DOMAIN_OTHER;
}

struct slice maps_home_domain(const struct maps *m)
{
    return conf_list_len(m->local, "domains") ? conf_list_at(m->local, "domains", 0)
                                              : conf_string(conf_root(m->conf), "hostname");
}

/* --- lookups ---------------------------------------------------------------------------------- */
static int get_joined(struct table *t, struct slice local, const char *at, struct slice domain,
    struct buf *out, struct error *err)
{
    char key[ADDRESS_MAX + 3];
    int n = snprintf(key, sizeof(key), "%.*s%s%.*s", SLICE_FMT(local), at, SLICE_FMT(domain));
    if (n <= 0 || (size_t)n >= sizeof(key))
        return ERR_NOT_FOUND;
    return table_get(t, slice_from(key, (size_t)n), out, err);
}

int maps_virtual_alias(
    struct maps *m, struct slice local, struct slice domain, struct buf *out, struct error *err)
{
    struct slice user, detail;
    if (!m->virtual_aliases)
        return ERR_NOT_FOUND;
    int rc = get_joined(m->virtual_aliases, local, "@", domain, out, err);
    address_split_detail(local, '+', &user, &detail);
    if (rc == ERR_NOT_FOUND && detail.p)
        rc = get_joined(m->virtual_aliases, user, "@", domain, out, err);
    if (rc == ERR_NOT_FOUND)
        rc = get_joined(m->virtual_aliases, SLICE_LIT(""), "@", domain, out, err);
    return rc;
}

int maps_alias(struct maps *m, struct slice name, struct buf *out, struct error *err)
{
    struct slice user, detail;
    if (!m->aliases)
        return ERR_NOT_FOUND;
    int rc = table_get(m->aliases, name, out, err);
    address_split_detail(name, '+', &user, &detail);
    if (rc == ERR_NOT_FOUND && detail.p)
        rc = table_get(m->aliases, user, out, err);
    return rc;
}

int maps_transport(
    struct maps *m, struct slice address, struct slice domain, struct buf *out, struct error *err)
{
    if (!m->transport)
        return ERR_NOT_FOUND;
    int rc = table_get(m->transport, address, out, err);
    if (rc == ERR_NOT_FOUND)
        rc = table_get(m->transport, domain, out, err);
    while (rc == ERR_NOT_FOUND) {
        ptrdiff_t dot = slice_chr(slice_from_index(domain, 1), '.');
        if (dot < 0 || domain.n == 0)
            break;
        domain = slice_from_index(domain, (size_t)dot + 1);
        rc = table_get(m->transport, domain, out, err);
    }
    return rc;
}

int maps_hold(struct maps *m, struct slice key, struct error *err)
{
    struct buf value;
    if (!m->hold || key.n == 0)
        return ERR_NOT_FOUND;
    buf_init(&value, TABLE_VALUE_MAX);
    int rc = table_get(m->hold, key, &value, err);
    buf_clear(&value);
    return rc;
}

int maps_account(struct maps *m, struct slice name, struct error *err)
{
    struct account account;
    m->beyond++;
    if (!m->accounts)
        return ERR_NOT_FOUND;
    int rc = accounts_find(m->accounts, name, &account, err);
    if (rc == OK && !account_is_person(&account, conf_int(m->local, "min-uid")))
        rc = ERR_NOT_FOUND;
    return rc;
}

int maps_report_text(struct maps *m, unsigned kind, enum report_text part, struct slice languages,
    struct buf *out, struct error *err)
{
    enum { LANGUAGES_MOST = 5 };
    struct slice language;
    int rc = ERR_NOT_FOUND;
    struct buf key;
    if (!m->report_texts)
        return ERR_NOT_FOUND;
    buf_init(&key, TABLE_KEY_MAX);
    for (int i = 0; rc == ERR_NOT_FOUND && i < LANGUAGES_MOST; i++) {
        if (!report_text_language(&languages, &language))
            break;
        struct slice region = language, alone = slice_cut(&region, '-');
        buf_reset(&key);
        if (report_text_key(kind, part, language, &key))
            rc = table_get(m->report_texts, buf_slice(&key), out, err);
        buf_reset(&key);
        if (rc == ERR_NOT_FOUND && region.p && report_text_key(kind, part, alone, &key))
            rc = table_get(m->report_texts, buf_slice(&key), out, err);
    }
    buf_reset(&key);
    if (rc == ERR_NOT_FOUND && report_text_key(kind, part, SLICE_LIT(""), &key))
        rc = table_get(m->report_texts, buf_slice(&key), out, err);
    buf_clear(&key);
    return rc;
}
