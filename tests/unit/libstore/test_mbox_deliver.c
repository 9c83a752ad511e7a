/* mbox files: what a delivery leaves there, whatever stood there before. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "libstore/mbox_deliver.h"
#include "libutil/buf.h"

enum { TEXT_MAX = 4 * 1024 * 1024 };

struct box {
    char dir[64];
    int fd;
    struct buf text;
};

static void setup(struct box *b)
{
    snprintf(b->dir, sizeof(b->dir), "/tmp/test-mbox.XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    b->fd = open(b->dir, O_RDONLY | O_DIRECTORY);
    buf_init(&b->text, TEXT_MAX);
}

static void teardown(struct box *b)
{
    (void)!unlinkat(b->fd, "box", 0);
    assert_int_equal(unlinkat(b->fd, "box.lock", 0), -1); /* no lock is left */
    close(b->fd);
    assert_int_equal(rmdir(b->dir), 0);
    buf_clear(&b->text);
}

static struct slice read_box(struct box *b)
{
    int fd = openat(b->fd, "box", O_RDONLY);
    ssize_t n;
    buf_reset(&b->text);
    assert_true(fd >= 0);
    while ((n = read(fd, buf_reserve(&b->text, 65536), 65536)) > 0)
        buf_claim(&b->text, (size_t)n);
    close(fd);
    return buf_slice(&b->text);
}

