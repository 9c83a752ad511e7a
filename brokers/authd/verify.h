/*
 * Password hashes, verified by threads so that the loop never waits for one. Results come back
 * in the loop.
 */
#pragma once

#include "libutil/error.h"
#include "libutil/loop.h"
#include "libutil/slice.h"

struct verifier;

/* rc: of password_verify. */
typedef void verify_fn(int rc, void *arg);

enum { VERIFY_QUEUE = 1000 };

struct verifier *verifier_new(struct loop *, unsigned threads, struct error *);
/* Waits for the threads; what is under way is not answered. */
void verifier_free(struct verifier *);
/* Both strings are copied, and wiped afterwards. fn is called once from the loop, never before
 * this returns. ERR_BUSY when too much is waiting, ERR_SYNTAX for a password that no hash can
 * match (too long, with a NUL). */
int verifier_submit(
    struct verifier *, struct slice password, const char *hash, verify_fn *, void *arg) MUST_USE;
