"""What came of each tag's readings by day, and the gaps between them; see `FORMAT.md`.

Written by the follower that counts, in the transaction that moves its position.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiosqlite

from buffer.fetch import Fetch

TABLES = """
CREATE TABLE IF NOT EXISTS quality_day (day INTEGER NOT NULL, tag INTEGER NOT NULL, expected REAL NOT NULL,
    received INTEGER NOT NULL, good INTEGER NOT NULL, timely INTEGER NOT NULL, duplicate INTEGER NOT NULL,
    unit INTEGER NOT NULL, range INTEGER NOT NULL, clock INTEGER NOT NULL, rate INTEGER NOT NULL,
    frozen INTEGER NOT NULL, every INTEGER NOT NULL, PRIMARY KEY (day, tag)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS quality_gap (begin INTEGER NOT NULL, tag INTEGER NOT NULL, whole INTEGER NOT NULL,
    end INTEGER NOT NULL, PRIMARY KEY (begin, tag, whole)) WITHOUT ROWID;
"""
"""Tables that format 7 gained: an older program does not know them and misreads nothing."""

COUNTS = ("expected", "received", "good", "timely", "duplicate", "unit", "range", "clock", "rate", "frozen")
DAYS_MAX = 400
GAPS_MAX = 50_000
_DAY_NS = 86_400 * 10**9

_DAY_BEFORE = """
WITH RECURSIVE known (day) AS (
    SELECT max(day) FROM quality_day
    UNION ALL
    SELECT (SELECT max(day) FROM quality_day WHERE day < known.day) FROM known WHERE known.day IS NOT NULL
) SELECT day FROM known WHERE day IS NOT NULL LIMIT 1 OFFSET ?
"""
"""The newest day that is too many; found by stepping from day to day, however many tags each has."""

_ADDED = ", ".join(f"{name} = {name} + excluded.{name}" for name in COUNTS)


@dataclass(frozen=True, slots=True)
class TagDay:
    """A tag's counts of one day, by `COUNTS`; `every` is the interval in ns at which readings were owed, 0 for none."""

    day: int
    tag: int
    counts: tuple[float, ...]
    every: int


def storing(
    rows: Sequence[tuple[Any, ...]], every: dict[int, int], gaps: Sequence[tuple[int, int, int, bool]]
) -> Callable[[aiosqlite.Connection], Awaitable[None]]:
    """Return what adds counts (day, tag, *COUNTS) and gaps (begin, end, tag, whole) to the tables."""

    async def step(db: aiosqlite.Connection) -> None:
        await db.executemany(
            f"INSERT INTO quality_day (day, tag, {', '.join(COUNTS)}, every) VALUES ({', '.join('?' * 13)})"
            f" ON CONFLICT DO UPDATE SET {_ADDED}, every = max(every, excluded.every)",
            [(*row, every.get(row[1], 0)) for row in rows],
        )
        await db.executemany(
            "INSERT OR REPLACE INTO quality_gap (begin, end, tag, whole) VALUES (?, ?, ?, ?)",
            [tuple(gap) for gap in gaps],
        )

    return step


async def prune(db: aiosqlite.Connection) -> None:
    """Keep the last `DAYS_MAX` days that have counts, their gaps, and of these the last `GAPS_MAX`."""
    for (oldest,) in await db.execute_fetchall(_DAY_BEFORE, (DAYS_MAX,)):
        await db.execute("DELETE FROM quality_day WHERE day <= ?", (oldest,))
        await db.execute("DELETE FROM quality_gap WHERE end <= ?", (oldest * _DAY_NS,))
    await db.execute(
        "DELETE FROM quality_gap WHERE begin < (SELECT begin FROM quality_gap ORDER BY begin DESC LIMIT 1 OFFSET ?)",
        (GAPS_MAX,),
    )


async def days(fetch: Fetch, first: int, last: int) -> list[TagDay]:
    """Return the counts of the days `first` to `last`, both included, by day and tag."""
    found = await fetch(
        f"SELECT day, tag, every, {', '.join(COUNTS)} FROM quality_day WHERE day BETWEEN ? AND ? ORDER BY day, tag",
        (first, last),
    )
    return [TagDay(int(day), int(tag), tuple(counts), int(every)) for day, tag, every, *counts in found]


async def gaps(fetch: Fetch, first: int, last: int) -> list[tuple[int, int, int, bool]]:
    """Return (begin, end, tag, whole) of the gaps between two times, ns since 1970 UTC, in order of time."""
    found = await fetch(
        "SELECT begin, end, tag, whole FROM quality_gap WHERE begin < ? AND end > ? ORDER BY begin, tag", (last, first)
    )
    return [(int(begin), int(end), int(tag), bool(whole)) for begin, end, tag, whole in found]


async def has_tables(fetch: Fetch) -> bool:
    """Tell whether a log has these tables: one that was opened last by an older version has not."""
    return any(await fetch("SELECT 1 FROM sqlite_master WHERE name = 'quality_day'", ()))
