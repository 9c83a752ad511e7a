#include "libmail/proto/queue.h"

IPC_DEFINE(queue, QUEUE_PROTO)
RECORD_DEFINE(queue_entry, QUEUE_ENTRY_FIELDS)
RECORD_DEFINE(queue_recipient, QUEUE_RECIPIENT_FIELDS)
RECORD_DEFINE(queue_filter, QUEUE_FILTER_FIELDS)
