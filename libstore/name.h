/*
 * Folder names: UTF-8 with '/' in the API, Maildir++ directories with modified UTF-7 (RFC 3501
 * §5.1.3) on disk: "Sent/2024" is ".Sent.2024". A '.' within a level is written "&AC4-", so
 * that no name is lost and none can climb out of the mail directory.
 *
 * Others may have made directories with names in UTF-8 as it stands (Dovecot with
 * mailbox_list_utf8). They are read; which directory a folder has, store_folder_dir tells.
 * A first level "inbox" in any case is INBOX's.
 */
#pragma once

#include "libutil/buf.h"
#include "libutil/error.h"

enum { NAME_DISK_MAX = 256 };

/* The directory that we make for a folder ("." for INBOX). ERR_SYNTAX as store_name_check. */
int name_to_disk(struct slice folder, char out[NAME_DISK_MAX]) MUST_USE;
/* The directory that others may have made for it; ERR_NOT_FOUND when there is no other name. */
int name_to_raw(struct slice folder, char out[NAME_DISK_MAX]) MUST_USE;
/* Appends the folder's name. ERR_SYNTAX when it cannot be a folder's: not beginning with '.', a
 * level empty, malformed, or INBOX. */
int name_from_disk(struct slice disk, struct buf *out) MUST_USE;
bool name_is_inbox(struct slice folder);
