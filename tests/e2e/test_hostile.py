"""Messages and folder names that are made to hurt, over a socket."""
import base64
import os
import random

import pytest

from test_imap import login, ok
from veredus import BOB, wait_for

MANY = 10000


def unique(text):
    return f"{text}-{random.getrandbits(32):x}"


def put(client, folder, data):
    client.send(f"ap APPEND {folder} {{{len(data)}+}}\r\n".encode() + data + b"\r\n")
    status = client.imap_answer("ap")[0]
    assert status.startswith("OK"), status


def many_parts():
    return (b"Subject: many\r\nMIME-Version: 1.0\r\n"
            b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" +
            b"--b\r\nContent-Type: text/plain\r\n\r\npart\r\n" * MANY + b"--b--\r\n")


def nested_parts():
    return (b"Subject: deep\r\nMIME-Version: 1.0\r\n" +
            b"".join(b"Content-Type: multipart/mixed; boundary=\"b%d\"\r\n\r\n--b%d\r\n" % (i, i)
                     for i in range(1000)) + b"\r\nthe bottom\r\n")


def nested_messages():
    return b"Content-Type: message/rfc822\r\n\r\n" * 1000 + b"Subject: innermost\r\n\r\nx\r\n"


def bad_bytes():
    return (b"Subject: =?utf-8?B?####?= =?nowhere?Q?=ZZ=?= \xff\xfe\r\nFrom: <\xff@\x01\r\n"
            b"Date: Fri, 99 Abc 99999 99:99:99 +9999\r\nMIME-Version: 1.0\r\n"
            b"Content-Type: text/plain; charset=\"no such thing\"; =; x*9999999=1\r\n"
            b"Content-Transfer-Encoding: base64\r\n\r\n!!!! \x80\xff ====\r\n")


@pytest.mark.parametrize("make", [many_parts, nested_parts, nested_messages, bad_bytes])
def test_a_hostile_message_is_fetched_whole_and_the_session_lives_on(rootless, make):
    data, folder = make(), unique("hostile")
    with login(rootless) as client:
        ok(client.imap(f"CREATE {folder}"))
        put(client, folder, data)
        ok(client.imap(f"SELECT {folder}"))
        for item in ("BODYSTRUCTURE", "BODY", "ENVELOPE", "PREVIEW", "RFC822.SIZE", "THREADID",
                     "BODY.PEEK[1]", "BODY.PEEK[1.1.1.1.1.1.1.1]", "BODY.PEEK[9999]", "BODY.PEEK[1.MIME]",
                     "BODY.PEEK[" + ".".join(["1"] * 900) + "]",
                     "BODY.PEEK[HEADER.FIELDS (SUBJECT DATE)]"):
            answer, lines = client.imap(f"FETCH 1 ({item})")
            assert answer.startswith(("OK", "BAD")), (item, answer)
            assert not answer.startswith("OK") or any(" FETCH (" in line for line in lines), item
        client.send("t FETCH 1 (BODY.PEEK[])\r\n")
        assert client.line().endswith(f"BODY[] {{{len(data)}}}")
        assert client.exactly(len(data)) == data
        assert client.imap_answer()[0].startswith("OK")
        ok(client.imap('SEARCH TEXT "innermost"'))
        ok(client.imap("COPY 1 INBOX"))
    with login(rootless) as client:
        assert any("EXISTS" in line for line in ok(client.imap(f"SELECT {folder}")))


ITEMS = ("FLAGS", "UID", "INTERNALDATE", "RFC822.SIZE", "RFC822.HEADER", "RFC822.TEXT", "ENVELOPE", "BODY",
         "BODYSTRUCTURE", "PREVIEW", "EMAILID", "THREADID", "SAVEDATE", "BODY.PEEK[HEADER]",
         "BODY.PEEK[TEXT]<0.100>", "BODY.PEEK[]<999999999.10>", "BODY.PEEK[1.1.1.1]<5.5>",
         "BODY.PEEK[1.HEADER]", "BODY.PEEK[1.MIME]", "BODY.PEEK[HEADER.FIELDS.NOT (SUBJECT)]")
