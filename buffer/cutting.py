"""Cutting: what of the log a consumer's next parcel takes. A parcel is made in the writer's transaction."""

import aiosqlite

from buffer.cuts import ROW_BYTES, Source, State, Taken
from buffer.database import Database
from buffer.records import rows_of
from buffer.schema import EVENT_KIND, number
from buffer.selection import Selection
from edge.core.data_class import DataClass
from edge.core.delivery import Priority

BACKLOG_AFTER_NS = 10 * 10**9
CUT_SEGMENTS_MAX = 2000
PICK_SEGMENTS = 64
PARCEL_BYTES_MAX = {Priority.EVENT: 128 << 10, Priority.LIVE: 512 << 10, Priority.BACKLOG: 128 << 10}
"""As they lie in the log; a message takes no more. What is live goes out in one message where it can."""


class Cutter:
    """Cuts for one consumer in one epoch. `loaded_through`: up to there the rows were counted without being read."""

    def __init__(
        self, name: str, epoch: int, database: Database, source: Source, selection: Selection, loaded_through: int
    ) -> None:
        self._name = name
        self._epoch = epoch
        self._database = database
        self._source = source
        self._selection = selection
        self.loaded_through = loaded_through

    async def is_old(self, first: int, limit: int, now: int) -> bool:
        """Tell whether the oldest live data waits for so long that it must not hold back what is new."""
        rows = await self._database.read(
            f"SELECT stored FROM segment WHERE position BETWEEN ? AND ? AND kind <> {EVENT_KIND}"
            " ORDER BY position LIMIT 1",
            (first, limit),
        )
        return bool(rows) and int(rows[0][0]) < now - BACKLOG_AFTER_NS

    async def make_backlog(self, db: aiosqlite.Connection, first: int, last: int) -> tuple[int, int]:
        """Make the data from `first` to `last` backlog; return its rows and bytes."""
        counted = await db.execute_fetchall(
            "SELECT ifnull(sum(rows), 0), ifnull(sum(bytes), 0) FROM segment"
            f" WHERE position BETWEEN ? AND ? AND kind <> {EVENT_KIND}",
            (first, last),
        )
        await db.execute("INSERT INTO backlog VALUES (?, ?, ?)", (self._name, first, last))
        await db.execute("UPDATE consumer SET cut = ? WHERE name = ?", (last, self._name))
        ((rows, stored_bytes),) = counted
        return int(rows), int(stored_bytes)

    async def _scan(self, db: aiosqlite.Connection, priority: Priority, first: int, limit: int, rows_max: int) -> Taken:
        """Return what fits from `first` on."""
        taken = Taken(first - 1)
        sign = "=" if priority is Priority.EVENT else "<>"
        data, seen = priority is not Priority.EVENT, 0
        async with db.execute(
            "SELECT position, rows, bytes, hour FROM segment"
            f" WHERE position BETWEEN ? AND ? AND kind {sign} {EVENT_KIND} ORDER BY position LIMIT ?",
            (first, limit, CUT_SEGMENTS_MAX),
        ) as cursor:
            async for position, rows, stored_bytes, hour in cursor:
                full = taken.rows + rows > rows_max or taken.stored_bytes + stored_bytes > PARCEL_BYTES_MAX[priority]
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

    async def pick(self, priority: Priority, first: int, limit: int, rows_max: int) -> Taken | None:
        """Return what fits from `first` on of what this consumer wants; the records have to be looked at for it.

        None for who wants everything: `cut` finds that by itself.
        """
        if self._selection.is_whole:
            return None
        taken = Taken(first - 1)
        event = priority is Priority.EVENT
        until = limit if event else await self._hour_end(first, limit)
        while taken.last < until and taken.rows < rows_max and taken.stored_bytes < PARCEL_BYTES_MAX[priority]:
            through = min(taken.last + PICK_SEGMENTS, until)
            for position, record in await self._source.records(taken.last + 1, through, events=event, data=not event):
                rows = rows_of(record) if record is not None else 1
                wanted = self._selection.rows(position, record) if record is not None else 1
                if taken.rows and taken.rows + wanted > rows_max:
                    taken.exhausted = False
                    return taken
                taken.last = position
                taken.rows += wanted
                taken.stored_bytes += wanted * ROW_BYTES
                taken.rows_passed += rows - wanted if position <= self.loaded_through else 0
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

    async def cut(
        self,
        db: aiosqlite.Connection,
        seq: int,
        priority: Priority,
        first: int,
        limit: int,
        rows_max: int,
        picked: Taken | None,
    ) -> Taken:
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
                    *(self._name, self._epoch, seq, first, taken.last, taken.rows, taken.stored_bytes),
                    *(State.NEW, priority is Priority.BACKLOG, priority),
                ),
            )
        match priority:
            case Priority.EVENT:
                await db.execute("UPDATE consumer SET event_cut = ? WHERE name = ?", (taken.last, self._name))
            case Priority.LIVE:
                await db.execute("UPDATE consumer SET cut = ? WHERE name = ?", (taken.last, self._name))
            case _:
                await db.execute("DELETE FROM backlog WHERE consumer = ? AND first = ?", (self._name, first))
                if not taken.exhausted:
                    await db.execute("INSERT INTO backlog VALUES (?, ?, ?)", (self._name, taken.last + 1, limit))
        return taken
