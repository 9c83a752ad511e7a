"""What a run costs: CPU time, system calls and memory of processes, and what the disk gives."""
import contextlib
import os
import re
import signal
import subprocess
import tempfile
import time

TICK = os.sysconf("SC_CLK_TCK")


def own_cpu(pid, fields):
    """Seconds of a process: to the nanosecond where the kernel counts so, else in ticks."""
    try:
        total = 0
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/schedstat") as file:
                total += int(file.read().split()[0])
        return total / 1e9
    except OSError:
        return sum(map(int, fields[11:13])) / TICK


def cpu(pids, reaped=False):
    """Seconds these processes have used; reaped: and their children that have ended."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/stat") as file:
                fields = file.read().rsplit(")", 1)[1].split()
            total += own_cpu(pid, fields)
            total += sum(map(int, fields[13:15])) / TICK if reaped else 0
    return total


def pss(pids):
    """Proportional share of memory in kilobytes: shared pages count once in the sum."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/smaps_rollup") as file:
                total += sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
    return total


def load_average():
    return os.getloadavg()[0]


def files_in(path):
    """How many; 0 where there is no such directory."""
    with contextlib.suppress(OSError):
        return len(os.listdir(path))
    return 0


def settled(folders, done, limit, quiet=0.03):
    """When the last name came into the directories folders() lists, or went from them, before
    done(files in them) was true. Their modification times tell that, so that nothing is counted
    while it still goes on, which would cost the systems measured one of the processors, and hold up
    who writes into the directory. limit: when to give up."""
    while True:
        last = max((os.stat(folder).st_mtime for folder in folders()), default=0)
        if time.time() - last > quiet:
            found = sum(map(files_in, folders()))
            if done(found):
                return last
            if time.time() > limit:
                raise RuntimeError(f"waited too long: {found} files are there")
        time.sleep(0.005)


def arrived(folders, wanted, limit):
    """When so many files were in these directories."""
    return settled(folders, lambda found: found >= wanted, limit)


class Calls:
    """Counts the system calls of processes inside its block: calls, syncs (fdatasync) and fsyncs. With
    perf, which hardly slows them; else with strace, which does. None where neither works."""
    EVENTS = ("raw_syscalls:sys_enter", "syscalls:sys_enter_fdatasync",
              "syscalls:sys_enter_fsync")

    def __init__(self, pids):
        self.pids = list(map(str, pids))
        self.calls = self.syncs = self.fsyncs = self.process = None

    def __enter__(self):
        self.out = tempfile.NamedTemporaryFile("r")
        perf = subprocess.run(["perf", "stat", "-e", self.EVENTS[0], "true"], check=False,
                              capture_output=True).returncode == 0
        self.strace = not perf
        command = (["perf", "stat", "-x,", "-o", self.out.name, "-e", ",".join(self.EVENTS),
                    "-p", ",".join(self.pids)] if perf else
                   ["strace", "-f", "-c", "-o", self.out.name] +
                   [x for pid in self.pids for x in ("-p", pid)])
        with contextlib.suppress(FileNotFoundError):
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL,
                                            stderr=subprocess.DEVNULL)
        time.sleep(1)
        return self

    def __exit__(self, *_):
        if not self.process:
            return
        time.sleep(0.5)  # what is left to do after the last message
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
        text = self.out.read()
        rows = ([rf"^ *\S+ +\S+ +\S+ +(\d+) .*\b{x}$" for x in ("total", "fdatasync", "fsync")]
                if self.strace else [rf"^(\d+),.*{name}" for name in self.EVENTS])
        found = [re.search(row, text, re.M) for row in rows]
        self.calls, self.syncs, self.fsyncs = (int(f.group(1)) if f else None for f in found)


def disk(program, directory, writers, size, seconds=1.5):
    """(records a second, records a sync, microseconds a sync) of a preallocated log."""
    out = subprocess.run([program, directory, str(writers), str(size), str(seconds)], check=True,
                         capture_output=True, text=True).stdout
    return tuple(map(float, out.split()))


def hops(program, directory, size, record, messages=1500):
    """Microseconds of a message's way over one connection with no work done on it."""
    return float(subprocess.run([program, directory, *map(str, (size, record, messages))],
                                check=True, capture_output=True, text=True).stdout)


def verdict(name, value, target, at_least, unit=""):
    """One line: the value, and whether it is what it should be. None: could not be measured."""
    if value is None:
        print(f"  {name:<58} not measured")
        return
    word = "" if target is None else (
        f"{'>=' if at_least else '<='} {target:g}{unit}: "
        f"{'met' if (value >= target) == at_least or value == target else 'MISSED'}")
    print(f"  {name:<58} {value:8.1f}{unit:<3} {word}", flush=True)
