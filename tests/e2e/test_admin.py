"""What an administrator types: users, tables, log, trace, queue, configuration; and sendmail(1)."""
import json
import os
import random
import re
import subprocess
import time

import pytest

from conftest import make
from veredus import ALICE, BOB, PASSWORDS, free_port, wait_for


def unique(text):
    return f"{text} {random.getrandbits(32):x}"


def can_login(instance, user, password):
    try:
        instance.imap_client(user, password).logout()
        return True
    except Exception:  # imaplib's errors are classes of each connection
        return False


# --- users ----------------------------------------------------------------------------------------
def test_user_list_shows_the_demo_users(rootless):
    names = rootless.veredus("user", "list").stdout.split()
    assert ALICE in names and BOB in names


def test_a_user_added_while_running_can_receive_and_read(rootless):
    user = f"carol{random.getrandbits(32):x}@example.test"
    with rootless.raw() as client:
        client.hello()
        assert client.smtp("MAIL FROM:<>") == 250
        assert client.smtp(f"RCPT TO:<{user}>") == 550
    rootless.veredus("user", "add", user, "--password-stdin", input="carols secret\n")
    subject = unique("for carol")
    rootless.send(subject, to=user)
    rootless.wait_mail(subject, user)
    assert can_login(rootless, user, "carols secret")
    assert not can_login(rootless, user, "wrong")
    assert user in rootless.veredus("user", "list").stdout.split()


def test_a_changed_password_counts_at_once(rootless):
    user = f"dave{random.getrandbits(32):x}@example.test"
    rootless.veredus("user", "add", user, "--password-stdin", input="first\n")
    assert can_login(rootless, user, "first")
    rootless.veredus("user", "passwd", user, "--password-stdin", input="second\n")
    wait_for("the new password", lambda: can_login(rootless, user, "second"), 5)
    assert not can_login(rootless, user, "first")  # not from the cache of verified ones either


def test_a_deleted_user_is_unknown_at_once(rootless):
    user = f"erin{random.getrandbits(32):x}@example.test"
    rootless.veredus("user", "add", user, "--password-stdin", input="secret\n")
    assert can_login(rootless, user, "secret")
    rootless.veredus("user", "del", user)
    wait_for("refusal", lambda: not can_login(rootless, user, "secret"), 5)
    with rootless.raw() as client:
        client.hello()
        assert client.smtp("MAIL FROM:<>") == 250
        assert client.smtp(f"RCPT TO:<{user}>") == 550
    assert user not in rootless.veredus("user", "list").stdout


@pytest.mark.parametrize("kind", ["rootless", "rooted"])
def test_tables_that_change_count_at_the_next_rcpt(kind, request):
    instance = request.getfixturevalue(kind)
    user = f"frida{random.getrandbits(32):x}@example.test"
    alias = f"alias{random.getrandbits(32):x}@example.test"
    aliases = instance.path("tables/virtual-aliases")
    with open(aliases) as file:
        before = file.read()

    def rcpt(client, to):
        return [client.smtp("RSET"), client.smtp("MAIL FROM:<>"),
                client.smtp(f"RCPT TO:<{to}>")][2]
    with instance.raw() as client:
        client.hello()
        try:
            for _ in range(3):
                assert rcpt(client, user) == 550
                instance.veredus("user", "add", user, "--password-stdin", input="secret\n")
                assert [rcpt(client, user) for _ in range(4)] == [250] * 4
                instance.veredus("user", "del", user)
                assert rcpt(client, user) == 550
                with open(aliases, "a") as file:
                    file.write(f"{alias}: {ALICE}\n")
                assert [rcpt(client, alias) for _ in range(4)] == [250] * 4
                with open(aliases, "w") as file:
                    file.write(before)
                assert rcpt(client, alias) == 550
        finally:
            with open(aliases, "w") as file:
                file.write(before)


def test_adding_twice_and_deleting_nobody_are_refused(rootless):
    result = rootless.veredus("user", "add", ALICE, "--password-stdin", input="x\n", status=None)
    assert result.returncode == 1 and ALICE in result.stderr
    result = rootless.veredus("user", "del", "nobody-here@example.test", status=None)
    assert result.returncode == 1
    assert can_login(rootless, ALICE, PASSWORDS[ALICE])


# --- tables ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["hash", "btree", "lmdb"])
def test_table_build_and_get(rootless, kind):
    source = os.path.join(rootless.parent, f"table-{kind}")
    with open(source, "w") as file:
        file.write("# a comment\nkey one value\nsecond: another value\nthird third-value\n")
    os.chmod(source, 0o644)
    rootless.veredus("table", "build", f"{kind}:{source}")
    assert rootless.veredus("table", "get", f"{kind}:{source}", "third").stdout.strip() == \
        "third-value"
    assert rootless.veredus("table", "get", f"{kind}:{source}", "none", status=None).returncode == 1


