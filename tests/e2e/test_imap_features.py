"""Quota (RFC 9208), object ids (RFC 8474), save date, preview, special uses, LIST options, metadata
and shared folders (RFC 4314), over raw IMAP."""
import json
import os
import random
import re
import signal

import pytest

from test_imap import append, fetch, login, ok
from veredus import ALICE, BOB, message, wait_for

ALICE_LOGIN = dict(user=ALICE, password="alice-password")


def name_of(prefix):
    return f"{prefix}-{random.getrandbits(40):x}"


@pytest.fixture
def alice(rootless):
    with login(rootless, **ALICE_LOGIN) as raw:
        yield raw


@pytest.fixture
def bob(rootless):
    with login(rootless) as raw:
        yield raw


# --- object ids, save date, preview ---------------------------------------------------------------
def test_object_ids_live_through_rename_copy_and_a_new_login(rootless, bob):
    folder, other = name_of("ids"), name_of("ids")
    code = bob.imap(f"CREATE {folder}")[0]
    mailbox_id = re.match(r"OK \[MAILBOXID \((F[0-9a-f]+)\)\]", code)[1]
    append(bob, folder, message("one", BOB, ALICE, "First\r\nsecond line\r\n"))
    ok(bob.imap(f"SELECT {folder}"))
    first = fetch(bob, "1", "(EMAILID THREADID SAVEDATE PREVIEW)")[1]
    email_id = re.search(r"EMAILID \((M[0-9a-f]+)\)", first)[1]
    assert re.search(r"THREADID \(T[0-9a-f]+\)", first)
    assert re.search(r'SAVEDATE "[ \d]\d-\w{3}-\d{4} [\d:]{8} [+-]\d{4}"', first)
    assert 'PREVIEW "First second line' in first
    ok(bob.imap(f"RENAME {folder} {other}"))
    assert f"(MAILBOXID ({mailbox_id}))" in ok(bob.imap(f"STATUS {other} (MAILBOXID)"))[0]
    ok(bob.imap(f"SELECT {other}"))
    ok(bob.imap("COPY 1 INBOX"))
    with login(rootless) as again:
        lines = ok(again.imap(f"SELECT {other}"))
        assert any(f"[MAILBOXID ({mailbox_id})]" in line for line in lines)
        assert f"EMAILID ({email_id})" in fetch(again, "1", "EMAILID")[1]
        ok(again.imap("SELECT INBOX"))
        found = ok(again.imap(f"SEARCH EMAILID {email_id}"))
        assert re.match(r"\* SEARCH \d+$", found[0])


def test_a_thread_has_one_id_in_every_folder(bob):
    folder = name_of("thread")
    ok(bob.imap(f"CREATE {folder}"))
    root = "Subject: root\r\nMessage-ID: <root@example.test>\r\n\r\nx\r\n"
    reply = ("Subject: re\r\nMessage-ID: <reply@example.test>\r\n"
             "References: <root@example.test>\r\n\r\nx\r\n")
    other = "Subject: else\r\nMessage-ID: <else@example.test>\r\n\r\nx\r\n"
    for text in (root, reply, other):
        append(bob, folder, text)
    ok(bob.imap(f"SELECT {folder}"))
    ids = {n: re.search(r"THREADID \((T\w+)\)", line)[1]
           for n, line in fetch(bob, "1:3", "THREADID").items()}
    assert ids[1] == ids[2] != ids[3]
    assert ok(bob.imap(f"SEARCH THREADID {ids[1]}"))[0] == "* SEARCH 1 2"


def test_search_by_save_date(bob):
    folder = name_of("saved")
    ok(bob.imap(f"CREATE {folder}"))
    append(bob, folder, message("old", BOB, ALICE, "x\r\n"), '"01-Jan-2001 00:00:00 +0000"')
    ok(bob.imap(f"SELECT {folder}"))
    assert ok(bob.imap("SEARCH SAVEDATESUPPORTED SAVEDSINCE 1-Jan-2020"))[0] == "* SEARCH 1"
    assert ok(bob.imap("SEARCH SAVEDBEFORE 1-Jan-2020"))[0] == "* SEARCH"
    assert ok(bob.imap("SEARCH BEFORE 1-Jan-2020"))[0] == "* SEARCH 1"


def test_preview_can_be_lazy_and_holds_no_markup(bob):
    folder = name_of("preview")
    ok(bob.imap(f"CREATE {folder}"))
    html = ("Subject: h\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
            "<html><style>p{}</style><p>Hello &amp; <b>welcome</b></p></html>\r\n")
    append(bob, folder, html)
    ok(bob.imap(f"SELECT {folder}"))
    assert 'PREVIEW "Hello & welcome' in fetch(bob, "1", "(UID PREVIEW (LAZY))")[1]
    assert bob.imap("FETCH 1 (PREVIEW (EAGER))")[0].startswith("BAD")


