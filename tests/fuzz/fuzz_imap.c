/* The grammar of IMAP commands: the first byte chooses what the rest is read as. */
#include "imapd/session/fetch.h"
#include "imapd/session/list.h"
#include "imapd/session/mutf7.h"
#include "imapd/session/search.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A name that can be read must come back from its wire form. */
static void mailbox(struct args *a)
{
    struct slice name;
    struct buf wire, again;
    if (!take_mailbox(a, &name))
        return;
    buf_init(&wire, 8 * name.n + 64);
    buf_init(&again, 8 * name.n + 64);
    if (mutf7_encode(name, &wire) || mutf7_decode(buf_slice(&wire), &again) ||
        !slice_eq(buf_slice(&again), name))
        abort();
    buf_clear(&wire);
    buf_clear(&again);
}

static void append(struct args *a)
{
    struct slice name;
    struct flag_list flags;
    int64_t when;
    if (take_mailbox(a, &name) && take_space(a) && take_flags(a, false, &flags) && take_space(a))
        (void)take_date_time(a, &when);
}

/* An item's name must parse as the same item. */
static void fetch(struct args *a)
{
    struct seq_set set;
    struct fetch_items list, again;
    if (!take_seq_set(a, &set) || !take_space(a) || !take_fetch_items(a, &list))
        return;
    for (size_t i = 0; i < list.n; i++) {
        struct buf b;
        if (list.items[i].kind != FETCH_SECTION || list.items[i].partial)
            continue;
        buf_init(&b, 1 << 20);
        section_put_name(&list.items[i], &b);
        struct args copy = {buf_slice(&b), a->arena, NULL};
        if (!take_fetch_items(&copy, &again) || again.n != 1 ||
            again.items[0].section.npath != list.items[i].section.npath)
            abort();
        buf_clear(&b);
    }
}

static void search(struct args *a)
{
    struct search s;
    (void)take_search(a, &s);
}

static void store(struct args *a)
{
    struct seq_set set;
    struct flag_list flags;
    if (take_seq_set(a, &set) && take_space(a))
        (void)take_flags(a, true, &flags);
}

static void list(struct args *a)
{
    struct slice pattern, name;
    if (take_pattern(a, &pattern) && take_space(a) && take_pattern(a, &name))
        (void)list_match(pattern, name, '/');
}

static void section(struct args *a)
{
    struct fetch_items items;
    struct slice found;
    struct slice rest = a->rest;
    a->rest = slice_cut(&rest, '\n');
    if (!take_fetch_items(a, &items) || items.n == 0 || items.items[0].kind != FETCH_SECTION)
        return;
    struct mime_part *root = mime_parse(rest, a->arena);
    if (root)
        (void)section_find(rest, root, &items.items[0].section, a->arena, &found);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const readers[])(struct args *) = {
        mailbox, append, fetch, search, store, list, section};
    struct arena arena;
    if (size == 0)
        return 0;
    arena_init(&arena, 32 << 20);
    struct args a = {slice_from(data + 1, size - 1), &arena, NULL, (data[0] & 0x80) != 0};
    readers[data[0] % ARRAY_LEN(readers)](&a);
    arena_reset(&arena);
    return 0;
}
