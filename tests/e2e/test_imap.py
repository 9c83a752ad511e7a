"""IMAP4rev1 (RFC 3501) with IDLE, UIDPLUS, NAMESPACE, UNSELECT, LITERAL+ and ID."""
import random
import re
import socket
import time

import pytest

from veredus import ALICE, BOB, SLOW, message, wait_for


def login(instance, user=BOB, password="bob-password", port="imaps"):
    client = instance.raw(port, tls=port == "imaps")
    assert client.line().startswith("* OK")
    status, _ = client.imap(f'LOGIN {user} "{password}"')
    assert status.startswith("OK"), status
    return client


@pytest.fixture
def client(rootless):
    with login(rootless) as raw:
        yield raw


@pytest.fixture
def box(client):
    """A new, selected mailbox with three messages."""
    name = f"box-{random.getrandbits(40):x}"
    assert client.imap(f"CREATE {name}")[0].startswith("OK")
    for number in range(1, 4):
        append(client, name, message(f"subject {number}", BOB, ALICE, f"body {number}\r\n"))
    status, _ = client.imap(f"SELECT {name}")
    assert status.startswith("OK [READ-WRITE]")
    return name


def append(client, mailbox, text, flags=""):
    data = text.encode()
    client.send(f"ap APPEND {mailbox} {flags}{' ' if flags else ''}{{{len(data)}}}\r\n")
    assert client.line().startswith("+")
    client.send(data + b"\r\n")
    status, untagged = client.imap_answer("ap")
    assert status.startswith("OK"), status
    return status


def ok(answer):
    status, untagged = answer
    assert status.startswith("OK"), status
    return untagged


def fetch(client, what, items, uid=False):
    """{number: response text} of a FETCH."""
    found = {}
    for line in ok(client.imap(f"{'UID ' if uid else ''}FETCH {what} {items}")):
        match = re.match(r"\* (\d+) FETCH (.*)", line, re.S)
        if match:
            found[int(match[1])] = match[2]
    return found


# --- before login ---------------------------------------------------------------------------------
def test_capabilities(rootless):
    with rootless.raw("imap") as client:
        client.line()
        text = ok(client.imap("CAPABILITY"))[0]
        for word in ("IMAP4rev1", "STARTTLS", "LITERAL+", "ID"):
            assert word in text.split()
        assert "AUTH=PLAIN" in text.split()  # loopback
    with login(rootless) as client:
        words = ok(client.imap("CAPABILITY"))[0].split()
        for word in ("IMAP4rev1", "IDLE", "UIDPLUS", "NAMESPACE", "UNSELECT", "LITERAL+", "ID"):
            assert word in words


def test_starttls_then_login(rootless):
    with rootless.raw("imap") as client:
        client.line()
        ok(client.imap("STARTTLS"))
        client.starttls()
        assert "STARTTLS" not in ok(client.imap("CAPABILITY"))[0]
        ok(client.imap(f"LOGIN {BOB} bob-password"))


def test_starttls_discards_what_was_pipelined_behind_it(rootless):
    with rootless.raw("imap") as client:
        client.line()
        client.send(f"a STARTTLS\r\nb LOGIN {BOB} bob-password\r\n")
        assert client.imap_answer("a")[0].startswith("OK")
        try:
            client.starttls()
        except OSError:
            return
        assert client.imap("SELECT INBOX")[0].startswith(("BAD", "NO"))


def test_commands_before_login_are_refused(rootless):
    with rootless.raw("imaps", tls=True) as client:
        client.line()
        for command in ("SELECT INBOX", "LIST \"\" *", "FETCH 1 FLAGS", "CREATE x", "IDLE"):
            assert client.imap(command)[0].startswith(("BAD", "NO")), command


def test_login_failures_are_no_and_alike(rootless):
    with rootless.raw("imaps", tls=True) as client:
        client.line()
        one, _ = client.imap(f"LOGIN {BOB} wrong")
        two, _ = client.imap("LOGIN nobody-here@example.test wrong")
        assert one.startswith("NO") and one == two
        ok(client.imap(f"LOGIN {BOB} bob-password"))


