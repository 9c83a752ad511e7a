/* Routing, with authd played by a list of mailboxes. */
#include "brokers/lookupd/route.h"

#include <setjmp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static const char CONF[] = "hostname mail.example.org\n"
                           "admin alice@example.org\n"
                           "virtual-aliases text:%1$s/virtual\n"
                           "aliases text:%1$s/aliases\n"
                           "transport text:%1$s/transport\n"
                           "hold text:%1$s/hold\n"
                           "domain example.org { catch-all catcher@nocatch.example }\n"
                           "domain nocatch.example strict.example { plus-address yes }\n"
                           "domain noplus.example { plus-address no }\n"
                           "domain mapped.example { }\n"
                           "domain backup.example { relay [192.0.2.1]:2525 }\n"
                           "domain lm.example { relay lmtp:[127.0.0.1]:24 }\n"
                           "local { domains host.example }\n";

static const char VIRTUAL[] = "team@strict.example    alice@example.org, bob@strict.example\n"
                              "self@strict.example    bob@strict.example self@strict.example\n"
                              "bob@strict.example     bob@strict.example, copy@far.example\n"
                              "loop1@strict.example   loop2@strict.example\n"
                              "loop2@strict.example   loop1@strict.example\n"
                              "stale@strict.example   gone@strict.example, alice@example.org\n"
                              "allgone@strict.example gone@strict.example, gone2@strict.example\n"
                              "@alias.example         @example.org\n"
                              "cmd@strict.example     |/bin/true\n"
                              "twice@strict.example   alice@example.org ALICE@EXAMPLE.org\n"
                              "self2@strict.example   alice@example.org\n"
                              "nest0@strict.example   nest1@strict.example\n";

static const char ALIASES[] = "root: carol\n"
                              "list: carol, alice@example.org, \"dave\"\n"
                              "inc: :include:%1$s/members\n"
                              "noinc: :include:%1$s/absent\n"
                              "prog: \"|/usr/bin/filter --x\"\n"
                              "file: /var/mail/file\n"
                              "carol: carol, far@far.example\n"
                              "lit: \\carol, Some One <alice@example.org> (comment)\n"
                              "news: dave, far@far.example, inner\n"
                              "owner-news: carol\n"
                              "inner: bare@far.example\n"
                              "Owner-Inner: dave\n"
                              "news-request: dave\n"
                              "owner-news-request: carol\n"
                              "keeps: keeps, dave\n"
                              "loop1: loop2\n"
                              "loop2: loop1\n"
                              "incfile: :include:%1$s/withfile\n"
                              "inclink: :include:%1$s/link\n"
                              "incall: :include:%1$s/forall\n"
                              "incdir: :include:%1$s\n"
                              "incself: :include:%1$s/self\n"
                              "incnames: :include:%1$s/names\n";

static const char TRANSPORT[] = "example.net smtp:[198.51.100.1]:26\n"
                                ".example.net smtp:relay.example.net\n"
                                "mapped.example lmtp:[127.0.0.1]:2424\n"
                                "odd.example pigeon:x\n"
                                "one@example.net smtp:\n";

static const char *const mailboxes[] = {"alice@example.org", "bob@strict.example",
    "self@strict.example", "catcher@nocatch.example", "a+b@strict.example", NULL};

static const char HOLD[] = "192.0.2.66 looks bad\n"
                           "198.51.100 a network\n"
                           "\"2001:db8\" another\n"
                           "suspect.example a list\n"
                           "<> reports\n"
                           "bob@strict.example on leave\n";

struct fixture {
    char dir[64];
    struct conf *conf;
    struct maps *maps;
    /* of the last route */
    bool done, fault, trouble;
    uint32_t code;
    const char *sender;
    char dsn[16], rule[64], hold[65], recipients[4096], reason[400];
    struct route *asked;
    enum route_question about;
    int room; /* what an account's agent says */
    unsigned accounts;
    char folder[64];
    char asking[321];
};

static void put(const struct fixture *f, const char *name, const char *format)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", f->dir, name);
    FILE *out = fopen(path, "w");
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-extra-args"
    fprintf(out, format, f->dir);
#pragma GCC diagnostic pop
    fclose(out);
}

static struct fixture fixture;

