"""The standing interface: what scripts and later issues rely on, word for word."""
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import time

import pytest

from conftest import make
from veredus import ALICE, BUILD, PORTS, ROLES, ROOT, Instance, alive, port_free, wait_for

BIN = os.path.join(ROOT, BUILD, "bin")


def test_init_writes_the_files_it_promises(fresh):
    instance = fresh()
    for name in ("veredus.conf", "tls/cert.pem", "tls/key.pem", "spool", "mail", "log", "run"):
        assert os.path.exists(instance.path(name)), name
    assert stat.S_IMODE(os.stat(instance.path("tls/key.pem")).st_mode) & 0o077 == 0


def test_init_makes_the_directories_above(fresh):
    instance = fresh()
    deep = os.path.join(instance.parent, "not", "yet")
    instance.run("veredus", "init", "--dir", deep + "/", "--demo", "--base-port", instance.base)
    assert os.path.exists(os.path.join(deep, "veredus.conf"))


def test_init_leaves_an_existing_instance_alone(fresh):
    instance = fresh()
    before = instance.read("veredus.conf")
    result = instance.run("veredus", "init", "--dir", instance.dir, "--demo", "--base-port",
                          instance.base, status=None)
    assert result.returncode != 0
    assert instance.dir in result.stdout + result.stderr
    assert instance.read("veredus.conf") == before


def test_start_returns_when_every_listener_accepts(fresh):
    instance = fresh()
    instance.start()
    for name in PORTS:
        with socket.create_connection(("127.0.0.1", getattr(instance, name)), timeout=5):
            pass


def test_listeners_are_on_loopback_only(either):
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table) as file:
            for line in file.readlines()[1:]:
                address, port = line.split()[1].split(":")
                if line.split()[3] == "0A" and int(port, 16) - either.base in PORTS.values():
                    assert address in ("0100007F", "0" * 24 + "01000000"), line
                    inodes.add(port)
    assert len(inodes) == len(PORTS)


def test_status_lists_every_process_with_role_pid_and_uid(either):
    processes = either.processes()
    assert set(ROLES) <= {p["role"] for p in processes}
    for process in processes:
        assert alive(process["pid"])
        assert os.stat(f"/proc/{process['pid']}").st_uid in (process["uid"], 0)
        with open(f"/proc/{process['pid']}/status") as file:
            uids = [line.split()[1:] for line in file if line.startswith("Uid:")][0]
        assert uids == [str(process["uid"])] * 4, process


def test_status_in_words_names_the_roles(either):
    text = either.veredus("status").stdout
    for role in ROLES:
        assert role in text


def test_status_of_a_stopped_instance_says_so(fresh):
    instance = fresh()
    result = instance.veredus("status", status=None)
    assert result.returncode == 1
    assert "not running" in result.stdout + result.stderr


def test_a_copied_instance_is_an_instance_of_its_own(fresh):
    """Nothing in its configuration names the directory it was made in."""
    instance = fresh()
    copy = os.path.join(instance.parent, "copy")
    shutil.copytree(instance.dir, copy)
    shown = instance.run("veredus", "-d", copy, "config", "show").stdout
    assert f"directory {copy}\n" in shown
    assert instance.dir + "\n" not in shown


def test_stop_ends_every_process_and_frees_every_port(fresh):
    instance = fresh()
    instance.start()
    pids = instance.family()
    assert len(pids) >= len(ROLES)
    instance.stop()
    # master itself tells, then ends
    wait_for("their end", lambda: not any(alive(p) for p in pids), 2)
    assert all(port_free(getattr(instance, name)) for name in PORTS)
    assert not os.path.exists(instance.path("run/veredus.pid"))


def test_stop_waits_until_delivered_mail_is_synced(fresh):
    """qmgr ends before the agents it waits for: nothing delivered is left to be tried again."""
    instance = fresh()
    instance.start()
    for number in range(10):
        instance.send(f"last {number}")
    instance.wait_mail("last 9")
    instance.stop()
    assert instance.queue() == []
    assert "interrupted" not in instance.read("log/veredus.log")


def test_start_twice_is_refused_and_harms_nothing(fresh):
    instance = fresh()
    instance.start()
    result = instance.veredus("start", status=None)
    assert result.returncode != 0
    assert "running" in result.stdout + result.stderr
    assert instance.processes("smtpd")


