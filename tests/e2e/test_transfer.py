"""veredus mailbox import and export: mbox files and Maildirs, there and back."""
import json
import mailbox
import os
import random
import resource
import subprocess

import pytest

from veredus import ALICE, BOB, NOBODY

FROM = "From bob@example.test Sat Nov 21 02:00:00 2026\n"


def unique(text):
    return f"{text}-{random.getrandbits(32):x}"


def place(instance, name):
    """A path in a directory where the instance's account may write."""
    folder = os.path.join(instance.parent, "transfer")
    if not os.path.exists(folder):
        os.mkdir(folder)
        if instance.as_nobody:
            os.chown(folder, NOBODY, NOBODY)
        os.chmod(folder, 0o755)
    return os.path.join(folder, name)


def write(instance, name, text):
    path = place(instance, name)
    with open(path, "wb") as file:
        file.write(text.encode() if isinstance(text, str) else text)
    os.chmod(path, 0o644)
    return path


def transfer(instance, verb, user, folder, kind, path, status=0):
    result = instance.veredus("mailbox", verb, user, folder, kind, path, "--json", status=status)
    return json.loads(result.stdout), result.stderr


def dump(instance, user, folder):
    text = instance.veredus("mailbox", "dump", user, folder, "--json").stdout
    return json.loads(text)["folders"][0]["messages"]


def bodies(instance, user, folder):
    client = instance.imap_client(user)
    client.select(folder, readonly=True)
    found = [part[1] for part in client.fetch("1:*", "(BODY.PEEK[])")[1] if isinstance(part, tuple)]
    client.logout()
    return found


MBOX = (FROM + "Status: RO\nX-Status: F\nX-Keywords: $Label1\nSubject: one\n\n>From me\n\n" +
        FROM.replace("21 02", "22 03") + "Subject: two\n\nText.\n\n\n" +
        FROM + "Subject: three\n\nlast\n")


def test_mbox_there_and_back(either):
    folder = unique("mbox")
    path = write(either, folder, MBOX)
    counts, complaints = transfer(either, "import", BOB, folder, "mbox", path, status=0)
    assert counts == {"messages": 3, "size": counts["size"], "present": 0, "skipped": 0}, \
        complaints
    messages = dump(either, BOB, folder)
    assert [m["flags"] for m in messages] == ["\\Seen \\Flagged $Label1", "", ""]
    assert [m["date"] for m in messages] == ["2026-11-21T02:00:00Z", "2026-11-22T03:00:00Z",
                                             "2026-11-21T02:00:00Z"]
    assert bodies(either, BOB, folder) == [
        b"Subject: one\r\n\r\nFrom me\r\n", b"Subject: two\r\n\r\nText.\r\n\r\n",
        b"Subject: three\r\n\r\nlast\r\n"]
    out = place(either, folder + ".out")
    counts, _ = transfer(either, "export", BOB, folder, "mbox", out)
    assert counts["messages"] == 3 and counts["skipped"] == 0
    assert len(mailbox.mbox(out)) == 3
    again = unique("again")
    os.chmod(out, 0o644)
    transfer(either, "import", BOB, again, "mbox", out)
    assert bodies(either, BOB, again) == bodies(either, BOB, folder)
    assert [(m["date"], m["flags"]) for m in dump(either, BOB, again)] == \
        [(m["date"], m["flags"]) for m in messages]


def test_maildir_there_and_back(either):
    folder, again = unique("maildir"), unique("again")
    transfer(either, "import", BOB, folder, "mbox", write(either, folder, MBOX))
    out = place(either, folder + ".out")
    counts, _ = transfer(either, "export", BOB, folder, "maildir", out)
    assert counts["messages"] == 3
    assert sorted(m["Subject"] for m in mailbox.Maildir(out, create=False)) == \
        ["one", "three", "two"]
    transfer(either, "import", BOB, again, "maildir", out)
    known = lambda name: sorted((m["date"], m["flags"], m["size"])
                                for m in dump(either, BOB, name))
    assert known(again) == known(folder)


def test_a_running_session_sees_what_was_imported(either):
    folder = unique("live")
    client = either.imap_client(BOB)
    client.create(folder)
    client.select(folder)
    transfer(either, "import", BOB, folder, "mbox", write(either, folder, MBOX))
    client.noop()
    assert client.search(None, "ALL")[1][0].split() == [b"1", b"2", b"3"]
    client.logout()


