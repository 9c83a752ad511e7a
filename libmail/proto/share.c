#include "libmail/proto/share.h"

IPC_DEFINE(share, SHARE_PROTO)
