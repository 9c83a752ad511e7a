"""A mail directory of another server goes on with us, and its clients notice nothing."""
import os
import poplib
import re
import subprocess

import pytest

from veredus import BOB, NOBODY, PASSWORDS

LIBEXEC = "/usr/lib/dovecot"

needs_dovecot = pytest.mark.skipif(
    not all(os.access(os.path.join(LIBEXEC, p), os.X_OK) for p in ("imap", "pop3")),
    reason="dovecot-imapd and dovecot-pop3d are not installed")

MESSAGES = [(r"(\Seen $Label1)", "11-Feb-2020 10:00:00 +0000"),
            (r"(\Flagged Junk)", "12-Feb-2020 10:00:00 +0000"),
            (r"(\Answered \Draft)", "13-Feb-2020 10:00:00 +0000"),
            (r"()", "14-Feb-2020 10:00:00 +0000")]


class Dovecot:
    """Its IMAP and POP3 servers on standard input, without the rest."""

    def __init__(self, instance):
        self.instance = instance
        self.home = os.path.join(instance.parent, "dovecot")
        self.mail = os.path.join(instance.dir, "mail", "example.test", "bob")
        for path in (self.home, os.path.join(instance.dir, "mail"), os.path.dirname(self.mail),
                     self.mail):
            if not os.path.exists(path):
                os.mkdir(path, 0o700)
                if instance.as_nobody:
                    os.chown(path, NOBODY, NOBODY)
        self.conf = os.path.join(self.instance.parent, "dovecot.conf")
        with open(self.conf, "w") as file:
            file.write(f"base_dir = {self.home}/run\nlog_path = {self.home}/log\nssl = no\n"
                       f"mail_location = maildir:{self.mail}\nfirst_valid_uid = 1\n"
                       "protocols = imap pop3\n")
        os.chmod(self.conf, 0o644)

    def run(self, protocol, *lines):
        command = [os.path.join(LIBEXEC, protocol), "-c", self.conf]
        if self.instance.as_nobody:
            command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
                       "--", *command]
        result = subprocess.run(command, input="\r\n".join(lines) + "\r\n", text=True, check=False,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
                                env={"HOME": self.home, "USER": "bob", "PATH": "/usr/bin:/bin"})
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout


def append(folder, i, flags, date):
    text = f"Subject: message {i}\r\n\r\nText {i}.\r\n"
    return [f'a{i} APPEND {folder} {flags} "{date}" {{{len(text)}+}}', text]


def fetched(lines):
    """UID -> (flags, date) of FETCH answers; \\Recent is nobody's business."""
    found = {}
    for line in lines:
        uid = re.search(r"UID (\d+)", line)
        if uid and "INTERNALDATE" in line:
            flags = set(re.search(r"FLAGS \(([^)]*)\)", line)[1].split()) - {"\\Recent"}
            found[int(uid[1])] = (flags, re.search(r'INTERNALDATE "([^"]*)"', line)[1])
    return found


def number(text, name):
    return int(re.search(rf"{name} (\d+)", text)[1])


@needs_dovecot
def test_uids_flags_dates_unique_ids_and_subscriptions_are_kept(fresh):
    instance = fresh()
    dovecot = Dovecot(instance)
    lines = [line for i, (flags, date) in enumerate(MESSAGES)
             for line in append("INBOX", i, flags, date)]
    dovecot.run("imap", *lines, 'b CREATE "Entw&APw-rfe"', "c CREATE Sent.2024",
                'd SUBSCRIBE "Entw&APw-rfe"', "e SUBSCRIBE Sent.2024",
                *append("Sent.2024", 9, r"(\Seen)", "15-Feb-2020 10:00:00 +0000"),
                "f SELECT INBOX", r"g STORE 3 +FLAGS (\Deleted)", "h EXPUNGE", "z LOGOUT")
    before = dovecot.run("imap", "a SELECT INBOX", "b UID FETCH 1:* (UID FLAGS INTERNALDATE)",
                         "c STATUS Sent.2024 (UIDVALIDITY UIDNEXT MESSAGES)", "z LOGOUT")
    uidls = re.findall(r"^\d+ (\S+)\r?$", dovecot.run("pop3", "UIDL", "QUIT"), re.MULTILINE)
    assert len(uidls) == 3 and set(fetched(before.splitlines())) == {1, 2, 4}, before

    instance.start()
    client = instance.imap_client(BOB)
    client.select("INBOX")
    for name in ("UIDVALIDITY", "UIDNEXT"):
        assert int(client.response(name)[1][0]) == number(before, name), name
    answer = [x.decode() for x in client.uid("fetch", "1:*", "(UID FLAGS INTERNALDATE)")[1]]
    assert fetched(answer) == fetched(before.splitlines())
    text = client.uid("fetch", "4", "(BODY.PEEK[])")[1][0][1]
    assert text == b"Subject: message 3\r\n\r\nText 3.\r\n"
    status = client.status("Sent/2024", "(UIDVALIDITY UIDNEXT MESSAGES)")[1][0].decode()
    theirs = before[before.index("* STATUS"):]
    for name in ("UIDVALIDITY", "UIDNEXT", "MESSAGES"):
        assert number(status, name) == number(theirs, name), name
    subscribed = b" ".join(client.lsub()[1])
    assert b"Sent/2024" in subscribed and b"Entw" in subscribed
    client.logout()

    pop = poplib.POP3("127.0.0.1", instance.pop3, timeout=30)
    pop.user(BOB)
    pop.pass_(PASSWORDS[BOB])
    assert [line.decode().split()[1] for line in pop.uidl()[1]] == uidls
    pop.quit()

    instance.send("after the move", to=BOB)
    instance.wait_mail("after the move", BOB)
    client = instance.imap_client(BOB)
    client.select("INBOX")
    assert client.uid("search", "SUBJECT", '"after the move"')[1][0] == b"5"
    client.logout()
    assert instance.veredus("mailbox", "verify", BOB).stdout.count("whole") == 3