def test_login_with_literals(rootless):
    with rootless.raw("imaps", tls=True) as client:
        client.line()
        client.send(f"a LOGIN {{{len(BOB)}}}\r\n")
        assert client.line().startswith("+")
        client.send(f"{BOB} {{12}}\r\n")
        assert client.line().startswith("+")
        client.send("bob-password\r\n")
        assert client.imap_answer("a")[0].startswith("OK")


def test_login_with_nonsynchronizing_literals(rootless):
    with rootless.raw("imaps", tls=True) as client:
        client.line()
        client.send(f"a LOGIN {{{len(BOB)}+}}\r\n{BOB} {{12+}}\r\nbob-password\r\n"
                    "b SELECT INBOX\r\nc LOGOUT\r\n")
        assert client.imap_answer("a")[0].startswith("OK")
        assert client.imap_answer("b")[0].startswith("OK")
        assert client.imap_answer("c")[0].startswith("OK")


def test_authenticate_plain(rootless):
    import base64
    token = base64.b64encode(f"\0{BOB}\0bob-password".encode()).decode()
    with rootless.raw("imaps", tls=True) as client:
        client.line()
        client.send("a AUTHENTICATE PLAIN\r\n")
        assert client.line().startswith("+")
        client.send(token + "\r\n")
        assert client.imap_answer("a")[0].startswith("OK")


def test_a_cancelled_authenticate_is_bad(rootless):
    with rootless.raw("imaps", tls=True) as client:
        client.line()
        client.send("a AUTHENTICATE PLAIN\r\n")
        assert client.line().startswith("+")
        client.send("*\r\n")
        assert client.imap_answer("a")[0].startswith("BAD")


def test_logout_says_bye(rootless):
    with login(rootless) as client:
        untagged = ok(client.imap("LOGOUT"))
        assert untagged[0].startswith("* BYE")
        assert client.ended()


# --- mailboxes ------------------------------------------------------------------------------------
def test_create_list_rename_delete(client):
    name = f"folder-{random.getrandbits(40):x}"
    ok(client.imap(f"CREATE {name}"))
    assert client.imap(f"CREATE {name}")[0].startswith("NO")
    assert name in "".join(ok(client.imap(f'LIST "" {name}')))
    ok(client.imap(f"RENAME {name} {name}-new"))
    assert ok(client.imap(f'LIST "" {name}')) == []
    ok(client.imap(f"DELETE {name}-new"))
    assert client.imap(f"SELECT {name}-new")[0].startswith("NO")
    assert client.imap(f"DELETE {name}-new")[0].startswith("NO")


def test_list_wildcards_and_hierarchy(client):
    root = f"r{random.getrandbits(40):x}"
    sep = re.search(r'LIST \([^)]*\) "(.)"', ok(client.imap('LIST "" ""'))[0])[1]
    for name in (root, f"{root}{sep}a", f"{root}{sep}a{sep}b"):
        ok(client.imap(f"CREATE {name}"))
    names = {line.rsplit(" ", 1)[1].strip('"') for line in ok(client.imap(f'LIST "" {root}{sep}%'))}
    assert names == {f"{root}{sep}a"}
    names = {line.rsplit(" ", 1)[1].strip('"') for line in ok(client.imap(f'LIST "" {root}*'))}
    assert names == {root, f"{root}{sep}a", f"{root}{sep}a{sep}b"}
    ok(client.imap(f"RENAME {root} {root}x"))
    names = {line.rsplit(" ", 1)[1].strip('"') for line in ok(client.imap(f'LIST "" {root}x*'))}
    assert names == {f"{root}x", f"{root}x{sep}a", f"{root}x{sep}a{sep}b"}


