/*
 * Whether what a configuration names is there and can be used. Those who start with it cannot do
 * without, and by then nobody knows the lines of the file any more: so this is looked at before a
 * start and before a reload, which a system that runs has to survive.
 */
#pragma once

#include "libutil/conf.h"

/* Appends a line for each mistake, with file, line and key. */
void config_check_world(const struct conf *, struct buf *errors);
