/* Whether the tables that the configuration names can be used. */
#pragma once

#include "libutil/conf.h"

/* Appends a line for each mistake, with file and line where the table is a text or made of one. */
void config_check_texts(const struct conf *, struct buf *errors);
/* The other tables: a line with file, line and key for each that cannot be opened,
 * and for each value of transport that leads nowhere. */
void config_check_tables(const struct conf *, struct buf *errors);
