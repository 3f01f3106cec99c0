"""One consumer's side of the log: parcels new → sent → committed, the most urgent first.

What is not in a parcel yet lies in three places: events behind `event_cut`; data behind `cut`, which is live; and
ranges of data that `cut` has passed over because they had grown old: the backlog. So live data never waits for it.
"""

import asyncio
import json
from collections.abc import Collection, Sequence
from dataclasses import astuple
from typing import Any

import aiosqlite

from buffer import quarantine
from buffer.contents import GONE, Contents
from buffer.cuts import COLUMNS, INTO_PARCEL, ROW_BYTES, Cut, Forgotten, Source, State, Taken, Uncut, halves_of, holes
from buffer.cutting import Cutter
from buffer.database import Database
from buffer.log_time import LogTime
from buffer.quarantine import Quarantined
from buffer.records import rows_of, times_of
from buffer.schema import EVENT_KIND, number
from buffer.selection import Selection, load_selection
from buffer.writer import Step, Then, Writer
from edge.core.batch import Event, Record
from edge.core.catalogue import Tag
from edge.core.data_class import DataClass
from edge.core.delivery import Backlog, Gap, Identity, Parcel, Priority

REPLAY_MAX = 200
END = 2**62


class ParcelOutbox:
    """Implements `edge.core.delivery.Outbox`. Used by one task, but for `retry`; all states lie in the database."""

    def __init__(
        self,
        name: str,
        epoch: int,
        writer: Writer,
        database: Database,
        source: Source,
        selection: Selection,
        time: LogTime,
    ) -> None:
        self.name = name
        self.epoch = epoch
        self.selection = selection
        self._cutter = Cutter(name, epoch, database, source, selection, writer.position)
        self._contents = Contents(name, database, source, selection)
        self.catalogue = source.catalogue
        self._writer = writer
        self._database = database
        self._source = source
        self._time = time
        self._cut = self._event_cut = 0
        self._ranges: list[tuple[int, int]] = []
        self._event_gaps = False
        self._seq = 0
        self._waiting: dict[tuple[int, int], Cut] = {}
        self._new: dict[Priority, list[Cut]] = {priority: [] for priority in Priority}
        self._uncut = {priority: Uncut() for priority in Priority}
        self._cutting: asyncio.Task[None] | None = None
        self._numbering = asyncio.Lock()  # held from taking the next numbers of the epoch until they are used
        self._quarantined = 0
        self._said_gone: dict[tuple[int, int, int], Identity] = {}

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
        db = database.db
        selection = await load_selection(db, name, only, writer.position, source.catalogue)
        outbox = cls(name, epoch, writer, database, source, selection, time)
        for row in await db.execute_fetchall("SELECT cut, event_cut FROM consumer WHERE name = ?", (name,)):
            outbox._cut, outbox._event_cut = row
        outbox._quarantined = await number(db, "SELECT count(*) FROM quarantine WHERE consumer = ?", (name,))
        ranges = await db.execute_fetchall("SELECT first, last FROM backlog WHERE consumer = ? ORDER BY first", (name,))
        outbox._ranges = [(int(row[0]), int(row[1])) for row in ranges]
        await outbox.recount(db)
        async with db.execute(
            f"SELECT {COLUMNS} FROM parcel WHERE consumer = ? AND state < 2 ORDER BY first, part", (name,)
        ) as cursor:
            async for row in cursor:
                parcel = Cut.read(tuple(row))
                outbox._waiting[parcel.identity] = parcel
                outbox._new[parcel.lane].append(parcel)
        return outbox

    async def recount(self, db: aiosqlite.Connection) -> None:
        """Count what is in no parcel from the tables."""
        self._cutter.loaded_through = self._writer.position
        self._uncut = {priority: Uncut() for priority in Priority}
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
        waiting = [parcel.row(self.name) for parcel in self._waiting.values()]
        await db.executemany(f"INSERT OR IGNORE {INTO_PARCEL}", waiting)

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

    def ready_rows(self, priority: Priority) -> int:
        """Return about how many rows `next` could give out; see `edge.core.delivery.Outbox`."""
        return self._uncut[priority].rows + sum(max(parcel.rows, 1) for parcel in self._new[priority])

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
                parcel = await self._contents.of(oldest)  # cancelled here, it stays the next one
                self._new[wanted].remove(oldest)
                return parcel
        return None

    async def _cut_next(self, rows_max: int, priority: Priority) -> None:
        """Cut one parcel, or find that there is nothing to cut, or that what was live has become backlog."""
        async with self._numbering:
            await self._cut_of(rows_max, priority)

    async def _cut_of(self, rows_max: int, priority: Priority) -> None:
        match priority:
            case Priority.EVENT:
                first, limit = self._event_cut + 1, self._writer.position
            case Priority.LIVE:
                first, limit = self._cut + 1, self._writer.position
                if await self._cutter.is_old(first, limit, self._time.now()):
                    await self._writer.do(
                        lambda db: self._cutter.make_backlog(db, first, limit),
                        lambda counted: self._became_backlog(first, limit, *counted),
                    )
                    return
            case _:
                first, limit = self._ranges[0]
        picked = await self._cutter.pick(priority, first, limit, rows_max)
        await self._writer.do(
            lambda db: self._cutter.cut(db, self._seq + 1, priority, first, limit, rows_max, picked),
            lambda taken: self._was_cut(priority, first, limit, taken),
        )

    def _became_backlog(self, first: int, last: int, rows: int, stored_bytes: int) -> None:
        if not self.selection.is_whole:  # the segments hold rows for others too
            live = self._uncut[Priority.LIVE]
            rows, stored_bytes = min(rows, live.rows), min(stored_bytes, live.stored_bytes)
        self._ranges.append((first, last))
        self._cut = last
        self._uncut[Priority.LIVE].add(-rows, -stored_bytes)
        self._uncut[Priority.BACKLOG].add(rows, stored_bytes)

    def _was_cut(self, priority: Priority, first: int, limit: int, taken: Taken) -> None:
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
            cut = Cut(self.epoch, self._seq, first, taken.last, taken.rows, taken.stored_bytes, priority)
            self._waiting[cut.identity] = cut
            self._new[priority].append(cut)

    async def sent(self, epoch: int, seqs: Sequence[int]) -> None:
        """Record that the broker took these parcels."""
        await self._set(State.SENT, epoch, seqs, lambda _: self._was_sent(epoch, seqs))

    def _was_sent(self, epoch: int, seqs: Sequence[int]) -> None:
        for seq in seqs:
            if parcel := self._waiting.get((epoch, seq)):
                parcel.sent = True

    async def again(self, epoch: int, seqs: Sequence[int]) -> None:
        """Put parcels back to new."""
        await self._set(State.NEW, epoch, seqs, lambda _: self._is_new_again(epoch, seqs))
        self._writer.changed.set()

    def _is_new_again(self, epoch: int, seqs: Sequence[int]) -> None:
        for parcel in [self._waiting[epoch, seq] for seq in seqs if (epoch, seq) in self._waiting]:
            parcel.sent = False
            if parcel not in self._new[parcel.lane]:
                self._new[parcel.lane].append(parcel)
                self._new[parcel.lane].sort(key=lambda each: (each.first, each.part))

    async def committed(
        self,
        epoch: int,
        through: int,
        missing: Sequence[tuple[int, int]] = (),
        on_their_way: Collection[int] = (),
    ) -> int:
        """Record the brain's acknowledgement and put what it misses back to new; see `edge.core.delivery.Outbox`."""
        known = [seq for known_epoch, seq in self._waiting if known_epoch == epoch and seq <= through]
        lost = [seq for seq in known if any(first <= seq <= last for first, last in missing)]
        done = await self.confirm(epoch, sorted(set(known) - set(lost)))
        # A parcel not yet given out in this run is on its way already.
        out = {parcel.identity for parcel in self._waiting.values() if parcel not in self._new[parcel.lane]}
        resend = [seq for seq in lost if (epoch, seq) in out and seq not in on_their_way]
        if resend:
            await self.again(epoch, resend)
        for first, last in missing:
            last = min(last, through)
            waiting = sum((epoch, seq) in self._waiting for seq in range(first, min(last, first + REPLAY_MAX) + 1))
            if waiting <= last - first:
                await self.recall(epoch, first, last)
        return done

    async def recall(self, epoch: int, first: int, last: int) -> int:
        """Put what was committed and is asked for again back to new; see `edge.core.delivery.Outbox`."""
        whole = last = min(last, self._seq) if epoch == self.epoch else last
        if last < first:
            return 0
        if len(self._new[Priority.BACKLOG]) >= REPLAY_MAX:
            return first
        rows = await self._database.read(
            f"SELECT {COLUMNS}, state FROM parcel WHERE consumer = ? AND epoch = ? AND seq BETWEEN ? AND ?"
            " ORDER BY seq LIMIT ?",
            (self.name, epoch, first, last, REPLAY_MAX),
        )
        found = {int(row[1]): row for row in map(tuple, rows)}
        last = max(found) if len(found) == REPLAY_MAX else last
        await self._put_back([row[:-1] for row in found.values() if row[-1] == State.COMMITTED])
        absent = holes(sorted(found), first, last)
        gone = [(epoch, *hole) for hole in absent]
        gone += [(epoch, seq, seq) for seq, row in found.items() if row[-1] == State.REPLACED]
        gone = [each for each in gone if self._said_gone.get(each) not in self._waiting]
        if gone:
            times = await self._database.read(
                "SELECT ifnull((SELECT started FROM epoch WHERE epoch = ?), 0),"
                " ifnull((SELECT min(stored) FROM segment), 0)",
                (epoch,),
            )
            ((started, oldest),) = times
            gaps = [Gap(0, started, max(started, oldest), GONE)] if absent else []
            (identity,) = await self._add([self._notice(gaps, gone=gone)])
            self._said_gone = dict.fromkeys(gone, identity)
        return last + 1 if last < whole else 0

    async def _put_back(self, rows: Sequence[Sequence[Any]]) -> None:
        """Make committed parcels new again, as backlog."""
        cuts = [Cut.read(row, replayed=True) for row in rows]
        changes = [(self.name, *cut.identity) for cut in cuts]
        await self._writer.do(
            lambda db: db.executemany(
                "UPDATE parcel SET state = 0 WHERE consumer = ? AND epoch = ? AND seq = ? AND state = 2", changes
            ),
            lambda _: self._admit(cuts),
        )

    def _admit(self, cuts: Sequence[Cut], instead_of: Cut | None = None) -> None:
        if instead_of is not None:
            self._was_confirmed(instead_of.epoch, [instead_of.seq])
        for cut in cuts:
            self._waiting[cut.identity] = cut
            self._new[cut.lane].append(cut)
            self._new[cut.lane].sort(key=lambda each: (each.first, each.part))
        self._writer.changed.set()

    async def replay(self, ts_min: int, ts_max: int, after: int = 0) -> int:
        """Put committed parcels with rows of this time back to new; see `edge.core.delivery.Outbox`."""
        ((low, high, oldest),) = await self._database.read(
            "SELECT ifnull(min(position), 0), ifnull(max(position), 0), (SELECT min(ts_min) FROM segment) FROM segment"
            " WHERE ts_max >= ? AND ts_min <= ?",
            (ts_min, ts_max),
        )
        if not after and (oldest is None or ts_min < oldest):
            await self._add([self._notice([Gap(0, ts_min, min(ts_max, oldest or ts_max), GONE)])])
        rows = await self._database.read(
            f"SELECT {COLUMNS} FROM parcel WHERE consumer = ? AND state = 2 AND last > ? AND last >= ? AND first <= ?"
            " ORDER BY last LIMIT ?",
            (self.name, after, low, high, REPLAY_MAX),
        )
        found = [tuple(row) for row in rows]
        await self._put_back(found)
        return int(found[-1][3]) if len(found) == REPLAY_MAX else 0

    async def split(self, epoch: int, seq: int) -> list[Identity]:
        """Replace a parcel by two with half of its rows each; see `edge.core.delivery.Outbox`."""
        cut = self._waiting.get((epoch, seq))
        if cut is None or cut.notice or cut.held:
            return []
        halves = halves_of(cut, [each for each in await self._contents.ends(cut) if each[1]])
        return await self._add(halves, instead_of=cut) if halves else []

    async def quarantine(self, epoch: int, seq: int, reason: str) -> int:
        """Set a parcel's rows aside and tell of them as a gap; see `edge.core.delivery.Outbox`."""
        cut = self._waiting.get((epoch, seq))
        if cut is None:
            return 0
        parcel = await self._contents.of(cut)
        rows = sum(map(rows_of, parcel.records))
        chain = (*cut.instead_of, cut.identity)
        if cut.held or not rows:  # its rows lie in quarantine already, or it has none: only its number is given back
            notice = self._notice(parcel.gaps, gone=[(epoch, seq, seq)])
            await self._add([notice], instead_of=cut, also=lambda db: quarantine.give_back(db, self.name, cut))
            return cut.rows if cut.held else 0
        times = [time for record in parcel.records for time in times_of(record)]
        entry = Quarantined(
            0, self.name, epoch, seq, self._time.now(), reason, rows, min(times), max(times), chain, hour=parcel.hour
        )
        notice = self._notice([*parcel.gaps, Gap(rows, min(times), max(times), f"set aside: {reason}")])
        notice.instead_of = chain
        data = quarantine.pack(self._source.vault, parcel.records)

        async def keep(db: aiosqlite.Connection) -> None:
            await quarantine.keep(db, entry, data)
            await self._writer.ledger.set_aside(db, self.name, parcel.hour, parcel.records)

        await self._add([notice], instead_of=cut, also=keep)
        self._quarantined = min(self._quarantined + 1, quarantine.QUARANTINE_MAX)
        return rows

    async def quarantined(self) -> list[Quarantined]:
        """Return what is set aside, oldest first."""
        return await quarantine.listed(self._database.read, self.name)

    async def retry(self, entry_ids: Collection[int] | None = None) -> list[int]:
        """Send again what is set aside, all of it or these; it stays there until it is confirmed.

        Returns the ids of what goes now: not of what is on its way already. Any task may call it.
        """
        async with self._numbering:
            trying = {parcel.held for parcel in self._waiting.values()}
            chosen = [
                entry
                for entry in await self.quarantined()
                if entry.id not in trying and (entry_ids is None or entry.id in entry_ids)
            ]
            if chosen:
                await self._number([quarantine.again(entry, self._cut) for entry in chosen])
            return [entry.id for entry in chosen]

    def _notice(self, gaps: Sequence[Gap], gone: Sequence[tuple[int, int, int]] = ()) -> Cut:
        """Return a parcel that covers nothing in the log, but tells something urgent."""
        text = json.dumps({"gaps": [astuple(gap) for gap in gaps], "gone": gone})
        return Cut(0, 0, self._cut + 1, self._cut, 0, 0, Priority.EVENT, notice=text)

    async def _add(
        self, cuts: Sequence[Cut], instead_of: Cut | None = None, also: Step | None = None
    ) -> list[Identity]:
        """Store parcels as the next ones of this epoch, in the place of another one."""
        async with self._numbering:
            return await self._number(cuts, instead_of, also)

    async def _number(
        self, cuts: Sequence[Cut], instead_of: Cut | None = None, also: Step | None = None
    ) -> list[Identity]:
        for number_, cut in enumerate(cuts, self._seq + 1):
            cut.epoch, cut.seq, cut.sent, cut.replayed = self.epoch, number_, False, False

        async def step(db: aiosqlite.Connection) -> None:
            if instead_of is not None:
                await db.execute(
                    "UPDATE parcel SET state = ? WHERE consumer = ? AND epoch = ? AND seq = ?",
                    (State.REPLACED, self.name, *instead_of.identity),
                )
            await quarantine.put_parcels(db, self.name, cuts)
            if instead_of is not None:  # what was counted as sent is not counted so again
                await db.executemany(
                    "UPDATE parcel SET handed ="
                    " (SELECT handed FROM parcel WHERE consumer = ? AND epoch = ? AND seq = ?)"
                    " WHERE consumer = ? AND epoch = ? AND seq = ?",
                    [(self.name, *instead_of.identity, self.name, *cut.identity) for cut in cuts],
                )
            if also is not None:
                await also(db)

        def then(_: object) -> None:
            self._seq += len(cuts)
            self._admit(cuts, instead_of)

        await self._writer.do(step, then)
        return [cut.identity for cut in cuts]

    async def confirm(self, epoch: int, seqs: Sequence[int]) -> int:
        """Record delivery of exactly these parcels and return how many were still open."""
        done = [seq for seq in seqs if (epoch, seq) in self._waiting]
        if done:
            held = sum(bool(self._waiting[epoch, seq].held) for seq in done)
            await self._set(State.COMMITTED, epoch, done, lambda _: self._was_confirmed(epoch, done))
            self._quarantined -= held
        return len(done)

    def _was_confirmed(self, epoch: int, seqs: Sequence[int]) -> None:
        for seq in seqs:
            parcel = self._waiting.pop((epoch, seq), None)
            if parcel is not None and parcel in self._new[parcel.lane]:
                self._new[parcel.lane].remove(parcel)

    async def _set(self, state: State, epoch: int, seqs: Sequence[int], then: Then | None = None) -> None:
        changes = [(int(state), self.name, epoch, seq) for seq in seqs]
        now, committed, corrupt = self._time.now(), state is State.COMMITTED, set[int]()
        pieces: dict[int, Sequence[Record]] = {}
        held: dict[int, tuple[int, Sequence[Record]]] = {}
        for cut in [self._waiting[epoch, seq] for seq in seqs if (epoch, seq) in self._waiting]:
            if cut.parts > 1 or cut.held or (committed and cut.corrupt is None):  # it went out before this start
                parcel = await self._contents.of(cut)
                pieces |= {cut.seq: parcel.records} if cut.parts > 1 else {}
                held |= {cut.seq: (parcel.hour, parcel.records)} if cut.held else {}
            corrupt |= cut.corrupt or set() if committed else set()
        delivered = [(self._waiting[epoch, seq].held,) for seq in held if committed]

        async def step(db: aiosqlite.Connection) -> None:
            if state is not State.NEW:
                await self._writer.ledger.progress(db, self.name, epoch, seqs, now, committed, corrupt, pieces, held)
            await db.executemany(
                "UPDATE parcel SET state = ? WHERE consumer = ? AND epoch = ? AND seq = ? AND state < 2", changes
            )
            await db.executemany("DELETE FROM quarantine WHERE id = ?", delivered)

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
            quarantined=self._quarantined,
            historical_rows=self._uncut[Priority.BACKLOG].rows
            + sum(parcel.rows for parcel in waiting if parcel.lane is Priority.BACKLOG),
        )

    async def oldest(self) -> int | None:
        """Return when the oldest of what is not committed was stored; see `edge.core.delivery.Outbox`."""
        times = [await self._first_stored(event=event) for event in (True, False)]
        return min((stored for stored in times if stored is not None), default=None)

    async def _first_stored(self, *, event: bool) -> int | None:
        sign = "=" if event else "<>"
        for first, last in sorted(self.open_ranges(event=event)):
            found = await self._database.read(
                f"SELECT stored FROM segment WHERE position BETWEEN ? AND ? AND kind {sign} {EVENT_KIND}"
                " ORDER BY position LIMIT 1",
                (first, last),
            )
            if found:
                return int(found[0][0])
        return None
