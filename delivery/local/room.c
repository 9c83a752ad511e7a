/* Room in an account's mailbox, asked for at RCPT. Only the account's own process may look into its
 * home, so each question is a child, as for a delivery; it looks, says one word, and ends. */
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "delivery/local/parts.h"
#include "libmail/proto/quota.h"
#include "libstore/mbox_deliver.h"
#include "libstore/quota.h"

enum { CHILD_MS = 4000 }; /* less than lookupd waits */

struct room {
    struct list link; /* in local.rooms */
    struct child child;
    struct local *local;
    struct peer *peer; /* NULL: gone */
    uint32_t id;
    uint64_t trace;
    struct account account;
    char folder[256]; /* that +detail names */
    uint64_t size;
};

/* --- in the child ----------------------------------------------------------------------------- */

static uint32_t verdict_of(const struct local *l, int rc)
{
    if (rc == ERR_QUOTA)
        return slice_find(slice_of(l->limits), SLICE_LIT("defer\n")) >= 0 ? QUOTA_FULL_DEFER
                                                                          : QUOTA_FULL;
    return rc ? QUOTA_UNKNOWN : QUOTA_FITS;
}

static int check_maildir(const struct room *r, int home, struct error *err)
{
    const struct local *l = r->local;
    const struct store_options opt = {.coexist = true};
    const struct store_delivery unknown = {.id = 0};
    struct quota_usage none = {0};
    struct quota q;
    struct store *store = NULL;
    int rc = store_open(home, l->mailbox, &opt, &store, err);
    if (rc == ERR_NOT_FOUND) { /* no mail yet */
        rc = quota_parse(slice_of(l->limits), &q, err);
        return rc                                                                      ? rc
               : quota_fits(&q, &none, slice_of(r->folder), r->size, 1, QUOTA_ADDRESS) ? OK
                                                                                       : ERR_QUOTA;
    }
    if (!rc)
        rc = store_quota_set(store, slice_of(l->limits), err);
    if (!rc)
        rc = store_quota_check(store, store_deliver_folder(store, slice_of(r->folder), &unknown),
            r->size, 1, QUOTA_ADDRESS, err);
    store_close(store);
    return rc;
}

