/* One suite for every driver: what can be looked up must not depend on the type. */
#include "libutil/sandbox.h"
#include "libutil/table.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const char *const file_types[] = {"hash", "btree", "lmdb", "text"};

struct fixture {
    char dir[64], path[96], spec[128];
    struct slice s;
};

static void put_text(const struct fixture *f, const char *text)
{
    char aside[128];
    snprintf(aside, sizeof(aside), "%s.tmp", f->path);
    FILE *out = fopen(aside, "w");
    assert_non_null(out);
    fputs(text, out);
    fclose(out);
    assert_int_equal(rename(aside, f->path), 0);
}

static int build(const struct fixture *f, struct error *err)
{
    int rc = table_build(f->s, err);
    return rc == ERR_UNSUPPORTED ? OK : rc;
}

static void setup(struct fixture *f, const char *type, const char *text)
{
    struct error err = {0};
    memcpy(f->dir, "/tmp/veredus-table-XXXXXX", 26);
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof(f->path), "%s/map", f->dir);
    snprintf(f->spec, sizeof(f->spec), "%s:%s", type, f->path);
    f->s = slice_of(f->spec);
    put_text(f, text);
    if (build(f, &err))
        fail_msg("%s: %s", type, err.text);
}

static void teardown(struct fixture *f)
{
    const char *const suffixes[] = {"", ".db", ".lmdb"};
    char path[128];
    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        snprintf(path, sizeof(path), "%s%s", f->path, suffixes[i]);
        unlink(path);
    }
    if (rmdir(f->dir))
        fail_msg("%s: something was left behind", f->dir);
}

static void assert_value(struct table *t, const char *key, const char *want)
{
    struct buf out;
    struct error err = {0};
    buf_init(&out, 1 << 20);
    int rc = table_get(t, slice_of(key), &out, &err);
    if (rc)
        fail_msg("%.*s: %s: %d %s", SLICE_FMT(table_spec(t)), key, rc, err.text);
    buf_putc(&out, '\0');
    assert_string_equal(out.data, want);
    buf_clear(&out);
}

static int code_of(struct table *t, const char *key)
{
    struct buf out;
    struct error err = {0};
    buf_init(&out, 1 << 20);
    int rc = table_get(t, slice_of(key), &out, &err);
    buf_clear(&out);
    return rc;
}

static struct table *must_open(struct slice spec)
{
    struct error err = {0};
    struct table *t = table_open(spec, &err);
    if (!t)
        fail_msg("%.*s: %s", SLICE_FMT(spec), err.text);
    return t;
}

static const char PAIRS[] = "# aliases\n"
                            "root: alice\n"
                            "Bob@Example.ORG   one two,\n"
                            "    three\n"
                            "\n"
                            "\"quoted key\": x:y\n"
                            "colon:tight\n";

static int count(struct slice key, struct slice value, void *arg)
{
    assert_true(key.n && value.n);
    return ++*(int *)arg == 100 ? 1 : 0;
}

static void test_every_type_finds_the_same_values(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(file_types); i++) {
        struct fixture f;
        struct error err;
        int n = 0;
        setup(&f, file_types[i], PAIRS);
        struct table *t = must_open(f.s);
        assert_value(t, "root", "alice");
        assert_value(t, "BOB@example.org", "one two,     three");
        assert_value(t, "quoted key", "x:y");
        assert_value(t, "colon", "tight");
        assert_int_equal(code_of(t, "nobody"), ERR_NOT_FOUND);
        assert_int_equal(code_of(t, ""), ERR_NOT_FOUND);
        assert_int_equal(table_each(t, count, &n, &err), OK);
        assert_int_equal(n, 4);
        table_close(t);
        teardown(&f);
    }
    struct table *t = must_open(SLICE_LIT("inline:{root=alice, BOB@example.org = b , x=}"));
    assert_value(t, "ROOT", "alice");
    assert_value(t, "bob@example.org", "b");
    assert_value(t, "x", "");
    assert_int_equal(code_of(t, "nobody"), ERR_NOT_FOUND);
    table_close(t);
    t = must_open(SLICE_LIT("static:a b"));
    assert_value(t, "anything", "a b");
    table_close(t);
}

static void test_a_changed_file_is_seen_at_the_next_lookup(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(file_types); i++) {
        struct fixture f;
        struct error err;
        setup(&f, file_types[i], "a 1\n");
        struct table *t = must_open(f.s);
        uint64_t before = table_generation(t);
        assert_value(t, "a", "1");
        assert_true(table_generation(t) == before);
        put_text(&f, "a 2\n");
        assert_int_equal(build(&f, &err), OK);
        assert_value(t, "a", "2");
        assert_true(table_generation(t) != before);
        table_close(t);
        teardown(&f);
    }
}

