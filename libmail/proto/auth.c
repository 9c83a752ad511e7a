#include "libmail/proto/auth.h"

IPC_DEFINE(auth, AUTH_PROTO)
