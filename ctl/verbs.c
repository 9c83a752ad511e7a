#include "ctl/verbs.h"

#include <string.h>

static const struct ctl_verb *const tables[] = {init_verbs, run_verbs, status_verbs, log_verbs,
    sandbox_verbs, queue_verbs, config_verbs, user_verbs, table_verbs, mailbox_verbs,
    transfer_verbs, backup_verbs, upgrade_verbs, housekeep_verbs, quota_verbs, acl_verbs,
    alias_verbs};

/* The row after v, over the ends of tables; the first for NULL, NULL after the last. */
static const struct ctl_verb *next_row(const struct ctl_verb *v, size_t *table)
{
    if (!v)
        *table = 0;
    v = v ? v + 1 : tables[0];
    while (!v->noun) {
        if (++*table == ARRAY_LEN(tables))
            return NULL;
        v = tables[*table];
    }
    return v;
}

const struct ctl_verb *verbs_find(int argc, char **argv, int *words, bool *noun_known)
{
    const struct ctl_verb *alone = NULL;
    size_t t;
    *noun_known = false;
    for (const struct ctl_verb *v = next_row(NULL, &t); v; v = next_row(v, &t)) {
        if (strcmp(argv[0], v->noun) != 0)
            continue;
        *noun_known = true;
        if (!v->verb) {
            alone = v;
        } else if (argc > 1 && strcmp(argv[1], v->verb) == 0) {
            *words = 2;
            return v;
        }
    }
    *words = 1;
    return alone;
}

/* The nouns in the order of the tables, each once; a noun may have rows in several. */
static bool noun_is_first(const struct ctl_verb *row)
{
    size_t t;
    for (const struct ctl_verb *v = next_row(NULL, &t); v; v = next_row(v, &t))
        if (strcmp(v->noun, row->noun) == 0)
            return v == row;
    return false;
}

int verbs_unknown(char **argv, bool noun_known)
{
    const char *sep = "";
    size_t t;
    if (!noun_known)
        return ctl_fail(CTL_USAGE, "%s: no such command: `veredus help` lists them", argv[0]);
    fprintf(stderr, "veredus: %s: say what: ", argv[0]);
    for (const struct ctl_verb *v = next_row(NULL, &t); v; v = next_row(v, &t)) {
        if (strcmp(v->noun, argv[0]) != 0)
            continue;
        fprintf(stderr, "%s%s", sep, v->verb);
        sep = ", ";
    }
    fprintf(stderr, " (`veredus help %s` tells more)\n", argv[0]);
    return CTL_USAGE;
}

bool verbs_help(FILE *out, const char *noun, const char *verb)
{
    bool any = false;
    size_t t;
    for (const struct ctl_verb *v = next_row(NULL, &t); v; v = next_row(v, &t)) {
        if (noun && strcmp(noun, v->noun) != 0)
            continue;
        if (verb && (!v->verb || strcmp(verb, v->verb) != 0))
            continue;
        fprintf(out, "  %s%s%s%s%s\n        %s\n", v->noun, v->verb ? " " : "",
            v->verb ? v->verb : "", *v->args ? " " : "", v->args, v->help);
        any = true;
    }
    return any;
}

void verbs_help_all(FILE *out)
{
    fputs("usage: veredus [-d DIR | -c FILE] [--json] COMMAND\n\n", out);
    verbs_help(out, NULL, NULL);
    fputs("\nThe instance is that of -d DIR (DIR/veredus.conf), -c FILE, the environment's\n"
          "VEREDUS_DIR, or " VEREDUS_CONF ". `veredus help NOUN [VERB]` and\n"
          "`veredus NOUN VERB --help` tell of one command. See veredus(1).\n",
        out);
}

void verbs_complete(const char *noun)
{
    size_t t;
    for (const struct ctl_verb *v = next_row(NULL, &t); v; v = next_row(v, &t)) {
        if (noun && strcmp(noun, v->noun) == 0 && v->verb)
            puts(v->verb);
        else if (!noun && noun_is_first(v))
            puts(v->noun);
    }
}
