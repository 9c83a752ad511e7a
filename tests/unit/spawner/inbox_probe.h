/* What a session can do in the mail directory of somebody who shares his INBOX and nothing else. */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libmail/spawner.h"

static const char *const inbox_dirs[] = {"veredus.shares", "example.test", "example.test/carol",
    "example.test/carol/veredus.inbox", "example.test/carol/cur", "example.test/carol/new",
    "example.test/carol/tmp", "example.test/carol/.Sent", "example.test/carol/.Sent/cur",
    "example.test/carol/.Sent/tmp"};
static const char *const inbox_files[] = {"example.test/carol/veredus.inbox/veredus.acl",
    "example.test/carol/cur/letter", "veredus.shares/carol@example.test",
    "example.test/carol/.Sent/cur/secret"};

static bool opens(int at, const char *path, int flags)
{
    int fd = openat(at, path, flags | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* The number of what does not work that a shared INBOX needs, from 1; or 0. */
static int missing_in_inbox(const struct session_env *env)
{
    const struct session_share *inbox = &env->shares[0];
    int at = inbox->maildir;
    const bool works[] = {
        opens(at, "cur/letter", O_RDONLY),
        opens(at, "new", O_RDONLY | O_DIRECTORY),
        opens(inbox->fd, "veredus.acl", O_RDWR),
        opens(inbox->fd, "veredus.log", O_RDWR | O_CREAT),
        renameat(inbox->fd, "veredus.log", inbox->fd, "veredus.index") == 0,
        opens(at, "tmp/written", O_RDWR | O_CREAT),
        renameat(at, "tmp/written", at, "cur/written") == 0,
        renameat(at, "cur/written", at, "new/written") == 0,
        mkdirat(inbox->fd, "veredus.deleted", 0700) == 0 || errno == EEXIST,
        renameat(at, "new/written", inbox->fd, "veredus.deleted/written") == 0,
        linkat(at, "cur/letter", env->mail, "copy", 0) == 0,
        linkat(env->mail, "copy", at, "tmp/copy", 0) == 0,
        unlinkat(at, "tmp/copy", 0) == 0,
        unlinkat(env->mail, "copy", 0) == 0,
    };
    for (size_t i = 0; i < ARRAY_LEN(works); i++)
        if (!works[i])
            return (int)i + 1;
    return 0;
}

/* The number of what must not work and does, from 1; or 0. */
static int open_beside_inbox(const struct session_env *env)
{
    const struct session_share *inbox = &env->shares[0];
    int at = inbox->maildir, own = env->mail;
    const bool works[] = {
        opens(at, ".", O_RDONLY | O_DIRECTORY),
        opens(inbox->fd, "..", O_RDONLY | O_DIRECTORY),
        opens(at, ".Sent", O_RDONLY | O_DIRECTORY),
        opens(at, ".Sent/cur", O_RDONLY | O_DIRECTORY),
        opens(at, ".Sent/cur/secret", O_RDONLY),
        opens(at, "cur/../.Sent/cur/secret", O_RDONLY),
        opens(inbox->fd, "../.Sent/cur/secret", O_RDONLY),
        opens(at, ".Sent/cur/secret", O_WRONLY),
        opens(at, ".Sent/tmp/written", O_RDWR | O_CREAT),
        opens(at, "veredus.shared", O_RDONLY),
        opens(at, "veredus.shared", O_WRONLY | O_TRUNC),
        opens(at, "veredus.journal", O_RDWR | O_CREAT),
        mkdirat(at, ".Mine", 0700) == 0,
        unlinkat(at, "veredus.shared", 0) == 0,
        unlinkat(at, ".Sent/cur/secret", 0) == 0,
        renameat(at, ".Sent/cur/secret", at, "cur/secret") == 0,
        renameat(at, ".Sent/cur/secret", own, "secret") == 0,
        linkat(at, ".Sent/cur/secret", at, "tmp/secret", 0) == 0,
        linkat(at, ".Sent/cur/secret", own, "secret", 0) == 0,
        linkat(at, "cur/letter", at, ".Sent/cur/letter", 0) == 0,
        renameat(at, "cur/letter", at, "veredus.shared") == 0,
        renameat(at, ".Sent", at, "cur/.Sent") == 0,
        renameat(at, "cur", at, "tmp/cur") == 0,
        renameat(at, "veredus.inbox", at, "tmp/inbox") == 0,
    };
    for (size_t i = 0; i < ARRAY_LEN(works); i++)
        if (works[i])
            return (int)i + 1;
    return 0;
}

/* Writes the two digits, or others, when that is not what is shared. */
static bool tell_inbox(const struct session_env *env)
{
    bool only = env->nshares == 1 && env->shares[0].maildir > 0;
    const char found[] = {(char)(only ? '0' + missing_in_inbox(env) : '-'),
        (char)(only ? '0' + open_beside_inbox(env) : '-')};
    return write(env->fd, found, 2) == 2;
}
