"""Figures of intervals, kept for months in a table of their own, whatever becomes of the readings; see `FORMAT.md`.

A page holds the figures of all tags for one interval of a level, so a minute of a plant is one row in the database, and
a correction rewrites one row.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiosqlite
import numpy as np

from buffer.fetch import Fetch
from buffer.vault import Vault
from edge.core.batch import Batch, Lane
from edge.core.catalogue import Tag
from edge.core.codec import decode, encode
from edge.core.errors import CorruptSegment
from edge.core.interval import Level

TABLES = """
CREATE TABLE aggregate (page INTEGER PRIMARY KEY, key INTEGER NOT NULL, data BLOB NOT NULL);
CREATE INDEX aggregate_key ON aggregate (key) WHERE key > 0;
CREATE TABLE aggregate_level (level INTEGER PRIMARY KEY, pages INTEGER NOT NULL, bytes INTEGER NOT NULL);
"""

RECOUNT = (
    "INSERT OR REPLACE INTO aggregate_level SELECT page >> 40, count(*), sum(length(data)) FROM aggregate GROUP BY 1"
)
"""Makes the sums of what is in `aggregate`."""

NUMBERS = {level: number for number, level in enumerate(Level, 1)}
"""Of a level on file."""

LEVEL_SHIFT = 40
KEEP_S = 200 * 86_400.0
"""How long figures of minutes to hours are kept where nobody says otherwise."""

_SECONDS = {Level.MINUTE: 60, Level.QUARTER: 900, Level.HOUR: 3600}
_TEN_YEARS = {Level.SHIFT: 3653 * 4, Level.DAY: 3653, Level.MONTH: 120}
_FORGET_MAX = 5_000
_READ_PAGES = 1_000
_NS = 10**9


def pages_max(level: Level, keep_s: float) -> int:
    """Return how many intervals of a level are kept that is to keep so many seconds."""
    seconds = _SECONDS.get(level)
    return _TEN_YEARS[level] if seconds is None else -int(-keep_s // seconds)


def page_of(level: Level, ts: int) -> int:
    """Return the number of the page for the interval of a level that begins at `ts`, which is a whole second."""
    return (NUMBERS[level] << LEVEL_SHIFT) + ts // _NS


@dataclass(slots=True)
class AggregateCounters:
    """What became of aggregates since the log was opened, in pages; `corrupt` ones could not be read."""

    forgotten: int = 0
    corrupt: int = 0


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure. `ts` is when its interval begins, ns since 1970 UTC; `quality` an OPC UA StatusCode."""

    tag: Tag
    ts: int
    value: float
    quality: int
    revision: int


class Aggregates:
    """The writing side. Its methods that take `db` are steps of the writer's transactions."""

    def __init__(self, vault: Vault, keep_s: float) -> None:
        self._vault = vault
        self.keep_s = keep_s
        self.counters = AggregateCounters()

    async def put(self, db: aiosqlite.Connection, figures: Sequence[tuple[Level, Batch]]) -> None:
        """Store figures; one that is there already is replaced, unless it has a higher revision."""
        for level, batch in figures:
            pages = added = 0
            for ts in sorted(set(batch.ts.tolist())):
                page, new = page_of(level, ts), batch.take(batch.ts == ts)
                old = await self._page(db, page)
                merged = encode(merge(new if old is None else Batch.concat([old[0], new])))
                data = self._vault.seal(page, merged)
                await db.execute(
                    "INSERT OR REPLACE INTO aggregate VALUES (?, ?, ?)", (page, self._vault.sealing_key, data)
                )
                pages += old is None
                added += len(data) - (old[1] if old is not None else 0)
            await db.execute(
                "INSERT INTO aggregate_level VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET"
                " pages = pages + excluded.pages, bytes = bytes + excluded.bytes",
                (NUMBERS[level], pages, added),
            )

    async def _page(self, db: aiosqlite.Connection, page: int) -> tuple[Batch, int] | None:
        """Return what a page has and how many bytes it takes; None where it is new."""
        for (data,) in await db.execute_fetchall("SELECT data FROM aggregate WHERE page = ?", (page,)):
            try:
                return opened(self._vault, page, data), len(data)
            except CorruptSegment:
                self.counters.corrupt += 1
                return Batch.empty(Lane.FLOAT), len(data)
        return None

    async def prune(self, db: aiosqlite.Connection) -> None:
        """Keep as many intervals of each level as its time has: a clock that jumped ahead takes none away."""
        sums = await db.execute_fetchall("SELECT level, pages FROM aggregate_level")
        for number, pages in sums:
            level = list(Level)[number - 1]
            over = min(pages - pages_max(level, self.keep_s), _FORGET_MAX)
            if over <= 0:
                continue
            low = number << LEVEL_SHIFT
            oldest = "SELECT page FROM aggregate WHERE page BETWEEN ? AND ? ORDER BY page LIMIT ?"
            bounds = low, low + (1 << LEVEL_SHIFT) - 1, over
            gone = await db.execute_fetchall(
                f"SELECT count(*), sum(length(data)) FROM aggregate WHERE page IN ({oldest})", bounds
            )
            for count, size in gone:
                await db.execute(f"DELETE FROM aggregate WHERE page IN ({oldest})", bounds)
                await db.execute(
                    "UPDATE aggregate_level SET pages = pages - ?, bytes = bytes - ? WHERE level = ?",
                    (count, size or 0, number),
                )
                self.counters.forgotten += count


