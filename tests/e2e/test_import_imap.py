"""veredus mailbox import from IMAP servers: Dovecot, a second instance of ours, and bad ones."""
import json
import os
import random
import signal
import socket
import subprocess
import threading
import time

import pytest

from veredus import ALICE, BOB, NOBODY, PASSWORDS, Instance
from test_adopt import Dovecot, needs_dovecot

DATE = '"20-Nov-2025 02:00:00 +0000"'


@pytest.fixture(scope="module")
def source():
    """Where mail comes from."""
    instance = Instance(rooted=False).init()
    try:
        yield instance.start()
    finally:
        instance.discard()


def unique(text):
    return f"{text}-{random.getrandbits(32):x}"


def secret(instance, password):
    path = os.path.join(instance.parent, unique("password"))
    with open(path, "w") as file:
        file.write(password + "\n")
    if instance.as_nobody:
        os.chown(path, NOBODY, NOBODY)
    os.chmod(path, 0o600)
    return path


def arguments(instance, user, port, *options, login=BOB, host="localhost", password=None):
    return ["mailbox", "import", user, "imap", f"[{host}]:{port}", "--login", login,
            "--password-file", secret(instance, password or PASSWORDS[BOB]), *options]


def take(instance, user, port, *options, status=0, **more):
    result = instance.veredus(*arguments(instance, user, port, *options, "--json", **more),
                              status=status)
    return json.loads(result.stdout.splitlines()[-1]), result.stderr


def verified(source):
    return ["--tls", "implicit", "--ca", source.path("tls/cert.pem")]


def listing(instance, user, folder):
    client = instance.imap_client(user)
    assert client.select(f'"{folder}"', readonly=True)[0] == "OK"
    found = client.fetch("1:*", "(FLAGS INTERNALDATE BODY.PEEK[])")[1]
    client.logout()
    return [(sorted(set(p[0].decode().split("FLAGS (")[1].split(")")[0].split()) - {"\\Recent"}),
             p[0].decode().split('INTERNALDATE "')[1].split('"')[0], p[1])
            for p in found if isinstance(p, tuple)]


def fill(client, folder, count, first=0):
    client.create(f'"{folder}"')
    for i in range(first, first + count):
        client.append(f'"{folder}"', "(\\Flagged $Work)" if i % 2 else "(\\Seen)", DATE,
                      f"Subject: {folder} {i}\r\n\r\n{'x' * (i * 37 % 5000)}\r\n".encode())


def test_folders_flags_dates_and_subscriptions_arrive_once(either, source):
    folder = unique("Entw&APw-rfe/2024")
    here = folder.replace("&APw-", "ü")
    client = source.imap_client(BOB)
    fill(client, folder, 7)
    client.subscribe(f'"{folder}"')
    counts, _ = take(either, BOB, source.imaps, *verified(source))
    assert counts["messages"] >= 7 and counts["skipped"] == 0
    assert listing(either, BOB, folder) == listing(source, BOB, folder)
    assert f"{here}  subscribed" in either.veredus("mailbox", "list", BOB).stdout
    again, _ = take(either, BOB, source.imaps, *verified(source))
    assert again["messages"] == 0
    fill(client, folder, 2, 7)
    client.logout()
    later, _ = take(either, BOB, source.imaps, *verified(source), "--folder", here)
    assert (later["messages"], later["folders"]) == (2, 1)
    assert listing(either, BOB, folder) == listing(source, BOB, folder)
    # Without its notes it still knows what it has brought.
    os.unlink(either.path("mail/example.test/bob/veredus.import"))
    once_more, _ = take(either, BOB, source.imaps, *verified(source), "--folder", here)
    assert (once_more["messages"], once_more["present"]) == (0, 9)


