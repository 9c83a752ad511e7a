"""Power cuts on a real file system: everything acknowledged is there, once and whole, afterwards.

The whole directory of an instance lies on an ext4 of its own. In the middle of mail coming in, over
SMTP and by IMAP APPEND, that file system is told to shut down without flushing its journal: what
had not been synced is gone, as when the power fails. Then every process is killed, the file system
is mounted again (its journal is replayed) and the instance started: half of the times in a time
namespace whose clock says that the machine was booted since, and otherwise as it is, as after a disk
that dropped off and came back.
"""
import collections
import contextlib
import email
import hashlib
import imaplib
import os
import random
import re
import signal
import smtplib
import threading
import time

import pytest

from loopdisk import LoopDisk
from veredus import ALICE, BOB, SLOW, alive, free_port, message, wait_for

ROUNDS = int(os.environ.get("VEREDUS_POWER_ROUNDS", "3"))
PER_INSTANCE = 8  # rounds before everything begins anew
OPTIONS = ("", "commit=1", "data=writeback,commit=1", "nodelalloc,commit=1", "noauto_da_alloc")
SIZES = (100, 2000, 4000, 30000, 60000, 150000)
DEAD = "dead.test"


def body_of(subject, size):
    line = hashlib.sha256(subject.encode()).hexdigest() + "\r\n"
    return line * (size // len(line) + 1)


def letter(subject, recipient, size):
    body = body_of(subject, size)
    return message(subject, recipient, "a@elsewhere.test", body, f"X-Size: {size}\r\n")


def whole(data):
    """The subject of a letter, or None when it is not as it was written."""
    parsed = email.message_from_bytes(data)
    subject, size = parsed["Subject"], parsed["X-Size"]
    if not subject or not size:
        return None
    body = data.replace(b"\r\n", b"\n").split(b"\n\n", 1)[1]
    return subject if body == body_of(subject, int(size)).replace("\r\n", "\n").encode() else None


class Load:
    """Clients of all kinds; remembers what was acknowledged while there was power. Later answers
    count for nothing: without power there are none, and while ext4 shuts down, the journal's abort
    can pass for its commit, so that fdatasync reports success (seen in segments of the log that are
    written to for the first time)."""

    def __init__(self, instance, seed):
        self.instance, self.seed = instance, seed
        self.local, self.deferred, self.appended = [], [], []
        self.told = {}  # subject -> when its 250 came
        self.seen = {}  # (uidvalidity, uid) -> subject in INBOX of ALICE
        self.power = True
        self.stopping = threading.Event()
        jobs = [self.smtp] * 10 + [self.imap] * 2 + [self.watch]
        self.threads = [threading.Thread(target=self.client, args=(job, number))
                        for number, job in enumerate(jobs)]
        for thread in self.threads:
            thread.start()

    def client(self, job, number):
        source = random.Random(f"{self.seed} {number}")
        while not self.stopping.is_set():
            with contextlib.suppress(OSError, smtplib.SMTPException, imaplib.IMAP4.error):
                job(source, f"{self.seed}-{number}-{random.getrandbits(40):x}")
            time.sleep(0.02)

    def smtp(self, source, name):
        with smtplib.SMTP("127.0.0.1", self.instance.smtp, timeout=20 * SLOW) as smtp:
            for count in range(source.choice([1, 1, 30])):
                if self.stopping.is_set():
                    return
                subject = f"cut {name}-{count}"
                to = source.choice([[ALICE], [ALICE], [BOB], [ALICE, BOB], [f"{name}-{count}@{DEAD}"],
                                    [ALICE, f"{name}-{count}@{DEAD}"]])
                refused = smtp.sendmail("a@elsewhere.test", to,
                                        letter(subject, to[0], source.choice(SIZES)))
                if not self.power:
                    return
                self.told[subject] = time.monotonic()
                for recipient in set(to) - set(refused):
                    kind = self.deferred if recipient.endswith(DEAD) else self.local
                    kind.append((subject, recipient))

    def imap(self, source, name):
        client = self.instance.imap_client(BOB)
        for count in range(20):
            if self.stopping.is_set():
                return
            subject = f"cut append {name}-{count}"
            text = letter(subject, BOB, source.choice(SIZES)).encode()
            status, data = client.append("Kept", None, None, text)
            if status == "OK" and self.power:
                uid = re.search(rb"APPENDUID (\d+) (\d+)", data[0])
                self.told[subject] = time.monotonic()
                self.appended.append((subject, int(uid[1]), int(uid[2])))
        client.logout()

    def watch(self, _source, _name):
        """A client that sees mail before it is durable: the UIDs it saw may not change hands."""
        client = self.instance.imap_client(ALICE)
        if client.select("INBOX", readonly=True)[0] != "OK":
            return
        validity = int(client.response("UIDVALIDITY")[1][0])
        while not self.stopping.is_set():
            client.noop()
            _, data = client.uid("FETCH", "*", "(UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
            for item in data:
                if isinstance(item, tuple) and b":" in item[1] and self.power:
                    uid = int(re.search(rb"UID (\d+)", item[0])[1])
                    self.seen[validity, uid] = item[1].split(b":", 1)[1].strip().decode()

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(90 * SLOW)
            assert not thread.is_alive()


class Ledger:
    """What was ever acknowledged by one instance."""

    def __init__(self):
        self.local, self.deferred, self.appended, self.seen = [], [], [], {}
        self.told, self.cuts = {}, []  # when each 250 came, and when the power went

    def when(self, subject):
        """For a look at what is lost: how long before (or after) a cut its 250 came."""
        return f"{subject}: {min((self.told[subject] - c for c in self.cuts), key=abs):+.4f} s"

    def add(self, load):
        self.local += load.local
        self.deferred += load.deferred
        self.appended += load.appended
        self.told.update(load.told)
        for place, subject in load.seen.items():
            assert self.seen.setdefault(place, subject) == subject, f"UID {place} changed hands"


def files_of(instance, folder):
    for part in ("new", "cur"):
        path = instance.path(f"mail/example.test/{folder}/{part}")
        for name in os.listdir(path):
            with contextlib.suppress(FileNotFoundError), open(os.path.join(path, name), "rb") as file:
                yield name, file.read()


def leftovers(instance):
    """Files of deliveries and APPENDs that nobody acknowledged: in the directory, but in no index,
    so that no client sees them. Nothing else may be wrong with the mailboxes."""
    found = set()
    for user in (ALICE, BOB):
        for line in instance.veredus("mailbox", "verify", user, status=None).stdout.splitlines():
            unknown = re.fullmatch(r"\S+: file (\S+) is in no index", line)
            assert unknown or line.endswith(": whole"), line
            if unknown:
                found.add(unknown[1])
    return found


def check_files(instance, ledger, folder, wanted, unknown, strict=True):
    """Every message is whole and there once, and all that are wanted are. Not strict: what nobody
    was promised may be torn."""
    counts = collections.Counter()
    for name, data in files_of(instance, folder):
        if name.split(":")[0] in unknown:
            continue
        subject = whole(data)
        if not subject and not strict:
            continue
        assert subject, f"{folder}: {name} of {len(data)} bytes is not as it was sent"
        counts[subject] += 1
    lost = [s for s in wanted if s not in counts]
    twice = [s for s, n in counts.items() if n > 1]
    assert not lost, (f"{folder}: {len(lost)} of {len(wanted)} acknowledged are lost: "
                      f"{[ledger.when(s) for s in lost[:5]]}")
    assert not twice, f"{folder}: came twice: {twice[:5]}"


def check_queue(instance, ledger):
    def active():
        return [e for e in instance.queue() if not e["recipient"].endswith(DEAD)]
    wait_for("local mail to be delivered", lambda: not active(), 60, interval=0.2)
    counts = collections.Counter(e["recipient"] for e in instance.queue())
    lost = [ledger.when(s) for s, r in ledger.deferred if counts[r] == 0]
    twice = [r for r, n in counts.items() if n > 1]
    assert not lost, f"{len(lost)} waiting messages are lost: {lost[:5]}"
    assert not twice, f"in the queue twice: {twice[:5]}"
    verdict = instance.veredus("queue", "verify").stdout
    assert not re.search("^damaged", verdict, re.M), verdict


def uids_of(instance, user, folder):
    """UIDVALIDITY, UIDNEXT and the subject of each UID."""
    with contextlib.closing(instance.imap_client(user)) as client:
        client.select(folder, readonly=True)
        validity = int(client.response("UIDVALIDITY")[1][0])
        next_uid = int(client.response("UIDNEXT")[1][0])
        _, data = client.uid("FETCH", "1:*", "(UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
        now = {}
        for item in data:
            if isinstance(item, tuple):
                now[int(re.search(rb"UID (\d+)", item[0])[1])] = (
                    item[1].partition(b":")[2].strip().decode())
        return validity, next_uid, now


def check_uids(instance, user, folder, seen):
    """No UID belongs to another message than before, and new ones are above all that were seen."""
    validity, next_uid, now = uids_of(instance, user, folder)
    for (seen_validity, uid), subject in seen.items():
        assert seen_validity == validity, f"{folder}: UIDVALIDITY changed"
        assert uid < next_uid, f"{folder}: UID {uid} was given out, UIDNEXT is {next_uid}"
        assert now.get(uid, subject) == subject, f"{folder}: UID {uid} was {subject}, is {now[uid]}"
    return now


def check_appended(instance, ledger):
    """What APPEND acknowledged is there, under the UID it was told, or a new one where the log of
    the folder was torn."""
    now = check_uids(instance, BOB, "Kept", {(v, uid): s for s, v, uid in ledger.appended})
    subjects = collections.Counter(now.values())
    for subject, _, uid in ledger.appended:
        assert subjects[subject] == 1, (f"{ledger.when(subject)}, UID {uid}, is there "
                                        f"{subjects[subject]} times")
    return sum(now.get(uid) != subject for subject, _, uid in ledger.appended)


def check(instance, ledger):
    check_queue(instance, ledger)
    check_uids(instance, ALICE, "INBOX", ledger.seen)
    moved = check_appended(instance, ledger)
    unknown = leftovers(instance)
    check_files(instance, ledger, "alice", {s for s, r in ledger.local if r == ALICE}, unknown)
    check_files(instance, ledger, "bob", {s for s, r in ledger.local if r == BOB}, unknown)
    check_files(instance, ledger, "bob/.Kept", {s for s, _, _ in ledger.appended}, unknown,
                strict=False)
    print(f"{len(ledger.local)} local, {len(ledger.deferred)} waiting, {len(ledger.appended)} "
          f"appended ({moved} under a new UID), {len(ledger.seen)} seen, {len(unknown)} left over")


class Cuttable:
    """An instance on a disk whose power can fail."""

    def __init__(self, fresh, tmp_path, source):
        self.source = source
        self.instance = fresh()
        self.instance.edit_conf((r"^( *)segment-size .*", r"\1segment-size "
                                 + source.choice(["1M", "4M"])), append=(
            f"domain {DEAD} {{ relay [127.0.0.1]:{free_port()} }}\n"
            "outbound { retry-from 2s; retry-to 2s; connect-timeout 1s }\n"))
        self.disk = LoopDisk(str(tmp_path / "disk.img"))
        self.disk.put_under(self.instance)
        self.boots = 0
        command = self.instance.command
        self.instance.command = lambda *words: [
            "unshare", "--time", "--boottime", str(1000 * self.boots), *command(*words)]

    def power_on(self):
        self.disk.unmount()
        self.disk.mount(self.instance.dir, self.source.choice(OPTIONS))
        self.boots += self.source.randrange(2)

    def cut(self):
        """The power fails; the machine comes back, and nothing runs yet."""
        master = self.instance.pid_file()
        self.disk.cut_power()
        self.instance.pid_file = lambda: master  # its file cannot be read any more
        self.instance.kill_everything()
        del self.instance.pid_file
        self.power_on()

    def cut_while_starting(self):
        starting = threading.Thread(target=lambda: self.instance.veredus("start", status=None))
        starting.start()
        time.sleep(self.source.random() * 0.6)
        self.disk.cut_power()
        # Whoever is there now is killed; master may not have written its file.
        while starting.is_alive() or self.strangers():
            for pid in self.strangers():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        starting.join()
        self.power_on()

    def strangers(self):
        """Processes with this directory on their command line, or below one of those."""
        found, parents = set(), {}
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError, IndexError):
                with open(f"/proc/{entry}/stat") as stat:
                    fields = stat.read().rsplit(")", 1)[1].split()
                with open(f"/proc/{entry}/cmdline", "rb") as cmdline:
                    if self.instance.dir.encode() in cmdline.read() and fields[0] != "Z":
                        found.add(int(entry))
                parents.setdefault(int(fields[1]), []).append(int(entry))
        todo = list(found)
        while todo:
            for child in parents.get(todo.pop(), []):
                if child not in found:
                    found.add(child)
                    todo.append(child)
        return [pid for pid in found if alive(pid)]


def one_life(fresh, tmp_path, first, rounds, seed):
    source = random.Random(f"{seed} {first}")
    machine = Cuttable(fresh, tmp_path, source)
    instance, ledger = machine.instance, Ledger()
    try:
        instance.start()
        client = instance.imap_client(BOB)
        client.create("Kept")
        client.logout()
        for number in range(first, first + rounds):
            load = Load(instance, f"{seed}-{number}")
            try:
                wait_for("mail to flow", lambda n=load: len(n.local) > 10, 40)
                time.sleep(source.random() * 2)
                load.power = False
                ledger.cuts.append(time.monotonic())
                machine.cut()
            finally:
                load.stop()
            ledger.add(load)
            while source.random() < 0.3:
                machine.cut_while_starting()
            instance.start()
            check(instance, ledger)
        instance.stop()
        machine.disk.unmount()
    finally:
        with contextlib.suppress(Exception):
            instance.kill_everything()
        machine.disk.discard()


def test_a_power_cut_loses_and_repeats_nothing(fresh, tmp_path):
    seed = os.environ.get("VEREDUS_SEED") or f"{random.getrandbits(32):x}"
    print(f"VEREDUS_SEED={seed}")
    for first in range(0, ROUNDS, PER_INSTANCE):
        one_life(fresh, tmp_path, first, min(PER_INSTANCE, ROUNDS - first), seed)
