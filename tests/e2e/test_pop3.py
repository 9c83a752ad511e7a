"""POP3 (RFC 1939) with UIDL, TOP, CAPA (RFC 2449) and STLS (RFC 2595)."""
import hashlib
import random

import pytest

from veredus import BOB, wait_for


def login(instance, port="pop3s"):
    client = instance.raw(port, tls=port == "pop3s")
    assert client.line().startswith("+OK")
    assert say(client, f"USER {BOB}").startswith("+OK")
    assert say(client, "PASS bob-password").startswith("+OK")
    return client


def say(client, command):
    client.send(command + "\r\n")
    return client.line()


def multi(client, command):
    """The lines of a multi-line answer, unstuffed."""
    first = say(client, command)
    assert first.startswith("+OK"), first
    lines = []
    while (line := client.line()) != ".":
        assert line is not None
        lines.append(line[1:] if line.startswith(".") else line)
    return lines


@pytest.fixture
def drop(rootless):
    """bob's maildrop emptied, then three mails in it."""
    with login(rootless) as client:
        count = int(say(client, "STAT").split()[1])
        for number in range(count):
            say(client, f"DELE {number + 1}")
        assert say(client, "QUIT").startswith("+OK")
    for number in range(3):
        rootless.send(f"pop {number}", to=BOB, body=f".dot {number}\r\nline 2\r\nline 3\r\n")
        rootless.wait_mail(f"pop {number}", BOB)
    return rootless


def test_capa_before_and_after_login(rootless):
    with rootless.raw("pop3") as client:
        client.line()
        words = {line.split()[0] for line in multi(client, "CAPA")}
        assert {"STLS", "USER", "TOP", "UIDL"} <= words
    with login(rootless) as client:
        assert {"TOP", "UIDL"} <= {line.split()[0] for line in multi(client, "CAPA")}


def test_stls_then_login(rootless):
    with rootless.raw("pop3") as client:
        client.line()
        assert say(client, "STLS").startswith("+OK")
        client.starttls()
        assert "STLS" not in multi(client, "CAPA")
        assert say(client, f"USER {BOB}").startswith("+OK")
        assert say(client, "PASS bob-password").startswith("+OK")


def test_stls_discards_what_was_pipelined_behind_it(rootless):
    with rootless.raw("pop3") as client:
        client.line()
        client.send(f"STLS\r\nUSER {BOB}\r\n")
        assert client.line().startswith("+OK")
        try:
            client.starttls()
        except OSError:
            return
        assert say(client, "PASS bob-password").startswith("-ERR")


def test_commands_before_login_are_errors(rootless):
    with rootless.raw("pop3s", tls=True) as client:
        client.line()
        for command in ("STAT", "LIST", "RETR 1", "DELE 1", "UIDL", "TOP 1 0", "PASS x"):
            assert say(client, command).startswith("-ERR"), command


def test_wrong_password(rootless):
    with rootless.raw("pop3s", tls=True) as client:
        client.line()
        say(client, f"USER {BOB}")
        one = say(client, "PASS wrong")
        say(client, "USER nobody-here@example.test")
        two = say(client, "PASS wrong")
        assert one.startswith("-ERR") and one == two


def test_a_password_with_spaces_is_taken_whole(rootless):
    with rootless.raw("pop3s", tls=True) as client:
        client.line()
        say(client, f"USER {BOB}")
        assert say(client, "PASS bob-password ").startswith("-ERR")


def test_stat_list_uidl_agree(drop):
    with login(drop) as client:
        _, count, size = say(client, "STAT").split()[:3]
        listing = [line.split() for line in multi(client, "LIST")]
        assert int(count) == len(listing) == 3
        assert int(size) == sum(int(s) for _, s in listing)
        uids = [line.split() for line in multi(client, "UIDL")]
        assert len({u for _, u in uids}) == 3
        assert say(client, "LIST 2").split()[1:3] == listing[1]
        assert say(client, "UIDL 2").split()[1:3] == uids[1]


