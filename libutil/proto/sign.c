#include "libutil/proto/sign.h"

IPC_DEFINE(sign, SIGN_PROTO)
