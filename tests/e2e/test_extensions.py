"""MT-PRIORITY, FUTURERELEASE, ETRN, SMTPUTF8, mail held by a table, reports, and draining."""
import json
import random
import re
import smtplib
import unicodedata

import pytest

from conftest import make
from sink import Sink
from veredus import ALICE, BOB, PASSWORDS, free_port, tls_context, wait_for

GREEK = "δοκιμή@example.test"


def unique(text):
    return f"{text}{random.getrandbits(32):x}"


def text_of(subject, extra=""):
    return f"Subject: {subject}\r\nFrom: <{ALICE}>\r\n{extra}\r\nHello.\r\n"


def rooted_or_not(request, conf, tables=()):
    instance = make(request.param == "rooted")
    text = re.sub(r"^(outbound|queue)\s*\{[^}]*\}\n?", "", instance.read("veredus.conf"), flags=re.M)
    instance.write("veredus.conf", text + "\nqueue { segment-size 8M; message-recipients 100 }\n" + conf)
    for name, lines in tables:
        instance.write(f"tables/{name}", lines)
    return instance


@pytest.fixture(scope="module")
def sink():
    """Refuses whoever's name begins with no, and knows DSN but not SMTPUTF8."""
    server = Sink("127.0.0.1", free_port(), {"RCPT": lambda argument: "550 5.1.1 no such user"
                  if argument.upper().startswith("TO:<NO") else "250 2.1.5 ok"})
    yield server
    server.stop()


@pytest.fixture(scope="module")
def old_sink():
    """Without any extension."""
    server = Sink("127.0.0.1", free_port(), {"EHLO": "250 old.test"})
    yield server
    server.stop()


CONF = """
networks 127.0.0.0/8
hold text:tables/hold
transport text:tables/transport
outbound {{ relay-host [127.0.0.1]:{port}; retry-from 1h; retry-to 1h }}
domain relayed.test {{ relay [127.0.0.1]:{dead} }}
report {{ double-bounce bob@example.test }}
report-texts text:tables/report-texts
"""


@pytest.fixture(scope="module", params=["rootless", "rooted"])
def server(request, sink, old_sink):
    instance = rooted_or_not(
        request, CONF.format(port=sink.server.server_address[1], dead=free_port()),
        [("hold", "suspect.test: looks bad\nalice+held@example.test: on leave\n"),
         ("transport", f"old.test: smtp:[127.0.0.1]:{old_sink.server.server_address[1]}\n"),
         ("report-texts", "failure-subject.de: Unzustellbar: {count} Empfänger\n"
          "failure-text.de: Gruß von {hostname}.\\n\n   Nummer {queue-id}.\n"
          "failure-subject: Came to nothing\n"),
         ("virtual-aliases", "team@example.test: alice@example.test, bob@example.test\n")])
    instance.veredus("user", "add", GREEK, input="geheim-genug\ngeheim-genug\n")
    yield instance.start()
    instance.discard()


def submit(instance, text, sender=ALICE, to=ALICE, options=(), rcpt_options=()):
    with smtplib.SMTP("127.0.0.1", instance.submission, timeout=30) as smtp:
        smtp.starttls(context=tls_context())
        smtp.login(ALICE, PASSWORDS[ALICE])
        return smtp.sendmail(sender, [to] if isinstance(to, str) else to, text, options,
                             rcpt_options)


def report(instance, about, user=ALICE):
    """The report that mentions this text, and the fields of its second part."""
    def found():
        for mail in instance.mails(user):
            if mail.get_content_type() == "multipart/report" and about in mail.as_string():
                return mail
        return None
    mail = wait_for(f"a report about {about}", found, 15)
    part = mail.get_payload()[1]
    groups = part.get_payload()
    if isinstance(groups, str):
        body = part.get_payload(decode=True).decode()
    else:
        body = "\n".join(g.as_string() for g in groups)
    return mail, body


