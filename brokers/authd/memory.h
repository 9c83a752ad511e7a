/*
 * What authd remembers between requests, all bounded and with an end: verified credentials,
 * failures, tickets. Time is the loop's, in milliseconds.
 */
#pragma once

#include "libutil/map.h"
#include "libutil/siphash.h"

enum {
    CREDENTIALS_MAX = 4096,
    FAILURES_MAX = 65536,
    TICKETS_MAX = 10000,
    TICKET_LEN = 32,
    TICKET_MS = 30000
};

/* --- verified credentials: a keyed fingerprint of hash and password, never the password --------
 */
struct credentials {
    struct map map; /* user -> credential */
    uint8_t key[SIPHASH_KEY];
    int64_t ttl;
};

void credentials_init(struct credentials *, int64_t ttl_ms);
void credentials_clear(struct credentials *);
void credentials_remember(
    struct credentials *, const char *user, const char *hash, struct slice password, int64_t now);
/* Whether this password was right for this user and this very hash a short time ago. */
bool credentials_known(
    struct credentials *, const char *user, const char *hash, struct slice password, int64_t now);

/* --- failures, by address and by account --------------------------------------------------------
 */
struct failures {
    struct map map;
    int64_t window;
    unsigned most; /* of an address; an account may have ten times as many */
};

void failures_init(struct failures *, int64_t window_ms, unsigned most);
void failures_clear(struct failures *);
void failures_add(struct failures *, struct slice client, struct slice user, int64_t now);
bool failures_too_many(struct failures *, struct slice client, struct slice user, int64_t now);

/* --- tickets: one use, one service, thirty seconds ----------------------------------------------
 */
struct tickets {
    struct map map;
};

void tickets_init(struct tickets *);
void tickets_clear(struct tickets *);
/* ERR_BUSY when too many are unused. */
int tickets_issue(struct tickets *, const char *user, struct slice service, int64_t now,
    uint8_t out[TICKET_LEN]) MUST_USE;
/* Ends the ticket, whatever the outcome; the user, or false. */
bool tickets_redeem(struct tickets *, struct slice ticket, struct slice service, int64_t now,
    char *user, size_t size);
