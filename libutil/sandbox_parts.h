/* What the sandbox's own files share; included by no one else. */
#pragma once

#include <linux/filter.h>

#include "libutil/sandbox.h"

#if defined(__SANITIZE_ADDRESS__)
#define SANDBOX_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANDBOX_ASAN 1
#endif
#endif
#ifndef SANDBOX_ASAN
#define SANDBOX_ASAN 0
#endif

/* The newest system calls and prctl operations that old headers lack. */
enum {
    SANDBOX_PR_SET_MDWE = 65,
    SANDBOX_PR_GET_MDWE = 66,
    SANDBOX_PR_MDWE_REFUSE_EXEC_GAIN = 1,
    SANDBOX_PR_SET_VMA = 0x53564d41
};

/* The programs are loaded in order; the kernel takes the strictest verdict. */
struct sandbox_filter {
    struct sock_fprog main;
    struct sock_fprog floor; /* ids below the row's floor; empty without SANDBOX_SETID */
    unsigned allowed;        /* distinct calls */
    unsigned calls;          /* the row's groups */
};

/* Installs the filter; no_new_privs must be set. all_threads: of the process. */
int sandbox_filter_load(const struct sandbox_filter *, bool all_threads, struct error *);

enum { SANDBOX_TREES_MAX = 1024 };

/* Directories and files opened with O_PATH while that was still possible. */
struct sandbox_trees {
    size_t n;
    struct {
        int fd;
        bool write;
    } tree[SANDBOX_TREES_MAX];
};

/* The kernel's Landlock ABI; 0 when it has none. */
int sandbox_landlock_abi(void);
/* Confines to the trees. Without Landlock in the kernel, does nothing. */
int sandbox_landlock_enter(const struct sandbox_trees *, unsigned calls, struct error *);
