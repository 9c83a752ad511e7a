/* Whole sessions, spoken as a client would. */
#include "tests/unit/imapd/session/dialog.h"

static void test_capability_and_logout(void **state)
{
    dialog(client_a(state), "C: a1 CAPABILITY\n"
                            "S: * CAPABILITY IMAP4rev1 LITERAL+ ID IDLE~\n"
                            "S: a1 OK CAPABILITY completed\n"
                            "C: a2 NAMESPACE\n"
                            "S: * NAMESPACE ((\"\" \"/\")) NIL NIL\n"
                            "S: a2 OK NAMESPACE completed\n"
                            "C: a3 ID (\"name\" \"x\" \"version\" NIL)\n"
                            "S: * ID (\"name\" \"Veredus\")\n"
                            "S: a3 OK ID completed\n"
                            "C: a4 LOGOUT\n"
                            "S: * BYE Logging out\n"
                            "S: a4 OK LOGOUT completed\n"
                            "S: ");
}

static void test_bad_commands_resync(void **state)
{
    dialog(client_a(state), "C: a1 FOO\n"
                            "S: a1 BAD Unknown command\n"
                            "C: a2 NOOP x\n"
                            "S: a2 BAD Too many arguments\n"
                            "C: a3\n"
                            "S: a3 BAD Command missing\n"
                            "C: +\n"
                            "S: * BAD Invalid tag\n"
                            "C: \n"
                            "S: * BAD Invalid tag\n"
                            "C: a4 FETCH 1 FLAGS\n"
                            "S: a4 BAD No mailbox selected\n"
                            "C: a5 SELECT {5+}\n"
                            "C: INBOXx {3}\n"
                            "S: + OK\n"
                            "C: foo\n"
                            "S: a5 BAD Too many arguments\n"
                            "C: a6 SELECT {99999}\n"
                            "S: a6 BAD [TOOBIG] Literal too large\n"
                            "C: a7 UID NOOP\n"
                            "S: a7 BAD Unknown command\n"
                            "C: a8 NOOP\n"
                            "S: a8 OK NOOP completed");
}

static void test_too_many_errors_end_the_session(void **state)
{
    for (int i = 0; i < SESSION_ERRORS_MAX; i++)
        dialog(client_a(state), "C: x BAH\nS: x BAD Unknown command");
    dialog(client_a(state), "S: * BYE Too many errors\nS: ");
}

static void test_an_endless_line_is_refused(void **state)
{
    struct client *c = client_a(state);
    char block[1024];
    memset(block, 'a', sizeof(block));
    send_text(c, SLICE_LIT("l SELECT "));
    for (int i = 0; i < 100; i++)
        send_text(c, slice_from(block, sizeof(block)));
    dialog(c, "C: \nS: * BAD Command line too long\nC: n NOOP\nS: n OK NOOP completed");
}

static void test_select_an_empty_mailbox(void **state)
{
    dialog(client_a(state), "C: a SELECT inbox\n"
                            "S: * FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)\n"
                            "S: * OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen "
                            "\\Draft \\*)] ~\n"
                            "S: * 0 EXISTS\n"
                            "S: * 0 RECENT\n"
                            "S: * OK [UIDVALIDITY ~] ~\n"
                            "S: * OK [UIDNEXT 1] ~\n"
                            "S: * OK [MAILBOXID (F~)] ~\n"
                            "S: a OK [READ-WRITE] SELECT completed\n"
                            "C: b FETCH 1:* FLAGS\n"
                            "S: b OK FETCH completed\n"
                            "C: c FETCH 1 FLAGS\n"
                            "S: c BAD Message number out of range\n"
                            "C: d UID FETCH 1:* FLAGS\n"
                            "S: d OK UID FETCH completed\n"
                            "C: e SEARCH ALL\n"
                            "S: * SEARCH\n"
                            "S: e OK SEARCH completed\n"
                            "C: f SELECT nothing\n"
                            "S: f NO [NONEXISTENT] No such mailbox\n"
                            "C: g FETCH 1 FLAGS\n"
                            "S: g BAD No mailbox selected");
}

