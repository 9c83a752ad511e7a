"""The mail systems that are compared, behind one interface: port, start, stop, pids, cpu, and
folders(): the directories that messages end in. Mail for relay.test goes to the sink."""
import os
import struct
import subprocess
import time

from measure import arrived, cpu, files_in
from place import die_with_parent, end
from veredus import Instance, free_port, wait_for


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
        self.process = subprocess.Popen([tmp + "/sink", str(self.port), self.file],
                                        preexec_fn=die_with_parent)
        wait_for("the sink", lambda: listening(self.port))

    def count(self):
        with open(self.file, "rb") as file:
            return struct.unpack("=Q", file.read(8))[0]

    def wait(self, wanted, limit):
        """When so many had come."""
        while self.count() < wanted:
            if time.time() > limit:
                raise RuntimeError(f"{wanted - self.count()} messages have not reached the sink")
            time.sleep(0.002)
        return time.time()

    def stop(self):
        self.process.kill()
        self.process.wait()


class SmtpSink:
    """Postfix's smtp-sink(1), from the package that was unpacked for Postfix."""

    def __init__(self, package):
        self.port = free_port()
        self.process = subprocess.Popen(
            [package.dir + "/usr/sbin/smtp-sink", "-u", "nobody",
             f"127.0.0.1:{self.port}", "1000"], env=package.environment(),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("smtp-sink", lambda: listening(self.port))

    def stop(self):
        self.process.kill()
        self.process.wait()


class Mailboxes:
    """Counts like a sink what has come into the mailboxes of a system."""

    def __init__(self, system):
        self.system = system

    def count(self):
        return sum(map(files_in, self.system.folders()))

    def wait(self, wanted, limit):
        return arrived(self.system.folders, wanted, limit)


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
        end(self.instance)

    def pids(self):
        return self.instance.family()

    def cpu(self):
        return cpu(self.pids())

    def folders(self):
        paths = [self.instance.path(f"mail/example.test/{user}/{folder}")
                 for user in self.users for folder in ("new", "cur")]
        return list(filter(os.path.isdir, paths))


def run_load(tmp, port, case, messages, recipients, end_of_way=None, size=4096):
    """(messages a second until all have arrived, and until all were accepted). end_of_way: where
    they arrive, with count() and wait(); None: being accepted is the end."""
    connections, per = case
    before = end_of_way.count() if end_of_way else 0
    started = time.time()
    subprocess.run([tmp + "/load", *map(str, (port, connections, messages, per, size)),
                    *recipients], check=True, stdout=subprocess.DEVNULL)
    accepted = last = time.time()
    if end_of_way:
        last = max(accepted, end_of_way.wait(before + messages, started + 120))
    return messages / (last - started), messages / (accepted - started)
