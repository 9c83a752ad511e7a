/*
 * The store engine alone, for tests/bench/store: each line is "NAME VALUE".
 *
 *     store fill DIR N      a mailbox of N messages (without files) in the index
 *     store open DIR        opening it, flags on 10 000, memory
 *     store deliver DIR BOXES N   N deliveries of 4 KiB into BOXES mailboxes, a sync each 1 000
 *     store bytes DIR       index and cache bytes per message after deliveries
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "libstore/deliver.h"
#include "libstore/private.h"

static double wall(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double cpu(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void check(int rc, const struct error *err)
{
    if (rc == OK)
        return;
    fprintf(stderr, "%s\n", err->text);
    exit(1);
}

static long private_kilobytes(void)
{
    char line[200];
    long kb = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof(line), f))
        if (strncmp(line, "RssAnon:", 8) == 0)
            kb = strtol(line + 8, NULL, 10);
    if (f)
        fclose(f);
    return kb;
}

static struct store *open_dir(const char *dir)
{
    struct error err = {0};
    struct store *s;
    static const struct store_options opt = {.create = true};
    check(store_open(AT_FDCWD, dir, &opt, &s, &err), &err);
    return s;
}

static void fill(const char *dir, uint32_t n)
{
    struct error err = {0};
    struct store *s = open_dir(dir);
    struct box *b;
    check(store_box(s, SLICE_LIT("INBOX"), &b, &err), &err);
    for (uint32_t done = 0, k; done < n; done += k) {
        k = MIN(10000, n - done);
        check(box_lock(b, &err), &err);
        check(box_reserve(b, k, &err), &err);
        box_begin(b);
        for (uint32_t i = 0; i < k; i++) {
            struct op op = {.type = OP_APPEND};
            op.rec = (struct disk_rec){.uid = b->head.uidnext + i,
                .size = 4096,
                .date = 1,
                .saved = 1,
                .flags = STORE_SEEN,
                .bits = REC_SIZED | REC_CRLF};
            guid_new(s, op.rec.guid);
            txn_op(&b->txn, &op);
        }
        check(box_commit(b, k, true, &err), &err);
        box_unlock(b);
    }
    check(box_lock(b, &err), &err);
    check(box_rotate(b, -1, &err), &err);
    store_close(s);
}

static void open_it(const char *dir)
{
    struct error err = {0};
    struct store_mailbox *mb;
    long before = private_kilobytes();
    double start = wall();
    struct store *s = open_dir(dir);
    check(store_select(s, SLICE_LIT("INBOX"), false, &mb, &err), &err);
    (void)!store_seq(mb, store_count(mb) / 2);
    printf("open_ms %.3f\n", (wall() - start) * 1e3);
    printf("open_kb %ld\n", private_kilobytes() - before);
    double best = 1e9;
    for (int i = 0; i < 6; i++) {
        struct uidset set = {0};
        uidset_add_range(&set, 1, 10000);
        start = wall();
        check(store_change(mb, &set,
                  &(struct store_flags){
                      .how = i % 2 ? STORE_REMOVE : STORE_ADD, .flags = STORE_FLAGGED},
                  NULL, NULL, &err),
            &err);
        best = MIN(best, (wall() - start) * 1e3);
        uidset_clear(&set);
    }
    printf("flags_ms %.3f\n", best);
    store_unselect(mb);
    store_close(s);
}

/* As virtual does (delivery/virtual/stores.h). */
enum { KEPT = 2048 };

static void deliver(const char *dir, uint32_t boxes, uint32_t n)
{
    struct error err = {0};
    static struct store *kept[KEPT];
    static uint32_t which[KEPT];
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    static char body[4096];
    size_t k = (size_t)snprintf(body, sizeof(body),
        "Received: from x (x [192.0.2.1])\r\n\tby mail.example.test with ESMTP id 1;\r\n\t"
        "Sat, 21 Nov 2026 05:03:15 +0000\r\nFrom: Bob Example <bob@example.test>\r\n"
        "To: alice@example.test\r\nSubject: An ordinary message\r\nMessage-ID: <1@example.test>\r\n"
        "Date: Sat, 21 Nov 2026 05:03:15 +0000\r\nMIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n\r\n");
    while (k < 3900)
        k += (size_t)snprintf(body + k, sizeof(body) - k, "A line of an ordinary message.\r\n");
    double start = wall(), used = cpu();
    for (uint32_t i = 0; i < n; i++) {
        uint32_t box = i % boxes, slot = box % KEPT;
        if (kept[slot] && which[slot] != box) {
            store_close(kept[slot]);
            kept[slot] = NULL;
        }
        if (!kept[slot]) {
            char path[4096];
            snprintf(path, sizeof(path), "%s/%u", dir, box);
            kept[slot] = open_dir(path);
            which[slot] = box;
        }
        struct store_appended out;
        const struct store_delivery d = {.id = (uint64_t)getpid() << 32 | (i + 1),
            .sender = SLICE_LIT("bob@example.test"),
            .address = SLICE_LIT("alice@example.test"),
            .original = SLICE_LIT("alice@example.test"),
            .body = slice_from(body, k),
            .fd = -1};
        check(store_deliver(kept[slot], SLICE_LIT("INBOX"), &d, &out, &err), &err);
        if (i % 1000 == 999)
            check(store_sync(store_dirfd(kept[slot]), &err), &err);
    }
    printf("rate %.0f\n", n / (wall() - start));
    printf("cpu_us %.1f\n", (cpu() - used) / n * 1e6);
    for (size_t i = 0; i < KEPT; i++)
        store_close(kept[i]);
}

static void bytes(const char *dir)
{
    struct error err = {0};
    struct store *s = open_dir(dir);
    struct box *b;
    check(store_box(s, SLICE_LIT("INBOX"), &b, &err), &err);
    check(box_lock(b, &err), &err);
    check(box_rotate(b, -1, &err), &err);
    printf("index %.1f\n",
        (double)(sizeof(struct disk_index) + b->live * sizeof(struct disk_rec)) / (double)b->live);
    printf("cache %.1f\n", (double)b->head.cache_end * 8 / (double)b->live);
    store_close(s);
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "fill") == 0)
        fill(argv[2], (uint32_t)strtoul(argv[3], NULL, 10));
    else if (argc == 3 && strcmp(argv[1], "open") == 0)
        open_it(argv[2]);
    else if (argc == 5 && strcmp(argv[1], "deliver") == 0)
        deliver(argv[2], (uint32_t)strtoul(argv[3], NULL, 10),
            (uint32_t)strtoul(argv[4], NULL, 10));
    else if (argc == 3 && strcmp(argv[1], "bytes") == 0)
        bytes(argv[2]);
    else
        return 2;
    return 0;
}
