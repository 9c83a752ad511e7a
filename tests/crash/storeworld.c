#include "tests/crash/storeworld.h"

#include <stdio.h>

struct world world;

void world_problem(const char *format, ...)
{
    va_list ap;
    if (world.problem[0])
        return;
    va_start(ap, format);
    vsnprintf(world.problem, sizeof(world.problem), format, ap);
    va_end(ap);
}

void world_begin(uint64_t seed)
{
    memset(&world, 0, sizeof(world));
    world.seed = seed;
    world.coexist = seed % 2;
    world.shared = !world.coexist && seed / 2 % 3 == 0;
    world.switches = !world.shared && seed / 16 % 3 == 0;
    world.coexisted = world.coexist;
    world.keep = seed / 2 % 4 == 1;
    world.gather = seed / 8 % 2;
    world.faults = seed / 2 % 4 == 3;
}

/* --- messages --------------------------------------------------------------------------------- */

int world_message(void)
{
    if (world.messages == MESSAGES)
        return -1;
    int message = world.messages++;
    world.size[message] = (uint32_t)(60 + sim_random(sim_random(8) ? 300 : 9000));
    if (sim_random(40) == 0)
        world.size[message] = sim_random(3) ? 100 * 1024 : BIG;
    world.delivery[message].place = -1;
    return message;
}

void world_content(int message, struct buf *out)
{
    static const char filler[] = "0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopq";
    buf_init(out, 2 * BIG);
    buf_printf(out, "Message-ID: <%d@x>\r\nSubject: s%de\r\n\r\n", message, message);
    for (uint32_t i = 0; buf_len(out) < world.size[message]; i++) {
        buf_printf(out, "%u %u line of message %d\r\n", i, i * 2654435769u, message);
        if (world.size[message] > 10000)
            for (int k = 0; k < 15; k++)
                buf_printf(out, "%s\r\n", filler);
    }
}

int world_message_of(struct slice content)
{
    uint64_t number;
    struct buf whole;
    struct slice rest = content;
    slice_cut(&rest, '\n');
    slice_cut(&rest, 's');
    if (slice_u64(slice_cut(&rest, 'e'), 0, (uint64_t)world.messages - 1, &number))
        return -1;
    world_content((int)number, &whole);
    bool same = slice_eq(content, buf_slice(&whole));
    buf_clear(&whole);
    return same ? (int)number : -1;
}

/* --- places ----------------------------------------------------------------------------------- */

void world_place_name(int place, const char *name)
{
    struct place *p = &world.place[place];
    if (p->nnames < NAMES)
        snprintf(p->name[p->nnames++], sizeof(p->name[0]), "%s", name);
}

int world_place_new(const char *name)
{
    if (world.places == PLACES)
        return -1;
    world_place_name(world.places, name);
    return world.places++;
}

int world_place_of(struct slice name)
{
    for (int p = 0; p < world.places; p++)
        for (int i = 0; i < world.place[p].nnames; i++)
            if (slice_is(name, world.place[p].name[i]))
                return p;
    return -1;
}

int world_choose_place(void)
{
    int p = (int)sim_random(sim_random(3) ? FIXED : (uint64_t)world.places);
    return world.place[p].state == PLACE_GONE ? 0 : p;
}

const char *world_name(int place)
{
    const struct place *p = &world.place[place];
    int at = sim_random(3) ? p->nnames - 1 : (int)sim_random((uint64_t)p->nnames);
    return p->name[at];
}

int world_must(int place, int message)
{
    const struct count *c = &world.place[place].count[message];
    return world.place[place].doomed ? 0 : MAX(0, c->acked - c->taken);
}

void world_may_come(int place, int message)
{
    world.place[place].count[message].may++;
}

void world_came(int place, int message, bool durable)
{
    struct count *c = &world.place[place].count[message];
    c->acked++;
    c->durable += durable;
}

/* --- numbers ---------------------------------------------------------------------------------- */

struct number *world_number(int place, uint32_t validity, uint32_t uid)
{
    uint32_t at = (validity * 2654435769u ^ uid * 40503u ^ (uint32_t)place * 97u) % NUMBERS;
    for (int turns = 0; turns < NUMBERS; turns++, at = (at + 1) % NUMBERS) {
        struct number *n = &world.number[at];
        if (n->uid == 0)
            *n = (struct number){.place = (short)place, .validity = validity, .uid = uid};
        if (n->uid == uid && n->validity == validity && n->place == place)
            return n;
    }
    world_problem("too many numbers");
    return &world.number[0];
}

/* A UIDVALIDITY belongs to one place. */
static void check_owner(int place, uint32_t validity)
{
    for (int i = 0; i < NUMBERS; i++) {
        const struct number *n = &world.number[i];
        if (n->uid && n->validity == validity && n->place != place &&
            !world.place[place].restored && !world.place[n->place].restored)
            world_problem("I8: UIDVALIDITY %u of %s is that of %s, too", validity,
                world.place[place].name[0], world.place[n->place].name[0]);
    }
}

void world_seen(int place, uint32_t validity, uint32_t uid, int message)
{
    struct number *n = world_number(place, validity, uid);
    if (!n->message)
        check_owner(place, validity);
    if (n->message && n->message != message + 1)
        world_problem("I8: %s UID %u was message %d and is now %d", world.place[place].name[0], uid,
            n->message - 1, message);
    n->message = (short)(message + 1);
}

/* --- what happens to all ---------------------------------------------------------------------- */

void world_power_cut(void)
{
    world.cut = true;
    for (int p = 0; p < world.places; p++)
        for (int i = 0; i < world.messages; i++) {
            struct count *c = &world.place[p].count[i];
            c->acked = c->durable;
            c->may += c->expunged;
            c->expunged = 0;
        }
    for (int i = 0; i < world.messages; i++)
        if (!world.delivery[i].synced)
            world.delivery[i].done = false;
    for (int i = 0; i < NUMBERS; i++) {
        struct number *n = &world.number[i];
        n->gone = n->observed = false;
        memset(n->flag, 0, sizeof(n->flag));
        memset(n->word, 0, sizeof(n->word));
    }
}

struct world_sync {
    int acked[PLACES][MESSAGES], expunged[PLACES][MESSAGES];
    bool done[MESSAGES];
};

struct world_sync *world_sync_begin(void)
{
    struct world_sync *before = NEW(struct world_sync);
    for (int p = 0; p < world.places; p++)
        for (int i = 0; i < world.messages; i++) {
            before->acked[p][i] = world.place[p].count[i].acked;
            before->expunged[p][i] = world.place[p].count[i].expunged;
        }
    for (int i = 0; i < world.messages; i++)
        before->done[i] = world.delivery[i].done;
    return before;
}

void world_sync_end(struct world_sync *before, bool good)
{
    for (int p = 0; good && p < world.places; p++)
        for (int i = 0; i < world.messages; i++) {
            struct count *c = &world.place[p].count[i];
            c->durable = MAX(c->durable, before->acked[p][i]);
            c->expunged = MAX(0, c->expunged - before->expunged[p][i]);
            world.on_disk[i] |= before->acked[p][i] > 0 && world_must(p, i) > 0;
        }
    for (int i = 0; good && i < world.messages; i++)
        world.delivery[i].synced |= before->done[i];
    free(before);
}