def test_uidl_is_stable_between_sessions(drop):
    with login(drop) as client:
        first = multi(client, "UIDL")
        say(client, "QUIT")
    with login(drop) as client:
        assert multi(client, "UIDL") == first


def test_retr_has_the_size_list_says_and_dots_are_stuffed(drop):
    with login(drop) as client:
        sizes = [int(line.split()[1]) for line in multi(client, "LIST")]
        for number, size in enumerate(sizes, 1):
            lines = multi(client, f"RETR {number}")
            assert f".dot {number - 1}" in lines
            assert sum(len(line) + 2 for line in lines) == size


def test_top_gives_header_and_that_many_lines(drop):
    with login(drop) as client:
        lines = multi(client, "TOP 1 1")
        body = lines[lines.index("") + 1:]
        assert body == [".dot 0"]
        assert multi(client, "TOP 1 0")[-1] == ""


def test_dele_takes_effect_at_quit_only(drop):
    with login(drop) as client:
        assert say(client, "DELE 1").startswith("+OK")
        assert say(client, "RETR 1").startswith("-ERR")
        assert say(client, "DELE 1").startswith("-ERR")
        assert say(client, "STAT").split()[1] == "2"
    with login(drop) as client:  # the connection was dropped without QUIT
        assert say(client, "STAT").split()[1] == "3"
        say(client, "DELE 1")
        say(client, "QUIT")
    with login(drop) as client:
        assert say(client, "STAT").split()[1] == "2"


def test_rset_takes_deletions_back(drop):
    with login(drop) as client:
        say(client, "DELE 1")
        assert say(client, "RSET").startswith("+OK")
        assert say(client, "STAT").split()[1] == "3"


def test_the_maildrop_is_locked_for_one_session(drop):
    with login(drop):
        with drop.raw("pop3s", tls=True) as other:
            other.line()
            say(other, f"USER {BOB}")
            answer = say(other, "PASS bob-password")
            assert answer.startswith("-ERR") and "[IN-USE]" in answer

    def again():
        try:
            login(drop).close()
            return True
        except AssertionError:
            return False
    wait_for("the lock's end", again)


def test_mail_that_arrives_during_a_session_is_not_in_it(drop):
    with login(drop) as client:
        drop.send("pop late", to=BOB)
        drop.wait_mail("pop late", BOB)
        assert say(client, "STAT").split()[1] == "3"


@pytest.mark.parametrize("command", ["FROB", "", "RETR", "RETR 0", "RETR 99", "RETR x", "TOP 1",
                                     "TOP 1 -1", "LIST 99999999999999999999", "DELE -1"])
def test_bad_commands_are_errors_and_the_session_goes_on(drop, command):
    with login(drop) as client:
        assert say(client, command).startswith("-ERR")
        assert say(client, "NOOP").startswith("+OK")


def test_pipelined_commands(drop):
    with login(drop) as client:
        client.send("STAT\r\nNOOP\r\nUIDL 1\r\nQUIT\r\n")
        assert all(client.line().startswith("+OK") for _ in range(4))
        assert client.ended()


def test_random_bytes_and_endless_lines_cost_only_their_session(rootless):
    for seed in range(20):
        source = random.Random(seed)
        with (login(rootless, "pop3") if seed % 4 == 0 else rootless.raw("pop3")) as client:
            try:
                client.send(source.randbytes(3000) + b"\r\n" if seed % 2 else b"x" * 1000000)
            except OSError:
                pass
    wait_for("a login", lambda: login(rootless).close() is None)
    assert all(p["restarts"] == 0 for p in rootless.processes("pop3-login"))


def test_apop_is_refused_politely(rootless):
    with rootless.raw("pop3s", tls=True) as client:
        client.line()
        digest = hashlib.md5(b"<x@y>bob-password").hexdigest()
        assert say(client, f"APOP {BOB} {digest}").startswith("-ERR")
