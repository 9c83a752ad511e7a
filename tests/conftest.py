import os
import shutil
import signal
import sys

import pytest

import veredus
from veredus import Instance


def pytest_configure():
    # Instances are sessions of their own: a pytest that is told to end ends them too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    missing = [r for r in ("veredus", "master") if not os.path.exists(
        os.path.join(veredus.ROOT, veredus.BUILD, "bin", r))]
    if missing:
        pytest.exit(f"not built: {', '.join(missing)} in {veredus.BUILD}/bin (run make)", 3)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """What the instances logged last belongs to a failure."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        text = str(report.longrepr)
        for instance in Instance.live:
            lines = instance.log().splitlines()[-25:]
            text += f"\n--- log of {instance.dir}\n" + "\n".join(lines)
        report.longrepr = text


def make(rooted):
    if rooted and os.getuid() != 0:
        pytest.skip("needs root: daemons under their own accounts")
    return Instance(rooted=rooted).init()


@pytest.fixture(scope="module", params=["rootless", "rooted"])
def either(request):
    """A running demo instance, once rootless and, for root, once with real accounts."""
    instance = make(request.param == "rooted")
    try:
        yield instance.start()
    finally:
        instance.discard()


@pytest.fixture(scope="module")
def rootless():
    """A running rootless demo instance, shared by the tests of a file."""
    instance = make(False)
    try:
        yield instance.start()
    finally:
        instance.discard()


@pytest.fixture(scope="module")
def rooted():
    instance = make(True)
    try:
        yield instance.start()
    finally:
        instance.discard()


@pytest.fixture
def fresh():
    """Makes instances, set up but not started, that end with the test."""
    made = []

    def factory(rooted=False):
        made.append(make(rooted))
        return made[-1]
    yield factory
    for instance in made:
        instance.discard()


@pytest.fixture
def tool():
    """The path of a client program, or a skip that names it."""
    def find(name):
        path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
        if not path:
            pytest.skip(f"{name} is not installed")
        return path
    return find


def pytest_sessionfinish():
    for instance in list(Instance.live):
        instance.discard()
    if not os.environ.get("VEREDUS_TEST_TMP") and veredus._tmp:
        shutil.rmtree(veredus._tmp, ignore_errors=True)
