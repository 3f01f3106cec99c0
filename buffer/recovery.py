"""After a salvage: what consumers had is put in order again, and what is lost becomes gaps."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import aiosqlite
import numpy as np

from buffer import gaps
from buffer.outbox import END, ParcelOutbox
from buffer.ranges import Ranges, between, borders_of, joined, same_side
from buffer.salvage import Lost
from buffer.schema import EVENT_KIND, number
from buffer.vault import Vault
from buffer.writer import tag_row
from edge.core.catalogue import Tag
from edge.core.data_class import DataClass
from edge.core.delivery import Priority

DAMAGED = "log damaged"
NEAR = 100


async def check(db: aiosqlite.Connection) -> bool:
    """Tell whether every table is sound but the two large ones; what is wrong there is met when it is read."""
    names = await db.execute_fetchall(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT IN ('body', 'aggregate')"
    )
    for (name,) in names:
        # Of tags the copy in the index is compared as well: a name that changed by a bit is damage too.
        how = "integrity_check" if name == "tag" else "quick_check"
        if [row[0] for row in await db.execute_fetchall(f"PRAGMA {how}({name})")] != ["ok"]:
            return False
    return True


async def restate(
    db: aiosqlite.Connection, tags: Sequence[Tag], vault: Vault, outboxes: Sequence[ParcelOutbox]
) -> None:
    """Write what memory knows over what was brought from the damaged file."""
    await db.executemany("INSERT OR IGNORE INTO tag VALUES (?, ?, ?, ?, ?)", [tag_row(tag, vault) for tag in tags])
    for outbox in outboxes:
        await outbox.restate(db)


async def reclaim(db: aiosqlite.Connection, consumers: Iterable[str]) -> None:
    """Make what no parcel, backlog or cut of a consumer covers any more its backlog, as if it had never been sent.

    Used when rows of those tables are lost. What the brain has already may come again under another identity.
    """
    for name in consumers:
        parcels = await db.execute_fetchall("SELECT first, last, priority FROM parcel WHERE consumer = ?", (name,))
        backlog = [
            (row[0], row[1]) for row in await _all(db, "SELECT first, last FROM backlog WHERE consumer = ?", name)
        ]
        data = [(row[0], row[1]) for row in parcels if row[2] != Priority.EVENT]
        events = [(row[0], row[1]) for row in parcels if row[2] not in (Priority.LIVE, Priority.BACKLOG)]
        cuts = await _all(db, "SELECT cut, event_cut FROM consumer WHERE name = ?", name)
        cut, event_cut = cuts[0] if cuts else (_last(data + backlog), _last(events))
        await db.execute("INSERT OR REPLACE INTO consumer VALUES (?, ?, ?, 1)", (name, cut, event_cut))
        for first, last in between([*data, *backlog, (cut + 1, END)]):
            left = f"SELECT count(*) FROM segment WHERE position BETWEEN ? AND ? AND kind <> {EVENT_KIND}"
            if await number(db, left, (first, last)):
                await db.execute("INSERT OR REPLACE INTO backlog VALUES (?, ?, ?)", (name, first, last))
        for first, last in between([*events, (event_cut + 1, END)]):
            left = f"SELECT min(position) FROM segment WHERE position BETWEEN ? AND ? AND kind = {EVENT_KIND}"
            if event := await number(db, left, (first, last)):
                await db.execute("UPDATE consumer SET event_cut = ? WHERE name = ?", (event - 1, name))
                break


async def _all(db: aiosqlite.Connection, query: str, name: str) -> list[Any]:
    return list(await db.execute_fetchall(query, (name,)))


def _last(ranges: Ranges) -> int:
    return max((last for _, last in ranges), default=0)


async def record_losses(db: aiosqlite.Connection, lost: Sequence[Lost], outboxes: Sequence[ParcelOutbox]) -> int:
    """Record what some consumer still waits for as gaps, and return how many rows that is, as far as it is known."""
    rows = 0
    for event in (False, True):
        waited_for = [one for outbox in outboxes for one in outbox.open_ranges(event=event)]
        borders = borders_of(outboxes, event=event)
        mine = [each for each in lost if (each.data_class == DataClass.EVENT) is event]
        for run in _runs(_within(mine, joined(waited_for)), borders):
            known = [each for each in run if each.ts_max]
            if known:
                ts_min, ts_max = min(each.ts_min for each in known), max(each.ts_max for each in known)
            else:
                near = "FROM segment WHERE position BETWEEN ? AND ?"
                ts_min = await number(db, f"SELECT max(ts_max) {near}", (run[0].first - NEAR, run[0].first))
                ts_max = await number(db, f"SELECT min(ts_min) {near}", (run[-1].last, run[-1].last + NEAR)) or ts_min
                ts_min = ts_min or ts_max
            count = sum(each.rows for each in run)
            none = np.empty(0, np.int32)
            loss = gaps.Loss(run[0].first, run[-1].last, count, ts_min, ts_max, DAMAGED, run[0].data_class, none)
            await gaps.record(db, loss, borders)
            rows += count
    return rows


def _within(lost: Sequence[Lost], ranges: Ranges) -> Iterator[Lost]:
    """Yield what of the lost lies in the ranges; a loss of unknown content is cut to fit."""
    for each in sorted(lost, key=lambda each: each.first):
        for first, last in ranges:
            if each.first <= last and first <= each.last:
                yield Lost(
                    *(max(first, each.first), min(last, each.last)),
                    *(each.rows, each.ts_min, each.ts_max, each.data_class),
                )


def _runs(lost: Iterable[Lost], borders: Sequence[int]) -> Iterator[list[Lost]]:
    run: list[Lost] = []
    for each in lost:
        if run and not (run[-1].data_class == each.data_class and same_side(borders, run[0].first, each.last)):
            yield run
            run = []
        run.append(each)
    if run:
        yield run
