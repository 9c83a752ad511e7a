/* The client's name: PTR, then the addresses of that name must include the client's. Nobody waits
 * for it: it is used where it is known by then, in Received and in the log. */
#include "libutil/proto/dns.h"
#include "smtpd/session.h"

static void ask(struct session *s, struct slice name, unsigned type, ipc_reply_fn *cb)
{
    struct dns_query query = {.name = name, .type = type};
    s->pending++;
    daemon_call(s->server->daemon, CONV_DNS, -1, dns_query_type, s->sid, &query, -1, cb, s);
}

/* The data of the next record; false at the end. */
static bool next_record(struct reader *r, struct slice *data)
{
    struct dns_record record;
    if (r->rest.n == 0 || record_get(r, &dns_record_record, &record))
        return false;
    *data = record.data;
    return true;
}

static void on_addresses(struct ipc_in *in, void *arg)
{
    struct session *s = arg;
    const struct dns_answer *answer = in ? in->msg : NULL;
    struct net_addr client, listed;
    struct slice data;
    bool confirmed = false;
    if (!session_answered(s))
        return;
    if (answer && answer->status == DNS_OK && net_addr_parse(slice_of(s->client), &client) == OK) {
        struct reader r = reader_of(answer->records);
        while (next_record(&r, &data))
            confirmed |= net_addr_parse(data, &listed) == OK && listed.bits == client.bits &&
                         memcmp(listed.bytes, client.bytes, client.bits / 8) == 0;
    }
    if (confirmed)
        s->client_name = s->claimed_name;
    else
        free(s->claimed_name);
    s->claimed_name = NULL;
}

static void on_name(struct ipc_in *in, void *arg)
{
    struct session *s = arg;
    const struct dns_answer *answer = in ? in->msg : NULL;
    struct slice name;
    if (!session_answered(s) || !answer || answer->status != DNS_OK)
        return;
    struct reader r = reader_of(answer->records);
    if (!next_record(&r, &name) || !address_is_hostname(name, false))
        return;
    s->claimed_name = xmemdup0(name.p, name.n);
    ask(s, name, slice_chr(slice_of(s->client), ':') >= 0 ? DNS_AAAA : DNS_A, on_addresses);
}

void client_name_start(struct session *s)
{
    struct net_addr a;
    struct buf name;
    if (net_addr_parse(slice_of(s->client), &a))
        return;
    buf_init(&name, 255);
    for (unsigned i = a.bits / 8; i-- > 0;) {
        if (a.bits == 32)
            (void)buf_printf(&name, "%u.", a.bytes[i]);
        else /* RFC 3596 §2.5: a label for each nibble */
            (void)buf_printf(&name, "%x.%x.", a.bytes[i] & 15, a.bytes[i] >> 4);
    }
    (void)buf_puts(&name, a.bits == 32 ? "in-addr.arpa" : "ip6.arpa");
    ask(s, buf_slice(&name), DNS_PTR, on_name);
    buf_clear(&name);
}
