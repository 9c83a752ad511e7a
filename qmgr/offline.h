/* Answering questions about the spool while the system is down; nothing is changed. */
#pragma once

/* Serves QUEUE (libmail/proto/queue.h: list, show, body, history) over fd, which is taken, until
 * the other end closes. Returns the exit status. */
int offline_serve(const char *directory, int fd);
