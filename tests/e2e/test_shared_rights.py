"""The rights k, x and a in folders of somebody else (RFC 4314 §4): making folders, removing and
renaming them, and saying who may use them."""
import pytest

from test_imap import append, login, ok
from test_imap_features import ALICE_LOGIN, folder_listed, name_of
from veredus import ALICE, BOB, message, wait_for

OTHERS = f"Other Users/{ALICE}"


@pytest.fixture
def alice(either):
    with login(either, **ALICE_LOGIN) as client:
        yield client


def shared(instance, alice, rights, below=()):
    """A new folder of alice's with a message, where bob has these rights, and folders below it that
    he has no right in; its name."""
    folder = name_of("rights")
    ok(alice.imap(f"CREATE {folder}"))
    append(alice, folder, message("kept", ALICE, BOB, "x\r\n"))
    for name in below:
        ok(alice.imap(f"CREATE {folder}/{name}"))
    ok(alice.imap(f"SETACL {folder} {BOB} {rights}"))
    wait_for("the share", lambda: folder_listed(instance, folder))
    return folder


def folders(client):
    return {line.split('"/" ')[1].strip('"') for line in ok(client.imap('LIST "" "*"'))}


def rights_in(alice, folder):
    words = ok(alice.imap(f"GETACL {folder}"))[0].split()[3:]
    return {who.strip('"'): rights for who, rights in zip(words[::2], words[1::2])}


def refused(client, command, code="NOPERM"):
    status = client.imap(command)[0]
    assert status.startswith(f"NO [{code}]"), (command, status)


def test_without_these_rights_nothing_of_that_may_be_done(either, alice):
    folder = shared(either, alice, "lrswipte")
    theirs = f"{OTHERS}/{folder}"
    with login(either) as bob:
        for command in (f'CREATE "{theirs}/new"', f'DELETE "{theirs}"', f'GETACL "{theirs}"',
                        f'RENAME "{theirs}" "{theirs}2"', f'SETACL "{theirs}" {BOB} +a',
                        f'LISTRIGHTS "{theirs}" {BOB}', f'DELETEACL "{theirs}" {BOB}',
                        f'CREATE "{OTHERS}/{folder}new"'):
            refused(bob, command)
    assert rights_in(alice, folder)[BOB] == "lrswipted"
    assert folders(alice) >= {folder} and f"{folder}/new" not in folders(alice)


def test_with_k_folders_are_made_that_the_same_people_may_use(either, alice):
    folder = shared(either, alice, "lrswik")
    new = f"{OTHERS}/{folder}/new"
    with login(either) as bob:
        status = bob.imap(f'CREATE "{new}"')[0]
        assert status.startswith("OK [MAILBOXID (")
        number = status.split("(")[1].split(")")[0]
        refused(bob, f'DELETE "{OTHERS}/{folder}"')
        refused(bob, f'CREATE "{new}"', "ALREADYEXISTS")
        refused(bob, f'CREATE "{OTHERS}/{folder}"', "ALREADYEXISTS")
        refused(bob, f'CREATE "{OTHERS}/{folder}/drafts" (USE (\\Drafts))', "USEATTR")
        ok(bob.imap(f'CREATE "{OTHERS}/{folder}/a/b/"'))
    with login(either) as bob:
        assert folders(bob) >= {new, f"{OTHERS}/{folder}/a/b"}
        assert number in "".join(ok(bob.imap(f'STATUS "{new}" (MAILBOXID)')))
        append(bob, f'"{new}"', message("from bob", BOB, ALICE, "x\r\n"))
    assert rights_in(alice, f"{folder}/new") == {ALICE: "lrswipkxteacd", BOB: "lrswikc"}
    assert "* 1 EXISTS" in ok(alice.imap(f"SELECT {folder}/new"))


def test_k_above_says_nothing_about_a_folder_without_it(either, alice):
    folder = shared(either, alice, "lrk", below=("private",))
    with login(either) as bob:
        status = bob.imap(f'CREATE "{OTHERS}/{folder}/private/mine"')[0]
        assert status.startswith("NO [NONEXISTENT]")
    assert f"{folder}/private/mine" not in folders(alice)


def test_with_x_a_folder_goes_for_everybody(either, alice):
    folder = shared(either, alice, "lrx", below=("below",))
    theirs = f"{OTHERS}/{folder}"
    with login(either) as bob:
        ok(bob.imap(f'SELECT "{theirs}"'))
        ok(bob.imap(f'DELETE "{theirs}"'))
        assert bob.imap("FETCH 1 FLAGS")[0].startswith("BAD")  # nothing is selected any more
        assert theirs not in folders(bob)
        refused(bob, f'SELECT "{theirs}"', "NONEXISTENT")
    either.wait_log(event="dlv.share", user=BOB, verb="delete", mailbox=folder, result="ok")
    assert f"{folder}/below" in folders(alice)
    refused(alice, f"SELECT {folder}", "NONEXISTENT")
    with login(either) as bob:
        assert theirs not in folders(bob)


