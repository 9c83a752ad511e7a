"""Homes of hostile users: what stands in the place of a mailbox or a .forward file leads to no other
user's files. Each case has an outcome that is in the log, and mail waits rather than going astray.

The victim is as careless as can be, so that nothing but the agent's own care protects them.
"""
import os
import subprocess

import pytest

from test_local import Account, account, deferred, host, send
from veredus import ALICE, BOB, wait_for

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root to make an account")


@pytest.fixture(scope="module")
def victim():
    made = Account()
    os.chmod(made.home, 0o777)
    for name in ("", "/new", "/cur", "/tmp"):
        path = made.path("Maildir" + name)
        os.mkdir(path)
        os.chmod(path, 0o777)
        os.chown(path, made.uid, made.gid)
    made.put("Maildir/new/1.letter.host", "Subject: a letter\n\nprecious\n", mode=0o666)
    made.put("mbox", "From a Sat Nov 21 06:00:00 2026\nSubject: old\n\nprecious\n\n", mode=0o666)
    made.put("list", "bob@example.test\n", mode=0o644)
    yield made
    made.remove()


def tree(account):
    """All there is in a home: names, owners, modes, times and contents."""
    found = {}
    for top, directories, files in os.walk(account.home):
        for name in [*directories, *files, "."]:
            path = os.path.join(top, name)
            st = os.lstat(path)
            content = b""
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    content = file.read()
            found[path] = (st.st_uid, st.st_mode, st.st_nlink, st.st_mtime_ns, content)
    return found


@pytest.fixture(autouse=True)
def untouched(host, account, victim):
    """The home is empty before each test, and no mail of another test on its way to it; the
    victim's is afterwards as it was."""
    host.veredus("queue", "delete", "all", status=None)
    wait_for("an empty queue", lambda: not host.queue())
    for name in os.listdir(account.home):
        account.drop(name)
    before = tree(victim)
    yield
    assert tree(victim) == before


def own_maildir(account, without=()):
    for name in ("", "new", "cur", "tmp"):
        if name not in without:
            path = account.path("Maildir/" + name)
            os.mkdir(path, 0o700)
            os.chown(path, account.uid, account.gid)


@pytest.mark.parametrize("name", ["Maildir", "Maildir/new", "Maildir/cur", "Maildir/tmp"])
def test_a_maildir_that_is_a_link_to_anothers(host, account, victim, name):
    if name != "Maildir":
        own_maildir(account, without=(os.path.basename(name),))
    os.symlink(victim.path(name), account.path(name))
    assert deferred(host, account, name)


@pytest.mark.parametrize("name", ["veredus.inbox", "veredus.index", "veredus.log", "veredus.cache",
                                  "veredus.journal", "veredus.index.new", "veredus.cache.new"])
def test_an_index_that_is_a_link_to_anothers_file(host, account, victim, name):
    """Whether it is replaced or keeps the mail waiting, the other file stays as it is."""
    own_maildir(account)
    os.symlink(victim.path("" if name == "veredus.inbox" else "mbox"), account.path("Maildir/" + name))
    def failures():
        return len(host.log_find(event="dlv.store-fail", account=account.name))
    before = failures()
    subject = send(host, account, name)
    wait_for("an outcome", lambda: account.has(subject) or failures() > before)


@pytest.mark.parametrize("what", ["link", "hard link", "fifo", "large", "binary", "group",
                                  "others", "foreign", "directory"])
