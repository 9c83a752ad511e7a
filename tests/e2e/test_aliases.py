"""aliases(5) as administrators write it: files, lists with owners, included lists, the tools.

Where accounts matter, once started as root and once as that account (rootless).
"""
import glob
import json
import mailbox
import os
import stat
import subprocess

import pytest

from conftest import make
from test_local import HOST, Account, unique
from veredus import ALICE, BOB, Instance, wait_for

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root to make an account")


@pytest.fixture(scope="module")
def account():
    made = Account()
    os.chmod(made.home, 0o755)
    yield made
    made.remove()


@pytest.fixture(scope="module", params=["rootless", "rooted"])
def host(request, account):
    instance = (make(True) if request.param == "rooted"
                else Instance(uid=account.uid).init())
    instance.edit_conf(append=f"local {{ domains {HOST} }}\n"
                              f"pipe {{ command-user {account.name} }}\n"
                              "transport inline:{down.test=smtp:[127.0.0.1]:1}\n")
    lists = os.path.join(instance.parent, "lists")
    os.mkdir(lists)
    instance.lists = lists
    write_list(instance, "members", f"# members\nAlice A. <{ALICE}>, (nobody)\n")
    write_list(instance, "open", f"{ALICE}\n", 0o646)
    instance.write("tables/aliases", f"""# as newaliases takes it
mbox: {account.path('archive')}
Box:  "{account.path('box')}/"
both: {account.path('archive')}, {account.path('both')},
      {BOB} , \\{account.name}
etc: /etc/veredus-test-alias
news: :include:{lists}/members, no-such-person@example.test
owner-News: {BOB}
away: someone@down.test
owner-away: {BOB}
quiet: no-such-person@example.test
open: :include:{lists}/open
absent: :include:{lists}/absent
news2: {ALICE}
news2: {BOB}
""" + "".join(f"bad{n}: {account.path(name)}\n" for n, name in enumerate(HOSTILE)))
    instance.start()
    yield instance
    instance.discard()


def write_list(instance, name, text, mode=0o644):
    path = os.path.join(instance.lists, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, mode)


@pytest.fixture(autouse=True)
def clean_home(account):
    yield
    for name in os.listdir(account.home):
        account.drop(name)


HOSTILE = ["link", "hard", "fifo", "directory", "foreign", "way/mbox", "full", "no/directory"]


def make_hostile(account, what, victim):
    path = account.path(what)
    if what == "link":
        os.symlink(victim, path)
    elif what == "hard":
        os.link(victim, path)
    elif what == "fifo":
        os.mkfifo(path)
        os.chown(path, account.uid, account.gid)
    elif what == "directory":
        os.mkdir(path)
        os.chown(path, account.uid, account.gid)
    elif what == "foreign":
        account.put(what, "precious\n", mode=0o666, owner=(0, 0))
    elif what == "way/mbox":
        os.symlink(os.path.dirname(victim), account.path("way"))
    elif what == "full":
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 7))
        os.chown(path, account.uid, account.gid)


def subjects(path):
    if not os.path.exists(path):
        return []
    return [m["Subject"] for m in mailbox.mbox(path, create=False)]


def send(host, text, to, sender="someone@elsewhere.test"):
    subject = unique(text)
    host.send(subject, to=to, sender=sender)
    return subject


def test_a_file_gets_the_mail_as_the_chosen_account(host, account):
    sent = [send(host, "file", f"MBox+x@{HOST}") for _ in range(2)]
    path = account.path("archive")
    wait_for("both", lambda: len(subjects(path)) == 2)
    assert sorted(subjects(path)) == sorted(sent)
    assert os.stat(path).st_uid == account.uid
    assert os.stat(path).st_mode & 0o777 == 0o600
    mail = list(mailbox.mbox(path, create=False))[0]
    assert mail["Return-Path"] == "<someone@elsewhere.test>"
    assert mail["Delivered-To"] == f"MBox+x@{HOST}"
    host.wait_log(event="dlv.command", file=path, result="delivered")


def test_a_name_with_a_slash_behind_it_is_a_maildir(host, account):
    subject = send(host, "maildir", f"box@{HOST}")
    new = account.path("box/new")
    wait_for("the mail", lambda: os.path.isdir(new) and os.listdir(new))
    with open(os.path.join(new, os.listdir(new)[0]), encoding="utf-8") as file:
        assert f"Subject: {subject}\n" in file.read()
    assert os.stat(new).st_uid == account.uid


def test_files_and_people_of_one_alias_get_it_once_each(host, account):
    subject = send(host, "both", f"both@{HOST}")
    for name in ("archive", "both"):
        wait_for(name, lambda name=name: subjects(account.path(name)) == [subject])
    host.wait_mail(subject, BOB)
    wait_for("the account's own", lambda: account.has(subject) == 1)


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_no_file_of_the_account_is_left_alone(host, account, what):
    victim = os.path.join(host.parent, "precious")
    os.makedirs(victim, exist_ok=True)
    with open(os.path.join(victim, "mbox"), "w", encoding="utf-8") as file:
        file.write("precious\n")
    os.chmod(os.path.join(victim, "mbox"), 0o666)
    make_hostile(account, what, os.path.join(victim, "mbox"))
    to = f"bad{HOSTILE.index(what)}@{HOST}"
    send(host, what, to)
    line = wait_for("the end", lambda: host.log_find(event="dlv.command", to=to))[0]
    assert line["result"] == "deferred" and line["reason"]
    with open(os.path.join(victim, "mbox"), encoding="utf-8") as file:
        assert file.read() == "precious\n"
    assert os.listdir(victim) == ["mbox"]