def merge(figures: Batch) -> Batch:
    """Return one figure a tag, by tag: the one with the highest revision, of equal ones the last."""
    revision = figures.revisions()
    order = np.lexsort((revision, figures.tag))  # stable, so of equal revisions the later one stands behind
    tag = figures.tag[order]
    last = np.append(tag[1:] != tag[:-1], True) if len(tag) else np.empty(0, np.bool_)
    chosen = figures.take(order[last])
    return Batch.of(Lane.FLOAT, chosen.tag, chosen.ts, chosen.value, chosen.quality, chosen.revision)


def opened(vault: Vault, page: int, data: bytes) -> Batch:
    """Return the figures of a page. Raises CorruptSegment."""
    record = decode(vault.open(page, data))
    if not isinstance(record, Batch) or record.lane is not Lane.FLOAT:
        raise CorruptSegment("a page of aggregates holds something else")
    return record


def by_level(batches: Iterable[Batch], levels: Mapping[int, Level]) -> list[tuple[Level, Batch]]:
    """Return which rows are figures to be kept, given the level of each tag's intervals."""
    ids = np.array(sorted(levels), np.int32)
    numbers = np.array([NUMBERS[levels[tag]] for tag in ids.tolist()], np.int8)
    found = []
    for batch in batches if len(ids) else ():
        place = np.minimum(np.searchsorted(ids, batch.tag), len(ids) - 1)
        number = np.where(ids[place] == batch.tag, numbers[place], 0)
        found += [(level, batch.take(number == each)) for level, each in NUMBERS.items() if (number == each).any()]
    return found


async def figures(
    fetch: Fetch, vault: Vault, tags: Mapping[int, Tag], level: Level, first: int, last: int
) -> AsyncIterator[Figure]:
    """Yield the figures of a level whose intervals begin from `first` up to but not including `last`, in order of time.

    A page that cannot be opened is left out.
    """
    after, end = page_of(level, -(-first // _NS) * _NS) - 1, page_of(level, -(-last // _NS) * _NS)
    while True:
        rows: list[Any] = list(
            await fetch(
                "SELECT page, data FROM aggregate WHERE page > ? AND page < ? ORDER BY page LIMIT ?",
                (after, end, _READ_PAGES),
            )
        )
        for page, data in rows:
            try:
                batch = opened(vault, page, data)
            except CorruptSegment:
                continue
            columns = batch.tag, batch.ts, batch.value, batch.quality, batch.revisions()
            for tag, ts, value, quality, revision in zip(*(column.tolist() for column in columns), strict=True):
                if tag in tags:
                    yield Figure(tags[tag], ts, value, quality, revision)
        if len(rows) < _READ_PAGES:
            return
        after = rows[-1][0]
