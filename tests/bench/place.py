"""Where a run keeps its things: a directory of its own, on the disk that is measured or on a file
system made for it in an image file. What a run makes stays there until its end, because on an ext4
without a journal the kernel looks at all that was deleted in the last minutes whenever a file is
created: removing one system's mail would be paid for by the next one's. At the end, and when it is
interrupted, all goes; what a run that was killed has left is removed by the next."""
import contextlib
import ctypes
import fcntl
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import veredus
from imagedisk import ImageDisk, Unavailable

PREFIX = "veredus-bench-"
JOURNALS = {"ext3": True, "xfs": True, "jfs": True, "btrfs": True, "ext2": False}
NO_JOURNAL = """  Here the kernel makes creating a file dear for minutes after others were deleted (7 or 250 us, by
  what was deleted): figures that create files are not those of a Debian machine, whose ext4 has a
  journal, and they are less steady. --disk-image auto measures on such a file system (as root)."""


def add_arguments(parser, size):
    """size: of an image that is large enough."""
    parser.add_argument("--dir", default="/var/tmp", help="where all of them keep spool and mail")
    parser.add_argument("--disk-image", metavar="SIZE", help="keep it on an ext4 with a journal, made "
                        f"in an image file below --dir (as root); {size} is enough; auto: so large, "
                        "if the disk has no journal and this can be done")
    parser.set_defaults(image_size=size)


# --- what it is -----------------------------------------------------------------------------------
def mounts():
    """(major:minor, mount point, type) of all, in the order they were mounted."""
    with open("/proc/self/mountinfo") as file:
        for line in file:
            fields, rest = (part.split() for part in line.split(" - ", 1))
            yield fields[2], re.sub(r"\\(\d{3})", lambda m: chr(int(m[1], 8)), fields[4]), rest[0]


def journalled(directory):
    """(type of the file system, whether it has a journal or None if that cannot be said)."""
    directory = os.path.realpath(directory) + "/"
    device, _, kind = max((m for m in mounts() if directory.startswith(m[1].rstrip("/") + "/")),
                          key=lambda m: len(m[1]))
    if kind in JOURNALS:
        return kind, JOURNALS[kind]
    with contextlib.suppress(OSError):
        name = os.path.basename(os.readlink(f"/sys/dev/block/{device}"))
        with open(f"/sys/fs/ext4/{name}/journal_task") as file:
            return kind, file.read().strip().isdigit()
    return kind, None


def say_where(options, directory):
    kind, journal = journalled(directory)
    word = {True: "with a journal", False: "WITHOUT A JOURNAL", None: "(journal: unknown)"}[journal]
    where = f"in an image of {options.disk_image} in {options.dir}" if options.disk_image else options.dir
    print(f"on {kind} {word}, {where}; {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    if journal is False:
        print(NO_JOURNAL)
    if kind in ("tmpfs", "ramfs"):
        print("  This is memory, not a disk: a sync costs nothing. --dir names a place on a disk.")
    sys.stdout.flush()


# --- left-overs of runs that were killed ----------------------------------------------------------
def below(directory):
    """Processes whose program lies there, or whose command line names it."""
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                words = file.read() + os.fsencode(os.readlink(f"/proc/{entry}/exe"))
            if os.fsencode(directory + "/") in words and int(entry) != os.getpid():
                yield int(entry)


def end_processes(directory):
    for sign in (signal.SIGTERM, signal.SIGKILL):
        for _ in range(20):
            found = list(below(directory))
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sign)
            if not found:
                return
            time.sleep(0.1)


def remove(directory):
    end_processes(directory)
    for _, point, _ in reversed(list(mounts())):
        if (point + "/").startswith(directory + "/"):
            subprocess.run(["umount", "-l", point], check=False)
    shutil.rmtree(directory, ignore_errors=True)


def remove_left_overs(where):
    """A run that is alive has locked a file in its directory; one that begins has none yet."""
    for old in glob.glob(f"{where}/{PREFIX}*"):
        with contextlib.suppress(OSError), open(f"{old}/lock", "r+") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            print(f"removing what a run that was killed has left: {old}", flush=True)
            remove(old)


# --- the place ------------------------------------------------------------------------------------
def size_in_bytes(text):
    match = re.fullmatch(r"(\d+)([KMGT]?)", text)
    if not match:
        sys.exit(f"--disk-image: {text} is not a size like 4G")
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[match[2]]


def choose_disk(options):
    """What `auto` is here, and what is impossible said before anything is made."""
    if options.disk_image == "auto":
        able = (os.getuid() == 0 and journalled(options.dir)[1] is False and
                shutil.disk_usage(options.dir).free > 2 * size_in_bytes(options.image_size))
        options.disk_image = options.image_size if able else None
    if options.disk_image and os.getuid() != 0:
        sys.exit("--disk-image: only root may mount a file system")


def make_disk(directory, size):
    """An image written in full, as the blocks of a real disk are there already when they are used."""
    size, image = size_in_bytes(size), f"{directory}/image"
    if size > shutil.disk_usage(directory).free:
        sys.exit(f"--disk-image: {directory} has not so much room")
    zeros = bytes(1 << 20)
    with open(image, "wb") as file:
        for at in range(0, size, len(zeros)):
            file.write(zeros[:size - at])
        os.fsync(file.fileno())
    disk = ImageDisk(image, None, mkfs=(
        "-O", "has_journal", "-i", "8192", "-E", "lazy_itable_init=0,lazy_journal_init=0"))
    disk.mount(f"{directory}/disk")


def die_with_parent():
    """For preexec_fn: of what would go on alone when a run is killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


@contextlib.contextmanager
def place(options):
    """The directory of a run, for the time of the block; our test instances are made in it too."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit("ended by a signal"))
    options.dir = os.path.realpath(options.dir)
    if not os.path.isdir(options.dir):
        sys.exit(f"--dir {options.dir}: not a directory")
    choose_disk(options)
    remove_left_overs(options.dir)
    outer = tempfile.mkdtemp(prefix=PREFIX, dir=options.dir)
    with open(f"{outer}/lock", "w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        try:
            os.chmod(outer, 0o755)
            os.mkdir(f"{outer}/disk")
            if options.disk_image:
                make_disk(outer, options.disk_image)
            os.chmod(f"{outer}/disk", 0o755)
            veredus._tmp = f"{outer}/disk"  # pylint: disable=protected-access
            say_where(options, f"{outer}/disk")
            yield f"{outer}/disk"
        except Unavailable as why:
            sys.exit(f"--disk-image: {why}")
        except KeyboardInterrupt:
            sys.exit("interrupted")
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            remove(outer)


def end(instance):
    """Ends an instance; its files stay until the end of the run."""
    with contextlib.suppress(Exception):
        instance.stop()
    with contextlib.suppress(Exception):
        instance.kill_everything()
    if instance in veredus.Instance.live:
        veredus.Instance.live.remove(instance)
