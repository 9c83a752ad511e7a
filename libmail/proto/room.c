#include "libmail/proto/room.h"

IPC_DEFINE(room, ROOM_PROTO)
