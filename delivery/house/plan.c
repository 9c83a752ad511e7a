#include <time.h>

#include "delivery/house/house.h"

enum { DAY_SECONDS = 86400 };

/* Without mktime, which would look for the zone's file again, and find none in the sandbox. */
int64_t house_next(int64_t last, int64_t every, int64_t from)
{
    time_t due = (time_t)(last + every);
    struct tm tm, then;
    if (every < DAY_SECONDS || !localtime_r(&due, &tm))
        return due;
    time_t at = due - (tm.tm_hour * 3600 + tm.tm_min * 60 + tm.tm_sec) + (time_t)from;
    if (localtime_r(&at, &then)) /* clocks may have been changed in between */
        at += tm.tm_gmtoff - then.tm_gmtoff;
    return at > (time_t)last ? at : due;
}
