"""INBOX shared with others (RFC 4314): support@, info@ and the like, read by a team."""
import imaplib
import os
import signal
import subprocess

import pytest

from test_imap import append, fetch, login, ok
from test_imap_features import ALICE_LOGIN, QUOTA, folder_listed, heard, idle, over
from veredus import ALICE, BOB, message, wait_for

THEIRS = f'"Other Users/{ALICE}"'


def share(instance, rights="lrswite"):
    """bob has these rights in alice's INBOX, which has one message, and none in her other folders."""
    with login(instance, **ALICE_LOGIN) as alice:
        ok(alice.imap("SELECT INBOX"))
        ok(alice.imap("STORE 1:* +FLAGS.SILENT (\\Deleted)"))
        ok(alice.imap("EXPUNGE"))
        alice.imap("CREATE Sent")
        for folder in ("Sent", "INBOX"):
            append(alice, folder, message(f"in {folder}", ALICE, ALICE, "x\r\n"))
        ok(alice.imap("DELETEACL INBOX anyone"))
        ok(alice.imap(f"SETACL INBOX {BOB} {rights}"))
    wait_for("the share", lambda: folder_listed(instance, THEIRS))
    return instance


@pytest.fixture
def team(either):
    return share(either)


def configured(fresh, *conf):
    instance = fresh()
    instance.edit_conf(*conf)
    return instance.start()


def subjects(client):
    return [line for line in fetch(client, "1:*", "BODY.PEEK[HEADER.FIELDS (SUBJECT)]").values()]


def test_a_shared_inbox_is_listed_under_the_owners_name_and_used(team):
    instance = team
    with login(instance) as bob, login(instance, **ALICE_LOGIN) as alice:
        names = {line.split('"/" ')[1]: line for line in ok(bob.imap('LIST "" "*"'))}
        assert "Noselect" not in names[THEIRS] and "HasNoChildren" in names[THEIRS]
        assert "\\Noselect" in names['"Other Users"'] and not any("Sent" in n for n in names)
        assert ok(bob.imap(f"MYRIGHTS {THEIRS}"))[0].endswith(" lrswited")
        status, lines = bob.imap(f"SELECT {THEIRS}")
        assert status.startswith("OK [READ-WRITE]") and "* 1 EXISTS" in lines
        assert "Subject: in INBOX" in fetch(bob, "1", "BODY[HEADER]")[1]
        ok(bob.imap("STORE 1 +FLAGS (\\Flagged $Done)"))
        # Delivered while he looks; and what he does there the owner hears.
        idle(bob)
        instance.send("for the team", to=ALICE)
        heard(bob, r"\* 2 EXISTS")
        bob.send("DONE\r\n")
        ok(bob.imap_answer("i"))
        assert "for the team" in subjects(bob)[1]
        ok(alice.imap("SELECT INBOX"))
        flags = fetch(alice, "1", "FLAGS")[1]
        assert "$Done" in flags and "\\Flagged" in flags and "\\Seen" not in flags
        idle(alice)
        append(bob, THEIRS, message("by bob", BOB, ALICE, "y" * 300000 + "\r\n"))
        heard(alice, r"\* 3 EXISTS")
        ok(bob.imap("NOOP"))
        # Both ways between his folders and this one, and out of it.
        ok(bob.imap("CREATE mine"))
        ok(bob.imap("COPY 1 mine"))
        ok(bob.imap("MOVE 2 mine"))
        heard(alice, r"\* 2 EXPUNGE")
        alice.send("DONE\r\n")
        ok(alice.imap_answer("i"))
        ok(bob.imap("SELECT mine"))
        assert len(subjects(bob)) == 2
        ok(bob.imap(f"COPY 2 {THEIRS}"))
        ok(bob.imap(f"SELECT {THEIRS}"))
        ok(bob.imap("STORE 1 +FLAGS (\\Deleted)"))
        ok(bob.imap("EXPUNGE"))
        ok(alice.imap("NOOP"))
        assert [s for s in subjects(alice) if "by bob" in s or "for the team" in s] == subjects(alice)
        assert len(subjects(alice)) == 2
    report = instance.veredus("mailbox", "verify", ALICE, status=0).stdout
    assert "problem" not in report.lower().replace("problems=0", "")


