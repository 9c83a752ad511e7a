"""Debian's postfix, unpacked beside, in two ways. Nothing is installed: each runs below a directory of
the run, on a loopback port, in a mount namespace of its own whose /etc names its accounts.

DebianPostfix is what `apt install postfix` gives ("Internet Site"): the package's own main.cf and
master.cf (chroot and all) with the values its postinst sets, which are read and written here as they
stand; mail goes through local(8), with aliases(5) and ~/.forward looked at, to system users.
OVERRIDES is all that differs. Of that only home_mailbox changes what a message costs: Maildir for
the mbox below /var/mail, for one file a message is what the others write too. Its log is its own
postlogd's, since no syslog daemon runs here.

TunedPostfix is set up for throughput: virtual(8) to the Maildirs of one account, no flow control in
cleanup(8), no name looked up for a client, no chroot, no TLS."""
import glob
import os
import re
import shutil
import socket
import subprocess
import time

from measure import cpu
from veredus import free_port, wait_for

OWNER, DROP, FIRST_USER = 64101, 64102, 64110

# What postinst adds to main.cf.debian and main.cf.tls, with debconf's defaults.
POSTINST = """
smtpd_relay_restrictions = permit_mynetworks permit_sasl_authenticated defer_unauth_destination
myhostname = bench.test
alias_maps = hash:/etc/aliases
alias_database = hash:/etc/aliases
mydestination = $myhostname, example.test, localhost.test, localhost
relayhost =
mynetworks = 127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128
mailbox_size_limit = 0
recipient_delimiter = +
inet_interfaces = all
inet_protocols = all
"""

OVERRIDES = """
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
relayhost = [127.0.0.1]:{sink}
home_mailbox = Maildir/
alias_maps = hash:{dir}/etc/aliases
alias_database = hash:{dir}/etc/aliases
smtpd_tls_cert_file = {dir}/etc/cert.pem
smtpd_tls_key_file = {dir}/etc/key.pem
"""

TUNED = """
compatibility_level = 3.6
myhostname = bench.test
mydestination =
mynetworks =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_relay_restrictions = reject_unauth_destination
relay_domains = relay.test
transport_maps = inline:{{ {{ relay.test = smtp:[127.0.0.1]:{sink} }} }}
virtual_mailbox_domains = example.test
virtual_mailbox_base = {dir}/mail
virtual_mailbox_maps = texthash:{dir}/etc/users
virtual_uid_maps = static:{owner}
virtual_gid_maps = static:{owner}
in_flow_delay = 0
disable_dns_lookups = yes
"""

# Where everything is, for both. The libraries are not where the programs look for them.
PLACES = """
queue_directory = {dir}/queue
data_directory = {dir}/data
command_directory = {package}/usr/sbin
daemon_directory = {package}/usr/lib/postfix/sbin
shlib_directory = {package}/usr/lib/postfix
meta_directory = {package}/etc/postfix
maillog_file = {dir}/log
maillog_file_prefixes = {dir}
import_environment = MAIL_CONFIG LD_LIBRARY_PATH TZ LD_PRELOAD SLOW_SYNC_US
export_environment = MAIL_CONFIG LD_LIBRARY_PATH TZ LD_PRELOAD SLOW_SYNC_US
"""


class Package:
    """Debian's package, unpacked below a directory."""

    def __init__(self, directory):
        self.dir = os.path.realpath(directory)

    def unpack(self):
        """Returns why it cannot be had, or None."""
        if os.getuid() != 0:
            return "needs root"
        os.makedirs(self.dir)
        os.chmod(self.dir, 0o755)
        got = subprocess.run(["apt-get", "download", "postfix"], cwd=self.dir, check=False,
                             capture_output=True, text=True)
        debs = glob.glob(self.dir + "/postfix_*.deb")
        if not debs:
            return "apt-get download postfix: " + got.stderr.strip()[-200:]
        subprocess.run(["dpkg", "-x", debs[0], self.dir], check=True)
        os.chmod(self.dir, 0o755)
        linked = subprocess.run(["ldd", self.dir + "/usr/lib/postfix/sbin/smtpd"], check=True,
                                env=self.environment(), capture_output=True, text=True).stdout
        missing = [line.split()[0] for line in linked.splitlines() if "not found" in line]
        return f"lacks the libraries {', '.join(missing)}" if missing else None

    def environment(self, **more):
        return dict(os.environ, LD_LIBRARY_PATH=self.dir + "/usr/lib/postfix", **more)

    def read(self, name):
        with open(f"{self.dir}/usr/share/postfix/{name}") as file:
            return file.read()


