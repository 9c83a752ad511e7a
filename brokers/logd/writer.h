/*
 * The log file: lines are gathered during one turn of the loop and written with one call. A
 * file that was moved or removed (logrotate) is noticed within a second and opened anew. When
 * the disk is full, lines are lost, counted and the loss is told as soon as it is over; nobody
 * waits.
 */
#pragma once

#include "libutil/daemon.h"

struct writer;

/* The directory, for the sandbox, and the file's name in it, from `log { to file PATH }`. */
struct writer *writer_new(struct daemon *, struct error *);
const char *writer_directory(const struct writer *);
/* Opens the file, inside the sandbox. */
int writer_open(struct writer *, struct error *) MUST_USE;
/* Appends the lines of a record of `program` with process id `pid`. Bytes that would break a line
 * are replaced. */
void writer_add(struct writer *, const char *program, int pid, struct slice record);
void writer_flush(struct writer *);
/* The list head of the channels that feed it (brokers/logd/channel.h). */
struct list *writer_channels(struct writer *);
