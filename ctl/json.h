/* Writes JSON (RFC 8259) into a buffer; commas are placed by itself. */
#pragma once

#include "libutil/buf.h"

struct json {
    struct buf *out;
    bool comma;
};

void json_begin(struct json *, const char *key, char bracket); /* '{' or '['; key NULL in arrays */
void json_end(struct json *, char bracket);                    /* '}' or ']' */
/* Bytes that are not UTF-8 are replaced by U+FFFD. */
void json_str(struct json *, const char *key, struct slice value);
void json_int(struct json *, const char *key, int64_t value);
void json_bool(struct json *, const char *key, bool value);
