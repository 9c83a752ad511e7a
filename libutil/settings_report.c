/* The keys of the block `report` of veredus.conf, see settings.c. */
#include "libutil/conf_words.h"
#include "libutil/role.h"

#define R(role) ROLE_BIT(ROLE_##role)
#define GB ((int64_t)1024 * 1024 * 1024)

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
    {0}};

const struct conf_schema conf_report_schema = {report_keys};
