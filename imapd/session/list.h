/* Matching of LIST patterns (RFC 3501 §6.3.8). */
#pragma once

#include "libutil/slice.h"

/* Whether a folder name matches: '*' is anything, '%' anything but the
 * separator. INBOX is compared in any case. Time is linear in pattern times name. */
bool list_match(struct slice pattern, struct slice name, char separator);
