/* The upper halves of the single-byte character sets, from the Unicode Consortium's mappings. */
#pragma once

#include "libutil/base.h"

struct charset_table {
    const char *name;
    uint16_t upper[128];
};

extern const struct charset_table charset_tables[];
extern const size_t charset_tables_count;
