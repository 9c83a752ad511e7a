#include "libutil/spread.h"

#include <linux/fs.h>
#include <sys/ioctl.h>

void dir_spread(int fd)
{
    int flags = 0; /* an int for the kernel, whatever the request's name says */
    if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0 && !(flags & FS_TOPDIR_FL)) {
        flags |= FS_TOPDIR_FL;
        (void)!ioctl(fd, FS_IOC_SETFLAGS, &flags);
    }
}
