/* The keys of the blocks `mailbox`, `expire` and `housekeeping` of veredus.conf, see settings.c. */
#include "libutil/settings_rows.h"

static const struct conf_key mailbox_keys[] = {
    {.name = "keep-deleted",
        .type = CONF_DURATION,
        .def = "0s",
        .min = 0,
        .max = 3650 * DAY,
        .readers = SESSIONS | R(HOUSE) | R(CTL),
        .help = "How long expunged mail is kept for `veredus mailbox undelete`, outside quota and "
                "unseen by clients; housekeeping removes what is older. 0: it is "
                "not kept."},
    {0}};
const struct conf_schema mailbox_schema = {mailbox_keys};

static const struct conf_key expire_keys[] = {
    {.name = "after",
        .type = CONF_DURATION,
        .required = true,
        .min = SECOND,
        .max = 36500 * DAY,
        .readers = R(HOUSE) | R(CTL),
        .example = "30d",
        .help = "Messages that have been in the folder for so long are expunged."},
    {0}};
const struct conf_schema expire_schema = {expire_keys};

static const struct conf_key housekeeping_keys[] = {
    {.name = "every",
        .type = CONF_DURATION,
        .def = "1d",
        .min = 0,
        .max = 366 * DAY,
        .readers = R(HOUSE),
        .help = "From the beginning of one round through the mailboxes to that of the next. 0: "
                "only when `veredus mailbox housekeep` is called."},
    {.name = "from",
        .type = CONF_DURATION,
        .def = "3h",
        .min = 0,
        .max = DAY - MINUTE,
        .readers = R(HOUSE),
        .help = "When `every` is a day or more: the time after midnight, local time, at which a "
                "round begins."},
    {0}};
const struct conf_schema housekeeping_schema = {housekeeping_keys};
