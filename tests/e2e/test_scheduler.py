"""What the scheduler does that a user or an administrator sees."""
import os
import re
import signal

import pytest

from conftest import make
from veredus import ALICE, wait_for


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
