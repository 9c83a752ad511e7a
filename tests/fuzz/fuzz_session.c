/* Whole SMTP sessions on a fake loop, with lookupd, qmgr and authd that answer, fail, or stay
 * silent. The first two octets choose the listener and how the others behave; each octet that
 * follows says a line of a dialogue, lets others work, or how many of the next octets are sent
 * as they are. Whatever is said, nothing may leak and every session must end. */
#include "tests/unit/smtpd/fixture.h"

#include <sys/socket.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const lines[] = {"EHLO x\r\n", "HELO y\r\n", "LHLO z\r\n",
    "MAIL FROM:<a@b.test>\r\n", "RCPT TO:<alice@example.test>\r\n", "RCPT TO:<nobody@c.test>\r\n",
    "RCPT TO:<many-a@example.test>\r\n", "DATA\r\n", "Subject: x\r\n\r\nhi\r\n", ".\r\n",
    "RSET\r\n", "NOOP\r\n", "QUIT\r\n", "AUTH PLAIN\r\n", "AUTH LOGIN\r\n", "*\r\n",
    "AUTH PLAIN AGEAYg==\r\n", "STARTTLS\r\n", "HELP\r\n", "\r", "\n", "Message-ID: <a@b>\r\n",
    "\r\n", "BDAT 6\r\n", "BDAT 0 LAST\r\n", "BDAT 60000\r\n", "ETRN relayed.test\r\n",
    "MAIL FROM:<\xc3\xa4@b> SMTPUTF8 MT-PRIORITY=9\r\n",
    "RCPT TO:<list@example.test> NOTIFY=SUCCESS ORCPT=utf-8;a\\x{F6}@b\r\n",
    "MAIL FROM:<> HOLDFOR=60\r\n"};

static void send_now(struct slice s)
{
    if (s.n && f.client >= 0)
        (void)!send(f.client, s.p, s.n, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Enough content that a file must be lent. */
static void send_much(void)
{
    static char text[72 * 800];
    memset(text, 'q', sizeof(text));
    for (size_t i = 70; i + 2 <= sizeof(text); i += 72)
        memcpy(text + i, "\r\n", 2);
    send_now(slice_from(text, sizeof(text)));
}

static void act(struct reader *r, uint8_t op)
{
    if (op < ARRAY_LEN(lines))
        send_now(slice_of(lines[op]));
    else if (op < 64)
        spin();
    else if (op == 64)
        send_much();
    else if (op == 65)
        loop_advance(f.daemon.loop, 61000);
    else if (op >= 128)
        send_now(get_bytes(r, MIN((size_t)(op - 127), r->rest.n)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const protocols[] = {"smtp", "submission", "lmtp", "submit"};
    struct reader r = reader_of(slice_from(data, MIN(size, (size_t)4096)));
    const char *protocol = protocols[get_u8(&r) % 4];
    uint8_t others = get_u8(&r);
    void *state = NULL;
    setup(&state);
    f.lookup_silent = others & 1;
    f.qmgr_silent = others & 2;
    f.no_file = others & 4;
    f.qmgr_code = others & 8 ? 452 : 250;
    connect_client(protocol, strcmp(protocol, "submit") == 0 ? "uid:1" : "127.0.0.1");
    while (r.rest.n)
        act(&r, get_u8(&r));
    spin();
    fd_close(&f.client);
    for (int i = 0; i < 3; i++) {
        spin();
        loop_advance(f.daemon.loop, 130000);
    }
    teardown(&state);
    return 0;
}
