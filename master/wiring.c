#include <pwd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libutil/proto/master.h"
#include "master/master.h"

/* Who may talk to whom: the one table. The client of a row begins. */
static const struct wire {
    enum role client, server;
    enum conversation conv;
} wires[] = {
    {ROLE_SMTPD, ROLE_QMGR, CONV_INJECT},
    {ROLE_SMTPD, ROLE_LOOKUPD, CONV_ROUTE},
    {ROLE_SMTPD, ROLE_AUTHD, CONV_AUTH},
    {ROLE_SMTPD, ROLE_KEYD, CONV_SIGN},
    {ROLE_SMTPD, ROLE_DNSD, CONV_DNS},
    {ROLE_QMGR, ROLE_VIRTUAL, CONV_DELIVER},
    {ROLE_QMGR, ROLE_LOCAL, CONV_DELIVER},
    {ROLE_QMGR, ROLE_PIPE, CONV_DELIVER},
    {ROLE_QMGR, ROLE_REMOTE, CONV_DELIVER},
    {ROLE_QMGR, ROLE_BOUNCE, CONV_DELIVER},
    {ROLE_QMGR, ROLE_LOOKUPD, CONV_ROUTE},
    {ROLE_BOUNCE, ROLE_QMGR, CONV_INJECT},
    {ROLE_BOUNCE, ROLE_LOOKUPD, CONV_ROUTE},
    {ROLE_REMOTE, ROLE_DNSD, CONV_DNS},
    {ROLE_LOOKUPD, ROLE_AUTHD, CONV_AUTH},
    {ROLE_LOOKUPD, ROLE_VIRTUAL, CONV_QUOTA},
    {ROLE_LOOKUPD, ROLE_LOCAL, CONV_QUOTA},
    {ROLE_VIRTUAL, ROLE_NOTIFYD, CONV_NOTIFY},
    {ROLE_LOCAL, ROLE_NOTIFYD, CONV_NOTIFY},
    {ROLE_HOUSE, ROLE_AUTHD, CONV_AUTH},
    {ROLE_HOUSE, ROLE_NOTIFYD, CONV_NOTIFY},
    {ROLE_IMAP_LOGIN, ROLE_AUTHD, CONV_AUTH},
    {ROLE_POP3_LOGIN, ROLE_AUTHD, CONV_AUTH},
    {ROLE_IMAP_LOGIN, ROLE_KEYD, CONV_SIGN},
    {ROLE_POP3_LOGIN, ROLE_KEYD, CONV_SIGN},
    {ROLE_IMAP_LOGIN, ROLE_IMAP_SESSION, CONV_SPAWN},
    {ROLE_POP3_LOGIN, ROLE_POP3_SESSION, CONV_SPAWN},
    {ROLE_IMAP_SESSION, ROLE_AUTHD, CONV_AUTH},
    {ROLE_POP3_SESSION, ROLE_AUTHD, CONV_AUTH},
    {ROLE_IMAP_SESSION, ROLE_NOTIFYD, CONV_NOTIFY},
    {ROLE_IMAP_SESSION, ROLE_VIRTUAL, CONV_QUOTA},
    {ROLE_IMAP_SESSION, ROLE_VIRTUAL, CONV_SHARE},
    {ROLE_POP3_SESSION, ROLE_NOTIFYD, CONV_NOTIFY},
};

static bool is_live(const struct process *p)
{
    return p->ipc && (p->state == PROCESS_STARTING || p->state == PROCESS_RUNNING);
}

static void give(struct process *to, enum ipc_side side, const struct process *other,
    enum conversation conv, int fd)
{
    struct master_peer peer = {.conversation = conv,
        .side = side,
        .role = other ? other->role : ROLE_MASTER,
        .worker = other ? other->worker : 0,
        .uid = other ? other->uid : 0};
    ipc_send(to->ipc, master_peer_type, 0, &peer, fd);
}

static void join(struct process *client, struct process *server, enum conversation conv)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        log_event(&client->master->log, log_trouble, .what = SLICE_LIT("wiring"),
            .reason = SLICE_LIT("socketpair failed"));
        return;
    }
    give(client, IPC_CLIENT, server, conv, pair[0]);
    give(server, IPC_SERVER, client, conv, pair[1]);
    close(pair[0]);
    close(pair[1]);
}

/* A log channel from a process, or from master itself (NULL), to logd. */
static void join_log(struct process *from, struct process *logd)
{
    int pair[2], on = 1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return;
    setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on));
    give(logd, IPC_SERVER, from, CONV_LOG, pair[1]);
    close(pair[1]);
    if (from) {
        give(from, IPC_CLIENT, logd, CONV_LOG, pair[0]);
        close(pair[0]);
    } else {
        log_set_fd(pair[0]);
    }
}

static void connect_log(struct process *p)
{
    LIST_EACH(it, &p->master->processes)
    {
        struct process *q = LIST_ENTRY(it, struct process, link);
        if (!is_live(q) || q == p)
            continue;
        if (p->role == ROLE_LOGD)
            join_log(q, p);
        else if (q->role == ROLE_LOGD)
            join_log(p, q);
    }
    if (p->role == ROLE_LOGD)
        join_log(NULL, p);
}

void wiring_connect(struct process *p)
{
    connect_log(p);
    for (size_t i = 0; i < ARRAY_LEN(wires); i++) {
        const struct wire *w = &wires[i];
        if (w->client != p->role && w->server != p->role)
            continue;
        enum role wanted = w->client == p->role ? w->server : w->client;
        LIST_EACH(it, &p->master->processes)
        {
            struct process *q = LIST_ENTRY(it, struct process, link);
            if (q->role != wanted || !is_live(q))
                continue;
            if (w->client == p->role)
                join(p, q, w->conv);
            else
                join(q, p, w->conv);
        }
    }
}

bool wiring_serves(enum role client, enum role server)
{
    for (size_t i = 0; i < ARRAY_LEN(wires); i++)
        if (wires[i].client == client && wires[i].server == server)
            return true;
    return false;
}

/* What an administrator may be given: the queue, and what it takes to put a message into it. */
static bool is_offered(enum conversation conv, enum role role)
{
    return (role == ROLE_QMGR && (conv == CONV_QUEUE || conv == CONV_INJECT)) ||
           (role == ROLE_LOOKUPD && conv == CONV_ROUTE);
}

/* From the local file alone: master does not wait for a directory service. */
static void find_name(uid_t uid, char name[33])
{
    FILE *file = fopen("/etc/passwd", "re");
    name[0] = '\0';
    for (struct passwd *pw; file && (pw = fgetpwent(file)) != NULL;)
        if (pw->pw_uid == uid) {
            snprintf(name, 33, "%.32s", pw->pw_name);
            break;
        }
    if (file)
        fclose(file);
}

int wiring_admit(struct master *m, enum conversation conv, enum role role, uid_t who)
{
    if (!is_offered(conv, role))
        return ERR_DENIED;
    struct process *p = process_find(m, role, 0);
    int pair[2];
    if (!p || p->state != PROCESS_RUNNING)
        return ERR_TEMP;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return ERR_IO;
    char name[33];
    find_name(who, name);
    struct master_peer peer = {.conversation = conv,
        .side = IPC_SERVER,
        .role = ROLE_CTL,
        .uid = who,
        .user = slice_of(name)};
    ipc_send(p->ipc, master_peer_type, 0, &peer, pair[1]);
    close(pair[1]);
    return pair[0];
}
