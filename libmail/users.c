#include "libmail/users.h"

#include "libmail/nfc.h"
#include "libutil/map.h"

struct users {
    const struct conf *conf;
    struct table *table;
    struct accounts *accounts; /* NULL: no local domains */
    struct map domains;        /* name -> block */
    const struct conf_block *local;
    char table_dir[4096], etc[256];
    const char *directories[3];
};

static void add_domains(struct users *u, const struct conf *conf)
{
    for (const struct conf_block *b = NULL; (b = conf_next(conf_root(conf), "domain", b));)
        for (size_t i = 0; i < conf_args(b); i++) {
            char name[256];
            if (!slice_to_cstr(conf_arg(b, i), name, sizeof(name)))
                continue;
            ascii_lower(name, strlen(name));
            map_set(&u->domains, slice_of(name), (void *)(uintptr_t)b);
        }
}

struct users *users_new(const struct conf *conf, const char *etc, struct error *err)
{
    struct users *u = NEW(struct users);
    struct slice spec = conf_string(conf_root(conf), "users");
    size_t n = 0;
    u->conf = conf;
    u->local = conf_one(conf, "local");
    map_init(&u->domains);
    add_domains(u, conf);
    snprintf(u->etc, sizeof(u->etc), "%s", etc);
    u->table = table_open(spec, err);
    if (u->table && conf_list_len(u->local, "domains") > 0) {
        u->accounts = accounts_open(etc, err);
        u->directories[n++] = u->etc;
    }
    if (!u->table || (n && !u->accounts)) {
        users_free(u);
        return NULL;
    }
    if (table_directory(spec, u->table_dir, sizeof(u->table_dir)))
        u->directories[n++] = u->table_dir;
    return u;
}

void users_free(struct users *u)
{
    if (!u)
        return;
    table_close(u->table);
    accounts_close(u->accounts);
    map_clear(&u->domains);
    free(u);
}

const char *const *users_directories(const struct users *u)
{
    return u->directories;
}

uint64_t users_generation(struct users *u)
{
    return table_generation(u->table);
}

int users_mark(struct users *u, uint64_t generation, struct filemark *mark, struct error *err)
{
    return table_mark(u->table, generation, mark, err);
}

void user_wipe(struct user *user)
{
    explicit_bzero(user, sizeof(*user));
}

/* --- entries ---------------------------------------------------------------------------------- */
static int parse_entry(
    struct slice entry, struct user *user, struct slice *directory, struct slice *fields)
{
    struct slice hash = slice_trim(slice_cut(&entry, ':'));
    *directory = slice_trim(slice_cut(&entry, ':'));
    *fields = slice_trim(entry);
    user->disabled = slice_starts(hash, "!");
    hash = slice_from_index(hash, user->disabled);
    /* The prefix other servers write before hashes of crypt(3). */
    if (slice_istarts(hash, "{CRYPT}"))
        hash = slice_from_index(hash, 7);
    if (!user->disabled && (hash.n == 0 || hash.p[0] == '{'))
        return ERR_SYNTAX;
    return slice_to_cstr(hash, user->hash, sizeof(user->hash)) ? OK : ERR_SYNTAX;
}

static bool is_safe_part(struct slice part)
{
    return part.n > 0 && part.n < 255 && !slice_is(part, ".") && !slice_is(part, "..") &&
           slice_chr(part, '/') < 0;
}

/* The store template for one user. */
static int expand(
    struct slice store, struct slice local, struct slice domain, char *out, size_t size)
{
    struct buf b;
    buf_init(&b, size - 1);
    if (!is_safe_part(local) || !is_safe_part(domain))
        return ERR_SYNTAX;
    while (store.n) {
        if (slice_starts(store, "{user}")) {
            buf_put(&b, local);
            store = slice_from_index(store, 6);
        } else if (slice_starts(store, "{domain}")) {
            buf_put(&b, domain);
            store = slice_from_index(store, 8);
        } else {
            buf_putc(&b, store.p[0]);
            store = slice_from_index(store, 1);
        }
    }
    bool ok = !b.failed && slice_to_cstr(buf_slice(&b), out, size);
    buf_clear(&b);
    return ok ? OK : ERR_LIMIT;
}

