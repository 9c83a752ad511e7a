"""SMTP as RFC 5321 and its extensions ask, spoken byte by byte, polite and hostile."""
import base64
import random
import re
import socket
import time

import pytest

from veredus import ALICE, BOB, Raw, wait_for


@pytest.fixture
def client(rootless):
    with rootless.raw() as raw:
        yield raw


def envelope(client, to=ALICE):
    assert client.smtp("MAIL FROM:<someone@elsewhere.test>") == 250
    assert client.smtp(f"RCPT TO:<{to}>") == 250


def healthy(instance):
    """The system as a whole goes on."""
    subject = f"healthy {random.getrandbits(40):x}"
    instance.send(subject)
    instance.wait_mail(subject)


# --- the dialogue ---------------------------------------------------------------------------------
def test_greeting_names_the_host(client, rootless):
    code, texts = client.reply()
    assert code == 220
    hostname = re.search(r"^hostname (\S+)", rootless.read("veredus.conf"), re.M)[1]
    assert texts[0].split()[0] == hostname


def test_ehlo_offers_the_extensions(client):
    texts = client.hello()
    for word in ("PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", "STARTTLS"):
        assert word in texts
    assert "SIZE 52428800" in texts
    assert not [t for t in texts if t.startswith("AUTH")]  # not on port 25


def test_helo_works_without_extensions(client):
    client.reply()
    assert client.smtp("HELO client.test") == 250
    envelope(client)


def test_verbs_are_case_insensitive(client):
    client.reply()
    assert client.smtp("eHlO client.test") == 250
    assert client.smtp("mail from:<a@elsewhere.test>") == 250
    assert client.smtp(f"rcpt to:<{ALICE}>") == 250


def test_rcpt_before_mail_is_503(client):
    client.hello()
    assert client.smtp(f"RCPT TO:<{ALICE}>") == 503


def test_data_before_rcpt_is_refused(client):
    client.hello()
    assert client.smtp("MAIL FROM:<a@elsewhere.test>") == 250
    assert client.smtp("DATA") in (503, 554)


def test_nested_mail_is_503(client):
    client.hello()
    assert client.smtp("MAIL FROM:<a@elsewhere.test>") == 250
    assert client.smtp("MAIL FROM:<b@elsewhere.test>") == 503


def test_mail_before_hello_is_503(client):
    client.reply()
    assert client.smtp("MAIL FROM:<a@elsewhere.test>") == 503


def test_rset_forgets_the_transaction(client):
    client.hello()
    envelope(client)
    assert client.smtp("RSET") == 250
    assert client.smtp("DATA") == 503


def test_ehlo_again_forgets_the_transaction(client):
    client.hello()
    envelope(client)
    assert client.smtp("EHLO again.test") == 250
    assert client.smtp("DATA") == 503


def test_noop_help_and_quit(client):
    client.hello()
    assert client.smtp("NOOP") == 250
    assert client.smtp("NOOP with words") == 250
    assert client.smtp("HELP") == 214
    assert client.smtp("QUIT") == 221
    assert client.ended()


def test_vrfy_tells_nothing_and_expn_is_refused(client):
    client.hello()
    assert client.smtp(f"VRFY {ALICE}") == 252
    assert client.smtp("VRFY nobody-here@example.test") == 252
    assert client.smtp("EXPN staff") in (502, 550)


@pytest.mark.parametrize("command,code", [
    ("FROB", 500), ("", 500), ("MAIL", 501), ("MAIL FROM:", 501), ("MAIL FROM:<a b@c>", 501),
    ("MAIL FROM:<a@elsewhere.test> FROB=1", 555), ("MAIL FROM:<a@elsewhere.test> SIZE=x", 501),
    ("MAIL FROM:<a@elsewhere.test> BODY=9BIT", 501), ("RSET now", 501), ("DATA now", 501),
    ("EHLO", 501),
])
def test_bad_commands_get_their_code(client, command, code):
    client.hello()
    answer = client.smtp(command)
    if code in (500, 501):  # RFC 5321 §4.2.4: either says "syntax", and the session goes on
        assert answer in (500, 501, 502, 503)
    else:
        assert answer == code
    assert client.smtp("NOOP") == 250