# --- SMTP -----------------------------------------------------------------------------------------
def test_what_is_offered(server):
    with server.raw() as client:
        offers = client.hello()
    assert {"SMTPUTF8", "MT-PRIORITY", "ETRN", "8BITMIME"} <= set(offers)
    assert not [o for o in offers if o.startswith("FUTURERELEASE")]
    with server.raw("submission") as client:
        offers = client.hello()
    assert [o for o in offers if re.fullmatch(
        r"FUTURERELEASE 2592000 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", o)]


def test_priority_is_kept_in_the_queue(server):
    user, subject = unique("u"), unique("prio")
    submit(server, text_of(subject), to=f"{user}@relayed.test", options=["MT-PRIORITY=3"])
    server.wait_log(event="msg.accept", priority=3)


def test_mail_is_held_until_its_time(server):
    subject = unique("later")
    submit(server, text_of(subject), options=["HOLDFOR=2"])
    assert [e for e in server.queue() if e["recipient"] == ALICE]
    server.wait_mail(subject, timeout=30)


def test_mail_for_next_year_survives_a_restart_without_being_sent(server):
    subject = unique("year")
    to = f"alice+{subject}@example.test"
    submit(server, text_of(subject), to=to, options=["HOLDFOR=2000000"])
    server.restart()
    waiting = [e for e in server.queue() if e["recipient"] == to]
    assert len(waiting) == 1
    assert not [m for m in server.mails() if m["Subject"] == subject]
    server.veredus("queue", "delete", waiting[0]["qid"])


def test_etrn_makes_waiting_mail_due(server):
    user = unique("u")
    server.send(unique("etrn"), to=f"{user}@relayed.test", sender=BOB)
    entry = wait_for("the deferred entry", lambda: [
        e for e in server.queue() if user in e["recipient"] and e["state"] == "deferred"])[0]
    with server.raw() as client:
        client.hello()
        assert client.smtp("ETRN example.test") == 459
        assert client.smtp("ETRN relayed.test") == 253
        assert client.smtp("ETRN @relayed.test") in (251, 253)
    wait_for("a second attempt", lambda: len(server.log_find(
        event="dlv.done", qid=entry["qid"])) > 1)


# --- SMTPUTF8 -------------------------------------------------------------------------------------
def test_a_utf8_address_has_a_mailbox(server):
    subject = unique("greek")
    with server.raw() as client:
        client.hello()
        assert client.smtp("MAIL FROM:<ünser@absender.test> SMTPUTF8") == 250
        assert client.smtp(f"RCPT TO:<{GREEK}>") == 250
        assert client.smtp("DATA") == 354
        assert client.smtp(f"Subject: {subject}\r\nX-Name: Jörg\r\n\r\nHi\r\n.") == 250
    mail = server.wait_mail(subject, user=GREEK)
    assert "with UTF8SMTP id" in mail["Received"]


def test_a_name_spelt_with_combining_characters_is_the_same(server):
    subject = unique("greek")
    apart = unicodedata.normalize("NFD", GREEK)
    assert apart != GREEK
    with server.raw() as client:
        client.hello()
        assert client.smtp("MAIL FROM:<a@absender.test> SMTPUTF8") == 250
        assert client.smtp(f"RCPT TO:<{apart}>") == 250
        assert client.smtp(f"RCPT TO:<{apart.split('@')[0]}@far.test>") == 250
        assert client.smtp("DATA") == 354
        assert client.smtp(f"Subject: {subject}\r\n\r\nHi\r\n.") == 250
    server.wait_mail(subject, user=GREEK)
    assert server.wait_log(event="dlv.done", to=apart.split("@")[0] + "@far.test")


def test_a_utf8_address_without_smtputf8_is_refused(server):
    with server.raw() as client:
        client.hello()
        assert client.smtp("MAIL FROM:<a@absender.test>") == 250
        client.send(f"RCPT TO:<{GREEK}>\r\n")
        code, texts = client.reply()
        assert code == 553 and texts[0].startswith("5.6.7 ")