static int setup(void **state)
{
    struct fixture *f = &fixture;
    struct error err = {0};
    char path[128];
    *f = (struct fixture){0};
    memcpy(f->dir, "/tmp/veredus-route-XXXXXX", 26);
    assert_non_null(mkdtemp(f->dir));
    put(f, "virtual", VIRTUAL);
    put(f, "aliases", ALIASES);
    put(f, "transport", TRANSPORT);
    put(f, "hold", HOLD);
    put(f, "members", "# people\nalice@example.org\ndave\n");
    put(f, "passwd",
        "root:x:0:0::/root:/x\ncarol:x:1001:1001::/home/c:/x\n"
        "dave:x:1002:1002::/home/d:/x\n");
    put(f, "conf", CONF);
    snprintf(path, sizeof(path), "%s/conf", f->dir);
    f->conf = conf_load(path, NULL, &err);
    if (!f->conf)
        fail_msg("%s", err.text);
    f->maps = maps_new(f->conf, f->dir, &err);
    if (!f->maps)
        fail_msg("%s", err.text);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    const char *const names[] = {"virtual", "aliases", "transport", "hold", "members", "passwd",
        "conf", "link", "forall", "withfile", "self", "names"};
    char path[128];
    maps_free(f->maps);
    conf_free(f->conf);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(path, sizeof(path), "%s/%s", f->dir, names[i]);
        unlink(path);
    }
    rmdir(f->dir);
    return 0;
}

static void ask(struct route *r, enum route_question what, struct slice address, void *arg)
{
    struct fixture *f = arg;
    f->asked = r;
    f->about = what;
    assert_true(slice_to_cstr(address, f->asking, sizeof(f->asking)));
}

static void done(
    struct route *r, const struct route_verdict *v, bool fault, const char *reason, void *arg)
{
    struct fixture *f = arg;
    struct reader in = reader_of(v->recipients);
    size_t n = 0;
    (void)r;
    f->done = true;
    f->fault = fault;
    f->code = v->code;
    snprintf(f->reason, sizeof(f->reason), "%s", reason);
    assert_true(slice_to_cstr(v->dsn, f->dsn, sizeof(f->dsn)));
    assert_true(slice_to_cstr(v->rule, f->rule, sizeof(f->rule)));
    assert_true(slice_to_cstr(v->hold, f->hold, sizeof(f->hold)));
    while (in.rest.n) {
        struct recipient to;
        assert_int_equal(record_get(&in, &recipient_record, &to), OK);
        n += (size_t)snprintf(f->recipients + n, sizeof(f->recipients) - n,
            "%s%.*s=%.*s:%.*s%s%.*s", n ? " " : "", SLICE_FMT(to.address), SLICE_FMT(to.transport),
            SLICE_FMT(to.nexthop), to.owner.n ? "<" : "", SLICE_FMT(to.owner));
    }
}

static void play_authd(struct fixture *f)
{
    while (f->asked) {
        struct route *r = f->asked;
        char dir[400];
        int rc = f->trouble ? ERR_TEMP : ERR_NOT_FOUND;
        f->asked = NULL;
        if (f->about == ROUTE_ACCOUNT) {
            snprintf(f->folder, sizeof(f->folder), "%.*s", SLICE_FMT(route_folder(r)));
            f->accounts++;
            route_known(r, f->room, SLICE_LIT(""));
            continue;
        }
        for (size_t i = 0; mailboxes[i] && !f->trouble; i++)
            if (strcasecmp(mailboxes[i], f->asking) == 0)
                rc = OK;
        snprintf(dir, sizeof(dir), "box/%s", f->asking);
        route_known(r, rc, slice_of(dir));
    }
}

static void go(struct fixture *f, const char *address, bool may_relay)
{
    struct route_check check = {
        .address = slice_of(address), .sender = slice_of(f->sender), .may_relay = may_relay};
    f->done = false;
    f->recipients[0] = '\0';
    route_run(route_new(f->maps, &check, ask, done, f));
    play_authd(f);
    assert_true(f->done);
}

static void accepted(void **state, const char *address, const char *recipients)
{
    struct fixture *f = *state;
    go(f, address, false);
    if (f->code != 250 || strcmp(f->recipients, recipients) != 0)
        fail_msg(
            "%s: wanted %s, got %u %s %s", address, recipients, f->code, f->reason, f->recipients);
}

static void relayed(void **state, const char *address, const char *recipients)
{
    struct fixture *f = *state;
    go(f, address, true);
    if (f->code != 250 || strcmp(f->recipients, recipients) != 0)
        fail_msg(
            "%s: wanted %s, got %u %s %s", address, recipients, f->code, f->reason, f->recipients);
}