def test_a_file_of_roots_is_not_written(host):
    send(host, "etc", f"etc@{HOST}")
    line = wait_for("the end", lambda: host.log_find(event="dlv.command", to=f"etc@{HOST}"))[0]
    assert line["result"] == "deferred"
    assert not os.path.exists("/etc/veredus-test-alias")


def test_what_a_list_sends_on_is_its_owners_and_so_are_failures(host):
    subject = send(host, "list", f"News@{HOST}", sender=ALICE)
    mail = host.wait_mail(subject, ALICE)
    owner = f"owner-News@{HOST}"
    assert mail["Return-Path"] == f"<{owner}>"
    report = wait_for("the report", lambda: [m for m in host.mails(BOB) if subject in str(m)])[0]
    assert "no-such-person@example.test" in str(report)
    assert report["Delivered-To"] == BOB and report["Return-Path"] == "<>"
    host.wait_log(event="msg.bounce", sender=owner)
    assert not [m for m in host.mails(ALICE) if subject in str(m) and m["Subject"] != subject]


def test_a_list_is_where_the_senders_wishes_end(host):
    """RFC 3461 5.2.7.3: that the list has it is what a sender hears, and nothing of its members."""
    subject = unique("wishes")
    with host.raw() as client:
        client.hello()
        assert client.smtp(f"MAIL FROM:<{BOB}> ENVID=mine RET=HDRS") == 250
        assert client.smtp(f"RCPT TO:<news@{HOST}> NOTIFY=SUCCESS,FAILURE "
                           f"ORCPT=rfc822;news@{HOST}") == 250
        assert client.smtp("DATA") == 354
        assert client.smtp(f"Subject: {subject}\r\n\r\nHello.\r\n.") == 250

    def reports():
        return [str(m) for m in host.mails(BOB) if subject in str(m) and m["Subject"] != subject]
    found = wait_for("both reports", lambda: len(reports()) == 2 and reports())
    success = next(text for text in found if "Action: delivered" in text)
    failure = next(text for text in found if "Action: failed" in text)
    assert "Original-Envelope-Id: mine" in success and f"news@{HOST}" in success
    assert "Original-Envelope-Id" not in failure and "no-such-person@example.test" in failure


def test_the_queue_tells_the_owner_and_carries_him_elsewhere(host):
    send(host, "away", f"away@{HOST}", sender=ALICE)
    owner = f"owner-away@{HOST}"

    def waiting():
        found = []
        for entry in host.queue():
            told = host.veredus("queue", "show", entry["qid"], "--json", status=None)
            if told.returncode:  # it has just gone
                continue
            found += [(entry["qid"], r) for r in json.loads(told.stdout)["recipients"]
                      if r["address"] == "someone@down.test" and r["attempts"]]
        return found
    qid, recipient = wait_for("the first attempt", waiting)[0]
    assert recipient["owner"] == owner
    assert f"sent as <{owner}>" in host.veredus("queue", "show", qid).stdout
    place = os.path.join(host.parent, "export")
    os.mkdir(place)
    os.chmod(place, 0o777)
    host.veredus("queue", "export", qid, place)
    host.veredus("queue", "delete", qid)
    with open(glob.glob(place + "/*.envelope")[0], encoding="utf-8") as file:
        assert f"owner={owner}" in file.read()
    host.veredus("queue", "import", *glob.glob(place + "/*.eml"),
                 *glob.glob(place + "/*.envelope"))
    assert wait_for("the import", waiting)[0][1]["owner"] == owner
    host.veredus("queue", "delete", waiting()[0][0])


def test_mail_without_a_sender_keeps_none(host):
    subject = send(host, "null", f"news@{HOST}", sender="")
    mail = host.wait_mail(subject, ALICE)
    assert mail["Return-Path"] == "<>"


def smtp_reply(host, to):
    with host.raw() as client:
        client.hello()
        client.smtp("MAIL FROM:<someone@elsewhere.test>")
        return client.smtp(f"RCPT TO:<{to}>")


@pytest.mark.parametrize("name", ["open", "absent"])
def test_a_list_that_cannot_be_trusted_or_read_waits(host, name):
    reply = smtp_reply(host, f"{name}@{HOST}")
    assert reply == 451


def test_of_a_name_given_twice_the_first_counts(host):
    subject = send(host, "twice", f"news2@{HOST}")
    host.wait_mail(subject, ALICE)


def test_the_tools_name_file_and_line(host, account):
    path = host.path("tables/aliases")
    told = host.veredus("alias", "check", status=1).stdout
    lines = host.read("tables/aliases").splitlines()
    twice = max(n for n, line in enumerate(lines, 1) if line.startswith("news2:"))
    include = next(n for n, line in enumerate(lines, 1) if line.startswith("open:"))
    assert f"{path}:{twice}: warning: news2: is given twice" in told
    assert f"{path}:{include}: error: open: " in told and "writable for all" in told
    assert "loop" not in told
    built = host.run("veredus", "-d", host.dir, "table", "build", f"hash:{path}", status=1)
    assert f"{path}:{twice}: " in built.stderr  # no aliases, as far as that command knows
    conf = host.read("veredus.conf").replace("aliases text:", "aliases hash:", 1)
    host.write("other.conf", conf)
    built = host.run("newaliases", "-C", host.path("other.conf"))
    assert f"{path}:{twice}: warning: news2 is given twice" in built.stderr
    assert os.path.exists(path + ".db")
    os.unlink(path + ".db")
    assert subprocess.run([os.path.join(host.bin, "veredus"), "-c", host.path("other.conf"),
                           "alias", "check"], capture_output=True, text=True,
                          check=False).stdout.count("run newaliases") == 1


def test_all_lived_through_it(host):
    assert all(p["restarts"] == 0 for p in host.processes())