def test_restart_keeps_mail_and_accounts(fresh):
    instance = fresh()
    instance.start()
    instance.send("before")
    instance.wait_mail("before")
    instance.restart()
    instance.send("after")
    instance.wait_mail("after")
    assert len(instance.mails()) == 2


def test_postmaster_reaches_alice(either):
    either.send("to postmaster", to="postmaster@example.test")
    either.wait_mail("to postmaster", ALICE)


def test_postmaster_at_our_address_reaches_alice(either):
    with either.raw() as client:
        client.hello()
        assert client.smtp("MAIL FROM:<>") == 250
        assert client.smtp("RCPT TO:<postmaster@[127.0.0.1]>") == 250
        assert client.smtp("DATA") == 354
        assert client.smtp("Subject: to a literal\r\n\r\nx\r\n.") == 250
    either.wait_mail("to a literal", ALICE)


def test_postmaster_without_a_domain_reaches_alice(either):
    with either.raw() as client:
        client.hello()
        assert client.smtp("MAIL FROM:<>") == 250
        assert client.smtp("RCPT TO:<Postmaster>") == 250
        assert client.smtp("DATA") == 354
        assert client.smtp("Subject: bare postmaster\r\n\r\nx\r\n.") == 250
    either.wait_mail("bare postmaster", ALICE)


# --- what is wrong is named ----------------------------------------------------------------------
def refused(instance):
    result = instance.veredus("start", status=None)
    assert result.returncode != 0
    assert not instance.family()
    assert port_free(instance.smtp)
    return result.stdout + result.stderr


def conf_line(instance, text):
    for number, line in enumerate(instance.read("veredus.conf").splitlines(), 1):
        if text in line:
            return number
    raise AssertionError(text)


def test_an_unknown_key_is_named_with_file_line_and_the_nearest(fresh):
    instance = fresh()
    instance.edit_conf(append="hostnam mail.example.test")
    result = instance.veredus("config", "check", status=None)
    text = result.stdout + result.stderr
    line = conf_line(instance, "hostnam mail.example.test")
    assert result.returncode == 1
    assert f"veredus.conf:{line}" in text and "hostnam" in text and "hostname" in text


@pytest.mark.parametrize("line,key,allowed", [
    ("mail-root", "mail-root", "must be a path"),
    ("listen odd { protocol telnet }", "protocol", "smtp"),
    ("listen odd { tls perhaps }", "tls", "required"),
    ("outbound { concurrency -3 }", "concurrency", "1"),
])
def test_a_bad_value_is_named_with_what_is_allowed(fresh, line, key, allowed):
    instance = fresh()
    instance.edit_conf(append=line)
    number = conf_line(instance, line)
    text = refused(instance)
    assert f"veredus.conf:{number}" in text and key in text
    result = instance.veredus("config", "check", status=None)
    assert result.returncode == 1
    text = result.stdout + result.stderr
    assert f"veredus.conf:{number}" in text and key in text
    assert allowed in text


def test_every_error_is_reported_not_only_the_first(fresh):
    instance = fresh()
    instance.edit_conf(append="nonsense-a 1\nnonsense-b 2")
    result = instance.veredus("config", "check", status=None)
    text = result.stdout + result.stderr
    assert "nonsense-a" in text and "nonsense-b" in text


def test_an_unclosed_block_is_named(fresh):
    instance = fresh()
    instance.edit_conf(append="tls {")
    assert "veredus.conf:" in refused(instance)


def test_a_good_configuration_is_said_to_be_good(either):
    either.veredus("config", "check")


def test_a_port_in_use_is_named(fresh):
    instance = fresh()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", instance.imap))
        taken.listen()
        result = instance.veredus("start", status=None)
        text = result.stdout + result.stderr
        assert result.returncode != 0
        assert str(instance.imap) in text and "in use" in text
        assert not instance.family()
    instance.start()


def test_a_missing_directory_is_named(fresh):
    instance = fresh()
    instance.edit_conf(append="spool /nonexistent/spool")
    assert "/nonexistent/spool" in refused(instance)


def test_a_missing_certificate_is_named(fresh):
    instance = fresh()
    os.rename(instance.path("tls/cert.pem"), instance.path("tls/cert.old"))
    assert "cert.pem" in refused(instance)


