#include "libutil/conf_internal.h"

struct lines {
    struct buf text;     /* NUL-ended lines */
    struct slice *items; /* sorted */
    size_t n;
};

static void flatten(const struct conf_block *b, struct slice prefix, struct buf *out)
{
    for (const struct conf_entry *e = b->entries; e; e = e->next) {
        buf_printf(out, "%.*s%s ", SLICE_FMT(prefix), e->key->name);
        conf_value_print(e, out);
        buf_putc(out, '\n');
    }
    for (const struct conf_block *c = b->children; c; c = c->next) {
        struct buf name;
        buf_init(&name, 65536);
        buf_printf(&name, "%.*s%s ", SLICE_FMT(prefix), c->key->name);
        for (size_t i = 0; i < c->nargs; i++) {
            conf_word_print(c->args[i], &name);
            buf_putc(&name, ' ');
        }
        buf_printf(out, "%.*s{}\n", SLICE_FMT(buf_slice(&name)));
        flatten(c, buf_slice(&name), out);
        buf_clear(&name);
    }
}

static int compare(const void *a, const void *b)
{
    return slice_cmp(*(const struct slice *)a, *(const struct slice *)b);
}

static void lines_init(struct lines *l, const struct conf *c)
{
    buf_init(&l->text, (size_t)64 * 1024 * 1024);
    flatten(c->root, SLICE_LIT(""), &l->text);
    for (const struct conf_block *b = c->defaults; b; b = b->next)
        if (!b->key->repeat && !conf_next(c->root, b->key->name, NULL)) {
            char prefix[80];
            snprintf(prefix, sizeof(prefix), "%s ", b->key->name);
            buf_printf(&l->text, "%s{}\n", prefix);
            flatten(b, slice_of(prefix), &l->text);
        }
    size_t cap = 0;
    l->items = NULL;
    l->n = 0;
    for (struct slice rest = buf_slice(&l->text); rest.n;) {
        if (l->n == cap)
            l->items = xrealloc(l->items, cap = cap ? cap * 2 : 64, sizeof(*l->items));
        l->items[l->n++] = slice_cut(&rest, '\n');
    }
    if (l->n)
        qsort(l->items, l->n, sizeof(*l->items), compare);
}

static void lines_clear(struct lines *l)
{
    buf_clear(&l->text);
    free(l->items);
}

size_t conf_diff(const struct conf *before, const struct conf *after, struct buf *out)
{
    struct lines a, b;
    size_t i = 0, j = 0, differ = 0;
    lines_init(&a, before);
    lines_init(&b, after);
    while (i < a.n || j < b.n) {
        int order = i == a.n ? 1 : j == b.n ? -1 : slice_cmp(a.items[i], b.items[j]);
        if (order == 0) {
            i++;
            j++;
            continue;
        }
        struct slice line = order < 0 ? a.items[i++] : b.items[j++];
        buf_printf(out, "%c %.*s\n", order < 0 ? '-' : '+', SLICE_FMT(line));
        differ++;
    }
    lines_clear(&a);
    lines_clear(&b);
    return differ;
}