def test_subscribe_and_lsub(client):
    name = f"sub-{random.getrandbits(40):x}"
    ok(client.imap(f"CREATE {name}"))
    ok(client.imap(f"SUBSCRIBE {name}"))
    assert name in "".join(ok(client.imap('LSUB "" *')))
    ok(client.imap(f"UNSUBSCRIBE {name}"))
    assert name not in "".join(ok(client.imap('LSUB "" *')))


def test_inbox_is_any_case_and_cannot_be_deleted(client):
    ok(client.imap("SELECT inbox"))
    ok(client.imap("SELECT InBoX"))
    assert client.imap("DELETE INBOX")[0].startswith("NO")


@pytest.mark.parametrize("name", ["../../bob", "..", ".", "a/../../x", "/etc", '"a\\\\b"', "~root",
                                  '"a%b"', '""'])
def test_odd_names_never_leave_the_mailbox(client, rootless, name):
    status, _ = client.imap(f"CREATE {name}")
    assert status.startswith(("OK", "NO", "BAD"))
    import os
    assert sorted(os.listdir(rootless.path("mail/example.test"))) in (
        ["alice", "bob"], ["bob"], ["alice"])
    ok(client.imap("NOOP"))


def test_names_in_modified_utf7(client):
    ok(client.imap('CREATE "Entw&APw-rfe"'))
    assert "Entw&APw-rfe" in "".join(ok(client.imap('LIST "" "Entw*"')))
    ok(client.imap('SELECT "Entw&APw-rfe"'))
    ok(client.imap('DELETE "Entw&APw-rfe"'))


def test_status_items(client, box):
    untagged = ok(client.imap(f"STATUS {box} (MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN)"))
    text = untagged[0]
    assert re.search(r"MESSAGES 3\b", text) and re.search(r"UIDNEXT 4\b", text)
    assert re.search(r"UNSEEN 3\b", text) and re.search(r"UIDVALIDITY [1-9]\d*", text)


def test_select_gives_what_rfc_3501_requires(client, box):
    text = "\n".join(ok(client.imap(f"SELECT {box}")))
    for pattern in (r"\* FLAGS \(", r"\* 3 EXISTS", r"\* \d+ RECENT", r"\[UIDVALIDITY \d+\]",
                    r"\[UIDNEXT 4\]", r"\[PERMANENTFLAGS \(.*\\\*.*\)\]", r"\[UNSEEN 1\]"):
        assert re.search(pattern, text), (pattern, text)


def test_examine_is_read_only(client, box):
    status, _ = client.imap(f"EXAMINE {box}")
    assert status.startswith("OK [READ-ONLY]")
    assert client.imap(r"STORE 1 +FLAGS (\Seen)")[0].startswith("NO")
    ok(client.imap("FETCH 1 BODY[]"))
    ok(client.imap(f"SELECT {box}"))
    assert r"\Seen" not in fetch(client, "1", "FLAGS")[1]


def test_select_of_nothing_unselects(client, box):
    assert client.imap("SELECT does-not-exist")[0].startswith("NO")
    assert client.imap("FETCH 1 FLAGS")[0].startswith(("BAD", "NO"))


def test_unselect_keeps_deleted_messages_and_close_expunges(client, box):
    ok(client.imap(r"STORE 1 +FLAGS.SILENT (\Deleted)"))
    ok(client.imap("UNSELECT"))
    assert "* 3 EXISTS" in ok(client.imap(f"SELECT {box}"))
    assert not [line for line in ok(client.imap("CLOSE")) if "EXPUNGE" in line]
    assert "* 2 EXISTS" in ok(client.imap(f"SELECT {box}"))


def test_namespace_and_id(client):
    assert ok(client.imap("NAMESPACE"))[0].startswith("* NAMESPACE ((")
    assert ok(client.imap('ID ("name" "a test")'))[0].startswith("* ID ")
    ok(client.imap("ID NIL"))


