"""Mail sent and read by programs nobody here wrote."""
import os
import re
import poplib
import random
import shutil
import smtplib
import subprocess
import tempfile

import pytest

from veredus import ALICE, BOB, SLOW, message, tls_context, wait_for


def unique(name):
    return f"{name} {random.getrandbits(32):x}"


def client(*command, status=0, timeout=60, **options):
    """Runs a client; its output is bytes turned to text however it looks."""
    result = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, check=False,
                            stderr=subprocess.STDOUT, timeout=timeout * SLOW, **options)
    text = result.stdout.decode("utf-8", "replace")
    if status is not None:
        assert result.returncode == status, f"{command}: {result.returncode}\n{text}"
    return text


@pytest.fixture
def home():
    """An empty HOME for clients that keep things there."""
    path = tempfile.mkdtemp(prefix="home")
    yield path
    shutil.rmtree(path, ignore_errors=True)


def env(home):
    return dict(os.environ, HOME=home, LC_ALL="C.UTF-8", TERM="dumb")


# --- swaks ----------------------------------------------------------------------------------------
LOGIN = ["--auth-user", BOB, "--auth-password", "bob-password"]


@pytest.mark.parametrize("name,port,arguments", [
    ("plain", "smtp", []),
    ("pipelined", "smtp", ["--pipeline"]),
    ("starttls", "smtp", ["--tls"]),
    ("auth plain over starttls", "submission", ["--tls", "--auth", "PLAIN", *LOGIN]),
    ("auth login over starttls", "submission", ["--tls", "--auth", "LOGIN", *LOGIN]),
    ("auth plain over tls", "submissions", ["--tlsc", "--auth", "PLAIN", *LOGIN]),
    ("auth in plaintext on loopback", "submission", ["--auth", "PLAIN", *LOGIN]),
    ("lmtp", "lmtp", ["--protocol", "LMTP"]),
])
def test_swaks(either, tool, name, port, arguments):
    subject = unique("swaks " + name)
    sender = BOB if "auth" in name else "someone@elsewhere.test"
    client(tool("swaks"), "--server", "127.0.0.1", "--port", getattr(either, port), "--to", ALICE,
           "--from", sender, "--header", f"Subject: {subject}", *arguments)
    either.wait_mail(subject)


def test_swaks_attachment(either, tool, home):
    path = os.path.join(home, "blob.bin")
    blob = random.randbytes(200000)
    with open(path, "wb") as file:
        file.write(blob)
    subject = unique("swaks attachment")
    client(tool("swaks"), "--server", "127.0.0.1", "--port", either.smtp, "--to", ALICE,
           "--from", "a@elsewhere.test", "--header", f"Subject: {subject}", "--attach",
           "@" + path)
    mail = either.wait_mail(subject)
    assert any(part.get_payload(decode=True) == blob for part in mail.walk()
               if not part.is_multipart())


def test_swaks_with_a_wrong_password_is_refused(either, tool):
    text = client(tool("swaks"), "--server", "127.0.0.1", "--port", either.submission, "--tls",
                  "--to", ALICE, "--from", BOB, "--auth", "PLAIN", "--auth-user", BOB,
                  "--auth-password", "wrong", status=None)
    assert "535" in text


def test_swaks_to_an_unknown_user_is_refused(either, tool):
    text = client(tool("swaks"), "--server", "127.0.0.1", "--port", either.smtp, "--to",
                  "nobody-here@example.test", "--from", "a@elsewhere.test", status=None)
    assert "550" in text


# --- smtplib --------------------------------------------------------------------------------------
def test_smtplib_over_submissions(either):
    subject = unique("smtplib tls")
    with smtplib.SMTP_SSL("127.0.0.1", either.submissions, context=tls_context()) as smtp:
        smtp.login(ALICE, "alice-password")
        smtp.sendmail(ALICE, [BOB], message(subject, BOB, ALICE, "x\r\n"))
    either.wait_mail(subject, BOB)


def test_smtplib_starttls_then_login(either):
    subject = unique("smtplib starttls")
    either.send(subject, to=BOB, sender=ALICE, login=ALICE)
    either.wait_mail(subject, BOB)


