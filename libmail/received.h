/* Trace fields: our Received field (RFC 5321 §4.4) and the count that finds mail loops (§6.3). */
#pragma once

#include <time.h>

#include "libutil/buf.h"

enum { RECEIVED_HOPS_MAX = 100 };

struct received {
    struct slice helo;        /* what the client called itself */
    struct slice client_name; /* from DNS; empty: unknown */
    struct slice client;      /* its address, text */
    struct slice by;          /* our host name */
    struct slice with;        /* SMTP ESMTP ESMTPS ESMTPA ESMTPSA LMTP LMTPS (RFC 3848) */
    struct slice tls;         /* "TLSv1.3 TLS_AES_256_GCM_SHA384" or empty */
    struct slice qid;
    struct slice recipient; /* only for a message with one recipient */
    int priority;           /* RFC 6710; 0: not said */
    int64_t uid;            /* of a local submitter; -1: none */
    time_t when;
};

/* Appends the folded field with CRLF line ends. Bytes that could break the field are replaced by
 * '?'. 0 or ERR_LIMIT. */
int received_print(const struct received *, struct buf *out);
/* The protocol word: ehlo, tls, authenticated, lmtp; RFC 3848, with utf8 RFC 6531 §4.3. */
struct slice received_with(bool lmtp, bool ehlo, bool tls, bool auth, bool utf8);