# --- messages -------------------------------------------------------------------------------------
def test_append_gives_appenduid_and_keeps_flags_and_date(client, box):
    text = message("appended", BOB, ALICE, "x\r\n")
    status = append(client, box, text, r'(\Seen \Flagged $label) "01-Feb-2020 10:20:30 +0100"')
    uid = re.search(r"\[APPENDUID \d+ (\d+)\]", status)[1]
    got = fetch(client, uid, "(FLAGS INTERNALDATE RFC822.SIZE)", uid=True)[4]
    assert r"\Seen" in got and r"\Flagged" in got and "$label" in got
    assert '" 1-Feb-2020 09:20:30 +0000"' in got
    assert f"RFC822.SIZE {len(text)}" in got


def test_append_to_nothing_is_trycreate(client):
    client.send("a APPEND does-not-exist {3}\r\n")
    line = client.line()
    if line.startswith("+"):
        client.send("x\r\n\r\n")
        line = client.imap_answer("a")[0]
    assert "NO [TRYCREATE]" in line
    ok(client.imap("NOOP"))


def test_append_comes_back_byte_for_byte(client, box):
    text = message("exact", BOB, ALICE, "a\r\n.\r\n\r\n\tb  \r\n" + "x" * 3000)
    append(client, box, text)
    ok(client.imap("NOOP"))
    client.send("t FETCH 4 BODY.PEEK[]\r\n")
    line = client.line()
    size = int(re.search(r"\{(\d+)\}$", line)[1])
    assert client.exactly(size) == text.encode()


def test_fetch_sections_and_partials(client, box):
    client.imap("NOOP")
    text = fetch(client, "1", "BODY.PEEK[HEADER.FIELDS (SUBJECT)]")[1]
    assert "Subject: subject 1" in text and "From:" not in text
    text = fetch(client, "1", "BODY.PEEK[HEADER.FIELDS.NOT (SUBJECT)]")[1]
    assert "Subject:" not in text and "From:" in text
    assert "body 1" in fetch(client, "1", "BODY.PEEK[TEXT]")[1]
    assert "BODY[TEXT]<2> {3}\r\ndy " in fetch(client, "1", "BODY.PEEK[TEXT]<2.3>")[1]
    assert re.search(r'BODY\[TEXT\]<99> (""|\{0\}\r\n)', fetch(client, "1", "BODY.PEEK[TEXT]<99.3>")[1])
    assert "body 1" in fetch(client, "1", "BODY.PEEK[1]")[1]


def test_fetch_of_a_body_sets_seen_and_peek_does_not(client, box):
    fetch(client, "1", "BODY.PEEK[]")
    assert r"\Seen" not in fetch(client, "1", "FLAGS")[1]
    got = fetch(client, "1", "BODY[]")
    assert r"\Seen" in got[1] or r"\Seen" in fetch(client, "1", "FLAGS")[1]


def test_fetch_macros(client, box):
    assert "ENVELOPE" in fetch(client, "1", "ALL")[1]
    assert "RFC822.SIZE" in fetch(client, "1", "FAST")[1]
    assert "BODY (" in fetch(client, "1", "FULL")[1]


def test_envelope(client, box):
    text = fetch(client, "1", "ENVELOPE")[1]
    assert '"subject 1"' in text
    assert '((NIL NIL "alice" "example.test"))' in text


MULTIPART = """From: <alice@example.test>\r
To: <bob@example.test>\r
Subject: parts\r
MIME-Version: 1.0\r
Content-Type: multipart/mixed; boundary="b1"\r
\r
preamble\r
--b1\r
Content-Type: text/plain; charset=utf-8\r
Content-Transfer-Encoding: quoted-printable\r
\r
first =C3=A4\r
--b1\r
Content-Type: message/rfc822\r
\r
From: <inner@example.test>\r
Subject: inner subject\r
\r
inner body\r
--b1\r
Content-Type: application/octet-stream; name=x.bin\r
Content-Disposition: attachment; filename=x.bin\r
Content-Transfer-Encoding: base64\r
\r
AAEC\r
--b1--\r
"""


