"""What all agents for accounts and commands have in common: the fields they add, folders by detail, and homes
that are odd without being hostile. Started as root, and as the account itself (rootless).
"""
import glob
import mailbox
import os
import stat
import subprocess

import pytest

from conftest import make
from test_local import HOST, account, unique
from veredus import BOB, Instance, wait_for

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root to make an account")


@pytest.fixture(scope="module", params=["rootless", "rooted"])
def host(request, account):
    instance = (make(True) if request.param == "rooted"
                else Instance(uid=account.uid).init())
    spool = os.path.join(instance.parent, "spool")
    os.mkdir(spool)
    instance.edit_conf(append=f"local {{ domains {HOST} }}\n"
                              f"pipe {{ command-user {account.name}; timeout 2s; output 64K }}\n"
                              "transport text:transport\n"
                              f"command block {{ run /bin/sh -c \"cat >block\"; "
                              f"user {account.name}; output 1K; timeout 20s }}\n"
                              f"command loud {{ run yes; user {account.name}; output 1M; "
                              f"timeout 20s }}\n"
                              f"command small {{ run /bin/sh -c \"ulimit -v >small; "
                              f"ulimit -f >>small; ulimit -t >>small\"; user {account.name}; "
                              f"memory 64M; file-size 1M; cpu-time 7s }}\n")
    instance.write("transport", "".join(f"{name}@{HOST} pipe:{name}\n"
                                        for name in ("block", "loud", "small")))
    instance.write("tables/aliases", f"afile: {account.path('afile')}\n"
                                     f"adir: {account.path('adir')}/\n"
                                     f"acommand: \"|cat >{account.path('acommand')}\"\n")
    instance.write("tables/virtual-aliases", "".join(
        f"{name}@example.test {to}\n" for name, to in (
            ("to.maildir", account.address), ("to.file", account.address),
            ("to.command", account.address), ("to.block", f"block@{HOST}"),
            ("to.afile", f"afile@{HOST}"), ("to.adir", f"adir@{HOST}"),
            ("to.acommand", f"acommand@{HOST}"), ("to.virtual", BOB))))
    instance.start()
    yield instance
    instance.discard()


@pytest.fixture(autouse=True)
def clean_home(account):
    for name in os.listdir(account.home):
        account.drop(name)
    yield


def texts(pattern):
    found = []
    for path in glob.glob(pattern):
        with open(path, encoding="utf-8") as file:
            found.append(file.read())
    return found


def header(text, name):
    head = text.replace("\r\n", "\n").split("\n\n", 1)[0]
    return [line.split(": ", 1)[1] for line in head.split("\n")
            if line.lower().startswith(name.lower() + ":")]


@pytest.mark.parametrize("kind,forward,where,delivered", [
    ("maildir", None, "Maildir/new/*", None),
    ("file", "{home}/file\n", "file", None),
    ("command", "|cat >command\n", "command", None),
    ("block", None, "block", "block"),
    ("afile", None, "afile", "afile"),
    ("adir", None, "adir/new/*", "adir"),
    ("acommand", None, "acommand", "acommand"),
    ("virtual", None, None, BOB)])
@pytest.mark.parametrize("sender", ["someone@elsewhere.test", ""])
def test_every_agent_says_whom_it_was_for(host, account, kind, forward, where, delivered, sender):
    if forward:
        account.put(".forward", forward.format(home=account.home))
    subject = unique(kind)
    to = f"to.{kind}@example.test"
    host.send(subject, to=to, sender=sender)

    def found():
        if where is None:
            return [m.as_string() for m in host.mails(BOB) if m["Subject"] == subject]
        return [t for t in texts(account.path(where))
                if f"Subject: {subject}\n" in t and "\n\nHello." in t]
    text = wait_for("the mail", found)[0]
    wanted = (delivered if delivered and "@" in delivered
              else f"{delivered}@{HOST}" if delivered else account.address)
    assert header(text, "Delivered-To") == [wanted]
    assert header(text, "X-Original-To") == [to]
    assert header(text, "Return-Path") == [f"<{sender}>"]


def make_folder(account, name):
    for part in ("", "/new", "/cur", "/tmp"):
        path = account.path(f"Maildir/{name}{part}")
        os.makedirs(path, 0o700, exist_ok=True)
        os.chown(path, account.uid, account.gid)
    os.chown(account.path("Maildir"), account.uid, account.gid)


