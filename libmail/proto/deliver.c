#include "libmail/proto/deliver.h"

IPC_DEFINE(deliver, DELIVER_PROTO)
RECORD_DEFINE(outcome, OUTCOME_FIELDS)
RECORD_DEFINE(report_recipient, REPORT_RECIPIENT_FIELDS)
