"""Mail that leaves: MX rules (RFC 5321 §5.1, RFC 7505), retries, bounces (RFC 3464), relaying
between two instances. The domain name system is an nsd of our own."""
import os
import random
import re
import shutil
import smtplib
import time

import pytest

from dns import Dns
from sink import Sink
from conftest import make
from veredus import ALICE, SLOW, free_port, message, port_free, tls_context, wait_for


def free_on_all(hosts):
    """A port that is free on every one of these addresses."""
    candidates = (free_port() for _ in range(50))
    return next(p for p in candidates if all(port_free(p, host) for host in hosts))


HOSTS = [f"127.0.0.{n}" for n in range(1, 6)]
RECORDS = [
    # two exchangers in order, the first of which is 127.0.0.2
    "order.test. MX 10 mx-a.test.", "order.test. MX 20 mx-b.test.",
    "mx-a.test. A 127.0.0.2", "mx-b.test. A 127.0.0.3",
    "plain.test. A 127.0.0.2",                       # no MX: the address itself
    "nullmx.test. MX 0 .", "nullmx.test. A 127.0.0.2",
    "nowhere.test. TXT \"no mail here\"",            # exists, no MX, no address
    "dead.test. MX 10 mx-dead.test.", "mx-dead.test. A 127.0.0.5",
    "late.test. MX 10 mx-late.test.", "mx-late.test. A 127.0.0.4",
    "third.test. MX 10 mx-c.test.", "mx-c.test. A 127.0.0.4",
    "brokenmx.test. MX 10 no-such-host.test.",
    "both.test. MX 10 mx-gone.test.", "both.test. MX 20 mx-b.test.",
]


@pytest.fixture(scope="module")
def port():
    return free_on_all(HOSTS)


@pytest.fixture(scope="module")
def dns():
    nsd = shutil.which("nsd") or shutil.which("nsd", path="/usr/sbin:/sbin")
    if not nsd:
        pytest.skip("nsd is not installed")
    server = Dns(nsd, RECORDS).start()
    yield server
    server.stop()


def outbound(instance, dns_port, port, more=""):
    """Makes an instance ask our name server and send to this port."""
    text = instance.read("veredus.conf")
    for block in ("outbound", "dns"):
        text = re.sub(rf"^{block}\s*\{{[^}}]*\}}\n?", "", text, flags=re.M)
    text += (f"\noutbound {{ port {port}; retry-from 1s; retry-to 2s; lifetime 1h; "
             f"connect-timeout 5s; {more} }}\ndns {{ servers 127.0.0.1@{dns_port} }}\n")
    instance.write("veredus.conf", text)


@pytest.fixture(scope="module")
def sender(dns, port):
    """An instance whose users may send anywhere the name server knows."""
    instance = make(False)
    outbound(instance, dns.port, port)
    yield instance.start()
    instance.discard()


@pytest.fixture
def sinks(port):
    made = []

    def factory(number, **options):
        sink = Sink(f"127.0.0.{number}", port, **options)
        made.append(sink)
        return sink
    yield factory
    for sink in made:
        sink.stop()


def unique(text):
    return f"{text} {random.getrandbits(32):x}"


def send(instance, subject, to, sender=ALICE, **options):
    return instance.send(subject, to=to, sender=sender, login=ALICE, **options)


def received(sink, subject, timeout=15):
    def found():
        return [m for m in sink.messages if f"Subject: {subject}\r\n".encode() in m["data"]]
    return wait_for(f"{subject!r} at the sink", found, timeout)[0]


def bounce_about(instance, address, timeout=20):
    """The delivery status notification in alice's mailbox that names this address."""
    def found():
        for mail in instance.mails():
            if mail.get_content_type() == "multipart/report" and address in mail.as_string():
                return mail
        return None
    return wait_for(f"a bounce about {address}", found, timeout)


# --- where mail goes ------------------------------------------------------------------------------
def test_the_best_exchanger_is_used(sender, sinks):
    first, second = sinks(2), sinks(3)
    subject = unique("best")
    send(sender, subject, "user@order.test")
    mail = received(first, subject)
    assert mail["recipients"] == ["TO:<user@order.test>"] or "user@order.test" in mail["recipients"][0]
    assert second.messages == []


def test_the_next_exchanger_is_used_when_the_best_is_down(sender, sinks):
    second = sinks(3)
    subject = unique("next")
    send(sender, subject, "user@order.test")
    received(second, subject)