static void write_box(struct box *b, struct slice text)
{
    int fd = openat(b->fd, "box", O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(write(fd, text.p, text.n), text.n);
    close(fd);
}

static int deliver(struct box *b, uint64_t id, struct slice body, bool *again)
{
    struct error err = {0};
    struct store_delivery d = {.id = id,
        .sender = SLICE_LIT("s@y.test"),
        .address = SLICE_LIT("r@x.test"),
        .body = body,
        .fd = -1,
        .size = body.n};
    return mbox_deliver(b->fd, "box", &d, again, &err);
}

static unsigned count(struct slice text, const char *what)
{
    unsigned n = 0;
    for (ptrdiff_t at; (at = slice_find(text, slice_of(what))) >= 0; n++)
        text = slice_from_index(text, (size_t)at + 1);
    return n;
}

static void test_a_repetition_does_nothing(void **state)
{
    (void)state;
    struct box b;
    bool again;
    setup(&b);
    assert_int_equal(deliver(&b, 7, SLICE_LIT("Subject: a\r\n\r\nx\r\n"), &again), OK);
    assert_false(again);
    assert_int_equal(deliver(&b, 7, SLICE_LIT("Subject: a\r\n\r\nx\r\n"), &again), OK);
    assert_true(again);
    assert_int_equal(deliver(&b, 8, SLICE_LIT("Subject: a\r\n\r\nx\r\n"), &again), OK);
    struct slice text = read_box(&b);
    assert_int_equal(count(text, "From s@y.test "), 2);
    assert_int_equal(count(text, "Underway"), 0);
    assert_true(slice_ends(text, "x\n\n"));
    teardown(&b);
}

static void test_a_file_that_is_full_takes_no_more_but_what_it_has(void **state)
{
    (void)state;
    struct box b;
    struct error err = {0};
    bool again;
    struct quota limits = {.bytes = 400, .grace = 10, .messages = 1};
    struct slice body =
        SLICE_LIT("Subject: a\r\n\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n");
    struct store_delivery d = {.sender = SLICE_LIT("s@y.test"),
        .address = SLICE_LIT("r@x.test"),
        .body = body,
        .fd = -1,
        .size = body.n};
    setup(&b);
    int rc = OK;
    for (d.id = 1; !rc && d.id < 100; d.id++)
        rc = mbox_deliver_within(b.fd, "box", &d, &limits, &again, &err);
    assert_int_equal(rc, ERR_QUOTA);
    struct slice text = read_box(&b);
    unsigned n = count(text, "From s@y.test ");
    assert_true(n > 1);
    assert_true(text.n - text.n / n <= 440);
    d.id = 1; /* a repetition is no growth */
    assert_int_equal(mbox_deliver_within(b.fd, "box", &d, &limits, &again, &err), OK);
    assert_true(again);
    d.id = 1000;
    assert_int_equal(mbox_deliver(b.fd, "box", &d, &again, &err), OK);
    teardown(&b);
}

/* Cut anywhere, as a crash leaves it, the next try gives the file that one whole try gives. */
static void test_what_a_crash_left_is_replaced_by_the_whole_message(void **state)
{
    (void)state;
    struct box b;
    bool again;
    struct slice before = SLICE_LIT("From a Sat Nov 21 06:00:00 2026\nSubject: b\n\nbody\n");
    struct slice body = SLICE_LIT("Subject: a\r\n\r\nline\r\nFrom here\r\nlast\r\n");
    setup(&b);
    write_box(&b, before);
    assert_int_equal(deliver(&b, 7, body, &again), OK);
    struct slice whole = read_box(&b);
    char *kept = xmemdup0(whole.p, whole.n), *half = xmemdup0(whole.p, whole.n);
    size_t size = whole.n;
    ptrdiff_t mark = slice_find(whole, SLICE_LIT("X-Veredus-Delivery"));
    assert_true(mark > 0);
    memcpy(half + mark, "X-Veredus-Underway", 18);
    for (size_t cut = (size_t)mark + 37; cut <= size; cut++) {
        write_box(&b, slice_from(half, cut));
        assert_int_equal(deliver(&b, 7, body, &again), OK);
        assert_false(again);
        struct slice now = read_box(&b);
        assert_int_equal(now.n, size);
        assert_int_equal(count(now, "Subject: a\n"), 1);
        assert_true(slice_eq(
            slice_from_index(now, (size_t)mark), slice_from(kept + mark, size - (size_t)mark)));
        assert_true(slice_eq(slice_first(now, before.n), before));
    }
    free(half);
    free(kept);
    teardown(&b);
}

static void test_half_a_message_that_others_wrote_behind_is_left(void **state)
{
    (void)state;
    struct box b;
    bool again;
    struct slice before =
        SLICE_LIT("From s@y.test Sat Nov 21 06:00:00 2026\nX-Veredus-Underway: 0000000000000007\n"
                  "Sub\nFrom b Sat Nov 21 06:00:00 2026\nSubject: b\n\nbody\n\n");
    setup(&b);
    write_box(&b, before);
    assert_int_equal(deliver(&b, 7, SLICE_LIT("Subject: a\r\n\r\nx\r\n"), &again), OK);
    assert_false(again);
    struct slice text = read_box(&b);
    assert_true(slice_eq(slice_first(text, before.n), before));
    assert_int_equal(count(text, "\nSubject: a\n"), 1);
    teardown(&b);
}

/* They say to those who read mbox files what is read, deleted, and where a message ends. */
static void test_a_sender_writes_no_notes_of_the_reader(void **state)
{
    (void)state;
    struct box b;
    bool again;
    setup(&b);
    assert_int_equal(
        deliver(&b, 1,
            SLICE_LIT("Content-Length: 100000\r\n\tfolded\r\nstatus: RO\r\nSubject: kept\r\n"
                      "X-Status: D\r\nX-Keywords: a\r\n b\r\nX: kept\r\n y\r\n\r\n"
                      "Status: kept\r\n"),
            &again),
        OK);
    struct slice text = read_box(&b);
    assert_true(slice_find(text, SLICE_LIT("\nSubject: kept\nX: kept\n y\n\nStatus: kept\n")) > 0);
    assert_int_equal(count(text, "tatus:"), 1);
    assert_int_equal(count(text, "folded") + count(text, "Keywords") + count(text, "Content-"), 0);
    teardown(&b);
}

static void test_without_room_the_file_stays_as_it_was(void **state)
{
    (void)state;
    struct box b;
    bool again;
    struct rlimit old, low;
    struct slice before = SLICE_LIT("From a Sat Nov 21 06:00:00 2026\n\nbody\n\n");
    char *body = xcalloc(1, 400000);
    memset(body, 'x', 400000);
    setup(&b);
    write_box(&b, before);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    low = old;
    low.rlim_cur = 100000;
    setrlimit(RLIMIT_FSIZE, &low);
    int rc = deliver(&b, 7, slice_from(body, 400000), &again);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_not_equal(rc, OK);
    assert_true(slice_eq(read_box(&b), before));
    assert_int_equal(deliver(&b, 7, slice_from(body, 400000), &again), OK);
    assert_false(again);
    free(body);
    teardown(&b);
}

static struct store_delivery letter(uint64_t id)
{
    struct slice body = SLICE_LIT("Subject: a\r\n\r\nx\r\n");
    return (struct store_delivery){.id = id,
        .sender = SLICE_LIT("s@y.test"),
        .address = SLICE_LIT("r@x.test"),
        .body = body,
        .fd = -1,
        .size = body.n,
        .patience_ms = 200};
}

static int lock_box(struct box *b)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = openat(b->fd, "box", O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_SETLK, &whole), 0);
    return fd;
}

