"""Commands that get mail: of a user's .forward, of aliases, and of the configuration.

Started as root, with a real account that is made for the test and removed afterwards.
"""
import os
import pwd

import pytest

from conftest import make
from test_local import HOST, Account, unique
from veredus import BOB, wait_for

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root to make an account")

SCRIPT = """#!/bin/sh
umask 077
{ id -u; id -g; id -G; pwd; echo "$#"; for a in "$@"; do echo "$a"; done; } >"$HOME/facts.new"
env | LC_ALL=C sort >"$HOME/env"
cat >"$HOME/message"
mv "$HOME/facts.new" "$HOME/facts"
"""


@pytest.fixture(scope="module", name="account")
def fixture_account():
    made = Account()
    made.put("script", SCRIPT, mode=0o755)
    yield made
    made.remove()


@pytest.fixture(scope="module", name="host")
def fixture_host(account):
    instance = make(True)
    instance.edit_conf(append=f"local {{ domains {HOST} }}\n"
                              "transport text:transport\n"
                              f"pipe {{ command-user {account.name}; timeout 2s }}\n"
                              f"command filter {{ run {account.path('script')} -s ${{sender}} "
                              f"x-${{recipient}} ${{size}}; user {account.name} }}\n"
                              "command away { run /bin/pwd -P; user nobody; timeout 2s }\n")
    instance.write("tables/aliases", f"robot: \"|{account.path('script')} one two\"\n"
                                     "nowhere: /dev/null\n")
    instance.write("transport", f"archive@{HOST} pipe:filter\naway@{HOST} pipe:away\n")
    instance.start()
    yield instance
    instance.discard()


@pytest.fixture(autouse=True)
def clean_home(account):
    yield
    for name in (".forward", "facts", "env", "message", "ran"):
        account.drop(name)


def send(host, text, to, sender="someone@elsewhere.test", body="Hello.\r\n"):
    subject = unique(text)
    host.send(subject, to=to, sender=sender, body=body)
    return subject


def read(account, name):
    path = account.path(name)
    wait_for(name, lambda: os.path.exists(path) and os.path.getsize(path))
    with open(account.path(name), encoding="utf-8") as file:
        return file.read()


def outcome(host, account, text, to=None):
    """Sends, and gives what the log says about the command."""
    seen = len(host.log_find(event="dlv.command"))
    send(host, text, to or account.address)
    return wait_for("the command", lambda: host.log_find(event="dlv.command")[seen:])[0]


def test_a_users_command_runs_as_the_user_with_a_clean_environment(host, account):
    account.put(".forward", f"\"|{account.path('script')} 'a b' c\"\n")
    address = f"{account.name}+ext@{HOST}"
    subject = send(host, "run", address, sender="someone@elsewhere.test")
    facts = read(account, "facts").split("\n")
    assert facts[:3] == [str(account.uid), str(account.gid), str(account.gid)]
    assert facts[3:7] == [account.home, "2", "a b", "c"]
    env = dict(line.split("=", 1) for line in read(account, "env").splitlines())
    for name in ("PWD", "_", "SHLVL", "OLDPWD"):
        env.pop(name, None)
    assert env == {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": account.home,
                   "USER": account.name, "LOGNAME": account.name, "SHELL": "/bin/sh", "LANG": "C",
                   "SENDER": "someone@elsewhere.test", "RECIPIENT": address,
                   "ORIGINAL_RECIPIENT": address, "LOCAL": account.name, "EXTENSION": "ext",
                   "DOMAIN": HOST, "CLIENT_ADDRESS": env["CLIENT_ADDRESS"],
                   "CLIENT_HELO": env["CLIENT_HELO"]}
    message = read(account, "message")
    assert message.startswith("From someone@elsewhere.test ")
    assert "\r" not in message
    assert f"\nDelivered-To: {address}\n" in message
    assert "\nReturn-Path: <someone@elsewhere.test>\n" in message
    assert f"\nSubject: {subject}\n" in message
    assert message.count("Delivered-To:") == 1
    assert not account.has(subject)


def test_an_account_that_was_chosen_needs_no_home(host, account):
    """Debian's nobody has none; who chose him did not mean that mail should wait."""
    assert not os.path.exists(pwd.getpwnam("nobody").pw_dir)
    assert outcome(host, account, "away", f"away@{HOST}")["result"] == "delivered"


