/* The commands, one function each; args is what follows the verb. They are called only when the
 * table in verbs.c permits. */
#pragma once

#include "smtpd/session.h"

/* cmd_session.c */
void cmd_ehlo(struct session *, struct slice args);
void cmd_helo(struct session *, struct slice args);
void cmd_starttls(struct session *, struct slice args);
void cmd_rset(struct session *, struct slice args);
void cmd_noop(struct session *, struct slice args);
void cmd_vrfy(struct session *, struct slice args);
void cmd_expn(struct session *, struct slice args);
void cmd_help(struct session *, struct slice args);
void cmd_quit(struct session *, struct slice args);
/* cmd_etrn.c */
void cmd_etrn(struct session *, struct slice args);
/* cmd_auth.c */
void cmd_auth(struct session *, struct slice args);
/* cmd_mail.c */
void cmd_mail(struct session *, struct slice args);
void cmd_rcpt(struct session *, struct slice args);
/* cmd_data.c */
void cmd_data(struct session *, struct slice args);
/* cmd_bdat.c */
void cmd_bdat(struct session *, struct slice args);