def test_a_report_about_a_utf8_address_is_in_utf8(server):
    user = "ξ" + unique("")
    with server.raw() as client:
        client.hello()
        assert client.smtp(f"MAIL FROM:<{ALICE}> SMTPUTF8") == 250
        assert client.smtp(f"RCPT TO:<{user}@far.test>") == 250
        assert client.smtp("DATA") == 354
        assert client.smtp("Subject: ü\r\n\r\nHi\r\n.") == 250

    def found():
        for path in server.mail_files():
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read()
            if f"Final-Recipient: utf-8; {user}@far.test" in text:
                return text
        return None
    text = wait_for("the report", found, 15)
    assert "report-type=global-delivery-status" in text
    assert "Content-Type: message/global-delivery-status" in text
    assert "Content-Type: message/global" in text
    assert "\nStatus: 5.6.7" in text


def test_what_is_ascii_after_all_goes_to_an_old_server(server, old_sink):
    user = unique("u")
    server.send(unique("x"), to=f"{user}@old.test", sender=ALICE, options=["SMTPUTF8"])
    wait_for("the message", lambda: [
        m for m in old_sink.messages if user in str(m["recipients"])], 15)


# --- hold by rule ---------------------------------------------------------------------------------
@pytest.mark.parametrize("sender,to,rule", [
    ("x@suspect.test", "alice@example.test", "hold:sender=suspect.test"),
    ("x@good.test", "alice+held@example.test", "hold:recipient=alice+held@example.test")])
def test_mail_is_accepted_and_held_until_released(server, sender, to, rule):
    subject = unique("held")
    server.send(subject, to=to, sender=sender)
    entry = wait_for("the entry", lambda: [
        e for e in server.queue() if e["state"] == "held" and e["sender"] == sender])[0]
    server.wait_log(event="msg.accept", qid=entry["qid"], rule=rule)
    assert not [m for m in server.mails() if m["Subject"] == subject]
    server.restart()
    assert [e["state"] for e in server.queue() if e["qid"] == entry["qid"]] == ["held"]
    server.veredus("queue", "release", entry["qid"])
    server.wait_mail(subject)


# --- reports --------------------------------------------------------------------------------------
def test_a_failure_report_in_the_words_of_the_administrator(server):
    user = unique("no")
    server.send(unique("x"), to=[f"{user}@far.test", f"{user}b@far.test"], sender=ALICE,
                extra="Accept-Language: de-AT, en;q=0.5\r\n")
    mail, fields = report(server, f"{user}@far.test")
    assert mail["Subject"] == "Unzustellbar: 2 Empfänger"
    assert "Gruß von mail.example.test.\r\nNummer" in mail.get_payload()[0].get_content()
    assert mail["Auto-Submitted"] == "auto-replied"
    assert fields.count("Action: failed") == 2


def test_a_failure_report_has_our_words_where_he_has_none(server):
    user = unique("no")
    server.send(unique("x"), to=f"{user}@far.test", sender=ALICE)
    mail, _ = report(server, f"{user}@far.test")
    assert mail["Subject"] == "Came to nothing"
    assert "This is the mail system at" in mail.get_payload()[0].get_content()


def test_success_of_a_list_is_reported_once_as_expanded(server):
    subject = unique("team")
    server.send(subject, to="team@example.test", sender=ALICE,
                rcpt_options=["NOTIFY=SUCCESS", "ORCPT=rfc822;team@example.test"],
                options=["ENVID=" + subject])
    server.wait_mail(subject)
    server.wait_mail(subject, user=BOB)
    _, fields = report(server, subject)
    assert "Action: expanded" in fields and "Action: delivered" not in fields
    assert "Original-Recipient: rfc822;team@example.test" in fields


def test_success_beyond_a_server_without_dsn_is_relayed(server):
    user = unique("u")
    server.send(unique("x"), to=f"{user}@old.test", sender=ALICE, rcpt_options=["NOTIFY=SUCCESS"])
    _, fields = report(server, f"{user}@old.test")
    assert "Action: relayed" in fields


