"""A file system of our own in a file: its power can be cut, it can be filled, or turn read-only."""
import array
import fcntl
import os
import shutil
import subprocess

import pytest

from imagedisk import ImageDisk

EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2  # what is neither synced nor in the journal on disk is gone


class LoopDisk(ImageDisk):
    """Skips the test where the machine does not let us have one."""

    def __init__(self, image, size="400M", options="", mkfs=()):
        super().__init__(image, size, options, mkfs)

    def unavailable(self, why):
        pytest.skip(why)

    def cut_power(self):
        """From now on nothing more reaches the disk."""
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, array.array("I", [NO_LOG_FLUSH]))
        except OSError as error:
            pytest.skip(f"this kernel cannot cut the power of an ext4: {error}")
        finally:
            os.close(fd)

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