def test_nothing_else_of_the_owner_can_be_reached(team):
    instance = team
    with login(instance) as bob:
        ok(bob.imap(f"SELECT {THEIRS}"))
        for name in ("Sent", "INBOX", "INBOX/Sent", "../Sent", ".Sent", "../.Sent", "cur", ""):
            other = f'"Other Users/{ALICE}/{name}"'
            for command in (f"SELECT {other}", f"STATUS {other} (MESSAGES)", f"GETACL {other}",
                            f"DELETE {other}", f"CREATE {other}", f"RENAME {other} mine"):
                assert bob.imap(command)[0].startswith(("NO", "BAD")), command
        for command in (f"DELETE {THEIRS}", f"RENAME {THEIRS} mine", f"SETACL {THEIRS} {BOB} lr",
                        f"GETACL {THEIRS}", f"CREATE {THEIRS}"):
            assert bob.imap(command)[0].startswith("NO"), command
        # The kernel's word, not ours: what the process has open, and may open.
        if os.geteuid() == 0:
            found = [os.readlink(f"/proc/{pid}/fd/{fd}") for pid in sessions(instance)
                     for fd in os.listdir(f"/proc/{pid}/fd")]
            mail = instance.path("mail/example.test/alice")
            assert mail + "/veredus.inbox" in found
            assert not any(f.startswith(mail + "/.Sent") for f in found)


def sessions(instance):
    found = []
    for spawner in instance.pids("imap-session"):
        with open(f"/proc/{spawner}/task/{spawner}/children") as file:
            found += map(int, file.read().split())
    return found


def test_each_right_counts_in_an_inbox_too(either):
    instance = share(either, "l")
    with login(instance, **ALICE_LOGIN) as alice, login(instance) as bob:
        assert ok(alice.imap(f"LISTRIGHTS INBOX {BOB}")) == [
            f'* LISTRIGHTS "INBOX" "{BOB}" "" l r s w i p k x t e a c d']
        assert bob.imap(f"SELECT {THEIRS}")[0].startswith("NO [NOPERM]")
        ok(alice.imap(f"SETACL INBOX {BOB} +r"))
        assert ok(alice.imap("GETACL INBOX"))[0].endswith(f'"{BOB}" lr')
        assert bob.imap(f"SELECT {THEIRS}")[0].startswith("OK [READ-ONLY]")
        steps = (("s", "STORE 1 +FLAGS (\\Seen)"), ("w", "STORE 1 +FLAGS (\\Flagged)"),
                 ("t", "STORE 1 +FLAGS (\\Deleted)"), ("e", "EXPUNGE"))
        for right, command in steps:
            assert bob.imap(command)[0].startswith("NO"), command
            ok(alice.imap(f"SETACL INBOX {BOB} +{right}"))
            ok(bob.imap(f"SELECT {THEIRS}"))
            ok(bob.imap(command))
        assert over(bob, THEIRS, 1).startswith("NO [NOPERM]")
        ok(alice.imap(f"SETACL INBOX {BOB} +i"))
        assert over(bob, THEIRS, 1).startswith("OK")
        ok(alice.imap(f"DELETEACL INBOX {BOB}"))
        assert bob.imap("FETCH 1 BODY[]")[0].startswith("NO [")
        assert bob.imap(f"SELECT {THEIRS}")[0].startswith("NO [NONEXISTENT]")
        # Mail comes as before, whoever may look.
        ok(alice.imap("SETACL INBOX anyone lr"))
        instance.send("plain", to=ALICE)
        instance.wait_mail("plain", ALICE)
    with login(instance) as bob:
        assert ok(bob.imap(f"MYRIGHTS {THEIRS}"))[0].endswith(" lr")


