/* A store on the simulated file system, for histories that are told step by step. */
#pragma once

#include "libstore/fs.h"
#include "libstore/store.h"
#include "tests/crash/simfs.h"

#include <fcntl.h>
#include <setjmp.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static inline struct store *open_store(bool coexist)
{
    const struct store_options opt = {.create = true, .coexist = coexist};
    struct store *s;
    struct error err;
    assert_int_equal(store_open(AT_FDCWD, "mail", &opt, &s, &err), OK);
    return s;
}

/* Puts it into INBOX. */
static inline struct store_appended append(
    struct store *s, struct slice content, const struct store_append_options *opt)
{
    struct store_append *a;
    struct store_appended out;
    struct error err;
    assert_int_equal(store_append_begin(s, SLICE_LIT("INBOX"), 0, &a, &err), OK);
    assert_int_equal(store_append_write(a, content, &err), OK);
    assert_int_equal(store_append_commit(a, opt, &out, &err), OK);
    return out;
}

static inline struct store_appended append_any(struct store *s)
{
    return append(s, SLICE_LIT("Subject: x\r\n\r\nText.\r\n"), &(struct store_append_options){0});
}

static inline struct store_mailbox *look(struct store *s)
{
    struct store_mailbox *mb;
    struct error err;
    assert_int_equal(store_select(s, SLICE_LIT("INBOX"), false, &mb, &err), OK);
    return mb;
}

/* A session that opens INBOX and leaves it, as far as it gets: for sim_start. arg: const bool *,
 * whether it is one with coexistence. */
static inline void come_and_leave(void *arg, int number)
{
    const struct store_options opt = {.coexist = *(const bool *)arg};
    struct store *s;
    struct store_mailbox *mb;
    struct error err;
    (void)number;
    if (store_open(AT_FDCWD, "mail", &opt, &s, &err))
        return;
    if (store_select(s, SLICE_LIT("INBOX"), false, &mb, &err) == OK)
        store_unselect(mb);
    store_close(s);
}

/* In a process of their own, for those that die in a history free nothing. */
static inline void assert_good(bool (*histories)(void))
{
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(histories() ? 0 : 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}
