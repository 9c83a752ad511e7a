/*
 * The memory of failed logins, per client address and per account: each failure makes the next
 * one slower. Kept by each login process for itself; forgotten after a quiet time. Bounded.
 */
#pragma once

#include "libutil/map.h"

struct login_penalty {
    struct map failures;
};

void login_penalty_init(struct login_penalty *);
void login_penalty_clear(struct login_penalty *);
/* Counts a failure of both; returns how many ms the answer has to wait: 1 s doubling to 30 s by
 * the worse of the two. */
int64_t login_penalty_add(
    struct login_penalty *, struct slice address, struct slice account, int64_t now);
/* A good login: the account's failures are forgotten, not the address's, which may be trying
 * others' passwords between its own. */
void login_penalty_forgive(struct login_penalty *, struct slice account);