@pytest.mark.parametrize("detail,folder", [
    ("Lists", ".Lists"), ("Lists/2026", ".Lists.2026"), ("absent", ""), ("Lists/absent", ""),
    ("lists", ""), ("/Lists", ""), ("Lists/", ""), ("..", ""), ("../../etc", ""), (".Lists", ""),
    ("Lists.2026", ""), ("new", ""), ("x" * 50, ""), ("a\\\"b", ""), ("%2e%2e", ""), ("INBOX", "")])
def test_a_detail_leads_to_a_folder_that_is_there_and_nowhere_else(host, account, detail, folder):
    for name in ("", ".Lists", ".Lists.2026"):
        make_folder(account, name)
    before = set(os.listdir(account.home))
    subject = unique("detail")
    host.send(subject, to=f"\"{account.name}+{detail}\"@{HOST}")
    wait_for("the mail", lambda: account.has(subject, folder))
    made = {n for n in os.listdir(account.path("Maildir")) if not n.startswith("veredus")}
    assert made == {"new", "cur", "tmp", ".Lists", ".Lists.2026"}
    assert set(os.listdir(account.home)) == before


def outcome(host, whom, text, event, **fields):
    seen = len(host.log_find(event=event, **fields))
    subject = unique(text)
    host.send(subject, to=whom if isinstance(whom, str) else whom.address)
    return subject, wait_for(event, lambda: host.log_find(event=event, **fields)[seen:])[0]


# --- odd homes ------------------------------------------------------------------------------------
@pytest.mark.parametrize("lacks", ["tmp", "new", "cur", "all"])
def test_a_maildir_that_lacks_a_part_gets_it(host, account, lacks):
    os.mkdir(account.path("Maildir"), 0o700)
    for name in ("new", "cur", "tmp"):
        if lacks not in (name, "all"):
            os.mkdir(account.path("Maildir/" + name), 0o700)
            os.chown(account.path("Maildir/" + name), account.uid, account.gid)
    os.chown(account.path("Maildir"), account.uid, account.gid)
    subject = unique(lacks)
    host.send(subject, to=account.address)
    wait_for("the mail", lambda: account.has(subject))


def test_a_forward_file_in_a_home_that_a_group_may_write_counts(host, account):
    """Who can put a file there can put none of the account's there, and others' do not count."""
    account.put(".forward", f"{BOB}\n")
    mode = stat.S_IMODE(os.stat(account.home).st_mode)
    os.chmod(account.home, 0o775)
    try:
        subject = unique("group")
        host.send(subject, to=account.address)
        host.wait_mail(subject, BOB)
    finally:
        os.chmod(account.home, mode)


@pytest.mark.parametrize("what", ["unreadable", "device", "home for all", "socket"])
def test_a_forward_file_that_cannot_be_read_or_believed_defers(host, account, what):
    mode = stat.S_IMODE(os.stat(account.home).st_mode)
    if what == "unreadable":
        account.put(".forward", f"{BOB}\n", mode=0)
    elif what == "device":
        os.mknod(account.path(".forward"), 0o600 | stat.S_IFCHR, os.makedev(1, 5))
        os.chown(account.path(".forward"), account.uid, account.gid)
    elif what == "socket":
        os.mknod(account.path(".forward"), 0o600 | stat.S_IFSOCK)
        os.chown(account.path(".forward"), account.uid, account.gid)
    else:
        account.put(".forward", f"{BOB}\n")
        os.chmod(account.home, 0o777)
    try:
        subject, line = outcome(host, account, what, "dlv.store-fail", account=account.name)
        assert line["rule"] == "forward" and line["reason"]
    finally:
        os.chmod(account.home, mode)
    account.drop(".forward")
    host.veredus("queue", "flush")
    wait_for("the mail", lambda: account.has(subject))


@pytest.mark.parametrize("what", ["directory", "device", "fifo", "socket"])
def test_what_is_no_file_gets_no_mail(host, account, what):
    path = account.path("box")
    if what == "directory":
        os.mkdir(path)
    elif what == "fifo":
        os.mkfifo(path)
    else:
        os.mknod(path, 0o600 | (stat.S_IFCHR if what == "device" else stat.S_IFSOCK),
                 os.makedev(1, 7) if what == "device" else 0)
    os.chown(path, account.uid, account.gid)
    account.put(".forward", path + "\n")
    subject, line = outcome(host, account, what, "dlv.store-fail", account=account.name)
    assert line["rule"] == "mailbox" and line["reason"]
    account.drop("box")
    host.veredus("queue", "flush")
    wait_for("the mail", lambda: os.path.isfile(path)
             and [m["Subject"] for m in mailbox.mbox(path, create=False)] == [subject])