static void refused(
    void **state, const char *address, unsigned code, const char *dsn, const char *rule)
{
    struct fixture *f = *state;
    go(f, address, false);
    if (f->code != code || strcmp(f->dsn, dsn) != 0 || strcmp(f->rule, rule) != 0)
        fail_msg("%s: wanted %u %s %s, got %u %s %s %s", address, code, dsn, rule, f->code, f->dsn,
            f->rule, f->recipients);
    assert_string_equal(f->recipients, "");
}

static void test_virtual_mailbox_goes_to_its_directory(void **state)
{
    accepted(state, "alice@EXAMPLE.org", "alice@example.org=virtual:box/alice@example.org");
}

static void test_unknown_user_is_refused(void **state)
{
    refused(state, "nobody@strict.example", 550, "5.1.1", "unknown-user");
    refused(state, "nobody@host.example", 550, "5.1.1", "unknown-user");
    refused(state, "nobody", 550, "5.1.1", "unknown-user");
}

static void test_malformed_address_is_refused(void **state)
{
    refused(state, "a b@example.org", 501, "5.1.3", "syntax");
    refused(state, "", 501, "5.1.3", "syntax");
    refused(state, "a@", 501, "5.1.3", "syntax");
}

static void test_plus_detail_falls_back_to_the_user(void **state)
{
    accepted(state, "bob+x@strict.example",
        "copy@far.example=remote:far.example bob@strict.example=virtual:box/bob@strict.example");
    accepted(state, "a+b@strict.example", "a+b@strict.example=virtual:box/a+b@strict.example");
    accepted(state, "catcher+x+y@nocatch.example",
        "catcher+x+y@nocatch.example=virtual:box/catcher@nocatch.example//x+y");
    refused(state, "alice+x@noplus.example", 550, "5.1.1", "unknown-user");
    accepted(state, "dave+x@host.example", "dave+x@host.example=local:dave//x");
    accepted(state, "dave+@host.example", "dave+@host.example=local:dave");
}

static void test_detail_is_a_folder_asked_for_and_never_part_of_the_place(void **state)
{
    char address[200], wanted[300], most[64];
    accepted(state, "catcher+a/b@nocatch.example",
        "catcher+a/b@nocatch.example=virtual:box/catcher@nocatch.example//a/b");
    refused(state, "catcher+../../x@nocatch.example", 501, "5.1.3", "syntax");
    accepted(state, "\"dave+../../etc//x@y\"@host.example",
        "\"dave+../../etc//x@y\"@host.example=local:dave//../../etc//x@y");
    accepted(state, "dave+Lists/2024@host.example",
        "dave+Lists/2024@host.example=local:dave//Lists/2024");
    memset(most, 'x', sizeof(most));
    snprintf(address, sizeof(address), "dave+%.59s@host.example", most);
    snprintf(wanted, sizeof(wanted), "%s=local:dave//%.59s", address, most);
    accepted(state, address, wanted);
}

static void test_catch_all_takes_the_rest(void **state)
{
    accepted(state, "whoever@example.org",
        "catcher@nocatch.example=virtual:box/catcher@nocatch.example");
}

static void test_postmaster_is_accepted_for_every_domain_of_ours(void **state)
{
    const char *alice = "alice@example.org=virtual:box/alice@example.org";
    accepted(state, "postmaster@example.org", alice);
    accepted(state, "Postmaster@strict.example", alice);
    accepted(state, "postmaster@host.example", alice);
    accepted(state, "postmaster@mail.example.org", alice);
    accepted(state, "postmaster", alice);
}

static void test_relaying_needs_the_right(void **state)
{
    refused(state, "x@far.example", 554, "5.7.1", "relay-denied");
    relayed(state, "x@far.example", "x@far.example=remote:far.example");
    relayed(state, "x@[192.0.2.7]", "x@[192.0.2.7]=remote:[192.0.2.7]");
    refused(state, "x@[192.0.2.7]", 554, "5.7.1", "relay-denied");
    struct fixture *f = *state;
    go(f, "x@single", true);
    assert_int_equal(f->code, 550);
    assert_string_equal(f->dsn, "5.1.2");
}

static void test_relay_domains_go_to_their_relay(void **state)
{
    accepted(state, "any@backup.example", "any@backup.example=remote:[192.0.2.1]:2525");
    accepted(state, "any@lm.example", "any@lm.example=remote:lmtp:[127.0.0.1]:24");
}

