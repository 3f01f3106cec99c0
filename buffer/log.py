"""The log: everything that was read, durable, in order; and the positions of those who consume it."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiosqlite

from buffer.classes import ClassMap
from buffer.log_time import LogTime
from buffer.outbox import ParcelOutbox
from buffer.retention import Retention
from buffer.room import Limits, file_bytes
from buffer.schema import EVENT_KIND, hold, number, open_reader, open_writer
from buffer.writer import Entry, Writer, rows_of
from edge.core.batch import Record
from edge.core.catalogue import Catalogue, Tag, ValueKind
from edge.core.clock import Clock
from edge.core.codec import decode
from edge.core.errors import CorruptSegment

PRUNE_EVERY_S = 60.0
READ_ROWS_MAX = 100_000
READ_SEGMENTS_MAX = 1000
EPOCH_BITS = 53  # what a JSON number holds exactly in every language


@dataclass(frozen=True, slots=True)
class LogStatistics:
    """A snapshot. Totals count since the log was opened; rows dropped and thinned include the gaps still on file."""

    rows_put_total: int
    rows_durable_total: int
    rows_waiting: int
    rows_dropped_total: int
    rows_thinned_total: int
    segments_corrupt_total: int
    payload_bytes_total: int
    transactions_total: int
    commit_ms_last: float
    disk_bytes: int
    disk_bytes_max: int
    position: int
    writable: bool
    last_error: str


class Log:
    """An open log. One process, one event loop. Get it from `open_log`.

    classes    which tag is of which data class
    retention  keeps the limits; its `on_dropped` tells what they take, inside the transaction that takes it
    """

    retention: Retention

    def __init__(
        self, path: Path, writer: Writer, reader: aiosqlite.Connection, catalogue: Catalogue, classes: ClassMap
    ) -> None:
        self.catalogue = catalogue
        self.classes = classes
        self._path = path
        self._writer = writer
        self._reader = reader
        self._outboxes: dict[str, ParcelOutbox] = {}
        self._corrupt: set[int] = set()
        self._rows_put = 0

    async def put(self, record: Record) -> None:
        """Take a record in; it is durable within the commit interval. Waits while too many rows wait.

        Cancelled while waiting, the record was not taken. Raises LogError when the log is closed.
        """
        if len(record):
            await self._writer.send(Entry(record))
            self._rows_put += rows_of(record)

    async def append(self, records: Sequence[Record]) -> None:
        """Take records in and return when they are durable."""
        for record in records:
            await self.put(record)
        await self.flush()

    async def flush(self) -> None:
        """Return when everything put before is durable."""

        async def nothing(db: aiosqlite.Connection) -> None:
            return None

        await self._writer.do(nothing)

    async def read(self, after: int, rows_max: int = READ_ROWS_MAX) -> list[tuple[int, Record]]:
        """Return records behind the position `after` with their positions; empty only at the log's end.

        At most `rows_max` rows and `READ_SEGMENTS_MAX` segments, but at least one record: a consumer reads on
        behind the last position until nothing comes. A corrupt segment is left out and counted.
        """
        while True:
            async with self._reader.execute(
                "SELECT position, rows FROM segment WHERE position > ? ORDER BY position LIMIT ?",
                (after, READ_SEGMENTS_MAX),
            ) as cursor:
                listed = [(int(position), int(rows)) async for position, rows in cursor]
            if not listed:
                return []
            first, last, rows_total = after + 1, after, 0
            for position, rows in listed:
                if rows_total and rows_total + rows > rows_max:
                    break
                last, rows_total = position, rows_total + rows
            found = [(position, record) for position, record in await self.records(first, last) if record is not None]
            if found:
                return found
            after = last

    async def records(
        self, first: int, last: int, *, events: bool = True, data: bool = True
    ) -> list[tuple[int, Record | None]]:
        """Return what lies at the positions `first` to `last`, events or data or both; None for a corrupt segment."""
        kind = "" if events and data else f"AND kind {'=' if events else '<>'} {EVENT_KIND}"
        async with self._reader.execute(
            "SELECT position, data FROM body JOIN segment USING (position)"
            f" WHERE position BETWEEN ? AND ? {kind} ORDER BY position",
            (first, last),
        ) as cursor:
            stored = [(int(position), bytes(body)) async for position, body in cursor]
        found: list[tuple[int, Record | None]] = []
        for position, body in stored:
            try:
                found.append((position, decode(body)))
            except CorruptSegment:
                self._corrupt.add(position)
                found.append((position, None))
        return found

    def outbox(self, name: str = "brain") -> ParcelOutbox:
        """Return the outbox of a consumer that `open_log` was told of."""
        return self._outboxes[name]

    async def prune(self) -> None:
        """Delete what every consumer has committed and is too old, and keep the byte limit; see `FORMAT.md`."""
        await self._writer.alone(self.retention.prune)

    def statistics(self) -> LogStatistics:
        """Return a snapshot."""
        counters, channel = self._writer.counters, self._writer.channel.statistics()
        return LogStatistics(
            rows_put_total=self._rows_put,
            rows_durable_total=counters.rows_durable,
            rows_waiting=channel.rows,
            rows_dropped_total=self.retention.rows_dropped,
            rows_thinned_total=self.retention.rows_thinned,
            segments_corrupt_total=len(self._corrupt),
            payload_bytes_total=counters.payload_bytes,
            transactions_total=counters.transactions,
            commit_ms_last=counters.commit_ms,
            disk_bytes=file_bytes(self._path),
            disk_bytes_max=int(self.retention.limits.bytes_max),
            position=self._writer.position,
            writable=counters.writable,
            last_error=counters.last_error,
        )


@asynccontextmanager
async def open_log(
    path: Path,
    clock: Clock,
    *,
    consumers: Sequence[str] | Mapping[str, Sequence[str]] = ("brain",),
    commit_interval_s: float = 0.1,
    commit_rows: int = 512,
    rows_waiting_max: int = 200_000,
    keep_s: float = 7 * 86400,
    bytes_max: float = 4e9,
    free_min: float = 0.0,
    first_tag_id: int = 1,
) -> AsyncIterator[Log]:
    """Open the log, creating it where there is none. Leaving the block makes everything put durable.

    Args:
        consumers: names of those whose confirmation the log waits for, if need be each with the patterns of
            `device.tag` that alone it wants; changed ones hold for what is read from then on. A new consumer begins
            where the log begins; one that is not named this time keeps its place, but nothing is held back for it.
        commit_interval_s: a record waits at most this long for its transaction.
        commit_rows: … or until so many rows are together.
        rows_waiting_max: rows in memory above which `put` waits.
        keep_s: how long committed data stays for queries and replays.
        bytes_max: the database is kept below this; protected classes may take a tenth more.
        free_min: the database does not grow while less than this is free on the disk; protected classes leave half.
        first_tag_id: the least id that a new tag gets.

    Raises:
        LogError: the file cannot be used, or another process has it.
    """
    async with AsyncExitStack() as closing:
        closing.enter_context(hold(path))
        db = await closing.enter_async_context(open_writer(path))
        catalogue = await _load_catalogue(db, first_tag_id)
        classes = ClassMap(catalogue)
        time = LogTime(clock, await number(db, "SELECT max(stored) FROM segment"))
        position = max(
            await number(db, "SELECT max(position) FROM segment"),
            await number(db, "SELECT max(last) FROM parcel"),
            await number(db, "SELECT max(last) FROM gap"),
            await number(db, "SELECT max(max(cut, event_cut)) FROM consumer"),
            await number(db, "SELECT max(last) FROM backlog"),
        )
        only = consumers if isinstance(consumers, Mapping) else dict.fromkeys(consumers, ())
        epochs = await _begin_epochs(db, clock, list(only))
        reader = await closing.enter_async_context(open_reader(path))
        writer = Writer(db, catalogue, classes, clock, time, position, commit_interval_s, commit_rows, rows_waiting_max)
        log = Log(path, writer, reader, catalogue, classes)
        for name, patterns in only.items():
            outbox = await ParcelOutbox.load(name, epochs[name], db, writer, reader, log, time, patterns)
            writer.on_stored.append(outbox.stored)
            log._outboxes[name] = outbox
        log.retention = Retention(path, Limits(keep_s, bytes_max, free_min), time, list(log._outboxes.values()))
        log.retention.rows_dropped = await number(db, "SELECT sum(rows) FROM gap WHERE reason <> 'thinned'")
        log.retention.rows_thinned = await number(db, "SELECT sum(rows) FROM gap WHERE reason = 'thinned'")
        writer.before_storing = log.retention.before_storing
        writing = asyncio.create_task(writer.run(), name="log writer")
        pruning = asyncio.create_task(_prune_now_and_then(log, clock), name="log retention")
        try:
            yield log
        finally:
            pruning.cancel()
            await asyncio.wait([pruning])
            writer.close()
            await writing
            await db.execute("PRAGMA optimize")


async def _prune_now_and_then(log: Log, clock: Clock) -> None:
    while True:
        await clock.sleep(PRUNE_EVERY_S)
        await log.prune()


async def _load_catalogue(db: aiosqlite.Connection, first_id: int) -> Catalogue:
    async with db.execute("SELECT id, device, name, kind, unit FROM tag") as cursor:
        return Catalogue(
            [Tag(tag_id, device, name, ValueKind(kind), unit) async for tag_id, device, name, kind, unit in cursor],
            first_id,
        )


async def _begin_epochs(db: aiosqlite.Connection, clock: Clock, consumers: Sequence[str]) -> dict[str, int]:
    """Draw each consumer's epoch of this run: no two of them ever give one identity to different content."""
    epochs = {name: secrets.randbits(EPOCH_BITS - 1) + 1 for name in consumers}
    await db.execute("BEGIN IMMEDIATE")
    await db.executemany("INSERT INTO epoch VALUES (?, ?)", [(epoch, clock.now()) for epoch in epochs.values()])
    await db.executemany("INSERT OR IGNORE INTO consumer VALUES (?, 0, 0)", [(name,) for name in consumers])
    await db.execute("COMMIT")
    return epochs
