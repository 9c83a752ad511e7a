"""veredus backup: generations made while the system runs, and mail put back from them."""
import glob
import json
import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time

from test_imap import append, fetch, login, ok
from veredus import ALICE, BOB, NOBODY, wait_for

DATE = '"21-Nov-2026 02:00:00 +0000"'


def unique(text):
    return f"{text}-{random.getrandbits(32):x}"


def target(instance):
    """A place for a backup; on any file system, owned by who calls."""
    folder = os.path.join(instance.parent, unique("backup"))
    os.mkdir(folder)
    if instance.as_nobody:
        os.chown(folder, NOBODY, NOBODY)
    return os.path.join(folder, "b")


def fill(client, folder, count, first=0):
    client.create(folder)
    for i in range(first, first + count):
        client.append(folder, "(\\Flagged $Label1)" if i % 2 else None, DATE,
                      f"Subject: m{i}\r\n\r\nbody {i} of {folder}\r\n".encode())


def state(instance, user, folder=None):
    """UIDVALIDITY and all that is known of every message, by folder."""
    text = instance.veredus("mailbox", "dump", user, *([folder] if folder else []), "--json").stdout
    return {f["name"]: (f["uidvalidity"], [(m["uid"], m["guid"], m["flags"], m["date"], m["size"])
                                           for m in f["messages"]])
            for f in json.loads(text)["folders"] if "messages" in f}


def contents(instance, user, folder):
    client = instance.imap_client(user)
    client.select(f'"{folder}"', readonly=True)
    found = [p[1] for p in client.fetch("1:*", "(BODY.PEEK[])")[1] if isinstance(p, tuple)]
    client.logout()
    return found


def create(instance, to, *who, status=0):
    return json.loads(instance.veredus("backup", "create", "--to", to, *who, "--json",
                                       status=status).stdout)


def test_a_user_comes_back_with_all_numbers_after_the_mail_is_lost(either):
    folder, to = unique("Work"), target(either)
    client = either.imap_client(BOB)
    fill(client, folder, 5)
    fill(client, "INBOX", 2)
    client.select(folder)
    client.store("2", "+FLAGS", "\\Deleted")
    client.expunge()
    client.subscribe(folder)
    client.logout()
    counts = create(either, to, BOB)
    assert counts["users"] == 1 and counts["damaged"] == 0 and counts["new"] >= 6
    before, texts = state(either, BOB), contents(either, BOB, folder)
    shutil.rmtree(either.path("mail/example.test/bob"))
    either.veredus("backup", "restore", "--from", to, BOB)
    assert state(either, BOB) == before
    assert contents(either, BOB, folder) == texts
    client = either.imap_client(BOB)
    assert any(folder.encode() in line for line in client.lsub()[1])
    # What comes next is beyond everything that can have been given since the backup.
    fill(client, folder, 1, 9)
    client.logout()
    assert state(either, BOB, folder)[folder][1][-1][0] > 1 << 20
    assert "whole" in either.veredus("mailbox", "verify", BOB).stdout


def test_numbers_given_between_two_restores_do_not_come_again(either):
    folder, to = unique("again"), target(either)
    client = either.imap_client(BOB)
    fill(client, folder, 2)
    create(either, to, BOB)

    def after_restore():
        client.select("INBOX")
        client.delete(folder)
        either.veredus("backup", "restore", "--from", to, BOB, "--folder", folder)
        fill(client, folder, 1, 9)
        dump = json.loads(either.veredus("mailbox", "dump", BOB, folder, "--json").stdout)
        last = dump["folders"][0]["messages"][-1]
        return last["uid"], last["modseq"]
    uid, modseq = after_restore()
    time.sleep(1.1)  # the rule counts in seconds
    again = after_restore()
    assert again[0] > uid and again[1] > modseq
    client.logout()