def test_seen_is_each_readers_own(team):
    instance = team
    with login(instance) as bob, login(instance, **ALICE_LOGIN) as alice:
        ok(bob.imap(f"SELECT {THEIRS}"))
        fetch(bob, "1", "BODY[]")
        assert "(UNSEEN 0)" in ok(bob.imap(f"STATUS {THEIRS} (UNSEEN)"))[0]
        assert "(UNSEEN 1)" in ok(alice.imap("STATUS INBOX (UNSEEN)"))[0]


def test_a_full_owner_refuses_what_others_put_into_his_inbox(fresh):
    instance = share(configured(fresh, (r"^domain example.test \{",
                                        "domain example.test {\n" + QUOTA)))
    with login(instance) as bob:
        assert over(bob, "INBOX", 15).startswith("OK")
        assert over(bob, THEIRS, 12).startswith("OK")
        assert over(bob, THEIRS, 15).startswith("NO [OVERQUOTA]")
        ok(bob.imap("SELECT INBOX"))
        assert bob.imap(f"COPY 1 {THEIRS}")[0].startswith("NO [OVERQUOTA]")
        ok(bob.imap(f"SELECT {THEIRS}"))
        assert bob.imap("MOVE 2 INBOX")[0].startswith("NO [OVERQUOTA]")


def test_the_owners_quota_root_is_told_to_those_who_may_fill_it(fresh):
    instance = share(configured(fresh, (r"^domain example.test \{",
                                        "domain example.test {\n" + QUOTA)))
    with login(instance) as bob, login(instance, **ALICE_LOGIN) as alice:
        ok(alice.imap(f"SETACL Sent {BOB} lri"))
        assert over(bob, THEIRS, 8).startswith("OK")
        owners = ok(alice.imap("GETQUOTAROOT INBOX"))
        assert owners[0] == '* QUOTAROOT "INBOX" ""' and "STORAGE 9 20 MESSAGE 3 100" in owners[1]
        told = owners[1].replace('""', THEIRS)
        assert ok(bob.imap(f"GETQUOTAROOT {THEIRS}")) == [f"* QUOTAROOT {THEIRS} {THEIRS}", told]
        assert ok(bob.imap(f"GETQUOTA {THEIRS}")) == [told]
        assert ok(bob.imap('GETQUOTA ""'))[0].startswith('* QUOTA "" (STORAGE 0 20 ')
        for name in ('"Other Users"', '"Other Users/bob@example.test"', '"Public"', ALICE):
            assert bob.imap(f"GETQUOTA {name}")[0].startswith("NO [NONEXISTENT]")
        ok(alice.imap(f"SETACL INBOX {BOB} lrswte"))
        assert ok(bob.imap(f"GETQUOTAROOT {THEIRS}")) == [f"* QUOTAROOT {THEIRS}"]
        assert bob.imap(f"GETQUOTA {THEIRS}")[0].startswith("NO [NONEXISTENT]")
    with login(instance) as bob:  # by way of another folder
        sent = THEIRS[:-1] + '/Sent"'
        assert ok(bob.imap(f"GETQUOTAROOT {sent}"))[0] == f"* QUOTAROOT {sent} {THEIRS}"
        assert ok(bob.imap(f"GETQUOTA {THEIRS}")) == [told]


def test_the_inbox_of_the_public_user_is_the_public_folder_itself(fresh):
    instance = configured(fresh, (r"^domain example.test \{",
                                  "domain example.test {\n    public-folders alice@example.test\n"))
    # Of a user who has never had any mail.
    instance.veredus("acl", "set", ALICE, "INBOX", "anyone", "lrs", "--create")
    wait_for("the folder", lambda: folder_listed(instance, '"Public"'))
    instance.send("to all", to=ALICE)
    instance.wait_mail("to all", ALICE)
    with login(instance) as bob:
        assert "* 1 EXISTS" in ok(bob.imap("EXAMINE Public"))
        assert "to all" in subjects(bob)[0]


