"""The watched folder: which files are complete, and where they go. Blocking; called in a thread.

A file that is being taken lies in `taking/` until the log has it: so what a crash left there is known.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from drivers.files.names import is_looked_at

TAKING, DONE, BAD = "taking", "done", "bad"
LOOKED_AT_MAX = 10_000
"""How many files a look considers; the others come when these are gone."""

DELETED_MAX = 100
"""How many old files a look deletes."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file, its size and the time at which it was last written."""

    path: Path
    size: int
    modified_ns: int


@dataclass(slots=True)
class Folder:
    """Knows of each file since when it has stayed as it is.

    wanted  tells whether a name is one of this device's
    """

    path: Path
    settle_s: float
    wanted: Callable[[str], bool]
    _known: dict[str, tuple[int, int, float]] = field(default_factory=dict)

    def open(self) -> None:
        """Make the folders below. Raises OSError where the folder is not there, or cannot be written."""
        os.listdir(self.path)
        for name in (TAKING, DONE, BAD):
            (self.path / name).mkdir(exist_ok=True)
            if not os.access(self.path / name, os.W_OK):
                raise PermissionError(13, os.strerror(13), str(self.path / name))

    def complete(self, now_s: float) -> list[Found]:
        """Return the files that have settled, those written first before others. Raises OSError."""
        found, known = [], {}
        for each in self._files(self.path):
            before = self._known.get(each.path.name)
            same = before is not None and before[:2] == (each.size, each.modified_ns)
            since = before[2] if same and before is not None else now_s
            known[each.path.name] = each.size, each.modified_ns, since
            if now_s - since >= self.settle_s:
                found.append(each)
        self._known = known
        return sorted(found, key=lambda each: (each.modified_ns, each.path.name))

    def waiting(self) -> int:
        """Return how many files were there at the last look."""
        return len(self._known)

    def being_taken(self) -> list[Found]:
        """Return what lies in `taking/`. Raises OSError."""
        return sorted(self._files(self.path / TAKING), key=lambda each: (each.modified_ns, each.path.name))

    def _files(self, folder: Path) -> list[Found]:
        files = []
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_looked_at(entry.name) and self.wanted(entry.name) and entry.is_file(follow_symlinks=False):
                    try:
                        about = entry.stat()
                    except FileNotFoundError:
                        continue
                    files.append(Found(Path(entry.path), about.st_size, about.st_mtime_ns))
                    if len(files) >= LOOKED_AT_MAX:
                        break
        return files

    def begin(self, found: Found) -> Found | None:
        """Move a file into `taking/`; None if it is gone. Raises OSError."""
        try:
            return Found(self._move(found.path, TAKING), found.size, found.modified_ns)
        except FileNotFoundError:
            return None

    def finish(self, path: Path, reason: str) -> Path:
        """Move a file to `done/`, or to `bad/` with the reason beside it. Raises OSError."""
        target = self._move(path, BAD if reason else DONE)
        if reason:
            target.with_name(f"{target.name}.reason.txt").write_text(reason + "\n", "utf-8")
        return target

    def _move(self, path: Path, folder: str) -> Path:
        """Move a file under its name, or with a number where there is one of that name."""
        number, target = 1, self.path / folder / path.name
        while target.exists():
            target = self.path / folder / f"{path.stem}~{number}{path.suffix}"
            number += 1
        os.rename(path, target)
        return target

    def tidy(self, older_than_ns: int) -> None:
        """Delete files of `done/` that were last written before a time, some at a look. Raises OSError."""
        old = [each for each in self._files(self.path / DONE) if each.modified_ns < older_than_ns]
        for each in old[:DELETED_MAX]:
            each.path.unlink(missing_ok=True)
