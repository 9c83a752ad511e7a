#include "brokers/lookupd/marks.h"

void marks_init(struct marks *m, struct daemon *d)
{
    *m = (struct marks){.daemon = d};
    for (size_t i = 0; i < ROUTE_SOURCES; i++)
        m->mark[i].file = FILEMARK_NONE;
}

static void tell(const struct marks *m, struct peer *peer, enum route_source source)
{
    const struct filemark *file = &m->mark[source].file;
    const struct route_mark msg = {.source = source, FILEMARK_VALUES(file)};
    if (!peer->ipc || peer->side != IPC_SERVER || peer->role != ROLE_SMTPD)
        return;
    if (ipc_send(peer->ipc, route_mark_type, 0, &msg, file->fd))
        peer->data = peer;
}

bool marks_known_to(const struct peer *peer)
{
    return peer->role == ROLE_SMTPD && peer->data == NULL;
}

void marks_tell(struct marks *m, struct peer *peer)
{
    for (size_t i = 0; i < ROUTE_SOURCES; i++)
        tell(m, peer, (enum route_source)i);
}

/* Takes the file. Nothing that anybody has kept is from this state. */
static void set(
    struct marks *m, enum route_source source, uint64_t generation, struct filemark file)
{
    filemark_clear(&m->mark[source].file);
    m->mark[source] = (struct mark){generation, file};
    m->epoch++;
    LIST_EACH(it, &m->daemon->peers)
    tell(m, LIST_ENTRY(it, struct peer, link), source);
}

void marks_update(struct marks *m, const struct maps *maps)
{
    struct table *const tables[] = {[ROUTE_ALIASES] = maps->aliases,
        [ROUTE_VIRTUAL] = maps->virtual_aliases,
        [ROUTE_TRANSPORT] = maps->transport};
    m->incomplete = false;
    for (size_t i = 0; i < ARRAY_LEN(tables); i++) {
        struct error err;
        struct filemark file;
        uint64_t generation = tables[i] ? table_generation(tables[i]) : 0;
        if (generation == m->mark[i].generation)
            continue;
        if (generation && table_mark(tables[i], generation, &file, &err) == OK) {
            set(m, (enum route_source)i, generation, file);
            continue;
        }
        m->incomplete = true;
        m->epoch++;
    }
}

void marks_users(struct marks *m, const struct auth_mark *msg, int *fd)
{
    if (!msg) {
        set(m, ROUTE_USERS, 0, FILEMARK_NONE);
        return;
    }
    set(m, ROUTE_USERS, msg->generation, FILEMARK_OF(msg, *fd));
    *fd = -1;
}

bool marks_know_users(const struct marks *m, uint64_t generation)
{
    return generation && generation == m->mark[ROUTE_USERS].generation;
}
