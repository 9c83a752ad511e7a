/* The owner's side of a backup: tells about every message (a people_fn). */
#pragma once

#include "libstore/store.h"

enum { BACKUP_READY = '!', BACKUP_HAVE = 'h', BACKUP_WANT = 'w', BACKUP_FILE_MAX = 1 << 20 };

int backup_source(struct store *, const char *name, int fd, void *arg);
/* Whether a file beside the mail holds settings that belong into a backup. */
bool backup_is_setting(const char *file);
/* Of these: those that each folder has. The others belong to the mail directory and come with
 * INBOX. */
bool backup_is_of_folder(const char *file);
