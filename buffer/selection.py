"""Which of the log's rows a consumer wants: patterns of `device.tag`, and from which position on they hold."""

import json
from bisect import bisect_right
from collections.abc import Sequence
from fnmatch import fnmatchcase

import aiosqlite
import numpy as np
import numpy.typing as npt

from buffer.records import rows_of
from edge.core.batch import Batch, Event, Record
from edge.core.catalogue import Catalogue, Tag

GATEWAY = "gateway"  # the source of events that concern no single device: everyone gets them


class Patterns:
    """What one list of patterns picks; none pick everything."""

    def __init__(self, patterns: Sequence[str], catalogue: Catalogue) -> None:
        self._patterns = tuple(patterns)
        self._devices = {pattern.partition(".")[0] for pattern in patterns}
        self._catalogue = catalogue
        self._through = 0
        self._picked = np.zeros(0, np.int32)

    def picks(self, tag: Tag) -> bool:
        """Tell whether a tag is wanted."""
        return not self._patterns or any(fnmatchcase(tag.path, pattern) for pattern in self._patterns)

    def of(self, record: Record) -> Record | None:
        """Return what is wanted of a record; None for nothing."""
        if not self._patterns:
            return record
        match record:
            case Event():
                wanted = record.source == GATEWAY or any(fnmatchcase(record.source, one) for one in self._devices)
                return record if wanted else None
            case Batch():
                mask = np.isin(record.tag, self._tags())
                return record if mask.all() else record.take(mask) if mask.any() else None
            case _:
                return record if record.tag in self._tags() else None

    def _tags(self) -> npt.NDArray[np.int32]:
        """Return the ids of the wanted tags, int32[k]."""
        if self._catalogue.last_id != self._through:
            new = [tag.id for tag in self._catalogue.since(self._through) if self.picks(tag)]
            self._picked = np.concatenate([self._picked, np.array(new, np.int32)])
            self._through = self._catalogue.last_id
        return self._picked


class Selection:
    """A consumer's patterns over the positions of the log. What was read under old ones stays as it was promised."""

    def __init__(self, steps: Sequence[tuple[int, Sequence[str]]], catalogue: Catalogue) -> None:
        self._first = [first for first, _ in steps]
        self._patterns = [Patterns(patterns, catalogue) for _, patterns in steps]
        self.is_whole = not any(patterns for _, patterns in steps)

    @property
    def firsts(self) -> Sequence[int]:
        """The positions from which on other patterns hold, in order."""
        return self._first

    def at(self, position: int) -> Patterns:
        """Return the patterns that hold at a position."""
        return self._patterns[bisect_right(self._first, position) - 1]

    def picks(self, tag: Tag) -> bool:
        """Tell whether a tag is wanted anywhere."""
        return any(patterns.picks(tag) for patterns in self._patterns)

    def rows(self, position: int, record: Record) -> int:
        """Return how many rows of a record at a position are wanted."""
        wanted = self.at(position).of(record)
        return 0 if wanted is None else rows_of(wanted)


async def load_selection(
    db: aiosqlite.Connection, consumer: str, only: Sequence[str], position: int, catalogue: Catalogue
) -> Selection:
    """Return a consumer's selection, `only` from now on; for a new consumer from the log's beginning."""
    listed = await db.execute_fetchall(
        "SELECT first, patterns FROM selection WHERE consumer = ? ORDER BY first", (consumer,)
    )
    steps = [(int(row[0]), tuple(json.loads(row[1]))) for row in listed]
    if not steps or steps[-1][1] != tuple(only):
        is_new = not await db.execute_fetchall("SELECT 1 FROM consumer WHERE name = ? AND cut + event_cut", (consumer,))
        if not steps and not is_new:
            steps.append((0, ()))
        steps.append((0 if is_new else position + 1, tuple(only)))
        if is_new:
            steps = steps[-1:]
        await db.execute("DELETE FROM selection WHERE consumer = ?", (consumer,))
        await db.executemany(
            "INSERT OR REPLACE INTO selection VALUES (?, ?, ?)",
            [(consumer, first, json.dumps(patterns)) for first, patterns in steps],
        )
    return Selection(steps, catalogue)