static void test_append_and_fetch(void **state)
{
    struct client *c = client_a(state);
    append(c, "one", "\\Flagged");
    dialog(c, "C: a SELECT INBOX\n"
              "S: * FLAGS ~\n"
              "S: * OK [PERMANENTFLAGS ~\n"
              "S: * 1 EXISTS\n"
              "S: * 1 RECENT\n"
              "S: * OK [UNSEEN 1] ~\n"
              "S: * OK [UIDVALIDITY ~\n"
              "S: * OK [UIDNEXT 2] ~\n"
              "S: * OK [MAILBOXID (F~)] ~\n"
              "S: a OK [READ-WRITE] SELECT completed\n"
              "C: b FETCH 1 (UID FLAGS INTERNALDATE RFC822.SIZE)\n"
              "S: * 1 FETCH (UID 1 FLAGS (\\Flagged \\Recent) INTERNALDATE "
              "\"17-Jul-1996 09:44:25 +0000\" RFC822.SIZE 78)\n"
              "S: b OK FETCH completed\n"
              "C: c FETCH 1 ENVELOPE\n"
              "S: * 1 FETCH (ENVELOPE (\"7 Feb 1994 21:52:25 -0800\" \"one\" "
              "((\"Fred\" NIL \"f\" \"x.com\")) ((\"Fred\" NIL \"f\" \"x.com\")) "
              "((\"Fred\" NIL \"f\" \"x.com\")) NIL NIL NIL NIL NIL))\n"
              "S: c OK FETCH completed\n"
              "C: d FETCH 1 (BODY BODYSTRUCTURE)\n"
              "S: * 1 FETCH (BODY (\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" "
              "7 1) BODYSTRUCTURE (\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" "
              "7 1 NIL NIL NIL NIL))\n"
              "S: d OK FETCH completed\n"
              "C: e FETCH 1 BODY.PEEK[HEADER.FIELDS (SUBJECT X-None)]\n"
              "S: * 1 FETCH (BODY[HEADER.FIELDS (SUBJECT X-None)] {16}\n"
              "S: Subject: one\n"
              "S: \n"
              "S: )\n"
              "S: e OK FETCH completed\n"
              "C: f UID FETCH 1 BODY[TEXT]<1.3>\n"
              "S: * 1 FETCH (UID 1 FLAGS (\\Flagged \\Seen \\Recent) BODY[TEXT]<1> {3}\n"
              "S: ell)\n"
              "S: f OK UID FETCH completed\n"
              "C: g FETCH 1 (RFC822.TEXT BODY[]<9999.5>)\n"
              "S: * 1 FETCH (RFC822.TEXT {7}\n"
              "S: hello\n"
              "S:  BODY[]<9999> {0}\n"
              "S: )\n"
              "S: g OK FETCH completed\n"
              "C: h FETCH 1 BODY[2]\n"
              "S: * 1 FETCH (BODY[2] NIL)\n"
              "S: h OK FETCH completed");
}

static void test_append_refusals(void **state)
{
    dialog(client_a(state), "C: a APPEND nothere {5}\n"
                            "S: a NO [TRYCREATE] No such mailbox\n"
                            "C: b APPEND INBOX {99999999}\n"
                            "S: b NO [TOOBIG] Message too large\n"
                            "C: c APPEND nothere {5+}\n"
                            "C: hello\n"
                            "S: c NO [TRYCREATE] No such mailbox\n"
                            "C: d APPEND INBOX (\\Recent) {5+}\n"
                            "C: hello\n"
                            "S: d BAD Flag that cannot be set\n"
                            "C: e APPEND INBOX\n"
                            "S: e BAD ~\n"
                            "C: f APPEND INBOX {5}\n"
                            "S: + Ready~\n"
                            "C: helloworld\n"
                            "S: f BAD Line end expected after the message\n"
                            "C: g APPEND {5}\n"
                            "S: + OK\n"
                            "C: inbox {6}\n"
                            "S: + Ready~\n"
                            "C: A: b\n"
                            "C: \n"
                            "S: g OK [APPENDUID ~ 1] APPEND completed\n"
                            "C: h STATUS INBOX (MESSAGES UNSEEN UIDNEXT)\n"
                            "S: * STATUS \"INBOX\" (MESSAGES 1 UIDNEXT 2 UNSEEN 1)\n"
                            "S: h OK STATUS completed");
}

