/* The register of users who share folders, in mail-root/veredus.shares (see spawner_shares.c). */
#pragma once

#include "libutil/error.h"

/* Looks into a virtual user's mail directory, relative to the mail root, and writes or removes his
 * entry. */
int shares_register(int root, const char *user, const char *mail, struct error *) MUST_USE;
