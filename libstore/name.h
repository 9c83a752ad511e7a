/*
 * Folder names: UTF-8 with '/' in the API, Maildir++ directories with modified UTF-7 (RFC 3501
 * §5.1.3) on disk: "Sent/2024" is ".Sent.2024". A '.' within a level is written "&AC4-", so
 * that no name is lost and none can climb out of the mail directory.
 */
#pragma once

#include "libutil/buf.h"
#include "libutil/error.h"

enum { NAME_DISK_MAX = 256 };

/* The directory of a folder ("." for INBOX). ERR_SYNTAX as store_name_check. */
int name_to_disk(struct slice folder, char out[NAME_DISK_MAX]) MUST_USE;
/* Appends the folder's name. ERR_SYNTAX when no folder is stored under this name by us: not
 * beginning with '.', or not what name_to_disk would write. */
int name_from_disk(struct slice disk, struct buf *out) MUST_USE;
bool name_is_inbox(struct slice folder);
