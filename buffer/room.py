"""How much the log may take of the disk, and how much it takes."""

import os
from dataclasses import dataclass
from pathlib import Path

import aiosqlite

from buffer.schema import number

HARD_STOP = 1.1
"""Protected classes may take this much of the byte limit, and leave only as much less of the free-disk guard."""
PAYLOAD_FACTOR = 1.25
SEGMENT_BYTES = 200
TRANSACTION_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """How long committed data is kept, in seconds, how large the database may be and what stays free, in bytes."""

    keep_s: float
    bytes_max: float
    free_min: float = 0.0


@dataclass(frozen=True, slots=True)
class Room:
    """A measurement, in bytes: `used` by pages with content, `file` on disk, `free` on the file system.

    Aggregates are in neither of the first two.
    """

    used: int
    file: int
    free: int

    def allowed(self, limits: Limits, *, protected: bool) -> float:
        """Return how many bytes pages with content may take.

        The file may always hold as much as it does; it grows only into what is free above the guard.
        """
        quota = limits.bytes_max * (HARD_STOP if protected else 1.0)
        guard = limits.free_min * (0.5 if protected else 1.0)
        return min(quota, self.file + max(self.free - guard, 0))


def free_bytes(path: Path) -> int:
    """Return what an ordinary user may still write on the file system of `path`."""
    found = os.statvfs(path.parent)
    return found.f_bavail * found.f_frsize


def main_file_bytes(path: Path) -> int:
    """Return the size of the database without its write-ahead log, 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def file_bytes(path: Path) -> int:
    """Return the size of the database with its write-ahead log."""
    total = 0
    for file in (path, path.with_name(path.name + "-wal")):
        try:
            total += file.stat().st_size
        except FileNotFoundError:
            continue
    return total


async def used_bytes(db: aiosqlite.Connection) -> int:
    """Return what the pages with content take, as this connection sees it."""
    pages = await number(db, "PRAGMA page_count") - await number(db, "PRAGMA freelist_count")
    return pages * await number(db, "PRAGMA page_size")


async def aggregate_bytes(db: aiosqlite.Connection) -> int:
    """Return what aggregates take: the limit of the log is not for them, so that neither takes the other's place."""
    return await number(db, "SELECT sum(bytes) FROM aggregate_level")


async def measure(db: aiosqlite.Connection, path: Path) -> Room:
    """Return the room as it is now."""
    beside = await aggregate_bytes(db)
    return Room(await used_bytes(db) - beside, main_file_bytes(path) - beside, free_bytes(path))


def needed(payload_bytes: int, segments: int) -> int:
    """Return about how many bytes of the file segments with so many bytes of payload take."""
    return round(payload_bytes * PAYLOAD_FACTOR) + segments * SEGMENT_BYTES + TRANSACTION_BYTES