static void test_a_file_that_stays_locked_is_left_as_it_was(void **state)
{
    (void)state;
    struct box b;
    struct slice before = SLICE_LIT("From a Sat Nov 21 06:00:00 2026\n\nbody\n\n");
    setup(&b);
    write_box(&b, before);
    int fd = lock_box(&b);
    pid_t pid = fork(); /* locks do not keep their own process out */
    if (pid == 0) {
        struct error err = {0};
        struct store_delivery d = letter(7);
        bool again;
        _exit(mbox_deliver(b.fd, "box", &d, &again, &err) == ERR_BUSY ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close(fd);
    assert_true(slice_eq(read_box(&b), before));
    write_box(&b, before);
    close(openat(b.fd, "box.lock", O_WRONLY | O_CREAT | O_EXCL, 0600));
    struct error err = {0};
    struct store_delivery d = letter(7);
    bool again;
    assert_int_equal(mbox_deliver(b.fd, "box", &d, &again, &err), ERR_BUSY);
    assert_true(slice_eq(read_box(&b), before));
    assert_int_equal(unlinkat(b.fd, "box.lock", 0), 0); /* not ours: it is still there */
    teardown(&b);
}

/* As a program does that knows no dot lock, and puts a new file in the place of the old one. */
static void test_a_file_replaced_while_its_lock_is_waited_for_gets_the_message(void **state)
{
    (void)state;
    struct box b;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    struct slice before = SLICE_LIT("From a Sat Nov 21 06:00:00 2026\n\nbody\n\n");
    int ready[2];
    char byte;
    setup(&b);
    write_box(&b, before);
    assert_int_equal(pipe(ready), 0);
    int fd = lock_box(&b);
    pid_t pid = fork();
    if (pid == 0) {
        struct error err = {0};
        struct store_delivery d = letter(7);
        bool again;
        d.patience_ms = 30000;
        (void)!write(ready[1], "", 1);
        _exit(mbox_deliver(b.fd, "box", &d, &again, &err) == OK ? 0 : 1);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    while (faccessat(b.fd, "box.lock", F_OK, 0)) /* it holds that, and waits for this */
        usleep(1000);
    usleep(50000);
    int made = openat(b.fd, "new", O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_int_equal(write(made, before.p, before.n), before.n);
    close(made);
    assert_int_equal(renameat(b.fd, "new", b.fd, "box"), 0);
    lock.l_type = F_UNLCK;
    assert_int_equal(fcntl(fd, F_SETLK, &lock), 0);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close(fd);
    assert_int_equal(count(read_box(&b), "\nSubject: a\n"), 1);
    close(ready[0]);
    close(ready[1]);
    teardown(&b);
}

static void test_a_file_of_more_than_2_GiB_is_appended_to(void **state)
{
    (void)state;
    struct box b;
    struct error err = {0};
    struct stat st;
    const off_t size = ((off_t)1 << 31) + 1000;
    char end[2000];
    setup(&b);
    write_box(&b, SLICE_LIT("From a Sat Nov 21 06:00:00 2026\n\nbody\n\n"));
    int fd = openat(b.fd, "box", O_RDWR);
    assert_int_equal(ftruncate(fd, size), 0); /* a hole */
    struct store_delivery d = letter(7);
    bool again;
    assert_int_equal(mbox_deliver(b.fd, "box", &d, &again, &err), OK);
    assert_int_equal(fstat(fd, &st), 0);
    assert_true(st.st_size > size && st.st_size < size + 1000);
    ssize_t n = pread(fd, end, sizeof(end), size);
    assert_int_equal(n, st.st_size - size);
    assert_int_equal(count(slice_from(end, (size_t)n), "\nSubject: a\n"), 1);
    assert_true(slice_starts(slice_from(end, (size_t)n), "\nFrom s@y.test "));
    assert_int_equal(mbox_deliver(b.fd, "box", &d, &again, &err), OK);
    assert_true(again);
    close(fd);
    teardown(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_file_that_is_full_takes_no_more_but_what_it_has),
        cmocka_unit_test(test_a_repetition_does_nothing),
        cmocka_unit_test(test_what_a_crash_left_is_replaced_by_the_whole_message),
        cmocka_unit_test(test_half_a_message_that_others_wrote_behind_is_left),
        cmocka_unit_test(test_a_sender_writes_no_notes_of_the_reader),
        cmocka_unit_test(test_without_room_the_file_stays_as_it_was),
        cmocka_unit_test(test_a_file_that_stays_locked_is_left_as_it_was),
        cmocka_unit_test(test_a_file_replaced_while_its_lock_is_waited_for_gets_the_message),
        cmocka_unit_test(test_a_file_of_more_than_2_GiB_is_appended_to),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
