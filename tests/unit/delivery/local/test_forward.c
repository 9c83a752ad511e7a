/* What .forward files say, which files are trusted, and mbox files. */
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utime.h>

#include <cmocka.h>

#include "delivery/local/forward.h"
#include "libstore/mbox_deliver.h"
#include "libstore/userfile.h"

static const struct forward_owner owner = {
    {"alice", 5}, {"alice+x@host.example", sizeof("alice+x@host.example") - 1}};

/* --- the language ---------------------------------------------------------------------------- */

static int include(struct slice path, struct buf *out, void *arg, struct error *err)
{
    (void)arg;
    if (slice_is(path, "/home/alice/nested"))
        return buf_puts(out, ":include:/home/alice/list\n");
    if (slice_is(path, "/home/alice/filing"))
        return buf_puts(out, "/home/alice/mbox\n");
    if (!slice_is(path, "/home/alice/list"))
        return error_set(err, ERR_NOT_FOUND, "no such file");
    return buf_puts(out, "# people\none@example.org\ntwo@example.org, three\n");
}

static void put_list(struct buf *out, const struct buf *list)
{
    for (struct reader r = reader_of(buf_slice(list)); r.rest.n;) {
        struct slice s = get_lv(&r, FORWARD_BYTES_MAX);
        buf_printf(out, " %.*s", SLICE_FMT(s));
    }
}

/* "MAILBOX: ADDRESSES: FILES", the first as - or m, d for /dev/null. */
static void means(const char *text, const char *wanted)
{
    struct forward_plan plan;
    struct error err = {0};
    struct buf got;
    forward_init(&plan);
    if (forward_parse(&plan, slice_of(text), &owner, include, NULL, &err))
        fail_msg("%s: %s", text, err.text);
    buf_init(&got, 65536);
    buf_printf(&got, "%s%s:", plan.mailbox ? "m" : "-", plan.nowhere ? "d" : "");
    put_list(&got, &plan.targets);
    buf_puts(&got, ":");
    put_list(&got, &plan.files);
    if (!slice_is(buf_slice(&got), wanted))
        fail_msg("%s: wanted %s, got %.*s", text, wanted, SLICE_FMT(buf_slice(&got)));
    buf_clear(&got);
    forward_clear(&plan);
}

static void is_refused(const char *text, int code)
{
    struct forward_plan plan;
    struct error err = {0};
    forward_init(&plan);
    assert_int_equal(forward_parse(&plan, slice_of(text), &owner, include, NULL, &err), code);
    assert_null(strstr(err.text, "secret"));
    forward_clear(&plan);
}

static void test_addresses_are_separated_by_commas_and_lines(void **state)
{
    (void)state;
    means("bob@example.org\n", "-: bob@example.org:");
    means("bob@example.org", "-: bob@example.org:");
    means(" bob@example.org ,carol\r\n,,\n\n dave ", "-: bob@example.org carol dave:");
    means("Bob the User <bob@example.org>", "-: bob@example.org:");
    means("\"a,b\"@example.org, x@y.example", "-: \"a,b\"@example.org x@y.example:");
}

static void test_nothing_said_means_the_mailbox(void **state)
{
    (void)state;
    means("", "m::");
    means("\n\n# nothing, really\n  \n", "m::");
}

static void test_comments_are_lines(void **state)
{
    (void)state;
    means("# one, two@example.org\nbob\n  # three\ncarol", "-: bob carol:");
}

static void test_the_owner_by_any_name_is_the_mailbox(void **state)
{
    (void)state;
    means("\\alice", "m::");
    means("alice", "m::");
    means("Alice", "m::"); /* mail for it comes to the account in any case of letters */
    means("\\ALICE", "m::");
    means("Alice+X@HOST.example, bob", "m: bob:");
    means("\\bob", "-: bob:");
    means("\"\\alice\"", "m::");
}

static void test_files_and_nowhere(void **state)
{
    (void)state;
    means(
        "/home/alice/mbox\n\"/home/alice/my mail/\"", "-:: /home/alice/mbox /home/alice/my mail/");
    means("/dev/null", "-d::");
    means("\\alice\n/dev/null", "md::");
}

