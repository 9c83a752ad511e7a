"""A name server of our own: nsd, authoritative for everything, on a free loopback port."""
import os
import socket
import subprocess
import tempfile

from veredus import free_port, tmp, wait_for


class Dns:
    """records: zone-file lines, names absolute. One root zone, so that no question leaves."""

    def __init__(self, nsd, records):
        self.port = free_port()
        self.dir = tempfile.mkdtemp(prefix="nsd", dir=tmp())
        self.nsd = nsd
        self.process = None
        self.records = list(records)

    def start(self):
        zone = os.path.join(self.dir, "root.zone")
        with open(zone, "w") as file:
            file.write("$TTL 1\n. SOA ns.test. admin.test. 1 60 60 60 1\n. NS ns.test.\n"
                       "ns.test. A 127.0.0.1\n" + "\n".join(self.records) + "\n")
        conf = os.path.join(self.dir, "nsd.conf")
        with open(conf, "w") as file:
            file.write(f"""server:
    ip-address: 127.0.0.1@{self.port}
    username: ""
    chroot: ""
    zonesdir: "{self.dir}"
    database: ""
    pidfile: "{self.dir}/pid"
    xfrdfile: "{self.dir}/xfrd"
    xfrdir: "{self.dir}"
    zonelistfile: "{self.dir}/zones"
    cookie-secret-file: "{self.dir}/cookies"
    logfile: "{self.dir}/log"
    server-count: 1
    do-ip6: no
    hide-version: yes
remote-control:
    control-enable: no
zone:
    name: "."
    zonefile: "root.zone"
""")
        self.process = subprocess.Popen([self.nsd, "-d", "-c", conf], cwd=self.dir,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def ready():
            assert self.process.poll() is None, open(os.path.join(self.dir, "log")).read()
            return self.answers()
        wait_for("nsd", ready)
        return self

    def answers(self):
        """Asks for the SOA of the root over UDP."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(0.3)
            query = b"\x12\x34\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00" + b"\x00" + b"\x00\x06\x00\x01"
            s.sendto(query, ("127.0.0.1", self.port))
            try:
                return s.recv(512)[:2] == b"\x12\x34"
            except OSError:
                return False

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(10)