/* An absent file is not an absent key: mail must wait, not bounce. */
static void test_a_file_that_vanishes_is_a_temporary_failure(void **state)
{
    (void)state;
    const char *const suffixes[] = {".db", ".db", ".lmdb", ""};
    for (size_t i = 0; i < ARRAY_LEN(file_types); i++) {
        struct fixture f;
        struct error err;
        char path[128];
        setup(&f, file_types[i], "a 1\n");
        struct table *t = must_open(f.s);
        snprintf(path, sizeof(path), "%s%s", f.path, suffixes[i]);
        assert_int_equal(unlink(path), 0);
        int rc = code_of(t, "zzz");
        assert_true(rc != OK && rc != ERR_NOT_FOUND);
        put_text(&f, "zzz 3\n");
        assert_int_equal(build(&f, &err), OK);
        assert_value(t, "zzz", "3");
        table_close(t);
        teardown(&f);
    }
}

static void test_a_damaged_file_is_an_error(void **state)
{
    (void)state;
    const char *const suffixes[] = {".db", ".db", ".lmdb"};
    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        struct fixture f;
        struct error err = {0};
        char path[128];
        setup(&f, file_types[i], "a 1\n");
        snprintf(path, sizeof(path), "%s%s", f.path, suffixes[i]);
        FILE *out = fopen(path, "w");
        fputs("this is no database\n", out);
        fclose(out);
        assert_null(table_open(f.s, &err));
        assert_true(err.text[0] != '\0');
        teardown(&f);
    }
}

static void test_wrong_text_is_refused_with_its_line_and_the_old_table_stays(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why;
    } wrong[] = {{"a 1\nb\n", "map:2: must be: key value"}, {"a 1\n# c\n  b 2\n", "map:3: begins"},
        {"a 1\nA 2\n", "map:2: a is given twice"}, {"\"a b\n", "map:1: must be"},
        {": x\n", "map:1"}};
    for (size_t i = 0; i < ARRAY_LEN(file_types); i++) {
        struct fixture f;
        setup(&f, file_types[i], "old 1\n");
        for (size_t j = 0; j < ARRAY_LEN(wrong); j++) {
            struct error err = {0};
            put_text(&f, wrong[j].text);
            if (strcmp(file_types[i], "text") == 0) {
                assert_null(table_open(f.s, &err));
            } else {
                assert_int_not_equal(table_build(f.s, &err), OK);
                struct table *t = must_open(f.s);
                assert_value(t, "old", "1");
                table_close(t);
            }
            if (!strstr(err.text, wrong[j].why))
                fail_msg("%s: wanted %s, got %s", file_types[i], wrong[j].why, err.text);
        }
        teardown(&f);
    }
}

static void test_keys_and_values_over_their_limits_are_refused(void **state)
{
    (void)state;
    static char big[TABLE_VALUE_MAX + 64];
    for (size_t i = 0; i < ARRAY_LEN(file_types); i++) {
        struct fixture f;
        struct error err = {0};
        memset(big, 'v', sizeof(big) - 1);
        memcpy(big, "k ", 2);
        big[TABLE_VALUE_MAX + 2] = '\0';
        setup(&f, file_types[i], big);
        struct table *t = must_open(f.s);
        assert_value(t, "k", big + 2);
        table_close(t);
        big[TABLE_VALUE_MAX + 2] = 'v';
        put_text(&f, big);
        t = strcmp(file_types[i], "text") == 0 ? table_open(f.s, &err) : NULL;
        assert_null(t);
        if (strcmp(file_types[i], "text") != 0)
            assert_int_equal(table_build(f.s, &err), ERR_LIMIT);
        assert_int_equal(err.code, ERR_LIMIT);
        memset(big, 'k', TABLE_KEY_MAX + 1);
        memcpy(big + TABLE_KEY_MAX + 1, " x", 3);
        put_text(&f, big);
        assert_true(build(&f, &err) != OK || !table_open(f.s, &err));
        assert_int_equal(err.code, ERR_LIMIT);
        teardown(&f);
    }
}

static void test_a_nul_in_the_text_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(file_types); i++) {
        struct fixture f;
        struct error err = {0};
        setup(&f, file_types[i], "a 1\n");
        FILE *out = fopen(f.path, "w");
        fwrite("a x\0y\n", 1, 6, out);
        fclose(out);
        assert_true(build(&f, &err) != OK || !table_open(f.s, &err));
        assert_non_null(strstr(err.text, "NUL"));
        teardown(&f);
    }
}

