/* Checks of single words, for the registry's `check` column. */
#pragma once

#include "libutil/conf.h"

int conf_word_listen(struct slice, struct error *);     /* *:25, 127.0.0.1:465s, [::1]:25 */
int conf_word_network(struct slice, struct error *);    /* CIDR */
int conf_word_ip(struct slice, struct error *);         /* an address */
int conf_word_dns_server(struct slice, struct error *); /* ADDRESS or ADDRESS@PORT */
int conf_word_domain(struct slice, struct error *);
/* settings_report.c */
extern const struct conf_schema conf_report_schema;
/* Text with placeholders such as {hostname}; of a subject, on one line. */
int conf_word_address(struct slice, struct error *); /* user@domain or user */
int conf_word_store(struct slice, struct error *);   /* a relative path with {user} */
int conf_word_relative(struct slice, struct error *);
int conf_word_mailbox(struct slice, struct error *); /* a Maildir below home, or /DIR/{user} */
int conf_word_special_use(struct slice, struct error *);  /* FOLDER=sent */
int conf_word_quota_folder(struct slice, struct error *); /* FOLDER=ignore, FOLDER=+N% */
int conf_word_relay(struct slice, struct error *);   /* [smtp:|lmtp:]HOST[:PORT] */
