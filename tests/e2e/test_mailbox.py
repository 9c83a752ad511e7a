"""veredus mailbox: looking into mailboxes, finding damage, and repair."""
import glob
import json
import os
import random

import pytest

from veredus import ALICE, BOB


def unique(text):
    return f"{text} {random.getrandbits(32):x}"


@pytest.fixture(params=["rootless", "rooted"])
def stopped(request, fresh):
    """An instance with three messages in bob's INBOX and one in Archive/2026, not running."""
    instance = fresh(request.param == "rooted").start()
    for i in range(3):
        subject = unique(f"message {i}")
        instance.send(subject, to=BOB)
        instance.wait_mail(subject, BOB)
    client = instance.imap_client(BOB)
    client.create("Archive/2026")
    client.subscribe("Archive/2026")
    client.append("Archive/2026", "(\\Seen $Label1)", None, b"Subject: old\r\n\r\nText.\r\n")
    client.select("INBOX")
    client.store("2", "+FLAGS", "(\\Flagged)")
    client.store("1", "+FLAGS", "(\\Deleted)")
    client.expunge()
    client.logout()
    instance.stop()
    return instance


def mailbox(instance, verb, *arguments, status=0):
    return json.loads(instance.veredus("mailbox", verb, *arguments, "--json",
                                       status=status).stdout)["folders"]


def index_files(instance, name):
    found = glob.glob(os.path.join(instance.dir, "mail", "example.test", "bob", "veredus.inbox",
                                   name))
    assert found, name
    return found


def inbox(instance):
    return mailbox(instance, "dump", BOB, "INBOX")[0]


def test_list_and_stats_tell_every_folder(stopped):
    folders = {f["name"]: f for f in mailbox(stopped, "list", BOB)}
    assert set(folders) == {"INBOX", "Archive", "Archive/2026"}
    assert folders["Archive/2026"]["subscribed"] and not folders["Archive"]["selectable"]
    assert "Archive/2026  subscribed" in stopped.veredus("mailbox", "list", BOB).stdout
    stats = {f["name"]: f for f in mailbox(stopped, "stats", BOB)}
    assert stats["INBOX"]["messages"] == 2 and stats["INBOX"]["uidnext"] == 4
    assert stats["Archive/2026"]["unseen"] == 0 and stats["Archive/2026"]["size"] == 23
    assert "messages=2" in stopped.veredus("mailbox", "stats", BOB, "INBOX").stdout


def test_dump_shows_what_the_index_knows(stopped):
    messages = inbox(stopped)["messages"]
    assert [m["uid"] for m in messages] == [2, 3]
    assert messages[0]["flags"] == "\\Flagged"
    assert mailbox(stopped, "dump", BOB, "Archive/2026")[0]["messages"][0]["flags"] == \
        "\\Seen $Label1"


def test_a_whole_mailbox_verifies_and_survives_a_rebuild(stopped):
    assert "INBOX: whole" in stopped.veredus("mailbox", "verify", BOB).stdout
    before = inbox(stopped)
    stopped.veredus("mailbox", "rebuild", BOB)
    after = inbox(stopped)
    assert after["uidvalidity"] == before["uidvalidity"]
    assert after["uidnext"] == before["uidnext"]
    strip = [{k: v for k, v in m.items() if k != "modseq"} for m in before["messages"]]
    assert [{k: v for k, v in m.items() if k != "modseq"} for m in after["messages"]] == strip


@pytest.mark.parametrize("damage", ["index gone", "index header", "log end", "cache"])
def test_damage_is_reported_and_rebuild_keeps_uids(stopped, damage):
    before = inbox(stopped)
    if damage == "index gone":
        os.unlink(index_files(stopped, "veredus.index")[0])
    else:
        name = {"index header": "veredus.index", "log end": "veredus.log",
                "cache": "veredus.cache"}[damage]
        path = index_files(stopped, name)[0]
        with open(path, "r+b") as file:
            if damage == "log end":
                file.truncate(os.path.getsize(path) - 5)
            else:
                file.seek(20)
                file.write(b"\xff" * 30)
    broken = damage != "cache"  # a cache can always be made again
    folder = mailbox(stopped, "verify", BOB, "INBOX", status=1 if broken else 0)[0]
    assert bool(folder["problems"]) == broken
    stopped.veredus("mailbox", "rebuild", BOB, "INBOX")
    after = inbox(stopped)
    assert after["uidvalidity"] == before["uidvalidity"]
    assert [m["uid"] for m in after["messages"]] == [2, 3]
    assert after["uidnext"] >= before["uidnext"]
    assert mailbox(stopped, "verify", BOB, "INBOX")[0]["problems"] == []
    stopped.start()
    client = stopped.imap_client(BOB)
    client.select("INBOX")
    assert client.uid("fetch", "2:3", "(BODY[HEADER.FIELDS (SUBJECT)])")[0] == "OK"
    client.logout()


def test_rebuild_without_index_and_log_brings_the_mail_back_under_a_new_uidvalidity(stopped):
    before = inbox(stopped)
    os.unlink(index_files(stopped, "veredus.index")[0])
    os.unlink(index_files(stopped, "veredus.log")[0])
    stopped.veredus("mailbox", "verify", BOB, "INBOX", status=1)
    stopped.veredus("mailbox", "rebuild", BOB, "INBOX")
    after = inbox(stopped)
    assert after["uidvalidity"] > before["uidvalidity"]
    assert {m["guid"] for m in after["messages"]} == {m["guid"] for m in before["messages"]}


def test_a_message_that_lost_its_file_is_named(stopped):
    mail = os.path.join(stopped.dir, "mail", "example.test", "bob", "cur")
    os.truncate(os.path.join(mail, sorted(os.listdir(mail))[0]), 3)
    result = stopped.veredus("mailbox", "verify", BOB, status=1)
    assert "INBOX: message" in result.stdout and "Archive/2026: whole" in result.stdout


def test_rebuilt_files_belong_to_the_mailbox_owner(stopped):
    path = index_files(stopped, "veredus.index")[0]
    owner = os.stat(path).st_uid
    os.unlink(path)
    result = stopped.run("veredus", "-d", stopped.dir, "mailbox", "rebuild", BOB)
    assert "INBOX: messages=2" in result.stdout
    assert os.stat(path).st_uid == owner and os.stat(path).st_mode & 0o777 == 0o600


def test_unknown_users_and_folders_are_refused(stopped):
    for arguments, words in (((ALICE + "x",), "no such user"), ((ALICE,), "no mail yet"),
                             ((BOB, "Nowhere"), "no such folder"),
                             ((BOB, "../../etc"), "no such folder"), ((BOB, "a//b"), "not a name")):
        result = stopped.veredus("mailbox", "stats", *arguments, status=1)
        assert words in result.stderr, result.stderr
    stopped.veredus("mailbox", "stats", status=2)
