/* The channels that log records arrive on. */
#pragma once

#include "brokers/logd/writer.h"

/* A process may log here: takes the peer's descriptor. */
void channel_up(struct peer *);
/* Sends logd's own events through a channel like everyone's. */
int channel_own(struct daemon *, struct error *) MUST_USE;
