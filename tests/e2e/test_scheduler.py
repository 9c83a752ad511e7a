"""What the scheduler does that a user or an administrator sees."""
import os
import json
import re
import shutil
import signal
import threading
import time

import pytest

from conftest import make
from dns import Dns
from sink import Sink
from veredus import ALICE, free_port, wait_for


def configured(rooted, queue="", outbound="", extra=""):
    """An instance with more keys in these blocks."""
    instance = make(rooted)
    text = instance.read("veredus.conf")
    for name, keys in (("queue", queue), ("outbound", outbound)):
        found = re.search(rf"^{name}\s*\{{([^}}]*)\}}", text, flags=re.M)
        if found:
            text = text[:found.start(1)] + found[1].rstrip() + f"\n{keys}\n" + text[found.end(1):]
        else:
            text += f"\n{name} {{ {keys} }}\n"
    instance.write("veredus.conf", text + "\n" + extra + "\n")
    return instance.start()


@pytest.mark.parametrize("rooted", [False, True], ids=["rootless", "rooted"])
def test_an_agent_that_hangs_is_killed_and_its_mail_delivered(rooted):
    instance = configured(rooted, queue="agent-timeout 1s")
    try:
        instance.send("before")
        instance.wait_mail("before")
        hanging = instance.pids("virtual")
        for pid in hanging:
            os.kill(pid, signal.SIGSTOP)
        instance.send("meanwhile")
        wait_for("an agent to be killed", lambda: instance.log_find(
            event="process.hung", role="virtual"), 20)
        for pid in hanging:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                pass
        instance.wait_mail("meanwhile", user=ALICE)
        assert instance.log_find(event="agent.trouble", agent="virtual")
    finally:
        instance.discard()


DOMAINS = 12


@pytest.fixture(scope="module")
def provider():
    """A name server for domains that all lead to one host."""
    nsd = shutil.which("nsd") or shutil.which("nsd", path="/usr/sbin:/sbin")
    if not nsd:
        pytest.skip("nsd is not installed")
    server = Dns(nsd, ["mx.provider.test. A 127.0.0.1"] + [
        f"d{n}.test. MX 10 mx.provider.test." for n in range(DOMAINS)]).start()
    yield server
    server.stop()


class Crowd:
    """How many are inside at once."""

    def __init__(self):
        self.lock, self.inside, self.most = threading.Lock(), 0, 0

    def enter(self, _):
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        return "250 2.1.0 ok"

    def leave(self, _):
        time.sleep(0.05)
        with self.lock:
            self.inside -= 1
        return "250 2.0.0 kept"


def test_domains_behind_one_mx_host_share_its_limit(provider):
    crowd, port = Crowd(), free_port()
    sink = Sink("127.0.0.1", port, answers={"MAIL": crowd.enter, "END": crowd.leave})
    instance = configured(False, outbound=f"port {port}; host-concurrency 2",
                          extra=f"dns {{ servers 127.0.0.1@{provider.port} }}")
    try:
        for n in range(DOMAINS):
            for user in "ab":
                instance.send(f"crowd {n}", to=f"{user}@d{n}.test", sender=ALICE, login=ALICE)
        wait_for("all of them", lambda: len(sink.messages) == 2 * DOMAINS, 30)
        assert crowd.most <= 2
        tries = [line["try"] for line in instance.log_find(event="dlv.done", via="remote")]
        assert len(tries) == 2 * DOMAINS and set(tries) == {"1"}
    finally:
        instance.discard()
        sink.stop()