# --- special use and LIST -------------------------------------------------------------------------
def listed(client, command):
    found = {}
    for line in ok(client.imap(command)):
        match = re.match(r'\* LIST \(([^)]*)\) "/" "?([^"]*)"?( .*)?$', line)
        if match:
            found[match[2]] = (match[1].split(), match[3] or "")
    return found


def test_special_use_is_kept_through_a_rename_and_beats_names(fresh):
    instance = fresh().start()
    with login(instance) as client:
        ok(client.imap("CREATE Sent"))
        assert "\\Sent" in listed(client, 'LIST "" "*"')["Sent"][0]
        ok(client.imap("CREATE Gesendet (USE (\\Sent))"))
        ok(client.imap("RENAME Gesendet Ausgang"))
        folders = listed(client, 'LIST "" "*" RETURN (SPECIAL-USE)')
        assert "\\Sent" in folders["Ausgang"][0] and "\\Sent" not in folders["Sent"][0]
        assert set(listed(client, 'LIST (SPECIAL-USE) "" "*"')) == {"Ausgang"}
        assert client.imap("CREATE Alles (USE (\\All))")[0].startswith("NO [USEATTR]")
        assert client.imap("CREATE Was (USE (\\Nothing))")[0].startswith("NO [USEATTR]")
        assert client.imap('SETMETADATA Ausgang (/private/specialuse "\\\\Zzz")')[0].startswith("NO")
        ok(client.imap('SETMETADATA Ausgang (/private/specialuse NIL)'))
        assert "\\Sent" in listed(client, 'LIST "" "*"')["Sent"][0]


def test_list_options(fresh):
    instance = fresh().start()
    with login(instance) as client:
        for name in ("a", "a/b", "c"):
            ok(client.imap(f"CREATE {name}"))
        ok(client.imap("SUBSCRIBE a/b"))
        ok(client.imap("SUBSCRIBE gone"))
        subscribed = listed(client, 'LIST (SUBSCRIBED) "" "*"')
        assert set(subscribed) == {"a/b", "gone"}
        assert "\\NonExistent" in subscribed["gone"][0]
        assert "\\Subscribed" in subscribed["a/b"][0]
        recursive = listed(client, 'LIST (SUBSCRIBED RECURSIVEMATCH) "" "%"')
        assert 'CHILDINFO' in recursive["a"][1] and "\\Subscribed" not in recursive["a"][0]
        assert set(listed(client, 'LIST "" ("a" "c")')) == {"a", "c"}
        lines = ok(client.imap('LIST "" "c" RETURN (STATUS (MESSAGES UIDNEXT))'))
        assert '* STATUS "c" (MESSAGES 0 UIDNEXT 1)' in lines
        assert client.imap('LIST (RECURSIVEMATCH) "" "*"')[0].startswith("BAD")


# --- metadata -------------------------------------------------------------------------------------
def test_metadata_of_folders_and_server(rootless, bob):
    folder, other = name_of("meta"), name_of("meta")
    ok(bob.imap(f"CREATE {folder}"))
    ok(bob.imap(f'SETMETADATA {folder} (/private/comment "mine" /shared/vendor/x/y "ours")'))
    ok(bob.imap(f"RENAME {folder} {other}"))
    assert ok(bob.imap(f"GETMETADATA {other} /private/comment"))[0] == \
        f'* METADATA "{other}" ("/private/comment" "mine")'
    assert '"/shared/vendor/x/y" "ours"' in \
        ok(bob.imap(f"GETMETADATA (DEPTH infinity) {other} (/shared /private)"))[0]
    assert ok(bob.imap(f"GETMETADATA (DEPTH 1) {other} /shared/vendor")) == []
    status, lines = bob.imap(f"GETMETADATA (MAXSIZE 3) {other} /private/comment")
    assert status.startswith("OK [METADATA LONGENTRIES 4]") and not lines
    ok(bob.imap(f"SETMETADATA {other} (/PRIVATE/COMMENT NIL)"))
    assert ok(bob.imap(f"GETMETADATA {other} /private/comment"))[0].endswith('("/private/comment" NIL)')
    value = b"a\r\nb"
    bob.send(b'm SETMETADATA "" (/private/note {%d+}\r\n%s)\r\n' % (len(value), value))
    ok(bob.imap_answer("m"))
    with login(rootless) as again:
        assert "a\r\nb" in "\r\n".join(ok(again.imap('GETMETADATA "" /private/note')))
    assert bob.imap(f"SETMETADATA {other} (/other/x 1)")[0].startswith("BAD")
    assert bob.imap(f'SETMETADATA {other} ("/private/\u00e4" "x")')[0].startswith("BAD")
    assert bob.imap('SETMETADATA "" (/shared/comment "for all")')[0].startswith("NO [NOPERM]")
    assert bob.imap(f'SETMETADATA nowhere (/private/x "1")')[0].startswith("NO [NONEXISTENT]")
    for n in range(6):
        entries = " ".join(f'/private/n{n}-{i} "x"' for i in range(100))
        status, _ = bob.imap(f"SETMETADATA {other} ({entries})")
    assert status.startswith("NO [METADATA TOOMANY]")


