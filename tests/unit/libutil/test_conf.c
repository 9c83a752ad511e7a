#include "libutil/conf.h"
#include "libutil/net.h"
#include "libutil/role.h"

#include <setjmp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static const char GOOD[] = "hostname mail.example.org # the name\n"
                           "admin admin@example.org; message-size 10M\n"
                           "networks 192.0.2.0/24\n"
                           "networks 2001:db8::/32 10.0.0.1\n"
                           "tls { cert tls/cert.pem; key /k/key.pem }\n"
                           "listen smtp { on *:25 [::1]:2525; timeout 90s }\n"
                           "listen submission {\n"
                           "    on 127.0.0.1:587\n"
                           "    on 127.0.0.1:465s\n"
                           "}\n"
                           "users inline:{a@b=x, c@d=y}\n"
                           "domain example.org example.net { store {domain}/{user}/mail }\n";

struct parsed {
    struct conf *conf;
    struct buf errors;
    struct error err;
};

/* With the checks between keys, as conf_load does. */
static void parse(struct parsed *p, const char *text)
{
    buf_init(&p->errors, 65536);
    p->err = (struct error){0};
    p->conf =
        conf_parse("/etc/v/veredus.conf", slice_of(text), &conf_root_schema, &p->errors, &p->err);
    if (p->conf && conf_check(p->conf, &p->errors, &p->err)) {
        conf_free(p->conf);
        p->conf = NULL;
    }
    buf_putc(&p->errors, '\0');
}

static void done(struct parsed *p)
{
    conf_free(p->conf);
    buf_clear(&p->errors);
}

/* The text must be refused with each of these in the errors. */
static void assert_refused(const char *text, const char *want)
{
    struct parsed p;
    parse(&p, text);
    if (p.conf || !strstr(p.errors.data, want))
        fail_msg("wanted: %s\ngot: %s", want, p.errors.data);
    assert_true(p.err.text[0] != '\0');
    done(&p);
}

static void test_values_are_typed_and_repeated_lists_join(void **state)
{
    (void)state;
    struct parsed p;
    parse(&p, GOOD);
    assert_string_equal(p.errors.data, "");
    const struct conf_block *root = conf_root(p.conf);
    assert_true(slice_is(conf_string(root, "hostname"), "mail.example.org"));
    assert_int_equal(conf_int(root, "message-size"), 10 * 1024 * 1024);
    assert_int_equal(conf_list_len(root, "networks"), 3);
    assert_true(slice_is(conf_list_at(root, "networks", 2), "10.0.0.1"));
    const struct conf_block *l = conf_next(root, "listen", NULL);
    assert_true(slice_is(conf_arg(l, 0), "smtp"));
    assert_int_equal(conf_int(l, "timeout"), 90000);
    assert_true(slice_is(conf_string(l, "auth"), "none"));
    l = conf_next(root, "listen", l);
    assert_int_equal(conf_list_len(l, "on"), 2);
    assert_true(slice_is(conf_string(l, "protocol"), "submission"));
    assert_true(slice_is(conf_string(l, "auth"), "required"));
    assert_null(conf_next(root, "listen", l));
    assert_true(slice_is(conf_string(root, "users"), "inline:{a@b=x, c@d=y}"));
    const struct conf_block *d = conf_next(root, "domain", NULL);
    assert_int_equal(conf_args(d), 2);
    assert_true(slice_is(conf_string(d, "store"), "{domain}/{user}/mail"));
    done(&p);
}

static void test_unset_keys_give_their_defaults(void **state)
{
    (void)state;
    struct parsed p;
    parse(&p, GOOD);
    const struct conf_block *out = conf_one(p.conf, "outbound");
    assert_int_equal(conf_int(out, "concurrency"), 20);
    assert_int_equal(conf_int(out, "retry-to"), 4 * 3600 * 1000);
    assert_false(conf_isset(out, "concurrency"));
    assert_false(conf_isset(out, "relay-host"));
    assert_null(conf_string(out, "relay-host").p);
    assert_true(conf_bool(conf_next(conf_root(p.conf), "domain", NULL), "plus-address"));
    assert_true(slice_is(conf_string(conf_default_block(p.conf, "listen"), "tls"), "optional"));
    done(&p);
}