@needs_dovecot
def test_folders_that_dovecot_named_in_utf8_are_there(fresh):
    instance = fresh()
    dovecot = Dovecot(instance)
    with open(dovecot.conf) as file:
        text = file.read()
    with open(dovecot.conf, "w") as file:
        file.write(text.replace(dovecot.mail, dovecot.mail + ":UTF-8"))
    dovecot.run("imap", 'a CREATE "Entw&APw-rfe"', 'b CREATE "Entw&APw-rfe.&U,BTFw-"',
                'c SUBSCRIBE "Entw&APw-rfe"', "d CREATE R&-D",
                *append('"Entw&APw-rfe.&U,BTFw-"', 1, "()", "15-Feb-2020 10:00:00 +0000"), "z LOGOUT")
    assert ".Entwürfe.台北" in os.listdir(dovecot.mail)
    instance.start()
    client = instance.imap_client(BOB)
    lines = b"\n".join(client.list()[1])
    for name in (b'"Entw&APw-rfe"', b'"Entw&APw-rfe/&U,BTFw-"', b'"R&-D"'):
        assert lines.count(name) == 1, lines
    assert b"Entw&APw-rfe" in client.lsub()[1][0]
    assert client.status('"Entw&APw-rfe/&U,BTFw-"', "(MESSAGES)")[1][0].endswith(b"(MESSAGES 1)")
    assert client.rename('"Entw&APw-rfe"', "Drafts")[0] == "OK"
    assert client.status('"Drafts/&U,BTFw-"', "(MESSAGES)")[1][0].endswith(b"(MESSAGES 1)")
    client.logout()


def numbers(instance):
    client = instance.imap_client(BOB)
    client.select("INBOX")
    validity, uidnext = (int(client.response(n)[1][0]) for n in ("UIDVALIDITY", "UIDNEXT"))
    uids = client.uid("search", "ALL")[1][0].split()
    client.logout()
    return validity, uidnext, uids


@pytest.mark.parametrize("kind", ["rootless", "rooted"])
def test_old_numbers_are_taken_over_by_delivery_and_only_once(fresh, kind):
    instance = fresh(kind == "rooted").start()
    instance.send("makes the mail directory", to=BOB)
    instance.wait_mail("makes the mail directory", BOB)
    instance.stop()
    mail = os.path.join(instance.dir, "mail", "example.test", "bob")
    owner = os.stat(mail)
    for name in ("veredus.index", "veredus.log"):
        os.unlink(os.path.join(mail, "veredus.inbox", name))
    for name, text in (("cur/1500000000.M1.host:2,S", "Subject: old\n\nx\n"),
                       ("dovecot-uidlist", "3 V1275660208 N20\n17 :1500000000.M1.host\n")):
        path = os.path.join(mail, name)
        with open(path, "w") as file:
            file.write(text)
        os.chown(path, owner.st_uid, owner.st_gid)
    instance.start()
    instance.send("delivered first", to=BOB)
    instance.wait_mail("delivered first", BOB)
    assert numbers(instance) == (1275660208, 22, [b"17", b"20", b"21"])
    instance.stop()
    for name in ("veredus.index", "veredus.log"):
        os.unlink(os.path.join(mail, "veredus.inbox", name))
    instance.start()
    validity, uidnext, uids = numbers(instance)
    assert validity > 1275660208 and uidnext == 4 and uids == [b"1", b"2", b"3"]
