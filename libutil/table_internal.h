/* What the table drivers share. */
#pragma once

#include "libutil/table.h"

/* The text between the braces of inline:{...}, and its pairs one by one. ERR_SYNTAX. */
int table_inline_body(struct slice argument, struct slice *body) MUST_USE;
int table_inline_next(struct slice *rest, struct slice *key, struct slice *value) MUST_USE;