# --- quota ----------------------------------------------------------------------------------------
QUOTA = """    quota 20K
    quota-messages 100
    quota-folder Trash=+50% Archive=ignore
"""


def with_quota(fresh, more=""):
    instance = fresh()
    instance.edit_conf((r"^domain example.test \{", "domain example.test {\n" + QUOTA + more))
    return instance.start()


def over(client, folder, kilobytes):
    data = ("Subject: big\r\n\r\n" + ("x" * 62 + "\r\n") * 16 * kilobytes).encode()
    client.send(f"ap APPEND {folder} {{{len(data)}+}}\r\n".encode() + data + b"\r\n")
    return client.imap_answer("ap")[0]


def test_append_and_copy_over_quota_are_refused(fresh):
    with login(with_quota(fresh)) as client:
        for name in ("Trash", "Archive", "box"):
            ok(client.imap(f"CREATE {name}"))
        lines = ok(client.imap("GETQUOTAROOT INBOX"))
        assert lines == ['* QUOTAROOT "INBOX" ""', '* QUOTA "" (STORAGE 0 20 MESSAGE 0 100)']
        assert over(client, "box", 15).startswith("OK")
        assert ok(client.imap('GETQUOTA ""'))[0] == '* QUOTA "" (STORAGE 16 20 MESSAGE 1 100)'
        assert over(client, "INBOX", 15).startswith("NO [OVERQUOTA]")
        ok(client.imap("SELECT box"))
        assert client.imap("COPY 1 INBOX")[0].startswith("NO [OVERQUOTA]")
        assert client.imap("MOVE 1 INBOX")[0].startswith("OK")
        assert over(client, "Archive", 100).startswith("OK")
        assert over(client, "Trash", 10).startswith("OK")
        ok(client.imap("SELECT INBOX"))
        ok(client.imap("STORE 1 +FLAGS.SILENT (\\Deleted)"))
        line = ok(client.imap("STATUS INBOX (DELETED DELETED-STORAGE)"))[0]
        assert re.search(r"DELETED 1 DELETED-STORAGE 15\d\d\d", line)
        ok(client.imap("EXPUNGE"))
        assert over(client, "INBOX", 5).startswith("OK")
        assert client.imap('SETQUOTA "" (STORAGE 100)')[0].startswith("NO")
        assert client.imap('GETQUOTA "other"')[0].startswith("NO")


def rcpt(instance, address, size=0):
    with instance.raw("smtp") as client:
        client.hello()
        client.smtp("MAIL FROM:<a@elsewhere.test>" + (f" SIZE={size}" if size else ""))
        client.send(f"RCPT TO:<{address}>\r\n")
        code, texts = client.reply()
        return f"{code} {texts[0]}"


@pytest.mark.parametrize("full,code", [("refuse", "552 5.2.2"), ("defer", "452 4.2.2")])
def test_rcpt_to_a_full_mailbox_is_refused_until_there_is_room(fresh, full, code):
    instance = with_quota(fresh, f"    quota-full {full}\n")
    assert "250" in rcpt(instance, BOB)
    with login(instance) as client:
        for _ in range(2):
            assert over(client, "INBOX", 9).startswith("OK")
        # Nearly full: a delivery fits with the grace, and then nothing does.
        instance.send("nearly", to=BOB, body=("y" * 62 + "\r\n") * 32)
        instance.wait_mail("nearly", user=BOB)
        assert rcpt(instance, BOB).startswith(code)
        instance.wait_log(rule="quota")
        assert "250" in rcpt(instance, ALICE)
        ok(client.imap("SELECT INBOX"))
        ok(client.imap("STORE 1 +FLAGS.SILENT (\\Deleted)"))
        ok(client.imap("EXPUNGE"))
        assert "250" in rcpt(instance, BOB)


def test_rcpt_knows_the_declared_size_and_the_folder(fresh):
    instance = with_quota(fresh)
    with login(instance) as client:
        assert over(client, "INBOX", 9).startswith("OK")
        ok(client.imap("CREATE Archive"))
    name, domain = BOB.split("@")
    assert "250" in rcpt(instance, BOB, 5000)
    assert rcpt(instance, BOB, 200000).startswith("552 5.2.2")
    assert "250" in rcpt(instance, f"{name}+Archive@{domain}", 200000)
    assert rcpt(instance, f"{name}+absent@{domain}", 200000).startswith("552 5.2.2")