static void test_store_and_expunge(void **state)
{
    struct client *c = client_a(state);
    for (int i = 0; i < 4; i++)
        append(c, "m", "\\Seen");
    dialog(c, "C: a SELECT INBOX\n"
              "S: * FLAGS~\nS: * OK~\nS: * 4 EXISTS\nS: * 4 RECENT\nS: * OK [UIDV~\nS: * OK~\n"
              "S: * OK~\nS: a OK~\n"
              "C: b STORE 2:3 +FLAGS (\\Deleted)\n"
              "S: * 2 FETCH (FLAGS (\\Deleted \\Seen \\Recent))\n"
              "S: * 3 FETCH (FLAGS (\\Deleted \\Seen \\Recent))\n"
              "S: b OK STORE completed\n"
              "C: c UID STORE 4 FLAGS.SILENT (work)\n"
              "S: * FLAGS (~ work)\n"
              "S: * OK [PERMANENTFLAGS (~ work \\*)] ~\n"
              "S: c OK UID STORE completed\n"
              "C: d FETCH *:4 (FLAGS UID)\n"
              "S: * 4 FETCH (FLAGS (\\Recent work) UID 4)\n"
              "S: d OK FETCH completed\n"
              "C: e SEARCH KEYWORD work UNSEEN\n"
              "S: * SEARCH 4\n"
              "S: e OK SEARCH completed\n"
              "C: f UID EXPUNGE 3,4\n"
              "S: * 3 EXPUNGE\n"
              "S: * 3 RECENT\n"
              "S: f OK UID EXPUNGE completed\n"
              "C: g EXPUNGE\n"
              "S: * 2 EXPUNGE\n"
              "S: * 2 RECENT\n"
              "S: g OK EXPUNGE completed\n"
              "C: h UID SEARCH ALL\n"
              "S: * SEARCH 1 4\n"
              "S: h OK UID SEARCH completed\n"
              "C: i STORE 1 -FLAGS \\Seen\n"
              "S: * 1 FETCH (FLAGS (\\Recent))\n"
              "S: i OK STORE completed");
}

static void test_examine_changes_nothing(void **state)
{
    struct client *c = client_a(state);
    append(c, "m", "");
    dialog(c, "C: a EXAMINE INBOX\n"
              "S: * FLAGS~\nS: * OK [PERMANENTFLAGS ()]~\nS: * 1 EXISTS\nS: * 1 RECENT\nS: * OK~\n"
              "S: * OK~\nS: * OK~\nS: * OK~\n"
              "S: a OK [READ-ONLY] EXAMINE completed\n"
              "C: b STORE 1 FLAGS (\\Deleted)\n"
              "S: b NO Mailbox is read-only\n"
              "C: c FETCH 1 BODY[TEXT]\n"
              "S: * 1 FETCH (BODY[TEXT] {7}\nS: hello\nS: )\n"
              "S: c OK FETCH completed\n"
              "C: d EXPUNGE\n"
              "S: d NO Mailbox is read-only\n"
              "C: e CLOSE\n"
              "S: e OK CLOSE completed\n"
              "C: f STATUS INBOX (UNSEEN RECENT)\n"
              "S: * STATUS \"INBOX\" (RECENT 1 UNSEEN 1)\n"
              "S: f OK STATUS completed");
}

static void test_folders(void **state)
{
    dialog(client_a(state), "C: a CREATE foo/bar\n"
                            "S: a OK [MAILBOXID (F~)] CREATE completed\n"
                            "C: a2 CREATE Sent\n"
                            "S: a2 OK [MAILBOXID (F~)] CREATE completed\n"
                            "C: a3 CREATE \"&U,BTFw-\"\n"
                            "S: a3 OK [MAILBOXID (F~)] CREATE completed\n"
                            "C: b LIST \"\" \"\"\n"
                            "S: * LIST (\\Noselect) \"/\" \"\"\n"
                            "S: b OK LIST completed\n"
                            "C: c LIST \"\" %\n"
                            "S: * LIST (\\HasNoChildren) \"/\" \"INBOX\"\n"
                            "S: * LIST (\\HasNoChildren \\Sent) \"/\" \"Sent\"\n"
                            "S: * LIST (\\Noselect \\HasChildren) \"/\" \"foo\"\n"
                            "S: * LIST (\\HasNoChildren) \"/\" \"&U,BTFw-\"\n"
                            "S: c OK LIST completed\n"
                            "C: d LIST foo/ *\n"
                            "S: * LIST (\\HasNoChildren) \"/\" \"foo/bar\"\n"
                            "S: d OK LIST completed\n"
                            "C: e SUBSCRIBE foo/bar\n"
                            "S: e OK SUBSCRIBE completed\n"
                            "C: f LSUB \"\" %\n"
                            "S: * LSUB (\\Noselect) \"/\" \"foo\"\n"
                            "S: f OK LSUB completed\n"
                            "C: g LSUB \"\" *\n"
                            "S: * LSUB () \"/\" \"foo/bar\"\n"
                            "S: g OK LSUB completed\n"
                            "C: h CREATE inbox\n"
                            "S: h NO [ALREADYEXISTS] ~\n"
                            "C: i RENAME foo/bar baz\n"
                            "S: i OK RENAME completed\n"
                            "C: j DELETE baz\n"
                            "S: j OK DELETE completed\n"
                            "C: k DELETE baz\n"
                            "S: k NO [NONEXISTENT] ~\n"
                            "C: l DELETE INBOX\n"
                            "S: l NO [NOPERM] ~\n"
                            "C: m CREATE \"&bad\"\n"
                            "S: m BAD ~\n"
                            "C: n CREATE a//b\n"
                            "S: n NO [CANNOT] ~\n"
                            "C: o UNSUBSCRIBE foo/bar\n"
                            "S: o OK ~");
}

