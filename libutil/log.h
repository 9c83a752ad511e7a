/*
 * Structured logging from declared events. Every event is a row of a table: struct, dotted
 * name, level, fields, meaning. Calls are checked by the compiler:
 *
 *     #define SMTP_CONNECT_FIELDS(F, S) F(S, STR, client, 0) F(S, STR, listener, 0)
 *     #define SMTPD_EVENTS(E) \
 *         E(smtp_connect, "smtp.connect", LOG_INFO, SMTP_CONNECT_FIELDS, "A client connected.")
 *     LOG_EVENTS_DECLARE(SMTPD_EVENTS)         // in the daemon's events.h
 *     LOG_EVENTS_DEFINE(smtpd, SMTPD_EVENTS)   // in its events.c: smtpd_events[], NULL-ended
 *
 *     log_event(&session->log, smtp_connect, .client = slice_of(ip), .listener = name);
 *
 * A struct log lends its id to those below it: session (sid=) -> transaction (qid=). Fields
 * that are empty strings or zero numbers are left out of the line.
 *
 * Records of one line or several go to logd without ever blocking; when logd does not keep up
 * lines wait in memory, up to a limit, and are then dropped and counted. Without logd (tools,
 * tests, early start) they go to standard error. Secrets must not be passed to a log call;
 * FIELD_SECRET prints masked as a second net.
 */
#pragma once

#include "libutil/field.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_NOTICE, LOG_WARN, LOG_ERROR };

struct log {
    const struct log *parent;
    const char *key; /* "sid", "qid"; NULL for none */
    char value[40];
};

struct log_event {
    struct record rec;
    const char *name;
    enum log_level level;
    const char *meaning;
};

#define LOG_STRUCT_(S, name, level, FIELDS, meaning) \
    struct S {                                       \
        FIELDS(FIELD_MEMBER, S)                      \
    };                                               \
    extern const struct log_event S##_event;
#define LOG_EVENT_(S, name, level, FIELDS, meaning)                            \
    static const struct field S##_fields[] = {FIELDS(FIELD_ROW, S) FIELD_END}; \
    const struct log_event S##_event = {                                       \
        {#S, S##_fields, ARRAY_LEN(S##_fields) - 1, sizeof(struct S)}, name, level, meaning};
#define LOG_POINTER_(S, name, level, FIELDS, meaning) &S##_event,
#define LOG_EVENTS_DECLARE(TABLE) TABLE(LOG_STRUCT_)
#define LOG_EVENTS_DEFINE(list, TABLE) \
    TABLE(LOG_EVENT_)                  \
    const struct log_event *const list##_events[] = {TABLE(LOG_POINTER_) NULL};

#define log_event(log, S, ...) log_emit((log), &S##_event, &(struct S){__VA_ARGS__})

void log_emit(const struct log *, const struct log_event *, const void *fields);

/* Events every program has. */
#define LOG_TEXT_FIELDS(F, S) F(S, STR, what, 0) F(S, STR, reason, 0)
#define LOG_COMMON_EVENTS(E)                                                                   \
    E(log_trouble, "trouble", LOG_ERROR, LOG_TEXT_FIELDS, "Something failed that should not.") \
    E(log_warning, "warning", LOG_WARN, LOG_TEXT_FIELDS, "Something deserves a look.")         \
    E(log_note, "note", LOG_INFO, LOG_TEXT_FIELDS, "Something worth knowing happened.")        \
    E(log_trace, "trace", LOG_DEBUG, LOG_TEXT_FIELDS, "Diagnostics asked for by VEREDUS_TRACE.")
LOG_EVENTS_DECLARE(LOG_COMMON_EVENTS)
extern const struct log_event *const log_common_events[];

/* Prints a program's own events (NULL-ended; may be NULL) and the common ones, a line each: name,
 * level, meaning, fields, between tabs. For veredus-log(5). Returns 0. */
int log_print_events(const struct log_event *const *events);

/* Program name for lines on standard error; least level that is emitted. */
void log_setup(const char *program, enum log_level least);
/* The level with this name; LOG_INFO for an unknown one. */
enum log_level log_level_of(struct slice name);
/* Sends records to this SEQPACKET or DGRAM socket (taken) from now on; -1: standard error. */
void log_set_fd(int fd);
int log_fd(void);
/* Sends what waits. Returns false when some still has to; fn is called when records begin to
 * wait, so that a loop can call log_send_waiting again a little later. */
bool log_send_waiting(void);
void log_on_waiting(void (*fn)(void *arg), void *arg);
/* From now on all but warnings and errors wait like that, so that a record holds the lines of a
 * whole turn of the loop. Ends in children of fork, which forget what their parent will send. */
void log_gather(void);
/* True when VEREDUS_TRACE (a comma-separated list) names `what`, such as "ipc". */
bool log_tracing(const char *what);

/* Ids: 64-bit values printed in 32 digits and letters, for sid and qid. */
enum { ID_TEXT = 14 };
void id_print(uint64_t id, char out[ID_TEXT]);
/* ERR_SYNTAX for 0 too, which is no id. */
int id_parse(struct slice s, uint64_t *id) MUST_USE;
/* A new random id, never 0. */
uint64_t id_new(void);
/* Sets key and the id's text. */
void log_set_id(struct log *, const struct log *parent, const char *key, uint64_t id);