def test_bodystructure_and_parts_of_a_multipart(client, box):
    append(client, box, MULTIPART)
    ok(client.imap("NOOP"))
    text = fetch(client, "4", "BODYSTRUCTURE")[4]
    for pattern in (r'\("TEXT" "PLAIN" \("CHARSET" "utf-8"\)', r'"MESSAGE" "RFC822"',
                    r'"inner subject"', r'"APPLICATION" "OCTET-STREAM" \("NAME" "x.bin"\)',
                    r'\("ATTACHMENT" \("FILENAME" "x.bin"\)\)', r'"MIXED" \("BOUNDARY" "b1"\)'):
        assert re.search(pattern, text, re.I), (pattern, text)
    assert "first =C3=A4" in fetch(client, "4", "BODY.PEEK[1]")[4]
    assert "quoted-printable" in fetch(client, "4", "BODY.PEEK[1.MIME]")[4]
    assert "Subject: inner subject" in fetch(client, "4", "BODY.PEEK[2.HEADER]")[4]
    assert "inner body" in fetch(client, "4", "BODY.PEEK[2.TEXT]")[4]
    assert "inner body" in fetch(client, "4", "BODY.PEEK[2.1]")[4]
    assert "AAEC" in fetch(client, "4", "BODY.PEEK[3]")[4]
    assert "BODY[9] NIL" in fetch(client, "4", "BODY.PEEK[9]")[4] or \
        re.search(r'BODY\[9\] ("")', fetch(client, "4", "BODY.PEEK[9]")[4])


def test_store_replaces_adds_and_removes(client, box):
    assert re.search(r"FLAGS \(.*\\Flagged.*\)", "".join(ok(client.imap(r"STORE 1 +FLAGS (\Flagged)"))))
    ok(client.imap(r"STORE 1 +FLAGS (keyword)"))
    text = fetch(client, "1", "FLAGS")[1]
    assert r"\Flagged" in text and "keyword" in text
    ok(client.imap(r"STORE 1 -FLAGS (\Flagged)"))
    assert r"\Flagged" not in fetch(client, "1", "FLAGS")[1]
    ok(client.imap(r"STORE 1 FLAGS (\Draft)"))
    text = fetch(client, "1", "FLAGS")[1]
    assert r"\Draft" in text and "keyword" not in text
    assert not [u for u in ok(client.imap(r"STORE 1 FLAGS.SILENT ()")) if "FETCH" in u]


def test_expunge_numbers_shift_and_uids_stay(client, box):
    ok(client.imap(r"STORE 1:2 +FLAGS.SILENT (\Deleted)"))
    assert [u for u in ok(client.imap("EXPUNGE")) if "EXPUNGE" in u] in (
        ["* 1 EXPUNGE", "* 1 EXPUNGE"], ["* 2 EXPUNGE", "* 1 EXPUNGE"])
    assert "UID 3" in fetch(client, "1", "UID")[1]
    append(client, box, message("next", BOB, ALICE, "x\r\n"))
    ok(client.imap("NOOP"))
    assert "UID 4" in fetch(client, "2", "UID")[2]


def test_uid_expunge_takes_only_the_named(client, box):
    ok(client.imap(r"STORE 1:3 +FLAGS.SILENT (\Deleted)"))
    assert [u for u in ok(client.imap("UID EXPUNGE 2")) if "EXPUNGE" in u] == ["* 2 EXPUNGE"]
    assert "* 2 EXISTS" in ok(client.imap(f"SELECT {box}"))


def test_copy_gives_copyuid(client, box):
    ok(client.imap(f"CREATE {box}-copy"))
    ok(client.imap(r"STORE 2 +FLAGS (\Flagged)"))
    status, _ = client.imap(f"COPY 2:3 {box}-copy")
    assert re.search(r"OK \[COPYUID \d+ 2:3 1:2\]", status)
    ok(client.imap(f"SELECT {box}-copy"))
    got = fetch(client, "1:*", "(FLAGS BODY.PEEK[TEXT])")
    assert "body 2" in got[1] and r"\Flagged" in got[1] and "body 3" in got[2]
    assert client.imap("COPY 1 does-not-exist")[0].startswith("NO [TRYCREATE]")


