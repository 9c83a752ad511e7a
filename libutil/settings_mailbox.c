/* The keys of the blocks `mailbox` and `expire` of veredus.conf, see settings.c. */
#include "libutil/settings_rows.h"

static const struct conf_key mailbox_keys[] = {
    {.name = "keep-deleted",
        .type = CONF_DURATION,
        .def = "0s",
        .min = 0,
        .max = 3650 * DAY,
        .readers = SESSIONS | R(CTL),
        .help = "How long expunged mail is kept for `veredus mailbox undelete`, outside quota and "
                "unseen by clients; `veredus mailbox housekeep` removes what is older. 0: it is "
                "not kept."},
    {0}};
const struct conf_schema mailbox_schema = {mailbox_keys};

static const struct conf_key expire_keys[] = {
    {.name = "after",
        .type = CONF_DURATION,
        .required = true,
        .min = SECOND,
        .max = 36500 * DAY,
        .readers = R(CTL),
        .example = "30d",
        .help = "Messages that have been in the folder for so long are expunged."},
    {0}};
const struct conf_schema expire_schema = {expire_keys};
