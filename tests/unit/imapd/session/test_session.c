/* Whole sessions: a child runs session_run on one end of a socket pair and a real store in a
 * temporary directory; the test speaks the client's part. */
#include "imapd/session/session.h"
#include "libutil/conf.h"
#include "libutil/error.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct client {
    int fd;
    pid_t pid;
    struct buf in;
};

struct fixture {
    char dir[64];
    struct client a, b; /* b: a second session, when started */
};

static void child(const char *dir, int fd, const char *tag)
{
    struct buf errors;
    struct error err;
    buf_init(&errors, 10000);
    struct conf *conf =
        conf_parse("test", SLICE_LIT("message-size 64K\n"), &conf_root_schema, &errors, &err);
    struct session_env env = {.fd = fd,
        .mail = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
        .notify = -1,
        .user = "alice@example.test",
        .client = "192.0.2.1",
        .tag = tag,
        .input = SLICE_LIT("early NOOP\r\n"),
        .conf = conf};
    log_setup("test", LOG_ERROR);
    int rc = conf ? session_run(&env) : 1;
    conf_free(conf);
    buf_clear(&errors);
    close(env.mail);
    close(fd);
    exit(rc);
}

/* Takes a line into text; "" at the end of the connection. */
static void read_line(struct client *c, char *text, size_t size)
{
    text[0] = 0;
    for (;;) {
        struct slice in = buf_slice(&c->in);
        ptrdiff_t at = slice_find(in, SLICE_LIT("\r\n"));
        if (at >= 0) {
            assert_true(slice_to_cstr(slice_first(in, (size_t)at), text, size));
            buf_consume(&c->in, (size_t)at + 2);
            return;
        }
        struct pollfd p = {.fd = c->fd, .events = POLLIN};
        if (poll(&p, 1, 10000) != 1)
            fail_msg("no answer; so far: %.*s", SLICE_FMT(in));
        char *room = buf_reserve(&c->in, 4096);
        ssize_t n = read(c->fd, room, 4096);
        if (n <= 0)
            return;
        buf_claim(&c->in, (size_t)n);
    }
}

/* '~' stands for any text. */
static bool matches(const char *pattern, const char *text)
{
    for (; *pattern && *pattern != '~'; pattern++, text++)
        if (*pattern != *text)
            return false;
    if (!*pattern)
        return !*text;
    for (;; text++) {
        if (matches(pattern + 1, text))
            return true;
        if (!*text)
            return false;
    }
}

static void send_text(struct client *c, struct slice s)
{
    while (s.n) {
        ssize_t n = write(c->fd, s.p, s.n);
        assert_true(n > 0);
        s = slice_from_index(s, (size_t)n);
    }
}

/* Lines "C: what is sent" and "S: what must come". */
static void dialog(struct client *c, const char *script)
{
    struct slice rest = slice_of(script);
    while (rest.n) {
        struct slice line = slice_cut(&rest, '\n');
        char want[4096], got[4096];
        assert_true(slice_to_cstr(slice_from_index(line, 3), want, sizeof(want)));
        if (slice_starts(line, "C: ")) {
            send_text(c, slice_of(want));
            send_text(c, SLICE_LIT("\r\n"));
            continue;
        }
        read_line(c, got, sizeof(got));
        if (!matches(want, got))
            fail_msg("expected: %s\n          got: %s", want, got);
    }
}

static void start(struct fixture *f, struct client *c)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    fflush(stdout);
    c->pid = fork();
    if (c->pid == 0) {
        close(ends[0]);
        if (c != &f->a)
            close(f->a.fd);
        alarm(60);
        child(f->dir, ends[1], "login");
    }
    close(ends[1]);
    c->fd = ends[0];
    buf_init(&c->in, 1 << 20);
    dialog(c, "S: login OK [CAPABILITY IMAP4rev1 ~] Logged in\n"
              "S: early OK NOOP completed");
}

