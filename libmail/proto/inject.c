#include "libmail/proto/inject.h"

IPC_DEFINE(inject, INJECT_PROTO)
