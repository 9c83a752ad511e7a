#include "libmail/proto/deliver.h"

IPC_DEFINE(deliver, DELIVER_PROTO)
RECORD_DEFINE(outcome, OUTCOME_FIELDS)
RECORD_DEFINE(report_recipient, REPORT_RECIPIENT_FIELDS)

bool deliver_pong(struct ipc *ipc, const struct ipc_in *in)
{
    if (in->type != deliver_ping_type)
        return false;
    static const struct deliver_pong pong;
    (void)!ipc_reply(ipc, in->id, in->trace, deliver_pong_type, &pong, -1);
    return true;
}
