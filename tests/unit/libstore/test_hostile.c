/* Messages made to hurt: each is stored, listed and read again, with right answers, in bounded
 * memory (the limit of RLIMIT_DATA in a child) and in seconds. In both modes. */
#include <sys/resource.h>
#include <time.h>

#include "tests/unit/libstore/fixture.h"

/* A body with LF line ends is handed out as a copy with CRLF: once the message is inherent there.
 */
enum { HEAP_MAX = 96 << 20, HEAP_COEXIST = 400 << 20, SECONDS = 20 };

struct view {
    struct fixture *f;
    struct store_mailbox *mb;
    struct store_cache cache;
    struct store_msg msg;
};

/* Appends what `write` gives, and looks at the texts and the body. */
static void keep(struct view *v, void (*write_it)(struct store_append *, struct fixture *))
{
    struct store_append *a;
    struct store_appended out;
    struct fixture *f = v->f;
    assert_int_equal(store_append_begin(f->store, INBOX, 0, &a, &f->err), OK);
    write_it(a, f);
    assert_int_equal(store_append_commit(a, &(struct store_append_options){0}, &out, &f->err), OK);
    v->mb = select_box(f, INBOX);
    assert_true(store_get(v->mb, 1, &v->msg));
    int rc = store_cached(v->mb, out.uid, &v->cache, &f->err);
    if (rc)
        print_error("%s\n", f->err.text);
    assert_int_equal(rc, OK);
    struct store_body body;
    assert_int_equal(store_body(v->mb, out.uid, &body, &f->err), OK);
    assert_int_equal(body.content.n, v->msg.size);
    assert_true(v->cache.header_size <= body.content.n);
    store_body_release(&body);
}

static void put(struct store_append *a, struct fixture *f, struct slice text)
{
    assert_int_equal(store_append_write(a, text, &f->err), OK);
}

