"""The mailbox servers that tests/bench/store compares, behind one interface, and their clients."""
import contextlib
import glob
import os
import socket
import subprocess

from measure import cpu
from place import die_with_parent, end
from veredus import Instance, free_port, wait_for

LINE = "A line of an ordinary message that somebody wrote to somebody else.\r\n"
MESSAGE = ("From: Bob Example <bob@example.test>\r\nTo: alice@example.test\r\n"
           "Subject: An ordinary message\r\nMessage-ID: <%d.%d@example.test>\r\n"
           "Date: Sat, 21 Nov 2026 05:03:15 +0000\r\nMIME-Version: 1.0\r\n"
           "Content-Type: text/plain; charset=utf-8\r\n\r\n" + LINE * 54)


class Connection:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=300)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def line(self):
        line = self.file.readline()
        if not line:
            raise ConnectionError("the server closed the connection")
        return line

    def close(self):
        self.file.close()
        self.socket.close()


class Imap(Connection):
    def __init__(self, port, user, password):
        super().__init__(port)
        self.line()
        self.run(f"LOGIN {user} {password}")

    def answer(self):
        while True:
            line = self.line()
            if line.startswith(b"t "):
                if not line.startswith(b"t OK"):
                    raise RuntimeError(line.decode())
                return

    def run(self, command):
        self.socket.sendall(f"t {command}\r\n".encode())
        self.answer()

    def append(self, folder, text):
        self.socket.sendall(b"t APPEND %s {%d+}\r\n%s\r\n" % (folder.encode(), len(text), text))
        self.answer()


class Lmtp(Connection):
    def __init__(self, port):
        super().__init__(port)
        self.answer()
        self.socket.sendall(b"LHLO client.test\r\n")
        self.answer()

    def answer(self, n=1):
        for _ in range(n):
            line = self.line()
            while line[3:4] == b"-":
                line = self.line()
            if line[:1] not in b"23":
                raise RuntimeError(line.decode())

    def deliver(self, recipient, text):
        self.socket.sendall(b"MAIL FROM:<bob@example.test>\r\nRCPT TO:<%s>\r\nDATA\r\n"
                            % recipient.encode())
        self.answer(3)
        self.socket.sendall(text.encode() + b".\r\n")
        self.answer()


def size_of(pattern):
    return sum(os.path.getsize(f) for f in glob.glob(pattern))


class Veredus:
    name = "veredus"
    password = "bench-password"
    imported = "Imported"

    def __init__(self, boxes):
        self.instance = Instance(rooted=os.getuid() == 0).init()
        self.instance.veredus("user", "add", "u0@example.test", "--password-stdin",
                              input=self.password + "\n")
        users = self.instance.read("tables/users")
        line = next(x for x in users.splitlines() if x.startswith("u0@"))
        with open(self.instance.path("tables/users"), "a") as file:
            file.writelines(line.replace("u0@", f"u{n}@", 1) + "\n" for n in range(1, boxes))
        self.instance.start()
        self.dir = self.instance.dir

    def imap(self, n=0):
        return Imap(self.instance.imap, self.user(n), self.password)

    def lmtp(self):
        return Lmtp(self.instance.lmtp)

    def user(self, n):
        return f"u{n}@example.test"

    def mail(self, n):
        return self.instance.path(f"mail/example.test/u{n}")

    def session(self):
        """The IMAP session process, when there is one."""
        found = []
        for parent in self.instance.pids("imap-session"):
            with open(f"/proc/{parent}/task/{parent}/children") as file:
                found += map(int, file.read().split())
        return found[-1:]

    def folders(self, boxes):
        """What is delivered ends there; when LMTP answers it is in the spool."""
        return list(filter(os.path.isdir, (self.mail(n) + "/cur" for n in range(boxes))))

    def cpu(self):
        return cpu(self.instance.family())

    def agents(self):
        return self.instance.pids("virtual")

    def expunged(self, n, folder):
        """The directory that expunged files go from."""
        return f"{self.mail(n)}/.{folder}/cur"

    def overhead(self, n, folder):
        """Bytes of index, of what is not in it yet, and of cache."""
        where = f"{self.mail(n)}/.{folder}/veredus."
        return tuple(size_of(where + name) for name in ("index", "log", "cache"))

    def take_over(self, n):
        """After files were put into a mail directory by root."""
        owner = os.stat(self.instance.path("mail"))
        subprocess.run(["chown", "-R", f"{owner.st_uid}:{owner.st_gid}",
                        os.path.dirname(self.mail(n))], check=True)

    def importing(self, n, mbox):
        return self.instance.command("veredus", "-d", self.dir, "mailbox", "import", self.user(n),
                                     "Imported", "mbox", mbox), {}

    def stop(self):
        end(self.instance)