def test_damage_is_skipped_reported_and_counted(rootless):
    folder = unique("damage")
    counts, complaints = transfer(
        rootless, "import", BOB, folder, "mbox",
        write(rootless, folder, "rubbish\n\n" + FROM + "\n" + FROM + "Subject: a\n\nx\n\n"), status=1)
    assert counts["skipped"] == 2 and "From_" in complaints and "empty" in complaints
    assert bodies(rootless, BOB, folder) == [b"Subject: a\r\n\r\nx\r\n"]
    maildir = place(rootless, folder + ".maildir")
    box = mailbox.Maildir(maildir, create=True)
    box.add(b"Subject: good\n\nx\n")
    for name in ("1.empty.host:2,", "3.unreadable.host:2,"):
        with open(os.path.join(maildir, "cur", name), "w") as file:
            file.write("" if "empty" in name else "Subject: secret\n\nx\n")
    os.mkdir(os.path.join(maildir, "cur", "2.directory.host:2,"))
    os.symlink("/etc/passwd", os.path.join(maildir, "cur", "4.link.host:2,"))
    for top, _, files in os.walk(maildir):
        os.chmod(top, 0o755)
        for name in files:
            if not os.path.islink(os.path.join(top, name)):
                os.chmod(os.path.join(top, name), 0 if "unreadable" in name else 0o644)
    counts, complaints = transfer(rootless, "import", BOB, folder + "2", "maildir", maildir,
                                  status=1)
    expected = {"empty", "directory", "link", "unreadable"}
    assert all(word in complaints for word in expected), complaints
    assert counts["messages"] == 1 and counts["skipped"] == 4


def test_what_is_neither_maildir_nor_file_makes_no_folder(rootless):
    folder = unique("Nothing")
    for what, where, why in (("maildir", rootless.path("tables"), "not a Maildir"),
                             ("mbox", rootless.path("tables"), "Is a directory")):
        result = rootless.veredus("mailbox", "import", ALICE, folder, what, where, status=1)
        assert why in result.stderr and result.stdout == ""
    assert folder not in rootless.veredus("mailbox", "list", ALICE, status=None).stdout


def test_a_message_that_cannot_be_read_is_skipped_by_export(rootless):
    folder = unique("gone")
    transfer(rootless, "import", BOB, folder, "mbox", write(rootless, folder, MBOX))
    cur = os.path.join(rootless.dir, "mail", "example.test", "bob", "." + folder, "cur")
    os.unlink(os.path.join(cur, sorted(os.listdir(cur))[0]))
    counts, complaints = transfer(rootless, "export", BOB, folder, "mbox",
                                  place(rootless, folder + ".out"), status=1)
    assert counts["messages"] == 2 and counts["skipped"] == 1 and "uid" in complaints


def test_export_overwrites_nothing_and_leaves_nothing_behind(rootless):
    path = write(rootless, unique("precious"), "precious")
    for kind in ("mbox", "maildir"):
        rootless.veredus("mailbox", "export", BOB, "INBOX", kind, path, status=1)
        with open(path) as file:
            assert file.read() == "precious"
        fresh = place(rootless, unique("nobody"))
        rootless.veredus("mailbox", "export", "x" + ALICE, "INBOX", kind, fresh, status=1)
        assert not os.path.exists(fresh)
    rootless.veredus("mailbox", "import", BOB, "INBOX", "pst", path, status=2)
    rootless.veredus("mailbox", "import", BOB, "INBOX", "mbox", path + "x", status=1)
    rootless.veredus("mailbox", "import", BOB, "a//b", "mbox", path, status=1)


def test_mail_goes_through_pipes(rootless):
    folder = unique("pipe")
    rootless.run("veredus", "-d", rootless.dir, "mailbox", "import", BOB, folder, "mbox", "-",
                 input=MBOX)
    result = rootless.veredus("mailbox", "export", BOB, folder, "mbox", "-")
    assert result.stdout.count("\nSubject: ") + result.stdout.startswith("Subject: ") == 3
    assert "3 messages" in result.stderr


def test_memory_does_not_grow_with_the_file(rootless):
    folder = unique("large")
    line = b"x" * 75 + b"\n"
    path = place(rootless, folder)
    with open(path, "wb") as file:
        for i in range(60):
            file.write(FROM.encode() + b"Subject: %d\n\n" % i + line * 14000 + b"\n")
    os.chmod(path, 0o644)
    limit = 100 << 20  # of address space, libraries included; the file has 64 MB
    command = rootless.command("veredus", "-d", rootless.dir, "mailbox", "import", BOB, folder,
                               "mbox", path)
    if os.environ.get("VEREDUS_ASAN"):
        pytest.skip("the sanitizer's own address space is larger")
    result = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
    assert result.returncode == 0 and "60 messages" in result.stdout, result.stderr


def test_an_import_that_was_cut_off_is_repeated_without_duplicates(rootless):
    text = "".join(FROM + f"Subject: m{i}\n\n" + "x" * (i * 31 % 3000) + "\n\n"
                   for i in range(400))
    for kind in ("mbox", "maildir"):
        folder = unique("cut")
        path = write(rootless, folder, text)
        if kind == "maildir":
            transfer(rootless, "import", BOB, folder + "-", "mbox", path)
            path = place(rootless, folder + ".maildir")
            transfer(rootless, "export", BOB, folder + "-", "maildir", path)
        for _ in range(3):
            process = subprocess.Popen(
                rootless.command("veredus", "-d", rootless.dir, "mailbox", "import", BOB, folder,
                                 kind, path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                process.wait(random.random() * 0.06)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        last, _ = transfer(rootless, "import", BOB, folder, kind, path)
        assert last["messages"] + last["present"] == 400
        assert len(dump(rootless, BOB, folder)) == 400
        again, _ = transfer(rootless, "import", BOB, folder, kind, path)
        assert (again["messages"], again["present"]) == (0, 400)
