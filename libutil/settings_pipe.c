/* Rows of the registry (libutil/settings.c): commands that get mail. */
#include "libutil/settings_rows.h"

static const struct conf_key pipe_keys[] = {
    {.name = "command-user",
        .type = CONF_STRING,
        .readers = R(PIPE) | R(LOOKUPD),
        .example = "nobody",
        .help = "The account as which |command in the aliases table is run. Unset: such an alias "
                "is refused. Commands of a .forward file are run as its owner."},
    {.name = "commands",
        .type = CONF_PATH,
        .readers = R(PIPE),
        .example = "/etc/smrsh",
        .help = "When set, |command in .forward files and aliases may only name programs in this "
                "directory (the last part of the name counts), without a shell."},
    {.name = "timeout",
        .type = CONF_DURATION,
        .def = "15m",
        .min = SECOND,
        .max = HOUR,
        .readers = R(PIPE),
        .help = "A command that runs longer is ended, and the delivery deferred."},
    {.name = "cpu-time",
        .type = CONF_DURATION,
        .def = "5m",
        .min = 0,
        .max = HOUR,
        .readers = R(PIPE),
        .help = "Processor time of one process of a command, in whole seconds; 0: no limit."},
    {.name = "memory",
        .type = CONF_SIZE,
        .def = "2G",
        .min = 0,
        .max = (int64_t)1 << 40,
        .readers = R(PIPE),
        .help = "Address space of one process of a command; 0: no limit."},
    {.name = "file-size",
        .type = CONF_SIZE,
        .def = "2G",
        .min = 0,
        .max = (int64_t)1 << 40,
        .readers = R(PIPE),
        .help = "The largest file a command may write; 0: no limit."},
    {.name = "processes",
        .type = CONF_INT,
        .def = "1000",
        .min = 0,
        .max = 1000000,
        .readers = R(PIPE),
        .help = "Processes that the account may have while it runs a command; 0: no limit."},
    {.name = "from-line",
        .type = CONF_BOOL,
        .def = "yes",
        .readers = R(PIPE),
        .help = "Begin the message with a line From SENDER DATE, as commands of .forward files "
                "have always been given."},
    {0}};
const struct conf_schema pipe_schema = {pipe_keys};

static const struct conf_key command_keys[] = {
    {.name = "run",
        .type = CONF_LIST,
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
    {.name = "from-line",
        .type = CONF_BOOL,
        .def = "no",
        .readers = R(PIPE),
        .help = "Begin the message with a line From SENDER DATE."},
    {0}};
const struct conf_schema command_schema = {command_keys};