def test_index_files_that_are_damaged_are_mended_by_who_comes_first(team):
    instance = team
    place = instance.path("mail/example.test/alice/veredus.inbox/")
    with login(instance) as bob:
        before = [line for line in ok(bob.imap(f"EXAMINE {THEIRS}")) if "UIDVALIDITY" in line]
    with open(place + "veredus.index", "r+b") as file:
        file.seek(20)
        file.write(b"\xff" * 30)
    with login(instance) as bob:
        lines = ok(bob.imap(f"EXAMINE {THEIRS}"))
        assert before[0] in lines and "* 1 EXISTS" in lines
    os.unlink(place + "veredus.index")
    os.unlink(place + "veredus.log")
    with login(instance) as bob:
        lines = ok(bob.imap(f"EXAMINE {THEIRS}"))
        assert before[0] not in lines and "* 1 EXISTS" in lines


def test_expunged_mail_is_kept_for_the_owner(fresh):
    instance = share(configured(fresh, (r"^queue \{", "mailbox {\n    keep-deleted 5d\n}\nqueue {")))
    with login(instance) as bob:
        ok(bob.imap(f"SELECT {THEIRS}"))
        ok(bob.imap("STORE 1 +FLAGS (\\Deleted)"))
        ok(bob.imap("EXPUNGE"))
    kept = instance.path("mail/example.test/alice/veredus.inbox/veredus.deleted/INBOX")
    wait_for("the kept file", lambda: os.path.isdir(kept) and len(os.listdir(kept)) == 1)
    instance.veredus("mailbox", "undelete", ALICE)
    assert os.listdir(kept) == []
    with login(instance, **ALICE_LOGIN) as alice:
        ok(alice.imap("EXAMINE INBOX"))
        assert "in INBOX" in subjects(alice)[0]


def test_a_backup_brings_the_list_back(fresh):
    instance = share(fresh().start())
    target = os.path.join(instance.parent, "backup")
    instance.veredus("backup", "create", "--to", target, ALICE)
    instance.stop()
    subprocess.run(["rm", "-rf", instance.path("mail/example.test"),
                    instance.path("mail/veredus.shares")], check=True)
    instance.veredus("backup", "restore", "--from", target, ALICE)
    instance.start()
    with login(instance) as bob:
        assert "* 1 EXISTS" in ok(bob.imap(f"SELECT {THEIRS}"))
        assert ok(bob.imap(f"MYRIGHTS {THEIRS}"))[0].endswith(" lrswited")


def test_sessions_that_are_killed_lose_nothing_of_what_they_were_told(team):
    instance = team
    count = 1
    for _ in range(3):
        with login(instance) as bob:
            append(bob, THEIRS, message("kept", BOB, ALICE, "x\r\n"))
            count += 1
            for pid in sessions(instance):
                os.kill(pid, signal.SIGKILL)
    with login(instance, **ALICE_LOGIN) as alice:
        assert f"* {count} EXISTS" in ok(alice.imap("SELECT INBOX"))


def test_an_ordinary_client_reads_it(team):
    instance = team
    client = instance.imap_client(BOB)
    assert isinstance(client, imaplib.IMAP4)
    assert client.myrights(THEIRS)[0] == "OK"
    assert client.select(THEIRS) == ("OK", [b"1"])
    assert b"Subject: in INBOX" in client.fetch("1", "(RFC822)")[1][0][1]
    assert client.store("1", "+FLAGS", "(\\Answered)")[0] == "OK"
    assert client.append(THEIRS, "", None, b"Subject: two\r\n\r\nx\r\n")[0] == "OK"
    assert client.uid("search", "SUBJECT", "two")[0] == "OK"
    client.logout()
