"""Homes that change while mail comes: what stands at a name is swapped again and again, and other programs
work on an mbox file. No other user's file is touched, and no mail is lost or there twice.
"""
import ctypes
import mailbox
import os
import subprocess
import sys
import threading
import time

import pytest

from conftest import make
from test_homes import own_maildir, untouched, victim  # untouched is for every test
from test_local import HOST, account, unique
from veredus import BOB, Instance, wait_for

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root to make an account")

LETTERS = 25
libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture(scope="module", params=["rootless", "rooted"])
def host(request, account):
    instance = (make(True) if request.param == "rooted"
                else Instance(uid=account.uid).init())
    instance.edit_conf(append=f"local {{ domains {HOST} }}\n")
    instance.start()
    yield instance
    instance.discard()


class Swapper(threading.Thread):
    """Exchanges two names until it is told to stop; then they are as before."""

    def __init__(self, one, other):
        super().__init__()
        self.names = (one.encode(), other.encode())
        self.times = 0
        self.over = False

    def swap(self):
        at_fdcwd, exchange = -100, 2
        if libc.renameat2(at_fdcwd, self.names[0], at_fdcwd, self.names[1], exchange):
            raise OSError(ctypes.get_errno(), "renameat2")
        self.times += 1

    def run(self):
        while not self.over or self.times % 2:
            self.swap()
            time.sleep(0.0005)

    def __enter__(self):
        self.start()

    def __exit__(self, *_):
        self.over = True
        self.join()


def send_many(host, account):
    sent = []
    for n in range(LETTERS):
        sent.append(unique(f"race {n}"))
        host.send(sent[-1], to=account.address)
    return sent


def all_through(host):
    """Whatever was put off is tried again."""
    def empty():
        host.veredus("queue", "flush", status=None)
        return not host.queue()
    wait_for("the queue's end", empty, timeout=30, interval=0.3)


@pytest.mark.parametrize("name", ["Maildir", "Maildir/new", "Maildir/tmp"])
def test_a_maildir_swapped_for_a_link(host, account, victim, name):
    own_maildir(account)
    link = account.path("link")
    os.symlink(victim.path(name), link)
    with Swapper(account.path(name), link):
        sent = send_many(host, account)
    all_through(host)
    assert sorted(text.split("Subject: ")[1].split("\n")[0]
                  for text in account.mails()) == sorted(sent)


def subjects(path):
    return [m["Subject"] for m in mailbox.mbox(path, create=False)]


@pytest.mark.parametrize("what", ["link", "hard link"])
def test_an_mbox_file_swapped_for_anothers(host, account, victim, what):
    account.put("mbox", "")
    account.put(".forward", account.path("mbox") + "\n")
    if what == "link":
        os.symlink(victim.path("mbox"), account.path("other"))
    else:
        os.link(victim.path("mbox"), account.path("other"))
    with Swapper(account.path("mbox"), account.path("other")):
        sent = send_many(host, account)
    os.unlink(account.path("other"))
    all_through(host)
    assert sorted(subjects(account.path("mbox"))) == sorted(sent)


@pytest.mark.parametrize("what", ["link", "hard link", "directory", "writable"])
def test_a_forward_file_swapped_for_anothers(host, account, victim, what):
    own_maildir(account)
    account.put(".forward", f"\\{account.name}\n")
    other = account.path("other")
    if what == "link":
        os.symlink(victim.path("list"), other)
    elif what == "hard link":
        os.link(victim.path("list"), other)
    elif what == "directory":
        os.mkdir(other)
    else:
        account.put("other", f"{BOB}\n", mode=0o666)
    count = len(host.mail_files(BOB))
    with Swapper(account.path(".forward"), other):
        sent = send_many(host, account)
    if what == "hard link":
        os.unlink(other)
    all_through(host)
    assert sorted(text.split("Subject: ")[1].split("\n")[0]
                  for text in account.mails()) == sorted(sent)
    assert len(host.mail_files(BOB)) == count


# A mail program: takes the locks, looks, marks what it has seen, takes away what was marked before.
READER = """
import mailbox, os, sys, time
path, out = sys.argv[1:3]
taken = open(out, "a")
while not os.path.exists(out + ".stop"):
    box = mailbox.mbox(path, create=False)
    try:
        box.lock()
    except mailbox.ExternalClashError:
        time.sleep(0.002)
        continue
    for key, letter in list(box.items()):
        if "R" in letter.get_flags():
            taken.write(letter["Subject"] + chr(10))
            box.remove(key)
        else:
            letter.add_flag("R")
            box[key] = letter
    taken.flush()
    box.flush()
    box.unlock()
    box.close()
    time.sleep(0.003)
"""


def test_a_program_changes_an_mbox_file_while_mail_comes(host, account):
    path, out = account.path("mbox"), account.path("taken")
    account.put("mbox", "")
    account.put(".forward", path + "\n")
    account.put("taken", "")
    with subprocess.Popen(["setpriv", f"--reuid={account.uid}", f"--regid={account.gid}",
                           "--clear-groups", "--", sys.executable, "-c", READER, path, out],
                          cwd="/") as reader:
        try:
            sent = send_many(host, account)
            all_through(host)
        finally:
            account.put("taken.stop", "")
            reader.wait(timeout=30)
    assert reader.returncode == 0
    with open(out, encoding="utf-8") as file:
        taken = file.read().split("\n")[:-1]
    left = subjects(path)
    assert sorted(taken + left) == sorted(sent)
    assert len(taken) > 0


def test_all_lived_through_it(host):
    assert all(p["restarts"] == 0 for p in host.processes())