def test_a_delivery_that_does_not_fit_goes_back_or_waits(fresh):
    instance = with_quota(fresh)
    with login(instance) as client:
        assert over(client, "INBOX", 15).startswith("OK")
    with instance.raw("smtp") as smtp:  # which does not declare a size
        smtp.hello()
        for command in (f"MAIL FROM:<{ALICE}>", f"RCPT TO:<{BOB}>", "DATA"):
            smtp.send(command + "\r\n")
            assert smtp.reply()[0] in (250, 354)
        smtp.send(message("too big", BOB, ALICE, ("z" * 62 + "\r\n") * 160) + ".\r\n")
        assert smtp.reply()[0] == 250
    wait_for("the report", lambda: any("5.2.2" in str(m) for m in instance.mails(ALICE)))
    assert len(instance.mails(BOB)) == 1


# --- shared folders -------------------------------------------------------------------------------
def shared(instance, rights, texts=1):
    """A folder of alice's that bob has these rights in; its name, and its name for bob."""
    folder = name_of("shared")
    with login(instance, **ALICE_LOGIN) as alice:
        ok(alice.imap(f"CREATE {folder}"))
        for number in range(texts):
            append(alice, folder, message(f"m{number}", ALICE, BOB, "x\r\n"))
        ok(alice.imap(f"SETACL {folder} {BOB} {rights}"))
    theirs = f'"Other Users/{ALICE}/{folder}"'

    def seen():
        with login(instance) as bob:
            return any(folder in line for line in ok(bob.imap('LIST "" "*"')))
    if "l" in rights:
        wait_for("the share", seen)
    return folder, theirs


def test_acl_commands_of_the_owner(rootless, alice):
    folder = name_of("acl")
    words = ok(alice.imap("CAPABILITY"))[0].split()
    assert "ACL" in words and "RIGHTS=kxte" in words
    ok(alice.imap(f"CREATE {folder}"))
    assert ok(alice.imap(f"MYRIGHTS {folder}")) == [f'* MYRIGHTS "{folder}" lrswipkxteacd']
    ok(alice.imap(f"SETACL {folder} {BOB} lrs"))
    ok(alice.imap(f"SETACL {folder} {BOB} +te"))
    ok(alice.imap(f"SETACL {folder} {BOB} -s"))
    ok(alice.imap(f"SETACL {folder} anyone l"))
    assert ok(alice.imap(f"GETACL {folder}")) == [
        f'* ACL "{folder}" "{ALICE}" lrswipkxteacd "{BOB}" lrted "anyone" l']
    ok(alice.imap(f"DELETEACL {folder} anyone"))
    assert "anyone" not in ok(alice.imap(f"GETACL {folder}"))[0]
    assert ok(alice.imap(f"LISTRIGHTS {folder} {BOB}")) == [
        f'* LISTRIGHTS "{folder}" "{BOB}" "" l r s w i p k x t e a c d']
    assert alice.imap(f"SETACL {folder} {BOB} lrq")[0].startswith("BAD")
    assert alice.imap(f"SETACL {folder} {ALICE} lr")[0].startswith("NO")
    assert alice.imap(f"GETACL {name_of('none')}")[0].startswith("NO [NONEXISTENT]")
    # What is below a shared folder is shared alike.
    ok(alice.imap(f"CREATE {folder}/below"))
    assert BOB in ok(alice.imap(f"GETACL {folder}/below"))[0]


def test_a_shared_folder_is_read_by_others_and_nothing_else(either):
    folder, theirs = shared(either, "lr", 2)
    with login(either) as bob:
        lines = ok(bob.imap("NAMESPACE"))
        assert lines == ['* NAMESPACE (("" "/")) (("Other Users/" "/")) (("Public/" "/"))']
        names = [line.split('"/" ')[1] for line in ok(bob.imap('LIST "" "Other*"'))]
        assert '"Other Users"' in names and theirs in names
        assert not any("INBOX" in name for name in names)
        assert ok(bob.imap(f"MYRIGHTS {theirs}"))[0].endswith(" lr")
        status, lines = bob.imap(f"SELECT {theirs}")
        assert status.startswith("OK [READ-ONLY]") and "* 2 EXISTS" in lines
        assert "Subject: m1" in fetch(bob, "2", "BODY[HEADER]")[2]
        assert bob.imap("STORE 1 +FLAGS (\\Flagged)")[0].startswith("NO")
        ok(bob.imap("COPY 1 INBOX"))
        for command in (f"CREATE \"Other Users/{ALICE}/new\"", f"DELETE {theirs}",
                        f"RENAME {theirs} mine", f"SETACL {theirs} {BOB} lrswite",
                        f"GETACL {theirs}", f"STATUS \"Other Users/{ALICE}\" (MESSAGES)",
                        f"COPY 1 {theirs}", f'SETMETADATA {theirs} (/shared/comment "x")',
                        f"EXAMINE \"Other Users/{ALICE}\""):
            assert bob.imap(command)[0].startswith("NO"), command
        data = b"Subject: x\r\n\r\nx\r\n"
        bob.send(b"ap APPEND %s {%d+}\r\n%s\r\n" % (theirs.encode(), len(data), data))
        assert bob.imap_answer("ap")[0].startswith("NO [NOPERM]")


