#include "qmgr/roster_private.h"

#include <stdlib.h>

#include "libmail/proto/deliver.h"

void roster_free(struct roster *r)
{
    if (!r)
        return;
    free(r->entries);
    free(r->bad);
    free(r);
}

size_t roster_total(const struct roster *r)
{
    return r->n;
}

void roster_spoil(struct roster *r)
{
    r->spoilt = true;
}

bool roster_spoilt(const struct roster *r)
{
    return r->spoilt;
}

/* --- asking ---------------------------------------------------------------------------------- */

size_t roster_open_count(const struct roster *r)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++)
        n += !r->entries[i].here && r->entries[i].state != RCPT_DONE;
    return n;
}

bool roster_fits(const struct entry *e, const struct roster_choice *c)
{
    if (e->here)
        return false;
    static const enum rcpt_state states[] = {[ROSTER_DUE] = RCPT_WAITING,
        [ROSTER_WAITING] = RCPT_WAITING,
        [ROSTER_FAILED] = RCPT_FAILED,
        [ROSTER_DELIVERED] = RCPT_DELIVERED};
    if (e->state != states[c->what] || (c->one_group && e->group != c->group))
        return false;
    return c->what != ROSTER_DUE || e->next <= c->now || e->next > c->latest;
}

bool roster_has(const struct roster *r, const struct roster_choice *c)
{
    for (size_t i = 0; i < r->n; i++)
        if (roster_fits(&r->entries[i], c))
            return true;
    return false;
}

uint32_t roster_group(const struct roster *r, const struct roster_choice *c)
{
    for (size_t i = 0; i < r->n; i++)
        if (roster_fits(&r->entries[i], c))
            return r->entries[i].group;
    return 0;
}

size_t roster_settle(struct roster *r, const struct roster_choice *c)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++) {
        if (!roster_fits(&r->entries[i], c))
            continue;
        r->entries[i].state = RCPT_DONE;
        r->entries[i].unwritten = true;
        n++;
    }
    return n;
}

size_t roster_unwritten(const struct roster *r)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++)
        n += r->entries[i].unwritten;
    return n;
}

void roster_take_unwritten(struct roster *r, struct parked_state *out)
{
    for (size_t i = 0; i < r->n; i++) {
        struct entry *e = &r->entries[i];
        if (!e->unwritten)
            continue;
        e->unwritten = false;
        *out++ = (struct parked_state){.index = (uint32_t)i,
            .state = e->state,
            .dsn = SLICE_LIT(""),
            .text = SLICE_LIT(""),
            .mta = SLICE_LIT("")};
    }
}

int64_t roster_next(const struct roster *r)
{
    int64_t next = INT64_MAX;
    for (size_t i = 0; i < r->n; i++)
        if (!r->entries[i].here && r->entries[i].state == RCPT_WAITING)
            next = MIN(next, r->entries[i].next);
    return next;
}

void roster_hurry(struct roster *r)
{
    for (size_t i = 0; i < r->n; i++)
        if (!r->entries[i].here && r->entries[i].state == RCPT_WAITING)
            r->entries[i].next = 0;
}
