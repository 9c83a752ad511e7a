#include "libstore/witness.h"

#include <string.h>

#include "libstore/fs.h"

static bool same_boot(int64_t a, int64_t b)
{
    int64_t apart; /* what is in a file may be anything */
    return !__builtin_sub_overflow(a, b, &apart) && apart >= -BOOT_TOLERANCE &&
           apart <= BOOT_TOLERANCE;
}

static bool has_mount(const struct witness *w, uint32_t mount)
{
    for (size_t i = 0; i < WITNESS_MOUNTS; i++)
        if (w->mounts[i] == mount)
            return true;
    return false;
}

bool witness_holds(const struct witness *w, uint32_t mount)
{
    return same_boot(fs_boot(), w->boot) && (mount == 0 || has_mount(w, mount));
}

void witness_note(struct witness *w, int64_t boot, uint32_t mount)
{
    if (!same_boot(boot, w->boot))
        *w = (struct witness){0};
    w->boot = boot;
    if (mount == 0 || has_mount(w, mount))
        return;
    memmove(w->mounts, w->mounts + 1, sizeof(w->mounts) - sizeof(w->mounts[0]));
    w->mounts[WITNESS_MOUNTS - 1] = mount;
}
