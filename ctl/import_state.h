/*
 * How far an import from an IMAP server has come: the file veredus.import in the mail directory.
 * First line "veredus-import 1"; then for each folder SERVER LOGIN FOLDER UIDVALIDITY LAST, words
 * as manifest_word writes them. LAST is the highest UID below which everything was imported and
 * is durable.
 */
#pragma once

#include "libutil/buf.h"
#include "libutil/error.h"

struct import_state;

/* A file that cannot be read is an error: it may tell what is here already. */
int import_state_load(int dirfd, const char *server, const char *login, struct import_state **,
    struct error *) MUST_USE;
void import_state_free(struct import_state *);
/* 0: nothing was imported, or the folder has another UIDVALIDITY. */
uint32_t import_state_get(const struct import_state *, struct slice folder, uint32_t uidvalidity);
/* Written to the disk when this returns. */
int import_state_set(struct import_state *, struct slice folder, uint32_t uidvalidity,
    uint32_t last, struct error *) MUST_USE;
