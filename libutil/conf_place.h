/*
 * What a configuration names in the file system, as seen by those who are going to use it.
 * Needs to be asked before the configuration is applied: who cannot go on without it is started
 * again and again.
 */
#pragma once

#include "libutil/conf.h"

/* Whether mail-root is a directory in which the account of the mail agents can read and write;
 * root asks as that account, in a child, anybody else as himself. A fault goes to errors, a line
 * with file, line and key, and to err (ERR_DENIED). */
int conf_check_mail_root(const struct conf *, struct buf *errors, struct error *) MUST_USE;
/* "FILE:LINE: KEY" of a key of this block, or "FILE: KEY" where it is not set. */
void conf_key_where(
    const struct conf *, const struct conf_block *, const char *key, struct buf *out);
