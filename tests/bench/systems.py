"""The mail systems that are compared, behind one interface: port, start, stop, pids, cpu, and
count(): messages in its mailboxes. Mail for relay.test goes to the sink."""
import contextlib
import os
import struct
import subprocess
import time

import veredus
from measure import cpu
from postfix import Postfix
from veredus import Instance, free_port, wait_for


def keep_in(directory):
    """Where instances are made from now on."""
    veredus._tmp = directory  # pylint: disable=protected-access


def slow_syncs(library, microseconds):
    """From now on, syncs of what is started take at least so long. Both masters hand their environment
    on to what they start: ours as it is, Postfix's by import_environment."""
    source = os.path.join(os.path.dirname(__file__), "slowsync.c")
    subprocess.run(["gcc", "-O2", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", library, source,
                    "-ldl"], check=True)
    os.environ.update(LD_PRELOAD=library, SLOW_SYNC_US=str(microseconds))


def listening(port):
    with open("/proc/net/tcp") as file:
        return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
                   for line in file.readlines()[1:])


class Sink:
    """tests/bench/sink.c; counts what it was sent."""

    def __init__(self, tmp):
        self.port, self.file = free_port(), tmp + "/sink.count"
        self.process = subprocess.Popen([tmp + "/sink", str(self.port), self.file])
        wait_for("the sink", lambda: listening(self.port))

    def count(self):
        with open(self.file, "rb") as file:
            return struct.unpack("=Q", file.read(8))[0]

    def stop(self):
        self.process.kill()
        self.process.wait()


class SmtpSink:
    """Postfix's smtp-sink(1), from the package that was unpacked for Postfix."""

    def __init__(self, postfix):
        self.port = free_port()
        self.process = subprocess.Popen(
            [postfix.dir + "/x/usr/sbin/smtp-sink", "-u", "nobody",
             f"127.0.0.1:{self.port}", "1000"], env=postfix.environment(),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("smtp-sink", lambda: listening(self.port))

    def stop(self):
        self.process.kill()
        self.process.wait()


class Veredus:
    name = "veredus"

    def __init__(self, users, sink):
        self.instance = Instance(rooted=os.getuid() == 0).init()
        self.instance.edit_conf(
            append=f"\ndomain relay.test {{ relay [127.0.0.1]:{sink} }}\n")
        for user in users:
            self.instance.veredus("user", "add", user, "--password-stdin",
                                  input="bench-password\n")
        self.users = [u.split("@")[0] for u in users]
        self.port = self.instance.smtp

    def start(self):
        self.instance.start()

    def stop(self):
        self.instance.discard()

    def pids(self):
        return self.instance.family()

    def cpu(self):
        return cpu(self.pids())

    def count(self):
        total = 0
        for user in self.users:
            for folder in ("new", "cur"):
                with contextlib.suppress(FileNotFoundError):
                    total += len(os.listdir(
                        self.instance.path(f"mail/example.test/{user}/{folder}")))
        return total


class BesidePostfix(Postfix):
    name = "postfix"

    def cpu(self):
        return cpu(self.pids(), reaped=True)


def run_load(tmp, port, case, messages, recipients, count=None, size=4096):
    """(messages a second until all have arrived, and until all were accepted)."""
    connections, per = case
    before = count() if count else 0
    started = time.monotonic()
    subprocess.run([tmp + "/load", *map(str, (port, connections, messages, per, size)),
                    *recipients], check=True, stdout=subprocess.DEVNULL)
    accepted = time.monotonic() - started
    while count and count() < before + messages:
        if time.monotonic() - started > 120:
            raise RuntimeError(f"only {count() - before} of {messages} arrived")
        time.sleep(0.005)
    return messages / (time.monotonic() - started), messages / accepted
