"""Other programs beside us on the mailboxes of a domain with `coexist yes`, and mailboxes that change
from one kind to the other."""
import email
import os
import pwd
import re

import pytest

import beside
from conftest import make
from veredus import ALICE, BOB, PASSWORDS, wait_for

YES = (r"^    plus-address yes", "    plus-address yes\n    coexist yes")
NO = (r"^    coexist yes", "    coexist no")


class Mailbox:
    """A virtual user's mailbox, and a directory for those who use it beside us."""

    def __init__(self, instance, login=ALICE):
        name, domain = login.split("@")
        self.name, self.address, self.login = name, login, login
        self.maildir = instance.path(f"mail/{domain}/{name}")
        self.home = os.path.join(instance.parent, f"home-{name}")
        self.uid = os.stat(instance.path("mail")).st_uid
        self.gid = pwd.getpwuid(self.uid).pw_gid
        os.mkdir(self.home, 0o700)
        if os.getuid() == 0:
            os.chown(self.home, self.uid, self.gid)
            os.chmod(instance.dir, 0o755)

    def path(self, name):
        return os.path.join(self.home, name)

    def put(self, name, text, mode=0o600):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(self.path(name), mode)
        if os.getuid() == 0:
            os.chown(self.path(name), self.uid, self.gid)

    def files(self):
        return [os.path.join(self.maildir, top, name) for top in ("new", "cur")
                for name in os.listdir(os.path.join(self.maildir, top))]

    def has(self, subject):
        count = 0
        for path in self.files():
            with open(path, "rb") as file:
                count += email.message_from_bytes(file.read())["Subject"] == subject
        return count


@pytest.fixture(scope="module", params=["rootless", "rooted"])
def host(request):
    instance = make(request.param == "rooted")
    instance.edit_conf(YES)
    try:
        yield instance.start()
    finally:
        instance.discard()


@pytest.fixture(scope="module")
def mailbox(host):
    return Mailbox(host)


def test_dovecot_and_we_change_one_maildir_while_mail_arrives(host, mailbox):
    host.send("the first makes it", to=mailbox.address)
    wait_for("the mail", lambda: os.path.isdir(mailbox.maildir + "/new") and mailbox.files())
    client = host.imap_client(mailbox.login)
    client.select("INBOX")
    client.store("1:*", "+FLAGS", r"(\Deleted)")
    client.expunge()
    client.logout()
    beside.dovecot_and_we_change_one_maildir(host, mailbox)


def test_mbsync_mirrors_the_same_maildir_both_ways(host, mailbox, tool):
    beside.mbsync_mirrors_both_ways(host, mailbox, tool)


def test_mutt_flags_and_deletes_in_the_same_maildir(host, mailbox, tool):
    beside.mutt_flags_and_deletes(host, mailbox, tool)


def test_files_are_as_other_programs_expect_them(host, mailbox):
    subject = beside.send(host, mailbox, "plain")
    wait_for("the mail", lambda: mailbox.has(subject))
    client = host.imap_client(mailbox.login)
    client.append("INBOX", r"(\Seen)", None, b"Subject: appended\r\n\r\nx\r\n")
    client.logout()
    for path in mailbox.files():
        with open(path, "rb") as file:
            assert b"\r" not in file.read()
    assert any("/new/" in path for path in mailbox.files())
    assert any(path.endswith(":2,S") for path in mailbox.files())
    whole = host.veredus("mailbox", "verify", mailbox.address).stdout
    assert "whole" in whole


def test_mail_with_crlf_is_the_same_for_all(host, mailbox, tool):
    beside.crlf_mail_is_the_same_for_all(host, mailbox, tool)


def test_nothing_of_such_a_mailbox_can_be_shared(host, mailbox):
    client = host.imap_client(mailbox.login)
    answer, data = client.setacl("INBOX", BOB, "lr")
    assert answer == "NO" and b"[CANNOT]" in data[0] and b"other programs" in data[0]
    client.logout()
    refused = host.veredus("acl", "set", mailbox.address, "INBOX", BOB, "lr", status=None)
    assert refused.returncode != 0 and "coexist yes" in refused.stderr


def test_a_reload_cannot_change_it(host):
    before = host.read("veredus.conf")
    host.edit_conf(NO)
    refused = host.veredus("reload", status=None)
    text = refused.stdout + refused.stderr
    assert refused.returncode != 0 and "coexist" in text and "while the system runs" in text
    host.write("veredus.conf", before)
    host.veredus("reload")


# --- from one kind to the other -----------------------------------------------------------------
@pytest.fixture(scope="module", params=["rootless", "rooted"])
def changing(request):
    instance = make(request.param == "rooted")
    instance.edit_conf((r"^    plus-address yes", "    plus-address yes\n    coexist no"))
    try:
        yield instance.start()
    finally:
        instance.discard()


def change(instance):
    instance.stop()
    now = re.search(r"^    coexist (\w+)", instance.read("veredus.conf"), re.M)[1]
    instance.edit_conf((r"^    coexist \w+", f"    coexist {'no' if now == 'yes' else 'yes'}"))
    instance.start()