def test_the_next_exchanger_is_used_when_the_best_greets_with_4xx(sender, sinks):
    first, second = sinks(2, answers={"CONNECT": "421 4.3.2 closing"}), sinks(3)
    subject = unique("greeting")
    send(sender, subject, "user@order.test")
    received(second, subject)
    assert first.connections >= 1


def test_an_exchanger_without_an_address_is_passed_over(sender, sinks):
    second = sinks(3)
    subject = unique("no address")
    send(sender, subject, "user@both.test")
    received(second, subject)


def test_without_mx_the_address_is_used(sender, sinks):
    first = sinks(2)
    subject = unique("fallback")
    send(sender, subject, "user@plain.test")
    received(first, subject)


def test_null_mx_bounces_at_once(sender, sinks):
    first = sinks(2)
    send(sender, unique("null mx"), "user@nullmx.test")
    mail = bounce_about(sender, "user@nullmx.test")
    assert re.search(r"Status: 5\.1\.10", mail.as_string())  # RFC 7505 §4.2
    assert first.connections == 0


def test_a_domain_that_does_not_exist_bounces(sender):
    send(sender, unique("nxdomain"), "user@does-not-exist.test")
    mail = bounce_about(sender, "user@does-not-exist.test")
    assert re.search(r"Status: 5\.1\.2", mail.as_string())


def test_a_domain_without_mail_bounces(sender):
    send(sender, unique("nodata"), "user@nowhere.test")
    bounce_about(sender, "user@nowhere.test")


def test_mail_leaves_as_it_came_with_our_received_and_no_return_path(sender, sinks):
    first = sinks(2)
    subject = unique("untouched")
    send(sender, subject, "user@plain.test", body="..dot\r\n.\r\n\r\nend\r\n")
    data = received(first, subject)["data"]
    assert data.startswith(b"Received: ")
    assert b"Return-Path" not in data and b"Delivered-To" not in data
    assert data.endswith(b"..dot\r\n.\r\n\r\nend\r\n")


def test_the_client_says_ehlo_with_its_hostname(sender, sinks):
    first = sinks(2)
    subject = unique("helo")
    send(sender, subject, "user@plain.test")
    received(first, subject)
    hostname = re.search(r"^\s*hostname\s+(\S+)", sender.read("veredus.conf"), re.M)[1]
    assert f"EHLO {hostname}" in first.commands


def test_starttls_is_used_when_offered(sender, sinks):
    first = sinks(2, certificate=(sender.path("tls/cert.pem"), sender.path("tls/key.pem")))
    subject = unique("tls")
    send(sender, subject, "user@plain.test")
    assert received(first, subject)["tls"]
    assert sender.wait_log(event="dlv.done", to="user@plain.test")


def test_one_connection_carries_several_messages(sender, sinks):
    first = sinks(2)
    subjects = [unique("reuse") for _ in range(8)]
    for subject in subjects:
        send(sender, subject, "user@plain.test")
    for subject in subjects:
        received(first, subject)
    assert first.connections < len(subjects)


def test_recipients_at_one_domain_share_a_message(sender, sinks):
    first = sinks(2)
    subject = unique("shared")
    send(sender, subject, [f"user{n}@plain.test" for n in range(5)])
    assert len(received(first, subject)["recipients"]) == 5
    time.sleep(0.5)
    assert len([m for m in first.messages if subject.encode() in m["data"]]) == 1


# --- what comes back ------------------------------------------------------------------------------
def test_a_refused_recipient_bounces_as_rfc_3464_says(sender, sinks):
    sinks(2, answers={"RCPT": "550 5.1.1 <nobody@plain.test> no such user"})
    subject = unique("refused")
    send(sender, subject, "nobody@plain.test")
    mail = bounce_about(sender, "nobody@plain.test")
    assert mail["Return-Path"] == "<>"
    assert mail.get_param("report-type") == "delivery-status"
    assert mail["Auto-Submitted"].startswith("auto-")  # RFC 3834
    assert mail["To"] and ALICE in mail["To"]
    parts = list(mail.iter_parts())
    assert parts[0].get_content_type() == "text/plain"
    assert "nobody@plain.test" in parts[0].get_content()
    assert parts[1].get_content_type() == "message/delivery-status"
    groups = parts[1].get_payload()
    assert groups[0]["Reporting-MTA"].lower().startswith("dns;")
    report = groups[1]
    assert report["Final-Recipient"].replace(" ", "").lower() == "rfc822;nobody@plain.test"
    assert report["Action"] == "failed" and report["Status"] == "5.1.1"
    assert "550" in report["Diagnostic-Code"] and "no such user" in report["Diagnostic-Code"]
    assert report["Remote-MTA"].lower().startswith("dns;")
    assert parts[2].get_content_type() in ("message/rfc822", "text/rfc822-headers")
    assert subject in parts[2].as_string()


