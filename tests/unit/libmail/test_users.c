#include "libmail/users.h"

#include <setjmp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "libmail/coexist.h"

struct fixture {
    char dir[64];
    struct conf *conf;
    struct users *users;
};

static void put(const struct fixture *f, const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", f->dir, name);
    FILE *out = fopen(path, "w");
    fputs(text, out);
    fclose(out);
}

static int setup(void **state)
{
    static struct fixture f;
    char text[1024];
    struct error err = {0};
    memcpy(f.dir, "/tmp/veredus-users-XXXXXX", 26);
    assert_non_null(mkdtemp(f.dir));
    put(&f, "users",
        "alice@example.org: $y$hash\n"
        "Bob@example.org {CRYPT}$6$hash:boxes/bob\n"
        "off@example.org: !$y$hash\n"
        "up@example.org: $y$hash:../../etc\n"
        "../x@example.org: $y$hash\n"
        "plain@example.org: {PLAIN}secret\n"
        "relayed@relay.example: $y$hash\n"
        "gina@beside.example: $y$hash\n"
        "carol: $5$carol\n"
        "dave@host.example: $5$dave\n"
        "root: $5$root\n"
        "nobody: $5$nobody\n");
    put(&f, "passwd",
        "root:x:0:0:root:/root:/bin/sh\ncarol:x:1001:1002::/home/carol:/bin/sh\n"
        "dave:x:1003:1003::/home/dave:/bin/sh\nerin:x:1004:1004::/home/erin:/bin/sh\n"
        "broken:x:abc:1::/x:/bin/sh\nnobody:x:65534:65534::/none:/bin/sh\n");
    snprintf(text, sizeof(text),
        "hostname h\nusers text:%s/users\n"
        "domain example.org example.net { store {domain}/u/{user} }\n"
        "domain beside.example { coexist yes }\n"
        "domain relay.example { relay mx.example }\n"
        "local { domains host.example other.example }\n",
        f.dir);
    f.conf = conf_parse("t", slice_of(text), &conf_root_schema, NULL, &err);
    if (!f.conf)
        fail_msg("%s", err.text);
    f.users = users_new(f.conf, f.dir, &err);
    if (!f.users)
        fail_msg("%s", err.text);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char path[128];
    users_free(f->users);
    conf_free(f->conf);
    snprintf(path, sizeof(path), "%s/users", f->dir);
    unlink(path);
    snprintf(path, sizeof(path), "%s/passwd", f->dir);
    unlink(path);
    rmdir(f->dir);
    return 0;
}

static int login(void **state, const char *name, struct user *user)
{
    struct fixture *f = *state;
    struct error err = {0};
    return users_login(f->users, slice_of(name), user, &err);
}

static void test_virtual_user_has_the_directory_of_the_template(void **state)
{
    struct user u;
    assert_int_equal(login(state, "ALICE@Example.org", &u), OK);
    assert_string_equal(u.name, "alice@example.org");
    assert_string_equal(u.hash, "$y$hash");
    assert_string_equal(u.mail, "example.org/u/alice");
    assert_true(u.uid == -1 && u.gid == -1 && !u.system && !u.disabled);
}

static void test_other_programs_use_mail_of_accounts_and_of_domains_that_say_so(void **state)
{
    struct fixture *f = *state;
    struct coexist c;
    struct user u;
    coexist_init(&c, f->conf);
    assert_true(login(state, "gina@beside.example", &u) == OK && u.coexist);
    assert_true(login(state, "alice@example.org", &u) == OK && !u.coexist);
    assert_true(login(state, "carol", &u) == OK && u.coexist);
    assert_true(coexist_has(&c, SLICE_LIT("gina+detail@Beside.Example")));
    assert_false(coexist_has(&c, SLICE_LIT("alice@example.org")));
    assert_false(coexist_has(&c, SLICE_LIT("beside.example")));
    coexist_clear(&c);
}

static void test_an_entry_may_name_its_directory_and_the_crypt_scheme(void **state)
{
    struct user u;
    assert_int_equal(login(state, "bob@example.org", &u), OK);
    assert_string_equal(u.hash, "$6$hash");
    assert_string_equal(u.mail, "boxes/bob");
}

static void test_disabled_users_are_marked(void **state)
{
    struct user u;
    assert_int_equal(login(state, "off@example.org", &u), OK);
    assert_true(u.disabled);
}

