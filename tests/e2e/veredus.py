"""The harness: private instances on free ports, and ways to look at them.

As root there are two kinds: rootless instances, run as the account nobody, and rooted ones,
started as root with every daemon under its own account. Otherwise all are rootless.
"""
import contextlib
import email
import email.policy
import fcntl
import glob
import imaplib
import json
import os
import random
import re
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("VEREDUS_BUILD", "build")
SLOW = 4 if os.environ.get("VEREDUS_ASAN") else 1
NOBODY = 65534

PORTS = {"lmtp": 24, "smtp": 25, "pop3": 110, "imap": 143, "submissions": 465,
         "submission": 587, "imaps": 993, "pop3s": 995}
ROLES = ("master", "logd", "keyd", "dnsd", "authd", "lookupd", "notifyd", "qmgr", "bounce",
         "virtual", "local", "pipe", "house", "remote", "smtpd", "imap-session", "pop3-session", "imap-login",
         "pop3-login")
ALICE, BOB = "alice@example.test", "bob@example.test"
PASSWORDS = {ALICE: "alice-password", BOB: "bob-password"}

_tmp = os.environ.get("VEREDUS_TEST_TMP")


def tmp():
    """The private directory of this run; tests/run makes and removes it."""
    global _tmp
    if not _tmp:
        _tmp = tempfile.mkdtemp(prefix="veredus-", dir="/tmp")
        os.chmod(_tmp, 0o711)
    return _tmp