def test_an_import_that_is_killed_goes_on_without_duplicates(rootless, source):
    folder = unique("killed")
    client = source.imap_client(BOB)
    fill(client, folder, 60)
    client.logout()
    for i in range(6):
        process = subprocess.Popen(
            rootless.command("veredus", "-d", rootless.dir, *arguments(
                rootless, ALICE, source.imaps, *verified(source), "--folder", folder)),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(0.02 + i * 0.02)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            time.sleep(0.1)
    take(rootless, ALICE, source.imaps, *verified(source), "--folder", folder)
    assert listing(rootless, ALICE, folder) == listing(source, BOB, folder)


def test_starttls_mapping_and_dry_run(rootless, source):
    folder, to = unique("from"), unique("to")
    client = source.imap_client(BOB)
    fill(client, folder, 3)
    client.logout()
    options = ["--tls", "starttls", "--ca", source.path("tls/cert.pem"), "--folder", folder,
               "--map", f"{folder}={to}"]
    take(rootless, ALICE, source.imap, *options, "--dry-run")
    assert to not in rootless.veredus("mailbox", "list", ALICE).stdout
    take(rootless, ALICE, source.imap, *options)
    assert listing(rootless, ALICE, to) == listing(source, BOB, folder)


def test_a_server_must_be_who_it_says(rootless, source):
    _, why = take(rootless, ALICE, source.imaps, "--tls", "implicit", status=1)
    assert "certificate" in why
    _, why = take(rootless, ALICE, source.imaps, "--tls", "implicit", "--ca",
                  rootless.path("tls/cert.pem"), status=1)
    assert "certificate" in why
    take(rootless, ALICE, source.imaps, "--tls", "implicit", "--insecure", "--dry-run")
    _, why = take(rootless, ALICE, source.imaps, *verified(source), password="wrong", status=1)
    assert "login" in why and "wrong" not in why
    assert "run it again" not in why
    _, why = take(rootless, ALICE, source.imaps, *verified(source), "--folder", "Nowhere", status=1)
    assert "no folder Nowhere" in why and "run it again" not in why
    rootless.veredus("mailbox", "import", ALICE, "imap", "localhost", "--login", BOB, status=2)


class Script:
    """A server that says what it is told to, whatever it hears; %s is the tag of each command."""

    def __init__(self, answer):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.answer = answer
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as file:
                try:
                    file.write(b"* OK hello\r\n")
                    file.flush()
                    for line in file:
                        tag, command = line.decode().rstrip().split(" ", 1)
                        file.write(self.answer(tag, command))
                        file.flush()
                except OSError:
                    pass

    def close(self):
        self.listener.close()


def usual(tag, command, fetch):
    ok = f"{tag} OK done\r\n".encode()
    if command.startswith("LIST"):
        return b'* LIST () "." "Odd.Box"\r\n' + ok
    if command.startswith("EXAMINE"):
        return b"* 3 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n* OK [UIDNEXT 40] x\r\n" + ok
    if command.startswith("UID FETCH"):
        return fetch(tag, command)
    return ok


def one(uid, text=b"Subject: x\r\n\r\nbody\r\n"):
    return b"* 1 FETCH (BODY[] {%d}\r\n%s UID %d FLAGS (\\Seen $A))\r\n" % (len(text), text, uid)


def test_what_a_server_does_not_give_is_skipped_and_counted(rootless):
    def fetch(tag, command):
        first = int(command.split()[2].split(":")[0])
        ok = f"{tag} OK done\r\n".encode()
        if "BODY" not in command:
            return b"".join(b"* 1 FETCH (UID %d)\r\n" % u for u in (10, 20, 30) if u >= first) + ok
        if first <= 10:
            return one(10) + f"{tag} NO cannot\r\n".encode()
        if first <= 20:
            return f"{tag} NO cannot\r\n".encode()
        return one(30) + b"* 3 FETCH (UID 31 BODY[] NIL)\r\n" + ok
    server = Script(lambda tag, command: usual(tag, command, fetch))
    counts, why = take(rootless, ALICE, server.port, "--tls", "none", status=1)
    server.close()
    assert (counts["messages"], counts["skipped"]) == (2, 2), why
    assert "uid 20" in why and "uid 31" in why
    assert len(listing(rootless, ALICE, "Odd/Box")) == 2


@pytest.mark.parametrize("nonsense", [
    b"* 1 FETCH (BODY[] {99999999999999}\r\n", b"* 1 FETCH (((((((((((((((", b"\x00\xff\r\n",
    b'* LIST () "/" "' + b"a" * 100000 + b'"\r\n', b"* 4294967299 FETCH (UID x)\r\n", b"* BYE no\r\n",
    b"* 1 FETCH (UID 1 BODY[] {100}\r\nshort", b"v4 v4 v4\r\n"])
def test_nonsense_ends_in_an_error_and_nothing_else(rootless, nonsense):
    server = Script(lambda tag, command: usual(
        tag, command, lambda *_: nonsense) if len(nonsense) < 30000 else nonsense)

    def close_soon():
        time.sleep(1)
        server.close()
    before = rootless.veredus("mailbox", "list", ALICE).stdout
    process = subprocess.Popen(
        rootless.command("veredus", "-d", rootless.dir, *arguments(
            rootless, ALICE, server.port, "--tls", "none", "--map", "Odd/Box=INBOX")),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        process.wait(1)
    except subprocess.TimeoutExpired:
        process.kill()  # it waits for the rest, as it should
    server.close()
    assert process.wait() in (1, 75, -signal.SIGKILL), process.stderr.read()
    assert rootless.veredus("mailbox", "list", ALICE).stdout == before


@needs_dovecot
def test_from_dovecot(rootless, source):
    theirs = Dovecot(source)
    theirs.mail = os.path.join(source.parent, "theirs")
    os.mkdir(theirs.mail)
    if source.as_nobody:
        os.chown(theirs.mail, NOBODY, NOBODY)
    with open(theirs.conf, "a") as file:
        file.write(f"mail_location = maildir:{theirs.mail}\n"
                   "namespace inbox {\n inbox = yes\n prefix = INBOX.\n separator = .\n}\n")
    lines = ["b CREATE INBOX.Entw&APw-rfe.Alt", "s SUBSCRIBE INBOX.Entw&APw-rfe.Alt"]
    for i in range(5):
        text = f"Subject: d{i}\r\n\r\nText {i}.\r\n"
        lines += [f'a{i} APPEND INBOX.Entw&APw-rfe.Alt (\\Seen $K{i}) {DATE} {{{len(text)}+}}', text]
    theirs.run("imap", *lines, "z LOGOUT")
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        connection, _ = listener.accept()
        with connection:
            command = ["/usr/lib/dovecot/imap", "-c", theirs.conf]
            if source.as_nobody:
                command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
                           "--", *command]
            subprocess.run(command, stdin=connection, stdout=connection, check=False,
                           env={"HOME": theirs.home, "USER": "bob", "PATH": "/usr/bin:/bin"})
    threading.Thread(target=serve, daemon=True).start()
    counts, why = take(rootless, ALICE, listener.getsockname()[1], "--tls", "none")
    listener.close()
    assert counts["messages"] == 5, why
    found = listing(rootless, ALICE, "Entw&APw-rfe/Alt")
    assert [f for f, _, _ in found] == [sorted(["\\Seen", f"$K{i}"]) for i in range(5)]
    assert all(d.startswith("20-Nov-2025") for _, d, _ in found)
    assert found[3][2] == b"Subject: d3\r\n\r\nText 3.\r\n"
    assert "Entwürfe/Alt  subscribed" in rootless.veredus("mailbox", "list", ALICE).stdout