def test_a_right_taken_away_is_gone_at_once(rootless, alice):
    folder, theirs = shared(rootless, "lrswite")
    with login(rootless) as bob:
        assert bob.imap(f"SELECT {theirs}")[0].startswith("OK [READ-WRITE]")
        ok(bob.imap("STORE 1 +FLAGS (\\Flagged)"))
        ok(alice.imap(f"DELETEACL {folder} {BOB}"))
        assert bob.imap("FETCH 1 BODY[]")[0].startswith("NO [")
        assert bob.imap("STORE 1 -FLAGS (\\Flagged)")[0].startswith("NO")
        assert bob.imap("SEARCH ALL")[0].startswith("NO")
        assert bob.imap(f"SELECT {theirs}")[0].startswith("NO [NONEXISTENT]")
        assert not any(folder in line for line in ok(bob.imap('LIST "" "*"')))


def test_seen_is_each_users_own(rootless, alice):
    folder, theirs = shared(rootless, "lrsw", 2)
    with login(rootless) as bob:
        ok(bob.imap(f"SELECT {theirs}"))
        fetch(bob, "1", "BODY[]")
        assert "\\Seen" in fetch(bob, "1", "FLAGS")[1]
        ok(bob.imap("STORE 2 FLAGS (\\Flagged work)"))
        assert "(UNSEEN 1)" in ok(bob.imap(f"STATUS {theirs} (UNSEEN)"))[0]
    ok(alice.imap(f"SELECT {folder}"))
    flags = fetch(alice, "1:2", "FLAGS")
    assert "\\Seen" not in flags[1] and "\\Flagged" in flags[2] and "work" in flags[2]
    ok(alice.imap("STORE 2 +FLAGS (\\Seen)"))
    ok(alice.imap(f"RENAME {folder} {folder}-2"))
    theirs = theirs.replace(folder, f"{folder}-2")
    wait_for("the new name", lambda: folder_listed(rootless, f"{folder}-2"))
    with login(rootless) as bob:
        ok(bob.imap(f"SELECT {theirs}"))
        flags = fetch(bob, "1:2", "FLAGS")
        assert "\\Seen" in flags[1] and "\\Seen" not in flags[2]
        assert ok(bob.imap("SEARCH UNSEEN")) == ["* SEARCH 2"]


def folder_listed(instance, folder):
    with login(instance) as bob:
        return any(folder in line for line in ok(bob.imap('LIST "" "*"')))


@pytest.mark.parametrize("rights,allowed", [
    ("lr", set()), ("lrs", {"seen"}), ("lrw", {"flag"}), ("lrt", {"deleted"}),
    ("lrte", {"deleted", "expunge"}), ("lri", {"append"}), ("lrswite",
     {"seen", "flag", "deleted", "expunge", "append"})])
def test_each_right_allows_what_it_says(rootless, rights, allowed):
    folder, theirs = shared(rootless, rights, 2)
    commands = {"seen": "STORE 1 +FLAGS (\\Seen)", "flag": "STORE 1 +FLAGS (\\Flagged)",
                "deleted": "STORE 1 +FLAGS (\\Deleted)"}
    with login(rootless) as bob:
        lines = ok(bob.imap(f"SELECT {theirs}"))
        permanent = next(line for line in lines if "PERMANENTFLAGS" in line)
        for name, flag in (("seen", "\\Seen"), ("flag", "\\Flagged"), ("deleted", "\\Deleted")):
            assert (flag in permanent) == (name in allowed)
        for name, command in commands.items():
            assert bob.imap(command)[0].startswith("OK") == (name in allowed), name
        assert bob.imap("EXPUNGE")[0].startswith("OK") == ("expunge" in allowed)
        bob.send(f"ap APPEND {theirs} (\\Seen \\Flagged) {{12+}}\r\nA: b\r\n\r\nx\r\n\r\n\r\n")
        status = bob.imap_answer("ap")[0]
        assert status.startswith("OK") == ("append" in allowed), status


def idle(client):
    client.send("i IDLE\r\n")
    assert client.line().startswith("+")


def heard(client, pattern):
    """Sooner than a session looks without having been woken (30 s; a line is waited for 20 s)."""
    line = client.line()
    while not re.match(pattern, line):
        line = client.line()