def test_smtplib_lmtp(either):
    subject = unique("smtplib lmtp")
    with smtplib.LMTP("127.0.0.1", either.lmtp) as lmtp:
        refused = lmtp.sendmail("a@elsewhere.test", [ALICE, "nobody-here@example.test"],
                                message(subject, ALICE, "a@elsewhere.test", "x\r\n"))
    assert list(refused) == ["nobody-here@example.test"]
    either.wait_mail(subject)


def test_smtplib_wrong_password(either):
    with smtplib.SMTP_SSL("127.0.0.1", either.submissions, context=tls_context()) as smtp:
        with pytest.raises(smtplib.SMTPAuthenticationError):
            smtp.login(ALICE, "wrong")


# --- curl -----------------------------------------------------------------------------------------
def test_curl_sends(either, tool, home):
    subject = unique("curl smtp")
    path = os.path.join(home, "mail")
    with open(path, "w") as file:
        file.write(message(subject, BOB, ALICE, "By curl.\r\n"))
    client(tool("curl"), "-sSk", "--ssl-reqd", f"smtp://127.0.0.1:{either.submission}",
           "--user", f"{ALICE}:alice-password", "--mail-from", ALICE, "--mail-rcpt", BOB,
           "--upload-file", path)
    either.wait_mail(subject, BOB)


@pytest.fixture(scope="module")
def letter(either):
    """A mail that is in alice's mailbox."""
    subject = unique("a letter")
    either.send(subject, body="The content of the letter.\r\n")
    either.wait_mail(subject)
    return subject


@pytest.mark.parametrize("scheme,port,arguments", [
    ("imaps", "imaps", []), ("imap", "imap", ["--ssl-reqd"]), ("imap", "imap", []),
])
def test_curl_reads_by_imap(either, tool, letter, scheme, port, arguments):
    url = f"{scheme}://127.0.0.1:{getattr(either, port)}"
    user = ["-sSk", *arguments, "--user", f"{ALICE}:alice-password"]
    assert "INBOX" in client(tool("curl"), *user, url + "/")
    found = client(tool("curl"), *user, url + "/INBOX?SUBJECT%20%22" +
                   letter.replace(" ", "%20") + "%22")
    number = found.replace("* SEARCH", "").split()[0]
    text = client(tool("curl"), *user, url + f"/INBOX;MAILINDEX={number}")
    assert letter in text and "The content of the letter." in text


@pytest.mark.parametrize("scheme,port,arguments", [
    ("pop3s", "pop3s", []), ("pop3", "pop3", ["--ssl-reqd"]), ("pop3", "pop3", []),
])
def test_curl_reads_by_pop3(either, tool, letter, scheme, port, arguments):
    url = f"{scheme}://127.0.0.1:{getattr(either, port)}/"
    user = ["-sSk", *arguments, "--user", f"{ALICE}:alice-password"]
    listing = client(tool("curl"), *user, url).split("\n")
    numbers = [line.split()[0] for line in listing if line.strip()]
    texts = [client(tool("curl"), *user, url + number) for number in numbers[-8:]]
    assert any(letter in text for text in texts)


def test_curl_with_a_wrong_password(either, tool):
    text = client(tool("curl"), "-sSk", "--user", f"{ALICE}:wrong",
                  f"imaps://127.0.0.1:{either.imaps}/", status=67)
    assert "denied" in text.lower()


# --- imaplib, poplib ------------------------------------------------------------------------------
def test_imaplib_reads(either, letter):
    imap = either.imap_client()
    assert imap.select("INBOX")[0] == "OK"
    status, found = imap.search(None, "SUBJECT", f'"{letter}"')
    assert status == "OK"
    status, data = imap.fetch(found[0].split()[0], "(RFC822)")
    assert status == "OK" and b"The content of the letter." in data[0][1]
    imap.logout()


def test_poplib_reads(either, letter):
    pop = poplib.POP3_SSL("127.0.0.1", either.pop3s, context=tls_context())
    pop.user(ALICE)
    pop.pass_("alice-password")
    count, _ = pop.stat()
    texts = [b"\n".join(pop.retr(n + 1)[1]) for n in range(count)]
    assert any(letter.encode() in text for text in texts)
    pop.quit()


