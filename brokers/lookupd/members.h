/*
 * The right side of an alias, aliases(5) or virtual: addresses, bare names, :include:/path,
 * |command and /file, separated by commas or blanks. Double quotes keep blanks together.
 */
#pragma once

#include "libutil/slice.h"

enum member_kind { MEMBER_END, MEMBER_ADDRESS, MEMBER_INCLUDE, MEMBER_COMMAND, MEMBER_FILE };

/* Cuts the next member off *rest. *text is the address, path or command. */
enum member_kind member_next(struct slice *rest, struct slice *text);
