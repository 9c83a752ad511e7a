/*
 * How much mail a user may keep: limits, what is used, and whether a message fits.
 *
 * The limits come from authd, through whoever asks it (session spawner, lookupd), and are kept in
 * veredus.quota in the mail directory for those who do not (delivery agents). What is used is the
 * sum of the folders' totals in their indexes: there is no second count that could go wrong. Asking
 * again costs one look at each folder's log; only folders whose log has grown are opened.
 *
 * Limits as text, a line each, all optional; unknown lines are an error:
 *     bytes N | messages N | grace PERCENT | defer
 *     folder ignore NAME | folder +N% NAME | folder +BYTES NAME
 * An ignored folder, with those below it, is not counted and takes any mail. An extra raises the
 * limit of bytes for what is put into that folder, so that Trash can be filled when all is full.
 */
#pragma once

#include "libstore/store.h"

enum { QUOTA_TEXT_MAX = 1024, QUOTA_RULES_MAX = 16 };

struct quota_rule {
    struct slice folder; /* in text */
    bool ignore, percent;
    uint64_t extra;
};

struct quota {
    uint64_t bytes, messages; /* 0: as many as fit on the disk */
    uint64_t grace;           /* a delivery may exceed bytes by this many percent, when the mailbox
                                 was not full before it */
    bool defer;               /* deliveries that do not fit wait instead of going back */
    struct quota_rule rules[QUOTA_RULES_MAX];
    size_t nrules;
    char text[QUOTA_TEXT_MAX + 1];
};

struct quota_usage {
    uint64_t bytes, messages;
};

/* ERR_SYNTAX, ERR_LIMIT. The text is copied. */
int quota_parse(struct slice text, struct quota *, struct error *) MUST_USE;

/* Remembers the limits that count from now on; empty: none. Writes only when they are new. */
int store_quota_set(struct store *, struct slice text, struct error *) MUST_USE;
/* The limits as remembered. A file that cannot be understood is a file with no limits. */
int store_quota_get(struct store *, struct quota *, struct error *) MUST_USE;
/* Whether limits may be remembered in the mail directory of this path below root. Cheap: the store
 * is not opened. */
bool quota_is_remembered(int root, const char *path);
/* The totals of all folders that count. */
int store_quota_usage(struct store *, struct quota_usage *, struct error *) MUST_USE;

enum quota_for {
    QUOTA_APPEND, /* by the user: no grace */
    QUOTA_DELIVERY,
    QUOTA_ADDRESS /* whether a delivery of this size would be accepted, for RCPT */
};
/* Whether messages of these sizes may come into the folder: OK or ERR_QUOTA. Two who put mail
 * there at the same moment may both fit. */
int store_quota_check(struct store *, struct slice folder, uint64_t bytes, uint64_t messages,
    enum quota_for, struct error *) MUST_USE;
/* The same for a usage that was found otherwise. */
bool quota_fits(const struct quota *, const struct quota_usage *, struct slice folder,
    uint64_t bytes, uint64_t messages, enum quota_for);
/* Whether this delivery was made before: then it must not be refused now (I10). */
bool store_delivered(struct store *, struct slice folder, uint64_t delivery);
