"""One consumer's side of the log: parcels new → sent → committed."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import aiosqlite

from buffer.schema import number
from buffer.writer import Writer
from edge.core.batch import Record
from edge.core.catalogue import Catalogue
from edge.core.clock import Clock
from edge.core.delivery import Backlog, Gap, Parcel

HISTORICAL_AFTER_NS = 60 * 10**9
CUT_SEGMENTS_MAX = 2000
PARCEL_BYTES_MAX = 1 << 20


class State(IntEnum):
    """Where a parcel stands on its way to the brain."""

    NEW = 0
    SENT = 1
    COMMITTED = 2


class Source(Protocol):
    """The log, as far as an outbox needs it."""

    catalogue: Catalogue
    epoch: int

    async def records(self, first: int, last: int) -> list[tuple[int, Record | None]]:
        """Return what lies at these positions."""


@dataclass(slots=True)
class _Cut:
    epoch: int
    seq: int
    first: int
    last: int
    rows: int
    stored_bytes: int
    historical: bool
    sent: bool = False

    @property
    def identity(self) -> tuple[int, int]:
        return self.epoch, self.seq


class ParcelOutbox:
    """Implements `edge.core.delivery.Outbox`. Used by one task; all states lie in the database."""

    def __init__(
        self, name: str, writer: Writer, reader: aiosqlite.Connection, source: Source, clock: Clock, cut: int
    ) -> None:
        self.name = name
        self.catalogue = source.catalogue
        self._writer = writer
        self._reader = reader
        self._source = source
        self._clock = clock
        self._cut = cut
        self._seq = 0
        self._waiting: dict[tuple[int, int], _Cut] = {}
        self._new: list[_Cut] = []
        self._uncut_rows = 0
        self._uncut_bytes = 0
        self._cutting: asyncio.Task[None] | None = None

    @classmethod
    async def load(
        cls,
        name: str,
        db: aiosqlite.Connection,
        writer: Writer,
        reader: aiosqlite.Connection,
        source: Source,
        clock: Clock,
    ) -> "ParcelOutbox":
        """Take up where the last run stopped: what is not committed is new again, in order."""
        cut = await number(db, "SELECT cut FROM consumer WHERE name = ?", (name,))
        outbox = cls(name, writer, reader, source, clock, cut)
        for row in await db.execute_fetchall(
            "SELECT ifnull(sum(rows), 0), ifnull(sum(bytes), 0) FROM segment WHERE position > ?", (cut,)
        ):
            outbox._uncut_rows, outbox._uncut_bytes = row
        async with db.execute(
            "SELECT epoch, seq, first, last, rows, bytes, historical FROM parcel"
            " WHERE consumer = ? AND state < 2 ORDER BY first",
            (name,),
        ) as cursor:
            async for epoch, seq, first, last, rows, stored_bytes, historical in cursor:
                parcel = _Cut(epoch, seq, first, last, rows, stored_bytes, bool(historical))
                outbox._waiting[parcel.identity] = parcel
                outbox._new.append(parcel)
        return outbox

    async def wait(self) -> None:
        """Return when `next` would give a parcel. Safe to cancel."""
        while not self._new and self._writer.position <= self._cut:
            self._writer.changed.clear()
            await self._writer.changed.wait()

    async def next(self, rows_max: int) -> Parcel | None:
        """Return the oldest parcel in state new, or cut one; see `edge.core.delivery.Outbox`."""
        if self._cutting is None and not self._new and self._writer.position > self._cut:
            self._cutting = asyncio.create_task(self._cut_next(rows_max), name=f"cut for {self.name}")
        if self._cutting is not None:  # a cancelled call leaves the cut to go on; the next call takes it up
            await asyncio.shield(self._cutting)
            self._cutting = None
        if not self._new:
            return None
        oldest = self._new[0]
        parcel = await self._fill(oldest)  # cancelled here, it stays the next one
        self._new.remove(oldest)
        return parcel

    async def _cut_next(self, rows_max: int) -> None:
        cut: _Cut | None = await self._writer.do(lambda db: self._cut_one(db, rows_max))
        if cut is not None:
            self._seq, self._cut = cut.seq, cut.last
            self._uncut_rows -= cut.rows
            self._uncut_bytes -= cut.stored_bytes
            self._waiting[cut.identity] = cut
            self._new.append(cut)

    async def _cut_one(self, db: aiosqlite.Connection, rows_max: int) -> _Cut | None:
        rows = stored_bytes = ts_max = 0
        last = self._cut
        async with db.execute(
            "SELECT position, rows, bytes, ts_max FROM segment WHERE position > ? ORDER BY position LIMIT ?",
            (self._cut, CUT_SEGMENTS_MAX),
        ) as cursor:
            async for position, segment_rows, segment_bytes, newest in cursor:
                full = rows + segment_rows > rows_max or stored_bytes + segment_bytes > PARCEL_BYTES_MAX
                if rows and full:
                    break
                rows, stored_bytes = rows + segment_rows, stored_bytes + segment_bytes
                last, ts_max = position, max(ts_max, newest)
        # What was dropped right behind the cut is told in this parcel too, or in one of its own.
        async with db.execute(
            "SELECT last FROM gap WHERE first > ? AND first <= ? + 1 ORDER BY first DESC LIMIT 1",
            (self._cut, last if rows else 2**62),
        ) as cursor:
            if gap := await cursor.fetchone():
                last = max(last, gap[0])
        if last == self._cut:
            return None
        historical = bool(rows) and ts_max < self._clock.now() - HISTORICAL_AFTER_NS
        cut = _Cut(self._source.epoch, self._seq + 1, self._cut + 1, last, rows, stored_bytes, historical)
        await db.execute(
            "INSERT INTO parcel VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (self.name, cut.epoch, cut.seq, cut.first, last, rows, stored_bytes, State.NEW, historical),
        )
        await db.execute("UPDATE consumer SET cut = ? WHERE name = ?", (last, self.name))
        return cut

    async def _fill(self, cut: _Cut) -> Parcel:
        records, gaps = [], []
        for position, record in await self._source.records(cut.first, cut.last):
            if record is not None:
                records.append(record)
            else:
                gaps.append(await self._corrupt(position))
        async with self._reader.execute(
            "SELECT rows, ts_min, ts_max, reason FROM gap WHERE first <= ? AND last >= ? ORDER BY first",
            (cut.last, cut.first),
        ) as cursor:
            gaps += [Gap(*row) async for row in cursor]
        return Parcel(cut.epoch, cut.seq, tuple(records), tuple(gaps), cut.historical)

    async def _corrupt(self, position: int) -> Gap:
        async with self._reader.execute(
            "SELECT rows, ts_min, ts_max FROM segment WHERE position = ?", (position,)
        ) as cursor:
            row = await cursor.fetchone()
        rows, ts_min, ts_max = row or (0, 0, 0)
        return Gap(rows, ts_min, ts_max, "corrupt segment")

    async def sent(self, epoch: int, seqs: Sequence[int]) -> None:
        """Record that the broker took these parcels."""
        await self._set(State.SENT, epoch, seqs)
        for seq in seqs:
            if parcel := self._waiting.get((epoch, seq)):
                parcel.sent = True

    async def again(self, epoch: int, seqs: Sequence[int]) -> None:
        """Put parcels back to new."""
        await self._set(State.NEW, epoch, seqs)
        new = {parcel.identity for parcel in self._new}
        back = [self._waiting[epoch, seq] for seq in seqs if (epoch, seq) in self._waiting.keys() - new]
        for parcel in back:
            parcel.sent = False
        self._new = sorted([*self._new, *back], key=lambda parcel: parcel.first)
        self._writer.changed.set()

    async def committed(self, epoch: int, through: int, missing: Sequence[tuple[int, int]] = ()) -> int:
        """Record the brain's acknowledgement and put what it misses back to new."""
        known = [seq for known_epoch, seq in self._waiting if known_epoch == epoch and seq <= through]
        lost = [seq for seq in known if any(first <= seq <= last for first, last in missing)]
        done = await self.confirm(epoch, sorted(set(known) - set(lost)))
        # A parcel not yet given out in this run is on its way already.
        resend = [seq for seq in lost if self._waiting[epoch, seq] not in self._new]
        if resend:
            await self.again(epoch, resend)
        return done

    async def confirm(self, epoch: int, seqs: Sequence[int]) -> int:
        """Record delivery of exactly these parcels and return how many were still open."""
        done = [seq for seq in seqs if (epoch, seq) in self._waiting]
        if done:
            await self._set(State.COMMITTED, epoch, done)
        for seq in done:
            parcel = self._waiting.pop((epoch, seq))
            if parcel in self._new:
                self._new.remove(parcel)
        return len(done)

    async def _set(self, state: State, epoch: int, seqs: Sequence[int]) -> None:
        changes = [(int(state), self.name, epoch, seq) for seq in seqs]
        await self._writer.do(
            lambda db: db.executemany(
                "UPDATE parcel SET state = ? WHERE consumer = ? AND epoch = ? AND seq = ? AND state < 2", changes
            )
        )

    def stored(self, rows: int, stored_bytes: int) -> None:
        """Count what the writer has just committed behind the cut."""
        self._uncut_rows += rows
        self._uncut_bytes += stored_bytes

    def forget(self, gone: Sequence[tuple[int, int]]) -> None:
        """Take dropped segments, given as (position, rows), out of the count of what waits."""
        for position, rows in gone:
            if position > self._cut:
                self._uncut_rows -= rows
            for parcel in self._waiting.values():
                if parcel.first <= position <= parcel.last:
                    parcel.rows -= rows

    def backlog(self) -> Backlog:
        """Return a snapshot of what is not committed."""
        return Backlog(
            rows=self._uncut_rows + sum(parcel.rows for parcel in self._waiting.values()),
            stored_bytes=self._uncut_bytes + sum(parcel.stored_bytes for parcel in self._waiting.values()),
            parcels_sent=sum(parcel.sent for parcel in self._waiting.values()),
        )

    @property
    def confirmed_through(self) -> int:
        """The last position up to which everything is committed."""
        return min((parcel.first for parcel in self._waiting.values()), default=self._cut + 1) - 1
