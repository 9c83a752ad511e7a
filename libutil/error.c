#include "libutil/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int error_set(struct error *err, int code, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(err->text, sizeof(err->text), fmt, ap);
        va_end(ap);
        err->code = code;
    }
    return code;
}

static int code_of_errno(int e)
{
    switch (e) {
    case ENOSPC:
    case EDQUOT:
        return ERR_NO_SPACE;
    case ENOENT:
        return ERR_NOT_FOUND;
    case EEXIST:
        return ERR_EXISTS;
    case EACCES:
    case EPERM:
        return ERR_DENIED;
    default:
        return ERR_IO;
    }
}

int error_sys(struct error *err, const char *fmt, ...)
{
    int e = errno, code = code_of_errno(e);
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        int n = vsnprintf(err->text, sizeof(err->text), fmt, ap);
        va_end(ap);
        if (n >= 0 && (size_t)n < sizeof(err->text))
            snprintf(err->text + n, sizeof(err->text) - (size_t)n, ": %s", strerror(e));
        err->code = code;
    }
    errno = e;
    return code;
}

const char *error_name(int code)
{
    static const char *const names[] = {"ok", "syntax", "limit", "not-found", "exists", "io",
        "no-space", "corrupt", "version", "denied", "busy", "again", "closed", "timeout",
        "temporary", "unsupported", "quota"};
    size_t i = code <= 0 ? (size_t)-code : ARRAY_LEN(names);
    return i < ARRAY_LEN(names) ? names[i] : "unknown";
}
