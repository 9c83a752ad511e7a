/*
 * Typed fields as a line of text, "word name=value name=value", for files that a person may want
 * to read. In values, white space, control characters and '%' are written as %XX. A field that
 * is missing when read is zero or empty, so a newer release may add fields.
 */
#pragma once

#include "libutil/arena.h"
#include "libutil/error.h"
#include "libutil/field.h"

/* Appends one line with its newline. */
int text_put(struct buf *, const char *word, const struct record *, const void *value);
/* Reads what follows the word. Strings are decoded into the arena. */
int text_get(struct slice fields, const struct record *, void *value, struct arena *) MUST_USE;