/* In a child with little heap; what it finds out is its exit status. */
static void in_little_memory(void **state,
    void (*write_it)(struct store_append *, struct fixture *), void (*look)(struct view *))
{
    struct fixture *f = *state;
    time_t begin = time(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        rlim_t most = f->opt.coexist ? HEAP_COEXIST : HEAP_MAX;
        struct rlimit heap = {most, most};
        struct view v = {.f = f};
#if !defined(__SANITIZE_ADDRESS__)
        setrlimit(RLIMIT_DATA, &heap);
#else
        (void)heap;
#endif
        reopen(f);
        keep(&v, write_it);
        look(&v);
        store_unselect(v.mb);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_true(time(NULL) - begin < SECONDS);
}

#define LOOK(name, condition)                \
    static void name(struct view *v)         \
    {                                        \
        if (!(condition)) {                  \
            print_error("%s\n", #condition); \
            _exit(1);                        \
        }                                    \
    }

static bool has(struct slice text, const char *part)
{
    return slice_find(text, slice_of(part)) >= 0;
}

/* --- no header -------------------------------------------------------------------------------- */
static void write_no_header(struct store_append *a, struct fixture *f)
{
    put(a, f, SLICE_LIT("\r\nOnly text.\r\n"));
}
LOOK(look_no_header, v->cache.header_size == 2 && has(v->cache.preview, "Only text.") &&
                         has(v->cache.envelope, "(NIL NIL NIL"))
static void test_a_message_without_header(void **state)
{
    in_little_memory(state, write_no_header, look_no_header);
}

static void write_no_end(struct store_append *a, struct fixture *f)
{
    put(a, f, SLICE_LIT("no header, no line end"));
}
LOOK(look_no_end, v->msg.size > 0)
static void test_a_message_that_is_one_word(void **state)
{
    in_little_memory(state, write_no_end, look_no_end);
}

/* --- 100 MB in one line ----------------------------------------------------------------------- */
static void write_long_line(struct store_append *a, struct fixture *f)
{
    static char block[1 << 20];
    memset(block, 'x', sizeof(block));
    put(a, f, SLICE_LIT("Subject: long\r\n\r\n"));
    for (int i = 0; i < 100; i++)
        put(a, f, slice_from(block, sizeof(block)));
}
LOOK(look_long_line, v->msg.size >= (100u << 20) && has(v->cache.envelope, "\"long\"") &&
                         v->cache.preview.n <= 4 * STORE_PREVIEW)
static void test_a_line_of_100_megabytes(void **state)
{
    in_little_memory(state, write_long_line, look_long_line);
}

static void write_long_header(struct store_append *a, struct fixture *f)
{
    static char block[1 << 20];
    memset(block, 'h', sizeof(block));
    put(a, f, SLICE_LIT("Subject: "));
    for (int i = 0; i < 50; i++)
        put(a, f, slice_from(block, sizeof(block)));
    put(a, f, SLICE_LIT("\r\n\r\nx\r\n"));
}
LOOK(look_long_header, v->cache.envelope.n < (1 << 20))
static void test_a_header_field_of_50_megabytes(void **state)
{
    in_little_memory(state, write_long_header, look_long_header);
}

/* --- parts ------------------------------------------------------------------------------------ */
static void write_many_parts(struct store_append *a, struct fixture *f)
{
    put(a, f, SLICE_LIT("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"));
    for (int i = 0; i < 10000; i++)
        put(a, f, SLICE_LIT("--b\r\nContent-Type: text/plain\r\n\r\npart\r\n"));
    put(a, f, SLICE_LIT("--b--\r\n"));
}
LOOK(look_many_parts, has(v->cache.body, "\"mixed\"") && v->cache.bodystructure.n < (4 << 20))
static void test_ten_thousand_parts(void **state)
{
    in_little_memory(state, write_many_parts, look_many_parts);
}

static void write_deep(struct store_append *a, struct fixture *f)
{
    char text[200];
    put(a, f, SLICE_LIT("Subject: deep\r\nMIME-Version: 1.0\r\n"));
    for (int i = 0; i < 1000; i++) {
        snprintf(text, sizeof(text),
            "Content-Type: multipart/mixed; boundary=\"b%d\"\r\n\r\n--b%d\r\n", i, i);
        put(a, f, slice_of(text));
    }
    put(a, f, SLICE_LIT("\r\nthe bottom\r\n"));
}
LOOK(look_deep, has(v->cache.envelope, "\"deep\"") && has(v->cache.body, "\"mixed\""))
static void test_parts_nested_a_thousand_deep(void **state)
{
    in_little_memory(state, write_deep, look_deep);
}

static void write_messages_in_messages(struct store_append *a, struct fixture *f)
{
    for (int i = 0; i < 1000; i++)
        put(a, f, SLICE_LIT("Content-Type: message/rfc822\r\n\r\n"));
    put(a, f, SLICE_LIT("Subject: innermost\r\n\r\nx\r\n"));
}
LOOK(look_messages_in_messages, has(v->cache.body, "\"rfc822\""))
static void test_messages_nested_a_thousand_deep(void **state)
{
    in_little_memory(state, write_messages_in_messages, look_messages_in_messages);
}

/* --- bytes ------------------------------------------------------------------------------------ */
static void write_nuls(struct store_append *a, struct fixture *f)
{
    static const char text[] = "Subject: a\0b\r\nFrom: x\0@y\r\n\r\ntext\0more\r\n\0\r\n";
    put(a, f, slice_from(text, sizeof(text) - 1));
}
LOOK(look_nuls, slice_chr(v->cache.envelope, '\0') < 0 && slice_chr(v->cache.preview, '\0') < 0)
static void test_nul_bytes(void **state)
{
    in_little_memory(state, write_nuls, look_nuls);
}

static void write_encodings(struct store_append *a, struct fixture *f)
{
    put(a, f,
        SLICE_LIT("Subject: =?utf-8?B?####?= =?nowhere?Q?=ZZ=?= \xff\xfe\r\n"
                  "Date: Fri, 99 Abc 99999 99:99:99 +9999\r\n"
                  "MIME-Version: 1.0\r\n"
                  "Content-Type: text/plain; charset=\"no such thing\"; =; x*9999999=1\r\n"
                  "Content-Transfer-Encoding: base64\r\n\r\n"
                  "!!!! not base64 \x80\xff ====\r\n"));
}
LOOK(look_encodings, has(v->cache.body, "\"text\" \"plain\"") && v->msg.date > 1000000000)
static void test_invalid_encodings_and_dates(void **state)
{
    in_little_memory(state, write_encodings, look_encodings);
}

#define IN_BOTH(test)                                       \
    cmocka_unit_test_setup_teardown(test, setup, teardown), \
        cmocka_unit_test_setup_teardown(test, setup_coexist, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_BOTH(test_a_message_without_header),
        IN_BOTH(test_a_message_that_is_one_word),
        IN_BOTH(test_a_line_of_100_megabytes),
        IN_BOTH(test_a_header_field_of_50_megabytes),
        IN_BOTH(test_ten_thousand_parts),
        IN_BOTH(test_parts_nested_a_thousand_deep),
        IN_BOTH(test_messages_nested_a_thousand_deep),
        IN_BOTH(test_nul_bytes),
        IN_BOTH(test_invalid_encodings_and_dates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