def bin_dir():
    """The programs, copied to where every account may execute them."""
    target = os.path.join(tmp(), "bin-" + os.path.basename(BUILD))
    with open(os.path.join(tmp(), ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(target):
            shutil.copytree(os.path.join(ROOT, BUILD, "bin"), target + ".new")
            os.chmod(target + ".new", 0o755)
            os.rename(target + ".new", target)
    return target


def wait_for(what, condition, timeout=10, interval=0.03):
    """Waits until condition() is true and returns it; fails naming what was waited for."""
    deadline = time.monotonic() + timeout * SLOW
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout * SLOW} s in vain for {what}")
        time.sleep(interval)


def port_free(port, host="127.0.0.1"):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((host, port))
        except OSError:
            return False
    return True


def reserve(port):
    """Among the test processes of this run, which go on in parallel."""
    os.makedirs(os.path.join(tmp(), "ports"), exist_ok=True)
    try:
        os.close(os.open(os.path.join(tmp(), "ports", str(port)), os.O_CREAT | os.O_EXCL))
        return True
    except FileExistsError:
        return False


def free_base():
    for _ in range(1000):
        base = random.randrange(10000, 31000)
        ports = [base + offset for offset in PORTS.values()]
        if all(port_free(p) for p in ports) and all(reserve(p) for p in ports):
            return base
    raise RuntimeError("no free ports")


def free_port(host="127.0.0.1"):
    for _ in range(1000):
        port = random.randrange(10000, 31000)
        if port_free(port, host) and reserve(port):
            return port
    raise RuntimeError("no free port")


def tls_context():
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Instance:
    live = []

    def __init__(self, rooted=False, base=None, uid=NOBODY):
        """uid: whose the rootless instance is when root starts it."""
        assert not rooted or os.getuid() == 0
        self.rooted = rooted
        self.uid = uid
        self.as_nobody = not rooted and os.getuid() == 0
        self.base = base or free_base()
        self.bin = bin_dir()
        self.parent = tempfile.mkdtemp(prefix="i", dir=tmp())
        self.dir = os.path.join(self.parent, "d")
        if self.as_nobody:
            os.chown(self.parent, uid, uid)
        os.chmod(self.parent, 0o755)
        self.running = False
        Instance.live.append(self)

    def __getattr__(self, name):
        if name in PORTS:
            return self.base + PORTS[name]
        raise AttributeError(name)

    # --- running ---------------------------------------------------------------------------------
    def command(self, program, *arguments):
        command = [os.path.join(self.bin, program), *map(str, arguments)]
        if self.as_nobody:
            command = ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups",
                       "--", *command]
        return command

    def run(self, program, *arguments, status=0, timeout=60, **options):
        """Runs one of our programs; status None: any."""
        options.setdefault("stdin", None if "input" in options else subprocess.DEVNULL)
        if options["stdin"] is None:
            del options["stdin"]
        result = subprocess.run(self.command(program, *arguments), text=True, check=False,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                timeout=timeout * SLOW, cwd=self.parent, **options)
        if status is not None:
            assert result.returncode == status, (
                f"{program} {' '.join(map(str, arguments))}: status {result.returncode}\n"
                f"{result.stdout}{result.stderr}")
        return result

    def veredus(self, *arguments, **options):
        return self.run("veredus", "-d", self.dir, *arguments, **options)

    def sendmail(self, *arguments, **options):
        options.setdefault("env", dict(os.environ, VEREDUS_DIR=self.dir))
        return self.run("sendmail", *arguments, **options)

    def init(self):
        self.run("veredus", "init", "--dir", self.dir, "--demo", "--base-port", self.base)
        return self

    def start(self):
        self.veredus("start")
        self.running = True
        return self

    def stop(self):
        self.running = False
        self.veredus("stop")

    def restart(self):
        self.stop()
        return self.start()

    def status(self):
        return json.loads(self.veredus("status", "--json").stdout)

    def processes(self, role=None):
        found = self.status()["processes"]
        return [p for p in found if role is None or p["role"] == role]

    def pids(self, role):
        """Of those that run; one that waits for its restart has none."""
        return [p["pid"] for p in self.processes(role) if p["pid"] > 0]

    def pid_file(self):
        """Master's process. The file of one that was killed is still there, and soon its number is
        somebody else's."""
        try:
            with open(self.path("run/veredus.pid")) as file:
                pid = int(file.read().split()[0])
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().decode().split("\0")
        except (OSError, ValueError, IndexError):
            return None
        return pid if os.path.realpath(self.path("veredus.conf")) in words else None

    def family(self):
        """Every process of this instance: master and those below it."""
        master = self.pid_file()
        parents = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError, IndexError):
                    with open(f"/proc/{entry}/stat") as stat:
                        fields = stat.read().rsplit(")", 1)[1].split()
                    if fields[0] != "Z":
                        parents.setdefault(int(fields[1]), []).append(int(entry))
        found, todo = [], [master] if master else []
        while todo:
            pid = todo.pop()
            found.append(pid)
            todo += parents.get(pid, [])
        return found

    def kill_everything(self):
        """Power off, as far as processes can tell."""
        pids = self.family()
        for pid in pids:  # master first: it must not restart anything
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for("all processes gone", lambda: not any(alive(p) for p in pids))
        self.running = False

    def discard(self):
        with contextlib.suppress(Exception):
            if self.running:
                self.stop()
        with contextlib.suppress(Exception):
            self.kill_everything()
        if self in Instance.live:
            Instance.live.remove(self)
        shutil.rmtree(self.parent, ignore_errors=True)

    # --- files -----------------------------------------------------------------------------------
    def path(self, name):
        return os.path.join(self.dir, name)

    def read(self, name):
        with open(self.path(name), encoding="utf-8", errors="replace") as file:
            return file.read()

    def write(self, name, text):
        path = self.path(name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        if self.as_nobody:
            os.chown(path, self.uid, self.uid)

    def edit_conf(self, *replacements, append=""):
        """(pattern, text) replacements, each of which must match, and lines at the end."""
        text = self.read("veredus.conf")
        for pattern, new in replacements:
            text, count = re.subn(pattern, new, text, flags=re.M)
            assert count, f"{pattern} is not in veredus.conf:\n{text}"
        self.write("veredus.conf", text + "\n" + append + "\n")

    def log(self):
        try:
            return self.read("log/veredus.log")
        except OSError:
            return ""

    def log_find(self, **fields):
        """Log lines, as dicts, with these fields; event="a.b". A moment later: what they tell of may
        be seen before logd, which gathers, has written them."""
        time.sleep(0.05)
        return [e for e in map(logfmt, self.log().splitlines())
                if all(e.get(k) == str(v) for k, v in fields.items())]

    def wait_log(self, timeout=10, **fields):
        return wait_for(f"log line {fields}", lambda: self.log_find(**fields), timeout)

    # --- mail ------------------------------------------------------------------------------------
    def mail_files(self, user=ALICE):
        name, domain = user.split("@")
        folder = self.path(f"mail/{domain}/{name}")
        return sorted(glob.glob(f"{folder}/new/*") + glob.glob(f"{folder}/cur/*"))

    def mails(self, user=ALICE):
        found = []
        for path in self.mail_files(user):
            with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
                found.append(email.message_from_bytes(file.read(), policy=email.policy.default))
        return found

    def wait_mail(self, subject, user=ALICE, count=1, timeout=15):
        """The mails of user with this subject, when there are `count` of them."""
        def found():
            mails = [m for m in self.mails(user) if m["Subject"] == subject]
            return mails if len(mails) >= count else None
        mails = wait_for(f"mail {subject!r} for {user}", found, timeout)
        return mails[0] if count == 1 else mails

    def send(self, subject, to=ALICE, sender="someone@elsewhere.test", body="Hello.\r\n",
             login=None, options=(), rcpt_options=(), extra=""):
        """One message by smtplib; with login over submission with STARTTLS."""
        recipients = [to] if isinstance(to, str) else list(to)
        text = message(subject, recipients[0], sender or "postmaster@elsewhere.test", body,
                       extra)
        port = self.submission if login else self.smtp
        with smtplib.SMTP("127.0.0.1", port, timeout=30 * SLOW) as smtp:
            if login:
                smtp.starttls(context=tls_context())
                smtp.login(login, PASSWORDS[login])
            return smtp.sendmail(sender, recipients, text, options, rcpt_options)

    def imap_client(self, user=ALICE, password=None):
        client = imaplib.IMAP4_SSL("127.0.0.1", self.imaps, ssl_context=tls_context(),
                                   timeout=30 * SLOW)
        client.login(user, password or PASSWORDS[user])
        return client

    def raw(self, port_name="smtp", tls=False, timeout=20):
        return Raw(self.base + PORTS[port_name], tls=tls, timeout=timeout)

    def queue(self):
        """Entries of the queue."""
        data = json.loads(self.veredus("queue", "list", "--json").stdout or "[]")
        return data if isinstance(data, list) else data.get("messages", data.get("queue"))


def message(subject, to, sender, body, extra=""):
    return (f"From: <{sender}>\r\nTo: <{to}>\r\nSubject: {subject}\r\n"
            f"Date: Sat, 21 Nov 2026 02:00:00 +0000\r\n"
            f"Message-ID: <{random.getrandbits(64):x}@elsewhere.test>\r\n{extra}\r\n{body}")


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


LOGFMT = re.compile(r'([A-Za-z_][\w.]*)=("(?:[^"\\]|\\.)*"|\S*)')


def logfmt(line):
    """A log line as a dict; `time`, `process` and `pid` from its head."""
    fields = {}
    match = re.match(r"(\S+) ([\w-]+)(?:\[(\d+)\])? ", line)
    if match:
        fields["time"], fields["process"], fields["pid"] = match.groups()
    for key, value in LOGFMT.findall(line):
        if value.startswith('"'):
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        fields[key] = value
    return fields


class Raw:
    """A client that sends exactly the bytes it is told to."""

    def __init__(self, port, host="127.0.0.1", tls=False, timeout=20):
        self.sock = socket.create_connection((host, port), timeout=timeout * SLOW)
        if tls:
            self.sock = tls_context().wrap_socket(self.sock)
        self.buffer = b""

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())

    def starttls(self):
        self.sock = tls_context().wrap_socket(self.sock)
        self.buffer = b""

    def line(self):
        """One line without its CRLF; None at the end of the connection."""
        while b"\n" not in self.buffer:
            try:
                data = self.sock.recv(65536)
            except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
                data = b""
            if not data:
                return None
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        assert line.endswith(b"\r"), f"bare LF from the server after {line!r}"
        return line[:-1].decode("utf-8", "surrogateescape")

    def exactly(self, count):
        while len(self.buffer) < count:
            data = self.sock.recv(65536)
            assert data, f"connection ended, {count} bytes wanted, have {self.buffer!r}"
            self.buffer += data
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def reply(self):
        """An SMTP reply: (code, [texts]); (None, []) at the end of the connection."""
        texts = []
        while True:
            line = self.line()
            if line is None:
                return None, texts
            assert re.match(r"\d{3}([ -]|$)", line), f"not a reply line: {line!r}"
            texts.append(line[4:])
            if line[3:4] != "-":
                return int(line[:3]), texts

    def smtp(self, command):
        """Sends a line and returns the code of its reply."""
        self.send(command + "\r\n" if isinstance(command, str) else command + b"\r\n")
        return self.reply()[0]

    def hello(self, name="client.test"):
        code, _ = self.reply()
        assert code == 220
        self.send(f"EHLO {name}\r\n")
        code, texts = self.reply()
        assert code == 250
        return texts

    def imap(self, command, tag="t"):
        """Sends a tagged command; returns (status line, [untagged lines]). Literals in answers
        stay in the lines they belong to."""
        self.send(f"{tag} {command}\r\n")
        return self.imap_answer(tag)

    def imap_answer(self, tag="t"):
        untagged = []
        while True:
            line = self.imap_line()
            assert line is not None, f"connection ended before the answer to {tag}: {untagged}"
            if line.startswith(tag + " "):
                return line[len(tag) + 1:], untagged
            untagged.append(line)

    def imap_line(self):
        line = self.line()
        while line is not None and re.search(r"\{\d+\}$", line):
            literal = self.exactly(int(line[line.rindex("{") + 1:-1]))
            line += "\r\n" + literal.decode("utf-8", "surrogateescape") + self.line()
        return line

    def ended(self, timeout=10):
        """True when the server closes the connection, whatever it says before."""
        self.sock.settimeout(timeout * SLOW)
        try:
            while True:
                if not self.sock.recv(65536):
                    return True
        except socket.timeout:
            return False
        except (ConnectionError, ssl.SSLError):
            return True

    def close(self):
        with contextlib.suppress(OSError):
            self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
