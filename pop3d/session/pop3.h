/*
 * A POP3 session (RFC 1939) in its own process, blocking. The maildrop is INBOX as it was at
 * login; nothing changes before QUIT. Unique ids are the store's (store_uidl).
 */
#pragma once

#include "libmail/spawner.h"

/* Runs the session to its end; 0, or 1 when there was no maildrop. */
int pop3_session(struct session_env *);
