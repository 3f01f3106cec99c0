"""The ledger's tables: counted in the very transactions that store, confirm or drop the rows; see `FORMAT.md`."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from typing import Protocol, TypeAlias

import aiosqlite

from buffer.ledger_devices import Devices, counted
from buffer.ledger_lines import lines
from edge.core.batch import Batch, Record, Waveform
from edge.core.delivery import Priority
from edge.core.errors import CorruptSegment
from edge.core.ledger import COUNTS, HOUR_NS, LATE_NS, Line, Tally
from edge.core.quality import bad_mask, is_bad

HOURS_MAX = 400 * 24
COUNTED = 2  # `handed` of a parcel: 1 counted as sent, 2 as committed, which a replay does not do again
BEFORE_UPLINK, DAMAGED, SET_ASIDE = "pruned before this uplink", "log damaged", "set aside"


class Picks(Protocol):
    """What a filter picks; `buffer.selection.Patterns`."""

    def of(self, record: Record) -> Record | None:
        """Return what is wanted of a record, the record itself when that is all of it."""


class Wanted(Protocol):
    """What a consumer wants of the log; `buffer.selection.Selection`."""

    is_whole: bool

    def at(self, position: int) -> Picks:
        """Return the filter that holds at a position."""


Key: TypeAlias = tuple[int, int]
"""Hour and device of a line; on file a device is a number, so that names lie in one place each, sealed if need be."""

TABLES = """
CREATE TABLE ledger (hour INTEGER NOT NULL, device INTEGER NOT NULL, revision INTEGER NOT NULL, due INTEGER NOT NULL,
    read INTEGER NOT NULL, bad INTEGER NOT NULL, filtered INTEGER NOT NULL, stored INTEGER NOT NULL,
    watched_ms INTEGER NOT NULL, connected_ms INTEGER NOT NULL, told INTEGER NOT NULL DEFAULT 0,
    told_at INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (hour, device)) WITHOUT ROWID;
CREATE TABLE ledger_way (hour INTEGER NOT NULL, device INTEGER NOT NULL, consumer TEXT NOT NULL, sent INTEGER NOT NULL,
    committed INTEGER NOT NULL, late INTEGER NOT NULL, withheld INTEGER NOT NULL,
    PRIMARY KEY (hour, device, consumer)) WITHOUT ROWID;
CREATE TABLE ledger_wanted (consumer TEXT NOT NULL, position INTEGER NOT NULL, devices BLOB NOT NULL,
    PRIMARY KEY (consumer, position)) WITHOUT ROWID;
CREATE INDEX ledger_wanted_position ON ledger_wanted (position);
CREATE TRIGGER ledger_wanted_gone AFTER DELETE ON segment
    BEGIN DELETE FROM ledger_wanted WHERE position = OLD.position; END;
CREATE TABLE ledger_drop (hour INTEGER NOT NULL, device INTEGER NOT NULL, consumer TEXT NOT NULL, reason TEXT NOT NULL,
    rows INTEGER NOT NULL, PRIMARY KEY (hour, device, consumer, reason)) WITHOUT ROWID;
