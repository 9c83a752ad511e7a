"""What each process may do, read from the kernel and not from our own word."""
import contextlib
import os
import pwd

import pytest

from veredus import ALICE, BOB, ROLES, wait_for

ACCOUNTS = {"logd": "veredus-log", "keyd": "veredus-key", "dnsd": "veredus-dns",
            "authd": "veredus-auth", "lookupd": "veredus-map", "notifyd": "veredus-login",
            "qmgr": "veredus-q", "bounce": "veredus", "virtual": "veredus-mail",
            "remote": "veredus-out", "smtpd": "veredus", "imap-login": "veredus-login",
            "pop3-login": "veredus-login", "imap-session": "veredus-mail",
            "pop3-session": "veredus-mail", "local": "veredus-mail",
            "pipe": "veredus-mail", "house": "veredus-mail"}
EMPTY_ROOT = ("keyd", "notifyd", "bounce", "remote", "smtpd", "imap-login", "pop3-login")
# bits of linux/capability.h
CHOWN, KILL, SETGID, SETUID, SETPCAP, BIND, CHROOT = 0, 5, 6, 7, 8, 10, 18
SPAWNERS = ("local", "pipe", "house", "imap-session", "pop3-session")  # their children become a user for good


def facts(pid):
    with open(f"/proc/{pid}/status") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def caps(*bits):
    return sum(1 << b for b in bits)


def uids(pid):
    return set(map(int, facts(pid)["Uid"].split()))


@pytest.mark.parametrize("role", [r for r in ROLES if r != "master"])
def test_every_daemon_is_confined(either, role):
    pids = either.pids(role)
    assert pids
    for pid in pids:
        fact = facts(pid)
        assert fact["Seccomp"] == "2", role
        assert fact["NoNewPrivs"] == "1", role
        allowed = caps(SETUID, SETGID, CHROOT) if role in SPAWNERS and either.rooted else 0
        for name in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
            assert int(fact[name], 16) & ~allowed == 0, (role, name, fact[name])
        if either.rooted:
            assert int(fact["CapBnd"], 16) & ~allowed == 0, (role, fact["CapBnd"])


def test_master_keeps_only_its_seven_capabilities(rooted):
    fact = facts(rooted.pid_file())
    allowed = caps(CHOWN, KILL, SETGID, SETUID, SETPCAP, BIND, CHROOT)
    assert int(fact["CapEff"], 16) & ~allowed == 0, fact["CapEff"]
    assert int(fact["CapPrm"], 16) & ~allowed == 0


def test_a_rootless_instance_runs_as_its_user_alone(rootless):
    master = uids(rootless.pid_file())
    assert 0 not in master or os.getuid() != 0
    for pid in rootless.family():
        assert uids(pid) == master


@pytest.mark.parametrize("role", sorted(ACCOUNTS))
def test_each_role_has_its_account(rooted, role):
    uid = pwd.getpwnam(ACCOUNTS[role]).pw_uid
    for pid in rooted.pids(role):
        fact = facts(pid)
        assert set(map(int, fact["Uid"].split())) == {uid}
        assert 0 not in map(int, fact["Gid"].split())
        assert "0" not in fact.get("Groups", "").split()


def test_no_daemon_but_master_and_the_local_spawner_is_root(rooted):
    for process in rooted.processes():
        if process["role"] not in ("master", "local"):
            assert process["uid"] != 0, process
            assert 0 not in uids(process["pid"])


@pytest.mark.parametrize("role", EMPTY_ROOT)
def test_an_empty_root_directory(rooted, role):
    for pid in rooted.pids(role):
        root = f"/proc/{pid}/root"
        assert not os.path.samefile(root, "/"), role
        assert os.listdir(root) == [], role
        stat = os.stat(root + "/")
        assert stat.st_uid == 0 or stat.st_mode & 0o222 == 0, "it could write there"


@pytest.mark.parametrize("role,directory", [("qmgr", "spool"), ("virtual", "mail")])
def test_a_root_directory_of_its_own(rooted, role, directory):
    for pid in rooted.pids(role):
        assert os.path.samefile(f"/proc/{pid}/root", rooted.path(directory))


def test_no_daemon_shares_the_root_it_could_escape_from(rooted):
    for role in ("logd", "dnsd", "authd", "lookupd"):
        for pid in rooted.pids(role):
            fact = facts(pid)
            # no chroot is fine for these, but then Landlock (no_new_privs) must hold them
            assert fact["NoNewPrivs"] == "1"


