/* ETRN (RFC 1985): a client asks for what waits for a domain that we pass on. */
#include "libmail/idn.h"
#include "libmail/proto/inject.h"
#include "smtpd/events.h"
#include "smtpd/verbs.h"

enum { ETRN_NAME_MAX = 256 };

static void on_etrned(struct ipc_in *in, void *arg)
{
    struct session *s = arg;
    const struct inject_etrned *r = in ? in->msg : NULL;
    if (!session_answered(s))
        return;
    log_event(&s->log, smtp_etrn, .client = slice_of(s->client), .domain = slice_of(s->etrn_name),
        .user = session_login(s), .count = r ? r->count : 0);
    if (!r)
        session_refuse(s, "ETRN", 458, "4.3.0", "queue-away",
            SLICE_LIT("Unable to queue messages now, try again later"));
    else if (r->count == 0)
        session_reply(s, 251, "2.0.0", "OK, no messages waiting for node %s", s->etrn_name);
    else
        session_reply(s, 253, "2.0.0", "OK, %llu pending messages for node %s started",
            (unsigned long long)r->count, s->etrn_name);
    free(s->etrn_name);
    s->etrn_name = NULL;
    session_resume(s, SESSION_COMMAND);
}

/* RFC 1985 §5.2: "@" before a domain means its subdomains too, which is a dot here. */
static bool parse_node(struct slice args, char out[ETRN_NAME_MAX + 1])
{
    bool below = slice_starts(args, "@");
    struct slice name = slice_from_index(args, below);
    char ascii[256];
    if (!address_is_hostname(name, true) || idn_domain(name, ascii) ||
        !address_is_hostname(slice_of(ascii), false))
        return false;
    ascii_lower(ascii, strlen(ascii));
    snprintf(out, ETRN_NAME_MAX + 1, "%s%s", below ? "." : "", ascii);
    return true;
}

void cmd_etrn(struct session *s, struct slice args)
{
    char name[ETRN_NAME_MAX + 1];
    if (!session_may_etrn(s)) {
        session_refuse(s, "ETRN", s->service->etrn == ETRN_NONE ? 502 : 459,
            s->service->etrn == ETRN_NONE ? "5.5.1" : "4.7.1", "etrn",
            SLICE_LIT("ETRN is not for this client"));
    } else if (s->txn) {
        session_refuse(
            s, "ETRN", 503, "5.5.1", "sequence", SLICE_LIT("A transaction is under way"));
    } else if (args.n == 0) {
        session_refuse(s, "ETRN", 500, "5.5.4", "syntax", SLICE_LIT("Syntax: ETRN domain"));
    } else if (slice_starts(args, "#")) {
        session_refuse(
            s, "ETRN", 459, "4.7.1", "etrn-queue", SLICE_LIT("No queue has a name here"));
    } else if (!parse_node(args, name)) {
        session_refuse(s, "ETRN", 501, "5.5.4", "syntax", SLICE_LIT("That is not a domain"));
    } else if (!server_relays(s->server, slice_of(name))) {
        session_refuse(s, "ETRN", 459, "4.7.1", "etrn-domain",
            SLICE_LIT("Node not allowed: mail for it is not passed on here"));
    } else {
        s->etrn_name = xstrdup(name);
        struct inject_etrn ask = {.domain = slice_of(s->etrn_name)};
        session_wait(s);
        daemon_call(
            s->server->daemon, CONV_INJECT, -1, inject_etrn_type, s->sid, &ask, -1, on_etrned, s);
    }
}
