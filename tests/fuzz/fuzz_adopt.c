/* What other programs leave: the first byte chooses a file of Dovecot or Courier, or mbox. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libstore/foreign.h"
#include "libstore/mbox.h"
#include "tests/fuzz/scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const files[] = {"dovecot-uidlist", "courierimapuiddb",
    "courierimapkeywords/:list", "courierimapkeywords/.5.a.host", "courierpop3dsizelist",
    "subscriptions", "courierimapsubscribed", "dovecot-keywords"};

/* A directory of this process; its files are removed after each input. */
static int make_dir(void)
{
    int fd = scratch();
    if (mkdirat(fd, "courierimapkeywords", 0700))
        abort();
    return fd;
}

static void put(int dirfd, const char *name, struct slice text)
{
    int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, text.p, text.n) != (ssize_t)text.n)
        abort();
    close(fd);
}

static void check_foreign(int dirfd)
{
    struct foreign fo;
    struct error err;
    if (foreign_read(dirfd, &fo, &err))
        abort();
    for (const struct foreign_msg *m = fo.list; m; m = m->next) {
        char uidl[STORE_UIDL_MAX + 1];
        if (m->uid && (m->uid >= fo.uidnext || !fo.uidvalidity))
            abort();
        if (foreign_uidl(&fo, m, uidl) && (uidl[0] == '\0' || strlen(uidl) > STORE_UIDL_MAX))
            abort();
        uint64_t words = foreign_words(&fo, m, "a.host:2,RSabz");
        for (size_t i = 0; i < STORE_KEYWORDS_MAX; i++)
            if (words >> i & 1 && !fo.words[i])
                abort();
    }
    foreign_clear(&fo);
}

static void check_subscriptions(int dirfd)
{
    struct buf names;
    struct error err;
    buf_init(&names, 8 << 20);
    if (foreign_subscriptions(dirfd, &names, &err))
        abort();
    for (struct slice rest = buf_slice(&names); rest.n;)
        if (store_name_check(slice_cut(&rest, '\n')))
            abort();
    buf_clear(&names);
}

/* Every message can be written and read back as one. */
static void check_mbox(struct slice in)
{
    FILE *file = fmemopen((void *)in.p, in.n, "r");
    if (!file)
        return;
    struct mbox *mbox = mbox_new(file);
    struct mbox_message *m;
    struct slice piece;
    while (mbox_next(mbox, &m)) {
        struct buf text;
        buf_init(&text, 1 << 24);
        while (mbox_piece(mbox, &piece))
            buf_put(&text, piece);
        char *out = NULL;
        size_t n = 0;
        FILE *again = open_memstream(&out, &n);
        if (!again || mbox_write(again, buf_slice(&text), m))
            abort();
        fclose(again);
        FILE *back = fmemopen(out, n, "r");
        struct mbox *second = mbox_new(back);
        struct mbox_message *same;
        if (!mbox_next(second, &same) || mbox_next(second, &same) || mbox_strays(second))
            abort();
        mbox_free(second);
        fclose(back);
        free(out);
        buf_clear(&text);
    }
    mbox_free(mbox);
    fclose(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int dirfd = -1;
    if (dirfd < 0)
        dirfd = make_dir();
    if (size < 2)
        return 0;
    struct slice in = slice_from(data + 1, size - 1);
    size_t which = data[0] % (ARRAY_LEN(files) + 1);
    if (which == ARRAY_LEN(files)) {
        check_mbox(in);
        return 0;
    }
    if (strcmp(files[which], "dovecot-keywords") == 0)
        put(dirfd, "dovecot-uidlist", SLICE_LIT("3 V7 N5\n4 :a.host:2,ab\n"));
    put(dirfd, files[which], in);
    check_foreign(dirfd);
    check_subscriptions(dirfd);
    unlinkat(dirfd, files[which], 0);
    unlinkat(dirfd, "dovecot-uidlist", 0);
    return 0;
}