def test_an_instance_that_does_not_exist_is_named(fresh):
    instance = fresh()
    result = instance.run("veredus", "-d", "/nonexistent/place", "start", status=None)
    assert result.returncode != 0
    assert "/nonexistent/place" in result.stdout + result.stderr


def test_unknown_verbs_are_usage_errors(fresh):
    instance = fresh()
    result = instance.veredus("frobnicate", status=None)
    assert result.returncode == 2
    assert "frobnicate" in result.stderr


def test_a_noun_alone_names_its_verbs(fresh):
    result = fresh().veredus("queue", status=None)
    assert result.returncode == 2
    assert "list" in result.stderr and "redirect" in result.stderr


@pytest.mark.parametrize("words", [("help", "queue", "flush"), ("queue", "flush", "--help"),
                                   ("queue", "flush", "-h")])
def test_help_tells_of_one_command_without_an_instance(words):
    result = subprocess.run([os.path.join(BIN, "veredus"), *words], capture_output=True, text=True,
                            check=True)
    assert "queue flush" in result.stdout
    assert "queue list" not in result.stdout


@pytest.mark.parametrize("line, word, expected", [
    ("veredus qu", 1, "queue quota"), ("veredus -d /tmp queue red", 4, "redirect"),
    ("veredus help mailbox und", 3, "undelete")])
def test_bash_completes_nouns_and_verbs(line, word, expected):
    script = (f'. etc/veredus.bash-completion; COMP_WORDS=({line}); COMP_CWORD={word}; _veredus; '
              'echo "${COMPREPLY[@]}"')
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True,
                            cwd=ROOT, env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"})
    assert result.stdout.strip() == expected


# --- reload ---------------------------------------------------------------------------------------
def test_reload_applies_a_changed_value(fresh):
    instance = fresh()
    instance.start()
    pid = instance.pid_file()
    instance.edit_conf((r"^message-size .*", "message-size 1M"))
    result = instance.veredus("reload")
    assert "message-size" in result.stdout
    assert instance.pid_file() == pid

    def size():
        with instance.raw() as client:
            return "SIZE 1048576" in client.hello()
    wait_for("the new size in EHLO", size)


def test_reload_refuses_a_bad_configuration_as_a_whole(fresh):
    instance = fresh()
    instance.start()
    instance.edit_conf(append="nonsense yes")
    result = instance.veredus("reload", status=None)
    assert result.returncode == 1
    assert "nonsense" in result.stdout + result.stderr
    instance.send("still here")
    instance.wait_mail("still here")


def spoiled_mail_root(instance, kind):
    """A mail-root that is there and cannot be used."""
    path = instance.path("elsewhere")
    if kind == "file":
        instance.write("elsewhere", "no directory\n")
    elif kind == "closed":
        os.mkdir(path, 0o500)
        if os.getuid() == 0:
            os.chown(path, 0, 0)
    return path


@pytest.mark.parametrize("rooted", [False, True])
@pytest.mark.parametrize("kind,why", [
    ("file", "Not a directory"),
    ("closed", "Permission denied"),
    ("missing", "No such file"),
])
def test_a_mail_root_that_cannot_be_used_is_refused_and_nothing_changes(rooted, kind, why):
    if rooted and os.getuid() != 0:
        pytest.skip("needs root")
    instance = make(rooted)
    try:
        instance.start()
        before = instance.pids("virtual")
        path = spoiled_mail_root(instance, kind)
        instance.edit_conf(append=f"mail-root {path}")
        number = conf_line(instance, f"mail-root {path}")
        for verb in ("config", "check"), ("reload",):
            result = instance.veredus(*verb, status=None)
            assert result.returncode == 1
            text = result.stdout + result.stderr
            assert f"veredus.conf:{number}: mail-root: " in text and why in text
        assert instance.pids("virtual") == before
        instance.send("still here")
        instance.wait_mail("still here")
    finally:
        instance.discard()


@pytest.mark.parametrize("rooted", [False, True])
@pytest.mark.parametrize("kind,why", [("file", "Not a directory"), ("closed", "Permission denied"),
                                      ("missing", "No such file")])
