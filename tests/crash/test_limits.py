"""Sessions and agents without descriptors, with a full disk, with files they may not touch: an error
for each verb, nothing half done, nothing lost, and the session goes on when the trouble is over."""
import contextlib
import imaplib
import os
import poplib
import re
import subprocess

import pytest

from test_full import fill, mount_small
from veredus import ALICE, NOBODY, PASSWORDS, SLOW, message, tls_context, wait_for

FIRST = 6


def letter(subject, size=300):
    return message(subject, ALICE, ALICE, ("l" * 70 + "\r\n") * (size // 72 + 1)).encode()


def limit_descriptors(pid, soft):
    """Done as the process's own user: root may lack the capability for that of others."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        fields = dict(line.split(":", 1) for line in status)
    subprocess.run(["prlimit", f"--pid={pid}", f"--nofile={soft}:"], check=True,
                   user=int(fields["Uid"].split()[0]), group=int(fields["Gid"].split()[0]))


@contextlib.contextmanager
def no_descriptors(pid):
    """This process gets no descriptor that it does not have already."""
    with open(f"/proc/{pid}/limits", encoding="ascii") as limits:
        soft = re.search(r"Max open files +(\d+)", limits.read())[1]
    numbers = {int(n) for n in os.listdir(f"/proc/{pid}/fd")}
    limit_descriptors(pid, min(set(range(len(numbers) + 1)) - numbers))
    try:
        yield
    finally:
        with contextlib.suppress(subprocess.CalledProcessError, FileNotFoundError,
                                 ProcessLookupError):
            limit_descriptors(pid, soft)  # unless its session has ended, maybe just now


@contextlib.contextmanager
def no_space(path):
    ballast = fill(path)
    try:
        yield
    finally:
        os.unlink(ballast)


@pytest.fixture
def small(fresh):
    """An instance whose mail lies on a small file system, with some messages for ALICE."""
    if os.getuid() != 0:
        pytest.skip("needs root to mount a small file system and to lower limits of others")
    instance = fresh()
    path = instance.path("mail")
    subprocess.run(["cp", "-a", path, path + ".kept"], check=True)
    mount_small(path, "24M", NOBODY)
    subprocess.run(["cp", "-a", path + ".kept/.", path], check=True)
    instance.start()
    client = instance.imap_client()
    for number in range(FIRST):
        assert client.append("INBOX", None, None, letter(f"first {number}"))[0] == "OK"
    for folder in ("Box", "Old"):
        assert client.create(folder)[0] == "OK"
        assert client.append(folder, None, None, letter(f"in {folder}"))[0] == "OK"
    client.logout()
    yield instance
    instance.kill_everything()
    subprocess.run(["umount", "-l", path], check=False)


def session_of(instance, connect):
    """What connect() returns, and the process that serves it."""
    before = set(instance.family())
    client = connect()
    def arrived():
        new = set(instance.family()) - before
        return new if len(new) == 1 else None
    return client, wait_for("the session's process", arrived).pop()


VERBS = {
    "append": lambda c: c.append("INBOX", None, None, letter("appended")),
    "append-large": lambda c: c.append("INBOX", None, None, letter("large", 300000)),
    "append-other": lambda c: c.append("Box", None, None, letter("other")),
    "copy": lambda c: c.uid("COPY", "1", "Box"),
    "move": lambda c: c.uid("MOVE", "2", "Box"),
    "flags": lambda c: c.uid("STORE", "3", "+FLAGS", "(\\Flagged word)"),
    "expunge": lambda c: c.uid("EXPUNGE", "6"),
    "fetch": lambda c: c.uid("FETCH", "4", "(BODY.PEEK[])"),
    "fetch-all": lambda c: c.uid("FETCH", "1:*", "(FLAGS ENVELOPE BODYSTRUCTURE)"),
    "search": lambda c: c.uid("SEARCH", "TEXT", "lll"),
    "status": lambda c: c.status("Box", "(MESSAGES UIDNEXT)"),
    "list": lambda c: c.list(),
    "subscribe": lambda c: c.subscribe("Box"),
    "create": lambda c: c.create("New"),
    "rename": lambda c: c.rename("Old", "Older"),
    "delete": lambda c: c.delete("Older"),
    "noop": lambda c: c.noop(),
}


def subjects(client, folder):
    """Of all messages; each is whole."""
    assert client.select(folder)[0] == "OK"
    _, data = client.uid("FETCH", "1:*", "(BODY.PEEK[])")
    found = []
    for item in data:
        if isinstance(item, tuple):
            assert item[1].endswith(b"l\r\n"), item[1][-100:]
            found.append(re.search(rb"Subject: (.*)\r\n", item[1])[1].decode())
    return sorted(found)


def verify(instance):
    for line in instance.veredus("mailbox", "verify", ALICE).stdout.splitlines():
        assert line.endswith(": whole"), line


@pytest.mark.parametrize("trouble", ["descriptors", "space"])
def test_each_imap_verb_says_no_and_goes_on(small, trouble):
    for name, verb in VERBS.items():
        client, pid = session_of(small, small.imap_client)
        assert client.select("INBOX")[0] == "OK"
        before = {folder: subjects(client, folder) for folder in ("Box", "INBOX")}
        with no_descriptors(pid) if trouble == "descriptors" else no_space(small.path("mail")):
            try:
                status, data = verb(client)
            except imaplib.IMAP4.error as error:
                raise AssertionError(f"{name}: {error}") from error
            assert status in ("OK", "NO"), (name, status, data)
            if status == "NO":
                assert b"SERVERBUG" not in data[0], (name, data)
            assert client.noop()[0] == "OK", name
        if status == "NO":
            # Nothing half done: all is as it was, and the same verb works now, in this session.
            now = {folder: subjects(client, folder) for folder in ("Box", "INBOX")}
            assert now == before, name
            status, data = verb(client)
            assert status == "OK", (name, data)
        client.logout()
    verify(small)


@pytest.mark.parametrize("trouble", ["descriptors", "space"])
def test_a_pop3_session_survives(small, trouble):
    def connect():
        client = poplib.POP3_SSL("127.0.0.1", small.pop3s, context=tls_context(),
                                 timeout=30 * SLOW)
        client.user(ALICE)
        client.pass_(PASSWORDS[ALICE])
        return client
    client, pid = session_of(small, connect)
    with no_descriptors(pid) if trouble == "descriptors" else no_space(small.path("mail")):
        for number in (1, 2):
            with contextlib.suppress(poplib.error_proto):
                client.retr(number)
        assert client.stat()[0] == FIRST
        client.dele(1)
        with contextlib.suppress(poplib.error_proto):
            client.quit()
    imap = small.imap_client()
    left = subjects(imap, "INBOX")
    assert set(left) >= {f"first {n}" for n in range(1, FIRST)} and len(left) in (FIRST, FIRST - 1)
    imap.logout()
    verify(small)


def test_deliveries_wait_while_the_agent_has_no_descriptors(small):
    small.send("before")
    small.wait_mail("before")
    with contextlib.ExitStack() as limits:
        for pid in small.pids("virtual"):
            limits.enter_context(no_descriptors(pid))
        for number in range(3):
            small.send(f"while {number}")
        wait_for("deferrals", lambda: len([e for e in small.log_find(event="dlv.done")
                                           if e["result"] == "deferred"]) >= 3, 20)
    small.veredus("queue", "flush")
    for number in range(3):
        small.wait_mail(f"while {number}", timeout=30)
    wait_for("an empty queue", lambda: small.queue() == [], 20)
    names = [m["Subject"] for m in small.mails()]
    assert len(names) == len(set(names)) == FIRST + 4
    verify(small)


def folder(instance, name=""):
    return instance.path("mail/example.test/alice/" + name)


@contextlib.contextmanager
def roots(path, mode=0o600):
    """Belongs to root for a while."""
    was = os.stat(path)
    os.chown(path, 0, 0)
    os.chmod(path, mode)
    try:
        yield
    finally:
        os.chown(path, was.st_uid, was.st_gid)
        os.chmod(path, was.st_mode & 0o7777)


@pytest.mark.parametrize("name", ["veredus.index", "veredus.log", "veredus.cache"])
def test_files_of_ours_that_belong_to_root_are_an_error_and_nothing_is_lost(small, name):
    path = folder(small, ".Box/" + name)
    client = small.imap_client()
    with roots(path):
        status, data = client.select("Box")
        assert status == "OK" if name == "veredus.cache" else (
            status == "NO" and b"SERVERBUG" not in data[0]), (status, data)
        assert client.noop()[0] == "OK"
        small.send("in between", to=ALICE)
        small.wait_mail("in between")
    assert subjects(client, "Box") == ["in Box"]
    verify(small)


def test_a_directory_that_may_not_be_written_to_is_an_error_and_nothing_is_lost(small):
    client = small.imap_client()
    with roots(folder(small, ".Box/cur"), 0o555):
        status, data = client.append("Box", None, None, letter("no"))
        assert status == "NO" and b"SERVERBUG" not in data[0], data
        assert client.select("Box") == ("OK", [b"1"])
        assert client.uid("FETCH", "1", "(BODY.PEEK[])")[0] == "OK"
    assert client.append("Box", None, None, letter("yes"))[0] == "OK"
    assert subjects(client, "Box") == ["in Box", "yes"]
    verify(small)


def test_a_message_file_of_root_is_reported_and_stays(small):
    client = small.imap_client()
    [name] = os.listdir(folder(small, ".Box/cur"))
    with roots(folder(small, ".Box/cur/" + name)):
        assert client.select("Box") == ("OK", [b"1"])
        status, data = client.uid("FETCH", "1", "(BODY.PEEK[])")
        assert status == "NO" and b"SERVERBUG" not in data[0], (status, data)
        report = small.veredus("mailbox", "verify", ALICE, "Box", status=None)
        assert report.returncode != 0 and "message 1" in report.stdout, report.stdout
        small.veredus("mailbox", "rebuild", ALICE, "Box")
        assert client.noop()[0] == "OK"
    assert subjects(client, "Box") == ["in Box"]
    verify(small)
