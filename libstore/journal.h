/*
 * Inside libstore: veredus.journal, which makes small appends durable with one cheap sync.
 *
 * The file has its full size from the beginning and is written over in place, so syncing it moves
 * no metadata. An entry tells everything of an append that already happened in folder and log,
 * where nothing was synced. When the machine stops, whoever opens the mail directory next puts
 * back what was lost: file, record, UID. When the file is full the whole file system is synced,
 * and a new generation of entries begins at its front.
 */
#pragma once

#include "libstore/private.h"

enum { JOURNAL_BODY_MAX = 128 * 1024 };

struct journal_note {
    const struct box *box;
    const struct op *op;   /* the append, as it was committed */
    uint64_t sequence;     /* of its transaction */
    struct slice keywords; /* names, each ended by LF */
    struct slice content;  /* of the file */
};
/* A journal of about so many bytes, unless there is one. The first journal_add makes one by itself.
 */
int journal_make(struct store *, uint64_t size, struct error *) MUST_USE;
/* Whatever is there is on disk, the mail directory itself included: for what is made durable in
 * other ways in the directory of a folder. */
int journal_founded(struct store *, int folder, struct error *) MUST_USE;
/* Durable when it returns OK. ERR_NOT_FOUND: the folder was deleted. */
int journal_add(struct store *, const struct journal_note *, struct error *) MUST_USE;
/* Once for each opening: puts back what a stop of the machine has lost. */
int journal_replay(struct store *, struct error *) MUST_USE;
/* Before folders get other names: nothing in the journal is needed any more, and until
 * journal_release nothing comes into it. */
int journal_hold(struct store *, struct error *) MUST_USE;
void journal_release(struct store *);
/* The same for a moment: before folders go. */
int journal_settle(struct store *, struct error *) MUST_USE;
