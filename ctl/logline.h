/* One line of the log file: "TIME PROGRAM[PID] key=value key="quoted value" ...". */
#pragma once

#include "libutil/buf.h"

struct logline {
    struct slice time, program, pid, fields;
};

/* False when the line has another form. */
bool logline_parse(struct slice line, struct logline *out);
/* The next pair of `rest`; the value is unquoted into `value` (reset first). */
bool logline_next(struct slice *rest, struct slice *key, struct buf *value);
/* The value of key appended to value; false when the line has none. */
bool logline_get(const struct logline *, const char *key, struct buf *value);
bool logline_has(const struct logline *, const char *key, const char *value);
/* As one JSON object. */
void logline_json(const struct logline *, struct buf *out);
