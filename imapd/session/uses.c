#include "imapd/session/uses.h"

#include "libutil/conf.h"

void uses_begin(struct uses_finder *f, struct session *s)
{
    *f = (struct uses_finder){.s = s};
}

void uses_note(struct uses_finder *f, struct slice folder)
{
    unsigned uses;
    bool assigned;
    struct error err;
    if (store_use_get(f->s->store, folder, &uses, &assigned, &err) == OK)
        f->taken |= uses;
}

/* What the configuration says: words NAME=USE. */
static unsigned by_name(const struct session *s, struct slice folder)
{
    const struct conf_block *b = conf_one(s->env->conf, "imap");
    unsigned uses = 0;
    for (size_t i = 0; i < conf_list_len(b, "special-use"); i++) {
        struct slice word = conf_list_at(b, "special-use", i);
        ptrdiff_t at = slice_rchr(word, '=');
        if (at > 0 && slice_eq(slice_first(word, (size_t)at), folder))
            uses |= store_use_bit(slice_from_index(word, (size_t)at + 1));
    }
    return uses;
}

unsigned uses_of(struct uses_finder *f, struct slice folder)
{
    unsigned uses;
    bool assigned;
    struct error err;
    if (store_use_get(f->s->store, folder, &uses, &assigned, &err) == OK && assigned)
        return uses;
    return by_name(f->s, folder) & ~f->taken;
}