def test_mail_for_a_full_disk_waits_and_comes_once(account):
    result = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=256k,uid={account.uid},"
                             f"gid={account.gid},mode=755", "tmpfs", account.home],
                            capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip(f"may not mount here: {result.stderr.strip()}")
    host = make(True)
    try:
        host.edit_conf(append=f"local {{ domains {HOST} }}\n")
        host.start()
        account.put(".forward", f"{account.path('box')}\n\\{account.name}\n")
        first = unique("first")
        host.send(first, to=account.address)
        wait_for("the mail", lambda: account.has(first))
        with open(account.path("ballast"), "wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                pass
        size = os.path.getsize(account.path("box"))
        subject, line = outcome(host, account, "full", "dlv.done", to=account.address,
                                result="deferred")
        assert line["dsn"] == "4.3.1" and "No space" in line["reply"]
        assert os.path.getsize(account.path("box")) == size
        os.unlink(account.path("ballast"))
        host.veredus("queue", "flush")
        wait_for("the end", lambda: not host.queue())
        assert account.has(subject) == 1
        found = [m["Subject"] for m in mailbox.mbox(account.path("box"), create=False)]
        assert found == [first, subject]
    finally:
        host.discard()
        subprocess.run(["umount", "-l", account.home], check=True)


def test_a_home_that_is_a_link_of_the_administrators_is_followed(account):
    real = account.home + "-real"
    os.rename(account.home, real)
    os.symlink(real, account.home)
    instance = make(True)
    try:
        instance.edit_conf(append=f"local {{ domains {HOST} }}\n")
        instance.start()
        account.put(".forward", f"\\{account.name}\n{account.path('box')}\n|cat >out\n")
        subject = unique("link")
        instance.send(subject, to=account.address)
        wait_for("the mail", lambda: account.has(subject) and os.path.exists(account.path("out"))
                 and os.path.exists(account.path("box")))
    finally:
        instance.discard()
        os.unlink(account.home)
        os.rename(real, account.home)


# --- commands that misbehave ----------------------------------------------------------------------
def test_a_command_may_leave_something_in_the_background(host, account):
    account.put(".forward", "\"|(sleep 300 & echo $! >pid) ; cat >got\"\n")
    _, line = outcome(host, account, "background", "dlv.command")
    assert line["result"] == "delivered"
    with open(account.path("pid"), encoding="utf-8") as file:
        os.kill(int(file.read()), 9)  # was not waited for, nor ended


def test_a_command_that_closes_its_input_is_judged_by_its_status(host, account):
    account.put(".forward", "\"|exec 0<&-; echo late >>late; exit 0\"\n")
    _, line = outcome(host, account, "closed", "dlv.command")
    assert line["result"] == "delivered"


@pytest.mark.parametrize("where", ["loud", "forward"])
def test_a_command_that_writes_without_end_is_ended(host, account, where):
    account.put(".forward", "\"|trap '' PIPE TERM; yes; yes; sleep 100\"\n")
    to = f"loud@{HOST}" if where == "loud" else account.address
    _, line = outcome(host, to, "loud", "dlv.command")
    assert line["result"] == "deferred" and "too much" in line["reason"]


@pytest.mark.parametrize("signo", [1, 6, 11, 15])
def test_a_command_ended_by_a_signal_defers(host, account, signo):
    account.put(".forward", f"\"|kill -{signo} $$\"\n")
    _, line = outcome(host, account, "signal", "dlv.command")
    assert line["result"] == "deferred" and line["signal"] == str(signo)


def test_a_block_has_limits_of_its_own(host, account):
    _, line = outcome(host, f"small@{HOST}", "small", "dlv.command")
    assert line["result"] == "delivered"
    with open(account.path("small"), encoding="utf-8") as file:
        assert file.read().split() == ["65536", "2048", "7"]  # kB, 512 bytes, s


def test_all_lived_through_it(host):
    assert all(p["restarts"] == 0 for p in host.processes())
