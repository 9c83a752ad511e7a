#include "imapd/session/place.h"
#include "imapd/session/search.h"
#include "imapd/session/session.h"
#include "libutil/error.h"

/* Turns the sets of the tree into sequence numbers. UID sets may name what does not exist. */
static bool resolve_sets(struct command *c, struct search_key *k)
{
    for (; k; k = k->next) {
        if (!resolve_sets(c, k->first))
            return false;
        if (k->op != SEARCH_SEQUENCE && k->op != SEARCH_UID)
            continue;
        bool uid = c->uid;
        c->uid = k->op == SEARCH_UID;
        bool ok = command_sequence(c, &k->set, &k->seqs);
        c->uid = uid;
        if (!ok)
            return false;
    }
    return true;
}

void cmd_search(struct command *c)
{
    struct session *s = c->s;
    struct search search = {.root = NULL};
    if (!take_space(&c->args) || !take_search(&c->args, &search) || !resolve_sets(c, search.root)) {
        command_bad(c);
        return;
    }
    if (search.bad_charset.p) {
        command_no(c, "BADCHARSET (UTF-8 US-ASCII)", "Charset not supported");
        return;
    }
    if (!command_may(c, ACL_READ))
        return;
    struct search_message m = {.mb = s->mb};
    buf_init(&m.text, 1);
    buf_puts(&s->io.out, "* SEARCH");
    for (m.seq = 1; store_get(s->mb, m.seq, &m.msg) && io_pace(&s->io) == OK; m.seq++) {
        if (search_matches(&m, search.root))
            buf_printf(&s->io.out, " %u", c->uid ? m.msg.uid : m.seq);
        search_message_clear(&m);
    }
    buf_clear(&m.text);
    buf_puts(&s->io.out, "\r\n");
    command_ok(c, "%s completed", c->uid ? "UID SEARCH" : "SEARCH");
}