def test_a_command_and_the_mailbox(host, account):
    account.put(".forward", f"\\{account.name}\n|{account.path('script')}\n")
    subject = send(host, "both", account.address)
    read(account, "facts")  # it is there when the command has read all
    assert f"Subject: {subject}\n" in read(account, "message")
    wait_for("the copy", lambda: account.has(subject))


def test_what_a_sender_chose_is_never_a_shells(host, account):
    account.put(".forward", "|exec echo \"$SENDER\" >ran\n")
    host.send(unique("evil"), to=account.address, sender="\"a`touch$IFS/tmp/veredus-evil`\"@x.test")
    assert read(account, "ran").startswith("a_touch_IFS/tmp/veredus-evil_@x.test")
    assert not os.path.exists("/tmp/veredus-evil")


@pytest.mark.parametrize("status,result", [(0, "delivered"), (75, "deferred"), (71, "deferred"),
                                           (67, "failed"), (77, "failed"), (1, "failed"),
                                           (127, "deferred")])
def test_exit_statuses_mean_what_sysexits_says(host, account, status, result):
    account.put(".forward", f"\"|echo it says so; exit {status}\"\n")
    line = outcome(host, account, "status")
    assert line["result"] == result
    assert line.get("status", "0") == str(status) or status == 0
    assert "it says so" in line["reason"]


def test_a_refused_message_is_returned_with_the_commands_words(host, account):
    account.put(".forward", "\"|echo we do not want it >&2; exit 77\"\n")
    subject = send(host, "return", account.address, sender=BOB)
    wait_for("the report", lambda: any("we do not want it" in str(m) and subject in str(m)
                                       for m in host.mails(BOB)))


def test_a_command_that_hangs_is_ended_with_its_family_and_the_mail_waits(host, account):
    account.put(".forward", "\"|sleep 600 & echo $! >ran; trap '' TERM; wait; sleep 600\"\n")
    line = outcome(host, account, "hang")
    assert line["result"] == "deferred" and "too long" in line["reason"]
    pid = int(read(account, "ran"))
    wait_for("its end", lambda: not os.path.exists(f"/proc/{pid}/stat")
             or open(f"/proc/{pid}/stat", encoding="utf-8").read().split()[2] == "Z")


def test_a_command_that_is_killed_defers(host, account):
    account.put(".forward", "\"|kill -9 $$\"\n")
    line = outcome(host, account, "killed")
    assert line["result"] == "deferred" and line["signal"] == "9"


def test_a_command_that_does_not_read_is_judged_by_its_status(host, account):
    account.put(".forward", "|/bin/true\n")
    seen = len(host.log_find(event="dlv.command"))
    send(host, "unread", account.address, body="A long line of text.\r\n" * 50000)
    line = wait_for("the end", lambda: host.log_find(event="dlv.command")[seen:])[0]
    assert line["result"] == "delivered"


def test_a_command_holds_no_privilege_and_no_descriptor(host, account):
    account.put(".forward", "\"|grep -E '^(Cap|NoNew|Groups|Uid)' /proc/self/status >ran; "
                            "ls /proc/self/fd >>ran\"\n")
    outcome(host, account, "bare")
    lines = read(account, "ran").splitlines()
    facts = dict(line.split(":\t", 1) for line in lines if ":" in line)
    assert set(facts["Uid"].split()) == {str(account.uid)}
    assert facts["NoNewPrivs"] == "1"
    assert all(int(facts[name], 16) == 0 for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"))
    assert set(line for line in lines if ":" not in line) <= {"0", "1", "2", "3"}


def test_an_alias_runs_its_command_as_the_chosen_user(host, account):
    send(host, "alias", f"robot@{HOST}")
    facts = read(account, "facts").split("\n")
    assert facts[0] == str(account.uid)
    assert facts[4:7] == ["2", "one", "two"]


def test_an_alias_may_lead_nowhere(host, account):
    line = outcome(host, account, "nowhere", f"nowhere@{HOST}")
    assert line["result"] == "delivered"


def test_a_command_of_the_configuration_gets_its_arguments(host, account):
    subject = send(host, "block", f"archive@{HOST}", sender="-n@elsewhere.test")
    facts = read(account, "facts").split("\n")
    assert facts[4:8] == ["4", "-s", "_n@elsewhere.test", f"x-archive@{HOST}"]
    assert int(facts[8]) > 0
    message = read(account, "message")
    assert message.startswith("Return-Path: ") and f"Subject: {subject}\n" in message