def test_a_start_names_the_line_of_a_mail_root_that_cannot_be_used(rooted, kind, why):
    if rooted and os.getuid() != 0:
        pytest.skip("needs root")
    instance = make(rooted)
    try:
        path = spoiled_mail_root(instance, kind)
        instance.edit_conf(append=f"mail-root {path}")
        number = conf_line(instance, f"mail-root {path}")
        text = refused(instance)
        assert f"veredus.conf:{number}: mail-root: " in text and why in text
    finally:
        instance.discard()


def edits_that_cannot_work(instance):
    """What a reload may not apply: key, lines, why."""
    other = instance.path("other")
    instance.run("veredus", "init", "--dir", other, "--demo", "--base-port", instance.base)
    return [("key of tls", (r"^    key .*", "    key other/tls/key.pem"), "does not belong"),
            ("cert of tls", (r"^    cert .*", "    cert tables/aliases"), "no certificate"),
            ("to", (r"^    to file .*", "    to file nowhere/log"), "No such file"),
            ("trust-anchor", "dns {\n    trust-anchor tables/users\n}", "not DS or DNSKEY"),
            ("mailbox", "local {\n    domains l.test\n    mailbox /nowhere/{user}\n}",
             "No such file"),
            ("spool", "spool nowhere", "No such file"),
            ("spool", "spool mail", "cannot change")]


def test_reload_refuses_what_processes_could_not_start_with(fresh):
    instance = fresh()
    instance.start()
    before = instance.family()
    good = instance.read("veredus.conf")
    for key, edit, why in edits_that_cannot_work(instance):
        instance.write("veredus.conf", good)
        if isinstance(edit, str):
            instance.edit_conf(append=edit)
        else:
            instance.edit_conf(edit)
        result = instance.veredus("reload", status=None)
        assert result.returncode == 1, (key, result)
        assert re.search(rf"veredus\.conf:\d+: {key}: .*{why}", result.stderr), result.stderr
        assert instance.family() == before, key
    instance.send("still here")
    instance.wait_mail("still here")


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_root_recounts_what_a_user_has():
    """The command has become the owner by then, and may not read the table of users."""
    instance = make(True)
    try:
        instance.start()
        instance.send("counted")
        instance.wait_mail("counted")
        assert "messages=1" in instance.veredus("quota", "recount", ALICE).stdout
    finally:
        instance.discard()


# --- SIGHUP ---------------------------------------------------------------------------------------
def troubles(instance):
    return [e["reason"] for e in instance.log_find(event="trouble", what="reload")]


@pytest.mark.parametrize("line, key", [("hold text:tables/nowhere", "hold"),
                                       ("nonsense yes", "nonsense")])
def test_sighup_refuses_what_reload_refuses_and_the_log_says_where(either, line, key):
    before = either.pids("lookupd"), len(troubles(either))
    kept = either.read("veredus.conf")
    try:
        either.edit_conf(append=line)
        os.kill(either.pid_file(), signal.SIGHUP)
        wait_for("the refusal", lambda: len(troubles(either)) > before[1])
        assert f"veredus.conf:{conf_line(either, line)}: " in troubles(either)[-1]
        assert key in troubles(either)[-1]
    finally:
        either.write("veredus.conf", kept)
    assert either.pids("lookupd") == before[0]
    either.send(key + " still here")
    either.wait_mail(key + " still here")


def test_sighup_applies_what_reload_applies(fresh):
    instance = fresh()
    instance.start()
    instance.edit_conf((r"^message-size .*", "message-size 1M"))
    os.kill(instance.pid_file(), signal.SIGHUP)

    def size():
        with instance.raw() as client:
            client.reply()
            client.send(b"EHLO client.test\r\n")
            code, text = client.reply()  # 421: from the process that is being replaced
            return code == 250 and "SIZE 1048576" in text
    wait_for("the new size in EHLO", size)
    assert not troubles(instance)


def test_the_version_is_told_and_stands_in_the_log(fresh):
    instance = fresh()
    told = {instance.run("veredus", word).stdout for word in ("version", "--version", "-V")}
    assert len(told) == 1
    release = told.pop().removeprefix("veredus ").strip()
    assert release[0].isdigit()
    instance.start()
    assert instance.log_find(event="master.up")[0]["version"] == release


