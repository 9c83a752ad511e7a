#include "qmgr/disk.h"

#include <errno.h>

int disk_error(struct error *err, int code, const char *what)
{
    errno = -code;
    return error_sys(err, "%s", what);
}
