/*
 * A hash table from byte strings (copied) to pointers (not owned), and from 64-bit ids to
 * pointers. Hashing is keyed with a random value per process, so hostile keys cannot be made
 * to collide.
 */
#pragma once

#include "libutil/slice.h"

struct map_entry {
    uint64_t hash;
    char *key; /* NULL: empty; marks (map.c) say: deleted, or eight bytes in `id` */
    union {
        size_t key_len;
        uint64_t id;
    };
    void *value;
};

struct map {
    struct map_entry *entries;
    size_t cap, used, filled;
};

void map_init(struct map *m);
/* Frees the table and its keys, not the values. */
void map_clear(struct map *m);
void *map_get(const struct map *m, struct slice key);
/* Sets key to value (not NULL) and returns the value it had, or NULL. */
void *map_set(struct map *m, struct slice key, void *value);
/* Removes key and returns its value, or NULL. */
void *map_remove(struct map *m, struct slice key);
size_t map_count(const struct map *m);
/* Iterates: *pos starts at 0; returns false at the end. The map must not be changed meanwhile
 * except by removing the current key. */
bool map_next(const struct map *m, size_t *pos, struct slice *key, void **value);

void *map_get_id(const struct map *m, uint64_t id);
void *map_set_id(struct map *m, uint64_t id, void *value);
void *map_remove_id(struct map *m, uint64_t id);
