/*
 * Putting a folder back as it was: UIDVALIDITY, UIDs and all. The folder is built as the INBOX of
 * a store of its own inside the mail directory, where nobody looks, and then takes the place of
 * an empty folder in one step.
 */
#pragma once

#include "libstore/store.h"

/* A new, empty store under `s`, for one folder; what an attempt before left is removed. ERR_BUSY:
 * another one is under way. */
int store_restore_begin(struct store *s, struct store **aside, struct error *) MUST_USE;
/* Gives its INBOX the numbers: before anything is appended. Modification sequences begin far
 * above modseq, as others were given since then. mailbox: its object id; 0: a new one. */
int store_restore_numbers(struct store *aside, uint32_t uidvalidity, uint64_t modseq,
    uint64_t mailbox, struct error *) MUST_USE;
/* Moves it to `folder`, which is made when it is not there. ERR_EXISTS: there are messages, or it
 * has this UIDVALIDITY already, so that its UIDs would repeat (I8). */
int store_restore_install(
    struct store *s, struct store *aside, struct slice folder, struct error *) MUST_USE;
/* Closes and removes what is left of it. */
void store_restore_end(struct store *s, struct store *aside);