KEYS = ("TEXT nothing", "BODY nothing", "SUBJECT x", "FROM x", "HEADER Date x", "SENTBEFORE 1-Jan-2000",
        "BEFORE 1-Jan-1990", "LARGER 10", "NOT SENTSINCE 1-Jan-2030")


@pytest.mark.parametrize("make", [many_parts, nested_parts, nested_messages, bad_bytes,
                                  lambda: b"no header at all\r\n", lambda: b"\r\nonly a body\r\n",
                                  lambda: b"Subject\r\n\tx: y\r\n: z\r\n\r\nx\r\n"])
def test_hostile_messages_come_by_smtp_and_import(fresh, make):
    """And every item can be asked of them, and every kind of search meets them."""
    instance, data = fresh().start(), make()
    with instance.raw("smtp") as smtp:
        smtp.reply()
        for line in ("EHLO x.test", "MAIL FROM:<a@elsewhere.test>", f"RCPT TO:<{BOB}>"):
            smtp.send(line + "\r\n")
            assert smtp.reply()[0] == 250
        smtp.send("DATA\r\n")
        assert smtp.reply()[0] == 354
        smtp.send(b"\r\n".join(b"." + x if x[:1] == b"." else x for x in data.split(b"\r\n")) + b".\r\n")
        assert smtp.reply()[0] == 250
    wait_for("the delivery", lambda: instance.mail_files(BOB))
    mbox = os.path.join(instance.parent, "mbox")
    with open(mbox, "wb") as file:
        file.write(b"From x@x.test Sat Nov 21 02:00:00 2026\n" + data.replace(b"\r\n", b"\n") + b"\n")
    os.chmod(mbox, 0o644)
    assert "1 messages" in instance.veredus("mailbox", "import", BOB, "Imported", "mbox", mbox).stdout
    for folder in ("INBOX", "Imported"):
        with login(instance) as client:
            ok(client.imap(f"SELECT {folder}"))
            for item in ITEMS:
                lines = ok(client.imap(f"FETCH 1 ({item})"))
                assert any(line.startswith("* 1 FETCH (") for line in lines), (item, lines)
            for key in KEYS:
                assert any(x.startswith("* SEARCH") for x in ok(client.imap(f"SEARCH {key}"))), key
            client.send("t FETCH 1 (BODY.PEEK[])\r\n")
            size = int(client.line().rpartition("{")[2].rstrip("}"))
            # Delivery puts its fields before it; an mbox file ends a header by an empty line.
            assert client.exactly(size).rstrip(b"\r\n").endswith(data.rstrip(b"\r\n"))
            assert client.imap_answer()[0].startswith("OK")
    assert instance.veredus("mailbox", "verify", BOB).stdout.count("whole") == 2


def test_a_message_with_nul_is_delivered_only_as_imap_can_tell_it(rootless):
    """RFC 3501 literals have no NUL: refused, or fetched without; never a broken response."""
    data = b"Subject: a\0b\r\n\r\ntext\0more\r\n"
    with login(rootless) as client:
        client.send(f"ap APPEND INBOX {{{len(data)}+}}\r\n".encode() + data + b"\r\n")
        assert client.imap_answer("ap")[0].startswith(("OK", "NO", "BAD"))
        ok(client.imap("SELECT INBOX"))
        for line in ok(client.imap("FETCH * (ENVELOPE BODYSTRUCTURE PREVIEW)")):
            assert "\0" not in line
        ok(client.imap("NOOP"))


# --- names of folders -----------------------------------------------------------------------------
def utf7(name):
    """Modified UTF-7 (RFC 3501 section 5.1.3)."""
    out, wide = "", ""
    for char in name + "\0":
        if 0x20 <= ord(char) < 0x7f or char == "\0":
            if wide:
                coded = base64.b64encode(wide.encode("utf-16-be")).decode().rstrip("=")
                out, wide = out + "&" + coded.replace("/", ",") + "-", ""
            out += "" if char == "\0" else "&-" if char == "&" else char
        else:
            wide += char
    return out


def send_name(client, verb, *names, tag="n"):
    """Names as literals, so that every byte may stand in them."""
    command = f"{tag} {verb}".encode()
    for name in names:
        command += b" {%d+}\r\n" % len(name) + name
    client.send(command + b"\r\n")
    return client.imap_answer(tag)[0]


