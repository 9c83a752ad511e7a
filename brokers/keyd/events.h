/* What keyd logs. */
#pragma once

#include "libutil/log.h"

#define KEY_LOADED_FIELDS(F, S) F(S, STR, file, 0) F(S, STR, memory, 0)
#define KEY_REFUSED_FIELDS(F, S) F(S, STR, rule, 0) F(S, STR, peer, 0) F(S, STR, key, 0)
#define KEYD_EVENTS(E)                                                                             \
    E(key_loaded, "key.loaded", LOG_INFO, KEY_LOADED_FIELDS,                                       \
        "A private key is held; memory says whether its pages are locked.")                        \
    E(key_refused, "key.refused", LOG_WARN, KEY_REFUSED_FIELDS,                                    \
        "A process asked for a signature that it does not get. Rule handshake: the bytes are not " \
        "those of a TLS server handshake.")
LOG_EVENTS_DECLARE(KEYD_EVENTS)
extern const struct log_event *const keyd_events[];
