"""A file system of our own in a file: its power can be cut, it can be filled, or turn read-only."""
import array
import fcntl
import os
import shutil
import subprocess

import pytest

from veredus import wait_for

EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2  # what is neither synced nor in the journal on disk is gone


def tool(name):
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


class LoopDisk:
    """An ext4 in an image file. Skips the test where the machine does not let us have one."""

    def __init__(self, image, size="400M", options="", mkfs=()):
        self.image, self.options, self.path = image, options, None
        if os.getuid() != 0:
            pytest.skip("needs root to mount a file system of its own")
        if not tool("mkfs.ext4"):
            pytest.skip("mkfs.ext4 is not installed")
        subprocess.run(["truncate", "-s", size, image], check=True)
        subprocess.run([tool("mkfs.ext4"), "-q", "-F", "-m", "0", *mkfs, image], check=True)

    def mount(self, path, options=None):
        os.makedirs(path, exist_ok=True)
        options = ",".join(filter(None, ["loop", self.options if options is None else options]))
        result = subprocess.run(["mount", "-t", "ext4", "-o", options, self.image, path],
                                capture_output=True, text=True, check=False)
        if result.returncode != 0:
            pytest.skip(f"may not mount an ext4 here: {result.stderr.strip()}")
        self.path = path
        shutil.rmtree(os.path.join(path, "lost+found"), ignore_errors=True)

    def remount(self, options):
        subprocess.run(["mount", "-o", f"remount,{options}", self.path], check=True)

    def cut_power(self):
        """From now on nothing more reaches the disk."""
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, array.array("I", [NO_LOG_FLUSH]))
        except OSError as error:
            pytest.skip(f"this kernel cannot cut the power of an ext4: {error}")
        finally:
            os.close(fd)

    def unmount(self):
        def gone():
            return subprocess.run(["umount", self.path], capture_output=True,
                                  check=False).returncode == 0
        def detached():
            return not subprocess.run([tool("losetup"), "-j", self.image], capture_output=True,
                                      text=True, check=False).stdout
        if self.path:
            wait_for("the file system to be free", gone, 30, interval=0.05)
            # A mount namespace that somebody has just made may keep it for a moment.
            wait_for("its loop device to be free", detached, 60, interval=0.05)
        self.path = None

    def discard(self):
        if self.path:
            subprocess.run(["umount", "-l", self.path], check=False)
        self.path = None
        if os.path.exists(self.image):
            os.unlink(self.image)

    def put_under(self, instance, directory=""):
        """Moves the directory of an instance (or one below it) onto this disk and mounts it there."""
        path = instance.path(directory).rstrip("/")
        kept = path + ".kept"
        os.rename(path, kept)
        self.mount(path)
        subprocess.run(["cp", "-a", kept + "/.", path], check=True)
        shutil.copystat(kept, path)
        owner = os.stat(kept)
        os.chown(path, owner.st_uid, owner.st_gid)
        shutil.rmtree(kept)
        subprocess.run(["sync", "-f", path], check=True)
