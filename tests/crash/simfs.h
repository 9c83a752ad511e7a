/*
 * A file system in memory behind libstore/fs.h, for histories with crashes. Processes are
 * coroutines that change places at file operations, die there, or lose the machine there: then
 * what was not synced is lost, torn or reordered, names as well as content.
 *
 * A program that links this gets none of libstore/fs_posix.c.
 */
#pragma once

#include "libutil/base.h"
#include "libutil/slice.h"

enum { SIM_PROCESSES = 4 };

typedef void sim_main(void *arg, int process);

/* What a machine without these habits would do wrong. */
enum sim_lie { SIM_HONEST, SIM_NO_FILE_SYNC, SIM_NO_DIR_SYNC, SIM_NO_FS_SYNC };

struct sim_options {
    uint64_t seed;
    unsigned switch_one_in; /* operations between two changes of process; 0: never */
    unsigned fault_one_in;  /* operations between two ENOSPC or EIO; 0: never */
    bool namespaces;        /* processes see different mounts of it */
    bool blind;             /* nobody can tell one mount from another */
    const char *lie_about;  /* a name: syncing it, or (with SIM_NO_FS_SYNC) nothing in particular */
    enum sim_lie lie;
    /* Writes of a process that nobody else ever sees, for planting bugs; may be NULL. */
    bool (*swallow)(const char *name, struct slice bytes);
};

/* An empty file system, and a machine that has just started. */
void sim_init(const struct sim_options *);
void sim_free(void);
uint64_t sim_random(uint64_t below);

/* Starts the coroutine of a process. */
void sim_start(int process, sim_main *, void *arg);
bool sim_running(int process);
/* Lets processes run until all have ended, or `operations` more were done (0: no end): then
 * false, and they are where they are. */
bool sim_run(uint64_t operations);
/* Its descriptors and locks go; it never goes on. */
void sim_kill(int process);
/* Everyone dies, and the disk has what it has. */
void sim_power_cut(void);
/* The same, but the machine runs on: the file system went away and is mounted again. */
void sim_remount(void);
/* No faults any more, and nobody else runs. */
void sim_quiet(bool);
/* Whether the calling code runs in a process. */
int sim_self(void);
/* The clock goes on. */
void sim_wait_ms(uint64_t);
uint64_t sim_operations(void);
