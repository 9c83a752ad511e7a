"""Expire rules, mail that is kept after expunging, and housekeeping."""
import fcntl
import glob
import json
import os
import random
import signal
import time

import pytest

from veredus import ALICE, BOB, Instance, wait_for

CONF = """
mailbox { keep-deleted 14d }
expire Trash "Old/*" { after 1s }
expire INBOX { after 300d }
"""


def make(rooted):
    if rooted and os.getuid() != 0:
        pytest.skip("needs root")
    instance = Instance(rooted=rooted).init()
    instance.edit_conf(append=CONF)
    return instance


@pytest.fixture(scope="module", params=["rootless", "rooted"])
def keeping(request):
    instance = make(request.param == "rooted")
    try:
        yield instance.start()
    finally:
        instance.discard()


def unique(text):
    return f"{text}-{random.getrandbits(32):x}"


def fill(client, folder, *subjects):
    client.create(f'"{folder}"')
    for subject in subjects:
        client.append(f'"{folder}"', "(\\Flagged $Work)", '"20-Nov-2025 02:00:00 +0000"',
                      f"Subject: {subject}\r\n\r\nabout {subject}\r\n".encode())


def expunge(client, folder, which="1:*"):
    client.select(f'"{folder}"')
    client.store(which, "+FLAGS", "\\Deleted")
    client.expunge()