static int check_spool(const struct room *r, int spool, struct error *err)
{
    char name[1024];
    struct quota q;
    struct quota_usage used = {0};
    struct stat st;
    const struct delivery_task task = {.agent = &r->local->agent, .account = r->account};
    int rc = local_spool_name(&task, name, sizeof(name), err);
    if (!rc)
        rc = quota_parse(slice_of(r->local->limits), &q, err);
    if (rc)
        return rc;
    if (fstatat(spool, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        used.bytes = (uint64_t)st.st_size;
    q.messages = 0;
    return quota_fits(&q, &used, SLICE_LIT("INBOX"), r->size, 1, QUOTA_ADDRESS) ? OK : ERR_QUOTA;
}

/* Who has his mail forwarded, and keeps no copy, has room. */
static int check_at(const struct room *r, int home, int spool, struct error *err)
{
    const struct delivery_task task = {.agent = &r->local->agent,
        .account = r->account,
        .to = {.address = slice_of(r->account.name)}};
    struct forward_plan plan;
    forward_init(&plan);
    int rc = local_read_plan(&task, home, &plan, err);
    if (!rc && plan.mailbox)
        rc = spool >= 0 ? check_spool(r, spool, err) : check_maildir(r, home, err);
    forward_clear(&plan);
    return rc;
}

/* As the account: an enum quota_verdict. */
static uint32_t check_room(
    struct local *l, const struct account *account, struct slice folder, uint64_t size)
{
    struct error err = {0};
    struct room r = {.local = l, .account = *account, .size = size};
    if (!slice_to_cstr(folder, r.folder, sizeof(r.folder)))
        r.folder[0] = '\0';
    int home = open(account->home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int spool = l->spool ? open(l->spool, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    const int trees[] = {home, spool};
    int rc = home < 0 || !local_is_own(home) || (l->spool && spool < 0) ? ERR_DENIED : OK;
    if (!rc && l->filter)
        rc = sandbox_tighten_to(l->filter, trees, 2, &err);
    if (!rc)
        rc = check_at(&r, home, spool, &err);
    fd_close(&home);
    fd_close(&spool);
    if (rc && rc != ERR_QUOTA)
        log_event(&l->agent.daemon->log, log_trouble, .what = SLICE_LIT("quota"),
            .reason = slice_of(err.text));
    return verdict_of(l, rc);
}

_Noreturn static void child(const struct room *r)
{
    struct error err = {0};
    uint32_t verdict = QUOTA_UNKNOWN;
    int fd = r->child.fd, keep[] = {fd, log_fd()};
    child_reset(keep, ARRAY_LEN(keep));
    if (sandbox_become(r->account.uid, r->account.gid, NULL, &err) == OK)
        verdict = check_room(r->local, &r->account, slice_of(r->folder), r->size);
    ssize_t n = send(fd, &verdict, sizeof(verdict), MSG_NOSIGNAL);
    _exit(n == (ssize_t)sizeof(verdict) ? 0 : 1);
}

/* --- in the spawner --------------------------------------------------------------------------- */

static void answer(struct peer *peer, uint32_t id, uint64_t trace, uint32_t verdict)
{
    const struct quota_answer m = {verdict <= QUOTA_UNKNOWN ? verdict : QUOTA_UNKNOWN};
    if (peer)
        (void)!ipc_reply(peer->ipc, id, trace, quota_answer_type, &m, -1);
}

static void room_free(struct room *r)
{
    list_remove(&r->link);
    fd_close(&r->child.fd);
    r->local->nrooms--;
    free(r);
}

/* The child has spoken, or ended without a word. */
static void ended(struct child *c, int status)
{
    struct room *r = CONTAINER_OF(c, struct room, child);
    uint32_t verdict;
    (void)status;
    ssize_t n = recv(c->fd, &verdict, sizeof(verdict), MSG_DONTWAIT);
    answer(r->peer, r->id, r->trace, n == (ssize_t)sizeof(verdict) ? verdict : QUOTA_UNKNOWN);
    room_free(r);
}

static bool spawn(struct room *r)
{
    r->child.uid = r->account.uid;
    r->child.what = r->account.name;
    r->child.ended = ended;
    pid_t pid = child_fork(&r->local->agent.children, &r->child, CHILD_MS);
    if (pid == 0)
        child(r);
    return pid > 0;
}

/* What nobody can tell here, the delivery will. */
void local_room(struct peer *peer, struct ipc_in *in)
{
    struct local *l = peer->daemon->data;
    const struct quota_ask *ask = in->msg;
    struct error err = {0};
    struct account account;
    if (l->nrooms >= LOCAL_ROOMS_MAX || !l->limits[0] || l->agent.daemon->draining ||
        accounts_find(l->agent.accounts, ask->mail, &account, &err) ||
        local_not_allowed(l, &account)) {
        answer(peer, in->id, in->trace, QUOTA_UNKNOWN);
        return;
    }
    struct room *r = NEW(struct room);
    r->local = l;
    r->peer = peer;
    r->id = in->id;
    r->trace = in->trace;
    r->size = ask->size;
    r->account = account;
    (void)!slice_to_cstr(ask->folder, r->folder, sizeof(r->folder));
    r->child.fd = -1;
    list_append(&l->rooms, &r->link);
    l->nrooms++;
    if (!spawn(r)) {
        answer(peer, in->id, in->trace, QUOTA_UNKNOWN);
        room_free(r);
    }
}

void local_room_down(struct peer *peer)
{
    struct local *l = peer->daemon->data;
    LIST_EACH(it, &l->rooms)
    {
        struct room *r = LIST_ENTRY(it, struct room, link);
        if (r->peer == peer)
            r->peer = NULL;
    }
}
