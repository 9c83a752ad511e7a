"""A full disk, no descriptors: 452 or 451 before the 250, accepted mail untouched (I7)."""
import os
import smtplib
import subprocess

import pytest

from veredus import ALICE, NOBODY, message, wait_for

MEGABYTE = ("m" * 70 + "\r\n") * 14563


def mount_small(path, size, owner):
    os.makedirs(path, exist_ok=True)
    result = subprocess.run(["mount", "-t", "tmpfs", "-o",
                             f"size={size},uid={owner},gid={owner},mode=700", "tmpfs", path],
                            capture_output=True, text=True, check=False)
    if result.returncode != 0:
        pytest.skip(f"may not mount here: {result.stderr.strip()}")


@pytest.fixture
def small(fresh):
    """An instance whose spool or mail directory lies on a file system of its own."""
    mounted = []

    def factory(directory, size="192M"):
        if os.getuid() != 0:
            pytest.skip("needs root to mount a small file system")
        instance = fresh()
        path = instance.path(directory)
        subprocess.run(["cp", "-a", path, path + ".kept"], check=True)
        mount_small(path, size, NOBODY)
        mounted.append(path)
        subprocess.run(["cp", "-a", path + ".kept/.", path], check=True)
        return instance
    yield factory
    for path in mounted:
        subprocess.run(["umount", "-l", path], check=False)


def fill(path):
    """Fills the file system and returns the file that did."""
    name = os.path.join(path, "ballast")
    with open(name, "wb", buffering=0) as file:
        for size in (1 << 20, 4096, 512):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                pass
    return name


def offer(instance, subject, body):
    """(code, text) of the answer after the final dot, or of what was refused before."""
    with smtplib.SMTP("127.0.0.1", instance.smtp, timeout=60) as smtp:
        smtp.ehlo()
        code, text = smtp.mail("a@elsewhere.test")
        if code == 250:
            code, text = smtp.rcpt(ALICE)
        if code == 250:
            code, text = smtp.data(message(subject, ALICE, "a@elsewhere.test", body))
        return code, text.decode()


def test_a_full_spool_gives_452_and_keeps_what_was_accepted(small):
    instance = small("spool")
    instance.start()
    instance.send("before")
    instance.wait_mail("before")
    ballast = fill(instance.path("spool"))
    refused = None
    for number in range(100):
        code, text = offer(instance, f"large {number}", MEGABYTE)
        assert code in (250, 451, 452), text
        if code != 250:
            refused = code
            break
    assert refused == 452
    os.unlink(ballast)
    wait_for("250 again", lambda: offer(instance, "after", "x\r\n")[0] == 250, 20)
    instance.wait_mail("after")
    for accepted in range(number):
        instance.wait_mail(f"large {accepted}")
    assert all(p["restarts"] == 0 for p in instance.processes("qmgr"))


def test_a_full_mail_store_defers_and_delivers_later(small):
    instance = small("mail", "16M")
    instance.start()
    instance.send("before")
    instance.wait_mail("before")
    ballast = fill(instance.path("mail"))
    for number in range(5):
        instance.send(f"while full {number}", body="y" * 60000 + "\r\n")
    wait_for("deferrals", lambda: len([e for e in instance.log_find(event="dlv.done")
                                       if e["result"] == "deferred"]) >= 5, 20)
    os.unlink(ballast)
    instance.veredus("queue", "flush")
    for number in range(5):
        instance.wait_mail(f"while full {number}", timeout=30)
    wait_for("an empty queue", lambda: instance.queue() == [], 20)
    names = [m["Subject"] for m in instance.mails()]
    assert len(names) == len(set(names)) == 6
    assert all(p["restarts"] == 0 for p in instance.processes("virtual"))


def test_a_full_mail_store_is_an_error_to_imap_and_nothing_breaks(small):
    instance = small("mail", "16M")
    instance.start()
    instance.send("before")
    instance.wait_mail("before")
    imap = instance.imap_client()
    imap.select("INBOX")
    ballast = fill(instance.path("mail"))
    status, _ = imap.append("INBOX", "", None, message("too much", ALICE, ALICE, MEGABYTE).encode())
    assert status == "NO"
    assert imap.noop()[0] == "OK"
    os.unlink(ballast)
    status, _ = imap.append("INBOX", "", None, message("now", ALICE, ALICE, "x\r\n").encode())
    assert status == "OK"
    assert imap.select("INBOX")[1] == [b"2"]
    imap.logout()
