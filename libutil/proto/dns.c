#include "libutil/proto/dns.h"

RECORD_DEFINE(dns_record, DNS_RECORD_FIELDS)
IPC_DEFINE(dns, DNS_PROTO)
