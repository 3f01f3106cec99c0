"""Gaps on file: what a limit or a damage has taken, with how much of each tag."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import aiosqlite
import numpy as np
import numpy.typing as npt

from edge.core.data_class import DataClass
from edge.core.delivery import Gap

MERGE_NS = 3600 * 10**9
UNKNOWN_CLASS = 0


@dataclass(frozen=True, slots=True)
class Loss:
    """Rows taken from the positions `first` to `last`. `tags` is int32[n], a tag id a row; fewer where unknown."""

    first: int
    last: int
    rows: int
    ts_min: int
    ts_max: int
    reason: str
    data_class: int
    tags: npt.NDArray[np.int32]


async def record(db: aiosqlite.Connection, loss: Loss, borders: Sequence[int]) -> None:
    """Record a loss, joined to the last one of its kind within the hour where no consumer has a border between them.

    `borders` are the positions, in order, at which something of a consumer's begins or ends.
    """
    tags = _count(loss.tags)
    async with db.execute(
        "SELECT id, first, last, rows, ts_min, ts_max, tags FROM gap WHERE class = ? AND reason = ?"
        " ORDER BY id DESC LIMIT 1",
        (loss.data_class, loss.reason),
    ) as cursor:
        row = await cursor.fetchone()
    if row is not None and bisect_right(borders, row[2]) == bisect_right(borders, loss.last):
        key, first, last, rows, ts_min, ts_max, packed = row
        ts_min, ts_max = min(ts_min, loss.ts_min), max(ts_max, loss.ts_max)
        if ts_max - ts_min <= MERGE_NS:
            await db.execute(
                "UPDATE gap SET first = ?, last = ?, rows = ?, ts_min = ?, ts_max = ?, tags = ? WHERE id = ?",
                (
                    *(min(first, loss.first), max(last, loss.last), rows + loss.rows, ts_min, ts_max),
                    *(_pack(_add(_unpack(packed), tags)), key),
                ),
            )
            return
    await db.execute(
        "INSERT INTO gap (first, last, rows, ts_min, ts_max, reason, class, tags) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(loss.first, loss.last, loss.rows, loss.ts_min, loss.ts_max, loss.reason, loss.data_class),
            _pack(tags),
        ),
    )


def read_gap(rows: int, ts_min: int, ts_max: int, reason: str, data_class: int, tags: bytes) -> Gap:
    """Return a gap as it is delivered, from its columns."""
    word = DataClass(data_class).word if data_class in DataClass.__members__.values() else ""
    return Gap(rows, ts_min, ts_max, reason, word, tuple((int(tag), int(count)) for tag, count in _unpack(tags).T))


def _count(tags: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Return tag ids and how often each stands there, int64[2, n]."""
    return np.array(np.unique(tags, return_counts=True), np.int64)


def _add(one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    both = np.concatenate([one, other], axis=1)
    tags, place = np.unique(both[0], return_inverse=True)
    counts = np.zeros(len(tags), np.int64)
    np.add.at(counts, place, both[1])
    return np.array([tags, counts])


def _pack(counted: npt.NDArray[np.int64]) -> bytes:
    return counted.astype("<i8").tobytes()


def _unpack(packed: bytes) -> npt.NDArray[np.int64]:
    return np.frombuffer(packed, "<i8").reshape(2, -1)
