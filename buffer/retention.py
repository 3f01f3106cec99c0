"""What may be forgotten, and what must be when the disk's share is used up; the order stands in `FORMAT.md`.

Everything here runs in the writer's task between two of its groups, so that memory and file say the same.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import aiosqlite
import numpy as np
import numpy.typing as npt

from buffer import gaps, quality_days
from buffer.aggregates import Aggregates
from buffer.cuts import Forgotten
from buffer.follower import Follower
from buffer.ledger import Ledger
from buffer.log_time import LogTime
from buffer.outbox import END, ParcelOutbox
from buffer.ranges import Ranges, between, borders_of, common, joined, same_side
from buffer.records import in_segments
from buffer.room import PAYLOAD_FACTOR, Limits, Room, aggregate_bytes, free_bytes, main_file_bytes, measure, needed
from buffer.schema import EVENT_KIND, WAVEFORM_KIND, number
from buffer.thin import kept_rows
from buffer.vault import Vault
from edge.core.batch import Batch, Event, Record
from edge.core.data_class import DataClass
from edge.core.errors import CorruptSegment
from edge.core.language import say

CHUNK_SEGMENTS = 500
THIN_SEGMENTS = 2000
THIN_ROWS = 100_000
THIN_AFTER_NS = 600 * 10**9
BUDGET_BYTES_MAX = 4 << 20
SLACK = 0.01
FACTOR_MAX = 4.0
SAY_EVERY_S = 60.0

FULL, THINNED = "log full", "thinned"

log = logging.getLogger("yulink.log")


@dataclass(frozen=True, slots=True)
class Dropped:
    """Rows that nobody will get any more: tag int32[n] and ts int64[n] of each; empty columns for events."""

    reason: str
    data_class: DataClass
    tag: npt.NDArray[np.int32]
    ts: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Segment:
    position: int
    kind: int
    rows: int
    stored_bytes: int
    ts_min: int
    ts_max: int
    stored: int
    data_class: int
    hour: int


@dataclass(slots=True)
class _Freed:
    """What one transaction took away, to be told after its commit."""

    segments: int = 0
    dropped: int = 0
    thinned: int = 0
    payload: int = 0
    forgotten: list[Forgotten] = field(default_factory=list)
    done_through: dict[object, int] = field(default_factory=dict)


class Retention:
    """Keeps the log within its limits. Used by the writer's task only."""

    def __init__(
        self,
        path: Path,
        limits: Limits,
        time: LogTime,
        outboxes: Sequence[ParcelOutbox],
        ledger: Ledger,
        aggregates: Aggregates,
        vault: Vault,
        followers: Sequence[Follower] = (),
    ) -> None:
        self.limits = limits
        self.on_dropped: list[Callable[[aiosqlite.Connection, Dropped], Awaitable[None]]] = []
        """Called inside the transaction that drops rows, so that an account of them is durable with it."""
        self.rows_dropped = 0
        self.rows_thinned = 0
        self.room = Room(0, 0, 0)
        self.payload_on_file = 0
        self.aggregate_bytes = 0
        self._path = path
        self._time = time
        self._outboxes = outboxes
        self._followers = followers
        self._ledger = ledger
        self._aggregates = aggregates
        self._vault = vault
        self._budget = 0
        self._done_through: dict[object, int] = {}
        """Class, or `THINNED` → the position up to which nothing of it is left: later looks begin behind it."""
        self._said_full = -SAY_EVERY_S
        self._untold = 0

    async def before_storing(self, db: aiosqlite.Connection, payload_bytes: int, segments: int) -> None:
        """Make room for what is about to be stored."""
        need = needed(payload_bytes, segments)
        if need <= self._budget:
            self._budget -= need
            return
        await self.make_room(db, need)

    def stored(self, records: Sequence[Record], bodies: Sequence[bytes]) -> None:
        """Count what the writer has just committed."""
        self.payload_on_file += sum(map(len, bodies))

    def headroom(self) -> tuple[float, float]:
        """Return how many bytes more the file may take by undelivered data, and how many it takes a byte of payload.

        Delivered history gives way, so it counts as room. Negative: something undelivered has to go next.
        """
        factor = max(self.room.used / self.payload_on_file, 1.0) if self.payload_on_file > 0 else PAYLOAD_FACTOR
        factor = min(factor, FACTOR_MAX)
        undelivered = max((outbox.backlog().stored_bytes for outbox in self._outboxes), default=0) * factor
        file = main_file_bytes(self._path) - self.aggregate_bytes
        now = Room(self.room.used, file, free_bytes(self._path))
        return now.allowed(self.limits, protected=False) - undelivered, factor

    async def measure(self, db: aiosqlite.Connection) -> None:
        """Look at what the log takes of the disk."""
        self.aggregate_bytes = await aggregate_bytes(db)
        self.room = await measure(db, self._path)

    async def make_room(self, db: aiosqlite.Connection, need: int = 0) -> None:
        """Take away what must go until `need` bytes more are within the limits, or nothing is left to take."""
        await self.measure(db)
        while self._over(self.room, need) > 0:
            freed = await self._transaction(db, need)
            self._tell(freed)
            if not freed.segments:
                break
            await self.measure(db)
        left = self.room.allowed(self.limits, protected=False) - self.room.used - need
        self._budget = round(min(max(left, 0), BUDGET_BYTES_MAX))

    def _over(self, room: Room, need: int) -> float:
        return room.used + need - room.allowed(self.limits, protected=False)

    async def _transaction(self, db: aiosqlite.Connection, need: int) -> _Freed:
        """Take the least dear thing there is, about a hundredth of the limit of it."""
        freed = _Freed()
        await db.execute("BEGIN IMMEDIATE")
        want = self._over(self.room, need) + min(SLACK * self.limits.bytes_max, BUDGET_BYTES_MAX)
        await self._delete_delivered(db, want, freed)
        if not freed.segments:
            await self._thin(db, freed)
        for data_class in (DataClass.DIAGNOSTICS, DataClass.TELEMETRY, DataClass.PRODUCTION):
            if not freed.segments:
                await self._drop(db, data_class, want, freed)
        beyond = self.room.used + need - self.room.allowed(self.limits, protected=True)
        for data_class in (DataClass.ENERGY, DataClass.AUDIT, DataClass.ALARM, DataClass.EVENT):
            if not freed.segments and beyond > 0:
                await self._drop(db, data_class, beyond, freed)
        await db.execute("COMMIT")
        return freed

    def _tell(self, freed: _Freed) -> None:
        for outbox in self._outboxes:
            outbox.forget(freed.forgotten)
        self._done_through |= freed.done_through
        self.payload_on_file -= freed.payload
        self.rows_dropped += freed.dropped
        self.rows_thinned += freed.thinned
        self._untold += freed.dropped + freed.thinned
        now = self._time.now() / 1e9
        if self._untold and now - self._said_full >= SAY_EVERY_S:
            log.error(
                say(
                    "the log is at its limit ({megabytes:.0f} MB): {rows} undelivered rows were thinned out or dropped",
                    megabytes=self.room.used / 1e6,
                    rows=self._untold,
                )
            )
            self._said_full, self._untold = now, 0

    async def _delete_delivered(
        self, db: aiosqlite.Connection, want: float, freed: _Freed, stored_before: int = END
    ) -> None:
        """Delete the oldest segments that every consumer has committed, about `want` bytes of them."""
        for event in (False, True):
            for first, last in between(self._open(event=event)):
                found = await _list(
                    db,
                    f"kind {'=' if event else '<>'} {EVENT_KIND} AND stored < {stored_before}",
                    first,
                    last,
                    CHUNK_SEGMENTS,
                )
                chosen = _first_bytes(found, want)
                await _delete(db, [each.position for each in chosen])
                freed.segments += len(chosen)
                freed.payload += sum(each.stored_bytes for each in chosen)
                want -= sum(each.stored_bytes for each in chosen)
                if want <= 0 or freed.segments >= CHUNK_SEGMENTS:
                    return

    async def _drop(self, db: aiosqlite.Connection, data_class: DataClass, want: float, freed: _Freed) -> None:
        """Drop the oldest undelivered segments of a class, about `want` bytes of them, each run with its gap."""
        event = data_class is DataClass.EVENT
        borders = borders_of(self._outboxes, event=event)
        chosen: list[_Segment] = []
        for first, last in joined(self._open(event=event)):
            first = max(first, self._done_through.get(data_class, 0) + 1)
            chosen += await _list(db, f"class = {data_class:d}", first, last, CHUNK_SEGMENTS - len(chosen))
            if len(chosen) >= CHUNK_SEGMENTS:
                break
        if not chosen:
            freed.done_through[data_class] = await number(db, "SELECT max(position) FROM segment")
            return
        chosen = _first_bytes(chosen, want)
        found: dict[int, Record] = {}
        for run in _runs(chosen, borders):
            found |= (records := await self._records(db, run))
            rows = [_columns(record) for record in records.values()]
            tag = np.concatenate([np.empty(0, np.int32), *(tags for tags, _ in rows)])
            ts = np.concatenate([np.empty(0, np.int64), *(times for _, times in rows)])
            await gaps.record(db, _loss(run, FULL, sum(each.rows for each in run), tag), borders)
            for call in self.on_dropped:
                await call(db, Dropped(FULL, data_class, tag, ts))
        await self._ledger.drop(db, [each.position for each in chosen], FULL)
        await _delete(db, [each.position for each in chosen])
        freed.done_through[data_class] = chosen[-1].position
        freed.segments += len(chosen)
        freed.dropped += sum(each.rows for each in chosen)
        freed.payload += sum(each.stored_bytes for each in chosen)
        freed.forgotten += [
            Forgotten(each.position, each.rows, each.stored_bytes, event, found.get(each.position)) for each in chosen
        ]

    async def _thin(self, db: aiosqlite.Connection, freed: _Freed) -> None:
        """Thin the oldest undelivered readings of the classes that bear it, and put what stays into few segments."""
        borders = borders_of(self._outboxes, event=False)
        old = self._time.now() - THIN_AFTER_NS
        bears_it = f"class IN ({DataClass.DIAGNOSTICS:d}, {DataClass.TELEMETRY:d}) AND kind < {WAVEFORM_KIND}"
        where = f"{bears_it} AND NOT thinned AND stored < {old}"
        for first, last in self._uncut():
            found = await _list(db, where, max(first, self._done_through.get(THINNED, 0) + 1), last, THIN_SEGMENTS)
            if not found:
                continue
            run = next(_runs(found, borders))
            _, alike = next(groupby(run, attrgetter("hour")))  # rows keep their hour of the ledger
            run = [*alike]
            ends = np.cumsum([each.rows for each in run])
            run = run[: max(int(np.searchsorted(ends, THIN_ROWS, "right")), 1)]
            for key in sorted({(each.data_class, each.kind) for each in run}):
                await self._thin_alike(
                    db, [each for each in run if (each.data_class, each.kind) == key], borders, freed
                )
            freed.done_through[THINNED] = run[-1].position
            return

    async def _thin_alike(
        self, db: aiosqlite.Connection, run: Sequence[_Segment], borders: Sequence[int], freed: _Freed
    ) -> None:
        """Thin segments of one class and lane; what stays goes to the last of their positions. Corrupt ones stay."""
        records = await self._records(db, run)
        run = [each for each in run if each.position in records]
        batches = [record for record in records.values() if isinstance(record, Batch)]
        if not batches:
            return
        whole = Batch.concat(batches)
        kept = await asyncio.to_thread(kept_rows, whole)
        pieces = in_segments(whole.take(kept))
        places = run[-len(pieces) :]
        await _delete(db, [each.position for each in run])
        after = 0
        for place, piece in zip(places, pieces, strict=True):
            body = self._vault.write(place.position, piece)
            after += len(body)
            await db.execute(
                "INSERT INTO segment VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1, ?, ?)",
                (
                    *(place.position, place.kind, len(piece), len(body), int(piece.ts.min()), int(piece.ts.max())),
                    *(place.stored, place.data_class, place.hour, self._ledger.devices.of(piece)),
                ),
            )
            await db.execute("INSERT INTO body VALUES (?, ?)", (place.position, body))
            await self._ledger.keep_wanted(db, place.position, piece)
        gone = whole.take(~kept)
        if len(gone):
            await self._ledger.lose(db, run[0].position, run[0].hour, gone, THINNED)
            await gaps.record(db, _loss(run, THINNED, len(gone), gone.tag, gone.ts), borders)
            for call in self.on_dropped:
                await call(db, Dropped(THINNED, DataClass(run[0].data_class), gone.tag, gone.ts))
        freed.segments += len(run)
        freed.thinned += len(gone)
        saved = sum(each.stored_bytes for each in run) - after
        freed.payload += saved
        freed.forgotten.append(Forgotten(places[-1].position, len(gone), saved, event=False, record=gone))

    async def _records(self, db: aiosqlite.Connection, run: Sequence[_Segment]) -> dict[int, Record]:
        """Return the records of segments by position; a corrupt one is left out."""
        found: dict[int, Record] = {}
        for each in run:
            async with db.execute("SELECT data FROM body WHERE position = ?", (each.position,)) as cursor:
                row = await cursor.fetchone()
            if row is not None:
                try:
                    found[each.position] = self._vault.read(each.position, row[0])
                except CorruptSegment:
                    continue
        return found

    def _open(self, *, event: bool) -> Ranges:
        """Return where something lies that some consumer or follower has not committed. Without any: nowhere."""
        unread = [(follower.position + 1, END) for follower in self._followers]
        return unread + [one for outbox in self._outboxes for one in outbox.open_ranges(event=event)]

    def _uncut(self) -> Ranges:
        """Return where data lies that some consumer waits for and that is in no open parcel of any."""
        waiting = joined([one for outbox in self._outboxes for one in outbox.open_ranges(event=False, parcels=False)])
        closed = joined([one for outbox in self._outboxes for one in outbox.parcel_ranges(event=False)])
        return common(waiting, between(closed))

    async def prune(self, db: aiosqlite.Connection) -> None:
        """Delete what every consumer has committed and is too old, keep the limits, and give free pages back."""
        stored_before = self._time.now() - round(self.limits.keep_s * 1e9)
        while True:
            freed = _Freed()
            await db.execute("BEGIN IMMEDIATE")
            await self._delete_delivered(db, float("inf"), freed, stored_before)
            await db.execute("COMMIT")
            self.payload_on_file -= freed.payload
            if not freed.segments:
                break
        await self.make_room(db)
        told, events_told = (
            min((first - 1 for first, _ in self._open(event=event)), default=END) for event in (False, True)
        )
        oldest = await number(db, "SELECT min(position) FROM segment")
        await db.execute("BEGIN IMMEDIATE")
        if oldest:
            await db.execute("DELETE FROM parcel WHERE last < ? AND state >= 2", (oldest,))
            await db.execute(
                "DELETE FROM key WHERE id < (SELECT max(id) FROM key WHERE first <= ?)"
                " AND NOT EXISTS (SELECT 1 FROM quarantine)"
                " AND NOT EXISTS (SELECT 1 FROM aggregate WHERE aggregate.key = key.id AND aggregate.key > 0)",
                (oldest,),
            )
            await db.execute(
                "DELETE FROM gap WHERE last < ? AND last <= iif(class = ?, ?, ?)",
                (oldest, DataClass.EVENT, events_told, told),
            )
        await self._ledger.prune(db)
        await self._aggregates.prune(db)
        await quality_days.prune(db)
        # Below the guard the file keeps its free pages: what it gives back there, it would not get again.
        if self.room.free >= self.limits.free_min:
            await db.execute_fetchall("PRAGMA incremental_vacuum(2000)")
        await db.execute("COMMIT")


