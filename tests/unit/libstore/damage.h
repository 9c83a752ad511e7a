/* For tests that damage files of a mailbox, or put old ones back. */
#pragma once

#include "libstore/format.h"
#include "tests/unit/libstore/fixture.h"

enum { MESSAGES = 12 };

/* The message that gets UID number + 1; all are of one size. */
__attribute__((unused)) static struct slice mail_of(int number, char text[sizeof(MAIL)])
{
    memcpy(text, MAIL, sizeof(MAIL));
    text[sizeof(MAIL) - 4] = (char)('A' + number);
    return slice_from(text, sizeof(MAIL) - 1);
}

/* A folder with an index (from a rebuild) and a log with appends, flags and an expunge. */
__attribute__((unused)) static void populate(struct fixture *f)
{
    char text[sizeof(MAIL)];
    for (int i = 0; i < MESSAGES / 2; i++)
        append(f, INBOX, mail_of(i, text));
    assert_int_equal(store_rebuild(f->store, INBOX, &f->err), OK);
    for (int i = MESSAGES / 2; i < MESSAGES; i++)
        append(f, INBOX, mail_of(i, text));
    struct store_mailbox *mb = select_box(f, INBOX);
    set_flags(f, mb, 2, STORE_ADD, STORE_SEEN);
    set_flags(f, mb, store_uidnext(mb) - 1, STORE_ADD, STORE_FLAGGED);
    struct uidset one = uids(3, 3);
    assert_int_equal(store_expunge(mb, &one, false, NULL, &f->err), OK);
    uidset_clear(&one);
    store_unselect(mb);
    store_close(f->store);
    f->store = NULL;
}

struct saved {
    char *data;
    size_t n;
};

__attribute__((unused)) static struct saved load(struct fixture *f, const char *name)
{
    char path[256];
    path_of(f, name, path);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    struct saved s = {xcalloc(1, 1 << 20), 0};
    s.n = fread(s.data, 1, 1 << 20, file);
    fclose(file);
    return s;
}

__attribute__((unused)) static void save(
    struct fixture *f, const char *name, const char *data, size_t n)
{
    char path[256];
    path_of(f, name, path);
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, n), n);
    close(fd);
}

/* As after another start of the machine. */
__attribute__((unused)) static void let_the_machine_start(struct fixture *f)
{
    struct saved index = load(f, "veredus.inbox/veredus.index");
    struct disk_index head;
    memcpy(&head, index.data, sizeof(head));
    head.witness.boot -= 1000;
    index_seal(&head);
    memcpy(index.data, &head, sizeof(head));
    save(f, "veredus.inbox/veredus.index", index.data, index.n);
    free(index.data);
}