static void test_names_that_lead_out_of_the_mail_root_are_refused(void **state)
{
    struct user u;
    assert_int_equal(login(state, "up@example.org", &u), ERR_SYNTAX);
    assert_int_equal(login(state, "../x@example.org", &u), ERR_SYNTAX);
}

static void test_schemes_other_than_crypt_are_malformed(void **state)
{
    struct user u;
    assert_int_equal(login(state, "plain@example.org", &u), ERR_SYNTAX);
}

static void test_absent_names_do_not_exist(void **state)
{
    struct user u;
    const char *names[] = {"nobody@example.org", "alice@example.net", "alice@unknown.example",
        "relayed@relay.example", "@example.org", "", "alice"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (login(state, names[i], &u) != ERR_NOT_FOUND)
            fail_msg("%s was found", names[i]);
}

static void test_system_user_by_bare_name_or_any_local_domain(void **state)
{
    struct user u;
    assert_int_equal(login(state, "carol", &u), OK);
    assert_string_equal(u.name, "carol@host.example");
    assert_string_equal(u.mail, "/home/carol/Maildir");
    assert_true(u.system && u.uid == 1001 && u.gid == 1002);
    assert_int_equal(login(state, "carol@OTHER.example", &u), OK);
    assert_string_equal(u.hash, "$5$carol");
    assert_int_equal(login(state, "dave", &u), OK);
    assert_string_equal(u.hash, "$5$dave");
}

static void test_system_user_needs_an_account_a_hash_and_a_high_uid(void **state)
{
    struct user u;
    assert_int_equal(login(state, "root", &u), ERR_NOT_FOUND);
    assert_int_equal(login(state, "erin", &u), ERR_NOT_FOUND);
    assert_int_equal(login(state, "broken", &u), ERR_NOT_FOUND);
    assert_int_equal(login(state, "nobody", &u), ERR_NOT_FOUND);
    assert_int_equal(login(state, "frank", &u), ERR_NOT_FOUND);
}

static void test_changes_of_the_files_are_seen(void **state)
{
    struct fixture *f = *state;
    struct user u;
    uint64_t before = users_generation(f->users);
    put(f, "users", "new@example.org: $y$other\nerin: $y$erin\n");
    assert_int_equal(login(state, "new@example.org", &u), OK);
    assert_int_equal(login(state, "alice@example.org", &u), ERR_NOT_FOUND);
    assert_true(users_generation(f->users) != before);
    put(f, "passwd", "erin:x:2000:2000::/h/erin:/bin/sh\n");
    assert_int_equal(login(state, "erin", &u), OK);
    assert_string_equal(u.mail, "/h/erin/Maildir");
    put(f, "users", "broken\n");
    int rc = login(state, "new@example.org", &u);
    assert_true(rc != OK && rc != ERR_NOT_FOUND);
}

static void test_everybody_is_listed_once_in_order(void **state)
{
    /* All addresses of the table; bare names and accounts by the first local domain. */
    static const char *const expected[] = {"../x@example.org", "alice@example.org",
        "bob@example.org", "carol@host.example", "dave@host.example", "erin@host.example",
        "gina@beside.example", "nobody@host.example", "off@example.org", "plain@example.org",
        "relayed@relay.example", "root@host.example", "up@example.org"};
    struct fixture *f = *state;
    struct error err = {0};
    char **names;
    size_t n;
    assert_int_equal(users_names(f->users, &names, &n, &err), OK);
    assert_int_equal(n, ARRAY_LEN(expected));
    for (size_t i = 0; i < n; i++)
        assert_string_equal(names[i], expected[i]);
    users_names_free(names, n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_virtual_user_has_the_directory_of_the_template, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_other_programs_use_mail_of_accounts_and_of_domains_that_say_so, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_an_entry_may_name_its_directory_and_the_crypt_scheme, setup, teardown),
        cmocka_unit_test_setup_teardown(test_disabled_users_are_marked, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_names_that_lead_out_of_the_mail_root_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_schemes_other_than_crypt_are_malformed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_absent_names_do_not_exist, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_system_user_by_bare_name_or_any_local_domain, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_system_user_needs_an_account_a_hash_and_a_high_uid, setup, teardown),
        cmocka_unit_test_setup_teardown(test_everybody_is_listed_once_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_changes_of_the_files_are_seen, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
