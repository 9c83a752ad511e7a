/* One command: made, fed with the message, waited for. All this happens in a process that has
 * become the user; nothing in it is believed beyond its own delivery. */
#pragma once

#include "delivery/pipe/command.h"
#include "libmail/proto/deliver.h"
#include "libutil/accounts.h"
#include "libutil/conf.h"

/* What the configuration says about a command. */
struct run_rules {
    const struct conf_block *block; /* `command NAME`; NULL: a command line */
    const char *directory;          /* NULL: any program */
    int64_t timeout_ms;
    uint64_t cpu_s, memory, file_size, processes, output; /* 0: no limit */
    bool from_line;
    bool homeless; /* an account that the administrator chose: its home need not be there */
};

struct run {
    const struct account *account;
    struct run_rules rules;
    struct slice line; /* of a user, without the | */
    struct slice sender, address, original, via, client, helo;
    struct slice body; /* or */
    int fd;            /* where it stands from offset 0 */
    uint64_t size;
};

struct run_result {
    uint32_t status; /* enum deliver_status */
    uint32_t exit_status, signal;
    char dsn[16];
    char text[400]; /* with what the command wrote */
};

/* As the user. */
void run_command(const struct run *, struct run_result *);
/* What an exit status means, by sysexits.h. */
void run_judge(int status, struct run_result *);
