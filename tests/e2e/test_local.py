"""Mail for accounts of this host: folders by detail, .forward, mbox files, and homes that lie.

Started as root, with a real account that is made for the test and removed afterwards.
"""
import fcntl
import glob
import json
import mailbox
import os
import pwd
import random
import shutil
import subprocess
import time

import pytest

from conftest import make
from veredus import ALICE, BOB, message, wait_for

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root to make an account")

HOST = "host.test"


class Account:
    def __init__(self):
        self.name = f"vt{random.getrandbits(32):x}"
        # Where other accounts have their homes when the test begins: trees known to the sandbox.
        subprocess.run(["useradd", "-m", "-s", "/bin/false", self.name], check=True)
        entry = pwd.getpwnam(self.name)
        self.uid, self.gid, self.home = entry.pw_uid, entry.pw_gid, entry.pw_dir
        self.address = f"{self.name}@{HOST}"

    def path(self, name):
        return os.path.join(self.home, name)

    def put(self, name, text, mode=0o600, owner=None):
        self.drop(name)
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(self.path(name), mode)
        os.chown(self.path(name), *(owner or (self.uid, self.gid)))

    def drop(self, name):
        path = self.path(name)
        if os.path.islink(path) or os.path.isfile(path):
            os.unlink(path)
        elif os.path.isdir(path):
            shutil.rmtree(path)
        elif os.path.exists(path):
            os.unlink(path)

    def mails(self, folder=""):
        texts = []
        for path in glob.glob(self.path(f"Maildir/{folder}") + "/new/*") + glob.glob(
                self.path(f"Maildir/{folder}") + "/cur/*"):
            with open(path, encoding="utf-8") as file:
                texts.append(file.read())
        return texts

    def has(self, subject, folder=""):
        return sum(f"Subject: {subject}\n" in text for text in self.mails(folder))

    def remove(self):
        subprocess.run(["userdel", "-r", "-f", self.name], check=False,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def account():
    made = Account()
    yield made
    made.remove()


@pytest.fixture(scope="module")
def host(account):
    instance = make(True)
    instance.edit_conf(append=f"local {{ domains {HOST} }}")
    instance.start()
    yield instance
    instance.discard()


@pytest.fixture
def tools(account):
    instance = make(True)
    instance.edit_conf(append=f"local {{ domains {HOST} }}\nmailbox {{ keep-deleted 14d }}\n"
                              "expire Trash { after 1s }\n")
    instance.start()
    yield instance
    instance.discard()


@pytest.fixture(autouse=True)
def clean_home(account):
    yield
    for name in (".forward", "list", "mbox", "mbox.lock", "pipe"):
        account.drop(name)


def unique(text):
    return f"{text} {random.getrandbits(32):x}"


def send(host, account, text, to=None, body="Hello.\r\n"):
    subject = unique(text)
    host.send(subject, to=to or account.address, body=body)
    return subject


def deferred(host, account, text):
    """Sends, waits for the deferral and gives its reason."""
    seen = len(host.log_find(event="dlv.store-fail", account=account.name))
    subject = send(host, account, text)
    found = wait_for("the deferral", lambda: host.log_find(
        event="dlv.store-fail", account=account.name)[seen:])
    assert not account.has(subject)
    return found[0]["reason"]


def test_mail_is_the_accounts_own(host, account):
    subject = send(host, account, "plain")
    wait_for("the mail", lambda: account.has(subject))
    for path in glob.glob(account.path("Maildir/new/*")):
        assert os.stat(path).st_uid == account.uid


def test_detail_is_a_folder_only_when_it_exists(host, account):
    wait_for("a mailbox", lambda: account.has(send(host, account, "first")) or account.mails())
    folder = account.path("Maildir/.Lists")
    for name in ("", "/new", "/cur", "/tmp"):
        os.mkdir(folder + name, 0o700)
        os.chown(folder + name, account.uid, account.gid)
    subject = send(host, account, "to a list", f"{account.name}+Lists@{HOST}")
    wait_for("the mail", lambda: account.has(subject, ".Lists"))
    subject = send(host, account, "to none", f"{account.name}+absent@{HOST}")
    wait_for("the mail", lambda: account.has(subject))
    assert not os.path.exists(account.path("Maildir/.absent"))


def test_a_virtual_users_detail_is_a_folder_too(host):
    client = host.imap_client(BOB)
    client.create("Work")
    subject = unique("work")
    host.send(subject, to="bob+Work@example.test")
    wait_for("the mail", lambda: client.select("Work")[1] != [b"0"])
    client.logout()


def test_forward_goes_on_to_addresses_and_keeps_a_copy(host, account):
    account.put(".forward", f"# both\n\\{account.name}, alice@example.test\n:include:"
                            f"{account.path('list')}\n", mode=0o644)
    account.put("list", "bob@example.test\n")
    subject = send(host, account, "forwarded")
    mail = host.wait_mail(subject, ALICE)
    assert account.address in mail.get_all("Delivered-To")
    assert mail["Return-Path"] == "<someone@elsewhere.test>"
    host.wait_mail(subject, BOB)
    wait_for("the copy", lambda: account.has(subject))
    assert account.has(subject) == 1
    assert len([m for m in host.mails(ALICE) if m["Subject"] == subject]) == 1
    assert host.log_find(event="dlv.forward", account=account.name, nrcpt=2)


def test_a_large_message_is_forwarded_whole(host, account):
    account.put(".forward", "alice@example.test\n")
    body = "A line of the large message.\r\n" * 20000
    subject = send(host, account, "large", body=body)
    mail = host.wait_mail(subject, ALICE)
    assert mail.get_content().replace("\r\n", "\n") == body.replace("\r\n", "\n")
    assert not account.has(subject)


def test_an_address_that_nobody_has_does_not_spoil_the_others(host, account):
    account.put(".forward", "nobody-here@example.test\nalice@example.test\n")
    subject = unique("half")
    host.send(subject, to=account.address, sender=BOB)
    host.wait_mail(subject, ALICE)
    wait_for("a report", lambda: any("nobody-here@example.test" in str(m)
                                     for m in host.mails(BOB)))


def test_a_loop_ends(host, account):
    other = Account()
    try:
        account.put(".forward", other.address + "\n")
        other.put(".forward", account.address + "\n")
        subject = unique("loop")
        host.send(subject, to=account.address, sender=BOB)
        wait_for("the end of the loop", lambda: host.log_find(
            event="dlv.store-fail", account=account.name, rule="loop"))
        wait_for("a report", lambda: any("loop" in str(m) and subject in str(m)
                                         for m in host.mails(BOB)))
        assert not account.has(subject)
    finally:
        other.remove()


def test_forward_to_an_mbox_file(host, account):
    account.put(".forward", account.path("mbox") + "\n")
    subjects = [send(host, account, "mbox", body="From the start\r\n") for _ in range(2)]
    wait_for("both", lambda: os.path.exists(account.path("mbox"))
             and len(mailbox.mbox(account.path("mbox"), create=False)) == 2)
    found = mailbox.mbox(account.path("mbox"), create=False)
    assert sorted(m["Subject"] for m in found) == sorted(subjects)
    assert all(">From the start" in m.get_payload() for m in found)
    stat = os.stat(account.path("mbox"))
    assert stat.st_uid == account.uid and stat.st_mode & 0o777 == 0o600
    wait_for("the end of the lock", lambda: not os.path.exists(account.path("mbox.lock")))


@pytest.mark.parametrize("how", ["dotlock", "fcntl", "stale"])
def test_a_locked_mbox_file_is_waited_for(host, account, how):
    path = account.path("mbox")
    account.put("mbox", "")
    account.put(".forward", path + "\n")
    with open(path, "r+b") as file:
        if how == "fcntl":
            fcntl.lockf(file, fcntl.LOCK_EX)
        else:
            account.put("mbox.lock", "")
        if how == "stale":
            os.utime(path + ".lock", (1, 1))
        subject = send(host, account, "locked")
        if how != "stale":
            wait_for("the delivery to begin", lambda: host.log_find(event="msg.accept"))
            assert os.path.getsize(path) == 0
            if how == "dotlock":
                os.unlink(path + ".lock")
            else:
                fcntl.lockf(file, fcntl.LOCK_UN)
    wait_for("the mail", lambda: mbox_subjects(path) == [subject])
    wait_for("the end of the lock", lambda: not os.path.exists(path + ".lock"))


@pytest.mark.parametrize("what", ["fifo", "file", "device-like link", "foreign"])
def test_a_maildir_that_is_none_is_left_alone(host, account, what):
    kept = account.path("Maildir.kept")
    path = account.path("Maildir")
    if os.path.isdir(path):
        os.rename(path, kept)
    try:
        if what == "fifo":
            os.mkfifo(path)
        elif what == "file":
            account.put("Maildir", "no directory")
        elif what == "foreign":
            os.mkdir(path, 0o755)
        else:
            os.symlink("/dev", path)
        reason = deferred(host, account, what)
        assert reason
        assert what != "foreign" or os.listdir(path) == []
        assert not os.path.exists("/dev/new")
    finally:
        account.drop("Maildir")
        if os.path.isdir(kept):
            os.rename(kept, path)


@pytest.mark.parametrize("what", ["group", "others", "foreign", "link", "pipe", "directory",
                                  "nonsense", "outside"])
def test_a_forward_that_cannot_be_trusted_or_followed_defers(host, account, what):
    text, mode, owner = "alice@example.test\n", 0o644, None
    if what == "group":
        mode = 0o664
    elif what == "others":
        mode = 0o646
    elif what == "foreign":
        owner = (account.uid + 1, account.gid)
    elif what == "nonsense":
        text = "what is this thing\n"
    elif what == "outside":
        text = "/tmp/outside-of-the-home\n"
    if what == "link":
        account.put("list", text)
        os.symlink("list", account.path(".forward"))
    elif what == "pipe":
        os.mkfifo(account.path(".forward"))
    elif what == "directory":
        os.mkdir(account.path(".forward"))
    else:
        account.put(".forward", text, mode, owner)
    reason = deferred(host, account, what)
    assert reason
    assert "thing" not in reason
    assert not os.path.exists("/tmp/outside-of-the-home")


def test_links_in_a_home_lead_nowhere(host, account):
    """What a hostile home names, another's file or a system's, is neither read nor written."""
    victim = Account()
    try:
        victim.put("mbox", "", mode=0o666)
        account.put(".forward", account.path("mbox") + "\n")
        os.symlink(victim.path("mbox"), account.path("mbox"))
        deferred(host, account, "link to a file")
        account.put(".forward", f":include:{account.path('list')}\n")
        os.symlink("/etc/passwd", account.path("list"))
        deferred(host, account, "link to a list")
        account.put(".forward", f"{account.path('../' + victim.name + '/mbox')}\n")
        deferred(host, account, "path upwards")
        assert os.path.getsize(victim.path("mbox")) == 0
    finally:
        victim.remove()


# --- mbox files in one directory ------------------------------------------------------------------
@pytest.fixture
def spool(account):
    """An instance whose accounts have mbox files, and their directory: writable for all, sticky."""
    instance = make(True)
    directory = os.path.join(instance.parent, "spool")
    os.mkdir(directory)
    os.chmod(directory, 0o1777)
    instance.edit_conf(append=f"local {{ domains {HOST}; mailbox {directory}/{{user}} }}")
    instance.start()
    yield instance, directory
    instance.discard()


def mbox_subjects(path):
    if not os.path.exists(path):
        return []
    return [m["Subject"] for m in mailbox.mbox(path, create=False)]


def test_accounts_can_have_mbox_files(spool, account):
    host, directory = spool
    path = os.path.join(directory, account.name)
    first, second = send(host, account, "first"), send(host, account, "second")
    wait_for("both", lambda: len(mbox_subjects(path)) == 2)
    assert sorted(mbox_subjects(path)) == sorted([first, second])
    assert os.stat(path).st_uid == account.uid
    # The letters can be read a moment before the delivery takes its dot lock away.
    wait_for("the end of the delivery", lambda: os.listdir(directory) == [account.name])
    account.put(".forward", f"\\{account.name}\nalice@example.test\n")
    third = send(host, account, "third")
    host.wait_mail(third, ALICE)
    wait_for("the copy", lambda: third in mbox_subjects(path))


def test_a_spool_where_users_make_no_files_needs_the_file(spool, account):
    host, directory = spool
    os.chmod(directory, 0o755)
    path = os.path.join(directory, account.name)
    assert "no mailbox file" in deferred(host, account, "absent")
    with open(path, "w", encoding="utf-8"):
        pass
    os.chown(path, account.uid, account.gid)
    subject = send(host, account, "present")
    wait_for("the mail", lambda: subject in mbox_subjects(path))


def test_a_spool_like_debians_needs_no_file_and_no_member_of_group_mail(account):
    instance = make(True)
    spool = instance.path("spool-of-group-mail")
    os.mkdir(spool)
    shutil.chown(spool, "root", "mail")
    os.chmod(spool, 0o2775)
    try:
        instance.edit_conf(append=f"local {{ domains {HOST}; mailbox {spool}/{{user}} }}")
        instance.start()
        path = os.path.join(spool, account.name)
        subjects = [send(instance, account, "group mail") for _ in range(2)]
        wait_for("both", lambda: os.path.exists(path) and len(mbox_subjects(path)) == 2)
        assert sorted(mbox_subjects(path)) == sorted(subjects)
        stat = os.stat(path)
        assert stat.st_uid == account.uid and stat.st_mode & 0o007 == 0
        wait_for("the end of the lock", lambda: not os.path.exists(path + ".lock"))
    finally:
        instance.discard()


def test_a_link_in_the_spool_is_not_followed(spool, account):
    host, directory = spool
    target = account.path("list")
    account.put("list", "precious\n")
    os.symlink(target, os.path.join(directory, account.name))
    deferred(host, account, "link")
    with open(target, encoding="utf-8") as file:
        assert file.read() == "precious\n"


def rcpt(instance, address, size=0):
    with instance.raw("smtp") as client:
        client.hello()
        client.smtp(f"MAIL FROM:<{BOB}>" + (f" SIZE={size}" if size else ""))
        client.send(f"RCPT TO:<{address}>\r\n")
        code, texts = client.reply()
        return f"{code} {texts[0]}"


def undeclared(instance, address, subject, body):
    """A message whose size nobody is told at RCPT."""
    with instance.raw("smtp") as client:
        client.hello()
        for command in (f"MAIL FROM:<{BOB}>", f"RCPT TO:<{address}>", "DATA"):
            assert client.smtp(command) in (250, 354)
        client.send(message(subject, address, BOB, body) + ".\r\n")
        assert client.reply()[0] == 250


# --- quota ----------------------------------------------------------------------------------------
def test_a_full_maildir_of_an_account_takes_no_more(account):
    instance = make(True)
    instance.edit_conf(append=f"local {{ domains {HOST}\nquota 20K\nquota-grace 0 }}\n")
    instance.start()
    account.drop("Maildir")
    try:
        fits = send(instance, account, "fits", body="0123456789\r\n" * 1200)
        wait_for("the mail", lambda: account.has(fits))
        # The file is there a moment before the index counts it.
        wait_for("refusal", lambda: rcpt(instance, account.address, 15000).startswith("552 5.2.2"))
        assert rcpt(instance, account.address, 2000).startswith("250")
        subject = unique("too much")
        undeclared(instance, account.address, subject, "0123456789\r\n" * 1200)
        wait_for("the report", lambda: any("5.2.2" in str(m) for m in instance.mails(BOB)))
        assert not account.has(subject)
        assert "max-bytes=20480" in instance.veredus("quota", "show", account.name).stdout
        instance.veredus("quota", "set", account.name, "1M", status=1)
        small = send(instance, account, "small")
        wait_for("the mail", lambda: account.has(small))
    finally:
        instance.discard()


def test_an_account_sees_its_quota_over_imap_and_shares_nothing(account):
    instance = make(True)
    instance.edit_conf(append=f"local {{ domains {HOST}\nquota 20K\n }}\n")
    instance.veredus("user", "add", account.address, "--password-stdin", input="secret-word\n")
    instance.start()
    account.drop("Maildir")
    try:
        with instance.raw("imaps", tls=True) as client:
            client.line()
            assert client.imap(f'LOGIN {account.address} "secret-word"')[0].startswith("OK")
            assert client.imap("GETQUOTAROOT INBOX")[1] == [
                '* QUOTAROOT "INBOX" ""', '* QUOTA "" (STORAGE 0 20)']
            for size, expected in ((15000, "OK"), (9000, "NO [OVERQUOTA]")):
                client.send(b"a APPEND INBOX {%d+}\r\nSubject: x\r\n\r\n" % (size + 14) +
                            (b"x" * 98 + b"\r\n") * (size // 100) + b"\r\n")
                assert client.imap_answer("a")[0].startswith(expected)
            assert client.imap('GETQUOTA ""')[1] == ['* QUOTA "" (STORAGE 15 20)']
            assert rcpt(instance, account.address, 9000).startswith("552 5.2.2")
            client.imap("CREATE Team")
            assert client.imap(f"SETACL Team {BOB} lr")[0].startswith("NO [CANNOT] Folders that other")
            assert client.imap("GETACL Team")[1] == [
                f'* ACL "Team" "{account.address}" lrswipkxteacd']
            assert client.imap("NAMESPACE")[1] == ['* NAMESPACE (("" "/")) NIL NIL']
    finally:
        account.drop("Maildir")
        instance.discard()


def test_a_full_account_is_refused_at_rcpt_unless_its_mail_goes_on(account):
    instance = make(True)
    instance.edit_conf(append=f"local {{ domains {HOST}\nquota 20K\nquota-full defer\n"
                              "quota-folder Big=ignore }\n")
    instance.start()
    account.drop("Maildir")
    name, host = account.address.split("@")
    try:
        for body in (1500, 300):  # the second with the grace
            fits = send(instance, account, f"fits-{body}", body="0123456789\r\n" * body)
            wait_for("the mail", lambda found=fits: account.has(found))
        wait_for("refusal", lambda: rcpt(instance, account.address).startswith("452 4.2.2"))
        for part in ("", "/cur", "/new", "/tmp"):
            os.mkdir(account.path("Maildir/.Big" + part))
            os.chown(account.path("Maildir/.Big" + part), account.uid, account.gid)
        assert rcpt(instance, f"{name}+Big@{host}").startswith("250")
        account.put(".forward", "bob@example.test\n")
        assert rcpt(instance, account.address).startswith("250")
        account.put(".forward", f"\\{account.name}\nbob@example.test\n")
        assert rcpt(instance, account.address).startswith("452 4.2.2")
    finally:
        account.drop("Maildir")
        instance.discard()


def test_an_mbox_file_grows_to_its_limit(account):
    instance = make(True)
    directory = os.path.join(instance.parent, "spool")
    os.mkdir(directory)
    os.chmod(directory, 0o1777)
    instance.edit_conf(append=f"local {{ domains {HOST}; mailbox {directory}/{{user}}\n"
                              "quota 20K\nquota-messages 1\n}\n")
    instance.start()
    path = os.path.join(directory, account.name)
    try:
        first, second = (send(instance, account, f"n{n}", body="0123456789\r\n" * size)
                         for n, size in enumerate((1000, 700)))
        wait_for("both", lambda: sorted(mbox_subjects(path)) == sorted([first, second]))
        assert rcpt(instance, account.address).startswith("250")
        assert rcpt(instance, account.address, 3000).startswith("552 5.2.2")
        undeclared(instance, account.address, unique("big"), "0123456789\r\n" * 900)
        wait_for("the report", lambda: any("5.2.2" in str(m) for m in instance.mails(BOB)))
        shown = instance.veredus("quota", "show", account.name).stdout
        assert f"bytes={os.path.getsize(path)} max-bytes=20480" in shown
    finally:
        instance.discard()


# --- tools, as the account ------------------------------------------------------------------------
def test_mail_of_an_account_is_restored_expired_and_undeleted_as_that_account(tools, account):
    host, to = tools, os.path.join(tools.parent, "backup")
    account.drop("Maildir")
    subject = send(host, account, "kept")
    wait_for("the mail", lambda: account.has(subject))
    for name in ("", "/cur", "/new", "/tmp"):
        os.mkdir(account.path("Maildir/.Trash" + name))
        os.chown(account.path("Maildir/.Trash" + name), account.uid, account.gid)
    shutil.copy(glob.glob(account.path("Maildir/new/*"))[0],
                account.path("Maildir/.Trash/cur/1.2.x:2,S"))
    os.chown(account.path("Maildir/.Trash/cur/1.2.x:2,S"), account.uid, account.gid)
    host.veredus("backup", "create", "--to", to, account.name)
    shutil.rmtree(account.path("Maildir"))
    told = json.loads(host.veredus("backup", "restore", "--from", to, account.name,
                                   "--json").stdout)
    assert told["restored"] == told["old-uids"] >= 2
    assert account.has(subject) == 1 and account.has(subject, ".Trash") == 1

    def all_owned():
        found = [os.path.join(top, name) for top, dirs, files in os.walk(account.path("Maildir"))
                 for name in dirs + files]
        return found and all(os.lstat(path).st_uid == account.uid for path in found)
    assert all_owned()
    time.sleep(2.1)
    assert "Trash: 1 messages expired" in host.veredus("mailbox", "expire", account.name).stdout
    assert account.has(subject, ".Trash") == 0
    host.veredus("mailbox", "undelete", account.name, "--folder", "Trash")
    assert account.has(subject, ".Trash") == 1 and all_owned()
    assert "whole" in host.veredus("mailbox", "verify", account.name).stdout


def test_an_accounts_old_mail_expires_as_its_own(account):
    instance = make(True)
    instance.edit_conf(append=f"local {{ domains {HOST} }}\nhousekeeping {{ every 1s }}\n"
                              "expire Old { after 1s }\n")
    folder = account.path("Maildir/.Old")
    for path in ("", "/new", "/cur", "/tmp"):
        os.makedirs(folder + path, 0o700)
    with open(folder + "/new/1.old", "w", encoding="utf-8") as file:
        file.write("Subject: old\n\nOld.\n")
    subprocess.run(["chown", "-R", f"{account.uid}:{account.gid}", account.path("Maildir")],
                   check=True)
    try:
        instance.start()
        kept = send(instance, account, "kept")
        wait_for("the mail", lambda: account.has(kept))
        wait_for("its end", lambda: not account.mails(".Old"), timeout=20)
        wait_for("the log", lambda: instance.log_find(event="expire.done", user=account.address,
                                                      mailbox="Old"))
        assert account.has(kept)
        assert not instance.log_find(event="house.fail")
        for path in glob.glob(account.path("Maildir/**/veredus*"), recursive=True):
            assert os.stat(path).st_uid == account.uid, path
    finally:
        instance.discard()
        shutil.rmtree(folder)