def test_every_reply_carries_an_enhanced_status_code(client):
    client.hello()
    for command in ("MAIL FROM:<a@elsewhere.test>", "RCPT TO:<nobody-here@example.test>",
                    f"RCPT TO:<{ALICE}>", "RSET", "FROB"):
        client.send(command + "\r\n")
        code, texts = client.reply()
        for text in texts:
            assert re.match(rf"{str(code)[0]}\.\d{{1,3}}\.\d{{1,3}} ", text), (command, text)


def test_pipelined_replies_come_in_order(client):
    client.hello()
    client.send("MAIL FROM:<a@elsewhere.test>\r\nRCPT TO:<nobody-here@example.test>\r\n"
                f"RCPT TO:<{ALICE}>\r\nRSET\r\nNOOP\r\nFROB\r\n")
    assert [client.reply()[0] for _ in range(6)] == [250, 550, 250, 250, 250, 500]


def test_a_whole_session_in_one_write_is_delivered(rootless):
    with rootless.raw() as client:
        client.reply()
        client.send("EHLO c.test\r\nMAIL FROM:<a@elsewhere.test>\r\n"
                    f"RCPT TO:<{ALICE}>\r\nDATA\r\nSubject: one write\r\n\r\nx\r\n.\r\nQUIT\r\n")
        assert [client.reply()[0] for _ in range(6)] == [250, 250, 250, 354, 250, 221]
    rootless.wait_mail("one write")


def test_a_session_byte_by_byte_is_delivered(rootless):
    with rootless.raw() as client:
        client.hello()
        text = (f"MAIL FROM:<a@elsewhere.test>\r\nRCPT TO:<{ALICE}>\r\nDATA\r\n"
                "Subject: byte by byte\r\n\r\n..dot\r\n.\r\nQUIT\r\n")
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in text:
            client.send(byte)
        assert [client.reply()[0] for _ in range(5)] == [250, 250, 354, 250, 221]
    mail = rootless.wait_mail("byte by byte")
    assert mail.get_content().splitlines() == [".dot"]


def test_several_messages_in_one_session(rootless):
    with rootless.raw() as client:
        client.hello()
        for number in range(5):
            envelope(client)
            assert client.smtp("DATA") == 354
            assert client.smtp(f"Subject: several {number}\r\n\r\nx\r\n.") == 250
    for number in range(5):
        rootless.wait_mail(f"several {number}")


# --- what arrives ---------------------------------------------------------------------------------
def test_dots_are_unstuffed_and_lines_kept(rootless):
    body = "..one\r\n.two\r\n...\r\nlast without stuffing\r\n\r\n"
    rootless.send("dots", body=body)
    mail = rootless.wait_mail("dots")
    assert mail.get_payload().replace("\r\n", "\n") == body.replace("\r\n", "\n")


def test_trace_fields_are_right(rootless):
    rootless.send("trace fields", sender="sender@elsewhere.test")
    mail = rootless.wait_mail("trace fields")
    keys = [k.lower() for k in mail.keys()]
    assert keys[0] == "return-path" and mail["Return-Path"] == "<sender@elsewhere.test>"
    assert keys.index("received") < keys.index("from")
    received = mail["Received"]
    assert "127.0.0.1" in received and "with ESMTP" in received and " id " in received
    assert keys.count("return-path") == 1


def test_a_senders_return_path_is_not_believed(rootless):
    with rootless.raw() as client:
        client.hello()
        envelope(client)
        assert client.smtp("DATA") == 354
        assert client.smtp("Return-Path: <liar@evil.test>\r\nSubject: liar\r\n\r\nx\r\n.") == 250
    mail = rootless.wait_mail("liar")
    assert mail.get_all("Return-Path")[0] == "<someone@elsewhere.test>"


def test_the_null_sender_is_accepted_and_kept(rootless):
    rootless.send("null sender", sender="")
    assert rootless.wait_mail("null sender")["Return-Path"] == "<>"


def test_eight_bit_content_is_untouched(rootless):
    raw = bytes(range(128, 256)) * 3
    with rootless.raw() as client:
        client.hello()
        assert client.smtp("MAIL FROM:<a@elsewhere.test> BODY=8BITMIME") == 250
        assert client.smtp(f"RCPT TO:<{ALICE}>") == 250
        assert client.smtp("DATA") == 354
        client.send(b"Subject: eight bit\r\n\r\n" + raw + b"\r\n.\r\n")
        assert client.reply()[0] == 250
    rootless.wait_mail("eight bit")
    assert any(raw in open(p, "rb").read() for p in rootless.mail_files())


