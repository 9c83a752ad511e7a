#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "libutil/log.h"

#ifndef VEREDUS_CONF
#define VEREDUS_CONF "/etc/veredus/veredus.conf"
#endif

static const struct ctl_verb *const tables[] = {init_verbs, run_verbs, status_verbs, log_verbs,
    sandbox_verbs, queue_verbs, config_verbs, user_verbs, table_verbs, mailbox_verbs,
    transfer_verbs, backup_verbs, upgrade_verbs, housekeep_verbs, quota_verbs, acl_verbs};

static void print_help(FILE *out)
{
    fputs("usage: veredus [-d DIR | -c FILE] [--json] COMMAND\n\n", out);
    for (size_t t = 0; t < ARRAY_LEN(tables); t++)
        for (const struct ctl_verb *v = tables[t]; v->noun; v++)
            fprintf(out, "  %s%s%s %s\n        %s\n", v->noun, v->verb ? " " : "",
                v->verb ? v->verb : "", v->args, v->help);
    fputs("\nThe instance is that of -d DIR (DIR/veredus.conf), -c FILE, the environment's\n"
          "VEREDUS_DIR, or " VEREDUS_CONF ". See veredus(1).\n",
        out);
}

/* Words for shell completion: nouns, or the verbs of one. */
static int print_words(const char *noun)
{
    const char *last = "";
    for (size_t t = 0; t < ARRAY_LEN(tables); t++)
        for (const struct ctl_verb *v = tables[t]; v->noun; v++) {
            if (noun && strcmp(noun, v->noun) == 0 && v->verb)
                puts(v->verb);
            else if (!noun && strcmp(last, v->noun) != 0)
                puts(v->noun);
            last = v->noun;
        }
    return CTL_OK;
}

/* The row for these words; *words is how many of them it takes. */
static const struct ctl_verb *find_verb(int argc, char **argv, int *words, bool *noun_known)
{
    const struct ctl_verb *alone = NULL;
    for (size_t t = 0; t < ARRAY_LEN(tables); t++)
        for (const struct ctl_verb *v = tables[t]; v->noun; v++) {
            if (strcmp(argv[0], v->noun) != 0)
                continue;
            *noun_known = true;
            if (!v->verb)
                alone = v;
            else if (argc > 1 && strcmp(argv[1], v->verb) == 0) {
                *words = 2;
                return v;
            }
        }
    *words = 1;
    return alone;
}

static void find_bin_dir(struct ctl *c)
{
    ssize_t n = readlink("/proc/self/exe", c->bin_dir, sizeof(c->bin_dir) - 1);
    c->bin_dir[MAX(n, 0)] = '\0';
    char *slash = strrchr(c->bin_dir, '/');
    if (slash)
        *slash = '\0';
}

static bool choose_instance(struct ctl *c, const char *dir, const char *file)
{
    const char *env = getenv("VEREDUS_DIR");
    if (!dir && !file && env && *env)
        dir = env;
    int n = dir ? snprintf(c->conf_path, sizeof(c->conf_path), "%s/veredus.conf", dir)
                : snprintf(c->conf_path, sizeof(c->conf_path), "%s", file ? file : VEREDUS_CONF);
    return n > 0 && (size_t)n < sizeof(c->conf_path);
}

static int run_verb(struct ctl *c, int argc, char **argv)
{
    int words;
    bool noun_known = false;
    if (strcmp(argv[0], "complete") == 0)
        return print_words(argc > 1 ? argv[1] : NULL);
    c->verb = find_verb(argc, argv, &words, &noun_known);
    if (!c->verb && noun_known)
        return ctl_fail(CTL_USAGE, "%s: say what: see `veredus help`", argv[0]);
    if (!c->verb)
        return ctl_fail(CTL_USAGE, "%s: no such command: see `veredus help`", argv[0]);
    return c->verb->run(c, argc - words, argv + words);
}

int main(int argc, char **argv)
{
    struct ctl c = {0};
    const char *dir = NULL, *file = NULL;
    int opt;
    log_setup("veredus", LOG_WARN);
    find_bin_dir(&c);
    while ((opt = getopt(argc, argv, "+d:c:h-:")) != -1) {
        if (opt == 'd')
            dir = optarg;
        else if (opt == 'c')
            file = optarg;
        else if (opt == '-' && strcmp(optarg, "json") == 0)
            c.json = true;
        else if (opt == 'h' || (opt == '-' && strcmp(optarg, "help") == 0))
            return print_help(stdout), CTL_OK;
        else
            return print_help(stderr), CTL_USAGE;
    }
    argc -= optind;
    argv += optind;
    c.json |= ctl_flag(&argc, argv, "--json");
    if (argc == 0)
        return print_help(stderr), CTL_USAGE;
    if (strcmp(argv[0], "help") == 0)
        return print_help(stdout), CTL_OK;
    if (!choose_instance(&c, dir, file))
        return ctl_fail(CTL_USAGE, "the directory's name is too long");
    int status = run_verb(&c, argc, argv);
    conf_free(c.conf);
    if (fflush(stdout) != 0 || ferror(stdout))
        return CTL_NO;
    return status;
}
