/* The channels that log records arrive on. */
#pragma once

#include "brokers/logd/writer.h"

/* A process may log here: takes the peer's descriptor. */
void channel_up(struct peer *);
/* Takes what lies in the channels now, without waiting. */
void channel_read_all(struct daemon *);
/* Sends logd's own events through a channel like everyone's. */
int channel_own(struct daemon *, struct error *) MUST_USE;