def test_a_missing_table_is_named_with_file_and_line(fresh):
    instance = fresh()
    instance.edit_conf(append="hold text:tables/nowhere")
    number = conf_line(instance, "hold text:tables/nowhere")
    result = instance.veredus("config", "check", status=None)
    assert result.returncode == 1
    assert f"veredus.conf:{number}: hold: " in result.stdout + result.stderr
    assert f"veredus.conf:{number}: hold: " in refused(instance)


@pytest.mark.parametrize("line,key", [
    ("admin a@b@example.test", "admin"),
    ("domain other.test { catch-all a@b@example.test }", "catch-all"),
    ("pipe { command-user nosuchaccount }", "command-user"),
    ("command archive { run /bin/true; user nosuchaccount }", "user"),
    ("command archive { run /bin/true; user root }", "user"),
    ("transport inline:{other.test=foo:bar}", "other.test: 'foo:bar': must begin with"),
    ("transport inline:{other.test=smtp:[127.0.0.1]:99999}", "must be DOMAIN"),
    ("transport inline:{other.test=pipe:nothing}", "no such command block"),
])
def test_a_wrong_address_or_account_is_named_with_file_and_line(fresh, line, key):
    instance = fresh()
    text = instance.read("veredus.conf")
    if key == "admin":
        text = "".join(x for x in text.splitlines(True) if not x.startswith("admin "))
    with open(instance.path("veredus.conf"), "w") as file:
        file.write(text + line + "\n")
    number = conf_line(instance, line)
    result = instance.veredus("config", "check", status=None)
    assert result.returncode == 1
    assert f"veredus.conf:{number}: " in result.stdout + result.stderr
    assert key in result.stdout + result.stderr
    assert f"veredus.conf:{number}: " in refused(instance)


def test_the_queue_of_a_system_that_was_never_started_is_told_to_be_missing(fresh):
    instance = fresh()
    for verb in ("list",), ("verify",), ("summary",), ("show", "1bcdfgh"):
        result = instance.veredus("queue", *verb, status=1)
        assert "never been started" in result.stderr
        assert "peer" not in result.stderr


def test_reload_refuses_a_missing_table_and_goes_on(fresh):
    instance = fresh()
    instance.start()
    before = instance.pids("lookupd")
    instance.edit_conf(append="hold text:tables/nowhere")
    number = conf_line(instance, "hold text:tables/nowhere")
    result = instance.veredus("reload", status=None)
    assert result.returncode == 1
    assert f"veredus.conf:{number}: hold: " in result.stdout + result.stderr
    assert instance.pids("lookupd") == before


# --- limits ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("files", [32, 64, 128])
def test_a_limit_of_open_files_that_is_too_low_is_named_at_start(fresh, files):
    instance = fresh()
    start = instance.command("veredus", "-d", instance.dir, "start")
    result = subprocess.run(["prlimit", f"--nofile={files}:{files}", "--", *start], text=True,
                            check=False, capture_output=True, timeout=60, cwd=instance.parent)
    assert result.returncode == 1
    assert f"the limit of open files is {files}, but" in result.stderr
    assert "at least" in result.stderr
    assert not instance.family()
    instance.start()


def test_sigterm_to_master_stops_the_instance(fresh):
    instance = fresh()
    instance.start()
    pids = instance.family()
    subprocess.run(["kill", "-TERM", str(instance.pid_file())], check=True)
    wait_for("the end of all processes", lambda: not any(alive(p) for p in pids), 30)


def test_a_start_takes_little_time(fresh):
    instance = fresh()
    started = time.monotonic()
    instance.start()
    assert time.monotonic() - started < 10


def test_two_instances_run_beside_each_other(fresh):
    one, two = fresh(), fresh()
    one.start()
    two.start()
    one.send("for one")
    two.send("for two")
    one.wait_mail("for one")
    two.wait_mail("for two")
    assert len(one.mails()) == len(two.mails()) == 1
    assert Instance.live


def test_a_root_started_instance_works_below_a_directory_closed_to_its_accounts(fresh):
    instance = fresh(rooted=True)
    os.chmod(os.path.dirname(instance.dir), 0o700)
    instance.start()
    instance.send("closed parent")
    instance.wait_mail("closed parent")
    with instance.imap_client() as imap:
        assert imap.select()[1] == [b"1"]
    assert not [line for line in instance.log().splitlines() if "level=error" in line]