def listing(client, folder):
    assert client.select(f'"{folder}"')[0] == "OK"
    found = client.fetch("1:*", "(UID FLAGS INTERNALDATE BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
    return [(p[0].decode(), p[1].decode().strip()) for p in found if isinstance(p, tuple)]


def deleted(instance, user):
    name, domain = user.split("@")
    top = instance.path(f"mail/{domain}/{name}/veredus.deleted")
    return glob.glob(f"{top}/.*/*") + glob.glob(f"{top}/*/*")


def test_expunged_mail_comes_back_with_flags_and_a_new_uid(keeping):
    client, folder = keeping.imap_client(BOB), unique("Lost")
    fill(client, folder, "one", "two", "three")
    expunge(client, folder, "1:2")
    assert [s for _, s in listing(client, folder)] == ["Subject: three"]
    listed = keeping.veredus("mailbox", "undelete", BOB, "--folder", folder, "--list").stdout
    assert len(listed.splitlines()) == 2 and "date=2025-11-20T02:00:00Z" in listed
    keeping.veredus("mailbox", "undelete", BOB, "--folder", folder, "--since", "1h")
    found = listing(client, folder)
    assert sorted(s for _, s in found) == ["Subject: one", "Subject: three", "Subject: two"]
    assert all("\\Flagged" in about and "$Work" in about and "20-Nov-2025" in about and
               "\\Deleted" not in about for about, _ in found)
    assert [int(about.split("UID ")[1].split()[0]) for about, _ in found] == [3, 4, 5]
    assert "0 messages" in keeping.veredus(
        "mailbox", "undelete", BOB, "--folder", folder).stdout
    client.logout()
    keeping.veredus("mailbox", "undelete", BOB, "--since", "yesterday", status=2)


def test_mail_of_a_deleted_folder_is_kept_too(keeping):
    client, folder = keeping.imap_client(BOB), unique("Gone/x")
    fill(client, folder, "a", "b")
    client.delete(f'"{folder}"')
    assert folder not in keeping.veredus("mailbox", "list", BOB).stdout
    keeping.veredus("mailbox", "undelete", BOB, "--folder", folder)
    assert sorted(s for _, s in listing(client, folder)) == ["Subject: a", "Subject: b"]
    client.logout()


def test_mail_that_others_expunge_in_a_shared_folder_is_kept_for_its_owner(keeping):
    owner, folder = keeping.imap_client(ALICE), unique("Team")
    fill(owner, folder, "mine", "theirs", "stays")
    owner.setacl(folder, BOB, "lrwte")
    theirs = f"Other Users/{ALICE}/{folder}"

    def shared():
        client = keeping.imap_client(BOB)
        found = folder.encode() in b" ".join(client.list()[1])
        client.logout()
        return found
    wait_for("the share", shared)
    expunge(owner, folder, "1")
    other = keeping.imap_client(BOB)
    expunge(other, theirs, "1")
    listed = keeping.veredus("mailbox", "undelete", ALICE, "--folder", folder, "--list").stdout
    assert len(listed.splitlines()) == 2
    keeping.veredus("mailbox", "undelete", ALICE, "--folder", folder)
    assert sorted(s for _, s in listing(owner, folder)) == [
        "Subject: mine", "Subject: stays", "Subject: theirs"]
    # The folder may be gone before its owner looks.
    expunge(other, theirs, "1")
    other.logout()
    owner.select("INBOX")
    owner.delete(folder)
    assert not os.path.exists(keeping.path(f"mail/example.test/alice/.{folder}"))
    keeping.veredus("mailbox", "undelete", ALICE, "--folder", folder)
    assert len(listing(owner, folder)) == 3
    owner.logout()


def test_a_moved_message_is_not_kept_and_clients_see_nothing_of_the_others(keeping):
    client, folder = keeping.imap_client(BOB), unique("From")
    fill(client, folder, "moved")
    client.create(folder + "2")
    client.select(folder)
    before = len(deleted(keeping, BOB))
    assert client.uid("MOVE", "1", folder + "2")[0] == "OK"
    assert len(deleted(keeping, BOB)) == before
    names = b" ".join(client.list()[1])
    assert b"veredus" not in names and b"deleted" not in names
    client.logout()


def test_rules_expire_by_save_date_and_count(keeping):
    client = keeping.imap_client(ALICE)
    for folder in ("Trash", "Old/2020", "Older", "INBOX"):
        fill(client, folder, "x", "y")
    time.sleep(2.1)
    dry = keeping.veredus("mailbox", "expire", ALICE, "--dry-run").stdout
    assert len(listing(client, "Trash")) == 2
    done = keeping.veredus("mailbox", "housekeep", "--all").stdout
    assert dry.splitlines() == [f"{ALICE}: Old/2020: 2 messages would expire",
                                f"{ALICE}: Trash: 2 messages would expire"]
    assert set(dry.replace("would expire", "expired").splitlines()) <= set(done.splitlines())
    wrong = keeping.veredus("mailbox", "undelete", ALICE, "--since", "2026-13-45", status=2)
    assert "a time such as 2d" in wrong.stderr
    assert [len(listing(client, f)) for f in ("Trash", "Old/2020", "Older", "INBOX")] == [0, 0, 2, 2]
    # What expires can be taken back like anything else.
    keeping.veredus("mailbox", "undelete", ALICE, "--folder", "Trash")
    assert len(listing(client, "Trash")) == 2
    client.logout()


def test_what_time_does_is_told_as_json(keeping):
    def told(*arguments):
        return [json.loads(line) for line in
                keeping.veredus("--json", "mailbox", *arguments).stdout.splitlines()]
    client, folder = keeping.imap_client(BOB), unique("told")
    fill(client, folder, "a", "b")
    fill(client, "Trash", "x")
    expunge(client, folder, "1")
    time.sleep(2.1)
    entries = told("undelete", BOB, "--folder", folder, "--list")
    assert [(e["folder"], e["size"] > 0, len(e["guid"])) for e in entries] == [(folder, True, 32)]
    assert {"user": BOB, "folder": "Trash", "expired": 1, "purged": 0, "compacted": False} in \
        told("expire", BOB, "--dry-run")
    assert any(e["folder"] == folder and e["compacted"] for e in told("compact", BOB))
    assert told("undelete", BOB, "--folder", folder) == [{"messages": 1}]
    client.logout()


def test_housekeeping_purges_and_sweeps(keeping):
    client, folder = keeping.imap_client(BOB), unique("purge")
    fill(client, folder, "young", "old")
    expunge(client, folder)
    client.logout()
    mine = [p for p in deleted(keeping, BOB) if folder in p]
    stale = keeping.path(f"mail/example.test/bob/.{folder}/tmp/stale")
    fresh = keeping.path(f"mail/example.test/bob/.{folder}/tmp/fresh")
    old = str(int(time.time()) - 15 * 86400)
    os.rename(mine[0], os.path.join(os.path.dirname(mine[0]),
                                    ".".join([old] + os.path.basename(mine[0]).split(".")[1:])))
    for path in (stale, fresh):
        with open(path, "w"):
            pass
    assert "1 deleted messages purged" in keeping.veredus("mailbox", "housekeep", BOB).stdout
    assert len([p for p in deleted(keeping, BOB) if folder in p]) == 1
    assert os.path.exists(fresh)


def test_compacting_keeps_everything(keeping):
    client, folder = keeping.imap_client(BOB), unique("compact")
    fill(client, folder, *[f"m{i}" for i in range(30)])
    expunge(client, folder, "1:10")
    before = listing(client, folder)
    log = keeping.path(f"mail/example.test/bob/.{folder}/veredus.log")
    size = os.path.getsize(log)
    keeping.veredus("mailbox", "compact", "example.test")
    assert os.path.getsize(log) < size
    client.noop()
    assert listing(client, folder) == before
    client.logout()
    assert "whole" in keeping.veredus("mailbox", "verify", BOB, folder).stdout


# --- by itself -------------------------------------------------------------------------------

@pytest.fixture(scope="module", params=["rootless", "rooted"])
def kept_house(request):
    """An instance that keeps house every second."""
    rooted = request.param == "rooted"
    if rooted and os.getuid() != 0:
        pytest.skip("needs root")
    instance = Instance(rooted=rooted).init()
    instance.edit_conf(append="housekeeping { every 1s }\nexpire Trash { after 1s }\n"
                              "expire INBOX { after 300d }\n")
    try:
        yield instance.start()
    finally:
        instance.discard()


def expired(instance, user):
    return [e for e in instance.log_find(event="expire.done", user=user) if e["mailbox"] == "Trash"]


def test_the_running_system_expires_by_itself(kept_house):
    client = kept_house.imap_client(ALICE)
    fill(client, "INBOX", "a", "b")
    fill(client, "Trash", "x", "y", "z")
    wait_for("Trash to be emptied", lambda: listing(client, "Trash") == [], timeout=20)
    wait_for("all of it in the log", lambda: sum(
        int(e["messages"]) for e in expired(kept_house, ALICE)) == 3)
    assert len(listing(client, "INBOX")) == 2
    assert not kept_house.log_find(event="house.fail")
    client.logout()


def test_rounds_go_on_after_a_reload_and_a_crash_and_tell_who_watches(kept_house):
    client = kept_house.imap_client(BOB)
    for how in ("reload", "kill"):
        (pid,) = kept_house.pids("house")
        if how == "reload":
            kept_house.edit_conf((r"^expire INBOX .*", f"expire INBOX {{ after {len(how)}00d }}"))
            kept_house.veredus("reload")
        else:
            os.kill(pid, signal.SIGKILL)
        wait_for("another process", lambda pid=pid: kept_house.pids("house") not in ([], [pid]))
        fill(client, "Trash", how)
        wait_for("Trash to be emptied", lambda: listing(client, "Trash") == [], timeout=20)
    assert kept_house.log_find(event="expire.done", user=BOB)
    client.logout()


def test_who_idles_on_a_folder_hears_what_housekeeping_expunges(kept_house):
    client = kept_house.imap_client(BOB)
    fill(client, "Trash", "soon gone")
    with kept_house.raw("imaps", tls=True) as idler:  # which waits 20 s for a line
        idler.line()
        idler.imap(f'LOGIN {BOB} "bob-password"')
        _, lines = idler.imap("SELECT Trash")
        idler.send("i IDLE\r\n")
        assert idler.line().startswith("+")
        if "* 1 EXISTS" in lines:  # not expired before we looked
            assert idler.line() == "* 1 EXPUNGE"
        idler.send("DONE\r\n")
        assert idler.imap_answer("i")[0].startswith("OK")
    client.logout()


STAMP = "mail/veredus.housekept"


def night(stamp=None):
    """An instance that keeps house at night, stopped, as if the last round had begun then."""
    instance = Instance().init()
    instance.edit_conf(append="housekeeping { every 1d }\nexpire Trash { after 1s }\n")
    instance.start()
    fill(instance.imap_client(BOB), "Trash", "x", "y")
    wait_for("a stamp", lambda: os.path.exists(instance.path(STAMP)))
    instance.stop()
    time.sleep(2.1)  # until what Trash has is older than a second
    if stamp is not None:
        with open(instance.path(STAMP), "w", encoding="ascii") as file:
            file.write(stamp)
    return instance


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return file.read().split()


def stamp_of(instance):
    with open(instance.path(STAMP), encoding="ascii") as file:
        return int(file.read() or 0)


def test_no_round_begins_before_its_time():
    instance = night()
    try:
        begun = stamp_of(instance)  # the day of the installation
        assert abs(begun - time.time()) < 3600
        instance.start()
        assert len(listing(instance.imap_client(BOB), "Trash")) == 2
        instance.stop()
        assert not instance.log_find(event="house.done")
        assert stamp_of(instance) == begun
    finally:
        instance.discard()


@pytest.mark.parametrize("stamp", [str(int(time.time()) - 3 * 86400), "rubbish", "99999999999"])
def test_a_round_that_was_missed_is_made_up_for_once(stamp):
    instance = night(stamp)
    try:
        instance.start()
        if stamp.isdigit() and int(stamp) < time.time():
            wait_for("the round", lambda: instance.log_find(event="house.done"), timeout=20)
            assert listing(instance.imap_client(BOB), "Trash") == []
        # One that makes no sense counts as begun now; in either case there is a new note.
        wait_for("a new note", lambda: abs(stamp_of(instance) - time.time()) < 3600)
        done = len(instance.log_find(event="house.done"))
        instance.restart()
        assert listing(instance.imap_client(BOB), "INBOX") == []
        instance.stop()
        assert len(instance.log_find(event="house.done")) == done
    finally:
        instance.discard()


def test_a_round_that_is_broken_off_is_begun_again():
    instance = night(str(int(time.time()) - 3 * 86400))
    lock = instance.path("mail/example.test/bob/.Trash/veredus.log")
    try:
        with open(lock, "r+b") as held:
            fcntl.lockf(held, fcntl.LOCK_EX)  # the round waits for this, at most half a minute
            instance.start()
            wait_for("a turn", lambda: any(children_of(pid) for pid in instance.pids("house")))
            for pid in instance.pids("house"):
                os.kill(pid, signal.SIGKILL)
            assert stamp_of(instance) < time.time() - 86400
        wait_for("the round", lambda: instance.log_find(event="house.done"), timeout=20)
        assert listing(instance.imap_client(BOB), "Trash") == []
        wait_for("its note", lambda: stamp_of(instance) > time.time() - 3600)
    finally:
        instance.discard()


def test_what_is_old_is_compacted_and_others_mail_is_left(kept_house):
    client, folder = kept_house.imap_client(BOB), unique("grown")
    fill(client, folder, *[f"m{i}" for i in range(60)])
    wait_for("a new index", lambda: kept_house.log_find(event="store.compact", mailbox=folder),
             timeout=20)
    assert len(listing(client, folder)) == 60
    client.logout()
    assert "whole" in kept_house.veredus("mailbox", "verify", BOB, folder).stdout
