#include "libutil/proto/master.h"

IPC_DEFINE(master, MASTER_PROTO)
RECORD_DEFINE(master_child, MASTER_CHILD_FIELDS)