def test_uid_commands(client, box):
    assert len(fetch(client, "1:*", "FLAGS", uid=True)) == 3
    assert "UID 2" in fetch(client, "2", "FLAGS", uid=True)[2]
    assert fetch(client, "100:200", "FLAGS", uid=True) == {}
    assert len(fetch(client, "100:*", "FLAGS", uid=True)) == 1  # RFC 3501 §6.4.8: * counts
    ok(client.imap(r"UID STORE 2 +FLAGS (\Seen)"))
    assert ok(client.imap("UID SEARCH SEEN")) == ["* SEARCH 2"]


@pytest.mark.parametrize("key,numbers", [
    ("ALL", "1 2 3"), ("SUBJECT \"subject 2\"", "2"), ("BODY \"body 3\"", "3"),
    ("TEXT subject", "1 2 3"), ("NOT SUBJECT 2", "1 3"), ("OR SUBJECT 1 SUBJECT 3", "1 3"),
    ("1:2 SUBJECT 2", "2"), ("UID 3", "3"), ("(SUBJECT 1 FROM alice)", "1"), ("FROM nobody", ""),
    ("SEEN", ""), ("UNSEEN", "1 2 3"), ("LARGER 10", "1 2 3"), ("SMALLER 10", ""),
    ("SINCE 1-Jan-2020", "1 2 3"), ("BEFORE 1-Jan-2020", ""), ("SENTON 21-Nov-2026", "1 2 3"),
    ("HEADER Subject \"subject 1\"", "1"), ("TO bob", "1 2 3"), ("UNKEYWORD x", "1 2 3"),
    ("CHARSET UTF-8 SUBJECT 2", "2"), ("*", "3"), ("UNDELETED UNFLAGGED", "1 2 3"),
])
def test_search(client, box, key, numbers):
    found = [u for u in ok(client.imap(f"SEARCH {key}")) if u.startswith("* SEARCH")]
    assert found == [f"* SEARCH {numbers}".rstrip()]


def test_search_in_an_unknown_charset_is_badcharset(client, box):
    assert client.imap("SEARCH CHARSET X-NONE SUBJECT a")[0].startswith("NO [BADCHARSET")


# --- pushes ---------------------------------------------------------------------------------------
def test_idle_hears_a_delivery_at_once(rootless):
    with login(rootless) as client:
        ok(client.imap("SELECT INBOX"))
        client.send("i IDLE\r\n")
        assert client.line().startswith("+")
        rootless.send("for the idle", to=BOB)
        started = time.monotonic()
        line = client.line()
        while not re.match(r"\* \d+ EXISTS", line):
            line = client.line()
        assert time.monotonic() - started < 3 * SLOW
        client.send("DONE\r\n")
        assert client.imap_answer("i")[0].startswith("OK")


def test_noop_tells_of_a_delivery(rootless):
    with login(rootless) as client:
        ok(client.imap("SELECT INBOX"))
        rootless.send("for the noop", to=BOB)
        rootless.wait_mail("for the noop", BOB)
        wait_for("EXISTS", lambda: [u for u in ok(client.imap("NOOP")) if "EXISTS" in u])


def test_two_sessions_see_each_others_changes(rootless, client, box):
    with login(rootless) as other:
        ok(other.imap(f"SELECT {box}"))
        ok(other.imap(r"STORE 2 +FLAGS (\Flagged)"))
        seen = wait_for("the flag", lambda: [u for u in ok(client.imap("NOOP")) if "FETCH" in u])
        assert re.match(r"\* 2 FETCH .*\\Flagged", seen[0])
        ok(other.imap(r"STORE 1 +FLAGS (\Deleted)"))
        ok(other.imap("EXPUNGE"))
        wait_for("EXPUNGE", lambda: "* 1 EXPUNGE" in ok(client.imap("NOOP")))
        append(other, box, message("from the other", BOB, ALICE, "x\r\n"))
        wait_for("EXISTS", lambda: "* 3 EXISTS" in ok(client.imap("NOOP")))


