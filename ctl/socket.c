#include "ctl/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int socket_connect(const char *directory, const char *name, int type, struct error *err)
{
    char path[4200];
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    snprintf(path, sizeof(path), "%s/run", directory);
    int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return error_sys(err, "%s", path);
    /* Through the directory's descriptor: socket paths are limited to 107 bytes. */
    snprintf(sun.sun_path, sizeof(sun.sun_path), "/proc/self/fd/%d/%s", dir, name);
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    int rc = fd;
    if (fd < 0 || connect(fd, (struct sockaddr *)&sun, sizeof(sun)) != 0) {
        if (errno == ENOENT || errno == ECONNREFUSED)
            rc = error_set(err, ERR_CLOSED, "not running (%s)", directory);
        else
            rc = error_sys(err, "%s/%s", path, name);
        fd_close(&fd);
    }
    close(dir);
    return rc;
}
