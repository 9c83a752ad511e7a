"""kill -9 while mail is forwarded by .forward files: whoever they name gets each message once."""
import contextlib
import os
import pwd
import random
import signal
import smtplib
import subprocess
import threading
import time

import pytest

from veredus import ALICE, BOB, SLOW, message, wait_for

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root to make an account")

HOST = "host.test"


@pytest.fixture
def account():
    name = f"vf{random.getrandbits(32):x}"
    subprocess.run(["useradd", "-m", "-s", "/bin/false", name], check=True)
    entry = pwd.getpwnam(name)
    path = os.path.join(entry.pw_dir, ".forward")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"\\{name}, {ALICE}, {BOB}\n")
    os.chown(path, entry.pw_uid, entry.pw_gid)
    os.chmod(path, 0o600)
    yield entry
    subprocess.run(["userdel", "-r", "-f", name], check=False, capture_output=True)


class Load:
    """Clients that send to one address and remember what got its 250."""

    def __init__(self, instance, address, clients=2):
        self.instance, self.address = instance, address
        self.accepted = []
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.client, args=(n,)) for n in range(clients)]
        for thread in self.threads:
            thread.start()

    def client(self, number):
        count = 0
        while not self.stopping.is_set():
            try:
                with smtplib.SMTP("127.0.0.1", self.instance.smtp, timeout=10 * SLOW) as smtp:
                    while not self.stopping.is_set():
                        count += 1
                        subject = f"forwarded {number} {count}"
                        body = "z" * 70 + "\r\n"
                        smtp.sendmail("a@elsewhere.test", [self.address],
                                      message(subject, self.address, "a@elsewhere.test",
                                              body * random.choice([1, 30, 1000])))
                        self.accepted.append(subject)
                        time.sleep(0.02)
            except (OSError, smtplib.SMTPException):
                time.sleep(0.05)

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(60 * SLOW)
            assert not thread.is_alive()


def subjects(files):
    found = []
    for path in files:
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
            for line in file.read(4096).split(b"\n"):
                if line.startswith(b"Subject: forwarded"):
                    found.append(line[9:].strip().decode())
                    break
    return found


def test_kill_while_mail_is_forwarded_loses_and_doubles_nothing(fresh, account):
    instance = fresh(True)
    instance.edit_conf(append=f"local {{ domains {HOST} }}")
    instance.start()
    load = Load(instance, f"{account.pw_name}@{HOST}")
    try:
        wait_for("mail to flow", lambda: len(load.accepted) > 5, 20)
        for role in ["qmgr", "local", "lookupd"] * 3:
            before = len(load.accepted)
            for pid in instance.pids(role):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            wait_for(f"mail to flow after {role} was killed",
                     lambda n=before: len(load.accepted) > n + 4, 40)
    finally:
        load.stop()

    def boxes():
        own = [os.path.join(account.pw_dir, "Maildir", d, f) for d in ("new", "cur")
               for f in os.listdir(os.path.join(account.pw_dir, "Maildir", d))]
        return {"own": subjects(own), ALICE: subjects(instance.mail_files(ALICE)),
                BOB: subjects(instance.mail_files(BOB))}

    def complete():
        instance.veredus("queue", "flush")
        return all(set(load.accepted) <= set(box) for box in boxes().values())
    wait_for("all mail in each mailbox", complete, 60, interval=1)
    wait_for("an empty queue", lambda: instance.queue() == [], 60, interval=0.3)
    for name, box in boxes().items():
        twice = {s for s in box if box.count(s) > 1}
        assert not twice, f"came twice for {name}: {sorted(twice)[:5]}"