static void test_transport_table_directs(void **state)
{
    relayed(state, "x@example.net", "x@example.net=remote:[198.51.100.1]:26");
    relayed(state, "x@a.b.example.net", "x@a.b.example.net=remote:relay.example.net");
    relayed(state, "one@example.net", "one@example.net=remote:example.net");
    accepted(state, "x@mapped.example", "x@mapped.example=remote:lmtp:[127.0.0.1]:2424");
    refused(state, "x@example.net", 554, "5.7.1", "relay-denied");
    struct fixture *f = *state;
    go(f, "x@odd.example", true);
    assert_int_equal(f->code, 451);
    assert_true(f->fault);
}

static void test_virtual_aliases_expand_and_keep_copies(void **state)
{
    const char *both = "alice@example.org=virtual:box/alice@example.org "
                       "bob@strict.example=virtual:box/bob@strict.example "
                       "copy@far.example=remote:far.example";
    accepted(state, "team@strict.example", both);
    accepted(state, "alice@alias.example", "alice@example.org=virtual:box/alice@example.org");
    accepted(state, "twice@strict.example", "alice@example.org=virtual:box/alice@example.org");
    accepted(state, "self@strict.example",
        "self@strict.example=virtual:box/self@strict.example "
        "bob@strict.example=virtual:box/bob@strict.example copy@far.example=remote:far.example");
}

static void test_alias_loops_are_refused_and_logged(void **state)
{
    refused(state, "loop1@strict.example", 554, "5.4.6", "alias-loop");
    assert_true(fixture.fault);
}

static void test_depth_is_bounded(void **state)
{
    struct fixture *f = *state;
    struct buf text;
    buf_init(&text, 65536);
    for (int i = 0; i < 40; i++)
        buf_printf(&text, "n%d@strict.example n%d@strict.example\n", i, i + 1);
    buf_putc(&text, '\0');
    put(f, "virtual", text.data);
    refused(state, "n0@strict.example", 554, "5.4.6", "alias-limit");
    buf_clear(&text);
}

/* A member who has gone is returned to the sender; the others get their mail. */
static void test_a_stale_member_does_not_spoil_an_alias(void **state)
{
    accepted(state, "stale@strict.example",
        "gone@strict.example=local:gone@strict.example "
        "alice@example.org=virtual:box/alice@example.org");
    refused(state, "allgone@strict.example", 550, "5.1.1", "unknown-user");
}

static void test_local_aliases_and_accounts(void **state)
{
    accepted(state, "dave@host.example", "dave@host.example=local:dave");
    accepted(state, "DAVE", "DAVE@host.example=local:dave");
    accepted(state, "carol@host.example",
        "carol@host.example=local:carol far@far.example=remote:far.example");
    accepted(state, "root@host.example",
        "carol@host.example=local:carol far@far.example=remote:far.example");
    accepted(state, "list@host.example",
        "alice@example.org=virtual:box/alice@example.org dave@host.example=local:dave "
        "carol@host.example=local:carol far@far.example=remote:far.example");
}

static void test_included_files_expand(void **state)
{
    accepted(state, "inc@host.example",
        "alice@example.org=virtual:box/alice@example.org dave@host.example=local:dave");
    refused(state, "noinc@host.example", 451, "4.3.0", "table");
}

static void write_file(struct fixture *f, const char *name, const char *text, mode_t mode)
{
    char path[128];
    put(f, name, text);
    snprintf(path, sizeof(path), "%s/%s", f->dir, name);
    assert_int_equal(chmod(path, mode), 0);
}

static void test_included_files_that_others_could_have_made_are_not_read(void **state)
{
    struct fixture *f = *state;
    char path[128], to[128];
    snprintf(path, sizeof(path), "%s/link", f->dir);
    snprintf(to, sizeof(to), "%s/members", f->dir);
    assert_int_equal(symlink(to, path), 0);
    refused(state, "inclink@host.example", 451, "4.3.0", "table");
    assert_non_null(strstr(f->reason, "symbolic link"));
    unlink(path);
    assert_int_equal(mkfifo(path, 0644), 0); /* nobody writes: it must not wait */
    refused(state, "inclink@host.example", 451, "4.3.0", "table");
    unlink(path);
    write_file(f, "forall", "dave\n", 0646);
    refused(state, "incall@host.example", 451, "4.3.0", "table");
    assert_non_null(strstr(f->reason, "writable for all"));
    write_file(f, "forall", "dave\n", 0664); /* a group that keeps a list is usual */
    accepted(state, "incall@host.example", "dave@host.example=local:dave");
    assert_int_equal(chmod(f->dir, 0777), 0);
    refused(state, "incall@host.example", 451, "4.3.0", "table");
    assert_int_equal(chmod(f->dir, 01777), 0); /* as /tmp, and the file is ours */
    accepted(state, "incall@host.example", "dave@host.example=local:dave");
    assert_int_equal(chmod(f->dir, 0700), 0);
    refused(state, "incdir@host.example", 451, "4.3.0", "table");
}