def test_idle_hears_flags_and_expunges_of_another_session(rootless, client, box):
    with login(rootless) as other:
        ok(other.imap(f"SELECT {box}"))
        client.send("i IDLE\r\n")
        assert client.line().startswith("+")
        ok(other.imap(r"STORE 1 +FLAGS (\Deleted)"))
        ok(other.imap("EXPUNGE"))
        lines = []
        while "* 1 EXPUNGE" not in lines:
            lines.append(client.line())
        client.send("DONE\r\n")
        assert client.imap_answer("i")[0].startswith("OK")


@pytest.mark.parametrize("seed", [1, 2])
def test_message_numbers_agree_among_sessions_that_change_a_mailbox_at_once(
        rootless, client, box, seed):
    """Every session applies what it is told (RFC 3501 §7.4.1) and must never be contradicted."""
    rnd = random.Random(seed)
    views = []
    for _ in range(4):
        session = login(rootless)
        ok(session.imap(f"SELECT {box}"))
        views.append((session, list(fetch_uids(session))))

    def apply(uids, lines):
        for line in lines:
            match = re.match(r"\* (\d+) (EXISTS|EXPUNGE|FETCH)", line)
            number, what = match.groups() if match else (0, None)
            if what == "EXISTS":
                assert int(number) >= len(uids)
                uids += [None] * (int(number) - len(uids))
            elif what == "EXPUNGE":
                del uids[int(number) - 1]
            elif what == "FETCH":
                assert int(number) <= len(uids)
                uid = re.search(r"\bUID (\d+)", line)
                if uid:
                    assert uids[int(number) - 1] in (None, uid[1])
                    uids[int(number) - 1] = uid[1]

    for step in range(250):
        session, uids = rnd.choice(views)
        here = rnd.randrange(len(uids)) + 1 if uids else None
        command = rnd.choice((f"COPY {here} {box}", f"COPY {here} {box}", "NOOP", "EXPUNGE",
                              f"STORE {here} +FLAGS (\\Deleted)", "FETCH 1:* UID",
                              "UID FETCH 1:* FLAGS", f"STORE {here} FLAGS (k{step % 7})"))
        if here is None:
            command = "NOOP"
        status, lines = session.imap(command)
        assert not status.startswith("BAD"), (command, status)
        if command.startswith(("STORE", "FETCH")):
            assert not [line for line in lines if line.endswith("EXPUNGE")], command
        apply(uids, lines)
    for session, uids in views:
        apply(uids, ok(session.imap("NOOP")))
        apply(uids, ok(session.imap("UID FETCH 1:* FLAGS")))
    assert all(uids == views[0][1] for _, uids in views)
    for session, _ in views:
        session.close()


def fetch_uids(session):
    return [re.search(r"UID (\d+)", text)[1]
            for text in fetch(session, "1:*", "UID").values()]


def test_no_expunge_during_fetch(rootless, client, box):
    """RFC 3501 §7.4.1: not while FETCH, STORE or SEARCH is answered."""
    with login(rootless) as other:
        ok(other.imap(f"SELECT {box}"))
        ok(other.imap(r"STORE 1 +FLAGS (\Deleted)"))
        ok(other.imap("EXPUNGE"))
        time.sleep(0.3)
        for command in ("FETCH 2:3 FLAGS", "STORE 2 +FLAGS.SILENT (x)", "SEARCH ALL"):
            status, untagged = client.imap(command)
            assert not [u for u in untagged if "EXPUNGE" in u], command