def test_a_user_who_is_gone_is_named_as_the_reason(either):
    carol, to = f"{unique('carol')}@example.test", target(either)
    either.veredus("user", "add", carol, "--password-stdin", input="a-password\n")
    either.send("hello", to=carol)
    either.wait_log(event="dlv.done", to=carol)
    create(either, to, carol)
    either.veredus("user", "del", carol)
    result = either.veredus("backup", "restore", "--from", to, carol, status=1)
    assert f"{carol}: no such user" in result.stderr
    assert "1 messages restored" in either.veredus(
        "backup", "restore", "--from", to, carol, "--to", BOB).stdout


def test_a_second_generation_copies_only_what_is_new(either):
    folder, to = unique("inc"), target(either)
    client = either.imap_client(BOB)
    fill(client, folder, 4)
    first = create(either, to, BOB)
    fill(client, folder, 1, 4)
    client.select(folder)
    client.store("1", "+FLAGS", "\\Seen")
    client.logout()
    second = create(either, to, BOB)
    assert second["generation"] == first["generation"] + 1
    assert second["new"] == 1 and second["messages"] == first["messages"] + 1
    generations = json.loads(either.veredus("backup", "list", "--from", to, "--json").stdout)
    assert [(g["generation"], g["user"]) for g in generations] == [(1, BOB), (2, BOB)]
    assert "0 problems" in either.veredus("backup", "verify", "--from", to).stdout
    # Each generation is a state of its own.
    either.veredus("backup", "restore", "--from", to, BOB, "--folder", folder, "--generation", "1",
                   "--to", ALICE)
    old, new = state(either, ALICE, folder)[folder], state(either, BOB, folder)[folder]
    assert len(old[1]) == 4 and old[0] == new[0] and "\\Seen" not in old[1][0][2]
    assert [m[:2] for m in old[1]] == [m[:2] for m in new[1]][:4]


def test_one_message_comes_back_under_a_new_uid_once(either):
    folder, to = unique("one"), target(either)
    client = either.imap_client(BOB)
    fill(client, folder, 3)
    create(either, to, BOB)
    before = state(either, BOB, folder)[folder]
    client.select(folder)
    client.store("2", "+FLAGS", "\\Deleted")
    client.expunge()
    client.logout()
    for _ in range(2):
        either.veredus("backup", "restore", "--from", to, BOB, "--folder", folder, "--uid", "2")
    after = state(either, BOB, folder)[folder]
    assert after[0] == before[0] and [m[0] for m in after[1]][:2] == [1, 3]
    lost = before[1][1]
    assert [m for m in after[1] if m[0] > 3 and m[2:] == lost[2:]]
    assert sorted(m[3:] for m in after[1][:2] + after[1][2:3]) == sorted(m[3:] for m in before[1])
    either.veredus("backup", "restore", "--from", to, BOB, "--folder", folder, "--uid", "77",
                   status=1)


def test_a_whole_folder_goes_beside_what_is_there(either):
    folder, to = unique("beside"), target(either)
    client = either.imap_client(BOB)
    fill(client, folder, 3)
    create(either, to, BOB)
    client.select(folder)
    client.store("1:3", "+FLAGS", "\\Deleted")
    client.expunge()
    fill(client, folder, 1, 3)
    client.logout()
    text = either.veredus("backup", "restore", "--from", to, BOB, "--folder", folder).stdout
    assert "3 messages restored" in text
    after = state(either, BOB, folder)[folder][1]
    assert len(after) == 4 and [m[0] for m in after] == [4, 5, 6, 7]


def test_damage_is_found_and_the_rest_restored(either):
    folder, to = unique("damage"), target(either)
    client = either.imap_client(BOB)
    fill(client, folder, 3)
    client.append(folder, None, DATE, b"Subject: precious\r\n\r\nX-" + folder.encode() + b"\r\n")
    client.logout()
    create(either, to, BOB)
    for path in glob.glob(f"{to}/messages/*/*"):
        with open(path, "r+b") as file:
            if b"X-" + folder.encode() in file.read():
                file.seek(3)
                file.write(b"X")
    result = either.veredus("backup", "verify", "--from", to, status=1)
    assert "1 problems" in result.stdout and "damaged" in result.stdout
    told = json.loads(either.veredus("--json", "backup", "verify", "--from", to, status=1).stdout)
    assert [(p["generation"], p["user"]) for p in told["problems"]] == [(1, BOB)]
    assert told["manifests"] == 1 and "damaged" in told["problems"][0]["text"]
    result = either.veredus("backup", "restore", "--from", to, BOB, "--folder", folder, "--to",
                            ALICE, status=1)
    assert "skipped" in result.stderr and "3 messages restored" in result.stdout
    manifest = glob.glob(f"{to}/generations/1/*")[0]
    with open(manifest, "r+b") as file:
        file.seek(60)
        file.write(b"#")
    assert "generations/1/" in either.veredus("backup", "verify", "--from", to, status=1).stdout
    either.veredus("backup", "restore", "--from", to, BOB, status=1)


