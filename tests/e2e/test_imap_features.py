"""Quota (RFC 9208), object ids (RFC 8474), save date, preview, special uses, LIST options, metadata
and shared folders (RFC 4314), over raw IMAP."""
import random
import re

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


def rcpt(instance, address):
    with instance.raw("smtp") as client:
        client.hello()
        client.smtp("MAIL FROM:<a@elsewhere.test>")
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


def test_a_delivery_that_does_not_fit_goes_back_or_waits(fresh):
    instance = with_quota(fresh)
    with login(instance) as client:
        assert over(client, "INBOX", 15).startswith("OK")
    instance.send("too big", to=BOB, sender=ALICE, body=("z" * 62 + "\r\n") * 160)
    wait_for("the report", lambda: any("5.2.2" in str(m) for m in instance.mails(ALICE)))
    assert len(instance.mails(BOB)) == 1