def test_only_the_refused_recipients_are_reported(sender, sinks):
    first = sinks(2, answers={"RCPT": lambda a: "550 5.1.1 no" if "bad" in a else "250 ok"})
    subject = unique("some refused")
    send(sender, subject, ["good@plain.test", "bad1@plain.test", "bad2@plain.test"])
    assert len(received(first, subject)["recipients"]) == 1
    mail = bounce_about(sender, "bad1@plain.test").as_string()
    assert "bad2@plain.test" in mail
    assert "Final-Recipient: rfc822; good@" not in mail and "rfc822;good@" not in mail


def test_a_message_refused_after_data_bounces(sender, sinks):
    sinks(2, answers={"END": "554 5.7.1 we do not like it"})
    send(sender, unique("content"), "content@plain.test")
    assert "we do not like it" in bounce_about(sender, "content@plain.test").as_string()


def test_a_bounce_never_bounces(sender, sinks):
    """A null-sender message that cannot be delivered must not answer the null sender."""
    sinks(2, answers={"RCPT": "550 5.1.1 no such user"})
    before = len(sender.mails())
    sender.send(unique("null"), to="double@plain.test", sender="", login=ALICE)
    wait_for("its end", lambda: sender.log_find(event="dlv.done", to="double@plain.test"))
    wait_for("an empty queue", lambda: not [
        e for e in sender.queue() if "double@plain.test" in str(e)], 20)
    # The postmaster (alice) may hear of it, the null sender may not.
    assert all("<>" != (m["To"] or "") for m in sender.mails()[before:])


def test_notify_never_keeps_silent(sender, sinks):
    sinks(2, answers={"RCPT": "550 5.1.1 no such user"})
    with sender.raw("submission") as client:
        texts = client.hello()
    if "DSN" not in texts:
        pytest.skip("DSN is not offered by this version")
    send(sender, unique("silent"), "silent@plain.test", rcpt_options=["NOTIFY=NEVER"])
    wait_for("its end", lambda: sender.log_find(event="dlv.done", to="silent@plain.test"))
    time.sleep(1)
    assert not [m for m in sender.mails() if "silent@plain.test" in m.as_string()]


# --- what waits -----------------------------------------------------------------------------------
def test_a_dead_site_defers_and_flush_delivers(fresh, dns, port, sinks):
    instance = fresh()
    outbound(instance, dns.port, port, "")
    instance.edit_conf((r"retry-from 1s; retry-to 2s", "retry-from 1h; retry-to 2h"))
    instance.start()
    subject = unique("deferred")
    send(instance, subject, "user@late.test")
    wait_for("deferral", lambda: [e for e in instance.log_find(event="dlv.done", to="user@late.test")
                                  if e["result"] == "deferred"], 20)
    entry = wait_for("it in the queue", lambda: [e for e in instance.queue()
                                                 if e.get("state") == "deferred"])[0]
    assert subject not in str(instance.mails())
    sink = sinks(4)
    time.sleep(0.5)
    assert sink.messages == []  # its time has not come
    instance.veredus("queue", "flush")
    received(sink, subject)
    wait_for("an empty queue", lambda: instance.queue() == [])
    assert entry["qid"]


def test_a_4xx_answer_is_tried_again_by_itself(sender, sinks):
    tries = []

    def rcpt(argument):
        tries.append(argument)
        return "451 4.7.1 greylisted" if len(tries) < 3 else "250 ok"
    sink = sinks(2, answers={"RCPT": rcpt})
    subject = unique("greylisted")
    send(sender, subject, "grey@plain.test")
    received(sink, subject, 30)
    assert len(tries) == 3
    results = [e["result"] for e in sender.log_find(event="dlv.done", to="grey@plain.test")]
    assert results.count("deferred") == 2


