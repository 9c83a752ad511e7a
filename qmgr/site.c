/*
 * MX hosts. Attempts for whatever domains lead to one share its window and its rate. A site lives
 * while a destination leads to it or an attempt holds a place.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "qmgr/schedule_private.h"

enum { HOST_MAX = 255 };

static void set_limits(struct site *site)
{
    struct schedule *s = site->schedule;
    site->limits = s->policy.host;
    if (s->ops.host_limits)
        s->ops.host_limits(slice_of(site->host), &site->limits, s->arg);
}

void sites_set_limits(struct schedule *s)
{
    void *value;
    for (size_t pos = 0; map_next(&s->sites, &pos, NULL, &value);) {
        set_limits(value);
        site_unblock(value);
    }
}

bool site_open(const struct site *site)
{
    return site->busy < MIN(site->window, site->limits.concurrency) &&
           !timer_active(&site->pace.timer);
}

static void may_start(void *arg);

static struct site *find_site(struct schedule *s, struct slice host)
{
    char name[HOST_MAX + 1];
    host = slice_first(host, HOST_MAX);
    for (size_t i = 0; i < host.n; i++)
        name[i] = (char)tolower((unsigned char)host.p[i]);
    struct slice key = {name, host.n};
    struct site *site = map_get(&s->sites, key);
    if (site)
        return site;
    site = NEW(struct site);
    site->schedule = s;
    site->host = xmemdup0(name, host.n);
    list_init(&site->blocked);
    timer_init(&site->pace.timer, s->loop, may_start, site);
    set_limits(site);
    site->window = MIN(s->policy.initial, site->limits.concurrency);
    map_set(&s->sites, key, site);
    return site;
}

static void release_idle(struct site *site)
{
    if (site->destinations > 0 || site->busy > 0 || timer_active(&site->pace.timer))
        return;
    map_remove(&site->schedule->sites, slice_of(site->host));
    free(site->host);
    free(site);
}

static void may_start(void *arg)
{
    struct site *site = arg;
    site_unblock(site);
    release_idle(site);
}

void site_enter(struct site *site, struct sched_ticket *ticket)
{
    ticket->site = site;
    site->busy++;
    pace_used(site->schedule, &site->pace, site->limits.rate);
}

void site_leave(struct sched_ticket *ticket, enum sched_result result)
{
    struct site *site = ticket->site;
    ticket->site = NULL;
    if (!site)
        return;
    site->busy--;
    if (result == SCHED_SITE_FAILED && site->window > 1)
        site->window--;
    else if (result == SCHED_WORKED && site->window < site->limits.concurrency &&
             site->window < site->busy + 1 + site->schedule->policy.initial)
        site->window++;
    site_unblock(site);
    release_idle(site);
}

void site_block(struct destination *d)
{
    list_remove(&d->ready);
    list_append(&d->site->blocked, &d->ready);
}

void site_unblock(struct site *site)
{
    unsigned room = site_open(site) ? site->window - site->busy : 0;
    for (; room > 0 && !list_empty(&site->blocked); room--) {
        struct destination *d = LIST_ENTRY(site->blocked.next, struct destination, ready);
        list_remove(&d->ready);
        destination_update(d);
        dispatch_soon(site->schedule);
    }
}

void site_forget(struct destination *d)
{
    struct site *site = d->site;
    if (!site)
        return;
    d->site = NULL;
    site->destinations--;
    site_unblock(site); /* it may have stood first in line */
    release_idle(site);
}

void sites_clear(struct schedule *s)
{
    void *value;
    for (size_t pos = 0; map_next(&s->destinations, &pos, NULL, &value);) {
        struct destination *d = value;
        list_remove(&d->ready);
        d->site = NULL;
    }
    for (size_t pos = 0; map_next(&s->sites, &pos, NULL, &value);) {
        struct site *site = value;
        timer_stop(&site->pace.timer);
        free(site->host);
        free(site);
    }
    map_clear(&s->sites);
}

bool schedule_enter_host(struct schedule *s, struct sched_ticket *ticket, struct slice host)
{
    struct destination *d = ticket->destination;
    struct site *site = find_site(s, host);
    if (d->site != site) {
        list_remove(&d->ready); /* it may be blocked at the other one */
        site_forget(d);
        d->site = site;
        site->destinations++;
        destination_update(d);
        destination_remember(d);
    }
    if (ticket->site == site)
        return true;
    if (!site_open(site))
        return false;
    site_leave(ticket, SCHED_UNTRIED);
    site_enter(site, ticket);
    return true;
}
