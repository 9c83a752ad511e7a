/* Date and time of RFC 5322 §3.3. Times are seconds since 1970, UTC. */
#pragma once

#include <time.h>

#include "libutil/error.h"
#include "libutil/slice.h"

enum { DATE_TEXT = 40 };

/* "Sat, 21 Nov 2026 01:34:05 +0000" in the process's time zone. */
void date_print(time_t when, char out[DATE_TEXT]);
/* The same with a given offset from UTC in minutes. */
void date_print_zone(time_t when, int minutes, char out[DATE_TEXT]);
/* Parses with comments and the obsolete forms (two-digit years, zone names). zone (minutes east
 * of UTC) may be NULL. ERR_SYNTAX. */
int date_parse(struct slice s, time_t *when, int *zone) MUST_USE;
/* date-time of RFC 3339 §5.6, "2026-11-21T05:30:00Z" or with an offset; fractions are cut off. */
int date_parse_rfc3339(struct slice s, time_t *when) MUST_USE;
void date_print_rfc3339(time_t when, char out[DATE_TEXT]);
/* Seconds since 1970 of a UTC calendar date; ERR_SYNTAX when there is no such date. */
int date_from_civil(
    int year, int month, int day, int hour, int minute, int second, time_t *when) MUST_USE;
