/* A mail directory in a temporary place, and short ways to use it. Each test program includes
 * this once. */
#pragma once

#include "libstore/store.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define INBOX SLICE_LIT("INBOX")
#define MAIL "From: a@example.test\r\nSubject: hello\r\n\r\nText.\r\n"

struct fixture {
    char dir[64];
    char mail[96];
    struct store_options opt;
    struct store *store;
    struct error err;
    unsigned announced;
};

__attribute__((unused)) static void count_change(void *arg, struct slice folder, uint64_t seq)
{
    struct fixture *f = arg;
    assert_true(folder.n > 0 && seq > 0);
    f->announced++;
}

__attribute__((unused)) static void open_store(struct fixture *f)
{
    int rc = store_open(AT_FDCWD, f->mail, &f->opt, &f->store, &f->err);
    if (rc)
        print_error("%s\n", f->err.text);
    assert_int_equal(rc, OK);
}

__attribute__((unused)) static void reopen(struct fixture *f)
{
    store_close(f->store);
    open_store(f);
}

static int make(void **state, bool coexist)
{
    struct fixture *f = NEW(struct fixture);
    /* In memory where possible: these tests sync a lot. */
    snprintf(f->dir, sizeof(f->dir), "%s/veredus-store-XXXXXX",
        access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->mail, sizeof(f->mail), "%s/mail", f->dir);
    f->opt = (struct store_options){
        .create = true, .coexist = coexist, .changed = count_change, .arg = f};
    signal(SIGXFSZ, SIG_IGN);
    open_store(f);
    struct store_status st;
    assert_int_equal(store_status(f->store, INBOX, &st, &f->err), OK);
    *state = f;
    return 0;
}

__attribute__((unused)) static int setup(void **state)
{
    return make(state, false);
}

__attribute__((unused)) static int setup_coexist(void **state)
{
    return make(state, true);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

__attribute__((unused)) static int teardown(void **state)
{
    struct fixture *f = *state;
    store_close(f->store);
    nftw(f->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

__attribute__((unused)) static int append_opt(struct fixture *f, struct slice folder,
    struct slice text, const struct store_append_options *opt, struct store_appended *out)
{
    struct store_append *a;
    int rc = store_append_begin(f->store, folder, text.n, &a, &f->err);
    if (rc)
        return rc;
    rc = store_append_write(a, text, &f->err);
    if (rc) {
        store_append_abort(a);
        return rc;
    }
    return store_append_commit(a, opt, out, &f->err);
}

/* Appends and returns the UID. */
__attribute__((unused)) static uint32_t append(
    struct fixture *f, struct slice folder, struct slice text)
{
    struct store_appended out;
    int rc = append_opt(f, folder, text, &(struct store_append_options){0}, &out);
    if (rc)
        print_error("%s\n", f->err.text);
    assert_int_equal(rc, OK);
    return out.uid;
}

__attribute__((unused)) static struct store_mailbox *select_box(
    struct fixture *f, struct slice folder)
{
    struct store_mailbox *mb;
    int rc = store_select(f->store, folder, false, &mb, &f->err);
    if (rc)
        print_error("%s\n", f->err.text);
    assert_int_equal(rc, OK);
    return mb;
}

__attribute__((unused)) static void assert_body(
    struct fixture *f, struct store_mailbox *mb, uint32_t uid, const char *text)
{
    struct store_body body;
    int rc = store_body(mb, uid, &body, &f->err);
    if (rc)
        print_error("%s\n", f->err.text);
    assert_int_equal(rc, OK);
    assert_true(slice_is(body.content, text));
    store_body_release(&body);
}

__attribute__((unused)) static struct uidset uids(uint32_t min, uint32_t max)
{
    struct uidset s = {0};
    uidset_add_range(&s, min, max);
    return s;
}

__attribute__((unused)) static void assert_uids(const struct uidset *s, const char *text)
{
    struct buf b;
    buf_init(&b, 10000);
    uidset_print(s, &b);
    assert_int_equal(buf_putc(&b, '\0'), OK);
    assert_string_equal(buf_slice(&b).p, text);
    buf_clear(&b);
}

__attribute__((unused)) static uint32_t flags_of(struct store_mailbox *mb, uint32_t uid)
{
    struct store_msg m;
    assert_true(store_get(mb, store_seq(mb, uid), &m));
    return m.flags & ~STORE_RECENT;
}

__attribute__((unused)) static void set_flags(
    struct fixture *f, struct store_mailbox *mb, uint32_t uid, enum store_how how, uint32_t flags)
{
    struct uidset s = uids(uid, uid);
    assert_int_equal(store_change(mb, &s, &(struct store_flags){.how = how, .flags = flags}, NULL,
                         NULL, &f->err),
        OK);
    uidset_clear(&s);
}

/* Verifies a folder and returns the number of problems. */
__attribute__((unused)) static int problems(struct fixture *f, struct slice folder)
{
    struct buf report;
    buf_init(&report, 1 << 20);
    int n = store_verify(f->store, folder, &report, &f->err);
    if (n)
        print_message("%.*s%s\n", SLICE_FMT(buf_slice(&report)), n < 0 ? f->err.text : "");
    buf_clear(&report);
    return n;
}

__attribute__((unused)) static void path_of(struct fixture *f, const char *name, char out[256])
{
    assert_true(snprintf(out, 256, "%s/%s", f->mail, name) < 256);
}

/* Of the files that belong to INBOX alone. */
__attribute__((unused)) static void inbox_path_of(
    struct fixture *f, const char *name, char out[256])
{
    const char *place = f->opt.coexist ? "" : "veredus.inbox/";
    assert_true(snprintf(out, 256, "%s/%s%s", f->mail, place, name) < 256);
}

__attribute__((unused)) static void write_file(
    struct fixture *f, const char *name, const char *text)
{
    char path[256];
    path_of(f, name, path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* How many files a directory of the mail directory has. */
__attribute__((unused)) static size_t files_in(struct fixture *f, const char *name)
{
    char path[256];
    path_of(f, name, path);
    size_t n = 0;
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

/* A file in cur/ by the beginning of its name. */
__attribute__((unused)) static void file_named(struct fixture *f, const char *begin, char out[300])
{
    char path[256];
    path_of(f, "cur", path);
    DIR *d = opendir(path);
    assert_non_null(d);
    out[0] = '\0';
    for (struct dirent *e; (e = readdir(d));)
        if (strncmp(e->d_name, begin, strlen(begin)) == 0)
            snprintf(out, 300, "cur/%s", e->d_name);
    closedir(d);
    assert_true(out[0]);
}