class Dovecot:
    """A whole Dovecot of its own below a directory; needs root, as Debian's package does."""
    password = "x"
    owner = 65534

    def __init__(self, kind, tmp):
        self.name, self.kind = f"dovecot {kind}", kind
        self.imported = {"maildir": "Imported.INBOX", "dbox": "Imported/INBOX"}[kind]
        self.dir = f"{tmp}/{kind}"
        os.makedirs(f"{self.dir}/mail", mode=0o777)
        os.chmod(f"{self.dir}/mail", 0o777)
        os.chmod(self.dir, 0o755)
        os.mkdir(f"{self.dir}/source")
        os.chown(f"{self.dir}/source", self.owner, self.owner)
        self.port, self.lmtp_port = free_port(), free_port()
        where = {"maildir": "maildir:~/m", "dbox": "mdbox:~/m"}[kind]
        self.conf = f"{self.dir}/conf"
        with open(self.conf, "w") as file:
            file.write(f"""base_dir = {self.dir}/run
log_path = {self.dir}/log
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
protocols = imap lmtp
mail_location = {where}
mail_fsync = always
first_valid_uid = 1
default_process_limit = 1200
default_client_limit = 3000
mail_max_userip_connections = 100
passdb {{
  driver = static
  args = password={self.password}
}}
userdb {{
  driver = static
  args = uid={self.owner} gid={self.owner} home={self.dir}/mail/%n
}}
service imap-login {{
  inet_listener imap {{
    port = {self.port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    port = {self.lmtp_port}
  }}
}}
""")
        self.process = subprocess.Popen(["dovecot", "-F", "-c", self.conf],
                                        stderr=subprocess.DEVNULL, preexec_fn=die_with_parent)
        wait_for("dovecot", lambda: self.answers() or self.process.poll() is not None)
        if not self.answers():
            raise RuntimeError("dovecot does not start: " + self.log())

    def answers(self):
        with contextlib.suppress(OSError):
            for port in (self.port, self.lmtp_port):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        return False

    def log(self):
        with contextlib.suppress(OSError):
            with open(f"{self.dir}/log") as file:
                return file.read()[-300:]
        return "no log"

    def imap(self, n=0):
        return Imap(self.port, self.user(n), self.password)

    def lmtp(self):
        return Lmtp(self.lmtp_port)

    def user(self, n):
        return f"u{n}"

    def mail(self, n):
        return f"{self.dir}/mail/u{n}/m"

    def family(self):
        """Every process below the master, with its name."""
        found = {self.process.pid: "dovecot"}
        for pid in list(found):
            with contextlib.suppress(OSError):
                with open(f"/proc/{pid}/task/{pid}/children") as file:
                    children = file.read().split()
                for child in map(int, children):
                    with open(f"/proc/{child}/comm") as file:
                        found[child] = file.read().strip()
        return found

    def session(self):
        return [p for p, name in self.family().items() if name == "imap"][-1:]

    def folders(self, _boxes):
        return None  # it is in the mailbox when LMTP answers

    def cpu(self):
        return cpu(self.family(), reaped=True)

    def agents(self):
        return [p for p, name in self.family().items() if name == "lmtp"]

    def expunged(self, n, folder):
        if self.kind == "maildir":
            return f"{self.mail(n)}/.{folder}/cur"
        self.doveadm(n, "purge")  # it removes nothing before
        return None

    def overhead(self, n, folder):
        if self.kind == "maildir":
            where = f"{self.mail(n)}/.{folder}/"
            indexes = size_of(where + "dovecot-uidlist")
        else:
            where = f"{self.mail(n)}/mailboxes/{folder}/dbox-Mails/"
            indexes = size_of(f"{self.mail(n)}/storage/dovecot.map.index")
        log = size_of(where + "dovecot.index.log*")
        if self.kind == "dbox":
            log += size_of(f"{self.mail(n)}/storage/dovecot.map.index.log*")
        return indexes + size_of(where + "dovecot.index"), log, size_of(where + "dovecot.index.cache*")

    def doveadm(self, n, *arguments, **options):
        subprocess.run(["doveadm", "-c", self.conf, *arguments[:1], "-u", self.user(n),
                        *arguments[1:]], check=True, capture_output=True, **options)

    def importing(self, n, mbox):
        """A command that puts the messages into the folder `imported`, and options to run it."""
        return (["doveadm", "-c", self.conf, "-o", "mail_fsync=never", "import", "-u", self.user(n),
                 "-s", f"mbox:{self.dir}/source:INBOX={mbox}", "Imported", "ALL"],
                {"stderr": subprocess.DEVNULL})

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