WHAT = "(UID FLAGS RFC822.SIZE INTERNALDATE BODY.PEEK[])"


def everything(instance, folder):
    client = instance.imap_client()
    client.select(folder)
    state = [client.untagged_responses[k] for k in ("UIDVALIDITY",)]
    found = {}
    for part in client.fetch("1:*", WHAT)[1]:
        if isinstance(part, tuple):
            head = part[0].decode()
            found[re.search(r"UID (\d+)", head)[1]] = (
                set(re.search(r"FLAGS \(([^)]*)\)", head)[1].split()) - {"\\Recent"},
                re.search(r"RFC822.SIZE (\d+)", head)[1], re.search(r'"([^"]*)"', head)[1], part[1])
    client.logout()
    return state, found


def test_a_mailbox_keeps_everything_when_its_kind_changes(changing):
    host, kept = changing, {}
    client = host.imap_client()
    client.create("Archive")
    client.logout()
    for turn in range(4):
        subject = f"turn {turn}"
        host.send(subject, body="A line.\r\nAnother.\r\n" * 3000 if turn % 3 else "One.\r\n")
        client = host.imap_client()
        wait_for("the mail", lambda: client.select("INBOX") and
                 client.search(None, "SUBJECT", f'"{subject}"')[1][0])
        client.append("Archive", r"(\Flagged $Label1)", None,
                      f"Subject: {subject}\r\n\r\nx\r\n".encode())
        client.store(str(turn + 1), "+FLAGS", r"(\Answered $Label2)")
        client.copy("1", "Archive")
        client.logout()
        before = {folder: everything(host, folder) for folder in ("INBOX", "Archive")}
        for folder, (state, mails) in kept.items():
            assert before[folder][0] == state
            assert {uid: before[folder][1].get(uid) for uid in mails} == mails
        change(host)
        kept = {folder: everything(host, folder) for folder in ("INBOX", "Archive")}
        assert kept == before
        for path in (part for _, mails in kept.values() for part in mails.values()):
            assert len(path[3]) == int(path[1])
        assert "whole" in host.veredus("mailbox", "verify", ALICE).stdout


def test_a_share_rests_while_other_programs_use_the_mailbox(changing):
    host = changing
    if "coexist yes" in host.read("veredus.conf"):
        change(host)
    theirs = f'"Other Users/{ALICE}"'

    def bob_sees():
        client = host.imap_client(BOB)
        found = any(theirs.encode() in line for line in client.list()[1])
        selected = client.select(theirs, readonly=True)[0] == "OK"
        client.logout()
        assert selected == found
        return found
    host.send("for the team")
    host.wait_mail("for the team")
    host.veredus("acl", "set", ALICE, "INBOX", BOB, "lrs")
    assert bob_sees()
    before = everything(host, "INBOX")
    change(host)
    assert not bob_sees()
    assert everything(host, "INBOX") == before
    change(host)
    assert everything(host, "INBOX") == before
    # From the moment on that a process of the owner's has put the index where others may look.
    assert bob_sees()


def test_commands_use_the_mailbox_for_what_it_is(changing, tmp_path):
    host = changing
    if "coexist no" in host.read("veredus.conf"):
        change(host)
    box = f"{host.path('mail')}/{ALICE.split('@')[1]}/{ALICE.split('@')[0]}"
    for command in (("mailbox", "verify", ALICE), ("mailbox", "housekeep", ALICE),
                    ("quota", "recount", ALICE), ("mailbox", "rebuild", ALICE)):
        host.veredus(*command, status=None)
        assert not os.path.exists(f"{box}/veredus.inbox"), command
    assert "whole" in host.veredus("mailbox", "verify", ALICE).stdout


def test_dovecot_reads_mail_that_came_before_it_as_we_do(changing):
    host = changing
    if "coexist yes" in host.read("veredus.conf"):
        change(host)
    for body in ("One.\r\n", "A line.\r\nAnother.\r\n" * 3000):
        host.send(f"before {len(body)}", body=body)
        host.wait_mail(f"before {len(body)}")
    change(host)
    mailbox = Mailbox(host)
    ours = {uid: (flags, size) for uid, (flags, size, _, _) in everything(host, "INBOX")[1].items()}
    theirs = {size for size in re.findall(r"RFC822.SIZE (\d+)",
                                          beside.dovecot(mailbox, "FETCH 1:* (RFC822.SIZE)"))}
    assert {size for _, size in ours.values()} == theirs
    text = beside.dovecot(mailbox, "FETCH 1:* (BODY.PEEK[])", r"STORE 1:* +FLAGS.SILENT (\Flagged)")
    assert "\r\r" not in text and "Another." in text
    wait_for("their flags", lambda: all(
        "\\Flagged" in flags for flags, _, _, _ in everything(host, "INBOX")[1].values()))
    now = everything(host, "INBOX")[1]
    assert {uid: size for uid, (_, size, _, _) in now.items()} == {
        uid: size for uid, (_, size) in ours.items()}