def test_aliases_and_virtual_aliases_are_followed(fresh):
    instance = fresh()
    instance.write("tables/more", "team@example.test: alice@example.test, bob@example.test\n"
                                  "chain@example.test: team@example.test\n"
                                  "loop@example.test: loop2@example.test\n"
                                  "loop2@example.test: loop@example.test\n")
    text = re.sub(r"^virtual-aliases .*\n", "", instance.read("veredus.conf"), flags=re.M)
    instance.write("veredus.conf", "virtual-aliases text:tables/more\n" + text)
    instance.start()
    instance.send("to the team", to="chain@example.test")
    for user in (ALICE, BOB):
        mail = instance.wait_mail("to the team", user)
        assert mail["X-Original-To"] == "chain@example.test"
        assert mail["Delivered-To"] == user
    with instance.raw() as client:
        client.hello()
        assert client.smtp("MAIL FROM:<>") == 250
        assert 400 <= client.smtp("RCPT TO:<loop@example.test>") < 600
        assert client.smtp(f"RCPT TO:<{ALICE}>") == 250


def test_plus_addresses_reach_the_user(rootless):
    rootless.send("plus", to="alice+folder@example.test")
    mail = rootless.wait_mail("plus")
    assert "alice+folder@example.test" in (mail["Delivered-To"], mail["X-Original-To"])


# --- configuration --------------------------------------------------------------------------------
def test_config_default_is_a_valid_commented_file(rootless):
    text = rootless.veredus("config", "default").stdout
    for key in ("hostname", "message-size", "listen", "outbound"):
        assert key in text
    assert "#" in text


def test_config_show_parses_back(fresh):
    instance = fresh()
    text = instance.veredus("config", "show").stdout
    instance.write("veredus.conf", text)
    instance.veredus("config", "check")
    instance.start()
    instance.send("with the printed configuration")
    instance.wait_mail("with the printed configuration")


def test_config_explain(rootless):
    text = rootless.veredus("config", "explain", "message-size").stdout
    assert "50M" in text
    result = rootless.veredus("config", "explain", "mesage-size", status=None)
    assert result.returncode == 1 and "message-size" in result.stderr


# --- log and trace --------------------------------------------------------------------------------
def accepted(instance, subject, **options):
    """Sends, and returns the log line of the acceptance."""
    before = len(instance.log_find(event="msg.accept"))
    instance.send(subject, **options)
    return wait_for("msg.accept", lambda: instance.log_find(event="msg.accept")[before:])[-1]


def test_the_log_joins_session_and_message(rootless):
    subject = unique("story")
    entry = accepted(rootless, subject)
    assert entry["process"] == "smtpd" and entry["sid"] and entry["qid"]
    assert entry["from"] == "someone@elsewhere.test" and entry["nrcpt"] == "1"
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$", entry["time"])
    done = rootless.wait_log(event="dlv.done", qid=entry["qid"])[0]
    assert done["to"] == ALICE and done["result"] == "delivered"
    assert rootless.log_find(event="smtp.connect", sid=entry["sid"])
    mail = rootless.wait_mail(subject)
    assert entry["qid"] in mail["Received"]
    assert int(entry["pid"]) in rootless.pids("smtpd")


def test_trace_tells_the_story_of_one_message(rootless):
    one = accepted(rootless, unique("one"))
    two = accepted(rootless, unique("two"), to=BOB)
    rootless.wait_log(event="msg.done", qid=one["qid"])
    text = rootless.veredus("trace", one["qid"]).stdout
    assert "msg.accept" in text and "dlv.done" in text and ALICE in text
    assert "smtp.connect" in text  # the session that accepted it
    assert two["qid"] not in text


def test_trace_of_an_unknown_id_says_no(rootless):
    assert rootless.veredus("trace", "zzzzzzzzzzzzz", status=None).returncode == 1


def test_log_filters(rootless):
    entry = accepted(rootless, unique("filtered"))
    rootless.wait_log(event="dlv.done", qid=entry["qid"])
    lines = rootless.veredus("log", "--qid", entry["qid"]).stdout.splitlines()
    assert lines and all(entry["qid"] in line for line in lines)
    lines = rootless.veredus("log", "--sid", entry["sid"]).stdout.splitlines()
    assert lines and all(entry["sid"] in line for line in lines)
    lines = rootless.veredus("log", "--daemon", "qmgr").stdout.splitlines()
    assert lines and all(" qmgr[" in line for line in lines)
    lines = rootless.veredus("log", "--event", "msg.accept").stdout.splitlines()
    assert lines and all("event=msg.accept" in line for line in lines)


