#include "libutil/heap.h"

#include <stdlib.h>

void heap_init(struct heap *h)
{
    *h = (struct heap){0};
}

void heap_clear(struct heap *h)
{
    for (size_t i = 0; i < h->used; i++)
        h->nodes[i]->index = 0;
    free(h->nodes);
    heap_init(h);
}

static void put_at(struct heap *h, size_t i, struct heap_node *node)
{
    h->nodes[i] = node;
    node->index = i + 1;
}

static void sift_up(struct heap *h, size_t i)
{
    struct heap_node *node = h->nodes[i];
    for (; i > 0 && h->nodes[(i - 1) / 2]->key > node->key; i = (i - 1) / 2)
        put_at(h, i, h->nodes[(i - 1) / 2]);
    put_at(h, i, node);
}

static void sift_down(struct heap *h, size_t i)
{
    struct heap_node *node = h->nodes[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= h->used)
            break;
        if (child + 1 < h->used && h->nodes[child + 1]->key < h->nodes[child]->key)
            child++;
        if (h->nodes[child]->key >= node->key)
            break;
        put_at(h, i, h->nodes[child]);
        i = child;
    }
    put_at(h, i, node);
}

void heap_set(struct heap *h, struct heap_node *node, int64_t key)
{
    if (node->index == 0) {
        if (h->used == h->cap) {
            h->cap = h->cap ? h->cap * 2 : 16;
            h->nodes = xrealloc(h->nodes, h->cap, sizeof(*h->nodes));
        }
        put_at(h, h->used++, node);
    }
    node->key = key;
    sift_up(h, node->index - 1);
    sift_down(h, node->index - 1);
}

void heap_remove(struct heap *h, struct heap_node *node)
{
    if (node->index == 0)
        return;
    size_t i = node->index - 1;
    struct heap_node *last = h->nodes[--h->used];
    node->index = 0;
    if (last == node)
        return;
    put_at(h, i, last);
    sift_up(h, i);
    sift_down(h, last->index - 1);
}

struct heap_node *heap_min(const struct heap *h)
{
    return h->used ? h->nodes[0] : NULL;
}
