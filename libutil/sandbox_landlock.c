/* Landlock by raw system calls: headers of the build machine are older than its kernel. */
#include <errno.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "libutil/sandbox_parts.h"

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif

enum { CREATE_VERSION = 1, RULE_PATH_BENEATH = 1 };

enum fs_right {
    FS_WRITE_FILE = 1 << 1,
    FS_READ_FILE = 1 << 2,
    FS_READ_DIR = 1 << 3,
    FS_REMOVE_DIR = 1 << 4,
    FS_REMOVE_FILE = 1 << 5,
    FS_MAKE_DIR = 1 << 7,
    FS_MAKE_REG = 1 << 8,
    FS_REFER = 1 << 13,
    FS_TRUNCATE = 1 << 14
};

enum { NET_BIND_TCP = 1, NET_CONNECT_TCP = 2, SCOPE_ABSTRACT_UNIX = 1, SCOPE_SIGNAL = 2 };

struct ruleset_attr {
    uint64_t fs, net, scoped;
};

struct path_attr {
    uint64_t allowed;
    int32_t fd;
} __attribute__((packed));

/* What each ABI added; index is the ABI. The attribute grew as well, and an older kernel
 * refuses a longer one. */
static const struct {
    unsigned fs_bits;
    size_t attr_size;
} abis[] = {{0, 0}, {13, 8}, {14, 8}, {15, 8}, {15, 16}, {16, 16}, {16, 24}};

int sandbox_landlock_abi(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_VERSION);
    return abi < 0 ? 0 : (int)abi;
}

static uint64_t tree_rights(bool write, bool directory)
{
    uint64_t r = FS_READ_FILE;
    if (directory)
        r |= FS_READ_DIR;
    if (!write)
        return r;
    r |= FS_WRITE_FILE | FS_TRUNCATE;
    if (directory)
        r |= FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_DIR | FS_MAKE_REG | FS_REFER;
    return r;
}

static int add_tree(int ruleset, int fd, bool write, uint64_t handled, struct error *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return error_sys(err, "sandbox: tree");
    struct path_attr rule = {tree_rights(write, S_ISDIR(st.st_mode)) & handled, fd};
    if (syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &rule, 0) < 0)
        return error_sys(err, "sandbox: landlock rule");
    return OK;
}

int sandbox_landlock_enter(const struct sandbox_trees *trees, unsigned calls, struct error *err)
{
    int abi = sandbox_landlock_abi();
    if (abi <= 0)
        return OK;
    size_t known = MIN((size_t)abi, ARRAY_LEN(abis) - 1);
    struct ruleset_attr attr = {.fs = ((uint64_t)1 << abis[known].fs_bits) - 1,
        .net = calls & SANDBOX_CONNECT ? 0 : NET_BIND_TCP | NET_CONNECT_TCP,
        .scoped = SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL};
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, abis[known].attr_size, 0);
    if (ruleset < 0)
        return error_sys(err, "sandbox: landlock ruleset");
    int rc = OK;
    for (size_t i = 0; rc == OK && i < trees->n; i++)
        rc = add_tree(ruleset, trees->tree[i].fd, trees->tree[i].write, attr.fs, err);
    if (rc == OK && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
        rc = error_sys(err, "sandbox: landlock");
    fd_close(&ruleset);
    return rc;
}