def test_idle_on_a_folder_of_somebody_else_hears_its_owner_and_the_other_way(rootless, alice):
    folder, theirs = shared(rootless, "lrsw")
    with login(rootless) as bob, login(rootless, **ALICE_LOGIN) as other:
        ok(bob.imap(f"SELECT {theirs}"))
        ok(alice.imap(f"SELECT {folder}"))
        idle(bob)
        append(other, folder, message("pushed", ALICE, BOB, "x\r\n"))
        heard(bob, r"\* 2 EXISTS")
        bob.send("DONE\r\n")
        ok(bob.imap_answer("i"))
        ok(alice.imap("NOOP"))
        idle(alice)
        ok(bob.imap("STORE 1 +FLAGS (\\Flagged)"))
        heard(alice, r"\* 1 FETCH .*Flagged")
        alice.send("DONE\r\n")
        ok(alice.imap_answer("i"))
        # Who has lost the right to read is told nothing any more.
        ok(alice.imap(f"DELETEACL {folder} {BOB}"))
        append(other, folder, message("not for bob", ALICE, ALICE, "x\r\n"))
        assert ok(bob.imap("NOOP")) == []


def test_a_full_owner_refuses_what_others_put_into_his_folders(fresh):
    instance = with_quota(fresh)
    with login(instance, **ALICE_LOGIN) as alice:
        ok(alice.imap("CREATE Archive"))
        ok(alice.imap("CREATE two"))
        ok(alice.imap(f"SETACL two {BOB} lrswite"))
        ok(alice.imap(f"SETACL Archive {BOB} lri"))
        assert over(alice, "INBOX", 12).startswith("OK")
    theirs = f'"Other Users/{ALICE}/'
    wait_for("the share", lambda: folder_listed(instance, "two"))
    with login(instance) as bob:
        assert over(bob, "INBOX", 15).startswith("OK")
        ok(bob.imap("SELECT INBOX"))
        assert over(bob, theirs + 'two"', 15).startswith("NO [OVERQUOTA]")
        assert bob.imap(f'COPY 1 {theirs}two"')[0].startswith("NO [OVERQUOTA]")
        assert bob.imap(f'MOVE 1 {theirs}two"')[0].startswith("NO [OVERQUOTA]")
        # By the owner's rules, with his sum: an ignored folder takes it, and little fits.
        assert over(bob, theirs + 'Archive"', 15).startswith("OK")
        assert over(bob, theirs + 'two"', 3).startswith("OK")
        # Within the owner's folders moving adds nothing; into ours it does.
        ok(bob.imap(f'SELECT {theirs}two"'))
        assert bob.imap(f'MOVE 1 {theirs}Archive"')[0].startswith("OK")
        assert over(bob, theirs + 'two"', 3).startswith("OK")
        for pid in instance.pids("virtual"):
            os.kill(pid, signal.SIGKILL)

        def again():  # refused while nobody can tell, and then as before
            status = over(bob, theirs + 'two"', 15)
            assert status.startswith("NO [OVERQUOTA]") or status.startswith("NO [UNAVAILABLE]")
            return "OVERQUOTA" in status
        wait_for("an answer from the new process", again)


def test_the_rights_of_rfc_2086_are_understood_and_told(rootless, alice):
    folder = name_of("old")
    ok(alice.imap(f"CREATE {folder}"))
    ok(alice.imap(f"SETACL {folder} {BOB} lrd"))
    assert ok(alice.imap(f"GETACL {folder}"))[0].endswith(f'"{BOB}" lrted')
    ok(alice.imap(f"SETACL {folder} {BOB} -t"))
    assert ok(alice.imap(f"GETACL {folder}"))[0].endswith(f'"{BOB}" lred')
    ok(alice.imap(f"SETACL {folder} {BOB} -d"))
    assert ok(alice.imap(f"GETACL {folder}"))[0].endswith(f'"{BOB}" lr')
    ok(alice.imap(f"SETACL {folder} {BOB} lrc"))
    assert ok(alice.imap(f"GETACL {folder}"))[0].endswith(f'"{BOB}" lrkxc')


def test_negative_rights_go_before_any_others(rootless, alice):
    folder, theirs = shared(rootless, "lrsw")
    ok(alice.imap(f"SETACL {folder} anyone lrt"))
    ok(alice.imap(f"SETACL {folder} -{BOB} sx"))
    assert f'"-{BOB}" sx' in ok(alice.imap(f"GETACL {folder}"))[0]
    with login(rootless) as bob:
        assert ok(bob.imap(f"MYRIGHTS {theirs}"))[0].endswith(" lrwtd")
        ok(alice.imap(f"SETACL {folder} -{BOB} lrswt"))
        assert bob.imap(f"MYRIGHTS {theirs}")[0].startswith("NO [NONEXISTENT]")
        ok(alice.imap(f"DELETEACL {folder} -{BOB}"))
        assert ok(bob.imap(f"MYRIGHTS {theirs}"))[0].endswith(" lrswtd")


