#include "libmail/proto/quota.h"

IPC_DEFINE(quota, QUOTA_PROTO)