def test_log_shows_a_level_and_what_is_worse(rootless):
    rootless.veredus("queue", "flush")  # logged as notice
    def shown(level):
        return rootless.veredus("log", "--level", level).stdout.splitlines()
    notices = wait_for("the line", lambda: shown("notice"))
    assert all("level=" in line for line in notices)
    assert len(shown("info")) > len(notices) and set(notices) <= set(shown("info"))
    assert not [line for line in shown("warn") if "level=notice" in line]
    for options in (["--level", "loud"], ["--level"], ["--qid"]):
        assert rootless.veredus("log", *options, status=None).returncode == 2


def test_log_as_json(rootless):
    entry = accepted(rootless, unique("json"))
    rootless.wait_log(event="dlv.done", qid=entry["qid"])
    events = [json.loads(line) for line in
              rootless.veredus("log", "--json", "--qid", entry["qid"]).stdout.splitlines()]
    assert {"msg.accept", "dlv.done"} <= {e["event"] for e in events}


def test_log_follow_shows_what_happens(rootless):
    process = subprocess.Popen(rootless.command("veredus", "-d", rootless.dir, "log", "--follow"),
                               stdout=subprocess.PIPE, text=True)
    try:
        time.sleep(0.5)
        entry = accepted(rootless, unique("followed"))
        for line in process.stdout:
            if entry["qid"] in line and "dlv.done" in line:
                break
        else:
            raise AssertionError("not shown")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_log_file_moved_away_is_made_anew(fresh):
    instance = fresh()
    instance.start()
    os.rename(instance.path("log/veredus.log"), instance.path("log/veredus.log.1"))

    def again():
        instance.send(unique("after rotation"))
        return instance.log_find(event="msg.accept")
    wait_for("the new file", again, 15, interval=0.3)


def test_control_characters_cannot_forge_log_lines(rootless):
    with rootless.raw() as client:
        client.reply()
        client.smtp(b"EHLO x\tevent=forged\x1b[31m")
        client.smtp(b"MAIL FROM:<a\rb@elsewhere.test>")
        client.smtp("FROB event=forged2 \"quoted\\")
        client.smtp("QUIT")
    time.sleep(0.3)
    for line in rootless.log().splitlines():
        assert re.match(r"\d{4}-\d\d-\d\dT\S+Z [\w-]+\[\d+\] event=", line), line
        assert "\x1b" not in line
    assert not rootless.log_find(event="forged") and not rootless.log_find(event="forged2")


# --- queue ----------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def stuck():
    """An instance whose outgoing mail goes nowhere and waits."""
    instance = make(False)
    text = re.sub(r"^outbound\s*\{[^}]*\}\n?", "", instance.read("veredus.conf"), flags=re.M)
    instance.write("veredus.conf", text + f"\noutbound {{ relay-host [127.0.0.1]:{free_port()}; "
                   "retry-from 1h; retry-to 1h }\n")
    yield instance.start()
    instance.discard()


def enqueue(instance, name):
    """Sends to name@far.test and returns its entry once it is deferred."""
    address = f"{name}{random.getrandbits(32):x}@far.test"
    instance.send(unique(name), to=address, sender=ALICE, login=ALICE, body="queue content\r\n")
    return wait_for("the entry", lambda: [e for e in instance.queue() if e["recipient"] == address
                                          and e["state"] == "deferred"], 20)[0]


def test_queue_list_and_show(stuck):
    entry = enqueue(stuck, "list")
    assert entry["sender"] == ALICE and entry["size"] > 100
    assert entry["qid"] in stuck.veredus("queue", "list").stdout
    text = stuck.veredus("queue", "show", entry["qid"]).stdout
    assert entry["recipient"] in text and ALICE in text
    assert "refused" in text.lower()  # why it waits


def test_queue_hold_release_delete(stuck):
    entry = enqueue(stuck, "hold")

    def state():
        return [e["state"] for e in stuck.queue() if e["qid"] == entry["qid"]]
    stuck.veredus("queue", "hold", entry["qid"])
    assert state() == ["held"]
    stuck.veredus("queue", "flush")
    time.sleep(0.5)
    assert state() == ["held"]
    stuck.veredus("queue", "release", entry["qid"])
    wait_for("its release", lambda: state() in (["deferred"], ["active"]))
    stuck.veredus("queue", "delete", entry["qid"])
    wait_for("its end", lambda: state() == [])
    assert stuck.veredus("queue", "show", entry["qid"], status=None).returncode == 1
    assert stuck.veredus("queue", "delete", entry["qid"], status=None).returncode == 1


