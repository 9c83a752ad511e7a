#include "libutil/proto/ctl.h"

IPC_DEFINE(ctl, CTL_PROTO)
RECORD_DEFINE(ctl_process, CTL_PROCESS_FIELDS)
