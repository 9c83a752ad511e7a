/* user: who may log in and has a mailbox. */
#include <errno.h>
#include <termios.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "ctl/json.h"
#include "libmail/nfc.h"
#include "libutil/net.h"
#include "libutil/password.h"
#include "libutil/table.h"

/* --- passwords ---------------------------------------------------------------------------------
 */
/* One line without its end. */
static int read_line(FILE *in, char *out, size_t size, struct error *err)
{
    size_t n = 0;
    int c;
    while ((c = getc(in)) != EOF && c != '\n') {
        if (c == '\0' || n + 1 >= size)
            return error_set(
                err, ERR_LIMIT, "a password may have at most %zu bytes, and no NUL", size - 1);
        out[n++] = (char)c;
    }
    if (n && out[n - 1] == '\r')
        n--;
    out[n] = '\0';
    return n ? OK : error_set(err, ERR_SYNTAX, "the password is empty");
}

static int ask_once(FILE *tty, const char *prompt, char *out, size_t size, struct error *err)
{
    struct termios before, silent;
    fputs(prompt, tty);
    fflush(tty);
    if (tcgetattr(fileno(tty), &before))
        return error_sys(err, "the terminal");
    silent = before;
    silent.c_lflag &= ~(tcflag_t)ECHO;
    tcsetattr(fileno(tty), TCSAFLUSH, &silent);
    int rc = read_line(tty, out, size, err);
    tcsetattr(fileno(tty), TCSAFLUSH, &before);
    fputc('\n', tty);
    return rc;
}

/* From the terminal, twice; or a line of standard input when that is no terminal, or asked for. */
static int get_password(bool from_stdin, char out[PASSWORD_MAX + 1], struct error *err)
{
    char again[PASSWORD_MAX + 1];
    if (from_stdin || !isatty(STDIN_FILENO))
        return read_line(stdin, out, PASSWORD_MAX + 1, err);
    FILE *tty = fopen("/dev/tty", "r+");
    if (!tty)
        return error_sys(err, "/dev/tty");
    int rc = ask_once(tty, "Password: ", out, PASSWORD_MAX + 1, err);
    if (rc == OK)
        rc = ask_once(tty, "Again: ", again, sizeof(again), err);
    if (rc == OK && strcmp(out, again) != 0)
        rc = error_set(err, ERR_SYNTAX, "the two are not the same");
    explicit_bzero(again, sizeof(again));
    fclose(tty);
    return rc;
}

static int get_hash(bool from_stdin, char hash[PASSWORD_HASH_MAX], struct error *err)
{
    char password[PASSWORD_MAX + 1];
    int rc = get_password(from_stdin, password, err);
    if (rc == OK)
        rc = password_hash(password, hash, err);
    explicit_bzero(password, sizeof(password));
    return rc;
}

/* --- names -------------------------------------------------------------------------------------
 */
static bool is_domain_of(const struct conf *conf, struct slice domain)
{
    for (const struct conf_block *b = NULL; (b = conf_next(conf_root(conf), "domain", b));)
        for (size_t i = 0; i < conf_args(b); i++)
            if (slice_ieq(conf_arg(b, i), domain))
                return !conf_isset(b, "relay");
    const struct conf_block *local = conf_one(conf, "local");
    for (size_t i = 0; i < conf_list_len(local, "domains"); i++)
        if (slice_ieq(conf_list_at(local, "domains", i), domain))
            return true;
    return false;
}

/* A name that authd could find: an address of a domain of ours, or an account of the host. */
static int check_name(const struct conf *conf, const char *name, struct error *err)
{
    struct slice s = slice_of(name);
    ptrdiff_t at = slice_rchr(s, '@');
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] <= ' ' || strchr("\"\\/:<>,;", s.p[i]))
            return error_set(err, ERR_SYNTAX, "%s: a user's name cannot hold that character", name);
    if (at < 0 && s.n && conf_list_len(conf_one(conf, "local"), "domains"))
        return OK;
    if (at <= 0 || s.n > 254)
        return error_set(err, ERR_SYNTAX, "%s: must be an address, user@domain", name);
    if (!is_domain_of(conf, slice_from_index(s, (size_t)at + 1)))
        return error_set(err, ERR_NOT_FOUND,
            "%s: the configuration has no domain %s with mailboxes", name, name + at + 1);
    return OK;
}

static struct slice users_spec(const struct conf *conf)
{
    return conf_string(conf_root(conf), "users");
}

/* --- verbs -------------------------------------------------------------------------------------
 */
typedef int check_fn(const struct conf *, const char *name, struct error *);
typedef int store_fn(const struct conf *, const char *name, const char *hash, struct error *);