def names_listed(client):
    names = set()
    for line in ok(client.imap('LIST "" "*"')):
        name = line.split(' "/" ', 1)[1]
        if name.startswith('"'):
            name = name[1:-1].replace('\\"', '"').replace("\\\\", "\\")
        names.add(name)
    return names


def test_every_byte_in_a_name_is_a_folder_or_refused(fresh):
    instance = fresh().start()
    with login(instance) as client:
        made = set()
        for byte in range(1, 256):
            name = b"x" + bytes([byte]) + b"y"
            answer = send_name(client, "CREATE", name)
            legal = 0x20 <= byte < 0x7f and chr(byte) not in "&"
            assert answer.startswith("OK" if legal else ("NO", "BAD")), (byte, answer)
            if legal:
                made.add(name.decode())
            if byte % 15 == 0:
                ok(client.imap("NOOP"))  # bad commands in a row end a session
        assert made <= names_listed(client)
        for name in made - {"x/y"}:
            assert send_name(client, "RENAME", name.encode(), b"r" + name.encode()).startswith("OK")
            assert send_name(client, "SELECT", b"r" + name.encode()).startswith("OK"), name
        assert {"r" + name for name in made - {"x/y"}} <= names_listed(client)
        for name in made - {"x/y"}:
            assert send_name(client, "DELETE", b"r" + name.encode()).startswith("OK"), name


@pytest.mark.parametrize("name", ["Entw\u00fcrfe", "\u53f0\u5317/\u65e5\u672c\u8a9e", "\U0001f600.x", "A&B",
                                  "a b", "~x", "%", "*x", '"quoted"', "back\\slash", "tail.", ".head"])
def test_names_of_the_world(rootless, name):
    name = f"{name}{random.getrandbits(24):x}"
    coded = utf7(name)
    with login(rootless) as client:
        assert send_name(client, "CREATE", coded.encode()).startswith("OK")
        assert coded in names_listed(client)
        assert send_name(client, "SUBSCRIBE", coded.encode()).startswith("OK")
        assert send_name(client, "RENAME", coded.encode(), coded.encode() + b"-2").startswith("OK")
        assert send_name(client, "SELECT", coded.encode() + b"-2").startswith("OK")
        assert send_name(client, "CREATE", (coded + "-2").encode()).startswith("NO")
    listed = rootless.veredus("mailbox", "list", BOB).stdout
    assert name + "-2" in listed


def test_paths_lead_nowhere(fresh):
    """Whatever a name looks like, its folder lies in the mail directory."""
    instance = fresh().start()
    names = [b"..", b"../..", b"../../alice", b"../alice/.x", b"/etc/passwd", b"a/../../b", b".", b"./x",
             b"x/.", b"~root", b"~/x", b"&AC8-", b"&AC4ALg-", b"x&AAA-y", b"&AGE-", b"&", b"&AC8", b"a//b",
             b"/", b"//", b"", b"a/", b"cur", b"new", b"tmp", b"veredus.index", b".veredus.log",
             b"veredus.deleted/INBOX", b"x" * 250, b"x" * 300, b"y/" * 200 + b"y", b"&ZeVnLIqe" * 30 + b"-"]
    with login(instance) as client:
        for name in names:
            answer = send_name(client, "CREATE", name)
            assert answer.startswith(("OK", "NO", "BAD")), (name, answer)
            for verb, others in (("SELECT", ()), ("STATUS", ()), ("SUBSCRIBE", ()),
                                 ("RENAME", (b"to/" + name[:20],)), ("DELETE", ())):
                if verb != "STATUS":
                    status = send_name(client, verb, name, *others)
                    assert status.startswith(("OK", "NO", "BAD")), (verb, name, status)
            ok(client.imap("NOOP"))
        ok(client.imap("SELECT INBOX"))
    root = instance.path("mail")
    assert set(os.listdir(root)) <= {
        "example.test", "veredus.shares", "veredus.housekept"}
    assert set(os.listdir(os.path.join(root, "example.test"))) <= {"alice", "bob"}
    assert not os.path.exists(os.path.join(root, "example.test/alice/.x"))
    for entry in os.listdir(os.path.join(root, "example.test/bob")):
        assert entry in ("cur", "new", "tmp") or entry.startswith((".", "veredus."))
