"""A spool on a disk of its own that fills up, or that the kernel makes read-only after an error: 452 or
451 before the 250, what was accepted stays, and all goes on when the disk does (I7)."""
import os
import random
import re
import smtplib
import subprocess

import pytest

from loopdisk import LoopDisk
from veredus import ALICE, SLOW, free_port, message, wait_for

DEAD = "dead.test"


@pytest.fixture
def spool_on(fresh, tmp_path):
    """An instance whose spool is an ext4 of this size; mail for dead.test waits in it."""
    disks, instances = [], []

    def factory(size, options=""):
        instance = fresh()
        instance.edit_conf((r"^( *)segment-size .*", r"\1segment-size 1M"), append=(
            f"domain {DEAD} {{ relay [127.0.0.1]:{free_port()} }}\n"
            "outbound { retry-from 1h; retry-to 1h; connect-timeout 1s }\n"))
        disk = LoopDisk(str(tmp_path / "spool.img"), size, options)
        disks.append(disk)
        instances.append(instance)
        disk.put_under(instance, "spool")
        return instance.start(), disk
    yield factory
    for instance in instances:
        instance.kill_everything()
    for disk in disks:
        disk.discard()


def offer(instance, recipient, size):
    """(code, text) of what was refused, or of the end."""
    body = ("f" * 70 + "\r\n") * (size // 72 + 1)
    with smtplib.SMTP("127.0.0.1", instance.smtp, timeout=60 * SLOW) as smtp:
        smtp.ehlo()
        code, text = smtp.mail("a@elsewhere.test")
        if code == 250:
            code, text = smtp.rcpt(recipient)
        if code == 250:
            code, text = smtp.data(message("filling", recipient, "a@elsewhere.test", body))
        return code, text.decode()


def waiting(instance):
    return sorted(e["recipient"] for e in instance.queue())


def verified(instance):
    return not re.search("^damaged", instance.veredus("queue", "verify").stdout, re.M)


def accept_until_refused(instance, sizes):
    accepted, name = [], random.getrandbits(32)
    for count in range(2000):
        recipient = f"u{name:x}-{count}@{DEAD}"
        code, text = offer(instance, recipient, sizes[count % len(sizes)])
        if code != 250:
            return accepted, code, text
        accepted.append(recipient)
    raise AssertionError("the disk does not fill up")


@pytest.mark.parametrize("sizes", [[1000000], [300, 4000, 40000, 100000]], ids=["large", "mixed"])
def test_a_disk_that_fills_up_while_mail_comes_in_refuses_with_452(spool_on, sizes):
    instance, _ = spool_on("16M")
    accepted, code, text = accept_until_refused(instance, sizes)
    assert accepted and (code, text[:5]) == (452, "4.3.1"), (code, text)
    wait_for("a log line that says why", lambda: instance.log_find(rule="disk-full")
             or instance.log_find(event="spool.failed"))
    assert set(waiting(instance)) >= set(accepted)
    assert verified(instance)
    # A start needs no space.
    instance.restart()
    assert set(waiting(instance)) >= set(accepted)
    # Room comes from mail that goes.
    instance.veredus("queue", "delete", "all")
    wait_for("250 again", lambda: offer(instance, ALICE, sizes[-1])[0] == 250, 30, interval=0.3)
    wait_for("an empty queue", lambda: waiting(instance) == [], 30)
    assert all(p["restarts"] == 0 for p in instance.processes("qmgr"))


def fill(path):
    """Not a byte is left, the part that is reserved for root included."""
    name = os.path.join(path, "ballast")
    with open(name, "wb", buffering=0) as file:
        for size in (1 << 20, 4096, 512):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                pass
    return name


def test_reports_of_mail_that_is_parked_on_a_full_disk_come_once(spool_on):
    instance, disk = spool_on("16M")
    for count in range(5):
        instance.send(f"fails {count}", to=[f"r{count}@{DEAD}"], sender=ALICE, login=ALICE)
    wait_for("them to wait", lambda: [e["state"] for e in instance.queue()] == ["deferred"] * 5, 30)
    ballast = fill(disk.path)
    # The log has its room; what cannot be noted in a file is kept and tried again.
    instance.veredus("queue", "bounce", "all", status=None)
    code, _ = offer(instance, f"more@{DEAD}", 1000000)
    assert code == 452
    os.unlink(ballast)
    instance.veredus("queue", "bounce", "all", status=None)
    wait_for("an empty queue", lambda: instance.queue() == [], 40)
    wait_for("all reports", lambda: len(instance.mails()) >= 5, 30)
    assert len(instance.mails()) == 5
    assert verified(instance)


def test_a_disk_that_turns_read_only_refuses_with_451_and_keeps_what_was_accepted(spool_on):
    instance, disk = spool_on("32M", "errors=remount-ro")
    accepted = []
    for count in range(20):
        accepted.append(f"kept{count}@{DEAD}")
        assert offer(instance, accepted[-1], random.choice([300, 60000]))[0] == 250
    wait_for("them to wait", lambda: {e["state"] for e in instance.queue()} == {"deferred"}, 30)
    result = subprocess.run(["mount", "-o", "remount,abort", disk.path], capture_output=True,
                            text=True, check=False)
    if not {"ro", "emergency_ro"} & set(options_of(disk.path)):
        pytest.skip(f"this kernel does not abort an ext4 on demand: {result.stderr.strip()} "
                    f"{options_of(disk.path)}")
    for size in (300, 60000):
        code, text = offer(instance, ALICE, size)
        assert code in (451, 452), (code, text)
    instance.wait_log(event="spool.failed")
    assert sorted(accepted) == waiting(instance)
    instance.kill_everything()
    # A start on the read-only disk is refused, and says why.
    assert instance.veredus("start", status=None).returncode != 0 or not instance.pids("qmgr")
    instance.kill_everything()
    disk.unmount()
    disk.mount(instance.path("spool"))
    instance.start()
    assert sorted(accepted) == waiting(instance)
    assert verified(instance)
    assert offer(instance, ALICE, 300)[0] == 250


def options_of(path):
    with open("/proc/mounts", encoding="utf-8") as mounts:
        found = [line.split()[3].split(",") for line in mounts
                 if line.split()[1] == os.path.realpath(path)]
    return found[-1] if found else []
