"""A real file system that fails: small, made in a file, mounted by root."""

import os
import shutil
import subprocess
from pathlib import Path


class SmallDisk:
    """An ext4 file system in a file, mounted where the agent keeps its data. Only root can."""

    def __init__(self, image: Path, folder: Path) -> None:
        self._image, self._folder = image, folder

    @staticmethod
    def is_possible() -> bool:
        """Tell whether this machine can."""
        return os.geteuid() == 0 and shutil.which("mkfs.ext4") is not None and Path("/dev/loop-control").exists()

    def make(self, megabytes: int) -> None:
        """Make and mount it."""
        with self._image.open("wb") as file:
            file.truncate(megabytes << 20)
        self._run("mkfs.ext4", "-q", "-F", "-m", "0", self._image)
        self._folder.mkdir()
        self.mount()

    def mount(self) -> None:
        """Mount it so that it goes read-only by itself when the disk fails, as machines are set up."""
        self._run("mount", "-o", "loop,errors=remount-ro", self._image, self._folder)

    def fail(self) -> None:
        """Make ext4 behave as after an error of the disk: read-only at once, whoever has files open."""
        self._run("mount", "-o", "remount,abort", self._folder)

    def unmount(self) -> None:
        """Take it away."""
        self._run("umount", self._folder)

    def repair(self) -> None:
        """Do what an operator does: unmount, check, mount."""
        self.unmount()
        subprocess.run(["fsck.ext4", "-fy", self._image], check=False, capture_output=True)
        self.mount()

    def refuse_writes(self, *, refuse: bool) -> None:
        """Let the log's files refuse every write, those of their holders too, while they stay where they are.

        Not the index of the write-ahead log (-shm): it is memory, and a disk that fails under that ends any process.
        """
        files = (self._folder / f"log.sqlite3{end}" for end in ("", "-wal"))
        self._run("chattr", "+i" if refuse else "-i", *files)

    @staticmethod
    def _run(*command: object) -> None:
        subprocess.run([*map(str, command)], check=True)
