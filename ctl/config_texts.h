/* Whether the table of words for reports can be used. */
#pragma once

#include "libutil/conf.h"

/* Appends a line for each mistake, with file and line where the table is a text or made of one. */
void config_check_texts(const struct conf *, struct buf *errors);
