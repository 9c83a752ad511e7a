/*
 * Final delivery of a message into a folder: the trace fields that only the last agent adds
 * (Return-Path: RFC 5321 §4.4; Delivered-To; X-Original-To when the recipient was rewritten),
 * then the body as it came.
 */
#pragma once

#include "libstore/store.h"

struct store_delivery {
    uint64_t id;           /* makes a repetition do nothing (I10); 0: none */
    struct slice sender;   /* reverse-path without <>; empty: null sender */
    struct slice login;    /* who sent it, when he had logged in; empty: nobody knows */
    struct slice address;  /* the recipient */
    struct slice original; /* as given in RCPT */
    struct slice via;      /* recipient.via: one more Delivered-To each */
    struct slice body;     /* the message, or */
    int fd;                /* where it stands from offset 0, when body is empty */
    uint64_t size;
    unsigned patience_ms; /* how long an mbox file's locks are waited for; 0: MBOX_LOCK_MS */
};

/* Where a delivery for user+detail goes: the folder of this name when there is one and the sender
 * may post there, else INBOX. A detail comes from a stranger: no folder is made for it, and what is
 * not a name for a folder (store_name_check) names none. */
struct slice store_deliver_folder(
    struct store *, struct slice detail, const struct store_delivery *) MUST_USE;
/* Not durable until store_sync. */
int store_deliver(struct store *, struct slice folder, const struct store_delivery *,
    struct store_appended *, struct error *) MUST_USE;