static void test_many_pairs_survive_building(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(file_types); i++) {
        struct fixture f;
        struct error err;
        struct buf text;
        int n = -100000;
        buf_init(&text, 1 << 22);
        for (int k = 0; k < 20000; k++)
            buf_printf(&text, "user%d@example.org target%d@example.net\n", k, k);
        buf_putc(&text, '\0');
        setup(&f, file_types[i], text.data);
        struct table *t = must_open(f.s);
        assert_value(t, "user19999@example.org", "target19999@example.net");
        assert_value(t, "user0@example.org", "target0@example.net");
        assert_int_equal(table_each(t, count, &n, &err), OK);
        assert_int_equal(n, -80000);
        table_close(t);
        teardown(&f);
        buf_clear(&text);
    }
}

/* A process that holds a table, without the right to walk to it by name: in a chroot where we
 * may make one, and with the filters every daemon has. */
static void child(const struct fixture *f, bool jail, int from_parent, int to_parent)
{
    static const struct sandbox_profile profile = {
        .name = "test-table", .root = SANDBOX_ROOT_HOST, .calls = SANDBOX_FILES_READ};
    struct error err = {0};
    struct buf out;
    struct sandbox_report report;
    const char *const read_dirs[] = {f->dir, NULL};
    const struct sandbox_paths paths = {.read = read_dirs};
    char c;
    struct table *t = table_open(f->s, &err);
    buf_init(&out, 1000);
    if (!t)
        _exit(10);
    if (!jail && sandbox_enter(&profile, &paths, &report, &err))
        _exit(11);
    if (jail && (chroot("/proc/self/fdinfo") || chdir("/") || access(f->path, F_OK) == 0))
        _exit(12);
    if (write(to_parent, "r", 1) != 1 || read(from_parent, &c, 1) != 1)
        _exit(13);
    int rc = table_get(t, SLICE_LIT("a"), &out, &err);
    if (rc || !slice_is(buf_slice(&out), "2"))
        _exit(rc ? 14 : 15);
    _exit(0);
}

static void test_a_table_is_reopened_in_a_sandbox(void **state)
{
    (void)state;
    /* Only root can make a chroot. */
    size_t runs = ARRAY_LEN(file_types) * (geteuid() == 0 ? 2 : 1);
    for (size_t i = 0; i < runs; i++) {
        struct fixture f;
        struct error err;
        int down[2], up[2], status;
        char c;
        setup(&f, file_types[i % ARRAY_LEN(file_types)], "a 1\n");
        assert_int_equal(pipe2(down, O_CLOEXEC) | pipe2(up, O_CLOEXEC), 0);
        pid_t pid = fork();
        if (pid == 0)
            child(&f, i >= ARRAY_LEN(file_types), down[0], up[1]);
        close(up[1]);
        if (read(up[0], &c, 1) == 1) {
            put_text(&f, "a 2\n");
            assert_int_equal(build(&f, &err), OK);
            assert_int_equal(write(down[1], "g", 1), 1);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (!WIFEXITED(status) || WEXITSTATUS(status))
            fail_msg("%s: the child ended with status %#x", f.spec, status);
        close(up[0]);
        close(down[0]);
        close(down[1]);
        teardown(&f);
    }
}

static void test_one_entry_is_changed_and_all_else_stays(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(file_types); i++) {
        struct fixture f;
        struct error err = {0};
        struct stat st;
        setup(&f, file_types[i], "# top\na: 1\nB 2\n  more\n\n# end\nc 3");
        assert_int_equal(chmod(f.path, 0604), 0);
        struct table *t = must_open(f.s);
        assert_int_equal(table_change(f.s, TABLE_ADD, SLICE_LIT("D d"), SLICE_LIT("4"), &err), OK);
        assert_int_equal(
            table_change(f.s, TABLE_REPLACE, SLICE_LIT("b"), SLICE_LIT("5"), &err), OK);
        assert_int_equal(table_change(f.s, TABLE_DELETE, SLICE_LIT("A"), SLICE_LIT(""), &err), OK);
        assert_int_equal(
            table_change(f.s, TABLE_ADD, SLICE_LIT("C"), SLICE_LIT("x"), &err), ERR_EXISTS);
        assert_int_equal(
            table_change(f.s, TABLE_DELETE, SLICE_LIT("zz"), SLICE_LIT(""), &err), ERR_NOT_FOUND);
        assert_int_not_equal(
            table_change(f.s, TABLE_ADD, SLICE_LIT("e"), SLICE_LIT("x\ny z"), &err), OK);
        char text[256] = "";
        FILE *in = fopen(f.path, "r");
        assert_true(fread(text, 1, sizeof(text) - 1, in) > 0);
        fclose(in);
        assert_string_equal(text, "# top\nb: 5\n\n# end\nc 3\n\"D d\": 4\n");
        assert_int_equal(stat(f.path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0604);
        assert_value(t, "d d", "4");
        assert_value(t, "b", "5");
        assert_int_equal(code_of(t, "a"), ERR_NOT_FOUND);
        table_close(t);
        teardown(&f);
    }
}

static struct filemark marked(struct table *t)
{
    struct filemark m;
    struct error err = {0};
    if (table_mark(t, table_generation(t), &m, &err))
        fail_msg("%s", err.text);
    return m;
}

static void test_a_mark_holds_until_the_file_is_replaced_written_to_or_removed(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(file_types); i++) {
        struct fixture f;
        struct error err = {0};
        setup(&f, file_types[i], "a 1\n");
        struct table *t = table_open(f.s, &err);
        assert_non_null(t);
        uint64_t generation = table_generation(t);
        struct filemark m = marked(t);
        assert_true(m.fd >= 0 && filemark_holds(&m) && filemark_holds(&m));
        char c;
        assert_int_equal(read(m.fd, &c, 1), -1); /* it gives no access */
        put_text(&f, "a 2\n");
        assert_int_equal(build(&f, &err), OK);
        assert_false(filemark_holds(&m));
        filemark_clear(&m);
        assert_int_equal(table_mark(t, generation, &m, &err), ERR_AGAIN);
        m = marked(t);
        assert_true(filemark_holds(&m));
        char path[128];
        snprintf(path, sizeof(path), "%s%s", f.path, i == 3 ? "" : i == 2 ? ".lmdb" : ".db");
        assert_int_equal(truncate(path, 1), 0);
        assert_false(filemark_holds(&m));
        filemark_clear(&m);
        table_close(t);
        teardown(&f);
    }
}