static void test_copy_and_move(void **state)
{
    struct client *c = client_a(state);
    append(c, "one", "\\Seen");
    append(c, "two", "");
    append(c, "three", "\\Answered");
    dialog(c, "C: a CREATE box\n"
              "S: a OK ~\n"
              "C: b SELECT INBOX\n"
              "S: * FLAGS~\nS: * OK~\nS: * 3 EXISTS\nS: * 3 RECENT\nS: * OK~\nS: * OK~\nS: * OK~\n"
              "S: * OK~\nS: b OK~\n"
              "C: c COPY 1,3 nothere\n"
              "S: c NO [TRYCREATE] ~\n"
              "C: d COPY 1,3 box\n"
              "S: d OK [COPYUID ~ 1,3 1:2] COPY completed\n"
              "C: e UID MOVE 2 box\n"
              "S: * OK [COPYUID ~ 2 3] Moved\n"
              "S: * 2 EXPUNGE\n"
              "S: * 2 RECENT\n"
              "S: e OK UID MOVE completed\n"
              "C: f UID COPY 2 box\n"
              "S: f OK No matching messages\n"
              "C: g SELECT box\n"
              "S: * FLAGS~\nS: * OK~\nS: * 3 EXISTS\nS: * 3 RECENT\nS: * OK [UNSEEN 2]~\nS: * OK~\n"
              "S: * OK~\nS: * OK~\nS: g OK~\n"
              "C: h FETCH 1:3 (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])\n"
              "S: * 1 FETCH (FLAGS (\\Seen \\Recent) BODY[~\nS: Subject: one\nS: \nS: )\n"
              "S: * 2 FETCH (FLAGS (\\Answered \\Recent) BODY[~\nS: Subject: three\nS: \nS: )\n"
              "S: * 3 FETCH (FLAGS (\\Recent) BODY[~\nS: Subject: two\nS: \nS: )\n"
              "S: h OK ~");
}

static void test_search(void **state)
{
    struct client *c = client_a(state);
    append(c, "=?iso-8859-1?Q?Caf=E9?=", "\\Seen");
    append(c, "plain", "\\Flagged");
    dialog(c, "C: a SELECT INBOX\n"
              "S: * FLAGS~\nS: * OK~\nS: * 2 EXISTS\nS: * 2 RECENT\nS: * OK~\nS: * OK~\nS: * OK~\n"
              "S: * OK~\nS: a OK~\n"
              "C: b SEARCH CHARSET UTF-8 SUBJECT {5+}\n"
              "C: CAF\xc3\x89\n"
              "S: * SEARCH 1\n"
              "S: b OK SEARCH completed\n"
              "C: c SEARCH BODY HELLO\n"
              "S: * SEARCH 1 2\nS: c OK~\n"
              "C: d SEARCH TEXT \"fred <f@\" NOT SEEN\n"
              "S: * SEARCH 2\nS: d OK~\n"
              "C: e SEARCH BODY fred\n"
              "S: * SEARCH\nS: e OK~\n"
              "C: f SEARCH ON 17-Jul-1996 SENTON 7-Feb-1994 SENTBEFORE 8-Feb-1994\n"
              "S: * SEARCH 1 2\nS: f OK~\n"
              "C: g SEARCH BEFORE 17-Jul-1996\n"
              "S: * SEARCH\nS: g OK~\n"
              "C: h UID SEARCH OR FLAGGED 1 UID 2:*\n"
              "S: * SEARCH 2\nS: h OK~\n"
              "C: i SEARCH CHARSET KOI8-R ALL\n"
              "S: i NO [BADCHARSET (UTF-8 US-ASCII)] ~\n"
              "C: j SEARCH LARGER 90 HEADER subject \"\"\n"
              "S: * SEARCH 1\nS: j OK~\n"
              "C: k SEARCH 3\n"
              "S: k BAD ~\n"
              "C: l SEARCH UID 3 RECENT\n"
              "S: * SEARCH\nS: l OK~");
}