static void test_included_files_name_people_only(void **state)
{
    struct fixture *f = *state;
    write_file(f, "withfile", "dave\n/var/mail/x\n", 0600);
    refused(state, "incfile@host.example", 554, "5.3.5", "alias-target");
    write_file(f, "withfile", "\"|/bin/x\"\n", 0600);
    refused(state, "incfile@host.example", 554, "5.3.5", "alias-target");
    write_file(f, "self", ":include:%s/self\n", 0600);
    refused(state, "incself@host.example", 554, "5.4.6", "alias-limit");
    write_file(f, "names",
        "# people\nFull Name <dave@host.example>\n  carol@x.example (Carol, C.)\n"
        "\"Last, First\" <b@x.example>, # more\nc@x.example\n",
        0600);
    accepted(state, "incnames@host.example",
        "dave@host.example=local:dave carol@x.example=remote:x.example "
        "b@x.example=remote:x.example c@x.example=remote:x.example");
}

static void test_a_backslash_means_the_account_itself(void **state)
{
    accepted(state, "lit@host.example",
        "carol@host.example=local:carol alice@example.org=virtual:box/alice@example.org");
}

static void test_what_a_list_sends_on_is_its_owners(void **state)
{
    struct fixture *f = *state;
    f->sender = "someone@far.example";
    accepted(state, "news@host.example",
        "dave@host.example=local:dave<owner-news@host.example "
        "far@far.example=remote:far.example<owner-news@host.example "
        "bare@far.example=remote:far.example<owner-inner@host.example");
    accepted(state, "news+x@host.example",
        "dave@host.example=local:dave<owner-news@host.example "
        "far@far.example=remote:far.example<owner-news@host.example "
        "bare@far.example=remote:far.example<owner-inner@host.example");
    accepted(state, "list@host.example",
        "alice@example.org=virtual:box/alice@example.org dave@host.example=local:dave "
        "carol@host.example=local:carol far@far.example=remote:far.example");
}

static void test_owners_requests_and_reports_keep_their_sender(void **state)
{
    struct fixture *f = *state;
    f->sender = "someone@far.example";
    accepted(state, "owner-news@host.example",
        "carol@host.example=local:carol far@far.example=remote:far.example");
    accepted(state, "news-request@host.example", "dave@host.example=local:dave");
    f->sender = "";
    accepted(state, "inner@host.example", "bare@far.example=remote:far.example");
}

static void test_a_loop_of_aliases_is_refused(void **state)
{
    refused(state, "loop1@host.example", 554, "5.4.6", "alias-loop");
    accepted(state, "keeps@host.example", /* no account is called so: it is returned */
        "keeps@host.example=local:keeps@host.example dave@host.example=local:dave");
}

static const char PIPE[] = "pipe { command-user mailer }\n";

static void test_commands_and_files_are_for_the_account_that_was_chosen(void **state)
{
    struct fixture *f = *state;
    char text[2048];
    struct error err = {0};
    maps_free(f->maps);
    conf_free(f->conf);
    snprintf(text, sizeof(text), "%s%s", CONF, PIPE);
    put(f, "conf", text);
    snprintf(text, sizeof(text), "%s/conf", f->dir);
    f->conf = conf_load(text, NULL, &err);
    f->maps = maps_new(f->conf, f->dir, &err);
    assert_non_null(f->maps);
    accepted(state, "prog@host.example", "prog@host.example=pipe:mailer//|/usr/bin/filter --x");
    accepted(state, "file@host.example", "file@host.example=pipe:mailer///var/mail/file");
}

static void test_commands_and_files_are_refused_not_dropped(void **state)
{
    refused(state, "prog@host.example", 554, "5.3.5", "alias-target");
    assert_true(fixture.fault);
    refused(state, "file@host.example", 554, "5.3.5", "alias-target");
    refused(state, "cmd@strict.example", 554, "5.3.5", "alias-target");
}

static void test_table_and_authd_trouble_is_temporary(void **state)
{
    struct fixture *f = *state;
    f->trouble = true;
    refused(state, "alice@example.org", 451, "4.3.0", "users");
    f->trouble = false;
    put(f, "virtual", "broken\n");
    refused(state, "alice@example.org", 451, "4.3.0", "table");
    assert_true(f->fault);
}

