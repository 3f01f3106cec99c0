"""One consumer's side of the log: parcels new → sent → committed, the most urgent first.

What is not in a parcel yet lies in three places: events behind `event_cut`; data behind `cut`, which is live; and
ranges of data that `cut` has passed over because they had grown old: the backlog. So live data never waits for it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Protocol

import aiosqlite

from buffer.database import Database
from buffer.gaps import read_gap
from buffer.log_time import LogTime
from buffer.records import rows_of
from buffer.schema import EVENT_KIND, number
from buffer.selection import Selection, load_selection
from buffer.writer import Then, Writer
from edge.core.batch import Event, Record
from edge.core.catalogue import Catalogue, Tag
from edge.core.data_class import DataClass
from edge.core.delivery import Backlog, Gap, Parcel, Priority

BACKLOG_AFTER_NS = 10 * 10**9
CUT_SEGMENTS_MAX = 2000
PICK_SEGMENTS = 64
ROW_BYTES = 8  # about what a row takes in the log, where a segment's rows are not all wanted
PARCEL_BYTES_MAX = 1 << 20
END = 2**62
WHOLE = 0  # the priority of parcels of format 1, which hold events and data together


class State(IntEnum):
    """Where a parcel stands on its way to the brain."""

    NEW = 0
    SENT = 1
    COMMITTED = 2


class Source(Protocol):
    """The log, as far as an outbox needs it."""

    catalogue: Catalogue

    async def records(
        self, first: int, last: int, *, events: bool = True, data: bool = True
    ) -> list[tuple[int, Record | None]]:
        """Return what lies at these positions."""


@dataclass(slots=True)
class _Cut:
    epoch: int
    seq: int
    first: int
    last: int
    rows: int
    stored_bytes: int
    priority: int
    sent: bool = False
    corrupt: set[int] | None = None

    @property
    def identity(self) -> tuple[int, int]:
        return self.epoch, self.seq

    @property
    def lane(self) -> Priority:
        return Priority(self.priority or Priority.BACKLOG)

    def holds(self, position: int, *, event: bool) -> bool:
        """Tell whether what lies at a position is in this parcel."""
        return self.covers(event=event) and self.first <= position <= self.last

    def covers(self, *, event: bool) -> bool:
        """Tell whether the parcel covers events, or data, between its positions."""
        return self.priority in ((WHOLE, Priority.EVENT) if event else (WHOLE, Priority.LIVE, Priority.BACKLOG))


@dataclass(slots=True)
class _Uncut:
    """What is in no parcel yet, counted."""

    rows: int = 0
    stored_bytes: int = 0

    def add(self, rows: int, stored_bytes: int) -> None:
        self.rows = max(self.rows + rows, 0)
        self.stored_bytes = max(self.stored_bytes + stored_bytes, 0)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What a limit took from one position, for those who count what waits. `record`: the rows; None where corrupt."""

    position: int
    rows: int
    stored_bytes: int
    event: bool
    record: Record | None


@dataclass(slots=True)
class _Taken:
    """What a cut takes up to `last`: whether it makes a parcel, and whether nothing is left in the range.

    `rows_passed` are for others, but had been counted as waiting.
    """

    last: int
    parcel: bool = False
    rows: int = 0
    rows_passed: int = 0
    stored_bytes: int = 0
    exhausted: bool = True
    hour: int = 0