def test_one_message_to_two_users_arrives_twice(rootless):
    rootless.send("both", to=[ALICE, BOB])
    rootless.wait_mail("both", ALICE)
    rootless.wait_mail("both", BOB)


def test_the_same_recipient_twice_gets_one_copy(rootless):
    rootless.send("named twice", to=[ALICE, ALICE])
    rootless.send("a later one")
    rootless.wait_mail("a later one")
    assert len(rootless.wait_mail("named twice", count=1, timeout=5).as_string()) > 0
    assert len([m for m in rootless.mails() if m["Subject"] == "named twice"]) == 1


def test_domains_and_local_parts_match_without_case(rootless):
    rootless.send("case", to="Alice@EXAMPLE.Test")
    rootless.wait_mail("case")


def test_big_mail_arrives_whole(rootless):
    line = "".join(random.choices("abcdefghij", k=70)) + "\r\n"
    body = line * 40000  # 2.9 MB: beyond what travels inside a record
    rootless.send("big", body=body)
    mail = rootless.wait_mail("big", timeout=40)
    assert mail.get_payload().replace("\r\n", "\n") == body.replace("\r\n", "\n")


@pytest.mark.parametrize("size", [0, 1, 4096, 48 * 1024 - 200, 48 * 1024, 49 * 1024, 65536, 70000])
def test_bodies_around_the_inline_limit_arrive_whole(rootless, size):
    body = ("x" * 62 + "\r\n") * (size // 64) + "y" * (size % 64) + "\r\n"
    subject = f"size {size}"
    rootless.send(subject, body=body)
    mail = rootless.wait_mail(subject)
    assert mail.get_payload().replace("\r\n", "\n") == body.replace("\r\n", "\n")


def test_many_recipients_in_one_message(rootless):
    with rootless.raw() as client:
        client.hello()
        assert client.smtp("MAIL FROM:<a@elsewhere.test>") == 250
        accepted = 0
        for number in range(100):
            accepted += client.smtp(f"RCPT TO:<{ALICE if number % 2 else BOB}>") == 250
        assert accepted == 100  # RFC 5321 §4.5.3.1.8: at least a hundred
        assert client.smtp("DATA") == 354
        assert client.smtp("Subject: hundred\r\n\r\nx\r\n.") == 250
    rootless.wait_mail("hundred", ALICE)
    rootless.wait_mail("hundred", BOB)


def test_too_many_received_fields_are_a_loop(rootless):
    with rootless.raw() as client:
        client.hello()
        envelope(client)
        assert client.smtp("DATA") == 354
        trace = "".join(f"Received: from a{n}.test by b.test; Sat, 21 Nov 2026 02:00:00 +0000\r\n"
                        for n in range(120))
        assert client.smtp(trace + "Subject: loop\r\n\r\nx\r\n.") in (550, 554)


# --- limits and refusals --------------------------------------------------------------------------
def test_unknown_user_is_550_at_rcpt(client, rootless):
    client.hello()
    assert client.smtp("MAIL FROM:<a@elsewhere.test>") == 250
    assert client.smtp("RCPT TO:<nobody-here@example.test>") == 550
    entries = rootless.wait_log(to="nobody-here@example.test")
    assert any(e.get("rule") for e in entries)  # every refusal names its rule


@pytest.mark.parametrize("to", [
    "someone@gmail.example", "someone@[192.0.2.1]", "someone%gmail.example@example.test",
    "@example.test:someone@gmail.example", "someone@gmail.example@example.test",
    '"someone@gmail.example"@example.test', "gmail.example!someone@example.test",
    "someone@gmail.example.", "someone@127.0.0.1", "someone@[127.0.0.1]",
])
def test_relaying_is_refused_without_authentication(client, to):
    client.hello()
    assert client.smtp(f"MAIL FROM:<{ALICE}>") == 250
    code = client.smtp(f"RCPT TO:<{to}>")
    assert 500 <= code <= 599
    assert client.smtp("DATA") in (503, 554)


def test_relaying_for_loopback_is_refused_too(client):
    client.hello()
    assert client.smtp("MAIL FROM:<>") == 250
    code = client.smtp("RCPT TO:<someone@gmail.example>")
    assert code in (550, 554)


def test_a_declared_size_over_the_limit_is_552_at_mail(client):
    client.hello()
    assert client.smtp("MAIL FROM:<a@elsewhere.test> SIZE=52428801") == 552
    assert client.smtp("MAIL FROM:<a@elsewhere.test> SIZE=52428800") == 250


def test_a_message_over_the_limit_is_552_and_the_session_goes_on(fresh):
    instance = fresh()
    instance.edit_conf((r"^message-size .*", "message-size 64K"))
    instance.start()
    with instance.raw() as client:
        assert "SIZE 65536" in client.hello()
        envelope(client)
        assert client.smtp("DATA") == 354
        client.send("Subject: too big\r\n\r\n" + ("x" * 70 + "\r\n") * 2000 + ".\r\n")
        assert client.reply()[0] == 552
        envelope(client)
        assert client.smtp("DATA") == 354
        assert client.smtp("Subject: small\r\n\r\nx\r\n.") == 250
    instance.wait_mail("small")
    assert len(instance.mails()) == 1


def test_too_long_a_command_line_is_500_and_survived(client):
    client.hello()
    assert client.smtp("NOOP " + "x" * 5000) == 500
    assert client.smtp("NOOP") == 250


def test_an_endless_line_costs_only_its_own_session(rootless):
    with rootless.raw() as client:
        client.hello()
        try:
            for _ in range(200):
                client.send(b"x" * 65536)
        except OSError:
            pass
    healthy(rootless)


def test_a_nul_in_a_command_is_refused(client):
    client.hello()
    assert client.smtp(b"MAIL FROM:<a\0b@elsewhere.test>") in (500, 501)
    assert client.smtp("NOOP") == 250


def test_too_many_errors_end_the_session(rootless):
    with rootless.raw() as client:
        client.hello()
        codes = []
        for _ in range(200):
            try:
                client.send("FROB\r\n")
                code = client.reply()[0]
            except OSError:
                break
            codes.append(code)
            if code in (421, None):
                break
        assert codes[-1] in (421, None)
        assert len(codes) < 150
    healthy(rootless)


def test_http_at_the_smtp_port_is_cut_off(rootless):
    with rootless.raw() as client:
        client.reply()
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 90\r\n\r\nEHLO x\r\n"
                    "MAIL FROM:<a@elsewhere.test>\r\n")
        assert client.ended()


