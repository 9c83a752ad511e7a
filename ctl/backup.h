/*
 * A backup is a directory, described in docs/backup.md:
 *
 *     version              "veredus-backup 1"
 *     lock                 held by who writes
 *     messages/ab/HASH     contents, each once, named by SHA-256
 *     generations/N/USER   manifests (ctl/manifest.h); N.part: of a run that did not end
 *
 * It belongs to who makes it; owners of mailboxes never see it.
 */
#pragma once

#include "ctl/ctl.h"
#include "ctl/manifest.h"

struct backup {
    char path[4096];
    int fd;        /* the directory */
    int lock;      /* -1: not locked */
    uint64_t last; /* newest generation, 0: none */
};

/* `write`: makes it when it is not there, and takes the lock: ERR_BUSY. */
int backup_open(const char *path, bool write, struct backup *, struct error *) MUST_USE;
void backup_close(struct backup *);
/* Numbers of all generations, ascending; free it. */
int backup_generations(struct backup *, uint64_t **, size_t *n, struct error *) MUST_USE;

/* One generation's users, as words of manifest_word; ended by NULL. */
char **backup_users(struct backup *, uint64_t generation, struct error *);
void backup_users_free(char **);

int backup_manifest(struct backup *, uint64_t generation, const char *word, struct manifest **,
    struct error *) MUST_USE;
/* The newest generation up to `generation` (0: any) that has this user; 0: none. */
uint64_t backup_newest(struct backup *, uint64_t generation, const char *word);

/* Opens a content and checks it: ERR_NOT_FOUND, ERR_CORRUPT. Read from the start. */
int backup_content(
    struct backup *, const char *hash, uint64_t size, FILE **, struct error *) MUST_USE;
void backup_content_path(const char *hash, char out[128]);

int backup_create(struct ctl *, int argc, char **argv);
int backup_restore(struct ctl *, int argc, char **argv);
