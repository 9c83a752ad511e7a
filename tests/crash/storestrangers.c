/* Other mail programs in the Maildir of a simulated history, with coexistence. */
#include <fcntl.h>
#include <stdio.h>

#include "libstore/fs.h"
#include "tests/crash/storeworld.h"

void world_maildir(int place, const char *part, char out[64])
{
    if (place == 0)
        snprintf(out, 64, "mail/%s", part);
    else
        snprintf(out, 64, "mail/.%s/%s", world.place[place].name[0], part);
}

static void stranger_drops(struct session *s, int place)
{
    char tmp[64], new[64], name[32];
    struct buf crlf, lf;
    int message = world_message();
    if (message < 0)
        return;
    snprintf(name, sizeof(name), "tmp/%d.M1.host,S=17", message);
    world_maildir(place, name, tmp);
    snprintf(name, sizeof(name), "new/%d.M1.host,S=17", message);
    world_maildir(place, name, new);
    world_content(message, &crlf);
    buf_init(&lf, 2 * BIG);
    for (struct slice rest = buf_slice(&crlf); rest.n;) {
        struct slice line = slice_cut(&rest, '\n');
        buf_printf(&lf, "%.*s\n", (int)line.n - 1, line.p);
    }
    int fd = fs_open(AT_FDCWD, tmp, O_WRONLY | O_CREAT | O_EXCL, 0600);
    world_may_come(place, message);
    struct slice bytes = buf_slice(&lf);
    bool good = fd >= 0 && fs_write(fd, bytes.p, bytes.n) == (ssize_t)bytes.n;
    fs_close(&fd);
    if (good && fs_rename(AT_FDCWD, tmp, AT_FDCWD, new) == 0) {
        world_came(place, message, false);
        TRACE("%d: stranger drops %d in %s\n", s->process, message, world.place[place].name[0]);
    }
    buf_clear(&crlf);
    buf_clear(&lf);
}

static bool any_file(int place, const char *part, char out[64 + 300])
{
    char path[64];
    struct fs_entry e;
    world_maildir(place, part, path);
    int fd = fs_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
    struct fs_dir *d = fd < 0 ? NULL : fs_dir_open(fd);
    bool found = false;
    while (d && fs_dir_next(d, &e) && (!found || sim_random(3)))
        if (e.name[0] != '.') {
            snprintf(out, 64 + 300, "%s/%s", path, e.name);
            found = true;
        }
    if (d)
        fs_dir_close(d);
    return found;
}

static void stranger_removes(struct session *s, const char *path, int place)
{
    int message = verbs_read_file(AT_FDCWD, path);
    if (message < 0)
        return;
    world.place[place].count[message].taken++;
    world.delivery[message].done = false;
    world.foreign[message] = true;
    if (fs_unlink(AT_FDCWD, path, 0) == 0)
        TRACE("%d: stranger removes %d from %s\n", s->process, message, world.place[place].name[0]);
}

/* Passes it on from new/, or sets a letter. */
static void stranger_renames(const char *path, int place)
{
    char to[64 + 320], dir[64];
    const char *name = strrchr(path, '/') + 1, *info = strstr(name, ":2,");
    if (info && strchr(info, 'T'))
        return;
    world_maildir(place, "cur", dir);
    snprintf(to, sizeof(to), "%s/%s%s", dir, name, info ? "T" : ":2,");
    (void)!fs_rename(AT_FDCWD, path, AT_FDCWD, to);
}

void verbs_stranger(struct session *s)
{
    char path[64 + 300];
    int place = (int)sim_random(FIXED);
    if (!world.coexist)
        return;
    if (sim_random(3) == 0)
        stranger_drops(s, place);
    else if (any_file(place, sim_random(2) ? "cur" : "new", path)) {
        if (sim_random(4) == 0)
            stranger_removes(s, path, place);
        else
            stranger_renames(path, place);
    }
    sim_wait_ms(sim_random(4000));
}
