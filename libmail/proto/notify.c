#include "libmail/proto/notify.h"

IPC_DEFINE(notify, NOTIFY_PROTO)
