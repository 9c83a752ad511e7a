#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/verbs.h"
#include "libutil/log.h"

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

static bool asks_for_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

/* `help [NOUN [VERB]]`, and what a noun, with its verb or without, is followed by --help. */
static int help(int argc, char **argv)
{
    const char *noun = argc > 0 ? argv[0] : NULL;
    const char *verb = argc > 1 && !asks_for_help(argv[1]) ? argv[1] : NULL;
    if (!noun)
        return verbs_help_all(stdout), CTL_OK;
    if (verbs_help(stdout, noun, verb) || verbs_help(stdout, noun, NULL))
        return CTL_OK;
    return verbs_unknown(argv, false);
}

static int run_verb(struct ctl *c, int argc, char **argv)
{
    int words;
    bool noun_known;
    if (strcmp(argv[0], "help") == 0)
        return help(argc - 1, argv + 1);
    if (strcmp(argv[0], "complete") == 0)
        return verbs_complete(argc > 1 ? argv[1] : NULL), CTL_OK;
    c->verb = verbs_find(argc, argv, &words, &noun_known);
    if (noun_known && argc > words && asks_for_help(argv[words]))
        return help(words, argv);
    if (!c->verb)
        return verbs_unknown(argv, noun_known);
    return c->verb->run(c, argc - words, argv + words);
}

int main(int argc, char **argv)
{
    struct ctl c = {0};
    const char *dir = NULL, *file = NULL;
    int opt;
    log_setup("veredus", LOG_WARN);
    find_bin_dir(&c);
    while ((opt = getopt(argc, argv, "+d:c:hV-:")) != -1) {
        if (opt == 'd')
            dir = optarg;
        else if (opt == 'c')
            file = optarg;
        else if (opt == '-' && strcmp(optarg, "json") == 0)
            c.json = true;
        else if (opt == 'h' || (opt == '-' && strcmp(optarg, "help") == 0))
            return verbs_help_all(stdout), CTL_OK;
        else if (opt == 'V' || (opt == '-' && strcmp(optarg, "version") == 0))
            return ctl_version(&c);
        else
            return verbs_help_all(stderr), CTL_USAGE;
    }
    argc -= optind;
    argv += optind;
    c.json |= ctl_flag(&argc, argv, "--json");
    if (argc == 0)
        return verbs_help_all(stderr), CTL_USAGE;
    if (!choose_instance(&c, dir, file))
        return ctl_fail(CTL_USAGE, "the directory's name is too long");
    int status = run_verb(&c, argc, argv);
    conf_free(c.conf);
    if (fflush(stdout) != 0 || ferror(stdout))
        return CTL_NO;
    return status;
}