static void test_includes_name_addresses_only(void **state)
{
    (void)state;
    means(":include:/home/alice/list", "-: one@example.org two@example.org three:");
    means("\":include: /home/alice/list\"", "-: one@example.org two@example.org three:");
    is_refused(":include:/home/alice/nested", ERR_LIMIT);
    is_refused(":include:/home/alice/filing", ERR_DENIED);
    is_refused(":include:/home/alice/absent", ERR_NOT_FOUND);
}

static void test_commands_keep_their_quotes_and_commas(void **state)
{
    (void)state;
    means("|/bin/cat", "-: |/bin/cat:");
    means("\\alice, \"|/bin/tee a, b #c\"\n", "m: |/bin/tee a, b #c:");
    means("\"|sh -c \\\"x y\\\" \\\\\"", "-: |sh -c \"x y\" \\:");
    means("\"|a\", \"|b\"", "-: |a |b:");
}

static void test_nonsense_refuses_the_whole_file(void **state)
{
    (void)state;
    is_refused("bob\n|", ERR_SYNTAX);
    is_refused("\\alice\nsecret word here", ERR_SYNTAX);
    is_refused("bob@secret@x", ERR_SYNTAX);
    is_refused("\\", ERR_SYNTAX);
    is_refused("<>", ERR_SYNTAX);
}

static void test_the_number_of_entries_is_bounded(void **state)
{
    (void)state;
    struct buf many;
    buf_init(&many, 1 << 20);
    for (int i = 0; i <= FORWARD_ADDRESSES_MAX; i++)
        buf_printf(&many, "u%d\n", i);
    buf_putc(&many, '\0');
    is_refused(buf_slice(&many).p, ERR_LIMIT);
    buf_reset(&many);
    for (int i = 0; i <= FORWARD_FILES_MAX; i++)
        buf_printf(&many, "/f%d\n", i);
    buf_putc(&many, '\0');
    is_refused(buf_slice(&many).p, ERR_LIMIT);
    buf_clear(&many);
}

/* --- files ----------------------------------------------------------------------------------- */

struct fixture {
    char dir[64];
    int fd;
};