def descriptors(pid):
    """What the process has open; of an undumpable process only root may see that."""
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except PermissionError:
        pytest.skip("needs root: descriptors of processes that cannot be traced")
    for name in names:
        with contextlib.suppress(OSError):
            yield os.readlink(f"/proc/{pid}/fd/{name}")


@pytest.mark.parametrize("role", ["smtpd", "imap-login", "pop3-login", "remote", "qmgr", "virtual",
                                  "authd", "lookupd", "keyd", "notifyd", "house"])
def test_no_descriptor_leads_to_what_is_not_its_business(either, role):
    """Private keys, hashes, spool and mail are open only where design says."""
    homes = {"tls/key.pem": (), "tables/": ("authd", "lookupd"), "spool/": ("qmgr",),
             "mail/": ("virtual", "house", "imap-session", "pop3-session"),
             "log/": ("logd",)}
    for pid in either.pids(role):
        for target in descriptors(pid):
            if target == either.path("log/stderr"):  # where words before the sandbox go
                continue
            for part, owners in homes.items():
                if target.startswith(either.path(part)):
                    assert role in owners, (role, target)


def test_only_the_network_daemons_have_internet_sockets(either):
    inodes = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        with open(f"/proc/net/{table}") as file:
            inodes |= {line.split()[9] for line in file.readlines()[1:]}
    allowed = ("master", "smtpd", "imap-login", "pop3-login", "remote", "dnsd")
    for process in either.processes():
        if process["role"] in allowed:
            continue
        for target in descriptors(process["pid"]):
            if target.startswith("socket:["):
                assert target[8:-1] not in inodes, process["role"]


def session_pids(instance, name):
    """Session processes: below a spawner."""
    found = []
    for spawner in instance.pids(name):
        with open(f"/proc/{spawner}/task/{spawner}/children") as file:
            found += map(int, file.read().split())
    return found


def test_a_logged_in_session_is_a_confined_process_of_its_own(either):
    before = session_pids(either, "imap-session")
    one, two = either.imap_client(ALICE), either.imap_client(BOB)
    one.select("INBOX")
    two.select("INBOX")
    pids = set(session_pids(either, "imap-session")) - set(before)
    assert len(pids) == 2
    for pid in pids:
        fact = facts(pid)
        assert fact["Seccomp"] == "2" and fact["NoNewPrivs"] == "1"
        assert int(fact["CapEff"], 16) == 0
        if either.rooted:
            assert uids(pid) == {pwd.getpwnam("veredus-mail").pw_uid}
    one.logout()
    two.logout()
    wait_for("the sessions' end", lambda: not any(os.path.exists(f"/proc/{p}") for p in pids))


def test_processes_cannot_be_traced_or_dumped(rooted):
    """/proc/PID of an undumpable process belongs to root, whoever it runs as."""
    for role in ("keyd", "authd", "smtpd"):
        for pid in rooted.pids(role):
            assert os.stat(f"/proc/{pid}/environ").st_uid == 0


def test_sandbox_show_prints_a_line_for_each_role(either):
    text = either.veredus("sandbox", "show").stdout
    for role in ROLES:
        if role != "master":
            assert role in text
    assert "seccomp" in text


def test_the_self_tests_find_nothing_that_differs(either):
    """Every daemon tries what its row forbids."""
    result = either.veredus("sandbox", "selftest", status=None, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    for role in ROLES:
        if role != "master":
            assert role in result.stdout


@pytest.mark.parametrize("role", [r for r in ROLES if r != "master"])
def test_each_program_really_tries_what_its_row_forbids(either, role):
    """Outside of any instance: also what is answered by death, in a child for each attempt."""
    lines = either.run(role, "--selftest-sandbox").stdout.splitlines()
    assert len(lines) > 10
    assert all(line.endswith("as declared") for line in lines), lines
    assert f"exec: {'allowed' if role == 'pipe' else 'killed'} as declared" in lines


def test_secret_files_are_closed_to_others(either):
    for name in ("tls/key.pem", "spool", "mail"):
        assert os.stat(either.path(name)).st_mode & 0o007 == 0, name
    for root, _, files in os.walk(either.path("tables")):
        for name in files:
            if name.startswith("users"):
                assert os.stat(os.path.join(root, name)).st_mode & 0o007 == 0


def test_no_plaintext_password_is_stored(either):
    for root, _, files in os.walk(either.path("tables")):
        for name in files:
            with open(os.path.join(root, name), "rb") as file:
                text = file.read()
            assert b"alice-password" not in text and b"bob-password" not in text