CREATE TABLE ledger_device (number INTEGER PRIMARY KEY, name TEXT NOT NULL);
"""

FIRST = """
CREATE TABLE ledger_first (device INTEGER PRIMARY KEY, hour INTEGER NOT NULL, before_ms INTEGER NOT NULL);
"""


_COLUMNS = ", ".join(COUNTS)
_ADDED = ", ".join(f"{name} = {name} + excluded.{name}" for name in COUNTS)


class Ledger:
    """Counts by device and hour. Its methods that take `db` are steps of the writer's transactions."""

    def __init__(self, devices: Devices) -> None:
        self.devices = devices
        self._consumers: tuple[str, ...] = ()
        self._filters: dict[str, Wanted] = {}
        self._begun = set[int]()
        self.hours: set[int] = set()
        """Hours with a line that may have changed since it was told."""

    async def begin(
        self,
        db: aiosqlite.Connection,
        consumers: Mapping[str, Wanted],
        read: Callable[[int, bytes], Record],
        *,
        damaged: bool = False,
    ) -> None:
        """Take up the consumers of this run; count for those that are new, or were away, what the log forgot.

        After damage, for all of them, what it lost. `read` gives the record of a position's body.
        """
        await self.devices.load(db.execute_fetchall)
        self._begun.clear()
        self._consumers = tuple(consumers)
        self._filters = {name: wanted for name, wanted in consumers.items() if not wanted.is_whole}
        # A filter may change for all of the log as long as nothing was promised under the old one.
        behind = await db.execute_fetchall(
            "SELECT name FROM consumer WHERE away = 1 OR cut + event_cut = 0"
            " AND name IN (SELECT consumer FROM ledger_wanted UNION SELECT value FROM json_each(?))",
            (json.dumps(list(self._filters)),),
        )
        await db.execute("BEGIN IMMEDIATE")
        for (name,) in behind:
            if name in consumers:
                await self._catch_up(db, str(name), read, BEFORE_UPLINK)
        for name in consumers if damaged else ():
            await self._catch_up(db, name, read, DAMAGED)
        await db.execute("UPDATE consumer SET away = 1")
        await db.executemany("UPDATE consumer SET away = 0 WHERE name = ?", [(name,) for name in consumers])
        await db.execute("COMMIT")
        self.hours = {
            int(row[0]) for row in await db.execute_fetchall("SELECT DISTINCT hour FROM ledger WHERE revision > told")
        }

    # What the writer's transactions do.

    async def store(
        self,
        db: aiosqlite.Connection,
        now: int,
        put: Sequence[tuple[Record | None, Tally | None]],
        first: int,
        records: Sequence[Record],
        devices: Sequence[bytes | None],
    ) -> None:
        """Count what a transaction stores: records from the position `first` on, and what was `put` for them.

        They are counted in the hour of `now`, in nanoseconds since 1970 UTC.
        """
        hour = now // HOUR_NS
        tallies: dict[int, Tally] = {}
        stored: Counter[int] = Counter()
        for record, tally in put:
            told = [(self.devices.number(tally.device), tally)] if tally is not None else self._untallied(record)
            for number, each in told:
                tallies.setdefault(number, Tally(each.device)).add(each)
        if named := self.devices.hidden(tallies):
            await db.executemany("INSERT OR IGNORE INTO ledger_device VALUES (?, ?)", named)
        for blob in devices:
            stored.update(dict(counted(blob or b"")))
        rows = [
            (hour, number, each.due, each.read, each.bad, each.filtered, stored[number], each.watched_ms,
             each.connected_ms)
            for number, each in tallies.items()
        ]  # fmt: skip
        for number, each in tallies.items():
            if number not in self._begun:
                await self._begin_device(db, number, hour, now % HOUR_NS // 10**6 - each.watched_ms)
        if rows:
            self.hours.add(hour)
            await db.executemany(
                f"INSERT INTO ledger (hour, device, {_COLUMNS}, revision) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1)"
                f" ON CONFLICT DO UPDATE SET revision = revision + 1, {_ADDED}",
                rows,
            )
        for consumer in self._filters:
            for position, (stored_record, blob) in enumerate(zip(records, devices, strict=True), first):
                if blob:
                    await self._withhold(db, consumer, position, hour, stored_record, blob)

    async def _begin_device(self, db: aiosqlite.Connection, number: int, hour: int, before_ms: int) -> None:
        """Keep how much of its first hour was over when a device came, unless that is on file already."""
        if await db.execute_fetchall("SELECT 1 FROM ledger_first WHERE device = ?", (number,)):
            self._begun.add(number)  # from now on nobody asks: this transaction did not write it, so it stays
        else:
            await db.execute("INSERT INTO ledger_first VALUES (?, ?, ?)", (number, hour, max(before_ms, 0)))

    def _untallied(self, record: Record | None) -> Iterable[tuple[int, Tally]]:
        """What was put without a tally counts as due and read in its own place, so that the sums close for it too."""
        if isinstance(record, Waveform):
            ((device, rows),) = counted(self.devices.of(record) or b"")
            yield device, Tally("", due=rows, read=rows, bad=is_bad(record.quality))
        elif isinstance(record, Batch):
            bad = record.take(bad_mask(record.quality))
            bad_rows = dict(counted(self.devices.of(bad) or b""))
            for device, rows in counted(self.devices.of(record) or b""):
                yield device, Tally("", due=rows, read=rows, bad=bad_rows.get(device, 0))

    async def progress(
        self,
        db: aiosqlite.Connection,
        consumer: str,
        epoch: int,
        seqs: Sequence[int],
        now: int,
        committed: bool,
        corrupt: Set[int],
        pieces: Mapping[int, Sequence[Record]],
        held: Mapping[int, tuple[int, Sequence[Record]]],
    ) -> None:
        """Count parcels of data as sent or as committed, each the first time; before their state is changed.

        `pieces` are the records of those that hold a part of a segment; `held`, hour and records of those from the
        quarantine: committed, they are set aside no more. Rows at the positions `corrupt` went out as a gap: they are
        dropped when the rest is committed.
        """
        ways: dict[Key, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        lost: dict[Key, int] = Counter()
        back: dict[Key, int] = Counter()
        for seq in seqs:
            found = await db.execute_fetchall(
                "SELECT first, last, handed FROM parcel"
                " WHERE consumer = ? AND epoch = ? AND seq = ? AND state < 2 AND priority <> ?",
                (consumer, epoch, seq, int(Priority.EVENT)),
            )
            for first, last, handed in found:
                if handed >= COUNTED or (handed and not committed):
                    continue
                for (hour, device), rows in self._of_hour(*held.get(seq, (0, ()))).items():
                    way = ways[hour, device]
                    way[0] += 0 if handed else rows
                    if committed:  # nobody waits for them for less than a minute
                        way[1], way[2] = way[1] + rows, way[2] + rows
                        back[hour, device] -= rows
                for position, hour, stored, devices in await self._segments(db, consumer, first, last):
                    if seq in pieces:
                        devices = b"".join(self.devices.of(piece) or b"" for piece in pieces[seq])
                    for device, rows in counted(devices):
                        way = ways[hour, device]
                        way[0] += 0 if handed else rows
                        if committed and position in corrupt:
                            lost[hour, device] += rows
                        elif committed:
                            way[1] += rows
                            way[2] += rows if now - stored > LATE_NS else 0
        marks = [(COUNTED if committed else 1, consumer, epoch, seq) for seq in seqs]
        await db.executemany(
            "UPDATE parcel SET handed = max(handed, ?) WHERE consumer = ? AND epoch = ? AND seq = ?", marks
        )
        await self._add_ways(db, consumer, ways)
        await self._add_dropped(db, consumer, "corrupt segment", lost)
        await self._add_dropped(db, consumer, SET_ASIDE, back)

    async def set_aside(self, db: aiosqlite.Connection, consumer: str, hour: int, records: Sequence[Record]) -> None:
        """Count rows of an hour that cannot pass."""
        await self._add_dropped(db, consumer, SET_ASIDE, self._of_hour(hour, records))

    def _of_hour(self, hour: int, records: Sequence[Record]) -> dict[Key, int]:
        """Return the rows of each device, by the hour in which they were stored; none when that is unknown (0)."""
        found: dict[Key, int] = Counter()
        for record in records if hour else ():
            for device, rows in counted(self.devices.of(record) or b""):
                found[hour, device] += rows
        return found

    async def drop(self, db: aiosqlite.Connection, positions: Sequence[int], why: str) -> None:
        """Count segments that are about to be deleted, for every consumer that has not committed them."""
        if not positions:
            return
        first, last = min(positions), max(positions)
        gone = frozenset(positions)
        for consumer in self._consumers:
            delivered = await self._delivered(db, consumer, first, last)
            lost: dict[Key, int] = Counter()
            for position, hour, _, devices in await self._segments(db, consumer, first, last):
                if position in gone and not any(begin <= position <= end for begin, end in delivered):
                    for device, rows in counted(devices):
                        lost[hour, device] += rows
            await self._add_dropped(db, consumer, why, lost)

    async def lose(self, db: aiosqlite.Connection, position: int, hour: int, rows: Batch, why: str) -> None:
        """Count rows that are taken out of segments around a position, for every consumer that has not committed it."""
        if not hour:
            return
        for consumer in self._consumers:
            if not await self._delivered(db, consumer, position, position):
                filtered = self._filters[consumer].at(position).of(rows) if consumer in self._filters else rows
                devices = self.devices.of(filtered) if filtered is not None else b""
                lost = {(hour, device): count for device, count in counted(devices or b"")}
                await self._add_dropped(db, consumer, why, lost)

    async def keep_wanted(self, db: aiosqlite.Connection, position: int, record: Record) -> None:
        """Keep with a segment that was written anew what each filter leaves of it."""
        for consumer, filters in self._filters.items():
            if (wanted := filters.at(position).of(record)) is not record:
                devices = self.devices.of(wanted) if wanted is not None else b""
                await db.execute("INSERT OR REPLACE INTO ledger_wanted VALUES (?, ?, ?)", (consumer, position, devices))

    async def _delivered(self, db: aiosqlite.Connection, consumer: str, first: int, last: int) -> list[tuple[int, int]]:
        """Return the ranges of a consumer's committed parcels of data between two positions."""
        found = await db.execute_fetchall(
            "SELECT first, last FROM parcel WHERE consumer = ? AND last >= ? AND first <= ?"
            f" AND (state = 2 OR handed = {COUNTED}) AND priority <> ?",
            (consumer, first, last, int(Priority.EVENT)),
        )
        return [(int(row[0]), int(row[1])) for row in found]

    async def _add_dropped(self, db: aiosqlite.Connection, consumer: str, why: str, lost: dict[Key, int]) -> None:
        await db.executemany(
            "INSERT INTO ledger_drop SELECT hour, device, ?, ?, ? FROM ledger WHERE hour = ? AND device = ?"
            " ON CONFLICT DO UPDATE SET rows = rows + excluded.rows",
            [(consumer, why, rows, *key) for key, rows in lost.items()],
        )
        await self._changed(db, lost)

    async def _changed(self, db: aiosqlite.Connection, keys: Iterable[Key]) -> None:
        listed = list(keys)
        self.hours.update(hour for hour, _ in listed)
        await db.executemany("UPDATE ledger SET revision = revision + 1 WHERE hour = ? AND device = ?", listed)

    async def _catch_up(
        self, db: aiosqlite.Connection, consumer: str, read: Callable[[int, bytes], Record], why: str
    ) -> None:
        untouched = "consumer = ?1 AND 0 = (SELECT cut + event_cut FROM consumer WHERE name = ?1)"
        await db.execute(f"DELETE FROM ledger_wanted WHERE {untouched}", (consumer,))
        await db.execute(f"UPDATE ledger_way SET withheld = 0 WHERE {untouched}", (consumer,))
        if consumer in self._filters:
            listed = await db.execute_fetchall(
                "SELECT position, hour, devices, data FROM segment JOIN body USING (position)"
                " WHERE devices IS NOT NULL AND position NOT IN"
                " (SELECT position FROM ledger_wanted WHERE consumer = ?)",
                (consumer,),
            )
            for position, hour, devices, body in listed:
                with suppress(CorruptSegment):  # nobody knows whose it is: it counts as wanted
                    await self._withhold(db, consumer, int(position), int(hour), read(int(position), body), devices)
        held: dict[Key, int] = Counter()
        delivered = await self._delivered(db, consumer, 0, 2**62)
        for position, hour, _, devices in await self._segments(db, consumer, 0, 2**62):
            if not any(first <= position <= last for first, last in delivered):
                for device, rows in counted(devices):
                    held[hour, device] += rows
        lost = {
            key: rows
            for line in await lines(db.execute_fetchall, self.devices, [consumer], 0, 2**62)
            if (rows := line.waiting(consumer) - held.get(key := (line.hour, self.devices.number(line.device)), 0)) > 0
        }
        await self._add_dropped(db, consumer, why, lost)

    async def _withhold(
        self, db: aiosqlite.Connection, consumer: str, position: int, hour: int, record: Record, devices: bytes
    ) -> None:
        """Count the rows of a segment that a consumer's filter leaves out, and keep with the segment what is left."""
        wanted = self._filters[consumer].at(position).of(record)
        if wanted is record:
            return
        left = self.devices.of(wanted) if wanted is not None else b""
        kept = dict(counted(left or b""))
        await db.execute("INSERT OR REPLACE INTO ledger_wanted VALUES (?, ?, ?)", (consumer, position, left))
        out = {(hour, device): rows - kept.get(device, 0) for device, rows in counted(devices)}
        await self._add_ways(db, consumer, {key: [0, 0, 0, rows] for key, rows in out.items() if rows})

    async def _segments(
        self, db: aiosqlite.Connection, consumer: str, first: int, last: int
    ) -> list[tuple[int, int, int, bytes]]:
        """Return (position, hour, stored, devices) of the data between two positions: what a consumer wants of it."""
        listed = await db.execute_fetchall(
            "SELECT s.position, s.hour, s.stored, ifnull(w.devices, s.devices) FROM segment s LEFT JOIN ledger_wanted w"
            " ON w.consumer = ? AND w.position = s.position"
            " WHERE s.position BETWEEN ? AND ? AND s.devices IS NOT NULL",
            (consumer, first, last),
        )
        return [(int(position), int(hour), int(stored), bytes(devices)) for position, hour, stored, devices in listed]

    async def _add_ways(self, db: aiosqlite.Connection, consumer: str, ways: Mapping[Key, Sequence[int]]) -> None:
        await db.executemany(
            "INSERT INTO ledger_way SELECT hour, device, ?, ?, ?, ?, ? FROM ledger WHERE hour = ? AND device = ?"
            " ON CONFLICT DO UPDATE SET sent = sent + excluded.sent, committed = committed + excluded.committed,"
            " late = late + excluded.late, withheld = withheld + excluded.withheld",
            [(consumer, *way, *key) for key, way in ways.items()],
        )
        await self._changed(db, ways)

    async def mark_told(self, db: aiosqlite.Connection, lines: Sequence[Line], now: int) -> None:
        """Remember which revisions were told; in the transaction that stores the statement."""
        await db.executemany(
            "UPDATE ledger SET told = ?, told_at = ? WHERE hour = ? AND device = ?",
            [(line.revision, now, line.hour, self.devices.number(line.device)) for line in lines],
        )

    async def prune(self, db: aiosqlite.Connection) -> None:
        """Keep the last `HOURS_MAX` hours that have lines: a clock that jumped ahead deletes nothing."""
        kept = "SELECT DISTINCT hour FROM ledger ORDER BY hour DESC LIMIT 1 OFFSET ?"
        for (oldest,) in await db.execute_fetchall(kept, (HOURS_MAX,)):
            for table in ("ledger", "ledger_way", "ledger_drop"):
                await db.execute(f"DELETE FROM {table} WHERE hour <= ?", (oldest,))