def test_what_cannot_be_reported_goes_to_the_double_bounce_address(server):
    sender = unique("no") + "@far.test"
    server.send(unique("x"), to=f"{unique('no')}@far.test", sender=sender)
    mail, _ = report(server, sender, user=BOB)
    assert "postmaster notice" in mail["Subject"]


def test_one_report_tells_of_many_recipients_in_portions(server):
    names = [f"{unique('no')}-{'x' * 150}@far.test" for _ in range(250)]
    server.send(unique("x"), to=names, sender=ALICE)

    def found():
        for path in server.mail_files():
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read()
            if f"Final-Recipient: rfc822; {names[-1]}" in text:
                return text
        return None
    text = wait_for("the report", found, 15)
    assert all(f"Final-Recipient: rfc822; {name}" in text for name in names)
    assert text.count("Action: failed") == 250
    assert len(server.log_find(event="msg.bounce", sender=ALICE, nrcpt="250")) == 1


def test_a_wrong_text_is_named_with_file_line_and_key(server):
    conf = server.read("veredus.conf")
    server.write("tables/wrong", "# mine\nfailure-text: From {hostname}.\ndelay-text: x\n {nonsense}\n")
    server.write("wrong.conf", conf.replace("tables/report-texts", "tables/wrong"))
    result = server.run("veredus", "-c", server.path("wrong.conf"), "config", "check", status=None)
    assert result.returncode != 0
    assert re.search(r"tables/wrong:3: delay-text: '\{nonsense\}'", result.stdout + result.stderr)


def test_a_wrong_text_does_not_keep_a_report_back(server):
    before = server.read("tables/report-texts")
    user = unique("no")
    server.write("tables/report-texts", "failure-text: {nonsense}\n")
    try:
        server.send(unique("x"), to=f"{user}@far.test", sender=ALICE)
        mail, _ = report(server, f"{user}@far.test")
    finally:
        server.write("tables/report-texts", before)
    assert mail["Subject"] == "Mail could not be delivered"
    assert server.log_find(event="report.words", key="failure-text")


# --- drain ----------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def nodes(request):
    """Mail waits on the first; the second takes everything."""
    pair = []
    for _ in range(2):
        request.param = "rootless"
        instance = rooted_or_not(request, "networks 127.0.0.0/8\noutbound "
                                 f"{{ relay-host [127.0.0.1]:{free_port()}; "
                                 "retry-from 1h; retry-to 1h }\n")
        pair.append(instance.start())
    yield pair
    for instance in pair:
        instance.discard()


def details(instance, qid):
    return json.loads(instance.veredus("queue", "show", "--json", qid).stdout)


def test_drain_hands_everything_over_once_with_its_parameters(nodes):
    old, new = nodes
    users = [unique("u") for _ in range(20)]
    for user in users:
        old.send(user, to=[f"{user}@far.test", f"{user}@away.test"], sender=ALICE,
                 options=["RET=HDRS", f"ENVID={user}", "MT-PRIORITY=2"],
                 rcpt_options=["NOTIFY=FAILURE,DELAY", "ORCPT=rfc822;first@far.test"])
    wait_for("all to be deferred", lambda: [e["state"] for e in old.queue()] == ["deferred"] * 20)
    held = old.queue()[0]["qid"]
    old.veredus("queue", "hold", held)
    plan = json.loads(old.veredus(
        "queue", "drain", "--json", "--dry-run", "--to", f"127.0.0.1:{new.smtp}").stdout)
    assert plan["found"] == 19 and plan["skipped"] == 1 and len(old.queue()) == 20
    done = json.loads(old.veredus(
        "queue", "drain", "--json", "--to", f"127.0.0.1:{new.smtp}").stdout)
    assert done["sent"] == 19 and done["kept"] == 0
    assert [e["qid"] for e in old.queue()] == [held]
    done = json.loads(old.veredus(
        "queue", "drain", "--json", "--held", "--to", f"127.0.0.1:{new.smtp}").stdout)
    assert done["sent"] == 1 and not old.queue()
    assert old.log_find(event="queue.act", verb="drain")
    arrived = [details(new, e["qid"]) for e in new.queue()]
    assert sorted(a["envid"] for a in arrived) == sorted(users)
    for message in arrived:
        assert message["sender"] == ALICE and message["ret"] == "hdrs"
        assert message["priority"] == 2
        addresses = sorted(r["address"] for r in message["recipients"])
        assert addresses == [f"{message['envid']}@away.test", f"{message['envid']}@far.test"]
        assert {r["orcpt"] for r in message["recipients"]} == {"rfc822;first@far.test"}
        assert {r["notify"] for r in message["recipients"]} == {"failure,delay"}