@pytest.mark.parametrize("rights", ["r", "i", "s", "p"])
def test_a_folder_that_may_not_be_looked_up_is_not_admitted_to_exist(rootless, alice, rights):
    folder, theirs = shared(rootless, "l")
    ok(alice.imap(f"SETACL {folder} {BOB} {rights}"))
    with login(rootless) as bob:
        for command in (f"GETACL {theirs}", f"SETACL {theirs} {BOB} lr", f"DELETEACL {theirs} {BOB}",
                        f"LISTRIGHTS {theirs} {BOB}", f"DELETE {theirs}"):
            assert bob.imap(command)[0].startswith("NO [NONEXISTENT]"), command
        mine = bob.imap(f"MYRIGHTS {theirs}")[0]
        assert mine.startswith("OK") == (rights in "ri")
        assert bob.imap(f"EXAMINE {theirs}")[0].startswith("OK" if rights == "r" else "NO [NONEX")
        assert not any(folder in line for line in ok(bob.imap('LIST "" "*"')))


def flags_of(client, folder):
    ok(client.imap(f"EXAMINE {folder}"))
    return {n: set(re.search(r"FLAGS \(([^)]*)\)", line)[1].split()) - {"\\Recent"}
            for n, line in fetch(client, "1:*", "FLAGS").items()}


@pytest.mark.parametrize("rights,kept", [
    ("lri", set()), ("lris", set()), ("lriw", {"\\Flagged", "work"}), ("lrit", {"\\Deleted"}),
    ("lriswt", {"\\Flagged", "work", "\\Deleted"})])
def test_copy_and_append_set_the_flags_that_may_be_set(rootless, alice, rights, kept):
    folder, theirs = shared(rootless, rights, 0)
    with login(rootless) as bob:
        mine = name_of("mine")
        ok(bob.imap(f"CREATE {mine}"))
        every = "(\\Seen \\Flagged \\Deleted work)"
        append(bob, mine, message("one", BOB, ALICE, "x\r\n"), every)
        append(bob, theirs, message("two", BOB, ALICE, "x\r\n"), every)
        ok(bob.imap(f"SELECT {mine}"))
        ok(bob.imap(f"COPY 1 {theirs}"))
        # \Seen is bob's there and not alice's.
        seen = {"\\Seen"} if "s" in rights else set()
        assert flags_of(bob, theirs) == {1: kept | seen, 2: kept | seen}
        assert flags_of(alice, folder) == {1: kept, 2: kept}
        # And it is bob's \Seen that comes along from there.
        ok(alice.imap(f"SELECT {folder}"))
        ok(alice.imap("STORE 1:2 FLAGS (\\Seen)"))
        ok(bob.imap(f"SELECT {theirs}"))
        ok(bob.imap(f"COPY 1 {mine}"))
        assert flags_of(bob, mine)[2] == seen


def test_public_folders(fresh):
    instance = fresh()
    instance.edit_conf((r"^domain example.test \{",
                        "domain example.test {\n    public-folders alice@example.test\n"))
    instance.start()
    with login(instance, **ALICE_LOGIN) as alice:
        ok(alice.imap("CREATE News/2026"))
        ok(alice.imap("SETACL News/2026 anyone lrsp"))
    wait_for("the folder", lambda: folder_listed(instance, "Public/News/2026"))
    instance.send("to all", to="alice+News/2026@example.test")
    with login(instance) as bob:
        wait_for("the mail", lambda: "(MESSAGES 1)" in
                 ok(bob.imap('STATUS "Public/News/2026" (MESSAGES)'))[0])
        ok(bob.imap('SUBSCRIBE "Public/News/2026"'))
        lines = ok(bob.imap('LIST (SUBSCRIBED) "" "*"'))
        assert any('"Public/News/2026"' in line and "NonExistent" not in line for line in lines)


# --- administration -------------------------------------------------------------------------------
def test_quota_of_one_user_from_the_command_line(fresh):
    instance = with_quota(fresh)
    instance.veredus("quota", "set", BOB, "100K", "3")
    with login(instance) as bob:
        assert ok(bob.imap('GETQUOTA ""'))[0] == '* QUOTA "" (STORAGE 0 100 MESSAGE 0 3)'
        assert over(bob, "INBOX", 50).startswith("OK")
        for _ in range(2):
            assert over(bob, "INBOX", 1).startswith("OK")
        assert over(bob, "INBOX", 1).startswith("NO [OVERQUOTA]")
    shown = json.loads(instance.veredus("quota", "show", BOB, "--json").stdout)
    assert shown["messages"] == 3 and shown["max-messages"] == 3 and shown["max-bytes"] == 102400
    assert shown["bytes"] > 53000
    assert "messages=3" in instance.veredus("quota", "recount", BOB).stdout
    instance.veredus("quota", "set", BOB, "default")
    assert "max-bytes=20480" in instance.veredus("quota", "show", BOB).stdout
    with login(instance) as bob:  # the password is as it was
        assert "STORAGE 53 20 " in ok(bob.imap('GETQUOTA ""'))[0]
    instance.veredus("quota", "set", BOB, "much", status=2)


