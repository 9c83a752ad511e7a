/*
 * Who watches which mailbox. A channel watches one mailbox at a time, of its owner or among those
 * that were shared with him when it was given out. Events to a
 * channel are at least HUB_PAUSE_MS apart; what happens meanwhile is one event with the highest
 * sequence. A channel does not hear of the changes it announced itself.
 */
#pragma once

#include "libutil/ipc.h"
#include "libutil/log.h"
#include "libutil/map.h"
#include "libutil/role.h"

enum { HUB_PAUSE_MS = 100, HUB_CHANNELS_MAX = 60000, HUB_SHARES_MAX = 500 };

struct hub;

struct hub *hub_new(struct loop *, const struct log *);
void hub_free(struct hub *);
/* A message from a process that master wired to us: a change of any owner, or a new channel. */
void hub_trusted(struct hub *, enum role, struct ipc_in *);
/* Channels that were admitted and are still open. */
unsigned hub_channels(const struct hub *);
