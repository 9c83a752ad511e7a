/* What the files of `veredus queue` share. */
#pragma once

#include "ctl/ctl.h"
#include "libmail/proto/queue.h"

/* Opens a conversation with qmgr. With offline, and the system down, qmgr is started to read the
 * spool, which only answers questions. Prints an error and returns the exit status. */
int queue_open(struct ctl *, struct ipc_sync *, bool offline);

/* ctl_report of a request that failed: when qmgr has ended, another try will do. */
int queue_report(const struct error *);

/* True when there is no spool directory, or no system has ever run on it; prints which. */
bool queue_has_no_spool(const char *spool);

typedef void queue_entry_fn(const struct queue_entry *, void *arg);
/* Calls fn for every message that fits, page by page, so that nothing grows with the queue. fn may
 * not use s. filter: packed queue_filter, or empty. Returns the exit status. */
int queue_each(struct ipc_sync *s, struct slice filter, queue_entry_fn *fn, void *arg);

/* Takes the filter's options out of argv and packs them into out, which stays empty without any.
 * Prints what is wrong and returns the exit status. */
int queue_filter_options(int *argc, char **argv, struct buf *out);

/* Local time by strftime's format; empty for 0. */
void queue_print_time(int64_t ms, const char *format, char out[32]);
/* What strangers wrote goes to a terminal: no control characters. */
void queue_print_clean(struct slice);

/* queue_list.c */
int queue_list_verb(struct ctl *, int argc, char **argv);

/* queue_show.c */
int queue_show_verb(struct ctl *, int argc, char **argv);

/* The verbs of queue_act.c. */
int queue_act_verb(struct ctl *, int argc, char **argv);
int queue_retry(struct ctl *, int argc, char **argv);
int queue_bounce(struct ctl *, int argc, char **argv);
int queue_redirect(struct ctl *, int argc, char **argv);

/* queue_drain.c */
int queue_drain(struct ctl *, int argc, char **argv);

/* queue_verify.c */
int queue_verify(struct ctl *, int argc, char **argv);

/* queue_move.c */
int queue_export(struct ctl *, int argc, char **argv);
int queue_import(struct ctl *, int argc, char **argv);