def test_limits_that_are_lifted_hold_no_mail_back(fresh):
    """Whom RCPT accepts, the delivery accepts: it remembers limits from when there were some."""
    instance = fresh()
    instance.start()
    instance.send("before", to=BOB, body="x" * 70 + "\r\n")
    instance.wait_mail("before", user=BOB)
    instance.veredus("quota", "set", BOB, "1")
    with instance.raw() as client:
        client.hello()
        client.smtp("MAIL FROM:<a@elsewhere.test>")
        assert client.smtp(f"RCPT TO:<{BOB}>") == 552
    instance.veredus("quota", "set", BOB, "default")
    instance.send("after", to=BOB)
    instance.wait_mail("after", user=BOB)


def test_public_folders_from_the_command_line(fresh):
    instance = fresh()
    instance.edit_conf((r"^domain example.test \{",
                        "domain example.test {\n    public-folders alice@example.test\n"))
    instance.start()
    instance.veredus("acl", "set", ALICE, "News", "anyone", "lrs", "--create")
    assert instance.veredus("acl", "show", ALICE, "News").stdout == "anyone lrs\n"
    assert folder_listed(instance, "Public/News")
    instance.veredus("acl", "set", ALICE, "News", "anyone", "none")
    assert not folder_listed(instance, "Public/News")
    assert instance.veredus("acl", "set", ALICE, "News", BOB, "lrz", status=None).returncode
    # A name that nobody has would be a share that nobody sees; what it was given can be taken away.
    refused = instance.veredus("acl", "set", ALICE, "News", "bob", "lrs", status=1)
    assert "bob: no such virtual user" in refused.stderr
    instance.veredus("acl", "set", ALICE, "News", "bob", "none")
    assert "Nope: no such folder" in instance.veredus("acl", "show", ALICE, "Nope", status=1).stderr
    assert "Nope: no such folder" in instance.veredus(
        "acl", "set", ALICE, "Nope", BOB, "lrs", status=1).stderr


def test_mail_for_a_folder_of_all_needs_the_right_to_post(rootless, alice):
    name, domain = ALICE.split("@")
    team, news = name_of("team"), name_of("news")
    for folder, who, rights in ((team, BOB, "lr"), (news, "anyone", "lr")):
        ok(alice.imap(f"CREATE {folder}"))
        ok(alice.imap(f"SETACL {folder} {who} {rights}"))

    def arrives(folder, subject, to):
        rootless.send(subject, to=f"{name}+{to}@{domain}", sender=BOB)

        def found():
            ok(alice.imap(f"EXAMINE {folder}"))
            return ok(alice.imap(f'SEARCH SUBJECT "{subject}"')) != ["* SEARCH"]
        wait_for(f"{subject} in {folder}", found)
    # Shared with named users only: personal, as before.
    arrives(team, f"s-{team}", team)
    arrives("INBOX", f"s-{news}", news)
    ok(alice.imap(f"SETACL {news} anyone +p"))
    arrives(news, f"t-{news}", news)


def test_named_users_post_when_they_log_in_to_send(rootless, alice):
    name, domain = ALICE.split("@")
    team = name_of("team")
    ok(alice.imap(f"CREATE {team}"))
    ok(alice.imap(f"SETACL {team} {BOB} lrp"))

    def send(subject, login=None):
        rootless.send(subject, to=f"{name}+{team}@{domain}", sender=BOB, login=login)

    def has(folder, subject):
        ok(alice.imap(f"EXAMINE {folder}"))
        return ok(alice.imap(f'SEARCH SUBJECT "{subject}"')) != ["* SEARCH"]
    send(f"by-bob-{team}", BOB)
    wait_for("bob's letter", lambda: has(team, f"by-bob-{team}"))
    send(f"by-alice-{team}", ALICE)
    wait_for("alice's letter", lambda: has(team, f"by-alice-{team}"))
    send(f"by-nobody-{team}")  # who names bob as its sender
    wait_for("the stranger's letter", lambda: has("INBOX", f"by-nobody-{team}"))
    ok(alice.imap(f"SETACL {team} {BOB} lr"))
    ok(alice.imap(f"SETACL {team} carol@example.test p"))
    send(f"without-{team}", BOB)
    wait_for("the refused letter", lambda: has("INBOX", f"without-{team}"))