static void test_relative_paths_start_at_the_file(void **state)
{
    (void)state;
    struct parsed p;
    parse(&p, "hostname h\nusers text:u\ntls { cert ./c.pem; key /k }\ndirectory .\n");
    const struct conf_block *root = conf_root(p.conf);
    assert_true(slice_is(conf_string(root, "users"), "text:/etc/v/u"));
    assert_true(slice_is(conf_string(conf_one(p.conf, "tls"), "cert"), "/etc/v/c.pem"));
    assert_true(slice_is(conf_string(root, "directory"), "/etc/v"));
    assert_true(slice_is(conf_string(root, "mail-root"), "/etc/v/mail"));
    assert_true(slice_is(conf_list_at(conf_one(p.conf, "log"), "to", 1), "/etc/v/log/veredus.log"));
    done(&p);
}

static void test_errors_name_file_line_key_and_what_is_allowed(void **state)
{
    (void)state;
    assert_refused("hostname h\nmessage-size 10X\n",
        "/etc/v/veredus.conf:2: message-size: '10X' is not allowed: must be a size such as 512, "
        "10K, 25M or 2G, from 1K to 2G");
    assert_refused("hostname h\nlog {\n level loud\n}\n",
        "/etc/v/veredus.conf:3: level: 'loud' is not allowed: must be one of debug, info, notice, "
        "warn, error");
    assert_refused("hostname h\noutbound { port 0 }", "from 1 to 65535");
    assert_refused("hostname h\noutbound { retry-to 4 }", "must be a duration such as");
    assert_refused("hostname h\ndomain a.b { plus-address maybe }", "must be yes or no");
    assert_refused("hostname h i\n", "hostname: too many words: must be one word");
    assert_refused("hostname\n", "hostname: its value is missing");
    assert_refused("hostname h\nusers db:/x\n", "must be hash:PATH, btree:PATH");
    assert_refused("hostname h\nnetworks 10.0.0.1/8\n", "bits set beyond its prefix");
    assert_refused("hostname h\ndomain a.b { store /abs/{user} }", "must be a relative path");
    assert_refused("hostname h\ndomain a.b { store {domain} }", "must contain {user}");
    assert_refused("hostname h\nlocal { mailbox /var/mail }", "must be a Maildir");
    assert_refused("hostname h\nlocal { mailbox /var/mail/{user}/ }", "must be a Maildir");
    assert_refused("hostname h\nlocal { mailbox /var/{user}/x }", "must be a Maildir");
    assert_refused("hostname h\nlocal { mailbox /var/../x/{user} }", "must be a Maildir");
    assert_refused("hostname h\nlocal { mailbox ../x }", "must be a relative path");
}

static void test_unknown_keys_suggest_the_nearest(void **state)
{
    (void)state;
    assert_refused("hostnmae h\n", "hostnmae: no such key; did you mean hostname?");
    assert_refused("hostname h\nlisten smtp { on *:25; time-out 5m }",
        "time-out: no such key in listen; did you mean timeout?");
    assert_refused("hostname h\nqqqqqqqq { x { y 1 } }\n", "qqqqqqqq: no such key (");
}

static void test_all_errors_are_reported_in_one_go(void **state)
{
    (void)state;
    struct parsed p;
    parse(&p, "hostname h\nbogus 1\nmessage-size x\nlisten smtp { frob { a b }\n max-errors 0 }\n");
    assert_null(p.conf);
    assert_non_null(strstr(p.errors.data, ":2: bogus"));
    assert_non_null(strstr(p.errors.data, ":3: message-size"));
    assert_non_null(strstr(p.errors.data, ":4: frob"));
    assert_non_null(strstr(p.errors.data, ":5: max-errors"));
    assert_non_null(strstr(p.err.text, ":2: bogus"));
    done(&p);
}

static void test_malformed_text_is_refused(void **state)
{
    (void)state;
    assert_refused("hostname \"h\n", "closing quote");
    assert_refused("hostname \"h\\x\"\n", "\\ stands only before");
    assert_refused("hostname \"h\"x\n", "a blank must follow");
    assert_refused("hostname h\n}\n", "'}' without a block");
    assert_refused("hostname h\n{ a b }\n", "'{' without the name");
    assert_refused("hostname h\ntls { cert x\n", ":2: tls: its block is not closed");
    assert_refused("hostname h\ntls\n", "a block in braces must follow");
    assert_refused("hostname h\nlisten { on *:25 }\n", "takes 1 to 1 words");
    assert_refused("hostname h\nusers inline:{a=b\n", "closing brace");
    assert_refused("hostname h\nhostname i\n", "given twice, first in line 1");
    assert_refused("hostname h\ntls { }\ntls { }\n", "tls: given twice, first at");
}

