"""The spool as files: its format, damage to a message, and a move to another machine."""
import glob
import json
import os
import re
import shutil
import subprocess

import pytest

from conftest import make
from veredus import ALICE, BOB, free_port, wait_for

RELAY = "relay-host [127.0.0.1]:{}; retry-from 1h; retry-to 1h"


def relay_to(instance, port):
    text = re.sub(r"^outbound\s*\{[^}]*\}\n?", "", instance.read("veredus.conf"), flags=re.M)
    instance.write("veredus.conf", text + f"\noutbound {{ {RELAY.format(port)} }}\n")


@pytest.fixture(params=["rootless", "rooted"])
def stuck(request):
    instance = make(request.param == "rooted")
    relay_to(instance, free_port())
    yield instance.start()
    instance.discard()


def enqueue(instance, subject, body="queue content\r\n"):
    known = {e["qid"] for e in instance.queue()}
    instance.send(subject, to=["far@far.test"], sender=ALICE, login=ALICE, body=body)
    return wait_for("the entry", lambda: [e for e in instance.queue() if e["qid"] not in known
                                          and e["state"] == "deferred"], 20)[0]


def parked(instance, qid):
    with open(glob.glob(instance.path(f"spool/parked/{qid}-*"))[0], "rb") as file:
        return file.read().decode("utf-8")


def upgrade(instance, *options, **others):
    return json.loads(instance.veredus("upgrade", "--json", *options, **others).stdout)["spool"]


def body_of(instance, qid):
    return instance.veredus("queue", "show", "--body", qid).stdout


def test_a_new_spool_is_of_the_newest_format_and_can_go_back_and_forth_by_one(stuck):
    small, large = enqueue(stuck, "small"), enqueue(stuck, "large", "a large one\r\n" * 20000)
    bodies = {e["qid"]: body_of(stuck, e["qid"]) for e in (small, large)}
    shown = upgrade(stuck)
    assert shown["format"] == shown["newest"] == 2
    assert shown["log"] + shown["parked"] == 2
    assert "message, format 2 ==" in parked(stuck, small["qid"])
    stuck.veredus("upgrade", "--revert", status=1)  # it runs
    stuck.stop()
    assert upgrade(stuck, "--revert") == dict(shown, format=1, log=0, parked=2)
    assert not os.listdir(stuck.path("spool/log"))
    for qid in bodies:
        assert "message, format 1 ==" in parked(stuck, qid)
        assert not re.search(r"^(recipient|envelope|message) .*\b(via|priority|crc)=",
                             parked(stuck, qid), re.M)
    stuck.start()
    assert {qid: body_of(stuck, qid) for qid in bodies} == bodies
    third = enqueue(stuck, "third")
    assert "message, format 1 ==" in parked(stuck, third["qid"])
    assert upgrade(stuck)["format"] == 1
    assert upgrade(stuck, "--commit")["format"] == 2
    stuck.restart()
    fourth = enqueue(stuck, "fourth")
    assert "message, format 2 ==" in parked(stuck, fourth["qid"])
    assert len(stuck.queue()) == 4
    stuck.veredus("queue", "verify")


def test_a_spool_of_a_newer_release_is_refused_by_file_and_version(stuck):
    stuck.stop()
    stuck.write("spool/format", "veredus spool format 3\n")
    for command in (["queue", "verify"], ["upgrade"], ["upgrade", "--commit"]):
        said = stuck.veredus(*command, status=1).stderr
        assert "format 3" in said and "file format" in said
    stuck.write("spool/format", "veredus spool format 2\n")
    stuck.start()


def test_a_message_damaged_in_its_file_is_held_reported_and_not_delivered(stuck):
    small, large = enqueue(stuck, "small"), enqueue(stuck, "large", "a large one\r\n" * 20000)
    for entry, at in ((small, 300), (large, 150000)):
        with open(glob.glob(stuck.path(f"spool/parked/{entry['qid']}-*"))[0], "r+b") as file:
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ 1]))
    found = json.loads(stuck.veredus("queue", "verify", "--json", status=1).stdout)["findings"]
    assert {f["kind"] for f in found} == {"damaged"} and len(found) == 2
    stuck.veredus("queue", "flush")
    for entry in (small, large):
        said = wait_for("the report", lambda: stuck.log_find(
            event="spool.trouble", qid=entry["qid"]))  # pylint: disable=cell-var-from-loop
        assert "checksum" in said[0]["reason"]
    assert {e["state"] for e in stuck.queue()} == {"damaged"}
    assert "2 damaged" in stuck.veredus("queue", "summary").stdout


def test_segments_of_the_log_that_are_gone_are_reported_and_mail_goes_on(stuck):
    names = sorted(os.listdir(stuck.path("spool/log")))
    found = lambda **how: json.loads(stuck.veredus("queue", "verify", "--json", **how).stdout)
    os.unlink(stuck.path("spool/log/" + names[-1]))
    said = found(status=1)["findings"]
    assert len(said) == 1 and f"log/{names[-1]}," in said[0]["reason"]
    stuck.stop()
    for name in names[:-1]:
        os.unlink(stuck.path("spool/log/" + name))
    assert len(found(status=1)["findings"]) == len(names)
    stuck.start()
    lost = {e["reason"].split()[0] for e in stuck.log_find(event="spool.trouble")}
    assert {f"log/{name}," for name in names} <= lost
    assert os.listdir(stuck.path("spool/corrupt"))
    enqueue(stuck, "after it")
    assert {f["kind"] for f in found(status=0)["findings"]} == {"note"}  # what was set aside


def moved(source, rooted, keep_times):
    """A second instance on a copy of the spool: other ports, perhaps another owner."""
    other = make(rooted)
    if other.running:
        other.stop()
    shutil.rmtree(other.path("spool"), ignore_errors=True)
    subprocess.run(["cp", "-r" + ("p" if keep_times else ""), source.path("spool"),
                    other.path("spool")], check=True)
    return other


@pytest.mark.parametrize("keep_times", [True, False])
def test_a_spool_copied_to_another_machine_starts_there(stuck, keep_times):
    enqueue(stuck, "travels")
    held = enqueue(stuck, "stays")
    stuck.veredus("queue", "hold", held["qid"])
    stuck.send("for bob", to=[BOB])
    before = {e["qid"] for e in stuck.queue()}
    stuck.kill_everything()  # not even a proper stop
    other = moved(stuck, stuck.rooted, keep_times)
    if not stuck.rooted and os.getuid() == 0:
        subprocess.run(["chown", "-R", "65534:65534", other.path("spool")], check=True)
    elif stuck.rooted:
        other.veredus("setup")  # the copy belongs to root where owners were not kept
    relay_to(other, free_port())
    try:
        offline = {e["qid"]: e["state"] for e in other.queue()}
        assert offline[held["qid"]] == "held"
        other.start()
        entries = {e["qid"]: e for e in other.queue()}
        assert {q for q in before if q in entries} >= {held["qid"]}
        wait_for("the held one", lambda: [e for e in other.queue() if e["qid"] == held["qid"]
                                          and e["state"] == "held"])
        other.veredus("queue", "verify")
    finally:
        other.discard()
