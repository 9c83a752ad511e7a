"""Other programs on the same Maildir while mail arrives: Dovecot, mbsync, mutt and our IMAP change flags
and expunge in turn, and all see the same. `account` has the address, the account and the directory
for the programs' own files, the Maildir, and whose password opens it."""
import os
import re
import subprocess
import threading

import pytest

from test_local import send
from veredus import PASSWORDS, wait_for

DOVECOT = "/usr/lib/dovecot/imap"


def as_account(account, *command, text=None):
    become = ["setpriv", f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups", "--"]
    result = subprocess.run([*(become if os.getuid() == 0 else []), *command], check=False,
                            input=text.encode() if text else None, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, timeout=60, cwd=account.home,
                            env={"HOME": account.home, "USER": account.name,
                                 "PATH": "/usr/bin:/bin"})
    # One character a byte, and line ends as they are.
    output = result.stdout.decode("latin-1")
    assert result.returncode == 0, output
    return output


def dovecot(account, *lines):
    if not os.access(DOVECOT, os.X_OK):
        pytest.skip("dovecot-imapd is not installed")
    account.put("dovecot.conf", f"base_dir = {account.home}/run\nlog_path = {account.home}/log\n"
                                f"ssl = no\nmail_location = maildir:{account.maildir}\n"
                                "first_valid_uid = 1\nprotocols = imap\n", mode=0o644)
    commands = ["s SELECT INBOX", *(f"c{n} {line}" for n, line in enumerate(lines)), "z LOGOUT"]
    return as_account(account, DOVECOT, "-c", account.path("dovecot.conf"),
                      text="\r\n".join(commands) + "\r\n")


FETCH = "(FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])"


def parse(text):
    found = re.findall(r"\(FLAGS \(([^)]*)\).*?Subject: ([^\r\n]*)", text, re.S)
    assert len({subject for _, subject in found}) == len(found), text
    return {subject: set(flags.split()) - {"\\Recent"} for flags, subject in found}


def theirs(account):
    return parse(dovecot(account, "FETCH 1:* " + FETCH))


def ours(host, account):
    client = host.imap_client(account.address, PASSWORDS[account.login])
    client.select("INBOX")
    data = client.fetch("1:*", FETCH)[1]
    client.logout()
    return parse("\n".join((d[0] + b"\n" + d[1]).decode() for d in data if isinstance(d, tuple)))


def number_of(client, subject):
    return client.search(None, "SUBJECT", f'"{subject}"')[1][0].split()[0]


def ours_changes(host, account, flag, expunge):
    client = host.imap_client(account.address, PASSWORDS[account.login])
    client.select("INBOX")
    client.store(number_of(client, flag), "+FLAGS", r"(\Answered)")
    client.store(number_of(client, expunge), "+FLAGS", r"(\Deleted)")
    client.expunge()
    client.logout()


def theirs_changes(account, flag, expunge):
    listed = re.findall(r"\* (\d+) FETCH .*?Subject: ([^\r\n]*)",
                        dovecot(account, "FETCH 1:* " + FETCH), re.S)
    numbers = {subject: number for number, subject in listed}
    dovecot(account, rf"STORE {numbers[flag]} +FLAGS (\Flagged \Seen)",
            rf"STORE {numbers[expunge]} +FLAGS (\Deleted)", "EXPUNGE")


def dovecot_and_we_change_one_maildir(host, account):
    first = [send(host, account, f"first {n}") for n in range(12)]
    wait_for("the mail", lambda: all(account.has(s) for s in first))
    assert theirs(account).keys() == ours(host, account).keys() == set(first)
    later = []
    feeder = threading.Thread(target=lambda: later.extend(
        send(host, account, f"later {n}") for n in range(20)))
    feeder.start()
    try:
        for n in range(0, 12, 4):
            theirs_changes(account, first[n], first[n + 1])
            ours_changes(host, account, first[n + 2], first[n + 3])
    finally:
        feeder.join()
    wait_for("the mail", lambda: all(account.has(s) for s in later))
    want = {subject: set() for subject in later}
    for n in range(0, 12, 4):
        want[first[n]] = {"\\Flagged", "\\Seen"}
        want[first[n + 2]] = {"\\Answered"}
    wait_for("the same for us", lambda: ours(host, account) == want)
    wait_for("the same for Dovecot", lambda: theirs(account) == want)
    # What one takes back is taken back for the other.
    dovecot(account, r"STORE 1:* FLAGS.SILENT (\Seen)")
    wait_for("their flags", lambda: all(f == {"\\Seen"} for f in ours(host, account).values()))
    client = host.imap_client(account.address, PASSWORDS[account.login])
    client.select("INBOX")
    client.store("1:*", "FLAGS.SILENT", r"(\Draft)")
    client.logout()
    wait_for("our flags", lambda: all(f == {"\\Draft"} for f in theirs(account).values()))
    assert "whole" in host.veredus("mailbox", "verify", account.address).stdout


def mbsync_setup(account):
    path = account.home
    account.put("mbsyncrc", f"""MaildirStore far
Path {path}/
Inbox {account.maildir}

MaildirStore near
Path {path}/copies/
Inbox {path}/copies/INBOX

Channel all
Far :far:
Near :near:
Patterns INBOX
Create Near
Expunge Both
SyncState *
""")
    if not os.path.exists(account.path("copies")):
        os.mkdir(account.path("copies"), 0o700)
        os.chown(account.path("copies"), account.uid, account.gid)


def mbsync_mirrors_both_ways(host, account, tool):
    program = tool("mbsync")
    mbsync_setup(account)
    subjects = [send(host, account, f"mirrored {n}") for n in range(4)]
    wait_for("the mail", lambda: all(account.has(s) for s in subjects))

    def sync():
        as_account(account, program, "-c", account.path("mbsyncrc"), "all")
    sync()
    before = ours(host, account)
    copies = {}
    for folder in ("new", "cur"):
        top = account.path(f"copies/INBOX/{folder}")
        for name in os.listdir(top):
            with open(os.path.join(top, name), encoding="utf-8") as file:
                copies[re.search(r"Subject: (.*)", file.read())[1]] = os.path.join(top, name)
    assert copies.keys() == before.keys()
    # There: one flagged, one removed. Here: one answered, one expunged, and one arrives.
    base = os.path.basename(copies[subjects[0]]).split(":2,")[0]
    os.rename(copies[subjects[0]], account.path(f"copies/INBOX/cur/{base}:2,F"))
    os.unlink(copies[subjects[1]])
    ours_changes(host, account, subjects[2], subjects[3])
    arrived = send(host, account, "arrived")
    wait_for("the mail", lambda: account.has(arrived))
    sync()
    want = {s: f for s, f in before.items() if s not in (subjects[1], subjects[3])}
    want.update({subjects[0]: {"\\Flagged"}, subjects[2]: {"\\Answered"}, arrived: set()})
    wait_for("the same for us", lambda: ours(host, account) == want)
    sync()
    assert ours(host, account) == want
    names = os.listdir(account.path("copies/INBOX/cur")) + os.listdir(
        account.path("copies/INBOX/new"))
    assert len(names) == len(want)


def mutt(account, tool, keys):
    """mutt on the Maildir itself, at a terminal of its own, as the account."""
    account.put("muttrc", f"""set mbox_type=Maildir folder="{account.home}" header_cache=""
set spoolfile="{account.maildir}" mail_check=1 quit=yes delete=yes move=no
set wait_key=no sleep_time=0 mark_old=no auto_tag=no copy=no record="" sort=date-received
push "{keys}<quit>"
""")
    as_account(account, "env", "TERM=xterm", "script", "-qec",
               f"{tool('mutt')} -n -F {account.path('muttrc')}", "/dev/null")


def mutt_flags_and_deletes(host, account, tool):
    subjects = [send(host, account, f"for mutt {n}") for n in range(4)]
    wait_for("the mail", lambda: all(account.has(s) for s in subjects))
    before = ours(host, account)
    mutt(account, tool, f"<tag-pattern>~s '{subjects[0]}'<enter><tag-prefix><flag-message>"
                        "<untag-pattern>.<enter>"
                        f"<delete-pattern>~s '{subjects[1]}'<enter><sync-mailbox>")
    want = {s: f for s, f in before.items() if s != subjects[1]}
    want[subjects[0]] = {"\\Flagged"}
    wait_for("what mutt did", lambda: ours(host, account) == want)
    # And the other way: what we flag and expunge, mutt sees.
    ours_changes(host, account, subjects[2], subjects[3])
    saved = account.path("saved")
    arrived = send(host, account, "for mutt, later")
    wait_for("the mail", lambda: account.has(arrived))
    mutt(account, tool, f"<tag-pattern>~Q | ~s '{arrived}' | ~s '{subjects[3]}'<enter>"
                        f"<tag-prefix><copy-message>{saved}<enter>y")
    found = []
    for top, _, names in os.walk(saved):
        for name in names:
            with open(os.path.join(top, name), encoding="utf-8") as file:
                found += re.findall(r"^Subject: (.*)", file.read(), re.M)
    assert subjects[2] in found and arrived in found and subjects[3] not in found
    assert "whole" in host.veredus("mailbox", "verify", account.address).stdout


# --- mail with CRLF, as other programs may store it ------------------------------------------------
LINES = "A line.\nAnother, with a longer text.\n"
CRLF = {
    "all": lambda subject: f"Subject: {subject}\nFrom: a@x.test\n\n{LINES}".replace("\n", "\r\n"),
    "large": lambda subject: f"Subject: {subject}\n\n{LINES * 3000}".replace("\n", "\r\n"),
    "body": lambda subject: f"Subject: {subject}\n\n" + LINES.replace("\n", "\r\n"),
    "header": lambda subject: f"Subject: {subject}\r\n\r\n{LINES}",
    "cr": lambda subject: f"Subject: {subject}\r\n\r\na\rb\r\r\nc\r\n",
    "open": lambda subject: f"Subject: {subject}\r\n\r\nNo end",
    "parts": lambda subject: (
        f"Subject: {subject}\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\n"
        f"{LINES}--b\nContent-Type: application/octet-stream\n\n{LINES}\n--b--\n")
    .replace("\n", "\r\n"),
}


def on_the_wire(text):
    return re.sub("(?<!\r)\n", "\r\n", text)


def drop(account, maildir, mails):
    """As a program does that stores what it got from the wire."""
    for subject, text in mails.items():
        name = f"1700000000.{subject.replace(' ', '')}P{os.getpid()}.other"
        path = os.path.join(maildir, "tmp", name)
        with open(path, "w", encoding="ascii", newline="") as file:
            file.write(text)
        if os.getuid() == 0:
            os.chown(path, account.uid, account.gid)
        os.rename(path, os.path.join(maildir, "new", name))


ALL = "(RFC822.SIZE BODY.PEEK[HEADER] BODY.PEEK[TEXT] BODYSTRUCTURE BODY.PEEK[])"


def fetched(text):
    """What a FETCH of all that says of each message: size, parts, structure."""
    found = {}
    for part in re.split(r"^\* \d+ FETCH ", text, flags=re.M)[1:]:
        items, rest = {}, part
        for name in ("BODY[HEADER]", "BODY[TEXT]", "BODY[]"):
            size = re.search(re.escape(name) + r" \{(\d+)\}\r\n", part)
            items[name] = part[size.end():size.end() + int(size[1])]
            rest = rest.replace(items[name], "", 1)
        items["size"] = int(re.search(r"RFC822.SIZE (\d+)", rest)[1])
        sizes = re.search(r"BODYSTRUCTURE (.*)", rest)[1]
        items["sizes"] = re.findall(r'"(?:7bit|8bit)" (\d+(?: \d+)?)', sizes, re.I)
        found[re.search(r"Subject: ([^\r\n]*)", part)[1]] = items
    return found


def our_fetch(host, account, folder="INBOX"):
    client = host.raw("imaps", tls=True)
    client.line()
    assert client.imap(f"LOGIN {account.address} {PASSWORDS[account.login]}")[0].startswith("OK")
    assert client.imap(f"SELECT {folder}")[0].startswith("OK")
    lines = client.imap(f"FETCH 1:* {ALL}")[1]
    client.close()
    return fetched("\r\n".join(lines) + "\r\n")


def plain(text):
    """Without the lines that mbsync and mutt add to a header."""
    text = re.sub("^X-TUID: [^\n]*\n", "", text, flags=re.M)
    return re.sub("^(.*?)Content-Length: [^\n]*\n\n", r"\1\r\n", text, flags=re.S)


def written(maildir):
    """Messages as they stand in files, with their paths."""
    found = {}
    for top in ("new", "cur"):
        for name in os.listdir(os.path.join(maildir, top)):
            path = os.path.join(maildir, top, name)
            with open(path, encoding="ascii", newline="") as file:
                text = plain(file.read())
            found[re.search(r"Subject: ([^\r\n]*)", text)[1]] = path, text
    return found


def crlf_mail_is_the_same_for_all(host, account, tool):
    mails = {f"crlf {kind}": make(f"crlf {kind}") for kind, make in CRLF.items()}
    client = host.imap_client(account.address, PASSWORDS[account.login])
    client.select("INBOX")
    client.store("1:*", "+FLAGS", r"(\Deleted)")
    client.expunge()
    drop(account, account.maildir, mails)
    client.noop()
    client.create("Copies")
    client.copy("1:*", "Copies")
    found = our_fetch(host, account)
    for subject, text in mails.items():
        assert found[subject]["BODY[]"] == on_the_wire(text)
        assert found[subject]["size"] == len(on_the_wire(text))
        assert found[subject]["sizes"]
    assert found.keys() == mails.keys()
    assert our_fetch(host, account, "Copies") == found
    client.delete("Copies")
    client.logout()
    assert fetched(dovecot(account, f"FETCH 1:* {ALL}")) == found
    deleted = crlf_and_mutt(host, account, tool, mails)
    removed, pushed = crlf_and_mbsync(host, account, tool, mails, deleted)
    now = our_fetch(host, account)
    assert now == fetched(dovecot(account, f"FETCH 1:* {ALL}"))
    assert now.keys() == mails.keys() - {deleted, removed} | pushed.keys()
    assert {subject: now[subject] for subject in now if subject in found}.items() <= found.items()
    for subject, text in pushed.items():
        assert plain(now[subject]["BODY[]"]) == on_the_wire(text)
    assert "whole" in host.veredus("mailbox", "verify", account.address).stdout


def crlf_and_mutt(host, account, tool, mails):
    flagged, deleted, *_ = mails
    mutt(account, tool, f"<tag-pattern>~s '{flagged}'<enter><tag-prefix><flag-message>"
                        f"<untag-pattern>.<enter>"
                        f"<tag-pattern>~A<enter><tag-prefix><copy-message>{account.path('crlf')}"
                        f"<enter>y<untag-pattern>.<enter><delete-pattern>~s '{deleted}'<enter>"
                        "<sync-mailbox>")
    for subject, (_, text) in written(account.path("crlf")).items():
        assert on_the_wire(text) == on_the_wire(mails[subject])
    want = {subject: {"\\Flagged"} if subject == flagged else set()
            for subject in mails if subject != deleted}
    wait_for("what mutt did", lambda: ours(host, account) == want)
    assert theirs(account) == want
    return deleted


def crlf_and_mbsync(host, account, tool, mails, deleted):
    def sync():
        as_account(account, tool("mbsync"), "-c", account.path("mbsyncrc"), "all")
    near = account.path("copies/INBOX")
    pushed = {"crlf pushed": CRLF["all"]("crlf pushed")}
    flagged, removed = "crlf body", "crlf header"
    mbsync_setup(account)
    sync()
    copies = written(near)
    assert {subject: text for subject, (_, text) in copies.items()} == {
        subject: text for subject, text in mails.items() if subject != deleted}
    before = ours(host, account)
    base = os.path.basename(copies[flagged][0]).split(":2,")[0]
    os.rename(copies[flagged][0], os.path.join(near, f"cur/{base}:2,F"))
    os.unlink(copies[removed][0])
    drop(account, near, pushed)
    sync()
    before.pop(removed)
    want = before | {flagged: {"\\Flagged"}, "crlf pushed": set()}
    wait_for("what mbsync brought", lambda: ours(host, account) == want)
    return removed, pushed
