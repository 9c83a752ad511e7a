"""Debian's postfix, unpacked beside: a private configuration on a loopback port, delivering with
virtual(8) to Maildirs, under the same directory tree as what it is compared with.

Nothing is installed. It runs in a mount namespace of its own whose account files name its two
accounts, so that the machine's stay as they are."""
import glob
import os
import socket
import subprocess
import time

from veredus import free_port, wait_for

OWNER, DROP = 64101, 64102

SERVICES = """
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
smtp unix - - n - - smtp
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""

MAIN = """
compatibility_level = 3.6
queue_directory = {dir}/queue
data_directory = {dir}/data
command_directory = {dir}/x/usr/sbin
daemon_directory = {dir}/x/usr/lib/postfix/sbin
shlib_directory = {dir}/x/usr/lib/postfix
meta_directory = {dir}/x/etc/postfix
mail_owner = postfix
setgid_group = postdrop
default_privs = nobody
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
virtual_mailbox_maps = texthash:{dir}/users
virtual_uid_maps = static:{owner}
virtual_gid_maps = static:{owner}
in_flow_delay = 0
maillog_file = {dir}/log
maillog_file_prefixes = {dir}
disable_dns_lookups = yes
import_environment = MAIL_CONFIG LD_LIBRARY_PATH TZ LD_PRELOAD SLOW_SYNC_US
export_environment = MAIL_CONFIG LD_LIBRARY_PATH TZ LD_PRELOAD SLOW_SYNC_US
"""


class Postfix:
    def __init__(self, directory, users, sink=9):
        """sink: the port that mail for relay.test goes to."""
        self.dir = os.path.realpath(directory)
        self.users = users
        self.port = free_port()
        self.sink = sink
        self.process = None

    def unpack(self):
        """Returns why it cannot be had, or None."""
        if os.getuid() != 0:
            return "needs root"
        os.makedirs(self.dir, exist_ok=True)
        os.chmod(self.dir, 0o755)
        got = subprocess.run(["apt-get", "download", "postfix"], cwd=self.dir, check=False,
                             capture_output=True, text=True)
        debs = glob.glob(self.dir + "/postfix_*.deb")
        if not debs:
            return "apt-get download postfix: " + got.stderr.strip()[-200:]
        subprocess.run(["dpkg", "-x", debs[0], self.dir + "/x"], check=True)
        os.chmod(self.dir + "/x", 0o755)
        linked = subprocess.run(["ldd", self.dir + "/x/usr/lib/postfix/sbin/smtpd"], check=True,
                                env=self.environment(), capture_output=True, text=True).stdout
        missing = [line.split()[0] for line in linked.splitlines() if "not found" in line]
        return f"lacks the libraries {', '.join(missing)}" if missing else None

    def environment(self):
        return dict(os.environ, LD_LIBRARY_PATH=self.dir + "/x/usr/lib/postfix",
                    MAIL_CONFIG=self.dir + "/etc")

    def configure(self):
        for name in ("etc", "data", "mail", "queue", "queue/pid"):
            os.makedirs(f"{self.dir}/{name}", exist_ok=True)
        for name in ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold",
                     "incoming", "private", "saved", "trace", "public", "maildrop"):
            os.makedirs(f"{self.dir}/queue/{name}", exist_ok=True)
            os.chown(f"{self.dir}/queue/{name}", OWNER, -1)
            os.chmod(f"{self.dir}/queue/{name}", 0o700)
        os.chown(self.dir + "/data", OWNER, -1)
        os.chown(self.dir + "/mail", OWNER, OWNER)
        values = {"dir": self.dir, "port": self.port, "owner": OWNER, "sink": self.sink}
        for name, text in (("main.cf", MAIN), ("master.cf", SERVICES)):
            with open(f"{self.dir}/etc/{name}", "w") as file:
                file.write(text.format(**values))
        with open(self.dir + "/users", "w") as file:
            file.writelines(f"{u} {u.split('@')[0]}/\n" for u in self.users)
        for name, more in (
                ("passwd", f"postfix:x:{OWNER}:{OWNER}::/nonexistent:/usr/sbin/nologin\n"),
                ("group", f"postfix:x:{OWNER}:\npostdrop:x:{DROP}:\n")):
            with open(f"/etc/{name}") as original, open(f"{self.dir}/{name}", "w") as copy:
                copy.write("".join(line for line in original
                                   if not line.startswith(("postfix:", "postdrop:"))) + more)

    def start(self):
        self.configure()
        script = ("mount --make-rprivate / && mount --bind \"$0/passwd\" /etc/passwd && "
                  "mount --bind \"$0/group\" /etc/group && "
                  "exec \"$0/x/usr/lib/postfix/sbin/master\" -c \"$0/etc\" -d")
        self.process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", script, self.dir], env=self.environment(),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

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

    def count(self):
        return sum(len(os.listdir(d)) for d in glob.glob(self.dir + "/mail/*/new"))

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

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)