static void test_a_nul_byte_is_refused(void **state)
{
    (void)state;
    struct error err = {0};
    assert_null(conf_parse("f", SLICE_LIT("hostname a\0b\n"), &conf_root_schema, NULL, &err));
    assert_non_null(strstr(err.text, "NUL"));
}

static void test_words_are_not_reserved_and_quotes_hold_anything(void **state)
{
    (void)state;
    struct parsed p;
    parse(&p, "hostname include\nadmin include\nlisten \"a b{;\\\"\" { protocol smtp; on *:25 }\n");
    assert_string_equal(p.errors.data, "");
    assert_true(slice_is(conf_string(conf_root(p.conf), "hostname"), "include"));
    assert_true(slice_is(conf_arg(conf_next(conf_root(p.conf), "listen", NULL), 0), "a b{;\""));
    done(&p);
}

static void test_rules_between_keys(void **state)
{
    (void)state;
    assert_refused("admin a\n", "the key hostname is missing");
    assert_refused("hostname h\nlisten smtp { }", "listen: its key on is missing");
    assert_refused("hostname h\nlisten x { on *:25 }", "protocol is missing");
    assert_refused("hostname h\nlisten smtp { on *:25; tls required }", "tls: required, but tls {");
    assert_refused("hostname h\nlisten smtp { on *:465s }", "asks for TLS, but");
    assert_refused("hostname h\nlisten smtp { on *:25 127.0.0.1:25 }", "in use already");
    assert_refused(
        "hostname h\nlisten smtp { on 127.0.0.1:25 }\nlisten lmtp { on *:25 }", "in use");
    assert_refused("hostname h\nlisten smtp { on *:1 }\nlisten smtp { on *:2 }", "is used already");
    assert_refused("hostname h\ntls { cert c }", "key is missing: cert and key go together");
    assert_refused("hostname h\ndomain A.b { }\ndomain a.B { }", "a.b is given already");
    assert_refused("hostname h\ndomain a.b { }\nlocal { domains a.b }", "a.b is given already");
    assert_refused("hostname h\ndomain a.b { relay x; catch-all y@z }",
        "no mail is kept here: catch-all cannot be set");
    assert_refused("hostname h\ndomain a.b { relay x; quota 1G }", "quota cannot be set");
    assert_refused(
        "hostname h\ndomain a.b { relay x; expire Trash { after 1d } }", "expire cannot be set");
    assert_refused("hostname h\nlisten submission { on *:587; plaintext-auth never }", "log in");
    assert_refused("hostname h\noutbound { retry-from 5h }", "retry-from is longer");
    assert_refused("hostname h\nlog { to syslog x }", "must be: to file PATH");
}