class Postfix:
    def __init__(self, package, directory, users, sink):
        """sink: the port that mail for relay.test goes to."""
        self.package, self.dir = package, os.path.realpath(directory)
        self.users = [user.split("@")[0] for user in users]
        self.port = free_port()
        self.sink = sink
        self.process = None

    # What the two differ in.
    def main(self):
        raise NotImplementedError

    def prepare(self):
        """Tables and mailboxes."""
        raise NotImplementedError

    def accounts(self):
        """Lines of passwd for those who get mail."""
        return []

    def master(self):
        """The package's services, at our port."""
        return re.sub(r"(?m)^smtp(\s+inet)", rf"127.0.0.1:{self.port}\1",
                      self.package.read("master.cf.dist"))

    def environment(self):
        return self.package.environment(MAIL_CONFIG=self.dir + "/etc")

    def write(self, name, text):
        with open(f"{self.dir}/etc/{name}", "w") as file:
            file.write(text.format(dir=self.dir, package=self.package.dir, owner=OWNER,
                                   sink=self.sink))

    def make_queue(self):
        for name in ("etc", "data", "mail", "queue", "queue/pid"):
            os.makedirs(f"{self.dir}/{name}")
        os.chmod(self.dir, 0o755)
        for name in ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold",
                     "incoming", "private", "saved", "trace", "public", "maildrop"):
            os.mkdir(f"{self.dir}/queue/{name}", 0o700)
            os.chown(f"{self.dir}/queue/{name}", OWNER, -1)
        os.chown(self.dir + "/data", OWNER, -1)

    def make_accounts(self):
        """A directory that takes the place of /etc: accounts of our own, and links to all else. A
        file mounted over /etc/passwd would be gone once somebody adds an account to the machine."""
        os.mkdir(self.dir + "/machine-etc")
        os.mkdir(self.dir + "/accounts")
        for name in set(os.listdir("/etc")) - {"passwd", "group"}:
            path = f"/etc/{name}"
            os.symlink(os.readlink(path) if os.path.islink(path) else
                       f"{self.dir}/machine-etc/{name}", f"{self.dir}/accounts/{name}")
        own = [f"postfix:x:{OWNER}:{OWNER}::/nonexistent:/usr/sbin/nologin\n", *self.accounts()]
        for name, lines in (("passwd", own),
                            ("group", [f"postfix:x:{OWNER}:\n", f"postdrop:x:{DROP}:\n"])):
            names = tuple(line.split(":")[0] + ":" for line in lines)
            with open(f"/etc/{name}") as original, open(f"{self.dir}/accounts/{name}", "w") as copy:
                copy.writelines([x for x in original if not x.startswith(names)] + lines)

    def configure(self):
        self.make_queue()
        self.make_accounts()
        self.write("main.cf", self.main() + PLACES)
        with open(f"{self.dir}/etc/master.cf", "w") as file:
            file.write(self.master())
        self.prepare()

    def inside(self, *command):
        """The command, with our accounts."""
        script = ("mount --make-rprivate / && mount --bind /etc \"$0/machine-etc\" && "
                  "mount --bind \"$0/accounts\" /etc && exec \"$@\"")
        return ["unshare", "--mount", "sh", "-c", script, self.dir,
                f"{self.package.dir}/usr/{command[0]}", *command[1:]]

    def start(self):
        self.configure()
        self.process = subprocess.Popen(
            self.inside("lib/postfix/sbin/master", "-c", self.dir + "/etc", "-d"),
            env=self.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)

        def ready():
            assert self.process.poll() is None, self.log()
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", self.port)) == 0
        wait_for("postfix", ready, 20)
        time.sleep(0.5)

    def log(self):
        try:
            with open(self.dir + "/log") as file:
                return file.read()[-2000:]
        except OSError:
            return "postfix wrote no log"

    def pids(self):
        """master and what it started."""
        found = [self.process.pid]
        for pid in found:
            try:
                with open(f"/proc/{pid}/task/{pid}/children") as file:
                    found += map(int, file.read().split())
            except OSError:
                pass
        return found

    def cpu(self):
        return cpu(self.pids(), reaped=True)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)


class DebianPostfix(Postfix):
    name = "postfix"

    def main(self):
        own = (self.package.read("main.cf.debian") + self.package.read("main.cf.tls")).replace(
            "{", "{{").replace("}", "}}")
        settings = {}
        for line in (own + POSTINST + OVERRIDES).splitlines():
            if line and not line.startswith("#"):
                settings[line.split("=")[0].strip()] = line
        return "\n".join(settings.values())

    def accounts(self):
        return [f"{user}:x:{FIRST_USER + i}:{OWNER}::{self.dir}/mail/{user}:/bin/false\n"
                for i, user in enumerate(self.users)]

    def prepare(self):
        for i, user in enumerate(self.users):
            os.mkdir(f"{self.dir}/mail/{user}", 0o755)
            os.chown(f"{self.dir}/mail/{user}", FIRST_USER + i, OWNER)
        self.write("aliases", "postmaster: root\n")
        subprocess.run(self.inside("sbin/postalias", f"hash:{self.dir}/etc/aliases"),
                       env=self.environment(), check=True)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9",
                        "-subj", "/CN=bench.test", "-keyout", self.dir + "/etc/key.pem",
                        "-out", self.dir + "/etc/cert.pem"], check=True, capture_output=True)
        # As the package's configure-instance.sh does at each start.
        os.mkdir(self.dir + "/queue/etc")
        for name in ("localtime", "services", "resolv.conf", "hosts", "host.conf",
                     "nsswitch.conf"):
            if os.path.exists(f"/etc/{name}"):
                shutil.copy(f"/etc/{name}", f"{self.dir}/queue/etc/{name}")

    def folders(self):
        return glob.glob(self.dir + "/mail/*/Maildir/new")


class TunedPostfix(Postfix):
    name = "postfix-virtual"

    def main(self):
        return TUNED

    def master(self):
        return re.sub(r"(?m)^(\S+\s+\S+\s+\S+\s+\S+\s+)y", r"\1n", super().master())

    def prepare(self):
        os.chown(self.dir + "/mail", OWNER, OWNER)
        self.write("users", "".join(f"{u}@example.test {u}/\n" for u in self.users))

    def folders(self):
        return glob.glob(self.dir + "/mail/*/new")