def test_a_forward_file_that_is_none(host, account, victim, what):
    path = account.path(".forward")
    if what == "link":
        os.symlink(victim.path("list"), path)
    elif what == "hard link":
        os.link(victim.path("list"), path)
    elif what == "fifo":
        os.mkfifo(path)
        os.chown(path, account.uid, account.gid)
    elif what == "large":
        account.put(".forward", "bob@example.test\n" * (10 * 1024 * 1024 // 17))
    elif what == "binary":
        account.put(".forward", "".join(map(chr, range(128))) * 10 + "\0\n\x01,\x7f\n")
    elif what == "directory":
        os.mkdir(path)
        os.chown(path, account.uid, account.gid)
    else:
        account.put(".forward", "bob@example.test\n",
                    mode={"group": 0o664, "others": 0o606}.get(what, 0o644),
                    owner=(victim.uid, victim.gid) if what == "foreign" else None)
    count = len(host.mail_files(BOB))
    reason = deferred(host, account, what)
    if what == "hard link":
        os.unlink(path)
    assert reason.isprintable()
    wait_for("the reason in the log", lambda: host.log_find(
        event="dlv.store-fail", account=account.name, rule="forward"))
    assert len(host.mail_files(BOB)) == count


@pytest.mark.parametrize("what", ["itself", "each other", "the forward file", "anothers", "fifo"])
def test_an_include_that_leads_nowhere(host, account, victim, what):
    place = account.path
    account.put("a", f":include:{place('a') if what == 'itself' else place('b')}\n")
    account.put("b", f":include:{place('a')}\n")
    target = place("a")
    if what == "the forward file":
        target = place(".forward")
    elif what == "anothers":
        target = victim.path("list")
    elif what == "fifo":
        os.mkfifo(place("pipe"))
        os.chown(place("pipe"), account.uid, account.gid)
        target = place("pipe")
    account.put(".forward", f":include:{target}\n")
    assert deferred(host, account, what)


@pytest.mark.parametrize("what", ["link", "hard link", "path", "path upwards", "link on the way",
                                  "maildir", "maildir link", "lock link"])
def test_a_file_that_is_anothers(host, account, victim, what):
    target = account.path("mbox")
    if what == "link":
        os.symlink(victim.path("mbox"), target)
    elif what == "hard link":
        os.link(victim.path("mbox"), target)
    elif what == "path":
        target = victim.path("mbox")
    elif what == "path upwards":
        target = account.path(f"../{victim.name}/mbox")
    elif what == "link on the way":
        os.symlink(victim.home, account.path("way"))
        target = account.path("way/mbox")
    elif what == "maildir":
        target = victim.path("Maildir/")
    elif what == "maildir link":
        os.symlink(victim.path("Maildir"), account.path("box"))
        target = account.path("box/")
    else:
        os.symlink(victim.path("new-lock"), account.path("mbox.lock"))
    account.put(".forward", target + "\n")
    if what == "lock link":  # looks like another program's lock, which is waited for
        subject = send(host, account, what)
        wait_for("the delivery", lambda: host.log_find(event="msg.accept"))
        os.unlink(account.path("mbox.lock"))
        wait_for("the mail", lambda: os.path.exists(target) and subject in open(target).read())
        return
    reason = deferred(host, account, what)
    if what in ("link", "path upwards", "link on the way"):
        assert "has a symbolic link, or leads out of the home" in reason
    if what == "hard link":
        os.unlink(account.path("mbox"))


def move_home(account, path):
    subprocess.run(["usermod", "-d", path, account.name], check=True, capture_output=True)


@pytest.mark.parametrize("what", ["missing", "anothers", "file", "link loop"])
def test_a_home_that_is_none(host, account, victim, what):
    place = account.home + "-other"
    if what == "file":
        with open(place, "w", encoding="utf-8"):
            pass
    elif what == "link loop":
        os.symlink(place, place)
    move_home(account, victim.home if what == "anothers" else place)
    try:
        reason = deferred(host, account, what)
        assert reason
        wait_for("the reason in the log", lambda: host.log_find(
            event="dlv.store-fail", account=account.name, rule="home"))
    finally:
        move_home(account, account.home)
        if os.path.lexists(place):
            os.unlink(place)
    # What waited comes into the home when it is back.
    host.veredus("queue", "flush")
    wait_for("the mail", lambda: account.mails())
    wait_for("the rest of it", lambda: not host.queue())


def test_all_the_time_others_get_their_mail(host):
    subject = send(host, None, "others", to=ALICE)
    host.wait_mail(subject, ALICE)
    assert all(p["restarts"] == 0 for p in host.processes())
