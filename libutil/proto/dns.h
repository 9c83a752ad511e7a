/* Questions to dnsd. */
#pragma once

#include "libutil/ipc.h"

enum { DNS_A = 1, DNS_PTR = 12, DNS_MX = 15, DNS_TXT = 16, DNS_AAAA = 28, DNS_TLSA = 52 };
enum dns_status {
    DNS_OK,       /* at least one record */
    DNS_NO_DATA,  /* the name exists, without records of this type */
    DNS_NO_NAME,  /* NXDOMAIN */
    DNS_BOGUS,    /* DNSSEC validation failed: treat as temporary, never as absent */
    DNS_TROUBLE   /* SERVFAIL, timeout: temporary */
};

/* One record of an answer: preference for MX, the rest in data: an address in text form for A
 * and AAAA, a host name without final dot for MX and PTR (MX "." means null MX, RFC 7505), raw
 * bytes for TLSA and TXT (TXT strings joined). */
#define DNS_RECORD_FIELDS(F, S) F(S, U32, preference, 0) F(S, BYTES, data, 4096)
RECORD_DECLARE(dns_record, DNS_RECORD_FIELDS)

#define DNS_QUERY_FIELDS(F, S) F(S, STR, name, 255) F(S, U32, type, 0)
#define DNS_ANSWER_FIELDS(F, S)                                                                    \
    F(S, U32, status, 0) F(S, BOOL, secure, 0) F(S, U32, ttl, 0) F(S, STR, why, 255)              \
        F(S, BYTES, records, 60000) /* packed dns_record */
#define DNS_PROTO(M)                                                                               \
    M(dns_query, 1, IPC_CLIENT, 2, 30000, IPC_NO_FD, DNS_QUERY_FIELDS)                             \
    M(dns_answer, 2, IPC_SERVER, 0, 0, IPC_NO_FD, DNS_ANSWER_FIELDS)
IPC_DECLARE(dns, DNS_PROTO)