static int setup(void **state)
{
    struct fixture *f = NEW(struct fixture);
    umask(022);
    snprintf(f->dir, sizeof(f->dir), "/tmp/veredus-forward-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(f->fd >= 0);
    *state = f;
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    fd_close(&f->fd);
    nftw(f->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

static void put(const struct fixture *f, const char *name, const char *text)
{
    int fd = openat(f->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static int read_rc(const struct fixture *f, const char *name)
{
    struct buf out;
    struct error err;
    buf_init(&out, FORWARD_MAX);
    int rc = userfile_read(f->fd, name, &out, &err);
    buf_clear(&out);
    return rc;
}

static void test_only_the_users_own_unshared_files_command(void **state)
{
    struct fixture *f = *state;
    put(f, "good", "x");
    assert_int_equal(read_rc(f, "good"), OK);
    assert_int_equal(fchmodat(f->fd, "good", 0664, 0), 0);
    assert_int_equal(read_rc(f, "good"), ERR_DENIED);
    assert_int_equal(fchmodat(f->fd, "good", 0646, 0), 0);
    assert_int_equal(read_rc(f, "good"), ERR_DENIED);
    assert_int_equal(read_rc(f, "absent"), ERR_NOT_FOUND);
    if (geteuid() == 0) {
        put(f, "foreign", "x");
        assert_int_equal(fchownat(f->fd, "foreign", 4321, 4321, 0), 0);
        assert_int_equal(read_rc(f, "foreign"), ERR_DENIED);
    }
}

static void test_links_pipes_and_directories_are_not_read(void **state)
{
    struct fixture *f = *state;
    put(f, "good", "x");
    assert_int_equal(symlinkat("good", f->fd, "link"), 0);
    assert_int_equal(symlinkat("/etc", f->fd, "etc"), 0);
    assert_int_equal(mkfifoat(f->fd, "pipe", 0600), 0);
    assert_int_equal(mkdirat(f->fd, "directory", 0700), 0);
    assert_int_equal(read_rc(f, "link"), ERR_IO);
    assert_int_equal(read_rc(f, "etc/passwd"), ERR_IO);
    assert_int_equal(read_rc(f, "../../etc/passwd"), ERR_IO);
    assert_int_equal(read_rc(f, "/etc/passwd"), ERR_IO);
    assert_int_equal(read_rc(f, "pipe"), ERR_DENIED); /* and does not wait */
    assert_int_equal(read_rc(f, "directory"), ERR_DENIED);
}

static void test_too_large_a_file_is_refused(void **state)
{
    struct fixture *f = *state;
    put(f, "large", "");
    int fd = openat(f->fd, "large", O_WRONLY | O_CLOEXEC);
    assert_int_equal(ftruncate(fd, FORWARD_MAX * 2), 0);
    close(fd);
    assert_int_equal(read_rc(f, "large"), ERR_LIMIT);
}

static void test_a_home_that_all_may_write_commands_nothing(void **state)
{
    struct fixture *f = *state;
    struct error err;
    assert_int_equal(userfile_check_home(f->fd, &err), OK);
    assert_int_equal(fchmod(f->fd, 0707), 0);
    assert_int_equal(userfile_check_home(f->fd, &err), ERR_DENIED);
}

static void test_paths_below_home(void **state)
{
    (void)state;
    assert_string_equal(userfile_below("/home/alice", "/home/alice/mbox"), "mbox");
    assert_string_equal(userfile_below("/home/alice/", "/home/alice//a/b"), "a/b");
    assert_null(userfile_below("/home/alice", "/home/alice2/mbox"));
    assert_null(userfile_below("/home/alice", "/home/alice"));
    assert_null(userfile_below("/home/alice", "/home/alice/"));
    assert_null(userfile_below("/home/alice", "/home/bob/mbox"));
}

/* --- mbox ------------------------------------------------------------------------------------ */

static int deliver(
    const struct fixture *f, const char *path, uint64_t id, const char *body, bool *again)
{
    struct error err;
    struct store_delivery d = {.id = id,
        .sender = SLICE_LIT("s@example.org"),
        .address = SLICE_LIT("alice@host.example"),
        .original = SLICE_LIT("alice@host.example"),
        .body = slice_of(body),
        .fd = -1,
        .size = strlen(body)};
    return mbox_deliver(f->fd, path, &d, again, &err);
}

static void assert_content(const struct fixture *f, const char *name, const char *wanted)
{
    char got[4096] = "";
    int fd = openat(f->fd, name, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_true(read(fd, got, sizeof(got) - 1) >= 0);
    close(fd);
    /* the date of the From line is today's */
    for (char *p = got; (p = strstr(p, "s@example.org ")) && p[13] == ' ';) {
        memmove(p + 13, p + 13 + 25, strlen(p + 13 + 25) + 1);
        p += 13;
    }
    assert_string_equal(got, wanted);
}

#define HEAD(id)                                         \
    "From s@example.org\nReturn-Path: <s@example.org>\n" \
    "Delivered-To: alice@host.example\nX-Veredus-Delivery: 00000000000000" id "\n"

static void test_messages_are_appended_with_from_lines_quoted(void **state)
{
    struct fixture *f = *state;
    bool again;
    assert_int_equal(
        deliver(f, "mbox", 1, "Subject: a\r\n\r\nFrom here\r\n>From x\r\nFromage\r\n", &again), OK);
    assert_int_equal(deliver(f, "mbox", 2, "Subject: b\r\n\r\nno end", &again), OK);
    assert_content(f, "mbox",
        HEAD("01") "Subject: a\n\n>From here\n>>From x\nFromage\n\n" HEAD(
            "02") "Subject: b\n\nno end\n\n");
    struct stat st;
    assert_int_equal(fstatat(f->fd, "mbox", &st, 0), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(faccessat(f->fd, "mbox.lock", F_OK, 0), -1);
}

static void test_redo_is_appended_once(void **state)
{
    struct fixture *f = *state;
    bool again;
    assert_int_equal(deliver(f, "mbox", 1, "Subject: a\r\n\r\nx\r\n", &again), OK);
    assert_false(again);
    assert_int_equal(deliver(f, "mbox", 1, "Subject: a\r\n\r\nx\r\n", &again), OK);
    assert_true(again);
    assert_content(f, "mbox", HEAD("01") "Subject: a\n\nx\n\n");
}

static void test_a_file_that_does_not_end_a_line_gets_an_end(void **state)
{
    struct fixture *f = *state;
    bool again;
    put(f, "mbox", "From x\n\nbroken");
    assert_int_equal(deliver(f, "mbox", 1, "A: b\r\n\r\n", &again), OK);
    assert_content(f, "mbox", "From x\n\nbroken\n" HEAD("01") "A: b\n\n\n");
}

static void test_what_is_no_plain_file_of_the_user_is_refused(void **state)
{
    struct fixture *f = *state;
    bool again;
    put(f, "target", "precious");
    assert_int_equal(symlinkat("target", f->fd, "link"), 0);
    assert_int_equal(linkat(f->fd, "target", f->fd, "second", 0), 0);
    assert_int_equal(mkfifoat(f->fd, "pipe", 0600), 0);
    assert_int_not_equal(deliver(f, "link", 1, "A: b\r\n\r\n", &again), OK);
    assert_int_not_equal(deliver(f, "second", 1, "A: b\r\n\r\n", &again), OK);
    assert_int_not_equal(deliver(f, "pipe", 1, "A: b\r\n\r\n", &again), OK);
    assert_int_not_equal(deliver(f, "../x", 1, "A: b\r\n\r\n", &again), OK);
    assert_content(f, "target", "precious");
    assert_int_equal(faccessat(f->fd, "link.lock", F_OK, 0), -1);
}

static void test_a_stale_lock_is_broken(void **state)
{
    struct fixture *f = *state;
    bool again;
    char path[128];
    struct utimbuf old = {1000, 1000};
    put(f, "mbox.lock", "");
    snprintf(path, sizeof(path), "%s/mbox.lock", f->dir);
    assert_int_equal(utime(path, &old), 0);
    assert_int_equal(deliver(f, "mbox", 1, "A: b\r\n\r\n", &again), OK);
    assert_int_equal(access(path, F_OK), -1);
}

static void test_a_failed_delivery_leaves_the_file_as_it_was(void **state)
{
    struct fixture *f = *state;
    struct error err;
    bool again;
    struct store_delivery d = {.id = 1, .fd = -1, .size = 100};
    put(f, "mbox", "From x\n\nold\n\n");
    assert_int_not_equal(mbox_deliver(f->fd, "mbox", &d, &again, &err), OK);
    assert_content(f, "mbox", "From x\n\nold\n\n");
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses_are_separated_by_commas_and_lines),
        cmocka_unit_test(test_nothing_said_means_the_mailbox),
        cmocka_unit_test(test_comments_are_lines),
        cmocka_unit_test(test_the_owner_by_any_name_is_the_mailbox),
        cmocka_unit_test(test_files_and_nowhere),
        cmocka_unit_test(test_includes_name_addresses_only),
        cmocka_unit_test(test_commands_keep_their_quotes_and_commas),
        cmocka_unit_test(test_nonsense_refuses_the_whole_file),
        cmocka_unit_test(test_the_number_of_entries_is_bounded),
        TEST(test_only_the_users_own_unshared_files_command),
        TEST(test_links_pipes_and_directories_are_not_read),
        TEST(test_too_large_a_file_is_refused),
        TEST(test_a_home_that_all_may_write_commands_nothing),
        cmocka_unit_test(test_paths_below_home),
        TEST(test_messages_are_appended_with_from_lines_quoted),
        TEST(test_redo_is_appended_once),
        TEST(test_a_file_that_does_not_end_a_line_gets_an_end),
        TEST(test_what_is_no_plain_file_of_the_user_is_refused),
        TEST(test_a_stale_lock_is_broken),
        TEST(test_a_failed_delivery_leaves_the_file_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