# --- hostile --------------------------------------------------------------------------------------
def test_pipelined_commands_are_answered_in_order(client, box):
    client.send("".join(f"p{n} NOOP\r\n" for n in range(100)))
    for number in range(100):
        assert client.imap_answer(f"p{number}")[0].startswith("OK")


@pytest.mark.parametrize("command", [
    "FROB", "FETCH", "FETCH 1", "FETCH 0 FLAGS", "FETCH a FLAGS", "FETCH 1 (FLAGS", "STORE 1 FLAGS",
    "SEARCH", "SEARCH FROB", "SEARCH OR SEEN", "UID", "UID FROB 1", "LIST", "SELECT", "COPY 1",
    "FETCH 99999999999999999999 FLAGS", "FETCH 1:2: FLAGS", "SELECT \"unclosed", "STATUS INBOX ()",
    "FETCH 1 BODY[", "FETCH 1 BODY[1.FROB]", "FETCH 1 BODY[]<1.0>", "APPEND INBOX", "SEARCH " + "(" * 500,
])
def test_syntax_errors_are_bad_and_the_session_goes_on(client, box, command):
    status, _ = client.imap(command)
    assert status.startswith("BAD"), (command, status)
    ok(client.imap("NOOP"))


def test_a_line_without_a_tag_is_bad(client):
    client.send("\r\n")
    line = client.line()
    assert line.startswith("* BAD")
    ok(client.imap("NOOP"))


@pytest.mark.parametrize("literal", ["{99999999999}", "{4294967296}", "{99999999999999999999999}"])
def test_an_enormous_literal_is_refused_without_waiting_for_it(client, literal):
    client.send(f"a APPEND INBOX {literal}\r\n")
    assert client.imap_answer("a")[0].startswith(("NO", "BAD"))
    ok(client.imap("NOOP"))


def test_an_enormous_literal_before_login_is_refused(rootless):
    with rootless.raw("imaps", tls=True) as client:
        client.line()
        client.send("a LOGIN {1000000}\r\n")
        line = client.line()
        assert line.startswith(("a BAD", "a NO", "* BYE"))


def test_an_endless_line_costs_only_its_own_session(rootless):
    with login(rootless) as client:
        try:
            for _ in range(200):
                client.send(b"x" * 65536)
        except OSError:
            pass
    with login(rootless) as client:
        ok(client.imap("SELECT INBOX"))


def test_random_bytes_cost_only_their_session(rootless):
    for seed in range(30):
        source = random.Random(seed)
        with (login(rootless) if seed % 2 else rootless.raw("imap")) as client:
            try:
                client.send(source.randbytes(source.randrange(1, 3000)))
                client.send(b"\r\n" * 3)
            except OSError:
                pass
    with login(rootless) as client:
        ok(client.imap("SELECT INBOX"))
    for role in ("imap-login", "imap-session"):
        assert all(p["restarts"] == 0 for p in rootless.processes(role))


def test_disconnects_end_their_session_processes(rootless):
    def name(pid):
        try:
            with open(f"/proc/{pid}/comm", encoding="ascii") as file:
                return file.read()
        except OSError:  # it has ended since
            return ""

    def sessions():
        return [pid for pid in rootless.family() if "imap" in name(pid)]
    before = len(sessions())
    clients = [login(rootless, port="imap") for _ in range(10)]
    for client in clients:
        ok(client.imap("SELECT INBOX"))
    assert len(sessions()) >= before + 10
    for client in clients:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
    wait_for("their ends", lambda: len(sessions()) <= before)


def test_one_user_cannot_see_anothers_mail(rootless):
    rootless.send("for alice only", to=ALICE)
    rootless.wait_mail("for alice only")
    with login(rootless, BOB) as client:
        ok(client.imap("SELECT INBOX"))
        assert ok(client.imap('SEARCH SUBJECT "for alice only"')) == ["* SEARCH"]
        for name in ("../alice", "alice", "user/alice", "~alice/INBOX", "#shared/alice"):
            assert client.imap(f'SELECT "{name}"')[0].startswith(("NO", "BAD"))