def test_poplib_stls(either, letter):
    pop = poplib.POP3("127.0.0.1", either.pop3)
    assert "STLS" in pop.capa()
    pop.stls(context=tls_context())
    pop.user(ALICE)
    pop.pass_("alice-password")
    assert pop.stat()[0] >= 1
    pop.quit()


# --- mutt -----------------------------------------------------------------------------------------
def muttrc(instance, home, user=ALICE, password="alice-password"):
    path = os.path.join(home, "muttrc")
    account = user.replace("@", "%40")
    with open(path, "w") as file:
        file.write(f"""set folder="imaps://{account}@127.0.0.1:{instance.imaps}/"
set spoolfile="imaps://{account}@127.0.0.1:{instance.imaps}/INBOX"
set imap_pass="{password}"
set smtp_url="smtp://{account}@127.0.0.1:{instance.submission}/"
set smtp_pass="{password}"
set from="{user}" realname="A User" use_envelope_from=yes
set ssl_starttls=yes ssl_force_tls=yes
set ssl_verify_host=no ssl_verify_dates=no ssl_verify_partial_chains=yes
set certificate_file="{instance.path('tls/cert.pem')}" ssl_usesystemcerts=no
set copy=no record="" header_cache="" message_cachedir="" quit=yes delete=yes
set wait_key=no confirmappend=no confirmcreate=no sleep_time=0 mail_check=1
""")
    return path


def test_mutt_sends_over_submission(either, tool, home):
    subject = unique("mutt")
    client(tool("mutt"), "-n", "-F", muttrc(either, home), "-s", subject, BOB,
           input=b"Written with mutt.\n", env=env(home))
    mail = either.wait_mail(subject, BOB)
    assert mail["Return-Path"] == f"<{ALICE}>"
    assert "Written with mutt." in mail.get_content()


def test_mutt_reads_over_imaps(either, tool, letter, home):
    """mutt itself selects, fetches and saves the letter to a file."""
    saved = os.path.join(home, "saved")
    commands = (f'set auto_tag=no; push "<tag-pattern>~s \\"{letter}\\"<enter>'
                f'<tag-prefix><copy-message>{saved}<enter><quit>"')
    client("script", "-qec", f"{tool('mutt')} -n -F {muttrc(either, home)} -e '{commands}'",
           "/dev/null", env=dict(env(home), TERM="xterm"), timeout=40,
           stdin=subprocess.DEVNULL)
    with open(saved) as file:
        text = file.read()
    assert letter in text and "The content of the letter." in text


def test_mutt_uses_folders_with_names_of_the_world(either, tool, letter, home):
    """It enables UTF8=ACCEPT: names are UTF-8 for it, and modified UTF-7 for others."""
    folder = unique("Entwürfe&台北/mehr").replace(" ", "")
    saved = os.path.join(home, "saved-from-there")
    top = f"imaps://{ALICE.replace('@', '%40')}@127.0.0.1:{either.imaps}/"
    with open(muttrc(either, home), "a") as file:
        file.write('set charset="utf-8" move=no auto_tag=no\n'
                   f'push "<tag-pattern>~s \'{letter}\'<enter><tag-prefix><copy-message>'
                   f'={folder}<enter><change-folder>={folder}<enter>'
                   f'<copy-message>{saved}<enter><quit>"\n')
    client("script", "-qec", f"{tool('mutt')} -n -F {home}/muttrc -f {top}INBOX", "/dev/null",
           env=dict(env(home), TERM="xterm", LC_ALL="C.UTF-8"), timeout=60,
           stdin=subprocess.DEVNULL)
    with open(saved) as file:
        assert letter in file.read()
    assert folder in either.veredus("mailbox", "list", ALICE).stdout
    imap = either.imap_client(ALICE)
    assert any(b"Entw&APw-rfe&-&U,BTFw-/mehr" in line for line in imap.list()[1])
    imap.logout()


# --- mbsync ---------------------------------------------------------------------------------------
def mbsyncrc(instance, home):
    path = os.path.join(home, "mbsyncrc")
    with open(path, "w") as file:
        file.write(f"""IMAPAccount v
Host localhost
Port {instance.imaps}
User {BOB}
Pass bob-password
SSLType IMAPS
CertificateFile {instance.path('tls/cert.pem')}

IMAPStore far
Account v

MaildirStore near
Path {home}/mail/
Inbox {home}/mail/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Expunge Both
SyncState *
""")
    return path


