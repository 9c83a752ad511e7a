"""The wall clock is set while mail waits: nothing is lost, nothing waits for ever, nothing is returned
that was not tried again."""
import os
import pathlib
import shutil
import struct
import subprocess
import time

import pytest

from veredus import ALICE, ROOT, free_port, wait_for

DAY = 86400


class Clock:
    """What the processes of an instance take for the time."""

    def __init__(self, directory):
        self.path = str(directory / "clock")
        self.library = str(directory / "clockshift.so")
        self.set(0)
        os.chmod(self.path, 0o644)

    def set(self, seconds):
        self.shift = seconds
        with open(self.path, "wb" if not os.path.exists(self.path) else "r+b") as file:
            file.write(struct.pack("q", seconds))

    def now(self):
        return time.time() + self.shift


@pytest.fixture
def shifted(fresh):
    """An instance whose clock can be set, with a message for dead.test that waits."""
    compiler = shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        pytest.skip("no compiler for the clock that can be set")
    if os.environ.get("VEREDUS_ASAN"):
        pytest.skip("the sanitizers want to be loaded first")
    instance = fresh()
    clock = Clock(pathlib.Path(instance.parent))
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", clock.library,
                    os.path.join(ROOT, "tests/crash/clockshift.c"), "-ldl"], check=True)
    command = instance.command
    instance.command = lambda *words: [
        "env", f"LD_PRELOAD={clock.library}", f"VEREDUS_CLOCK={clock.path}", *command(*words)]
    instance.edit_conf(append=f"domain dead.test {{ relay [127.0.0.1]:{free_port()} }}\n"
                       "outbound { retry-from 1h; retry-to 2h; connect-timeout 1s }\n")
    instance.start()
    instance.send("waits", to="x@dead.test", sender=ALICE, login=ALICE)
    wait_for("it to wait", lambda: [e for e in instance.queue() if e["state"] == "deferred"], 20)
    return instance, clock


def attempts(instance):
    return len([e for e in instance.log_find(event="dlv.done") if e.get("result") == "deferred"])


def entry(instance):
    return [e for e in instance.queue() if e["recipient"] == "x@dead.test"]


@pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])
def test_a_clock_set_back_makes_nothing_wait_for_ever(shifted, restart):
    instance, clock = shifted
    clock.set(-10 * DAY)
    if restart:
        instance.restart()
    instance.send("while it is wrong")
    instance.wait_mail("while it is wrong")
    instance.veredus("queue", "flush")
    wait_for("another attempt", lambda: attempts(instance) >= 2, 20)
    found = wait_for("it to wait again", lambda: [
        e for e in entry(instance) if e["state"] == "deferred"], 20)[0]
    due = found["next"] / 1000 if found["next"] > 1e11 else found["next"]
    assert due <= clock.now() + 2 * 3600 * 1.25 + 60, (due, clock.now())
    clock.set(0)
    instance.restart()
    assert len(entry(instance)) == 1


@pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])
def test_a_clock_set_forward_returns_nothing_untried(shifted, restart):
    instance, clock = shifted
    before = attempts(instance)
    clock.set(30 * DAY)
    if restart:
        instance.restart()
    else:
        instance.veredus("queue", "flush")
    instance.send("while it is wrong")
    instance.wait_mail("while it is wrong")
    # It is long past its lifetime: tried once more, then returned to its sender.
    wait_for("its return", lambda: [m for m in instance.mails(ALICE)
                                    if m.get_content_type() == "multipart/report"], 30)
    wait_for("the attempt in the log", lambda: len([
        e for e in instance.log_find(event="dlv.done") if "x@dead.test" in e.values()]) > before)
    wait_for("an empty queue", lambda: entry(instance) == [], 20)
