/* Verdicts that are used again, and when they are not. */
#include "smtpd/verdicts.h"

#include "libutil/error.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static struct {
    struct verdicts v;
    char dir[64];
    int dir_fd;
} f;

static void put(const char *name, const char *text)
{
    int fd = openat(f.dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(write(fd, text, strlen(text)), (int)strlen(text));
    close(fd);
}

static void mark(enum route_source source, const char *name)
{
    struct filemark m;
    struct error err = {0};
    assert_int_equal(filemark_take(f.dir_fd, name, &m, &err), OK);
    const struct route_mark msg = {.source = source, FILEMARK_VALUES(&m)};
    verdicts_mark(&f.v, &msg, &m.fd);
    assert_int_equal(m.fd, -1); /* taken */
}

static int setup(void **state)
{
    (void)state;
    memcpy(f.dir, "/tmp/veredus-verdicts-XXXXXX", 29);
    assert_non_null(mkdtemp(f.dir));
    f.dir_fd = open(f.dir, O_RDONLY | O_DIRECTORY);
    verdicts_init(&f.v);
    put("users", "a");
    put("virtual", "b");
    mark(ROUTE_USERS, "users");
    mark(ROUTE_VIRTUAL, "virtual");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    verdicts_reset(&f.v);
    unlinkat(f.dir_fd, "users", 0);
    unlinkat(f.dir_fd, "virtual", 0);
    close(f.dir_fd);
    return rmdir(f.dir);
}

static void keep(const char *address, bool may_relay, struct route_verdict v)
{
    v.recipients = SLICE_LIT("packed");
    verdicts_keep(&f.v, slice_of(address), may_relay, &v);
}

static bool found(const char *address, bool may_relay)
{
    struct route_check check = {.address = slice_of(address), .may_relay = may_relay};
    struct slice got = verdicts_find(&f.v, &check);
    assert_true(got.p == NULL || slice_is(got, "packed"));
    return got.p != NULL;
}

static const struct route_verdict good = {.code = 250, .keep = true};

static void test_a_kept_verdict_is_for_that_address_and_that_right_to_relay(void **state)
{
    (void)state;
    keep("a@example.test", false, good);
    assert_true(found("a@example.test", false));
    assert_true(found("a@example.test", false));
    assert_false(found("a@example.test", true));
    assert_false(found("b@example.test", false));
}

static void test_only_what_lookupd_allows_is_kept(void **state)
{
    (void)state;
    keep("a@example.test", false, (struct route_verdict){.code = 250});
    keep("b@example.test", false, (struct route_verdict){.code = 550, .keep = true});
    keep("c@example.test", false,
        (struct route_verdict){.code = 250, .keep = true, .hold = SLICE_LIT("client=x")});
    assert_false(found("a@example.test", false));
    assert_false(found("b@example.test", false));
    assert_false(found("c@example.test", false));
}

static void test_any_table_that_changes_ends_them_all(void **state)
{
    (void)state;
    keep("a@example.test", false, good);
    put("virtual", "bb");
    assert_false(found("a@example.test", false));
    mark(ROUTE_VIRTUAL, "virtual");
    assert_false(found("a@example.test", false));
    keep("a@example.test", false, good);
    assert_true(found("a@example.test", false));
    assert_int_equal(unlinkat(f.dir_fd, "users", 0), 0);
    assert_false(found("a@example.test", false));
    put("users", "a"); /* the same again is another */
    keep("a@example.test", false, good);
    assert_false(found("a@example.test", false));
}

static void test_a_new_mark_ends_what_was_found_before(void **state)
{
    (void)state;
    keep("a@example.test", false, good);
    mark(ROUTE_USERS, "users");
    assert_false(found("a@example.test", false));
}

static void test_there_is_a_limit_to_what_is_kept(void **state)
{
    (void)state;
    char address[400];
    for (int i = 0; i < 10000; i++) {
        snprintf(address, sizeof(address), "u%d@example.test", i);
        keep(address, false, good);
        assert_true(found(address, false));
    }
    assert_true(map_count(&f.v.kept) < 4096);
    memset(address, 'a', 399);
    address[399] = '\0';
    keep(address, false, good);
    assert_false(found(address, false));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_a_kept_verdict_is_for_that_address_and_that_right_to_relay, setup, teardown),
        cmocka_unit_test_setup_teardown(test_only_what_lookupd_allows_is_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_any_table_that_changes_ends_them_all, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_a_new_mark_ends_what_was_found_before, setup, teardown),
        cmocka_unit_test_setup_teardown(test_there_is_a_limit_to_what_is_kept, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
