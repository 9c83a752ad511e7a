/* A binary min-heap of nodes embedded in their owners, ordered by a signed 64-bit key (a due time). */
#pragma once

#include "libutil/base.h"

struct heap_node {
    int64_t key;
    size_t index; /* position + 1 in the heap; 0 when not in one */
};

struct heap {
    struct heap_node **nodes;
    size_t used, cap;
};

void heap_init(struct heap *h);
void heap_clear(struct heap *h);
/* Adds node with this key, or moves it if it is in the heap. */
void heap_set(struct heap *h, struct heap_node *node, int64_t key);
/* Takes node out; does nothing when it is not in. */
void heap_remove(struct heap *h, struct heap_node *node);
/* The node with the least key, or NULL. */
struct heap_node *heap_min(const struct heap *h);