static void stop(struct client *c)
{
    int status;
    if (c->pid == 0)
        return;
    close(c->fd);
    waitpid(c->pid, &status, 0);
    buf_clear(&c->in);
    if (status != 0)
        fail_msg("the session ended with status %x", (unsigned)status);
}

static int setup(void **state)
{
    struct fixture *f = NEW(struct fixture);
    snprintf(f->dir, sizeof(f->dir), "/tmp/imap-session-XXXXXX");
    if (!mkdtemp(f->dir))
        return -1;
    *state = f;
    start(f, &f->a);
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char command[100];
    stop(&f->a);
    stop(&f->b);
    snprintf(command, sizeof(command), "rm -rf %s", f->dir);
    if (system(command) != 0)
        return -1;
    free(f);
    return 0;
}

static struct client *client_a(void **state)
{
    return &((struct fixture *)*state)->a;
}

static struct client *client_b(void **state)
{
    struct fixture *f = *state;
    if (f->b.pid == 0)
        start(f, &f->b);
    return &f->b;
}

/* Appends to INBOX a message of this subject; 75 bytes and the subject's. */
static void append(struct client *c, const char *subject, const char *flags)
{
    static const char fields[] = "From: Fred <f@x.com>\r\nDate: 7 Feb 1994 21:52:25 -0800\r\n";
    char text[500];
    snprintf(text, sizeof(text),
        "ap APPEND INBOX (%s) \"17-Jul-1996 02:44:25 -0700\" {%zu+}\r\n"
        "%sSubject: %s\r\n\r\nhello\r\n",
        flags, strlen(fields) + strlen("Subject: \r\n\r\nhello\r\n") + strlen(subject), fields,
        subject);
    send_text(c, slice_of(text));
    /* A selected mailbox tells of it first. */
    dialog(c, "C: ");
    do
        read_line(c, text, sizeof(text));
    while (text[0] == '*');
    assert_true(matches("ap OK [APPENDUID ~] APPEND completed", text));
}

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
              "S: a OK~\n"
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
              "S: * OK~\nS: * OK~\n"
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
                            "S: a OK CREATE completed\n"
                            "C: a2 CREATE Sent\n"
                            "S: a2 OK CREATE completed\n"
                            "C: a3 CREATE \"&U,BTFw-\"\n"
                            "S: a3 OK CREATE completed\n"
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
              "S: b OK~\n"
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
              "S: * OK~\nS: g OK~\n"
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
              "S: a OK~\n"
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
                                 "OK~\nS: * OK~\nS: * OK~\nS: s OK~";
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
              "S: * OK~\nS: s OK~");
    append(a, "one", "");
    dialog(b, "C: i IDLE\nS: + idling\nS: * 1 EXISTS\nS: * 1 RECENT\nC: DONE\n"
              "S: i OK IDLE completed\nC: j IDLE\nS: + idling\nC: huh\nS: j BAD DONE expected");
}

static void test_pipelining(void **state)
{
    dialog(client_a(state),
        "C: a NOOP\nC: b SELECT INBOX\nC: c NOOP\nC: d CLOSE\nC: e FETCH 1 UID\n"
        "S: a OK~\nS: * FLAGS~\nS: * OK~\nS: * 0 EXISTS\nS: * 0 RECENT\n"
        "S: * OK~\nS: * OK~\nS: b OK~\nS: c OK~\nS: d OK CLOSE completed\n"
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
    dialog(b, "C: s SELECT INBOX\nS: * FLAGS~\nS: * OK~\nS: * 1 EXISTS\nS: ~\nS: ~\nS: ~\nS: ~\n"
              "S: s OK~");
    for (int i = 0; i < 100; i++)
        dialog(b, "C: f FETCH 1 (BODY[] UID BODY.PEEK[])");
    shutdown(b->fd, SHUT_RDWR);
    dialog(a, "C: n NOOP\nS: n OK~");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_capability_and_logout),
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
        TEST(test_a_client_that_vanishes_while_reading_costs_only_its_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