def test_held_mail_stays_held_over_a_restart(stuck):
    entry = enqueue(stuck, "kept")
    stuck.veredus("queue", "hold", entry["qid"])
    stuck.restart()
    assert [e["state"] for e in stuck.queue() if e["qid"] == entry["qid"]] == ["held"]
    stuck.veredus("queue", "delete", entry["qid"])


def test_the_queue_is_listed_while_the_system_is_down(stuck):
    entry = enqueue(stuck, "down")
    stuck.stop()
    offline = [e for e in stuck.queue() if e["qid"] == entry["qid"]]
    stuck.start()
    assert offline == [dict(entry, next=offline[0]["next"])]
    stuck.veredus("queue", "delete", entry["qid"])


def test_queue_summary_counts_by_domain(stuck):
    entry = enqueue(stuck, "summary")
    summary = json.loads(stuck.veredus("queue", "summary", "--json").stdout)
    assert summary["deferred"] >= 1 and summary["ages"]["<5m"] >= 1
    assert [d["messages"] >= 1 for d in summary["domains"] if d["domain"] == "far.test"] == [True]
    stuck.veredus("queue", "delete", entry["qid"])


def test_queue_show_body_gives_the_message_alone(stuck):
    entry = enqueue(stuck, "body")
    text = stuck.veredus("queue", "show", "--body", entry["qid"]).stdout
    assert text.startswith("Received:") and text.rstrip().endswith("queue content")
    stuck.veredus("queue", "delete", entry["qid"])


def test_mailq_prints_the_queue(stuck):
    entry = enqueue(stuck, "mailq")
    text = stuck.sendmail("-bp").stdout
    assert entry["recipient"] in text and ALICE in text
    env = dict(os.environ, VEREDUS_DIR=stuck.dir)
    assert entry["recipient"] in stuck.run("mailq", env=env).stdout


# --- sendmail(1) ----------------------------------------------------------------------------------
def letter(subject, *fields):
    return "\n".join([f"Subject: {subject}", *fields, "", "Written by a script.", ".", "more", ""])


def test_sendmail_to_arguments(either):
    subject = unique("sendmail")
    either.sendmail("-i", ALICE, BOB, input=letter(subject))
    mail = either.wait_mail(subject, ALICE)
    either.wait_mail(subject, BOB)
    assert "more" in mail.get_content()  # -i: a lone dot is text
    assert mail["From"] and mail["Date"] and mail["Message-ID"]  # added where missing


def test_sendmail_t_reads_recipients_and_removes_bcc(either):
    subject = unique("sendmail -t")
    either.sendmail("-t", "-oi", input=letter(
        subject, f"To: Alice <{ALICE}>", f"Bcc: {BOB}", "From: script@example.test"))
    mail = either.wait_mail(subject, ALICE)
    assert "Bcc" not in mail and "Bcc" not in either.wait_mail(subject, BOB)


def test_sendmail_without_i_ends_at_a_dot(either):
    subject = unique("sendmail dot")
    either.sendmail(ALICE, input=letter(subject))
    assert "more" not in either.wait_mail(subject, ALICE).get_content()


def test_sendmail_f_sets_the_sender(either):
    subject = unique("sendmail -f")
    either.sendmail("-f", "boss@example.test", "-i", ALICE, input=letter(subject))
    assert either.wait_mail(subject)["Return-Path"] == "<boss@example.test>"


def test_sendmail_bs_speaks_smtp(either):
    subject = unique("sendmail -bs")
    result = either.sendmail("-bs", input=(
        "EHLO script\r\nMAIL FROM:<a@example.test>\r\n"
        f"RCPT TO:<{ALICE}>\r\nDATA\r\nSubject: {subject}\r\n\r\nx\r\n.\r\nQUIT\r\n"))
    assert result.stdout.startswith("220 ") and "\n221" in result.stdout
    either.wait_mail(subject)


def test_sendmail_to_an_unknown_user_fails(either):
    result = either.sendmail("-i", "nobody-here@example.test", input=letter("x"), status=None)
    assert result.returncode != 0
    assert "nobody-here@example.test" in result.stdout + result.stderr


def test_sendmail_when_nothing_runs_is_temporary(fresh):
    result = fresh().sendmail("-i", ALICE, input=letter("x"), status=None)
    assert result.returncode == 75  # EX_TEMPFAIL


def test_sendmail_q_is_accepted(either):
    either.sendmail("-q")


def test_mail_from_sendmail_names_its_user_in_received(either):
    subject = unique("sendmail uid")
    either.sendmail("-i", ALICE, input=letter(subject))
    assert re.search(r"uid|userid|user", either.wait_mail(subject)["Received"], re.I)