def test_mail_that_arrives_meanwhile_harms_nothing(either):
    folder, to = unique("busy"), target(either)
    stop = threading.Event()

    def change():
        client = either.imap_client(BOB)
        count = 0
        while not stop.is_set():
            fill(client, folder, 3, count)
            client.select(folder)
            client.store("1", "+FLAGS", "\\Deleted")
            client.expunge()
            count += 3
        client.logout()
    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(5):
            assert create(either, to, BOB)["damaged"] == 0
    finally:
        stop.set()
        thread.join()
    assert "0 problems" in either.veredus("backup", "verify", "--from", to).stdout


def test_a_backup_that_is_killed_leaves_the_former_whole(either):
    folder, to = unique("killed"), target(either)
    client = either.imap_client(BOB)
    fill(client, folder, 20)
    create(either, to, BOB)
    for i in range(8):
        fill(client, folder, 20, 20 * (i + 1))
        process = subprocess.Popen(
            either.command("veredus", "-d", either.dir, "backup", "create", "--to", to, BOB),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(random.random() * 0.05)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert "0 problems" in either.veredus("backup", "verify", "--from", to).stdout
    client.logout()
    create(either, to, BOB)
    assert not glob.glob(f"{to}/generations/*.part")
    assert "0 problems" in either.veredus("backup", "verify", "--from", to).stdout


def test_prune_keeps_what_newer_generations_need(either):
    folder, to = unique("prune"), target(either)
    client = either.imap_client(BOB)
    fill(client, folder, 3)
    create(either, to, BOB)
    client.select(folder)
    client.store("1", "+FLAGS", "\\Deleted")
    client.expunge()
    client.logout()
    create(either, to, BOB)
    create(either, to, "example.test")
    contents_before = len(glob.glob(f"{to}/messages/*/*"))
    either.veredus("backup", "prune", "--from", to, "--keep", "1")
    listed = either.veredus("backup", "list", "--from", to).stdout.splitlines()
    assert [line.split()[0] for line in listed if BOB in line] == ["3"]
    assert len(glob.glob(f"{to}/messages/*/*")) == contents_before - 1
    assert "0 problems" in either.veredus("backup", "verify", "--from", to).stdout
    assert create(either, to, BOB)["generation"] == 4


def object_ids(raw, folder):
    mailbox = re.search(r"MAILBOXID \((F\w+)\)", ok(raw.imap(f"STATUS {folder} (MAILBOXID)"))[0])[1]
    ok(raw.imap(f"EXAMINE {folder}"))
    return mailbox, fetch(raw, "1:*", "(EMAILID THREADID)")


def test_shares_seen_annotations_and_object_ids_come_back(either):
    """Mail of both users is lost, and each is restored."""
    folder, to = unique("team"), target(either)
    theirs = f'"Other Users/{ALICE}/{folder}"'

    def shared():
        with login(either) as bob:
            return any(folder in line for line in ok(bob.imap('LIST "" "*"')))
    with login(either, ALICE, "alice-password") as alice:
        ok(alice.imap(f"CREATE {folder}"))
        for number in range(3):
            append(alice, folder, f"Subject: m{number}\r\n\r\nx\r\n")
        ok(alice.imap(f"SETACL {folder} {BOB} lrsw"))
        ok(alice.imap(f'SETMETADATA {folder} (/shared/comment "ours")'))
        ok(alice.imap('SETMETADATA "" (/private/vendor/x/y "server")'))
        wait_for("the share", shared)
        ids = object_ids(alice, folder)
    with login(either) as bob:
        ok(bob.imap(f"SELECT {theirs}"))
        ok(bob.imap("STORE 2 +FLAGS (\\Seen)"))
    create(either, to, "example.test")
    for user in ("alice", "bob"):
        shutil.rmtree(either.path(f"mail/example.test/{user}"))
    shutil.rmtree(either.path("mail/veredus.shares"))
    for user in (ALICE, BOB):
        told = json.loads(either.veredus("backup", "restore", "--from", to, user, "--json").stdout)
        assert told["user"] == user and told["damaged"] == 0
        assert told["restored"] == told["old-uids"] and told["present"] == 0
    with login(either) as bob:
        ok(bob.imap(f"SELECT {theirs}"))
        assert ok(bob.imap("SEARCH SEEN")) == ["* SEARCH 2"]
        ok(bob.imap("STORE 1 +FLAGS (\\Flagged)"))
        assert bob.imap("EXPUNGE")[0].startswith("NO")
    with login(either, ALICE, "alice-password") as alice:
        assert object_ids(alice, folder) == ids
        assert f'"{BOB}" lrsw' in ok(alice.imap(f"GETACL {folder}"))[0]
        assert '"ours"' in ok(alice.imap(f"GETMETADATA {folder} /shared/comment"))[0]
        assert '"server"' in ok(alice.imap('GETMETADATA "" /private/vendor/x/y'))[0]


def test_what_is_restored_to_another_user_is_not_shared(either):
    folder, to = unique("private"), target(either)
    with login(either, ALICE, "alice-password") as alice:
        ok(alice.imap(f"CREATE {folder}"))
        append(alice, folder, "Subject: x\r\n\r\nx\r\n")
        ok(alice.imap(f"SETACL {folder} anyone lr"))
        mailbox, ids = object_ids(alice, folder)
    create(either, to, ALICE)
    either.veredus("backup", "restore", "--from", to, ALICE, "--folder", folder, "--to", BOB)
    with login(either) as bob:
        assert "anyone" not in ok(bob.imap(f"GETACL {folder}"))[0]
        other, same = object_ids(bob, folder)
        assert other != mailbox and same == ids


def test_an_email_id_stays_with_copies_moves_and_what_is_restored(either):
    folder, to = unique("ids"), target(either)
    with login(either) as bob:
        for name in (folder, f"{folder}-2"):
            ok(bob.imap(f"CREATE {name}"))
        append(bob, folder, "Subject: x\r\n\r\nx\r\n")
        first = object_ids(bob, folder)[1]
        ok(bob.imap(f"SELECT {folder}"))
        ok(bob.imap(f"COPY 1 {folder}-2"))
        assert object_ids(bob, f"{folder}-2")[1] == first
        ok(bob.imap(f"SELECT {folder}-2"))
        create(either, to, BOB)
        ok(bob.imap("STORE 1 +FLAGS.SILENT (\\Deleted)"))
        ok(bob.imap("EXPUNGE"))
        ok(bob.imap(f"SELECT {folder}"))
        ok(bob.imap(f"MOVE 1 {folder}-2"))
        assert object_ids(bob, f"{folder}-2")[1] == first
    before = state(either, BOB, folder)
    either.veredus("backup", "restore", "--from", to, BOB, "--folder", folder)
    assert before[folder][1] == []
    with login(either) as bob:
        # Its own GUID is remembered as expunged; the email id is what clients know it by.
        assert object_ids(bob, folder)[1] == first


def test_wrong_uses(either):
    to = target(either)
    either.veredus("backup", "create", "--to", to, "nobody@example.test", status=1)
    either.veredus("backup", "create", BOB, status=2)
    either.veredus("backup", "list", "--from", to + "x", status=1)
    either.veredus("backup", "prune", "--from", to, "--keep", "0", status=2)
    either.veredus("backup", "prune", "--from", to + "x", "--keep", "1", status=1)
    assert not os.path.exists(to + "x")
