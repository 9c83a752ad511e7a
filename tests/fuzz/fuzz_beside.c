/* Small files of ours beside the mail, as a damaged disk or another program may leave them: the
 * first byte chooses limits, annotations, a list of rights, or private \Seen. */
#include <fcntl.h>
#include <unistd.h>

#include "libstore/acl.h"
#include "libstore/metadata.h"
#include "libstore/quota.h"
#include "libstore/seen.h"
#include "tests/fuzz/scratch.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
    struct store *store;
    struct store_mailbox *mb;
    char seen[64];
} fixture;

#define INBOX SLICE_LIT("INBOX")

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const struct store_options opt = {.create = true};
    char id[STORE_OBJECTID];
    struct error err;
    (void)argc;
    (void)argv;
    if (store_open(scratch(), ".", &opt, &fixture.store, &err) ||
        store_select(fixture.store, INBOX, false, &fixture.mb, &err))
        abort();
    store_mailbox_id(store_mailbox_number(fixture.mb), id);
    snprintf(fixture.seen, sizeof(fixture.seen), "veredus.seen.%s", id);
    return 0;
}

static void put(const char *name, struct slice content)
{
    int fd = openat(store_dirfd(fixture.store), name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, content.p, content.n) != (ssize_t)content.n)
        abort();
    close(fd);
}

static void limits(struct slice text)
{
    struct quota q;
    struct error err;
    if (quota_parse(text, &q, &err) == OK)
        for (size_t i = 0; i < q.nrules; i++)
            if (q.rules[i].folder.p < q.text || q.rules[i].folder.n == 0)
                abort();
}

static void annotations(struct slice text)
{
    struct metadata m;
    struct error err;
    put("veredus.metadata", text);
    if (store_metadata_get(fixture.store, INBOX, &m, &err))
        return;
    for (size_t i = 0; i < m.n; i++)
        if (!metadata_name_ok(m.entries[i].name))
            abort();
    metadata_clear(&m);
}

static void rights(struct slice text)
{
    struct acl a;
    struct error err;
    put("veredus.acl", text);
    if (store_acl_get(fixture.store, INBOX, &a, &err))
        return;
    if (acl_rights_of(&a, SLICE_LIT("bob@x")) & ~(unsigned)ACL_ALL)
        abort();
    acl_clear(&a);
}

static void seen(struct slice text)
{
    struct error err;
    struct store_mailbox *mb;
    put(fixture.seen, text);
    if (store_select(fixture.store, INBOX, true, &mb, &err))
        abort();
    (void)!store_private_seen(mb, fixture.store, &err);
    store_unselect(mb);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const parts[])(struct slice) = {limits, annotations, rights, seen};
    if (size < 1 || size > 65536)
        return 0;
    parts[data[0] % ARRAY_LEN(parts)](slice_from((const char *)data + 1, size - 1));
    return 0;
}
