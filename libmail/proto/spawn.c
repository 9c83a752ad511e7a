#include "libmail/proto/spawn.h"

IPC_DEFINE(spawn, SPAWN_PROTO)
