"""Other programs beside us on the Maildir of an account of this host."""
import os
import re

import pytest

import beside
from conftest import make
from test_local import HOST, account
from veredus import ALICE

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root to make an account")


@pytest.fixture(scope="module")
def host(account):
    instance = make(True)
    instance.edit_conf(append=f"local {{ domains {HOST} }}")
    users = instance.read("tables/users")
    line = re.search(rf"^{re.escape(ALICE)}(.*)$", users, re.M)
    instance.write("tables/users", f"{users}\n{account.address}{line[1]}\n")
    account.maildir, account.login = account.path("Maildir"), ALICE
    instance.start()
    yield instance
    instance.discard()


def test_dovecot_and_we_change_one_maildir_while_mail_arrives(host, account):
    beside.dovecot_and_we_change_one_maildir(host, account)


def test_mbsync_mirrors_the_same_maildir_both_ways(host, account, tool):
    beside.mbsync_mirrors_both_ways(host, account, tool)


def test_mutt_flags_and_deletes_in_the_same_maildir(host, account, tool):
    beside.mutt_flags_and_deletes(host, account, tool)


def test_mail_with_crlf_is_the_same_for_all(host, account, tool):
    beside.crlf_mail_is_the_same_for_all(host, account, tool)