static void assert_held(
    void **state, const char *client, const char *sender, const char *to, const char *by)
{
    struct fixture *f = *state;
    struct route_check check = {
        .address = slice_of(to), .sender = slice_of(sender), .client = slice_of(client)};
    f->done = false;
    f->recipients[0] = '\0';
    route_run(route_new(f->maps, &check, ask, done, f));
    play_authd(f);
    assert_int_equal(f->code, 250);
    assert_string_equal(f->hold, by);
}

static void test_mail_is_held_by_client_sender_or_recipient(void **state)
{
    const char *alice = "alice@example.org";
    assert_held(state, "192.0.2.66", "a@b.example", alice, "client=192.0.2.66");
    assert_held(state, "198.51.100.7", "a@b.example", alice, "client=198.51.100");
    assert_held(state, "198.51.10.7", "a@b.example", alice, "");
    assert_held(state, "2001:db8:1::1", "a@b.example", alice, "client=2001:db8");
    assert_held(state, "192.0.2.1", "a@Suspect.example", alice, "sender=Suspect.example");
    assert_held(state, "192.0.2.1", "", alice, "sender=<>");
    assert_held(
        state, "192.0.2.1", "a@b.example", "bob@strict.example", "recipient=bob@strict.example");
    assert_held(state, "192.0.2.1", "a@b.example", alice, "");
    assert_held(state, "", "", alice, ""); /* our own */
}

static void test_u_labels_are_the_same_domain_as_a_labels(void **state)
{
    relayed(state,
        "a@b\xc3\xbc"
        "cher.example",
        "a@xn--bcher-kva.example=remote:xn--bcher-kva.example");
    refused(state, "a@\xe2\x80\x8e.example", 501, "5.1.3", "syntax");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
static void test_a_full_account_is_refused_but_not_behind_an_alias(void **state)
{
    struct fixture *f = *state;
    go(f, "dave+Work@host.example", false);
    assert_int_equal(f->accounts, 0); /* without limits nobody is asked */
    snprintf(f->maps->limits, sizeof(f->maps->limits), "bytes 1000\n");
    go(f, "dave+Work@host.example", false);
    assert_int_equal(f->code, 250);
    assert_int_equal(f->accounts, 1);
    assert_string_equal(f->folder, "Work");
    f->room = ERR_QUOTA;
    go(f, "dave@host.example", false);
    assert_int_equal(f->code, 552);
    assert_string_equal(f->dsn, "5.2.2");
    f->room = ERR_AGAIN;
    go(f, "dave@host.example", false);
    assert_int_equal(f->code, 452);
    go(f, "root@host.example", false);
    assert_int_equal(f->code, 250);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_virtual_mailbox_goes_to_its_directory),
        TEST(test_mail_is_held_by_client_sender_or_recipient),
        TEST(test_u_labels_are_the_same_domain_as_a_labels),
        TEST(test_unknown_user_is_refused),
        TEST(test_a_full_account_is_refused_but_not_behind_an_alias),
        TEST(test_malformed_address_is_refused),
        TEST(test_plus_detail_falls_back_to_the_user),
        TEST(test_detail_is_a_folder_asked_for_and_never_part_of_the_place),
        TEST(test_catch_all_takes_the_rest),
        TEST(test_postmaster_is_accepted_for_every_domain_of_ours),
        TEST(test_relaying_needs_the_right),
        TEST(test_relay_domains_go_to_their_relay),
        TEST(test_transport_table_directs),
        TEST(test_virtual_aliases_expand_and_keep_copies),
        TEST(test_alias_loops_are_refused_and_logged),
        TEST(test_depth_is_bounded),
        TEST(test_a_stale_member_does_not_spoil_an_alias),
        TEST(test_local_aliases_and_accounts),
        TEST(test_included_files_expand),
        TEST(test_included_files_that_others_could_have_made_are_not_read),
        TEST(test_included_files_name_people_only),
        TEST(test_a_backslash_means_the_account_itself),
        TEST(test_what_a_list_sends_on_is_its_owners),
        TEST(test_owners_requests_and_reports_keep_their_sender),
        TEST(test_a_loop_of_aliases_is_refused),
        TEST(test_commands_and_files_are_for_the_account_that_was_chosen),
        TEST(test_commands_and_files_are_refused_not_dropped),
        TEST(test_table_and_authd_trouble_is_temporary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