static bool is_relative(struct slice path)
{
    for (struct slice rest = path; rest.p;)
        if (!is_safe_part(slice_cut(&rest, '/')))
            return false;
    return path.n > 0;
}

/* Reads the entry of `key`; *directory and *fields stay in `entry`, which the caller wipes. */
static int read_entry(struct users *u, struct slice key, struct user *user, struct buf *entry,
    struct slice *directory, struct slice *fields, struct error *err)
{
    int rc = table_get(u->table, key, entry, err);
    if (rc)
        return rc;
    if (parse_entry(buf_slice(entry), user, directory, fields))
        return error_set(err, ERR_SYNTAX,
            "the users table's entry for %.*s is not HASH[:DIRECTORY[:FIELDS]]",
            SLICE_FMT(slice_first(key, 200)));
    return OK;
}

/* "500M": bytes. */
static int take_size(struct slice word, uint64_t *out)
{
    static const char units[] = "KMGT";
    const char *unit = word.n > 1 ? strchr(units, word.p[word.n - 1]) : NULL;
    unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
    if (unit)
        word.n--;
    int rc = slice_u64(word, 0, ((uint64_t)1 << 50) >> shift, out);
    *out = rc ? 0 : *out << shift;
    return rc;
}

/* The limits of a user: the domain's, unless fields of the entry say otherwise. */
static int limits_of(
    const struct conf_block *b, struct slice fields, struct user *user, struct error *err)
{
    uint64_t bytes = (uint64_t)conf_int(b, "quota");
    uint64_t messages = (uint64_t)conf_int(b, "quota-messages");
    struct buf text;
    int rc = OK;
    while (!rc && fields.n) {
        struct slice word = slice_cut(&fields, ' ');
        if (slice_starts(word, "quota="))
            rc = take_size(slice_from_index(word, 6), &bytes);
        else if (slice_starts(word, "quota-messages="))
            rc = slice_u64(slice_from_index(word, 15), 0, UINT32_MAX, &messages);
        else if (word.n)
            rc = ERR_SYNTAX;
    }
    if (rc)
        return error_set(
            err, ERR_SYNTAX, "the users table's fields for %s are not understood", user->name);
    if (!bytes && !messages)
        return OK;
    buf_init(&text, sizeof(user->quota) - 1);
    buf_printf(&text, "bytes %llu\nmessages %llu\ngrace %lld\n", (unsigned long long)bytes,
        (unsigned long long)messages, (long long)conf_int(b, "quota-grace"));
    if (slice_is(conf_string(b, "quota-full"), "defer"))
        buf_puts(&text, "defer\n");
    for (size_t i = 0; i < conf_list_len(b, "quota-folder"); i++) {
        struct slice word = conf_list_at(b, "quota-folder", i);
        size_t at = (size_t)slice_rchr(word, '=');
        struct slice rule = slice_from_index(word, at + 1);
        uint64_t extra;
        if (slice_starts(rule, "+") && take_size(slice_from_index(rule, 1), &extra) == OK)
            buf_printf(&text, "folder +%llu", (unsigned long long)extra);
        else
            buf_printf(&text, "folder %.*s", SLICE_FMT(rule));
        buf_printf(&text, " %.*s\n", SLICE_FMT(slice_first(word, at)));
    }
    if (text.failed || !slice_to_cstr(buf_slice(&text), user->quota, sizeof(user->quota)))
        rc = error_set(err, ERR_LIMIT, "the quota rules of %s are too long", user->name);
    buf_clear(&text);
    return rc;
}

