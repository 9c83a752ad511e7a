"""I4 as the kernel saw it: what was written is synced before the 250 is."""
import os
import re
import shutil
import signal
import subprocess
import time

import pytest

from veredus import ALICE

CALLS = "trace=fdatasync,fsync,pwritev,pwrite64,sendmsg,write"


class Trace:
    """strace of some processes; its lines in order of time."""

    def __init__(self, pids, path):
        self.path = path
        arguments = ["strace", "-f", "-ttt", "-s", "64", "-e", CALLS, "-o", path]
        for pid in pids:
            arguments += ["-p", str(pid)]
        self.process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
        attached, said = 0, ""
        while attached < len(pids):
            line = self.process.stderr.readline()
            said += line
            assert line, f"strace ended: {said}"
            attached += "attached" in line

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(10)
        self.process.stderr.close()

    def calls(self):
        with open(self.path, errors="replace") as file:
            lines = [line.split(None, 2) for line in file]
        return sorted(((float(at), int(pid), call) for pid, at, call in lines),
                      key=lambda entry: entry[0])


def may_trace():
    return os.getuid() == 0 and shutil.which("strace")


@pytest.mark.parametrize("size", [300, 200000], ids=["small", "large"])
def test_the_spool_is_synced_before_the_250_is_written(rooted, tmp_path, size):
    if not may_trace():
        pytest.skip("needs root and strace: daemons cannot be traced by their own user")
    qmgr, smtpd = rooted.pids("qmgr"), rooted.pids("smtpd")
    subject = f"order {size}"
    with Trace(qmgr + smtpd, str(tmp_path / "trace")) as trace, rooted.raw() as client:
        client.hello()
        for command in ("MAIL FROM:<a@elsewhere.test>", f"RCPT TO:<{ALICE}>", "DATA"):
            assert client.smtp(command) in (250, 354)
        client.send(b"Subject: " + subject.encode() + b"\r\n\r\n")
        client.send((b"y" * 70 + b"\r\n") * (size // 72 + 1))
        before = time.time()
        assert client.smtp(".") == 250
    calls = [entry for entry in trace.calls() if entry[0] >= before - 0.5]
    reply = next(i for i, (_, pid, call) in enumerate(calls)
                 if pid in smtpd and "250 2.0.0" in call)
    # Threads have ids of their own: what is not smtpd's is qmgr's.
    synced = [i for i, (_, pid, call) in enumerate(calls[:reply])
              if pid not in smtpd and re.search(r"f(data)?sync.*= 0", call)]
    written = [i for i, (_, pid, call) in enumerate(calls[:reply])
               if pid not in smtpd and call.startswith("pwrite")]
    assert written, "nothing was written before the 250"
    assert synced and synced[-1] > written[0], "the 250 came before the sync"
    if size > 48 * 1024:
        assert len(synced) >= 2, "the body's own file was not synced"
    rooted.wait_mail(subject)
