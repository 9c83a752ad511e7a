/*
 * The supervisor: reads the configuration, opens listening sockets, starts every process,
 * wires them together, restarts what dies, and answers the control socket. The only long-lived
 * root process; it parses no network or mail bytes.
 */
#pragma once

#include "libutil/conf.h"
#include "libutil/ipc.h"
#include "libutil/list.h"
#include "libutil/log.h"
#include "libutil/loop.h"
#include "libutil/role.h"

struct master;

enum process_state {
    PROCESS_STARTING, /* exec'ed, has not said ready */
    PROCESS_RUNNING,
    PROCESS_DRAINING, /* told to finish; not restarted */
    PROCESS_YIELDING, /* told to finish; its successor starts when it has */
    PROCESS_WAITING   /* died; its back-off timer runs */
};

struct process {
    struct master *master;
    struct list link;
    enum role role;
    unsigned worker;
    enum process_state state;
    pid_t pid; /* 0: none */
    uid_t uid;
    struct ipc *ipc;
    int64_t started; /* loop_now */
    unsigned restarts;
    unsigned quick_deaths; /* in a row, each soon after its start */
    struct timer timer;    /* back-off, or the limit of a drain */
    char sandbox[1024];
    char failure[512]; /* what it said before it gave up */
};

struct listen_socket {
    struct list link;
    int fd;
    bool tls;
    bool fresh;  /* opened by the reload under way */
    bool wanted; /* by the configuration being applied */
    enum role role;
    char name[64], protocol[16], address[256];
};

struct master {
    struct loop *loop;
    struct conf *conf;
    struct log log;
    char conf_path[4096], directory[4096];
    int bin_dir;  /* programs are started from here by execveat */
    int run_dir;  /* of the instance */
    int pid_file; /* locked as long as we live */
    int ready_fd; /* tells `veredus start`; -1 once told */
    bool rootless, stopping;
    int64_t started; /* loop_now */
    struct list processes, sockets, clients;
    int control_fd;
    struct io *control_io;
};

/* process.c: the table of processes */
void process_start_all(struct master *);
/* A row whose program is started and configured, but not wired and told to go. */
struct process *process_add(struct master *, enum role, unsigned worker);
void process_go(struct process *);
/* A signal has stopped it (SIGSTOP), so that it answers nothing. */
bool process_is_stopped(const struct process *);
/* Asks it to finish; killed after limit_ms. Frees the row when it has no process. */
void process_drain(struct process *, int64_t limit_ms);
/* Asks it to finish and starts its successor with the configuration of then. */
void process_yield(struct process *);
struct process *process_find(struct master *, enum role, unsigned worker);
/* How many processes of this role the configuration needs. */
unsigned process_count(const struct conf *, enum role);
void process_reap(struct master *);
/* Drains all; the loop stops when the last has gone. */
void process_stop_all(struct master *);

/* wiring.c: who talks to whom */
/* Gives p its ends of every conversation with the processes that live, and them theirs. */
void wiring_connect(struct process *p);
/* Whether this role begins a conversation with that one. */
bool wiring_serves(enum role client, enum role server);
/* Makes a channel between an administrator and the server of a conversation. Returns the
 * administrator's end or a negative error code. */
int wiring_admit(struct master *, enum conversation, enum role, uid_t who);

/* listen.c: listening sockets */
/* Opens what conf asks for and is not open yet. All or nothing: then listen_commit closes what
 * is no longer wanted, or listen_rollback what was opened. */
int listen_open(struct master *, const struct conf *, struct error *) MUST_USE;
void listen_commit(struct master *);
void listen_rollback(struct master *);
void listen_close_all(struct master *);

/* control.c: the control socket */
int control_open(struct master *, struct error *) MUST_USE;
/* Tells those who asked for the stop that it is done, and closes. */
void control_close(struct master *);

/* limits.c: whether the limit of open files leaves room for the processes of conf and their
 * channels. */
int files_check(const struct conf *, struct error *) MUST_USE;

/* reload.c: reads the configuration again and applies all of it or nothing. What an
 * administrator should read goes to out. */
int reload(struct master *, struct buf *out);

/* hangup.c: the same at SIGHUP, as `veredus reload` does it. */
void hangup(struct master *);

/* instance.c: the instance's directory and start */
int instance_open(struct master *, struct error *) MUST_USE;
void instance_close(struct master *);
/* Says "ok" or why not to `veredus start`, once. */
void instance_report(struct master *, const char *text);

#define MASTER_START_FIELDS(F, S) F(S, STR, what, 0) F(S, STR, version, 0)
#define MASTER_PROC_FIELDS(F, S) \
    F(S, STR, role, 0)           \
    F(S, U32, worker, 0)         \
    F(S, I64, pid, 0) F(S, STR, reason, 0) F(S, I64, wait_ms, 0) F(S, U32, restarts, 0)
#define MASTER_SOCKET_FIELDS(F, S) F(S, STR, name, 0) F(S, STR, address, 0)
#define MASTER_ADMIN_FIELDS(F, S) \
    F(S, STR, verb, 0) F(S, STR, what, 0) F(S, I64, uid, 0) F(S, STR, result, 0)
#define MASTER_EVENTS(E)                                                                         \
    E(master_start, "master.start", LOG_INFO, MASTER_START_FIELDS,                               \
        "The system starts: into log/stderr, for nobody writes the log yet.")                    \
    E(master_up, "master.up", LOG_INFO, MASTER_START_FIELDS, "Every process is ready.")          \
    E(master_stop, "master.stop", LOG_INFO, LOG_TEXT_FIELDS, "The system stops.")                \
    E(master_reload, "master.reload", LOG_INFO, LOG_TEXT_FIELDS,                                 \
        "A changed configuration was applied.")                                                  \
    E(master_socket, "master.listen", LOG_INFO, MASTER_SOCKET_FIELDS,                            \
        "A socket accepts connections.")                                                         \
    E(process_started, "process.start", LOG_DEBUG, MASTER_PROC_FIELDS, "A process was started.") \
    E(process_died, "process.died", LOG_WARN, MASTER_PROC_FIELDS,                                \
        "A process ended without being asked; it is restarted after wait_ms.")                   \
    E(process_loop, "process.loop", LOG_ERROR, MASTER_PROC_FIELDS,                               \
        "A process dies again and again soon after its start.")                                  \
    E(process_killed, "process.killed", LOG_WARN, MASTER_PROC_FIELDS,                            \
        "A process did not finish in time and was killed.")                                      \
    E(process_hung, "process.hung", LOG_ERROR, MASTER_PROC_FIELDS,                               \
        "A process stopped answering another one and was killed.")                               \
    E(admin_action, "admin.action", LOG_INFO, MASTER_ADMIN_FIELDS,                               \
        "An administrator asked for something.")
LOG_EVENTS_DECLARE(MASTER_EVENTS)
extern const struct log_event *const master_events[];