def test_mbsync_mirrors_and_pushes_back(either, tool, home):
    subjects = [unique("mbsync") for _ in range(5)]
    for subject in subjects:
        either.send(subject, to=BOB)
    for subject in subjects:
        either.wait_mail(subject, BOB)
    os.mkdir(os.path.join(home, "mail"))
    rc = mbsyncrc(either, home)
    client(tool("mbsync"), "-c", rc, "all", env=env(home))
    inbox = os.path.join(home, "mail/INBOX")

    def local():
        paths = [os.path.join(inbox, d, f) for d in ("new", "cur")
                 for f in os.listdir(os.path.join(inbox, d))]
        return {path: open(path, errors="replace").read() for path in paths}
    texts = local()
    for subject in subjects:
        assert any(subject in text for text in texts.values())
    # A flag set and a message removed here reach the server.
    keep = [p for p, text in texts.items() if subjects[0] in text][0]
    gone = [p for p, text in texts.items() if subjects[1] in text][0]
    base = os.path.basename(keep).split(":2,")[0]
    os.rename(keep, os.path.join(inbox, "cur", base + ":2,FS"))
    os.unlink(gone)
    client(tool("mbsync"), "-c", rc, "all", env=env(home))
    imap = either.imap_client(BOB)
    imap.select("INBOX")
    flagged = imap.search(None, "FLAGGED", "SEEN", "SUBJECT", f'"{subjects[0]}"')[1][0].split()
    assert len(flagged) == 1
    assert imap.search(None, "SUBJECT", f'"{subjects[1]}"')[1][0] == b""
    imap.logout()
    # A second run has nothing to do, and a folder made there arrives here.
    imap = either.imap_client(BOB)
    imap.create("Made-there")
    imap.append("Made-there", r"(\Seen)", None, message(unique("appended"), BOB, ALICE, "x\r\n")
                .encode())
    imap.logout()
    client(tool("mbsync"), "-c", rc, "all", env=env(home))
    made = os.path.join(home, "mail/Made-there")
    assert len(os.listdir(made + "/cur") + os.listdir(made + "/new")) == 1


