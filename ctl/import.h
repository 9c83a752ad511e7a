/* Parts of `veredus mailbox import`. */
#pragma once

#include "ctl/ctl.h"

/* From an IMAP server: argv are USER, "imap", HOST[:PORT] and options. */
int import_imap(struct ctl *, int argc, char **argv);

/* An id for store_append_options.delivery, made of these words: the same today and tomorrow, so
 * that what was imported once is not imported again. */
uint64_t import_id(const struct slice *words, size_t n);