def test_what_the_node_refuses_stays(nodes):
    old, _ = nodes
    refusing = Sink("127.0.0.1", free_port(), {"MAIL": "550 5.7.1 not from you"})
    old.send(unique("x"), to=f"{unique('u')}@far.test", sender=ALICE)
    wait_for("the entry", lambda: [e for e in old.queue() if e["state"] == "deferred"])
    result = old.veredus("queue", "drain", "--to",
                         f"127.0.0.1:{refusing.server.server_address[1]}", status=1)
    assert "1 kept" in result.stdout  # handed over: what other tests have left for the domain
    assert len(old.queue()) == 1
    assert not [m for m in old.mails() if m.get_content_type() == "multipart/report"]
    refusing.stop()
    entry = old.queue()[0]
    old.veredus("queue", "requeue", entry["qid"])
    shown = json.loads(old.veredus("queue", "show", "--json", entry["qid"]).stdout)["recipients"]
    assert [(r["address"], r["transport"]) for r in shown if r["state"] == "waiting"] == [
        (entry["recipient"], "remote")]
    old.veredus("queue", "delete", entry["qid"])


def test_one_of_many_recipients_that_the_node_refuses_ends_the_wait(nodes, sink):
    """What a message has of them does not fit into one answer of the queue."""
    old, _ = nodes
    name = unique("u")
    many = [f"{name}.{i}.{'x' * 40}@far.test" for i in range(500)]
    old.send(unique("x"), to=many + [f"no{name}@far.test"], sender=ALICE)
    qid, = [e["qid"] for e in old.queue() if e["recipient"].startswith(name)]
    wait_for("the entry", lambda: details(old, qid)["state"] == "deferred")
    result = old.veredus("queue", "drain", "--recipient-domain", "far.test", "--to",
                         f"127.0.0.1:{sink.server.server_address[1]}", status=1)
    assert "0 messages handed over" in result.stdout and "1 kept" in result.stdout
    left = [r for r in details(old, qid)["recipients"] if r["state"] == "waiting"]
    assert [r["address"] for r in left] == [f"no{name}@far.test"]
    old.veredus("queue", "delete", qid)


@pytest.mark.parametrize("options", [[], ["--to", ""], ["--to", "a b"], ["--to", "x:99999"]])
def test_drain_needs_a_node(nodes, options):
    assert nodes[0].veredus("queue", "drain", *options, status=None).returncode == 2


def test_more_recipients_than_the_log_can_hold_are_refused_at_rcpt(request):
    instance = make(False)
    request.addfinalizer(instance.discard)
    instance.edit_conf((r"segment-size 8M", "segment-size 256K"),
                       (r"^listen smtp \{", "listen smtp {\n    max-recipients 100000"),
                       append="networks 127.0.0.0/8\noutbound { relay-host [127.0.0.1]:9 }")
    instance.start()
    with instance.raw() as client:
        client.hello()
        assert client.smtp("MAIL FROM:<a@b.test>") == 250
        codes = []
        while 452 not in codes and len(codes) < 5000:
            codes.append(client.smtp(f"RCPT TO:<user{len(codes)}@far.test>"))
        assert codes[-1] == 452 and len(codes) > 500
        assert client.smtp("DATA") == 354
        assert client.smtp("Subject: many\r\n\r\nHello.\r\n.") == 250
