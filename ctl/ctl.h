/*
 * veredus(1): `veredus [-d DIR] [--json] NOUN [VERB] [ARGUMENTS]`. Every verb is one row of a
 * table; usage, help and shell completion come from it.
 *
 * Exit status: 0 fine, 1 no, 2 usage, 75 temporary (EX_TEMPFAIL).
 */
#pragma once

#include "libutil/conf.h"
#include "libutil/ipc.h"
#include "libutil/role.h"

#ifndef VEREDUS_CONF
#define VEREDUS_CONF "/etc/veredus/veredus.conf"
#endif

enum { CTL_OK = 0, CTL_NO = 1, CTL_USAGE = 2, CTL_TEMPORARY = 75 };

struct ctl {
    char conf_path[4096]; /* of the instance's veredus.conf */
    char bin_dir[4096];   /* where the programs are */
    bool json;
    struct conf *conf; /* NULL until ctl_conf */
    const struct ctl_verb *verb;
};

struct ctl_verb {
    const char *noun;
    const char *verb; /* NULL: the noun alone */
    const char *args; /* for the usage line */
    const char *help;
    /* argv are the words after noun and verb. Returns the exit status. */
    int (*run)(struct ctl *, int argc, char **argv);
};

/* One table a file, ended by noun == NULL; verbs.c lists them. */
extern const struct ctl_verb init_verbs[], run_verbs[], status_verbs[], log_verbs[],
    sandbox_verbs[], queue_verbs[], config_verbs[], user_verbs[], table_verbs[], mailbox_verbs[],
    transfer_verbs[], backup_verbs[], upgrade_verbs[], housekeep_verbs[], quota_verbs[],
    acl_verbs[], alias_verbs[];

/* Prints "veredus: ..." to standard error and returns status. */
int ctl_fail(int status, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Prints the verb's usage line to standard error and returns CTL_USAGE. */
int ctl_usage(const struct ctl *);
/* status.c: prints the release. */
int ctl_version(const struct ctl *);
/* Loads the configuration once; on errors prints them all and returns NULL. */
const struct conf *ctl_conf(struct ctl *);
/* The instance's directory, from the configuration. NULL when that cannot be read. */
const char *ctl_directory(struct ctl *);
/* Whether an option `--name` is in argv; it is taken out. */
bool ctl_flag(int *argc, char **argv, const char *name);
/* The value of `--name VALUE` or `--name=VALUE`, taken out of argv; NULL when absent. Left in
 * argv, where it is one argument too many, when the value is missing. */
const char *ctl_option(int *argc, char **argv, const char *name);

/* Connects to the control socket. ERR_CLOSED when the system is not running. */
int ctl_connect_master(struct ctl *, struct ipc_sync *, struct error *) MUST_USE;
/* Whether master answers. */
bool ctl_is_running(struct ctl *);
/* Opens a conversation with a daemon through master. Close with ipc_sync_close. */
int ctl_connect_daemon(struct ctl *, enum conversation, enum role, const struct ipc_proto *,
    struct ipc_sync *, struct error *) MUST_USE;
/* Prints err and returns the exit status that fits its code. */
int ctl_report(const struct error *);

/* A yescrypt hash of a password for the users table (crypt(5)). */
int ctl_hash_password(const char *password, struct buf *out, struct error *) MUST_USE;