static void test_a_table_behind_a_link_has_no_mark_and_one_without_file_an_empty_one(void **state)
{
    (void)state;
    struct fixture f;
    struct filemark m;
    struct error err = {0};
    char away[128];
    setup(&f, "text", "a 1\n");
    snprintf(away, sizeof(away), "%s.away", f.path);
    assert_int_equal(rename(f.path, away), 0);
    assert_int_equal(symlink(away, f.path), 0);
    struct table *t = table_open(f.s, &err);
    assert_non_null(t);
    assert_int_equal(table_mark(t, table_generation(t), &m, &err), ERR_UNSUPPORTED);
    table_close(t);
    unlink(away);
    teardown(&f);
    t = table_open(SLICE_LIT("static:x"), &err);
    m = marked(t);
    assert_true(m.fd == -1 && filemark_holds(&m));
    table_close(t);
}

static void test_specifications_are_checked(void **state)
{
    (void)state;
    struct error err;
    const char *bad[] = {
        "", "hash", "hash:", "foo:x", "inline:x", "inline:{a}", "inline:{=b}", "static:"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (table_check_spec(slice_of(bad[i]), &err) == OK)
            fail_msg("%s was accepted", bad[i]);
    assert_int_equal(table_check_spec(SLICE_LIT("inline:{}"), &err), OK);
    assert_int_equal(table_build(SLICE_LIT("static:x"), &err), ERR_UNSUPPORTED);
    assert_null(table_open(SLICE_LIT("text:/nonexistent/x"), &err));
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_type_finds_the_same_values),
        cmocka_unit_test(test_a_changed_file_is_seen_at_the_next_lookup),
        cmocka_unit_test(test_a_file_that_vanishes_is_a_temporary_failure),
        cmocka_unit_test(test_a_damaged_file_is_an_error),
        cmocka_unit_test(test_wrong_text_is_refused_with_its_line_and_the_old_table_stays),
        cmocka_unit_test(test_keys_and_values_over_their_limits_are_refused),
        cmocka_unit_test(test_a_nul_in_the_text_is_refused),
        cmocka_unit_test(test_many_pairs_survive_building),
        cmocka_unit_test(test_a_table_is_reopened_in_a_sandbox),
        cmocka_unit_test(test_one_entry_is_changed_and_all_else_stays),
        cmocka_unit_test(test_a_mark_holds_until_the_file_is_replaced_written_to_or_removed),
        cmocka_unit_test(test_a_table_behind_a_link_has_no_mark_and_one_without_file_an_empty_one),
        cmocka_unit_test(test_specifications_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
