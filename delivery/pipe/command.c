#include "delivery/pipe/command.h"

#include <string.h>

static const char path[] = "/usr/local/bin:/usr/bin:/bin";

static char *add(struct command *c, const char *name, struct slice value)
{
    size_t n = strlen(name), need = n + value.n + 2;
    if (need > sizeof(c->text) - c->used)
        return NULL;
    char *at = c->text + c->used;
    n = (size_t)snprintf(at, need, "%s%s", name, n ? "=" : "");
    memcpy(at + n, value.p, value.n);
    at[n + value.n] = '\0';
    c->used += n + value.n + 1;
    return at;
}

static int add_word(struct command *c, struct slice word, struct error *err)
{
    char *at = c->nwords < COMMAND_WORDS ? add(c, "", word) : NULL;
    if (!at)
        return error_set(err, ERR_LIMIT, "the command is too long");
    c->argv[c->nwords++] = at;
    return OK;
}

/* --- command lines of users ------------------------------------------------------------------ */

static bool needs_shell(struct slice line)
{
    for (size_t i = 0; i < line.n; i++)
        if (strchr("|&;<>()$`\\\"'*?[]{}#~=%!^\n", line.p[i]))
            return true;
    return false;
}

/* What only a shell can do, and no program of that name. */
static bool is_shell_word(struct slice line)
{
    static const char *const words[] = {".", ":", "case", "cd", "eval", "exec", "exit", "export",
        "for", "if", "read", "set", "trap", "ulimit", "umask", "unset", "until", "wait", "while"};
    size_t n = 0;
    while (n < line.n && !strchr(" \t\r", line.p[n]))
        n++;
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (slice_is(slice_first(line, n), words[i]))
            return true;
    return false;
}

static int add_restricted(
    struct command *c, struct slice word, const char *directory, struct error *err)
{
    char full[1024];
    ptrdiff_t slash = slice_rchr(word, '/');
    struct slice name = slice_from_index(word, (size_t)(slash + 1));
    int n = snprintf(full, sizeof(full), "%s/%.*s", directory, SLICE_FMT(name));
    if (name.n == 0 || slice_is(name, ".") || slice_is(name, "..") || n < 0 ||
        (size_t)n >= sizeof(full))
        return error_set(err, ERR_DENIED, "the command names no program");
    return add_word(c, slice_from(full, (size_t)n), err);
}

int command_line(struct command *c, struct slice line, const char *directory, struct error *err)
{
    line = slice_trim(line);
    if (line.n == 0 || memchr(line.p, '\0', line.n))
        return error_set(err, ERR_DENIED, "the command is empty, or not text");
    if (needs_shell(line) || (!directory && is_shell_word(line))) {
        if (directory)
            return error_set(err, ERR_DENIED, "the command needs a shell, and none may be used");
        int rc = add_word(c, SLICE_LIT("/bin/sh"), err);
        if (!rc)
            rc = add_word(c, SLICE_LIT("-c"), err);
        return rc ? rc : add_word(c, line, err);
    }
    int rc = OK;
    while (!rc && line.n) {
        size_t n = 0;
        while (n < line.n && !strchr(" \t\r", line.p[n]))
            n++;
        struct slice word = slice_first(line, n);
        line = slice_from_index(line, MIN(n + 1, line.n));
        if (n && directory && c->nwords == 0)
            rc = add_restricted(c, word, directory, err);
        else if (n)
            rc = add_word(c, word, err);
    }
    return rc;
}

/* --- facts ----------------------------------------------------------------------------------- */

struct fact {
    const char *name, *variable;
    struct slice value;
};

enum { FACTS = 8 };

static void list_facts(const struct command_facts *f, struct fact out[FACTS])
{
    const struct fact all[FACTS] = {{"sender", "SENDER", f->sender},
        {"recipient", "RECIPIENT", f->recipient}, {"original", "ORIGINAL_RECIPIENT", f->original},
        {"user", "LOCAL", f->user}, {"extension", "EXTENSION", f->extension},
        {"domain", "DOMAIN", f->domain}, {"client", "CLIENT_ADDRESS", f->client},
        {"helo", "CLIENT_HELO", f->helo}};
    memcpy(out, all, sizeof(all));
}

/* A value from the outside: bytes that no shell, no pattern and no path look-up cares about. */
static void put_clean(struct buf *out, struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        buf_putc(out, letter || (c && strchr("@.+-_=,:/%", c)) ? c : '_');
    }
}

static int put_named(
    struct buf *out, struct slice name, const struct command_facts *facts, struct error *err)
{
    struct fact known[FACTS];
    list_facts(facts, known);
    if (slice_is(name, "size")) {
        buf_printf(out, "%llu", (unsigned long long)facts->size);
        return OK;
    }
    for (size_t i = 0; i < FACTS; i++)
        if (slice_is(name, known[i].name)) {
            put_clean(out, known[i].value);
            return OK;
        }
    return error_set(err, ERR_SYNTAX, "${%.*s} is not known", SLICE_FMT(name));
}

int command_word(
    struct command *c, struct slice word, const struct command_facts *facts, struct error *err)
{
    struct buf out;
    int rc = OK;
    bool whole = slice_starts(word, "${");
    buf_init(&out, COMMAND_BYTES);
    while (!rc && word.n) {
        ptrdiff_t open = slice_find(word, SLICE_LIT("${")), close;
        if (open < 0) {
            buf_put(&out, word);
            break;
        }
        buf_put(&out, slice_first(word, (size_t)open));
        word = slice_from_index(word, (size_t)open + 2);
        close = slice_chr(word, '}');
        if (close < 0) {
            rc = error_set(err, ERR_SYNTAX, "a ${ has no }");
            break;
        }
        rc = put_named(&out, slice_first(word, (size_t)close), facts, err);
        word = slice_from_index(word, (size_t)close + 1);
    }
    if (!rc)
        rc = out.failed ? error_set(err, ERR_LIMIT, "the command is too long")
                        : add_word(c, buf_slice(&out), err);
    /* A sender of -x must not become an option. */
    if (!rc && whole && c->argv[c->nwords - 1][0] == '-')
        c->argv[c->nwords - 1][0] = '_';
    buf_clear(&out);
    return rc;
}

static int add_variable(struct command *c, const char *name, struct slice value, struct error *err)
{
    char *at = c->nvariables < COMMAND_VARIABLES ? add(c, name, value) : NULL;
    if (!at)
        return error_set(err, ERR_LIMIT, "the environment is too large");
    c->envp[c->nvariables++] = at;
    return OK;
}

int command_environment(struct command *c, const char *account, const char *home,
    const struct command_facts *facts, struct error *err)
{
    const struct {
        const char *name;
        struct slice value;
    } fixed[] = {{"PATH", slice_of(path)}, {"HOME", slice_of(home)}, {"USER", slice_of(account)},
        {"LOGNAME", slice_of(account)}, {"SHELL", SLICE_LIT("/bin/sh")}, {"LANG", SLICE_LIT("C")}};
    struct fact known[FACTS];
    struct buf value;
    int rc = OK;
    for (size_t i = 0; !rc && i < ARRAY_LEN(fixed); i++)
        rc = add_variable(c, fixed[i].name, fixed[i].value, err);
    list_facts(facts, known);
    buf_init(&value, 4096);
    for (size_t i = 0; !rc && i < FACTS; i++) {
        buf_reset(&value);
        put_clean(&value, known[i].value);
        rc = add_variable(c, known[i].variable, buf_slice(&value), err);
    }
    buf_clear(&value);
    return rc;
}