/* Asks for a password, once the name is found good, and stores its hash. */
static int with_password(struct ctl *c, int argc, char **argv, check_fn *check, store_fn *store)
{
    bool from_stdin = ctl_flag(&argc, argv, "--password-stdin");
    char hash[PASSWORD_HASH_MAX], name[256];
    struct error err = {0};
    if (argc != 1)
        return ctl_usage(c);
    const struct conf *conf = ctl_conf(c);
    if (!conf)
        return CTL_NO;
    if (nfc_text(slice_of(argv[0]), name, sizeof(name)) != OK) /* as it is looked up */
        return ctl_fail(CTL_USAGE, "%s: not UTF-8, or too long", argv[0]);
    ascii_lower(name, strlen(name));
    int rc = check ? check(conf, name, &err) : OK;
    if (rc == OK)
        rc = get_hash(from_stdin, hash, &err);
    if (rc == OK)
        rc = store(conf, name, hash, &err);
    explicit_bzero(hash, sizeof(hash));
    return rc ? ctl_report(&err) : CTL_OK;
}

static int store_new(const struct conf *conf, const char *name, const char *hash, struct error *err)
{
    return table_change(users_spec(conf), TABLE_ADD, slice_of(name), slice_of(hash), err);
}

static int add(struct ctl *c, int argc, char **argv)
{
    return with_password(c, argc, argv, check_name, store_new);
}

/* The entry may hold a directory after the hash: it stays. */
static int change_password(
    const struct conf *conf, const char *name, const char *hash, struct error *err)
{
    struct buf old, value;
    struct table *t = table_open(users_spec(conf), err);
    if (!t)
        return err->code;
    buf_init(&old, TABLE_VALUE_MAX);
    buf_init(&value, TABLE_VALUE_MAX);
    int rc = table_get(t, slice_of(name), &old, err);
    if (rc == ERR_NOT_FOUND)
        error_set(err, rc, "%s does not exist", name);
    if (rc == OK) {
        ptrdiff_t colon = slice_chr(buf_slice(&old), ':');
        struct slice rest = slice_from_index(buf_slice(&old), colon < 0 ? SIZE_MAX : (size_t)colon);
        buf_printf(&value, "%s%.*s", hash, SLICE_FMT(rest));
        rc = table_change(users_spec(conf), TABLE_REPLACE, slice_of(name), buf_slice(&value), err);
    }
    table_close(t);
    buf_wipe(&old);
    buf_wipe(&value);
    return rc;
}

static int passwd(struct ctl *c, int argc, char **argv)
{
    return with_password(c, argc, argv, NULL, change_password);
}

static int del(struct ctl *c, int argc, char **argv)
{
    struct error err = {0};
    if (argc != 1)
        return ctl_usage(c);
    const struct conf *conf = ctl_conf(c);
    if (!conf)
        return CTL_NO;
    if (table_change(users_spec(conf), TABLE_DELETE, slice_of(argv[0]), SLICE_LIT(""), &err))
        return ctl_report(&err);
    return CTL_OK;
}

struct listing {
    struct json json;
    struct buf out;
    bool as_json;
};

static int list_one(struct slice key, struct slice value, void *arg)
{
    struct listing *l = arg;
    bool disabled = slice_starts(value, "!");
    if (l->as_json) {
        json_begin(&l->json, NULL, '{');
        json_str(&l->json, "user", key);
        json_bool(&l->json, "disabled", disabled);
        json_end(&l->json, '}');
    } else {
        buf_printf(&l->out, "%.*s%s\n", SLICE_FMT(key), disabled ? " disabled" : "");
    }
    return 0;
}

static int list(struct ctl *c, int argc, char **argv)
{
    struct error err = {0};
    struct listing l = {.as_json = c->json};
    (void)argv;
    if (argc)
        return ctl_usage(c);
    const struct conf *conf = ctl_conf(c);
    struct table *t = conf ? table_open(users_spec(conf), &err) : NULL;
    if (!t)
        return conf ? ctl_report(&err) : CTL_NO;
    buf_init(&l.out, (size_t)256 * 1024 * 1024);
    l.json.out = &l.out;
    if (c->json) {
        json_begin(&l.json, NULL, '{');
        json_begin(&l.json, "users", '[');
    }
    int rc = table_each(t, list_one, &l, &err);
    if (c->json) {
        json_end(&l.json, ']');
        json_end(&l.json, '}');
        buf_putc(&l.out, '\n');
    }
    if (rc == OK)
        fwrite(buf_slice(&l.out).p, 1, buf_len(&l.out), stdout);
    buf_clear(&l.out);
    table_close(t);
    return rc ? ctl_report(&err) : CTL_OK;
}

const struct ctl_verb user_verbs[] = {
    {"user", "add", "ADDRESS [--password-stdin]",
        "adds a mailbox; asks for the password, or reads a line", add},
    {"user", "passwd", "ADDRESS [--password-stdin]", "changes a password; it counts at once",
        passwd},
    {"user", "del", "ADDRESS", "the user can neither log in nor receive mail; the mail stays", del},
    {"user", "list", "", "all users", list}, {NULL}};