class ParcelOutbox:
    """Implements `edge.core.delivery.Outbox`. Used by one task; all states lie in the database."""

    def __init__(
        self, name: str, epoch: int, writer: Writer, database: Database, source: Source, time: LogTime
    ) -> None:
        self.name = name
        self.epoch = epoch
        self.selection = Selection([(0, ())], source.catalogue)
        self._loaded_through = writer.position
        self.catalogue = source.catalogue
        self._writer = writer
        self._database = database
        self._source = source
        self._time = time
        self._cut = self._event_cut = 0
        self._ranges: list[tuple[int, int]] = []
        self._event_gaps = False
        self._seq = 0
        self._waiting: dict[tuple[int, int], _Cut] = {}
        self._new: dict[Priority, list[_Cut]] = {priority: [] for priority in Priority}
        self._uncut = {priority: _Uncut() for priority in Priority}
        self._cutting: asyncio.Task[None] | None = None

    @classmethod
    async def load(
        cls,
        name: str,
        epoch: int,
        database: Database,
        writer: Writer,
        source: Source,
        time: LogTime,
        only: Sequence[str] = (),
    ) -> "ParcelOutbox":
        """Take up where the last run stopped: what is not committed is new again, in order."""
        outbox = cls(name, epoch, writer, database, source, time)
        db = database.db
        outbox.selection = await load_selection(db, name, only, writer.position, source.catalogue)
        for row in await db.execute_fetchall("SELECT cut, event_cut FROM consumer WHERE name = ?", (name,)):
            outbox._cut, outbox._event_cut = row
        ranges = await db.execute_fetchall("SELECT first, last FROM backlog WHERE consumer = ? ORDER BY first", (name,))
        outbox._ranges = [(int(row[0]), int(row[1])) for row in ranges]
        await outbox.recount(db)
        async with db.execute(
            "SELECT epoch, seq, first, last, rows, bytes, priority FROM parcel"
            " WHERE consumer = ? AND state < 2 ORDER BY first",
            (name,),
        ) as cursor:
            async for row in cursor:
                parcel = _Cut(*row)
                outbox._waiting[parcel.identity] = parcel
                outbox._new[parcel.lane].append(parcel)
        return outbox

    async def recount(self, db: aiosqlite.Connection) -> None:
        """Count what is in no parcel from the tables."""
        self._loaded_through = self._writer.position
        self._uncut = {priority: _Uncut() for priority in Priority}
        gaps = "SELECT count(*) FROM gap WHERE class = ? AND last > ?"
        self._event_gaps = bool(await number(db, gaps, (DataClass.EVENT, self._event_cut)))
        counted = (
            "SELECT ifnull(sum(rows), 0), ifnull(sum(bytes), 0) FROM segment WHERE position BETWEEN ? AND ? AND kind"
        )
        for priority, first, last, sign in (
            (Priority.EVENT, self._event_cut + 1, END, "="),
            (Priority.LIVE, self._cut + 1, END, "<>"),
            *((Priority.BACKLOG, first, last, "<>") for first, last in self._ranges),
        ):
            for row in await db.execute_fetchall(f"{counted} {sign} {EVENT_KIND}", (first, last)):
                self._uncut[priority].add(*row)

    async def restate(self, db: aiosqlite.Connection) -> None:
        """Write this consumer's places, and those of its parcels that are missing, into a salvaged file."""
        await db.execute("INSERT OR REPLACE INTO consumer VALUES (?, ?, ?, 0)", (self.name, self._cut, self._event_cut))
        await db.execute("DELETE FROM backlog WHERE consumer = ?", (self.name,))
        await db.executemany("INSERT INTO backlog VALUES (?, ?, ?)", [(self.name, *each) for each in self._ranges])
        await db.executemany(
            "INSERT OR IGNORE INTO parcel (consumer, epoch, seq, first, last, rows, bytes, state, historical, priority)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    *(self.name, parcel.epoch, parcel.seq, parcel.first, parcel.last, parcel.rows, parcel.stored_bytes),
                    *(State.SENT if parcel.sent else State.NEW, parcel.lane is Priority.BACKLOG, parcel.priority),
                )
                for parcel in self._waiting.values()
            ],
        )

    def selects(self, tag: Tag) -> bool:
        """Tell whether any reading of a tag may be in a parcel."""
        return self.selection.picks(tag)

    def ready(self, priority: Priority) -> bool:
        """Tell whether `next` has something of this priority; see `edge.core.delivery.Outbox`."""
        if self._new[priority]:
            return True
        match priority:
            case Priority.EVENT:
                return self._uncut[priority].rows > 0 or self._event_gaps
            case Priority.LIVE:
                return self._writer.position > self._cut
            case _:
                return bool(self._ranges)

    def uncut_rows(self, priority: Priority) -> int:
        """Return how many rows of this priority are in no parcel yet."""
        return self._uncut[priority].rows

    async def changed(self) -> None:
        """Return when something new came into the log. Safe to cancel."""
        self._writer.changed.clear()
        await self._writer.changed.wait()

    async def wait(self) -> None:
        """Return when there may be something `ready`. Safe to cancel."""
        while not any(map(self.ready, Priority)):
            self._writer.changed.clear()
            await self._writer.changed.wait()

    async def next(self, rows_max: int, priority: Priority | None = None) -> Parcel | None:
        """Return the oldest parcel in state new, or cut one; see `edge.core.delivery.Outbox`."""
        for wanted in Priority if priority is None else (priority,):
            while not self._new[wanted] and self.ready(wanted):
                if self._cutting is None:
                    cutting = self._cut_next(rows_max, wanted)
                    self._cutting = asyncio.create_task(cutting, name=f"cut for {self.name}")
                # A cancelled call leaves the cut to go on; the next call takes it up.
                await asyncio.shield(self._cutting)
                self._cutting = None
            if self._new[wanted]:
                oldest = self._new[wanted][0]
                parcel = await self._fill(oldest)  # cancelled here, it stays the next one
                self._new[wanted].remove(oldest)
                return parcel
        return None

    async def _cut_next(self, rows_max: int, priority: Priority) -> None:
        """Cut one parcel, or find that there is nothing to cut, or that what was live has become backlog."""
        match priority:
            case Priority.EVENT:
                first, limit = self._event_cut + 1, self._writer.position
            case Priority.LIVE:
                first, limit = self._cut + 1, self._writer.position
                if await self._is_old(first, limit):
                    await self._writer.do(
                        lambda db: self._set_aside(db, first, limit),
                        lambda counted: self._was_set_aside(first, limit, *counted),
                    )
                    return
            case _:
                first, limit = self._ranges[0]
        picked = None if self.selection.is_whole else await self._pick(priority, first, limit, rows_max)
        await self._writer.do(
            lambda db: self._cut_one(db, priority, first, limit, rows_max, picked),
            lambda taken: self._was_cut(priority, first, limit, taken),
        )

    def _was_set_aside(self, first: int, last: int, rows: int, stored_bytes: int) -> None:
        if not self.selection.is_whole:  # the segments hold rows for others too
            live = self._uncut[Priority.LIVE]
            rows, stored_bytes = min(rows, live.rows), min(stored_bytes, live.stored_bytes)
        self._ranges.append((first, last))
        self._cut = last
        self._uncut[Priority.LIVE].add(-rows, -stored_bytes)
        self._uncut[Priority.BACKLOG].add(rows, stored_bytes)

    def _was_cut(self, priority: Priority, first: int, limit: int, taken: _Taken) -> None:
        match priority:
            case Priority.EVENT:
                self._event_cut = taken.last
                self._event_gaps = self._event_gaps and not taken.exhausted
            case Priority.LIVE:
                self._cut = taken.last
            case _:
                self._ranges[:1] = [] if taken.exhausted else [(taken.last + 1, limit)]
        self._uncut[priority].add(-taken.rows - taken.rows_passed, -taken.stored_bytes)
        if taken.parcel:
            self._seq += 1
            cut = _Cut(self.epoch, self._seq, first, taken.last, taken.rows, taken.stored_bytes, priority)
            self._waiting[cut.identity] = cut
            self._new[priority].append(cut)

    async def _is_old(self, first: int, limit: int) -> bool:
        """Tell whether the oldest live data waits for so long that it must not hold back what is new."""
        rows = await self._database.read(
            f"SELECT stored FROM segment WHERE position BETWEEN ? AND ? AND kind <> {EVENT_KIND}"
            " ORDER BY position LIMIT 1",
            (first, limit),
        )
        return bool(rows) and int(rows[0][0]) < self._time.now() - BACKLOG_AFTER_NS

    async def _set_aside(self, db: aiosqlite.Connection, first: int, last: int) -> tuple[int, int]:
        """Make the data from `first` to `last` backlog; return its rows and bytes."""
        counted = await db.execute_fetchall(
            "SELECT ifnull(sum(rows), 0), ifnull(sum(bytes), 0) FROM segment"
            f" WHERE position BETWEEN ? AND ? AND kind <> {EVENT_KIND}",
            (first, last),
        )
        await db.execute("INSERT INTO backlog VALUES (?, ?, ?)", (self.name, first, last))
        await db.execute("UPDATE consumer SET cut = ? WHERE name = ?", (last, self.name))
        ((rows, stored_bytes),) = counted
        return int(rows), int(stored_bytes)

    async def _scan(
        self, db: aiosqlite.Connection, priority: Priority, first: int, limit: int, rows_max: int
    ) -> _Taken:
        """Return what fits from `first` on."""
        taken = _Taken(first - 1)
        sign = "=" if priority is Priority.EVENT else "<>"
        data, seen = priority is not Priority.EVENT, 0
        async with db.execute(
            "SELECT position, rows, bytes, hour FROM segment"
            f" WHERE position BETWEEN ? AND ? AND kind {sign} {EVENT_KIND} ORDER BY position LIMIT ?",
            (first, limit, CUT_SEGMENTS_MAX),
        ) as cursor:
            async for position, rows, stored_bytes, hour in cursor:
                full = taken.rows + rows > rows_max or taken.stored_bytes + stored_bytes > PARCEL_BYTES_MAX
                # All data of a parcel is of one hour of the ledger, so that the brain can count by it too.
                if taken.rows and (full or (data and hour != taken.hour)):
                    taken.exhausted = False
                    break
                seen += 1
                taken.hour = hour
                taken.rows, taken.stored_bytes = taken.rows + rows, taken.stored_bytes + stored_bytes
                taken.last = position
        taken.exhausted = taken.exhausted and seen < CUT_SEGMENTS_MAX
        if taken.exhausted:
            taken.last = limit
        return taken

    async def _pick(self, priority: Priority, first: int, limit: int, rows_max: int) -> _Taken:
        """Return what fits from `first` on of what this consumer wants; the records have to be looked at for it."""
        taken = _Taken(first - 1)
        event = priority is Priority.EVENT
        until = limit if event else await self._hour_end(first, limit)
        while taken.last < until and taken.rows < rows_max and taken.stored_bytes < PARCEL_BYTES_MAX:
            through = min(taken.last + PICK_SEGMENTS, until)
            for position, record in await self._source.records(taken.last + 1, through, events=event, data=not event):
                rows = rows_of(record) if record is not None else 1
                wanted = self.selection.rows(position, record) if record is not None else 1
                if taken.rows and taken.rows + wanted > rows_max:
                    taken.exhausted = False
                    return taken
                taken.last = position
                taken.rows += wanted
                taken.stored_bytes += wanted * ROW_BYTES
                taken.rows_passed += rows - wanted if position <= self._loaded_through else 0
            taken.last = through
        taken.exhausted = taken.last >= limit
        return taken

    async def _hour_end(self, first: int, limit: int) -> int:
        """Return the last position up to which data from `first` on is of one hour of the ledger."""
        found = await self._database.read(
            f"SELECT position FROM segment WHERE position BETWEEN ? AND ? AND kind <> {EVENT_KIND} AND hour <>"
            f" (SELECT hour FROM segment WHERE position >= ? AND kind <> {EVENT_KIND} ORDER BY position LIMIT 1)"
            " ORDER BY position LIMIT 1",
            (first, limit, first),
        )
        return int(found[0][0]) - 1 if found else limit

    async def _cut_one(
        self,
        db: aiosqlite.Connection,
        priority: Priority,
        first: int,
        limit: int,
        rows_max: int,
        picked: _Taken | None,
    ) -> _Taken:
        """Make a parcel of what fits from `first` on, or was `picked`, and move this priority's place behind it."""
        taken = picked or await self._scan(db, priority, first, limit, rows_max)
        sign = "=" if priority is Priority.EVENT else "<>"
        gaps = f"SELECT count(*) FROM gap WHERE last BETWEEN ? AND ? AND class {sign} {DataClass.EVENT:d}"
        told = await number(db, gaps, (first, taken.last))
        taken.parcel = bool(taken.rows or told)
        if taken.parcel:
            await db.execute(
                "INSERT INTO parcel (consumer, epoch, seq, first, last, rows, bytes, state, historical, priority)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(self.name, self.epoch, self._seq + 1, first, taken.last, taken.rows, taken.stored_bytes),
                    *(State.NEW, priority is Priority.BACKLOG, priority),
                ),
            )
        match priority:
            case Priority.EVENT:
                await db.execute("UPDATE consumer SET event_cut = ? WHERE name = ?", (taken.last, self.name))
            case Priority.LIVE:
                await db.execute("UPDATE consumer SET cut = ? WHERE name = ?", (taken.last, self.name))
            case _:
                await db.execute("DELETE FROM backlog WHERE consumer = ? AND first = ?", (self.name, first))
                if not taken.exhausted:
                    await db.execute("INSERT INTO backlog VALUES (?, ?, ?)", (self.name, taken.last + 1, limit))
        return taken

    async def _fill(self, cut: _Cut) -> Parcel:
        records, gaps, corrupt = [], [], set[int]()
        events, data = cut.priority in (WHOLE, Priority.EVENT), cut.priority != Priority.EVENT
        for position, record in await self._source.records(cut.first, cut.last, events=events, data=data):
            if record is not None:
                if (wanted := self.selection.at(position).of(record)) is not None:
                    records.append(wanted)
            else:
                corrupt.add(position)
                gaps.append(await self._corrupt(position))
        stored = await self._database.read(
            "SELECT last, rows, ts_min, ts_max, reason, class, tags FROM gap WHERE last BETWEEN ? AND ?"
            " ORDER BY first, id",
            (cut.first, cut.last),
        )
        for last, *columns in stored:
            gap = read_gap(*columns)
            if cut.covers(event=gap.data_class == DataClass.EVENT.word) and (told := self._wanted(last, gap)):
                gaps.append(told)
        cut.corrupt = corrupt
        historical = cut.lane is Priority.BACKLOG
        hour = await self._hour(cut) if data else 0
        return Parcel(cut.epoch, cut.seq, tuple(records), tuple(gaps), historical, cut.lane, hour, self.name)

    async def _hour(self, cut: _Cut) -> int:
        """Return the hour of the ledger in which a parcel's data was stored; 0 when it is of several, or unknown."""
        found = await self._database.read(
            "SELECT min(hour), max(hour) FROM segment WHERE position BETWEEN ? AND ? AND devices IS NOT NULL",
            (cut.first, cut.last),
        )
        first, last = (int(hour or 0) for hour in found[0])
        return first if first == last else 0

    async def _corrupt(self, position: int) -> Gap:
        found = await self._database.read(
            "SELECT rows, ts_min, ts_max, class FROM segment WHERE position = ?", (position,)
        )
        rows, ts_min, ts_max, data_class = found[0] if found else (0, 0, 0, 0)
        return read_gap(rows, ts_min, ts_max, "corrupt segment", data_class, b"")

    def _wanted(self, position: int, gap: Gap) -> Gap | None:
        """Return what a gap at a position means to this consumer; None for nothing."""
        if self.selection.is_whole or not gap.tags:
            return gap
        patterns = self.selection.at(position)
        tags = tuple((tag, rows) for tag, rows in gap.tags if patterns.picks(self.catalogue[tag]))
        return replace(gap, rows=sum(rows for _, rows in tags), tags=tags) if tags else None

    async def sent(self, epoch: int, seqs: Sequence[int]) -> None:
        """Record that the broker took these parcels."""
        await self._set(State.SENT, epoch, seqs)
        for seq in seqs:
            if parcel := self._waiting.get((epoch, seq)):
                parcel.sent = True

    async def again(self, epoch: int, seqs: Sequence[int]) -> None:
        """Put parcels back to new."""
        await self._set(State.NEW, epoch, seqs)
        for parcel in [self._waiting[epoch, seq] for seq in seqs if (epoch, seq) in self._waiting]:
            parcel.sent = False
            if parcel not in self._new[parcel.lane]:
                self._new[parcel.lane].append(parcel)
                self._new[parcel.lane].sort(key=lambda each: each.first)
        self._writer.changed.set()

    async def committed(self, epoch: int, through: int, missing: Sequence[tuple[int, int]] = ()) -> int:
        """Record the brain's acknowledgement and put what it misses back to new."""
        known = [seq for known_epoch, seq in self._waiting if known_epoch == epoch and seq <= through]
        lost = [seq for seq in known if any(first <= seq <= last for first, last in missing)]
        done = await self.confirm(epoch, sorted(set(known) - set(lost)))
        # A parcel not yet given out in this run is on its way already.
        out = {parcel.identity for parcel in self._waiting.values() if parcel not in self._new[parcel.lane]}
        resend = [seq for seq in lost if (epoch, seq) in out]
        if resend:
            await self.again(epoch, resend)
        return done

    async def confirm(self, epoch: int, seqs: Sequence[int]) -> int:
        """Record delivery of exactly these parcels and return how many were still open."""
        done = [seq for seq in seqs if (epoch, seq) in self._waiting]
        if done:
            await self._set(State.COMMITTED, epoch, done, lambda _: self._was_confirmed(epoch, done))
        return len(done)

    def _was_confirmed(self, epoch: int, seqs: Sequence[int]) -> None:
        for seq in seqs:
            parcel = self._waiting.pop((epoch, seq), None)
            if parcel is not None and parcel in self._new[parcel.lane]:
                self._new[parcel.lane].remove(parcel)

    async def _set(self, state: State, epoch: int, seqs: Sequence[int], then: Then | None = None) -> None:
        changes = [(int(state), self.name, epoch, seq) for seq in seqs]
        now, committed, corrupt = self._time.now(), state is State.COMMITTED, set[int]()
        for parcel in [self._waiting[epoch, seq] for seq in seqs if committed and (epoch, seq) in self._waiting]:
            if parcel.corrupt is None:
                await self._fill(parcel)  # it went out before this start
            corrupt |= parcel.corrupt or set()

        async def step(db: aiosqlite.Connection) -> None:
            if state is not State.NEW:
                await self._writer.ledger.progress(db, self.name, epoch, seqs, now, committed, corrupt)
            await db.executemany(
                "UPDATE parcel SET state = ? WHERE consumer = ? AND epoch = ? AND seq = ? AND state < 2", changes
            )

        await self._writer.do(step, then)

    def stored(self, records: Sequence[Record], bodies: Sequence[bytes]) -> None:
        """Count what the writer has just committed behind the cuts."""
        for record, body in zip(records, bodies, strict=True):
            lane = Priority.EVENT if isinstance(record, Event) else Priority.LIVE
            rows = rows_of(record)
            wanted = rows if self.selection.is_whole else self.selection.rows(END, record)
            self._uncut[lane].add(wanted, len(body) if wanted == rows else wanted * ROW_BYTES)

    def open_ranges(self, *, event: bool, parcels: bool = True) -> list[tuple[int, int]]:
        """Return where events, or data, lie that this consumer has not committed: (first, last), both included.

        Without `parcels` only what is in no parcel yet.
        """
        found = [(self._event_cut + 1, END)] if event else [(self._cut + 1, END), *self._ranges]
        return found + (self.parcel_ranges(event=event) if parcels else [])

    def parcel_ranges(self, *, event: bool) -> list[tuple[int, int]]:
        """Return the ranges of the parcels that are not committed."""
        return [(parcel.first, parcel.last) for parcel in self._waiting.values() if parcel.covers(event=event)]

    def forget(self, gone: Sequence[Forgotten]) -> None:
        """Take what a limit has dropped out of the count of what waits."""
        for each in gone:
            position, rows, stored_bytes = each.position, each.rows, each.stored_bytes
            if not self.selection.is_whole and each.record is not None:
                rows = self.selection.rows(position, each.record)
                stored_bytes = stored_bytes if rows == each.rows else rows * ROW_BYTES
            if position > (self._event_cut if each.event else self._cut):
                self._uncut[Priority.EVENT if each.event else Priority.LIVE].add(-rows, -stored_bytes)
                self._event_gaps = self._event_gaps or each.event
            elif not each.event and any(first <= position <= last for first, last in self._ranges):
                self._uncut[Priority.BACKLOG].add(-rows, -stored_bytes)
            else:
                for parcel in self._waiting.values():
                    if parcel.holds(position, event=each.event):
                        parcel.rows -= rows
                        parcel.stored_bytes -= stored_bytes

    def backlog(self) -> Backlog:
        """Return a snapshot of what is not committed."""
        waiting = self._waiting.values()
        return Backlog(
            rows=sum(uncut.rows for uncut in self._uncut.values()) + sum(parcel.rows for parcel in waiting),
            stored_bytes=sum(uncut.stored_bytes for uncut in self._uncut.values())
            + sum(parcel.stored_bytes for parcel in waiting),
            parcels_sent=sum(parcel.sent for parcel in waiting),
            historical_rows=self._uncut[Priority.BACKLOG].rows
            + sum(parcel.rows for parcel in waiting if parcel.lane is Priority.BACKLOG),
        )