static int virtual_user(struct users *u, const struct conf_block *domain_block, struct slice local,
    struct slice domain, struct user *user, struct error *err)
{
    struct buf entry;
    struct slice directory, fields;
    buf_init(&entry, TABLE_VALUE_MAX);
    int rc = read_entry(u, slice_of(user->name), user, &entry, &directory, &fields, err);
    user->uid = user->gid = -1;
    user->coexist = conf_bool(domain_block, "coexist");
    if (rc == OK && directory.n == 0)
        rc = expand(
            conf_string(domain_block, "store"), local, domain, user->mail, sizeof(user->mail));
    else if (rc == OK &&
             (!is_relative(directory) || !slice_to_cstr(directory, user->mail, sizeof(user->mail))))
        rc = ERR_SYNTAX;
    if (rc == ERR_SYNTAX || rc == ERR_LIMIT)
        error_set(err, rc, "%s cannot name a mail directory", user->name);
    if (rc == OK)
        rc = limits_of(domain_block, fields, user, err);
    buf_wipe(&entry);
    return rc;
}

/* --- system users ----------------------------------------------------------------------------- */
static bool is_local_domain(const struct users *u, struct slice domain)
{
    for (size_t i = 0; u->accounts && i < conf_list_len(u->local, "domains"); i++)
        if (slice_ieq(conf_list_at(u->local, "domains", i), domain))
            return true;
    return false;
}

static int system_user(
    struct users *u, struct slice local, bool may_login, struct user *user, struct error *err)
{
    struct account account;
    struct buf entry;
    struct slice directory, fields, none = {NULL, 0}, mailbox = conf_string(u->local, "mailbox");
    if (!u->accounts)
        return ERR_NOT_FOUND;
    int rc = accounts_find(u->accounts, local, &account, err);
    if (rc)
        return rc;
    if (!account_is_person(&account, conf_int(u->local, "min-uid")))
        return ERR_NOT_FOUND;
    buf_init(&entry, TABLE_VALUE_MAX);
    rc = read_entry(u, slice_of(user->name), user, &entry, &directory, &fields, err);
    if (rc == ERR_NOT_FOUND)
        rc = read_entry(u, local, user, &entry, &directory, &fields, err);
    buf_wipe(&entry);
    if (rc == ERR_NOT_FOUND && !may_login)
        rc = OK;
    if (rc == OK) /* of the block: the agent that delivers does not read the table */
        rc = limits_of(u->local, none, user, err);
    user->system = user->coexist = true;
    user->uid = account.uid;
    user->gid = account.gid;
    if (slice_ends(mailbox, "/"))
        mailbox = slice_first(mailbox, mailbox.n - 1);
    if (slice_starts(mailbox, "/"))
        return rc; /* an mbox file is no mail directory */
    if (rc == OK && snprintf(user->mail, sizeof(user->mail), "%s/%.*s", account.home,
                        SLICE_FMT(mailbox)) >= (int)sizeof(user->mail))
        rc = error_set(err, ERR_SYNTAX, "the home directory's name is too long");
    return rc;
}

int users_limits(const struct conf_block *local, char out[USERS_LIMITS], struct error *err)
{
    struct user user = {.name = "accounts"};
    int rc = limits_of(local, (struct slice){NULL, 0}, &user, err);
    snprintf(out, USERS_LIMITS, "%s", rc ? "" : user.quota);
    return rc;
}

/* --- names ------------------------------------------------------------------------------------ */
int users_mailbox(struct users *u, struct slice address, struct user *user, struct error *err)
{
    *user = (struct user){0};
    if (nfc_text(address, user->name, sizeof(user->name)) != OK)
        return ERR_NOT_FOUND;
    ascii_lower(user->name, strlen(user->name));
    struct slice name = slice_of(user->name);
    ptrdiff_t at = slice_rchr(name, '@');
    if (at <= 0)
        return ERR_NOT_FOUND;
    struct slice domain = slice_from_index(name, (size_t)at + 1);
    const struct conf_block *b = map_get(&u->domains, domain);
    if (!b || conf_isset(b, "relay"))
        return ERR_NOT_FOUND;
    return virtual_user(u, b, slice_first(name, (size_t)at), domain, user, err);
}

