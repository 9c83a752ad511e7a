/* aliases(5) for those who keep them. */
#pragma once

#include "libutil/table.h"

/* For table_build_aliases: a warning on standard error. */
void alias_warn_repeated(const char *name, unsigned line, struct slice key, void *);
