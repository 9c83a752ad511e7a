"""What the scheduler does that a user or an administrator sees."""
import json
import os
import pwd
import re
import shutil
import signal
import threading
import time

import pytest

from conftest import make
from dns import Dns
from sink import Sink
from veredus import ALICE, BOB, free_port, wait_for


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
        # The log's lines come a moment after what they tell.
        wait_for("their lines", lambda: len(instance.log_find(event="dlv.done", via="remote"))
                 >= 2 * DOMAINS)
        tries = [line["try"] for line in instance.log_find(event="dlv.done", via="remote")]
        assert len(tries) == 2 * DOMAINS and set(tries) == {"1"}
    finally:
        instance.discard()
        sink.stop()


def test_a_message_to_very_many_arrives_once_at_each_whatever_restarts():
    port = free_port()
    sink = Sink("127.0.0.1", port)
    instance = configured(False, queue="message-recipients 50",
                          outbound=f"relay-host [127.0.0.1]:{port}; retry-from 1s; retry-to 1s")
    try:
        to = [f"user{n}@list{n % 7}.test" for n in range(400)]
        instance.send("many", to=to, sender=ALICE, login=ALICE)
        wait_for("a first portion", lambda: sink.messages, 20)
        instance.restart()
        wait_for("the end", lambda: not instance.queue(), 60)
        got = [r for m in sink.messages for r in m["recipients"]]
        assert sorted(set(got)) == sorted(f"TO:<{a}>" for a in to)
        assert len(got) == len(to)
        assert len(sink.messages) >= 8
    finally:
        instance.discard()
        sink.stop()


# --- looking at the queue -------------------------------------------------------------------------
@pytest.fixture(scope="module", params=[False, True], ids=["rootless", "rooted"])
def stuck(request):
    """An instance whose outgoing mail waits."""
    instance = configured(request.param, outbound=f"relay-host [127.0.0.1]:{free_port()}")
    yield instance
    instance.discard()


def waiting(instance, count, sender=ALICE):
    def found():
        listed = json.loads(instance.veredus(
            "queue", "list", "--json", "--sender", sender, "--state", "deferred").stdout)
        return listed if len(listed) == count else None
    return wait_for(f"{count} deferred messages", found, 20)


def summary(instance, *options):
    return json.loads(instance.veredus("queue", "summary", "--json", *options).stdout)


def test_summary_tells_age_by_recipient_and_by_sender_domain(stuck):
    for n in range(3):
        stuck.send(f"sum {n}", to=["a@one.test", "b@one.test", "c@two.test"], sender=ALICE,
                   login=ALICE)
    entries = waiting(stuck, 3)
    whole = summary(stuck)
    assert whole["messages"] == whole["deferred"] == whole["ages"]["<5m"] == 3
    assert whole["recipients"] == 9 and whole["bytes"] == sum(e["size"] for e in entries)
    assert {d["domain"]: (d["messages"], d["recipients"], d["ages"]["<5m"])
            for d in whole["domains"]} == {"one.test": (3, 6, 3), "two.test": (3, 3, 3)}
    by_sender = summary(stuck, "--sender")["domains"]
    assert [(d["domain"], d["deferred"], d["recipients"]) for d in by_sender] == [
        ("example.test", 3, 9)]
    text = stuck.veredus("queue", "summary").stdout
    assert re.search(r"^RECIPIENT DOMAIN +TOTAL +ACTIVE +DEFERRED +HELD +<5m +<10m", text, re.M)
    assert re.search(r"^one\.test +3 +0 +3 +0 +3 +0", text, re.M)
    stuck.veredus("queue", "hold", entries[0]["qid"])
    assert summary(stuck)["held"] == 1
    stuck.veredus("queue", "delete", "all")
    wait_for("an empty queue", lambda: not stuck.queue())


def test_an_action_is_logged_with_the_name_of_who_did_it(stuck):
    stuck.send("who", to="a@one.test", sender=ALICE, login=ALICE)
    qid = waiting(stuck, 1)[0]["qid"]
    stuck.veredus("queue", "delete", qid)
    line = wait_for("the log", lambda: stuck.log_find(event="queue.act", qid=qid, verb="delete"))[0]
    user = pwd.getpwuid(int(line["by_uid"])).pw_name
    assert line["by"] == user and line["by_uid"] == ("65534" if stuck.as_nobody else
                                                     str(os.getuid()))


def test_mail_with_a_release_time_waits_until_it_is_released(stuck):
    stuck.send("later", to=BOB, sender=ALICE, login=ALICE, options=["HOLDFOR=7200"])
    entry = waiting(stuck, 1)[0]
    assert abs(entry["until"] / 1000 - time.time() - 7200) < 60
    assert entry["attempts"] == 0 and entry["next"] == entry["until"]
    assert "deferred until 20" in stuck.veredus("queue", "list").stdout
    refused = stuck.veredus("queue", "retry", entry["qid"], status=None)
    assert refused.returncode == 1 and "release it" in refused.stderr
    stuck.veredus("queue", "flush")
    stuck.restart()
    assert waiting(stuck, 1)[0]["until"] == entry["until"]
    assert not [m for m in stuck.mails(BOB) if m["Subject"] == "later"]
    stuck.veredus("queue", "release", entry["qid"])
    stuck.wait_mail("later", user=BOB)
    wait_for("an empty queue", lambda: not stuck.queue())


def test_another_route_is_no_earlier_time(stuck):
    """RFC 4865: who routes again or redirects does not release."""
    for subject in ("again", "elsewhere", "stays"):
        stuck.send(subject, to=BOB, sender=ALICE, login=ALICE, options=["HOLDFOR=7200"])
    first, second, third = (e["qid"] for e in waiting(stuck, 3))
    stuck.veredus("queue", "requeue", first)
    stuck.veredus("queue", "redirect", second, ALICE)
    stuck.restart()
    assert {e["next"] - e["until"] for e in waiting(stuck, 3)} == {0}
    stuck.veredus("queue", "release", first, second)
    wait_for("those released", lambda: [e["qid"] for e in stuck.queue()] == [third])
    stuck.veredus("queue", "delete", third)