static int find(
    struct users *u, struct slice login, bool may_login, struct user *user, struct error *err)
{
    char name[256];
    *user = (struct user){0};
    if (nfc_text(login, name, sizeof(name)) != OK || login.n == 0)
        return ERR_NOT_FOUND;
    ascii_lower(name, strlen(name));
    char *at = strrchr(name, '@');
    if (at && !is_local_domain(u, slice_of(at + 1)))
        return users_mailbox(u, login, user, err);
    if (!u->accounts)
        return ERR_NOT_FOUND;
    /* A bare name is one of the host's accounts, and is known by its first domain. */
    struct slice domain = at ? slice_of(at + 1) : conf_list_at(u->local, "domains", 0);
    struct slice local = at ? slice_from(name, (size_t)(at - name)) : slice_of(name);
    if (snprintf(user->name, sizeof(user->name), "%.*s@%.*s", SLICE_FMT(local),
            SLICE_FMT(domain)) >= (int)sizeof(user->name))
        return ERR_NOT_FOUND;
    ascii_lower(user->name, strlen(user->name));
    return system_user(u, local, may_login, user, err);
}

int users_login(struct users *u, struct slice login, struct user *user, struct error *err)
{
    return find(u, login, true, user, err);
}

int users_owner(struct users *u, struct slice name, struct user *user, struct error *err)
{
    return find(u, name, false, user, err);
}

struct any {
    char *out;
    size_t size;
};

static int take_hash(struct slice key, struct slice value, void *arg)
{
    struct any *any = arg;
    struct user user = {0};
    struct slice directory, fields;
    (void)key;
    int rc = parse_entry(value, &user, &directory, &fields);
    bool usable = rc == OK && user.hash[0] && strlen(user.hash) < any->size;
    if (usable)
        memcpy(any->out, user.hash, strlen(user.hash) + 1);
    user_wipe(&user);
    return usable;
}

bool users_any_hash(struct users *u, char *out, size_t size)
{
    struct error err;
    struct any any = {out, size};
    return table_each(u->table, take_hash, &any, &err) == 1;
}

/* --- everybody -------------------------------------------------------------------------------- */
struct names {
    const struct users *users;
    char **list;
    size_t n, cap;
};

/* A bare name is an account of the host. */
static void add_name(struct names *all, struct slice local)
{
    char name[600];
    bool bare = slice_rchr(local, '@') < 0;
    struct slice domain = SLICE_LIT("");
    if (bare && !all->users->accounts)
        return;
    if (bare)
        domain = conf_list_at(all->users->local, "domains", 0);
    int len = snprintf(
        name, sizeof(name), "%.*s%s%.*s", SLICE_FMT(local), bare ? "@" : "", SLICE_FMT(domain));
    if (len <= 0 || len >= (int)sizeof(((struct user *)0)->name))
        return;
    ascii_lower(name, (size_t)len);
    if (all->n == all->cap) {
        all->cap = all->cap ? 2 * all->cap : 64;
        all->list = xrealloc(all->list, all->cap, sizeof(*all->list));
    }
    all->list[all->n++] = xstrdup(name);
}

static int add_key(struct slice key, struct slice value, void *arg)
{
    (void)value;
    add_name(arg, key);
    return 0;
}

static void add_account(const struct account *account, void *arg)
{
    struct names *all = arg;
    if (account_is_person(account, conf_int(all->users->local, "min-uid")))
        add_name(all, slice_of(account->name));
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int users_names(struct users *u, char ***names, size_t *n, struct error *err)
{
    struct names all = {.users = u};
    int rc = table_each(u->table, add_key, &all, err);
    if (!rc && u->accounts)
        rc = accounts_each(u->accounts, add_account, &all, err);
    if (rc) {
        users_names_free(all.list, all.n);
        return rc;
    }
    size_t kept = 0;
    if (all.n)
        qsort(all.list, all.n, sizeof(*all.list), by_name);
    for (size_t i = 0; i < all.n; i++) {
        if (kept && strcmp(all.list[kept - 1], all.list[i]) == 0)
            free(all.list[i]);
        else
            all.list[kept++] = all.list[i];
    }
    *names = all.list;
    *n = kept;
    return OK;
}

void users_names_free(char **names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    free(names);
}