static void test_two_sessions_see_each_other(void **state)
{
    struct client *a = client_a(state), *b = client_b(state);
    append(a, "one", "");
    append(a, "two", "");
    append(a, "three", "");
    static const char select[] = "C: s SELECT INBOX\n"
                                 "S: * FLAGS~\nS: * OK~\nS: * 3 EXISTS\nS: * ~ RECENT\nS: * "
                                 "OK~\nS: * OK~\nS: * OK~\nS: * OK~\nS: s OK~";
    dialog(a, select);
    dialog(b, select);
    dialog(a, "C: a STORE 1 +FLAGS.SILENT (\\Deleted)\nS: a OK~\n"
              "C: b EXPUNGE\nS: * 1 EXPUNGE\nS: * 2 RECENT\nS: b OK~\n"
              "C: c STORE 1 +FLAGS (\\Flagged)\nS: * 1 FETCH (FLAGS (\\Flagged \\Recent))\n"
              "S: c OK~");
    /* No EXPUNGE while numbers are being used (RFC 3501 §7.4.1); then all of it. */
    dialog(b, "C: a FETCH 2:3 UID\n"
              "S: * 2 FETCH (UID 2)\n"
              "S: * 3 FETCH (UID 3)\n"
              "S: * 2 FETCH (FLAGS (\\Flagged))\n"
              "S: a OK FETCH completed\n"
              "C: b FETCH 1 BODY[]\n"
              "S: b NO [EXPUNGEISSUED] ~\n"
              "C: c NOOP\n"
              "S: * 1 EXPUNGE\n"
              "S: c OK NOOP completed\n"
              "C: d SEARCH FLAGGED\n"
              "S: * SEARCH 1\n"
              "S: d OK~");
    append(a, "four", "");
    dialog(b, "C: e NOOP\nS: * 3 EXISTS\nS: * 0 RECENT\nS: e OK~");
}

static void test_idle(void **state)
{
    struct client *a = client_a(state), *b = client_b(state);
    dialog(b, "C: s SELECT INBOX\nS: * FLAGS~\nS: * OK~\nS: * 0 EXISTS\nS: * 0 RECENT\nS: * OK~\n"
              "S: * OK~\nS: * OK~\nS: s OK~");
    append(a, "one", "");
    dialog(b, "C: i IDLE\nS: + idling\nS: * 1 EXISTS\nS: * 1 RECENT\nC: DONE\n"
              "S: i OK IDLE completed\nC: j IDLE\nS: + idling\nC: huh\nS: j BAD DONE expected");
}

static void test_pipelining(void **state)
{
    dialog(client_a(state),
        "C: a NOOP\nC: b SELECT INBOX\nC: c NOOP\nC: d CLOSE\nC: e FETCH 1 UID\n"
        "S: a OK~\nS: * FLAGS~\nS: * OK~\nS: * 0 EXISTS\nS: * 0 RECENT\n"
        "S: * OK~\nS: * OK~\nS: * OK~\nS: b OK~\nS: c OK~\nS: d OK CLOSE completed\n"
        "S: e BAD No mailbox selected");
}

static void test_a_client_that_vanishes_within_a_message_stores_nothing(void **state)
{
    struct client *a = client_a(state), *b = client_b(state);
    dialog(a, "C: a APPEND INBOX {1000}\nS: + Ready~\nC: half");
    shutdown(a->fd, SHUT_WR);
    dialog(a, "S: ~");
    dialog(b, "C: a STATUS INBOX (MESSAGES)\nS: * STATUS \"INBOX\" (MESSAGES 0)\nS: a OK~");
}