def test_mbsync_keeps_folders_of_the_world_the_same_on_both_sides(fresh, tool, home):
    """Flags, expunges and new messages on both sides at once, a renamed folder, and nothing moves
    when nothing has changed."""
    instance = fresh().start()
    mail = os.path.join(home, "mail")
    os.mkdir(mail)
    rc = mbsyncrc(instance, home)
    imap = instance.imap_client(BOB)
    folder, coded = "Entwürfe", "Entw&APw-rfe"
    imap.create(f'"{coded}"')
    for n in range(12):
        text = message(f"world {n}", BOB, ALICE, f"text {n}\r\n").encode()
        imap.append(f'"{coded}"', r"(\Answered)" if n % 2 else "", None, text)

    def there():
        imap.select(f'"{coded}"')
        data = imap.fetch("1:*", "(FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
        found = {}
        for part in data:
            if isinstance(part, tuple):
                flags = re.search(rb"FLAGS \(([^)]*)\)", part[0])[1].decode().split()
                found[part[1].decode().split(": ")[1].strip()] = {
                    f[1] for f in flags if f.startswith("\\") and f != "\\Recent"}
        return found

    def here():
        found = {}
        for sub in ("cur", "new"):
            for name in os.listdir(f"{mail}/{folder}/{sub}"):
                with open(f"{mail}/{folder}/{sub}/{name}") as file:
                    subject = re.search("Subject: (.*)", file.read())[1]
                found[subject] = (f"{sub}/{name}", set(name.partition(":2,")[2]))
        return found

    def sync():
        client(tool("mbsync"), "-c", rc, "all", env=dict(env(home), LC_ALL="C.UTF-8"))
    letters = {"A": "R"}  # \\Answered is R there
    sync()
    if not os.path.isdir(f"{mail}/{folder}"):
        folder = coded  # as older ones name it
    for turn in range(3):
        local = here()
        gone, seen, flagged, gone_there = (f"world {4 * turn + i}" for i in range(4))
        os.unlink(f"{mail}/{folder}/{local[gone][0]}")
        base = local[seen][0].partition("/")[2].partition(":2,")[0]
        os.rename(f"{mail}/{folder}/{local[seen][0]}",
                  f"{mail}/{folder}/cur/{base}:2,{''.join(sorted(local[seen][1] | {'S'}))}")
        with open(f"{mail}/{folder}/new/{turn}.here", "w") as file:
            file.write(message(f"made here {turn}", BOB, ALICE, "x\n").replace("\r", ""))
        imap.select(f'"{coded}"')
        imap.store(imap.search(None, "SUBJECT", f'"{flagged}"')[1][0].split()[-1], "+FLAGS",
                   r"(\Flagged)")
        imap.store(imap.search(None, "SUBJECT", f'"{gone_there}"')[1][0].split()[-1], "+FLAGS",
                   r"(\Deleted)")
        imap.expunge()
        imap.append(f'"{coded}"', "", None, message(f"made there {turn}", BOB, ALICE, "x").encode())
        sync()
        ours, theirs = there(), here()
        assert ours.keys() == theirs.keys()
        assert gone not in ours and gone_there not in ours
        assert "S" in ours[seen] and "F" in theirs[flagged][1]
        for subject, flags in ours.items():
            assert {letters.get(f, f) for f in flags} == theirs[subject][1], subject
    before = sorted(x for x, _ in here().values())
    sync()
    assert sorted(x for x, _ in here().values()) == before
    # Renamed on both sides: UIDs and UIDVALIDITY are the same, so nothing moves.
    imap.unselect()
    assert imap.rename(f'"{coded}"', "Renamed")[0] == "OK"
    os.rename(f"{mail}/{folder}", f"{mail}/Renamed")
    sync()
    coded = folder = "Renamed"
    assert sorted(x for x, _ in here().values()) == before and there().keys() == here().keys()
    imap.logout()
    assert "whole" in instance.veredus("mailbox", "verify", BOB).stdout


# --- fetchmail ------------------------------------------------------------------------------------
@pytest.mark.parametrize("protocol,port", [("pop3", "pop3s"), ("imap", "imaps")])
def test_fetchmail_takes_the_mail_away(either, tool, home, protocol, port):
    subject = unique("fetchmail " + protocol)
    either.send(subject, to=BOB)
    either.wait_mail(subject, BOB)
    rc, out = os.path.join(home, "fetchmailrc"), os.path.join(home, "out")
    with open(rc, "w") as file:
        file.write(f'poll 127.0.0.1 protocol {protocol} port {getattr(either, port)}\n'
                   f' user "{BOB}" password "bob-password" ssl no sslcertck\n'
                   f' no keep fetchall mda "cat >> {out}"\n')
    os.chmod(rc, 0o700)
    text = client(tool("fetchmail"), "-f", rc, "--nosyslog", "--nodetach", "--pidfile",
                  os.path.join(home, "pid"), "-i", os.path.join(home, "ids"), env=env(home),
                  status=None)
    assert os.path.exists(out), text
    with open(out, errors="replace") as file:
        assert subject in file.read()
    wait_for("the mailbox to be empty", lambda: not [
        m for m in either.mails(BOB) if m["Subject"] == subject])


def test_openssl_sees_tls_1_3_and_no_1_1(either, tool):
    for port in (either.imaps, either.pop3s, either.submissions):
        text = client(tool("openssl"), "s_client", "-connect", f"127.0.0.1:{port}",
                      stdin=subprocess.DEVNULL, status=None, timeout=20)
        assert "TLSv1.3" in text
        text = client(tool("openssl"), "s_client", "-tls1_1", "-connect", f"127.0.0.1:{port}",
                      "-cipher", "ALL:@SECLEVEL=0", stdin=subprocess.DEVNULL, status=None,
                      timeout=20)
        assert "Cipher is (NONE)" in text or "alert" in text or "no protocols" in text


def test_openssl_tls_1_2_works_too(either, tool):
    text = client(tool("openssl"), "s_client", "-tls1_2", "-connect", f"127.0.0.1:{either.imaps}",
                  stdin=subprocess.DEVNULL, status=None, timeout=20)
    assert "TLSv1.2" in text and "ECDHE" in text