# --- smuggling and line ends (RFC 5321 §2.3.8, §4.1.1.4) ------------------------------------------
@pytest.mark.parametrize("end", ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\n\r\n.\n\r"])
def test_only_crlf_dot_crlf_ends_the_data(rootless, end):
    mark = f"smuggled {random.getrandbits(40):x}"
    with rootless.raw() as client:
        client.hello()
        envelope(client)
        assert client.smtp("DATA") == 354
        client.send(f"Subject: outer {mark}\r\n\r\nbody{end}MAIL FROM:<admin@example.test>\r\n"
                    f"RCPT TO:<{BOB}>\r\nDATA\r\nSubject: {mark}\r\n\r\nx\r\n.\r\n")
        code = client.reply()[0]
        assert code == 250 or 500 <= code <= 599
        # Exactly one reply: nothing after the odd line end was taken as a command.
        assert client.smtp("NOOP") == 250
    healthy(rootless)
    assert not [m for m in rootless.mails(BOB) if m["Subject"] == mark]


def test_bare_lf_does_not_end_a_command(client):
    client.hello()
    client.send("NOOP\nNOOP\r\n")
    first = client.reply()[0]
    assert first in (250, 500, 501)
    assert client.smtp("RSET") == 250  # one reply only: the next is that of RSET
    assert client.smtp("QUIT") == 221


def test_starttls_discards_what_was_pipelined_behind_it(rootless):
    with rootless.raw() as client:
        client.hello()
        client.send("STARTTLS\r\nMAIL FROM:<injected@evil.test>\r\nRSET\r\n")
        assert client.reply()[0] == 220
        try:
            client.starttls()
        except OSError:
            return  # refusing is right as well
        client.send("EHLO again.test\r\n")
        code, texts = client.reply()
        assert code == 250 and "STARTTLS" not in texts
        assert client.smtp(f"RCPT TO:<{ALICE}>") == 503


def test_starttls_forgets_the_hello(rootless):
    with rootless.raw() as client:
        client.hello()
        assert client.smtp("STARTTLS") == 220
        client.starttls()
        assert client.smtp("MAIL FROM:<a@elsewhere.test>") == 503


def test_received_tells_that_tls_was_used(rootless):
    with rootless.raw() as client:
        client.hello()
        assert client.smtp("STARTTLS") == 220
        client.starttls()
        assert client.smtp("EHLO c.test") == 250
        envelope(client)
        assert client.smtp("DATA") == 354
        assert client.smtp("Subject: over tls\r\n\r\nx\r\n.") == 250
        assert client.smtp("STARTTLS") == 503
    received = rootless.wait_mail("over tls")["Received"]
    assert "with ESMTPS" in received and "TLS" in received


def test_garbage_instead_of_a_handshake_costs_only_that_session(rootless):
    with rootless.raw() as client:
        client.hello()
        assert client.smtp("STARTTLS") == 220
        client.send(b"this is no ClientHello\r\n" * 10)
        assert client.ended()
    with rootless.raw("submissions") as client:
        client.send(b"EHLO plaintext at a TLS port\r\n")
        assert client.ended()
    healthy(rootless)


# --- authentication -------------------------------------------------------------------------------
def plain(user, password, authzid=""):
    return base64.b64encode(f"{authzid}\0{user}\0{password}".encode()).decode()


def submission(instance):
    client = instance.raw("submissions", tls=True)
    texts = client.hello()
    assert [t for t in texts if re.match(r"AUTH (.* )?PLAIN\b", t)]
    assert [t for t in texts if re.match(r"AUTH (.* )?LOGIN\b", t)]
    return client


def test_submission_refuses_mail_before_authentication(rootless):
    with submission(rootless) as client:
        assert client.smtp(f"MAIL FROM:<{ALICE}>") == 530


def test_auth_plain_with_initial_response(rootless):
    with submission(rootless) as client:
        assert client.smtp("AUTH PLAIN " + plain(ALICE, "alice-password")) == 235
        assert client.smtp("AUTH PLAIN " + plain(ALICE, "alice-password")) == 503
        assert client.smtp(f"MAIL FROM:<{ALICE}>") == 250


def test_auth_plain_in_two_steps(rootless):
    with submission(rootless) as client:
        client.send("AUTH PLAIN\r\n")
        assert client.reply()[0] == 334
        assert client.smtp(plain(ALICE, "alice-password")) == 235


def test_auth_login(rootless):
    with submission(rootless) as client:
        client.send("AUTH LOGIN\r\n")
        assert client.reply() == (334, ["VXNlcm5hbWU6"])
        client.send(base64.b64encode(ALICE.encode()) + b"\r\n")
        assert client.reply() == (334, ["UGFzc3dvcmQ6"])
        assert client.smtp(base64.b64encode(b"alice-password")) == 235


@pytest.mark.parametrize("user,password", [
    (ALICE, "wrong"), (ALICE, ""), ("nobody-here@example.test", "x"), ("", ""),
    (ALICE, "alice-password "), ("alice@example.test\n", "alice-password"),
])
def test_wrong_credentials_are_535_and_logged_without_the_password(rootless, user, password):
    with submission(rootless) as client:
        code = client.smtp("AUTH PLAIN " + plain(user, password))
        assert code in (535, 501)
        assert client.smtp(f"MAIL FROM:<{ALICE}>") == 530
    if len(password) > 1:
        assert "password=" + password not in rootless.log()


def test_right_and_wrong_users_fail_alike(rootless):
    answers = []
    for user in (ALICE, "nobody-here@example.test"):
        with submission(rootless) as client:
            client.send("AUTH PLAIN " + plain(user, "wrong") + "\r\n")
            answers.append(client.reply())
    assert answers[0] == answers[1]


def test_a_star_cancels_authentication(rootless):
    with submission(rootless) as client:
        assert client.smtp("AUTH PLAIN") == 334
        assert client.smtp("*") == 501
        assert client.smtp("AUTH PLAIN " + plain(ALICE, "alice-password")) == 235


@pytest.mark.parametrize("argument", ["FROBMECH", "PLAIN !!!!", "PLAIN " + "A" * 20000,
                                      "PLAIN =", "PLAIN AAAA=AAA"])
def test_bad_auth_commands_are_refused(rootless, argument):
    with submission(rootless) as client:
        assert 500 <= client.smtp("AUTH " + argument) <= 599
        assert client.smtp("NOOP") == 250


def test_no_password_stands_in_the_log(rootless):
    with submission(rootless) as client:
        client.smtp("AUTH PLAIN " + plain(ALICE, "alice-password"))
        client.smtp("AUTH PLAIN " + plain(BOB, "wrong-and-secret"))
    log = rootless.log()
    for secret in ("alice-password", "bob-password", "wrong-and-secret",
                   plain(ALICE, "alice-password")):
        assert secret not in log


# --- disconnects ----------------------------------------------------------------------------------
STAGES = ["", "EHLO c.test\r\n", "EHLO c.te", "EHLO c.test\r\nMAIL FROM:<a@elsewhere.test>\r\n",
          f"EHLO c.test\r\nMAIL FROM:<a@elsewhere.test>\r\nRCPT TO:<{ALICE}>\r\n",
          f"EHLO c.test\r\nMAIL FROM:<a@elsewhere.test>\r\nRCPT TO:<{ALICE}>\r\nDATA\r\n",
          f"EHLO c.test\r\nMAIL FROM:<a@elsewhere.test>\r\nRCPT TO:<{ALICE}>\r\nDATA\r\n"
          "Subject: half\r\n\r\nhalf a li",
          f"EHLO c.test\r\nMAIL FROM:<a@elsewhere.test>\r\nRCPT TO:<{ALICE}>\r\nDATA\r\n"
          "Subject: half\r\n\r\nall but the last\r\n.\r", "EHLO c.test\r\nSTARTTLS\r\n"]


@pytest.mark.parametrize("stage", range(len(STAGES)))
@pytest.mark.parametrize("reset", [False, True])
def test_a_disconnect_at_any_stage_costs_only_that_session(rootless, stage, reset):
    for _ in range(3):
        client = rootless.raw()
        client.send(STAGES[stage])
        if reset:  # RST instead of FIN
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
    healthy(rootless)
    assert not [m for m in rootless.mails() if m["Subject"] == "half"]


def test_random_bytes_cost_only_their_session(rootless):
    for seed in range(30):
        source = random.Random(seed)
        with rootless.raw() as client:
            try:
                client.send(source.randbytes(source.randrange(1, 3000)))
                client.send(b"\r\n" * 3)
            except OSError:
                pass
    healthy(rootless)
    pids = {p["pid"]: p["restarts"] for p in rootless.processes("smtpd")}
    assert all(restarts == 0 for restarts in pids.values())


def test_a_client_that_reads_nothing_does_not_stop_others(rootless):
    stuck = rootless.raw()
    try:
        stuck.sock.settimeout(2)
        for _ in range(2000):
            stuck.send("HELP\r\n" * 100)
    except OSError:
        pass
    healthy(rootless)
    stuck.close()


def test_many_connections_at_once_are_served(rootless):
    clients = [Raw(rootless.smtp) for _ in range(200)]
    assert all(c.reply()[0] == 220 for c in clients)
    assert all(c.smtp("EHLO c.test") == 250 for c in clients)
    healthy(rootless)
    for client in clients:
        client.close()
    wait_for("sessions to end", lambda: sum(
        p.get("sessions", 0) for p in rootless.processes("smtpd")) == 0)


def test_the_idle_timeout_closes_with_421(fresh):
    instance = fresh()
    instance.edit_conf((r"^(listen \S+\s*\{)", r"\1\n    timeout 2s"))
    instance.start()
    with instance.raw() as client:
        client.hello()
        started = time.monotonic()
        assert client.reply()[0] in (421, None)
        assert 1 < time.monotonic() - started < 15
    healthy(instance)


# --- LMTP (RFC 2033) ------------------------------------------------------------------------------
def test_lmtp_answers_for_each_recipient(rootless):
    with rootless.raw("lmtp") as client:
        assert client.reply()[0] == 220
        assert 500 <= client.smtp("EHLO c.test") <= 599
        assert client.smtp("LHLO c.test") == 250
        assert client.smtp("MAIL FROM:<a@elsewhere.test>") == 250
        assert client.smtp(f"RCPT TO:<{ALICE}>") == 250
        assert client.smtp("RCPT TO:<nobody-here@example.test>") == 550
        assert client.smtp(f"RCPT TO:<{BOB}>") == 250
        assert client.smtp("DATA") == 354
        client.send("Subject: by lmtp\r\n\r\nx\r\n.\r\n")
        assert [client.reply()[0] for _ in range(2)] == [250, 250]
        assert client.smtp("QUIT") == 221
    rootless.wait_mail("by lmtp", ALICE)
    rootless.wait_mail("by lmtp", BOB)