static void test_listener_forms(void **state)
{
    (void)state;
    struct net_listen on;
    assert_int_equal(net_listen_parse(SLICE_LIT("*:25"), &on, NULL), OK);
    assert_true(slice_is(on.host, "*") && on.port == 25 && !on.tls);
    assert_int_equal(net_listen_parse(SLICE_LIT("127.0.0.1:465s"), &on, NULL), OK);
    assert_true(slice_is(on.host, "127.0.0.1") && on.port == 465 && on.tls);
    assert_int_equal(net_listen_parse(SLICE_LIT("[::1]:25"), &on, NULL), OK);
    assert_true(slice_is(on.host, "::1") && on.port == 25);
    const char *bad[] = {"", "25", ":25", "*:0", "*:65536", "*:", "::1:25", "a.b:25", "[::1]",
        "*:25x", "[127.0.0.1:25", "1.2.3:25", "*:s"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (net_listen_parse(slice_of(bad[i]), &on, NULL) == OK)
            fail_msg("%s was accepted", bad[i]);
}

static void test_networks_match_by_prefix_and_mapped_addresses(void **state)
{
    (void)state;
    struct net_block b;
    struct net_addr a;
    assert_int_equal(net_block_parse(SLICE_LIT("192.0.2.128/25"), &b, NULL), OK);
    assert_int_equal(net_addr_parse(SLICE_LIT("::ffff:192.0.2.200"), &a), OK);
    assert_true(net_block_contains(&b, &a));
    assert_int_equal(net_addr_parse(SLICE_LIT("192.0.2.127"), &a), OK);
    assert_false(net_block_contains(&b, &a));
    assert_int_equal(net_addr_parse(SLICE_LIT("IPv6:::1"), &a), OK);
    assert_true(net_addr_is_loopback(&a));
    assert_false(net_block_contains(&b, &a));
}

/* What master hands over must mean the same to the process that parses it. */
static void test_written_configuration_parses_back_to_the_same_values(void **state)
{
    (void)state;
    struct parsed p;
    struct buf text, again, diff;
    struct error err = {0};
    parse(&p, GOOD);
    buf_init(&text, 1 << 20);
    buf_init(&again, 1 << 20);
    buf_init(&diff, 1 << 20);
    for (int role = -1; role < ROLE_ANY_COUNT; role++) {
        buf_reset(&text);
        buf_reset(&again);
        conf_write(p.conf, role, &text);
        struct conf *c = conf_parse("elsewhere", buf_slice(&text), &conf_root_schema, NULL, &err);
        if (!c)
            fail_msg("role %d: %s", role, err.text);
        conf_write(c, role, &again);
        assert_true(slice_eq(buf_slice(&text), buf_slice(&again)));
        if (role < 0)
            assert_int_equal(conf_diff(p.conf, c, &diff), 0);
        conf_free(c);
    }
    buf_clear(&text);
    buf_clear(&again);
    buf_clear(&diff);
    done(&p);
}

static void test_a_role_is_given_only_what_it_reads(void **state)
{
    (void)state;
    struct parsed p;
    struct buf text;
    parse(&p, GOOD);
    buf_init(&text, 1 << 20);
    conf_write(p.conf, ROLE_SMTPD, &text);
    buf_putc(&text, '\0');
    assert_non_null(strstr(text.data, "cert /etc/v/tls/cert.pem"));
    assert_null(strstr(text.data, "key.pem"));
    assert_null(strstr(text.data, "a@b=x"));
    assert_null(strstr(text.data, "{user}/mail"));
    buf_reset(&text);
    conf_write(p.conf, ROLE_KEYD, &text);
    buf_putc(&text, '\0');
    assert_non_null(strstr(text.data, "key /k/key.pem"));
    assert_null(strstr(text.data, "listen"));
    buf_clear(&text);
    done(&p);
}

static void test_diff_shows_old_and_new_values(void **state)
{
    (void)state;
    struct parsed a, b;
    struct buf out;
    parse(&a, "hostname h\nlisten smtp { on *:25; timeout 60s }\n");
    parse(&b, "hostname h\nlisten smtp { on *:26; timeout 1m }\ndomain a.b { }\n");
    buf_init(&out, 65536);
    assert_true(conf_diff(a.conf, b.conf, &out) > 2);
    buf_putc(&out, '\0');
    assert_non_null(strstr(out.data, "- listen smtp on *:25\n"));
    assert_non_null(strstr(out.data, "+ listen smtp on *:26\n"));
    assert_non_null(strstr(out.data, "+ domain a.b {}\n"));
    assert_null(strstr(out.data, "timeout"));
    buf_clear(&out);
    done(&a);
    done(&b);
}

static void test_explain_tells_type_default_and_suggests(void **state)
{
    (void)state;
    struct buf out;
    struct error err = {0};
    buf_init(&out, 65536);
    assert_int_equal(conf_explain("listen.timeout", &out, &err), OK);
    buf_putc(&out, '\0');
    assert_non_null(strstr(out.data, "listen.timeout: duration\n"));
    assert_non_null(strstr(out.data, "from 1s to 1d\ndefault: 5m\n"));
    assert_int_equal(conf_explain("listen.timeuot", &out, &err), ERR_NOT_FOUND);
    assert_non_null(strstr(err.text, "did you mean timeout?"));
    assert_int_equal(conf_explain("hostname.x", &out, &err), ERR_NOT_FOUND);
    buf_clear(&out);
}

static void test_files_are_included_in_place_and_cycles_end(void **state)
{
    (void)state;
    char dir[] = "/tmp/veredus-conf-XXXXXX", path[128], sub[128];
    struct buf errors;
    struct error err = {0};
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/veredus.conf", dir);
    snprintf(sub, sizeof(sub), "%s/sub", dir);
    FILE *f = fopen(path, "w");
    fputs("hostname h\ntls { include sub }\n", f);
    fclose(f);
    f = fopen(sub, "w");
    fputs("cert c\nkey k\n", f);
    fclose(f);
    buf_init(&errors, 65536);
    struct conf *c = conf_load(path, &errors, &err);
    if (!c)
        fail_msg("%s", err.text);
    assert_true(slice_starts(conf_string(conf_one(c, "tls"), "cert"), dir));
    conf_free(c);
    f = fopen(sub, "w");
    fputs("include sub\n", f);
    fclose(f);
    assert_null(conf_load(path, &errors, &err));
    assert_non_null(strstr(err.text, "nested more than"));
    unlink(sub);
    assert_null(conf_load(path, &errors, &err));
    assert_non_null(strstr(err.text, "veredus.conf:2: include: "));
    assert_non_null(strstr(err.text, "No such file"));
    unlink(path);
    assert_null(conf_load(path, &errors, &err));
    assert_non_null(strstr(err.text, path));
    rmdir(dir);
    buf_clear(&errors);
}

static void test_every_default_and_example_is_allowed(void **state)
{
    (void)state;
    for (const struct conf_key *k = conf_root_schema.keys; k->name; k++) {
        assert_non_null(k->help);
        assert_true(k->readers != 0);
        for (const struct conf_key *in = k->block ? k->block->keys : NULL; in && in->name; in++) {
            char text[512];
            assert_non_null(in->help);
            assert_true((in->readers & ~k->readers) == 0);
            const char *value = in->def && *in->def ? in->def : in->example;
            assert_non_null(value);
            const struct conf_key *deep = in->block ? in->block->keys : NULL;
            const char *at = deep ? deep->def && *deep->def ? deep->def : deep->example : "";
            snprintf(text, sizeof(text), "%s %s { %s %s %s %s %s %s }\n", k->name,
                k->example ? k->example : "", in->name, value, deep ? "{" : "",
                deep ? deep->name : "", at, deep ? "}" : "");
            struct error err = {0};
            struct conf *c = conf_parse("t", slice_of(text), &conf_root_schema, NULL, &err);
            if (!c)
                fail_msg("%s: %s", text, err.text);
            conf_free(c);
        }
    }
}

/* etc/veredus.conf is the printed default; uncommented, it is a working configuration. */
static void test_default_file_is_current_and_valid(void **state)
{
    (void)state;
    struct buf text, file, bare;
    char chunk[4096];
    struct parsed p;
    buf_init(&text, 1 << 20);
    buf_init(&file, 1 << 20);
    buf_init(&bare, 1 << 20);
    conf_write_default(&text);
    FILE *f = fopen("etc/veredus.conf", "r");
    assert_non_null(f);
    for (size_t n; (n = fread(chunk, 1, sizeof(chunk), f)) > 0;)
        buf_put(&file, slice_from(chunk, n));
    fclose(f);
    if (!slice_eq(buf_slice(&text), buf_slice(&file)))
        fail_msg("etc/veredus.conf is out of date: veredus config default > etc/veredus.conf");
    for (struct slice rest = buf_slice(&text); rest.n;) {
        struct slice line = slice_cut(&rest, '\n'), t = slice_trim(line);
        if (slice_starts(t, "#") && !slice_starts(t, "# "))
            t = slice_from_index(t, 1);
        buf_put(&bare, t);
        buf_putc(&bare, '\n');
    }
    buf_putc(&text, '\0');
    parse(&p, text.data);
    assert_string_equal(p.errors.data, "");
    done(&p);
    buf_putc(&bare, '\0');
    struct error err = {0};
    struct conf *all = conf_parse("all", slice_of(bare.data), &conf_root_schema, NULL, &err);
    if (!all)
        fail_msg("%s", err.text);
    conf_free(all);
    buf_clear(&text);
    buf_clear(&file);
    buf_clear(&bare);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_are_typed_and_repeated_lists_join),
        cmocka_unit_test(test_unset_keys_give_their_defaults),
        cmocka_unit_test(test_relative_paths_start_at_the_file),
        cmocka_unit_test(test_errors_name_file_line_key_and_what_is_allowed),
        cmocka_unit_test(test_unknown_keys_suggest_the_nearest),
        cmocka_unit_test(test_all_errors_are_reported_in_one_go),
        cmocka_unit_test(test_malformed_text_is_refused),
        cmocka_unit_test(test_a_nul_byte_is_refused),
        cmocka_unit_test(test_words_are_not_reserved_and_quotes_hold_anything),
        cmocka_unit_test(test_rules_between_keys),
        cmocka_unit_test(test_listener_forms),
        cmocka_unit_test(test_networks_match_by_prefix_and_mapped_addresses),
        cmocka_unit_test(test_written_configuration_parses_back_to_the_same_values),
        cmocka_unit_test(test_a_role_is_given_only_what_it_reads),
        cmocka_unit_test(test_diff_shows_old_and_new_values),
        cmocka_unit_test(test_explain_tells_type_default_and_suggests),
        cmocka_unit_test(test_files_are_included_in_place_and_cycles_end),
        cmocka_unit_test(test_every_default_and_example_is_allowed),
        cmocka_unit_test(test_default_file_is_current_and_valid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
