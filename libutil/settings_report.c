/* The keys of the block `report` of veredus.conf, see settings.c. */
#include "libutil/conf_words.h"
#include "libutil/role.h"

#define R(role) ROLE_BIT(ROLE_##role)
#define GB ((int64_t)1024 * 1024 * 1024)

#define TEMPLATE(kind, what, text, words)                                              \
    {                                                                                  \
        .name = kind "-" what, .type = CONF_STRING, .def = text, .readers = R(BOUNCE), \
        .check = words,                                                                \
        .help = "The " what " of a " kind " report. {hostname}, {queue-id}, "          \
                "{sender}, {count} (recipients), {arrived} and {until} are replaced."  \
    }

static const struct conf_key report_keys[] = {
    {.name = "double-bounce",
        .type = CONF_STRING,
        .readers = R(BOUNCE),
        .check = conf_word_address,
        .example = "double-bounce@example.org",
        .help = "Who is told when a report cannot be delivered to the sender. Unset: admin. What "
                "cannot be delivered there either is dropped, with a line in the log."},
    {.name = "return-size",
        .type = CONF_SIZE,
        .def = "48K",
        .min = 0,
        .max = 2 * GB,
        .readers = R(BOUNCE),
        .help = "Messages up to this size go back whole with a failure report, bigger ones with "
                "their header only."},
    {.name = "return-full-size",
        .type = CONF_SIZE,
        .def = "10M",
        .min = 0,
        .max = 2 * GB,
        .readers = R(BOUNCE),
        .help = "The same where the sender asked for all of it (RET=FULL)."},
    {.name = "wait",
        .type = CONF_DURATION,
        .def = "1h",
        .min = 60000,
        .max = INT64_C(86400000),
        .readers = R(QMGR),
        .help = "A failure is reported when all recipients of the message have been tried, "
                "together with those of the others, but not later than this."},
    TEMPLATE("failure", "subject", "\"Mail could not be delivered\"", conf_word_template_line),
    TEMPLATE("failure", "text",
        "\"This is the mail system at {hostname}.\\n\\n"
        "Your message could not be delivered to the recipients below. It will not be tried\\n"
        "again. What went wrong is said under each address.\"",
        conf_word_template),
    TEMPLATE("delay", "subject", "\"Mail is delayed\"", conf_word_template_line),
    TEMPLATE("delay", "text",
        "\"This is the mail system at {hostname}.\\n\\n"
        "Your message has not been delivered to the recipients below yet. You need not do\\n"
        "anything: delivery will be tried again.\\n\\nIt will be given up after: {until}\"",
        conf_word_template),
    TEMPLATE("success", "subject", "\"Mail was delivered\"", conf_word_template_line),
    TEMPLATE("success", "text",
        "\"This is the mail system at {hostname}.\\n\\n"
        "You asked to be told: your message was delivered to the recipients below, passed on\\n"
        "to a server that gives no such reports, or given to the members of a list.\"",
        conf_word_template),
    {0}};

const struct conf_schema conf_report_schema = {report_keys};
