"""A file or a folder that one process holds for itself, released by the kernel when it dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class InUse(OSError):
    """Another process holds the file; `holder` is its number, "?" when unknown."""

    def __init__(self, holder: str) -> None:
        super().__init__(f"in use by process {holder}")
        self.holder = holder


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold `path`.lock for this process while the block runs.

    Raises:
        InUse: another process has it.
        OSError: the file cannot be made.
    """
    file = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InUse(os.pread(file, 20, 0).decode("ascii", "replace").strip() or "?") from error
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(file)


@contextmanager
def hold_folder(folder: Path, like: Path) -> Iterator[None]:
    """Make a folder and hold it while the block runs, after waiting for whoever holds it: they do so for moments.

    What root makes there belongs to the owner of `like`: a command must not lock out the agent's own user.

    Raises:
        OSError: it cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
        if os.geteuid() == 0:
            owner = like.stat()
            for place in (*(each for each in folder.parents if like in each.parents), folder, *folder.iterdir()):
                os.chown(place, owner.st_uid, owner.st_gid)
    finally:
        os.close(file)
