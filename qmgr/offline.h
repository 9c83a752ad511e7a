/* Listing the spool while the system is down; nothing is changed. */
#pragma once

/* Writes every message of the spool directory to standard output as u32 length, struct
 * queue_entry (libmail/proto/queue.h). Returns the exit status. */
int offline_list(const char *directory);
