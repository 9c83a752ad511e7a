#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libutil/password.h"

#include <cmocka.h>

static void test_a_password_is_told_from_another(void **state)
{
    (void)state;
    char hash[PASSWORD_HASH_MAX];
    struct error err;
    assert_int_equal(password_hash("secret", hash, &err), OK);
    assert_int_equal(password_verify("secret", hash), OK);
    assert_int_equal(password_verify("Secret", hash), ERR_DENIED);
    assert_int_equal(password_verify("secret", "no hash"), ERR_DENIED);
}

/* yescrypt needs megabytes; a right password is not to be called wrong for the want of them. */
static void test_without_memory_nothing_is_said_of_a_password(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__)
    skip(); /* reserves more address space than any limit that would tell */
#endif
    char hash[PASSWORD_HASH_MAX];
    struct error err;
    assert_int_equal(password_hash("secret", hash, &err), OK);
    pid_t pid = fork();
    if (pid == 0) {
        static const struct rlimit none = {0, 0}; /* more than there is already */
        setrlimit(RLIMIT_AS, &none);
        _exit(password_verify("secret", hash) == ERR_TEMP ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_password_is_told_from_another),
        cmocka_unit_test(test_without_memory_nothing_is_said_of_a_password),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
