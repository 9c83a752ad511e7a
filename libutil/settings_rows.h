/* For the files that hold the registry's rows (settings*.c): who reads a key, units, and the
 * schemas of blocks that stand in a file of their own. */
#pragma once

#include "libutil/conf_words.h"
#include "libutil/role.h"

#define R(role) ROLE_BIT(ROLE_##role)
#define ADMIN (R(MASTER) | R(CTL))
#define EVERYONE (((uint64_t)1 << ROLE_ANY_COUNT) - 1)
#define SESSIONS (R(IMAP_SESSION) | R(POP3_SESSION))
#define LOGINS (R(IMAP_LOGIN) | R(POP3_LOGIN))
#define FRONTS (R(SMTPD) | LOGINS)

#define KB ((int64_t)1024)
#define MB (1024 * KB)
#define GB (1024 * MB)
#define SECOND ((int64_t)1000)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)

/* settings_listen.c */
extern const struct conf_schema listen_schema, imap_schema, pop3_schema;
/* settings_domain.c */
extern const struct conf_schema domain_schema, local_schema;
/* settings_outbound.c */
extern const struct conf_schema outbound_schema, dns_schema;
/* settings_mailbox.c */
extern const struct conf_schema mailbox_schema, expire_schema, housekeeping_schema;
/* settings_queue.c */
extern const struct conf_schema queue_schema, destination_schema, mx_host_schema, transport_schema;
/* settings_pipe.c */
extern const struct conf_schema pipe_schema, command_schema;