async def _list(db: aiosqlite.Connection, where: str, first: int, last: int, count: int) -> list[_Segment]:
    rows = await db.execute_fetchall(
        "SELECT position, kind, rows, bytes, ts_min, ts_max, stored, class, hour FROM segment"
        f" WHERE position BETWEEN ? AND ? AND {where} ORDER BY position LIMIT ?",
        (first, last, count),
    )
    return [_Segment(*row) for row in rows]


async def _delete(db: aiosqlite.Connection, positions: Sequence[int]) -> None:
    marks = [(position,) for position in positions]
    await db.executemany("DELETE FROM segment WHERE position = ?", marks)
    await db.executemany("DELETE FROM body WHERE position = ?", marks)


def _first_bytes(found: Sequence[_Segment], want: float) -> list[_Segment]:
    """Return the first of the segments that together reach `want` bytes."""
    chosen: list[_Segment] = []
    for each in found:
        if want <= 0:
            break
        chosen.append(each)
        want -= each.stored_bytes
    return chosen


def _runs(found: Sequence[_Segment], borders: Sequence[int]) -> Iterator[list[_Segment]]:
    """Yield the segments in runs that no border divides."""
    run: list[_Segment] = []
    for each in found:
        if run and not same_side(borders, run[0].position, each.position):
            yield run
            run = []
        run.append(each)
    if run:
        yield run


def _loss(
    run: Sequence[_Segment],
    reason: str,
    rows: int,
    tags: npt.NDArray[np.int32],
    ts: npt.NDArray[np.int64] | None = None,
) -> gaps.Loss:
    ts_min = min(each.ts_min for each in run) if ts is None else int(ts.min())
    ts_max = max(each.ts_max for each in run) if ts is None else int(ts.max())
    return gaps.Loss(run[0].position, run[-1].position, rows, ts_min, ts_max, reason, run[0].data_class, tags)


def _columns(record: Record) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Return tag and time of each of a record's rows."""
    match record:
        case Batch():
            return record.tag, record.ts
        case Event():
            return np.empty(0, np.int32), np.empty(0, np.int64)
        case _:
            return np.array([record.tag], np.int32), np.array([record.ts], np.int64)