static void test_a_client_that_vanishes_while_reading_costs_only_its_session(void **state)
{
    struct client *a = client_a(state), *b = client_b(state);
    struct buf big;
    buf_init(&big, 100000);
    buf_puts(&big, "a APPEND INBOX {60000+}\r\nA: b\r\n\r\n");
    while (buf_len(&big) < strlen("a APPEND INBOX {60000+}\r\n") + 60000)
        buf_putc(&big, 'x');
    buf_puts(&big, "\r\n");
    send_text(a, buf_slice(&big));
    buf_clear(&big);
    dialog(a, "S: a OK~");
    dialog(b,
        "C: s SELECT INBOX\nS: * FLAGS~\nS: * OK~\nS: * 1 EXISTS\nS: ~\nS: ~\nS: ~\nS: ~\nS: ~\n"
        "S: s OK~");
    for (int i = 0; i < 100; i++)
        dialog(b, "C: f FETCH 1 (BODY[] UID BODY.PEEK[])");
    shutdown(b->fd, SHUT_RDWR);
    dialog(a, "C: n NOOP\nS: n OK~");
}

static void test_a_silent_client_is_logged_out(void **state)
{
    struct fixture *f = *state;
    f->conf = "imap { timeout 1s }\n";
    dialog(client_b(state), "S: * BYE Autologout: idle for too long\nS: ");
}

static void test_where_nothing_can_be_shared_acl_says_so(void **state)
{
    dialog(client_a(state),
        "C: a GETACL INBOX\n"
        "S: * ACL \"INBOX\" \"alice@example.test\" lrswipkxteacd\nS: a OK~\n"
        "C: b SETACL INBOX bob lr\nS: b NO [CANNOT] ~\n"
        "C: c DELETEACL INBOX bob\nS: c NO [CANNOT] ~\n"
        "C: d LISTRIGHTS INBOX bob\nS: * LISTRIGHTS \"INBOX\" \"bob\" \"\"\nS: d OK~\n"
        "C: e MYRIGHTS INBOX\nS: * MYRIGHTS \"INBOX\" lrswipkxteacd\nS: e OK~");
}

static void test_no_literal_behind_a_message_is_taken_for_a_command(void **state)
{
    struct client *a = client_a(state);
    dialog(a, "C: a APPEND INBOX {5+}\nC: abcde {12+}\nC: x CREATE boo\nS: a BAD ~\n"
              "C: b APPEND nowhere {5+}\nC: abcde {12+}\nC: x CREATE boo\nS: b NO [TRYCREATE]~\n"
              "C: c NOOP\nS: c OK~");
}

static void test_the_selected_mailbox_is_known_by_its_new_name(void **state)
{
    struct client *a = client_a(state);
    dialog(a,
        "C: a CREATE one/two\nS: a OK~\nC: b EXAMINE one/two\nS: ~\nS: ~\nS: ~\nS: ~\nS: ~\n"
        "S: ~\nS: ~\nS: b OK~\nC: c RENAME one three\nS: c OK~\nC: d DELETE three/two\nS: d OK~\n"
        "C: e NOOP\nS: e OK~\nC: f FETCH 1 UID\nS: f BAD ~");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_capability_and_logout),
        TEST(test_the_selected_mailbox_is_known_by_its_new_name),
        TEST(test_no_literal_behind_a_message_is_taken_for_a_command),
        TEST(test_where_nothing_can_be_shared_acl_says_so),
        TEST(test_bad_commands_resync),
        TEST(test_too_many_errors_end_the_session),
        TEST(test_an_endless_line_is_refused),
        TEST(test_select_an_empty_mailbox),
        TEST(test_append_and_fetch),
        TEST(test_append_refusals),
        TEST(test_store_and_expunge),
        TEST(test_examine_changes_nothing),
        TEST(test_folders),
        TEST(test_copy_and_move),
        TEST(test_search),
        TEST(test_two_sessions_see_each_other),
        TEST(test_idle),
        TEST(test_pipelining),
        TEST(test_a_client_that_vanishes_within_a_message_stores_nothing),
        TEST(test_a_silent_client_is_logged_out),
        TEST(test_a_client_that_vanishes_while_reading_costs_only_its_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
