/* Rows of the registry (libutil/settings.c): commands that get mail. */
#include "libutil/settings_rows.h"

#define AS_DEFAULT(value) .def = value
#define AS_EXAMPLE(value) .example = value

/* What limits a command. A block `command` has no defaults: what it does not set is as in `pipe`.
 */
/* clang-format off */
#define LIMITS(AS)                                                                                \
    {.name = "timeout",                                                                           \
        .type = CONF_DURATION,                                                                    \
        AS("15m"),                                                                                \
        .min = SECOND,                                                                            \
        .max = HOUR,                                                                              \
        .readers = R(PIPE),                                                                       \
        .help = "A command that runs longer is ended, and the delivery deferred."},               \
    {.name = "cpu-time",                                                                          \
        .type = CONF_DURATION,                                                                    \
        AS("5m"),                                                                                 \
        .min = 0,                                                                                 \
        .max = HOUR,                                                                              \
        .readers = R(PIPE),                                                                       \
        .help = "Processor time of one process of a command, in whole seconds; 0: no limit."},    \
    {.name = "memory",                                                                            \
        .type = CONF_SIZE,                                                                        \
        AS("2G"),                                                                                 \
        .min = 0,                                                                                 \
        .max = (int64_t)1 << 40,                                                                  \
        .readers = R(PIPE),                                                                       \
        .help = "Address space of one process of a command; 0: no limit."},                       \
    {.name = "file-size",                                                                         \
        .type = CONF_SIZE,                                                                        \
        AS("2G"),                                                                                 \
        .min = 0,                                                                                 \
        .max = (int64_t)1 << 40,                                                                  \
        .readers = R(PIPE),                                                                       \
        .help = "The largest file a command may write; 0: no limit."},                            \
    {.name = "processes",                                                                         \
        .type = CONF_INT,                                                                         \
        AS("1000"),                                                                               \
        .min = 0,                                                                                 \
        .max = 1000000,                                                                           \
        .readers = R(PIPE),                                                                       \
        .help = "Processes that the account may have while it runs a command; 0: no limit."},     \
    {.name = "output",                                                                            \
        .type = CONF_SIZE,                                                                        \
        AS("16M"),                                                                                \
        .min = 0,                                                                                 \
        .max = (int64_t)1 << 40,                                                                  \
        .readers = R(PIPE),                                                                       \
        .help = "A command that writes more to its output is ended, and the delivery "            \
                "deferred; 0: no limit."}
/* clang-format on */

static const struct conf_key pipe_keys[] = {
    {.name = "command-user",
        .type = CONF_STRING,
        .readers = R(PIPE) | R(LOOKUPD),
        .example = "nobody",
        .help = "The account as which |command in the aliases table is run, and /file written. "
                "Unset: such an alias is refused. What a .forward file names is its owner's."},
    {.name = "commands",
        .type = CONF_PATH,
        .readers = R(PIPE),
        .example = "/etc/smrsh",
        .help = "When set, |command in .forward files and aliases may only name programs in this "
                "directory (the last part of the name counts), without a shell."},
    LIMITS(AS_DEFAULT),
    {.name = "from-line",
        .type = CONF_BOOL,
        .def = "yes",
        .readers = R(PIPE),
        .help = "Begin the message with a line From SENDER DATE, as commands of .forward files "
                "have always been given."},
    {0}};
const struct conf_schema pipe_schema = {pipe_keys};

/* The names that delivery/pipe/command.c knows. */
static int check_word(struct slice word, struct error *err)
{
    static const char *const names[] = {
        "sender", "recipient", "original", "user", "extension", "domain", "client", "helo", "size"};
    for (ptrdiff_t at; (at = slice_find(word, SLICE_LIT("${"))) >= 0;) {
        word = slice_from_index(word, (size_t)at + 2);
        ptrdiff_t end = slice_chr(word, '}');
        bool known = false;
        for (size_t i = 0; i < ARRAY_LEN(names) && end >= 0; i++)
            known |= slice_is(slice_first(word, (size_t)end), names[i]);
        if (!known)
            return error_set(err, ERR_SYNTAX, "after ${ a known name and }, such as ${sender}");
    }
    return OK;
}

static const struct conf_key command_keys[] = {
    {.name = "run",
        .type = CONF_LIST,
        .check = check_word,
        .required = true,
        .readers = R(PIPE),
        .example = "/usr/bin/archive --from ${sender} --to ${recipient}",
        .help = "The program and its arguments. ${sender}, ${recipient}, ${original}, ${user}, "
                "${extension}, ${domain}, ${client}, ${helo} and ${size} are replaced within a "
                "word; bytes other than letters, digits and @.+-_=,:/% become _. No shell is "
                "used."},
    {.name = "user",
        .type = CONF_STRING,
        .required = true,
        .readers = R(PIPE),
        .example = "archive",
        .help = "The account as which it is run; not root."},
    LIMITS(AS_EXAMPLE),
    {.name = "from-line",
        .type = CONF_BOOL,
        .def = "no",
        .readers = R(PIPE),
        .help = "Begin the message with a line From SENDER DATE."},
    {0}};
const struct conf_schema command_schema = {command_keys};