def test_with_x_and_k_a_folder_gets_another_name(either, alice):
    folder, target = shared(either, alice, "lrx"), shared(either, alice, "lrk")
    theirs, new = f"{OTHERS}/{folder}", f"{OTHERS}/{target}/moved"
    with login(either) as bob:
        refused(bob, f'RENAME "{OTHERS}/{target}" "{new}"')
        refused(bob, f'RENAME "{theirs}" "{OTHERS}/{folder}/inside"')
        refused(bob, f'RENAME "{theirs}" mine', "CANNOT")
        ok(bob.imap("CREATE own"))
        refused(bob, f'RENAME own "{OTHERS}/{target}/own"', "CANNOT")
        ok(bob.imap("DELETE own"))
        ok(bob.imap(f'RENAME "{theirs}" "{new}"'))
        assert theirs not in folders(bob)
    assert "* 1 EXISTS" in ok(alice.imap(f"EXAMINE {target}/moved"))
    ok(alice.imap("UNSELECT"))
    with login(either) as bob:
        assert new in folders(bob) and theirs not in folders(bob)
        assert "* 1 EXISTS" in ok(bob.imap(f'EXAMINE "{new}"'))


def test_with_a_the_list_is_read_and_changed(either, alice):
    folder = shared(either, alice, "lra")
    theirs = f'"{OTHERS}/{folder}"'
    with login(either) as bob:
        assert ok(bob.imap(f"GETACL {theirs}")) == [
            f'* ACL {theirs} "{ALICE}" lrswipkxteacd "{BOB}" lra']
        ok(bob.imap(f"SETACL {theirs} {BOB} +sw"))
        ok(bob.imap(f"SETACL {theirs} anyone l"))
        ok(bob.imap(f"LISTRIGHTS {theirs} anyone"))
        assert ok(bob.imap(f"MYRIGHTS {theirs}"))[0].endswith(" lrswa")
        refused(bob, f"SETACL {theirs} {ALICE} l", "CANNOT")
        refused(bob, f'SETACL {theirs} "not one" l', "CANNOT")
        ok(bob.imap(f"SELECT {theirs}"))
        ok(bob.imap("STORE 1 +FLAGS (\\Flagged)"))
        assert rights_in(alice, folder) == {ALICE: "lrswipkxteacd", BOB: "lrswa", "anyone": "l"}
        ok(bob.imap(f"DELETEACL {theirs} anyone"))
        ok(bob.imap(f"DELETEACL {theirs} {BOB}"))  # his own: the last word
        refused(bob, f"SETACL {theirs} {BOB} lra", "NONEXISTENT")
    assert rights_in(alice, folder) == {ALICE: "lrswipkxteacd"}
    with login(either) as bob:
        assert theirs.strip('"') not in folders(bob)


def test_an_inbox_gives_folders_but_is_not_removed_or_renamed(either, alice):
    ok(alice.imap(f"SETACL INBOX {BOB} lrkxa"))
    wait_for("the share", lambda: folder_listed(either, f'{OTHERS}"'))
    name = name_of("top")
    try:
        with login(either) as bob:
            refused(bob, f'DELETE "{OTHERS}"')
            refused(bob, f'RENAME "{OTHERS}" "{OTHERS}/moved"')
            ok(bob.imap(f'CREATE "{OTHERS}/{name}"'))
            ok(bob.imap(f'SETACL "{OTHERS}" {BOB} -a'))
        assert name in folders(alice)
        assert rights_in(alice, "INBOX")[BOB] == "lrkxc"
    finally:
        ok(alice.imap(f"DELETEACL INBOX {BOB}"))


def test_public_folders_can_be_left_to_somebody(fresh):
    instance = fresh()
    instance.edit_conf(("domain example.test {", f"domain example.test {{ public-folders {ALICE};"))
    instance.start()
    instance.veredus("acl", "set", ALICE, "News", BOB, "lrswikxtea", "--create")
    with login(instance) as bob:
        ok(bob.imap("CREATE Public/News/today"))
        ok(bob.imap("SETACL Public/News anyone lr"))
    with login(instance) as bob:
        append(bob, "Public/News/today", message("new", BOB, BOB, "x\r\n"))
        ok(bob.imap("DELETE Public/News/today"))
        assert "Public/News/today" not in folders(bob)
    assert "anyone" in instance.veredus("acl", "show", ALICE, "News").stdout
