"""mbox files of accounts: full disks, and directories as systems have them."""
import os
import shutil
import subprocess
import threading
import time

import pytest

from conftest import make
from test_local import HOST, account, deferred, mbox_subjects, send
from veredus import BOB, wait_for

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root to make an account")

MEGABYTE = ("m" * 70 + "\r\n") * 14563


@pytest.fixture
def spool():
    """Makes an instance with mbox files in a directory of this group and mode."""
    made = []

    def factory(mode, group="mail", size=None):
        instance = make(True)
        directory = os.path.join(instance.parent, "spool")
        made.append((instance, directory))
        os.mkdir(directory)
        if size:
            result = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs",
                                     directory], capture_output=True, text=True, check=False)
            if result.returncode != 0:
                pytest.skip(f"may not mount here: {result.stderr.strip()}")
        shutil.chown(directory, "root", group)
        os.chmod(directory, mode)
        instance.edit_conf(append=f"local {{ domains {HOST}; mailbox {directory}/{{user}} }}")
        return instance.start(), directory
    yield factory
    for instance, directory in made:
        subprocess.run(["umount", "-l", directory], check=False, capture_output=True)
        instance.discard()


@pytest.mark.parametrize("mode", [0o2775, 0o3777, 0o1777])
def test_directories_as_systems_have_them(spool, account, mode):
    host, directory = spool(mode)
    path = os.path.join(directory, account.name)
    subjects = [send(host, account, "mode") for _ in range(3)]
    wait_for("all", lambda: len(mbox_subjects(path)) == 3)
    assert sorted(mbox_subjects(path)) == sorted(subjects)
    st = os.stat(path)
    assert (st.st_uid, st.st_mode & 0o777) == (account.uid, 0o600)
    wait_for("the end of the lock", lambda: os.listdir(directory) == [account.name])


def test_anothers_file_with_the_accounts_name_is_left_alone(spool, account):
    """Where all may make files, somebody was faster."""
    host, directory = spool(0o3777)
    path = os.path.join(directory, account.name)
    with open(path, "w", encoding="utf-8") as file:
        file.write("precious\n")
    os.chmod(path, 0o666)
    os.chown(path, account.uid + 1, account.gid)
    assert deferred(host, account, "faster")
    with open(path, encoding="utf-8") as file:
        assert file.read() == "precious\n"


def test_a_full_disk_leaves_no_half_message(spool, account):
    host, directory = spool(0o3777, size="6M")
    path = os.path.join(directory, account.name)
    first = send(host, account, "before")
    wait_for("the mail", lambda: mbox_subjects(path) == [first])
    with open(path, "rb") as file:
        before = file.read()
    ballast = os.path.join(directory, "ballast")
    with open(ballast, "wb", buffering=0) as file:
        while True:
            try:
                file.write(b"\0" * 65536)
            except OSError:
                break
    os.truncate(ballast, os.path.getsize(ballast) - 300000)  # room for a part of it
    seen = len(host.log_find(event="dlv.store-fail", account=account.name))
    large = send(host, account, "large", body=MEGABYTE)
    wait_for("the deferral", lambda: host.log_find(
        event="dlv.store-fail", account=account.name)[seen:])
    assert host.log_find(event="dlv.done", result="deferred", dsn="4.3.1")
    with open(path, "rb") as file:
        assert file.read() == before
    small = send(host, account, "small")
    wait_for("what fits", lambda: small in mbox_subjects(path))
    os.unlink(ballast)
    host.veredus("queue", "flush")
    # Its subject is there before its last line is; the log tells when it is complete.
    wait_for("the large one", lambda: len(host.log_find(event="dlv.file", account=account.name)) == 3)
    assert sorted(mbox_subjects(path)) == sorted([first, small, large])
    with open(path, "rb") as file:
        assert file.read().count(b"m" * 70 + b"\n") == 14563


def mutt(account, program, path, keys):
    """mutt on the mbox file, at a terminal of its own, as the account. False: deliveries held the lock
    each time it looked, which it does once a second, and it asks whether to remove that."""
    account.put("muttrc", f"""set mbox_type=mbox folder="{account.home}" header_cache=""
set spoolfile="{path}" mail_check=1 quit=yes delete=yes move=no sleep_time=0 mark_old=no
set wait_key=no copy=no record="" timeout=1
push "{keys}<quit>"
""")
    result = subprocess.run(
        ["setpriv", f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups", "--",
         "timeout", "10", "env", "TERM=xterm", f"HOME={account.home}",
         f"TMPDIR={account.home}", "script", "-qec",
         f"{program} -n -F {account.path('muttrc')}", "/dev/null"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False,
        cwd=account.home)
    assert result.returncode == 0 or b"([yes]/no)" in result.stdout, result.stdout[-2000:]
    return result.returncode == 0


def test_mutt_rewrites_the_file_while_mail_arrives(spool, account, tool):
    """It deletes one kind of message and flags the other, again and again: none is lost, none comes
    back, none is torn."""
    program = tool("mutt")
    host, directory = spool(0o3777)
    path = os.path.join(directory, account.name)
    body = "From the first line\r\n>From a quotation\r\n\r\nFrom x Sat Nov 21 02:00:00 2026\r\nend\r\n"
    sent = {"keep": [], "drop": []}

    def sender():
        for kind in ["keep", "drop", "keep"] * 7:
            sent[kind].append(send(host, account, kind, body=body))
            time.sleep(0.2)
    thread = threading.Thread(target=sender)
    sent["keep"].append(send(host, account, "keep", body=body))
    wait_for("the first", lambda: mbox_subjects(path))
    thread.start()
    rewritten = killed = 0
    while thread.is_alive() or not rewritten:
        before = os.stat(path).st_size
        killed += not mutt(
            account, program, path, "<delete-pattern>~s drop<enter><tag-pattern>~U<enter>"
                                    "<tag-prefix-cond><flag-message><end-cond><sync-mailbox>")
        rewritten += os.stat(path).st_size != before
    thread.join()
    wait_for("all that was sent", lambda: not host.queue())
    # No delivery is under way any more; a mutt that was stopped may have left its lock.
    for name in set(os.listdir(directory)) - {account.name} if killed else ():
        os.unlink(os.path.join(directory, name))
    wait_for("the end of the lock", lambda: os.listdir(directory) == [account.name])
    assert mutt(account, program, path, "<delete-pattern>~s drop<enter><sync-mailbox>")
    subjects = mbox_subjects(path)
    assert sorted(subjects) == sorted(sent["keep"])
    with open(path, "rb") as file:
        text = file.read()
    quoted = body.replace("\r\n", "\n").replace("From ", ">From ").encode()
    assert text.count(quoted) == len(subjects)
    # And what mutt has written is imported whole.
    out = host.veredus("mailbox", "import", BOB, "Mutt", "mbox", path).stdout
    assert f"{len(subjects)} messages" in out
