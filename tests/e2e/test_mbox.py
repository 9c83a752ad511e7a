"""mbox files of accounts: full disks, and directories as systems have them."""
import os
import shutil
import subprocess

import pytest

from conftest import make
from test_local import HOST, Account, deferred, mbox_subjects, send
from veredus import wait_for

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root to make an account")

MEGABYTE = ("m" * 70 + "\r\n") * 14563


@pytest.fixture(scope="module")
def account():
    made = Account()
    yield made
    made.remove()


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
    wait_for("the large one", lambda: large in mbox_subjects(path))
    assert sorted(mbox_subjects(path)) == sorted([first, small, large])
    with open(path, "rb") as file:
        assert file.read().count(b"m" * 70 + b"\n") == 14563
