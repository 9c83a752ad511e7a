/* Command lines of users, and what `command` blocks of the configuration run. No byte that a sender
 * chose may mean anything to a shell, a path look-up or a terminal. */
#include "delivery/pipe/command.h"
#include "libutil/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_harmless(const char *text)
{
    for (; *text; text++)
        if (*text <= ' ' || *text >= 127 || strchr("|&;<>()$`\\\"'*?[]{}#~!^", *text))
            return false;
    return true;
}

static void check(const struct command *c)
{
    const char *end = c->text + sizeof(c->text);
    if (c->nwords > COMMAND_WORDS || c->nvariables > COMMAND_VARIABLES ||
        c->used > sizeof(c->text) || c->argv[c->nwords] || c->envp[c->nvariables])
        abort();
    for (size_t i = 0; i < c->nwords; i++)
        if (c->argv[i] < c->text || !memchr(c->argv[i], '\0', (size_t)(end - c->argv[i])))
            abort();
}

static void try_blocks(struct slice text, const struct command_facts *facts)
{
    struct error err;
    struct conf *conf = conf_parse("fuzz", text, &conf_root_schema, NULL, &err);
    if (!conf)
        return;
    for (const struct conf_block *b = NULL; (b = conf_next(conf_root(conf), "command", b));) {
        struct command *c = NEW(struct command);
        int rc = OK;
        for (size_t i = 0; !rc && i < conf_list_len(b, "run"); i++)
            rc = command_word(c, conf_list_at(b, "run", i), facts, &err);
        if (rc == ERR_SYNTAX)
            abort(); /* the configuration's check let a name pass that is not known here */
        check(c);
        free(c);
    }
    conf_free(conf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice rest = slice_from(data, size), line = slice_cut(&rest, '\n');
    struct command_facts facts = {.sender = line,
        .recipient = line,
        .original = rest,
        .user = line,
        .extension = line,
        .domain = line,
        .client = line,
        .helo = line,
        .size = size};
    struct error err;
    struct command *c = NEW(struct command);
    (void)!command_line(c, line, size % 2 ? "/etc/smrsh" : NULL, &err);
    if (size % 2 && c->nwords && strncmp(c->argv[0], "/etc/smrsh/", 11) != 0)
        abort();
    if (command_environment(c, "alice", "/home/alice", &facts, &err) == OK)
        for (size_t i = 6; i < c->nvariables; i++) /* behind the fixed ones */
            if (!is_harmless(c->envp[i]))
                abort();
    check(c);
    free(c);
    if (slice_find(rest, SLICE_LIT("include")) < 0) /* files of the machine are no part of it */
        try_blocks(rest, &facts);
    return 0;
}
