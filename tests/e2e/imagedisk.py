"""An ext4 of our own, with a journal, in an image file that is mounted as a disk."""
import os
import shutil
import subprocess

from veredus import wait_for


class Unavailable(Exception):
    """This machine does not let us have one; the text says why."""


def tool(name):
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


class ImageDisk:
    def __init__(self, image, size, options="", mkfs=()):
        """size as truncate(1) has it, or None: the image is there already, of the right size."""
        self.image, self.options, self.path = image, options, None
        if os.getuid() != 0:
            self.unavailable("needs root to mount a file system of its own")
        if not tool("mkfs.ext4"):
            self.unavailable("mkfs.ext4 is not installed")
        if size:
            subprocess.run(["truncate", "-s", size, image], check=True)
        subprocess.run([tool("mkfs.ext4"), "-q", "-F", "-m", "0", *mkfs, image], check=True)

    def unavailable(self, why):
        raise Unavailable(why)

    def mount(self, path, options=None):
        os.makedirs(path, exist_ok=True)
        options = ",".join(filter(None, ["loop", self.options if options is None else options]))
        result = subprocess.run(["mount", "-t", "ext4", "-o", options, self.image, path],
                                capture_output=True, text=True, check=False)
        if result.returncode != 0:
            self.unavailable(f"may not mount an ext4 here: {result.stderr.strip()}")
        self.path = path
        shutil.rmtree(os.path.join(path, "lost+found"), ignore_errors=True)

    def remount(self, options):
        subprocess.run(["mount", "-o", f"remount,{options}", self.path], check=True)

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