def test_deferred_mail_survives_a_restart(fresh, dns, port, sinks):
    instance = fresh()
    outbound(instance, dns.port, port)
    instance.start()
    subject = unique("survives")
    send(instance, subject, "user@late.test", body="x" * 60000 + "\r\n")
    wait_for("deferral", lambda: instance.log_find(event="dlv.done", to="user@late.test"), 20)
    instance.stop()
    instance.start()
    assert len(instance.queue()) == 1
    sink = sinks(4)
    received(sink, subject, 30)


def test_expired_mail_bounces(fresh, dns, port):
    instance = fresh()
    outbound(instance, dns.port, port)
    instance.edit_conf((r"lifetime 1h", "lifetime 3s"))
    instance.start()
    send(instance, unique("expires"), "user@dead.test")
    mail = bounce_about(instance, "user@dead.test", 40)
    assert re.search(r"Action: failed", mail.as_string())
    wait_for("an empty queue", lambda: instance.queue() == [])


def test_a_site_that_hangs_up_everywhere_defers(sender, sinks):
    for verb in ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "END"):
        sink = sinks(4, answers={verb: None})
        address = f"{verb.lower()}@third.test"
        send(sender, unique("hang up"), address)
        wait_for(f"deferral after {verb}", lambda a=address: [
            e for e in sender.log_find(event="dlv.done", to=a) if e["result"] == "deferred"], 20)
        sink.stop()
        sender.veredus("queue", "delete", "all")
    assert all(p["restarts"] == 0 for p in sender.processes("remote"))


@pytest.mark.parametrize("answer", ["250" + "x" * 100000, "\0\0\0", "999 what", "25", "250-never ends"])
def test_a_site_that_answers_nonsense_costs_only_its_delivery(sender, sinks, answer):
    sinks(4, answers={"EHLO": answer, "HELO": answer})
    address = f"n{random.getrandbits(32):x}@third.test"
    started = time.monotonic()
    send(sender, unique("nonsense"), address)
    if answer != "250-never ends":
        wait_for("an outcome", lambda: sender.log_find(event="dlv.done", to=address), 30)
        assert time.monotonic() - started < 30 * SLOW
    assert all(p["restarts"] == 0 for p in sender.processes("remote"))
    sender.veredus("queue", "delete", "all")


# --- two instances --------------------------------------------------------------------------------
def second_site(fresh, dns_port, name, out_port):
    """An instance for the domain `name` instead of example.test."""
    instance = fresh()
    text = instance.read("veredus.conf").replace("example.test", name)
    instance.write("veredus.conf", text)
    for table in os.listdir(instance.path("tables")):
        path = f"tables/{table}"
        content = open(instance.path(path), "rb").read()
        if b"example.test" in content and b"\0" not in content:
            instance.write(path, content.decode().replace("example.test", name))
    outbound(instance, dns_port, out_port)
    return instance


def test_two_instances_relay_to_each_other(fresh, tool):
    one = fresh()
    server = Dns(tool("nsd"), [f"{d}. MX 10 mx.{d}.\nmx.{d}. A 127.0.0.1"
                               for d in ("example.test", "second.test")]).start()
    try:
        two = second_site(fresh, server.port, "second.test", one.smtp)
        outbound(one, server.port, two.smtp)
        one.start()
        two.start()
        there, back = unique("there"), unique("back")
        send(one, there, "alice@second.test")
        mail = two.wait_mail(there, "alice@second.test", timeout=20)
        assert len(mail.get_all("Received")) == 2
        assert mail["Return-Path"] == f"<{ALICE}>"
        with smtplib.SMTP_SSL("127.0.0.1", two.submissions, context=tls_context()) as smtp:
            smtp.login("bob@second.test", "bob-password")
            smtp.sendmail("bob@second.test", [ALICE],
                          message(back, ALICE, "bob@second.test", "x\r\n"))
        one.wait_mail(back, timeout=20)
        # An unknown user over there comes back as a bounce.
        send(one, unique("unknown"), "nobody-here@second.test")
        assert "550" in bounce_about(one, "nobody-here@second.test").as_string()
        # The remote down, mail waits; the remote up again, it goes.
        two.stop()
        waiting = unique("waiting")
        send(one, waiting, "bob@second.test")
        wait_for("deferral", lambda: [e for e in one.log_find(event="dlv.done", to="bob@second.test")
                                      if e["result"] == "deferred"], 20)
        two.start()
        one.veredus("queue", "flush")
        two.wait_mail(waiting, "bob@second.test", timeout=30)
    finally:
        server.stop()
