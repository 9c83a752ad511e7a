/* The part of a report that machines read: message/delivery-status (RFC 3464), or
 * message/global-delivery-status (RFC 6533) where the report may hold UTF-8. */
#pragma once

#include "delivery/bounce/report.h"

void status_print(const struct report *, struct buf *);
