"""kill -9, of one daemon or of all, under load: nothing accepted is lost, nothing comes twice."""
import contextlib
import os
import random
import signal
import smtplib
import threading
import time

import pytest

from veredus import ALICE, BOB, ROLES, SLOW, alive, message, wait_for


class Load:
    """Clients that send small and large mail as fast as they can; remembers what got its 250."""

    def __init__(self, instance, clients=4, prefix=""):
        self.instance = instance
        self.prefix = prefix
        self.accepted = []     # (subject, recipient)
        self.attempts = 0
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.client, args=(n,)) for n in range(clients)]
        for thread in self.threads:
            thread.start()

    def client(self, number):
        source = random.Random(number)
        count = 0
        while not self.stopping.is_set():
            try:
                with smtplib.SMTP("127.0.0.1", self.instance.smtp, timeout=10 * SLOW) as smtp:
                    for _ in range(10):
                        if self.stopping.is_set():
                            break
                        count += 1
                        subject = f"load {self.prefix} {number} {count}"
                        size = source.choice([100, 2000, 30000, 80000])
                        body = ("z" * 70 + "\r\n") * (size // 72 + 1)
                        recipient = source.choice([ALICE, BOB])
                        self.attempts += 1
                        smtp.sendmail("a@elsewhere.test", [recipient],
                                      message(subject, recipient, "a@elsewhere.test", body))
                        with self.lock:
                            self.accepted.append((subject, recipient))
            except (OSError, smtplib.SMTPException):
                time.sleep(0.05)

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(60 * SLOW)
            assert not thread.is_alive()


def subjects(instance, user):
    found = []
    for path in instance.mail_files(user):
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
            head = file.read(4096)
            for line in head.split(b"\r\n\r\n")[0].split(b"\n"):
                if line.startswith(b"Subject: load"):
                    found.append(line[9:].strip().decode())
    return found


def all_there_once(instance, accepted):
    """Waits until everything accepted is in the mailboxes, then looks for duplicates."""
    def missing():
        have = {user: set(subjects(instance, user)) for user in (ALICE, BOB)}
        return [a for a in accepted if a[0] not in have[a[1]]]
    try:
        wait_for("everything accepted", lambda: not missing(), 60, interval=0.3)
    except AssertionError:
        lost = missing()
        raise AssertionError(f"{len(lost)} of {len(accepted)} accepted are lost: {lost[:5]}") from None
    wait_for("an empty queue", lambda: instance.queue() == [], 60, interval=0.3)
    for user in (ALICE, BOB):
        have = subjects(instance, user)
        twice = {s for s in have if have.count(s) > 1}
        assert not twice, f"came twice for {user}: {sorted(twice)[:5]}"
    # What IMAP says is what the files say.
    for user in (ALICE, BOB):
        imap = instance.imap_client(user)
        status, data = imap.select("INBOX")
        assert status == "OK"
        assert int(data[0]) == len(instance.mail_files(user))
        imap.logout()


ROUNDS = int(os.environ.get("VEREDUS_KILL_ROUNDS", "10"))


@pytest.mark.parametrize("role", [r for r in ROLES if r not in ("master",)])
def test_kill_of_a_daemon_under_load_loses_nothing(fresh, role):
    instance = fresh()
    instance.start()
    load = Load(instance)
    try:
        wait_for("mail to flow", lambda: len(load.accepted) > 10)
        for _ in range(3):
            before = len(load.accepted)
            pids = wait_for(f"{role} to run", lambda: instance.pids(role), 30)
            with contextlib.suppress(ProcessLookupError):  # listed just before it was reaped
                os.kill(random.choice(pids), signal.SIGKILL)
            wait_for(f"mail to flow again after {role} was killed",
                     lambda n=before: len(load.accepted) > n + 10, 40)
    finally:
        load.stop()
    all_there_once(instance, load.accepted)
    assert any(p["restarts"] for p in instance.processes(role))
    assert alive(instance.pid_file())


def test_kill_of_one_daemon_after_another_loses_nothing(fresh):
    """Any daemon, then another while the first is on its way back: what one alone does not show."""
    source = random.Random()
    roles = [r for r in ROLES if r != "master"]
    for first in range(0, ROUNDS, 10):  # a new instance now and then: daemons that die often wait
        instance = fresh()
        instance.start()
        load = Load(instance)
        try:
            for _ in range(first, min(first + 10, ROUNDS)):
                before = len(load.accepted)
                for role in source.sample(roles, 2):
                    for pid in instance.pids(role):
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                    time.sleep(source.random() / 10)
                wait_for("mail to flow again", lambda n=before: len(load.accepted) > n + 10, 90)
        finally:
            load.stop()
        all_there_once(instance, load.accepted)
        assert alive(instance.pid_file())
        instance.stop()


def test_kill_of_everything_again_and_again_loses_nothing(fresh):
    instance = fresh()
    accepted = []
    for life in range(ROUNDS):
        instance.start()
        load = Load(instance, prefix=f"life{life}")
        try:
            wait_for("mail to flow", lambda: len(load.accepted) > 10, 30)
            time.sleep(random.random())
            instance.kill_everything()
        finally:
            load.stop()
        accepted += load.accepted
    instance.start()
    all_there_once(instance, accepted)


def test_kill_of_master_ends_all_daemons(fresh):
    instance = fresh()
    instance.start()
    pids = instance.family()
    os.kill(instance.pid_file(), signal.SIGKILL)
    wait_for("their ends", lambda: not any(alive(p) for p in pids), 20)
    instance.start()
    instance.send("after master's death")
    instance.wait_mail("after master's death")


def test_a_crash_loop_is_reported_and_does_not_spin(fresh):
    instance = fresh()
    instance.start()
    started, kills = time.monotonic(), 0
    while time.monotonic() - started < 8:
        for pid in instance.pids("bounce"):
            if alive(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    kills += 1
        time.sleep(0.02)
    assert kills < 60  # back-off: not one restart per look
    instance.send("the rest works")
    instance.wait_mail("the rest works")
    wait_for("its return", lambda: [p for p in instance.processes("bounce")
                                    if p.get("state") == "running"], 70)


def test_idle_sessions_survive_the_death_of_their_front_or_end_cleanly(fresh):
    instance = fresh()
    instance.start()
    imap = instance.imap_client()
    imap.select("INBOX")
    for role in ("imap-login", "authd", "notifyd"):
        for pid in instance.pids(role):
            os.kill(pid, signal.SIGKILL)
    wait_for("a new login", lambda: _can_login(instance), 30)


def _can_login(instance):
    try:
        instance.imap_client().logout()
        return True
    except Exception:
        return False
