"""What may be forgotten, and what must be when the disk's share is used up."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import aiosqlite

from buffer.outbox import ParcelOutbox
from buffer.schema import EVENT_KIND, number
from buffer.writer import Writer
from edge.core.language import say

CHUNK_SEGMENTS = 500

log = logging.getLogger("yulink.log")


@dataclass(frozen=True, slots=True)
class Limits:
    """How long committed data is kept, in seconds, and how large the database may be, in bytes."""

    keep_s: float
    bytes_max: float


async def enforce(writer: Writer, limits: Limits, outboxes: Sequence[ParcelOutbox], now: int) -> int:
    """Delete chunk by chunk what the limits ask for and return the number of undelivered rows that were dropped.

    Order: committed and older than `keep_s`; when too large, the oldest committed; then the oldest uncommitted but for
    events, each run of which leaves a gap.
    """
    stored_before = now - round(limits.keep_s * 1e9)
    while await writer.do(
        partial(_delete_committed, through=await confirmed(writer, outboxes), stored_before=stored_before)
    ):
        pass
    dropped = 0
    while (excess := await writer.do(_used_bytes) - limits.bytes_max) > 0:
        through = await confirmed(writer, outboxes)
        if await writer.do(partial(_delete_committed, through=through, bytes_max=excess)):
            continue
        drop = partial(_drop_uncommitted, after=through, bytes_max=excess)
        gone: list[tuple[int, int]] = await writer.do(drop)
        if not gone:
            log.error(say("the log is above its limit and holds nothing that may be dropped"))
            break
        for outbox in outboxes:
            outbox.forget(gone)
        dropped += sum(rows for _, rows in gone)
    if dropped:
        log.error(
            say(
                "the log reached its limit of {megabytes:.0f} MB: {rows} undelivered rows were dropped",
                megabytes=limits.bytes_max / 1e6,
                rows=dropped,
            )
        )
    await writer.do(partial(_tidy, through=await confirmed(writer, outboxes)))
    return dropped


async def confirmed(writer: Writer, outboxes: Sequence[ParcelOutbox]) -> int:
    """Return the last position up to which every consumer has committed everything."""
    through = writer.position
    for outbox in outboxes:
        through = min(through, await outbox.confirmed_through())
    return through


async def _used_bytes(db: aiosqlite.Connection) -> int:
    pages = await number(db, "PRAGMA page_count") - await number(db, "PRAGMA freelist_count")
    return pages * await number(db, "PRAGMA page_size")


async def _delete_committed(
    db: aiosqlite.Connection, through: int, stored_before: int = 2**62, bytes_max: float = float("inf")
) -> int:
    """Delete the oldest segments up to `through`, about `bytes_max` of them, and return how many."""
    listed = await db.execute_fetchall(
        "SELECT position, bytes FROM segment WHERE position <= ? AND stored < ? ORDER BY position LIMIT ?",
        (through, stored_before, CHUNK_SEGMENTS),
    )
    return await _delete(db, _first_bytes([(row[0], row[1]) for row in listed], bytes_max))


def _first_bytes(listed: Sequence[tuple[int, int]], bytes_max: float) -> list[int]:
    """Return the positions, of (position, bytes) in order, that together reach `bytes_max`."""
    chosen, total = [], 0
    for position, stored_bytes in listed:
        if total >= bytes_max:
            break
        chosen.append(position)
        total += stored_bytes
    return chosen


async def _delete(db: aiosqlite.Connection, positions: Sequence[int]) -> int:
    marks = [(position,) for position in positions]
    await db.executemany("DELETE FROM segment WHERE position = ?", marks)
    await db.executemany("DELETE FROM body WHERE position = ?", marks)
    return len(positions)


async def _drop_uncommitted(db: aiosqlite.Connection, after: int, bytes_max: float) -> list[tuple[int, int]]:
    """Delete the oldest undelivered segments but events, about `bytes_max` of them; return (position, rows) of each."""
    listed = await db.execute_fetchall(
        "SELECT position, rows, ts_min, ts_max, bytes FROM segment WHERE position > ? AND kind <> ?"
        " ORDER BY position LIMIT ?",
        (after, EVENT_KIND, CHUNK_SEGMENTS),
    )
    chosen = set(_first_bytes([(row[0], row[4]) for row in listed], bytes_max))
    gone = [tuple(map(int, row))[:4] for row in listed if row[0] in chosen]
    runs: list[list[int]] = []
    for position, rows, ts_min, ts_max in gone:
        if runs and runs[-1][1] + 1 == position:
            run = runs[-1]
            run[1:] = [position, run[2] + rows, min(run[3], ts_min), max(run[4], ts_max)]
        else:
            runs.append([position, position, rows, ts_min, ts_max])
    await db.executemany("INSERT INTO gap VALUES (?, ?, ?, ?, ?, 'log full')", runs)
    await _delete(db, sorted(chosen))
    return [(entry[0], entry[1]) for entry in gone]


async def _tidy(db: aiosqlite.Connection, through: int) -> None:
    """Forget parcels and gaps whose segments are gone and confirmed, and give free pages back in small steps."""
    oldest = await number(db, "SELECT min(position) FROM segment")
    if oldest:
        await db.execute("DELETE FROM parcel WHERE last < ? AND state = 2", (oldest,))
        await db.execute("DELETE FROM gap WHERE last < ? AND last <= ?", (oldest, through))
    await db.execute_fetchall("PRAGMA incremental_vacuum(2000)")
