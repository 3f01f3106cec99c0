"""The log: everything that was read, durable, in order; and the positions of those who consume it."""

import asyncio
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiosqlite

from buffer import ledger_lines, recovery
from buffer.aggregates import KEEP_S, AggregateCounters, Aggregates
from buffer.change_secret import change_secret
from buffer.classes import ClassMap
from buffer.cuts import new_epoch
from buffer.database import Database
from buffer.follower import Follower
from buffer.log_time import LogTime
from buffer.outbox import ParcelOutbox
from buffer.records import rows_of
from buffer.retention import Retention
from buffer.room import Limits, file_bytes, free_bytes
from buffer.salvage import Salvaged, damaged_files, is_damage, salvage
from buffer.schema import EVENT_KIND, WAVEFORM_KIND, hold, number
from buffer.vault import Vault
from buffer.writer import Entry, Writer
from edge.core.batch import Event, Record, Waveform
from edge.core.catalogue import Catalogue, Tag, ValueKind
from edge.core.clock import Clock
from edge.core.errors import CorruptSegment, LogError
from edge.core.language import say
from edge.core.ledger import Line, Tally

PRUNE_EVERY_S = 60.0
RATE_SAMPLES = 11  # one a minute
READ_ROWS_MAX = 100_000
READ_SEGMENTS_MAX = 1000


@dataclass(frozen=True, slots=True)
class LogStatistics:
    """A snapshot. Totals count since the log was opened; rows dropped and thinned include the gaps still on file.

    `outage_s`: so long undelivered data finds room at the rate of the last ten minutes; None before there is a rate.
    """

    rows_put_total: int
    rows_durable_total: int
    rows_waiting: int
    rows_dropped_total: int
    rows_thinned_total: int
    segments_corrupt_total: int
    damaged_total: int
    damaged_files: tuple[str, ...]
    payload_bytes_total: int
    transactions_total: int
    commit_ms_last: float
    disk_bytes: int
    disk_bytes_max: int
    disk_free_bytes: int
    disk_free_min: int
    aggregate_bytes: int
    aggregates_forgotten_total: int
    aggregates_corrupt_total: int
    outage_s: float | None
    position: int
    writable: bool
    last_error: str


class Log:
    """An open log. One process, one event loop. Get it from `open_log`.

    classes    which tag is of which data class
    aggregates what became of the figures kept for months
    retention  keeps the limits; its `on_dropped` tells what they take, inside the transaction that takes it
    """

    retention: Retention
    aggregates: AggregateCounters

    def __init__(
        self, database: Database, writer: Writer, vault: Vault, catalogue: Catalogue, classes: ClassMap, clock: Clock
    ) -> None:
        self.catalogue = catalogue
        self.classes = classes
        self._database = database
        self._writer = writer
        self.vault = vault
        self._clock = clock
        self._damaged_total = 0
        self._rates: deque[tuple[float, int]] = deque(maxlen=RATE_SAMPLES)
        self._outboxes: dict[str, ParcelOutbox] = {}
        self.followers: dict[str, Follower] = {}
        self._corrupt: set[int] = set()
        self._rows_put = 0

    async def put(self, record: Record | None, tally: Tally | None = None) -> None:
        """Take a record in; it is durable within the commit interval. Waits while too many rows wait.

        `tally` is counted in the same transaction, and its record must be of its device; data without one counts as
        read. Cancelled while waiting, the record was not taken. Raises LogError when the log is closed.
        """
        if record is not None and not rows_of(record):
            record = None
        if record is not None or tally:
            await self._writer.send(Entry(() if record is None else (record,), tally))
            self._rows_put += 0 if record is None else rows_of(record)

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
            listed = await self._database.read(
                "SELECT position, rows FROM segment WHERE position > ? ORDER BY position LIMIT ?",
                (after, READ_SEGMENTS_MAX),
            )
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
        stored = await self._database.read(
            "SELECT position, data FROM segment LEFT JOIN body USING (position)"
            f" WHERE position BETWEEN ? AND ? {kind} ORDER BY position",
            (first, last),
        )
        found: list[tuple[int, Record | None]] = []
        for position, body in stored:
            try:
                found.append((position, self.vault.read(position, body or b"")))
            except CorruptSegment:
                self._corrupt.add(position)
                found.append((position, None))
        return found

    async def waveforms_at(self, tag: int, times: Sequence[int]) -> set[int]:
        """Return those of the times at which a waveform of the tag begins that is in the log."""
        found: set[int] = set()
        for ts in times:
            stored = await self._database.read(
                "SELECT position FROM segment WHERE kind = ? AND ts_min = ?", (WAVEFORM_KIND, ts)
            )
            for (position,) in stored:
                for _, record in await self.records(position, position):
                    if isinstance(record, Waveform) and record.tag == tag:
                        found.add(ts)
        return found

    async def _repair(self) -> None:
        """Put a sound file in the place of the damaged one. Called by the writer's task."""
        salvaged = await self._database.replace(lambda: salvage(self._database.path, self.vault))
        db, outboxes = self._database.db, list(self._outboxes.values())
        await db.execute("BEGIN IMMEDIATE")
        tags = [tag for tag in self.catalogue if tag.id <= self._writer.tags_saved]
        await recovery.restate(db, tags, self.vault, outboxes)
        for follower in self.followers.values():
            await follower.restate(db)
        lost = await recovery.record_losses(db, salvaged.lost, outboxes)
        await db.execute("COMMIT")
        await self._begin_ledger(damaged=True)
        for outbox in outboxes:
            await outbox.recount(db)
        self.retention.rows_dropped += lost
        self._damaged_total += 1
        salvaged.tell()

    async def _begin_ledger(self, *, damaged: bool) -> None:
        wanted = {name: outbox.selection for name, outbox in self._outboxes.items()}
        await self._writer.ledger.begin(self._database.db, wanted, self.vault.read, damaged=damaged)

    def outbox(self, name: str = "brain") -> ParcelOutbox:
        """Return the outbox of a consumer that `open_log` was told of."""
        return self._outboxes[name]

    async def ledger(self, first: int, last: int) -> list[Line]:
        """Return the ledger's lines of the hours `first` to `last`, both included."""
        return await ledger_lines.lines(
            self._database.read, self._writer.ledger.devices, list(self._outboxes), first, last
        )

    async def untold(self, now: int) -> list[Line]:
        """Return the ledger's lines that are to be told now; see `buffer.ledger_lines.untold`."""
        ledger = self._writer.ledger
        return await ledger_lines.untold(self._database.read, ledger.devices, ledger.hours, list(self._outboxes), now)

    async def tell(self, statement: Event, lines: Sequence[Line]) -> None:
        """Store a statement of these lines, and that they are told, in one transaction."""
        mark = partial(self._writer.ledger.mark_told, lines=lines, now=statement.ts)
        await self._writer.do(mark, records=[statement])

    async def prune(self) -> None:
        """Delete what every consumer has committed and is too old, and keep the byte limit; see `FORMAT.md`."""
        await self._writer.alone(self.retention.prune)
        self._sample_rate()

    def _sample_rate(self) -> None:
        self._rates.append((self._clock.monotonic(), self._writer.counters.payload_bytes))

    def _outage_s(self) -> float | None:
        began, stored_bytes = self._rates[0] if self._rates else (0.0, 0)
        seconds = self._clock.monotonic() - began
        per_second = (self._writer.counters.payload_bytes - stored_bytes) / seconds if seconds > 0 else 0.0
        if not per_second:
            return None
        room, factor = self.retention.headroom()
        return max(room, 0.0) / (per_second * factor)

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
            damaged_total=self._damaged_total,
            damaged_files=damaged_files(self._database.path),
            payload_bytes_total=counters.payload_bytes,
            transactions_total=counters.transactions,
            commit_ms_last=counters.commit_ms,
            disk_bytes=file_bytes(self._database.path),
            disk_bytes_max=int(self.retention.limits.bytes_max),
            disk_free_bytes=free_bytes(self._database.path),
            disk_free_min=int(self.retention.limits.free_min),
            aggregate_bytes=self.retention.aggregate_bytes,
            aggregates_forgotten_total=self.aggregates.forgotten,
            aggregates_corrupt_total=self.aggregates.corrupt,
            outage_s=self._outage_s(),
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
    followers: Sequence[str] = (),
    commit_interval_s: float = 0.1,
    commit_rows: int = 20_000,
    rows_waiting_max: int = 200_000,
    keep_s: float = 7 * 86400,
    bytes_max: float = 4e9,
    free_min: float = 0.0,
    aggregates_s: float = KEEP_S,
    first_tag_id: int = 1,
    secret: str | None = None,
    secret_before: str | None = None,
) -> AsyncIterator[Log]:
    """Open the log, creating it where there is none. Leaving the block makes everything put durable.

    Args:
        consumers: names of those whose confirmation the log waits for, if need be each with the patterns of
            `device.tag` that alone it wants; changed ones hold for what is read from then on. A new consumer begins
            where the log begins; one that is not named this time keeps its place, but nothing is held back for it.
        followers: names of those in this process that read the log and put into it what they make of it.
        commit_interval_s: a record waits at most this long for its transaction.
        commit_rows: … or until so many rows are together.
        rows_waiting_max: rows in memory above which `put` waits.
        keep_s: how long committed data stays for queries and replays.
        bytes_max: the database is kept below this; protected classes may take a tenth more.
        free_min: the database does not grow while less than this is free on the disk; protected classes leave half.
        aggregates_s: how long figures of minutes to hours are kept; those of longer intervals are for ten years.
        first_tag_id: the least id that a new tag gets.
        secret: seals what is stored from now on; needed as long as the log is sealed.
        secret_before: the one the log was sealed with until now, to change it for `secret`, or for none.

    Raises:
        LogError: the file cannot be used, another process has it, or the secret is not its own. A damaged file is
            not an error: it is moved aside, and what can be read is brought into a new one.
    """
    async with AsyncExitStack() as closing:
        closing.enter_context(hold(path))
        vault = Vault(secret, secret_before)
        database = Database(path)
        closing.push_async_callback(database.close)
        only = consumers if isinstance(consumers, Mapping) else dict.fromkeys(consumers, ())
        salvaged = await _open_sound(database, vault, list(only))
        db = database.db
        vault.learn(await _keys(db))
        await change_secret(db, vault)
        catalogue = await _load_catalogue(db, vault, first_tag_id)
        classes = ClassMap(catalogue)
        time = LogTime(clock, await number(db, "SELECT stored FROM segment ORDER BY position DESC LIMIT 1"))
        position = await _last_position(db)
        epochs = await _begin_run(db, clock, vault, list(only), position)
        writer = Writer(
            database, catalogue, classes, vault, clock, time, position, commit_interval_s, commit_rows, rows_waiting_max
        )
        log = Log(database, writer, vault, catalogue, classes, clock)
        for name, patterns in only.items():
            outbox = await ParcelOutbox.load(name, epochs[name], database, writer, log, time, patterns)
            writer.on_stored.append(outbox.stored)
            log._outboxes[name] = outbox
        aggregates = Aggregates(vault, aggregates_s)
        for name in followers:
            log.followers[name] = await Follower.load(name, database, writer, vault, time, aggregates)
        outboxes, limits = list(log._outboxes.values()), Limits(keep_s, bytes_max, free_min)
        log.retention = Retention(
            path, limits, time, outboxes, writer.ledger, aggregates, vault, list(log.followers.values())
        )
        log.aggregates = aggregates.counters
        if salvaged is not None:
            log._damaged_total += 1
            await recovery.record_losses(db, salvaged.lost, outboxes)
        log.retention.rows_dropped = await number(db, "SELECT sum(rows) FROM gap WHERE reason <> 'thinned'")
        log.retention.rows_thinned = await number(db, "SELECT sum(rows) FROM gap WHERE reason = 'thinned'")
        log.retention.payload_on_file = await number(db, "SELECT sum(bytes) FROM segment")
        await log.retention.measure(db)
        log._sample_rate()
        writer.on_stored.append(log.retention.stored)
        writer.before_storing = log.retention.before_storing
        writer.repair = log._repair
        database.heal = writer.heal
        await log._begin_ledger(damaged=salvaged is not None)
        writing = asyncio.create_task(writer.run(), name="log writer")
        pruning = asyncio.create_task(_prune_now_and_then(log, clock), name="log retention")
        try:
            yield log
        finally:
            pruning.cancel()
            await asyncio.wait([pruning])
            writer.close()
            await writing
            await database.db.execute("PRAGMA optimize")


async def _open_sound(database: Database, vault: Vault, consumers: Sequence[str]) -> Salvaged | None:
    """Open the file; a damaged one is moved aside first, and what can be read of it is brought over."""
    try:
        await database.open()
        if await recovery.check(database.db):
            return None
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
    try:
        salvaged = await database.replace(lambda: salvage(database.path, vault))
    except (sqlite3.Error, OSError) as error:
        raise LogError(
            say(
                "the log {path} is damaged, and no new one can be made of it: {error}", path=database.path, error=error
            ),
            hint=say("free space on the disk, or move the file aside; do not delete it"),
        ) from error
    salvaged.tell()
    if salvaged.unsure & {"consumer", "parcel", "backlog"}:
        await recovery.reclaim(database.db, consumers)
    return salvaged


async def _last_position(db: aiosqlite.Connection) -> int:
    return max(
        await number(db, "SELECT max(position) FROM segment"),
        await number(db, "SELECT max(last) FROM parcel"),
        await number(db, "SELECT max(last) FROM gap"),
        await number(db, "SELECT max(max(cut, event_cut)) FROM consumer"),
        await number(db, "SELECT max(last) FROM backlog"),
        await number(db, "SELECT max(position) FROM follower"),
    )


async def _keys(db: aiosqlite.Connection) -> list[Any]:
    return list(await db.execute_fetchall("SELECT id, wrapped FROM key"))


async def _prune_now_and_then(log: Log, clock: Clock) -> None:
    while True:
        await clock.sleep(PRUNE_EVERY_S)
        await log.prune()


async def _load_catalogue(db: aiosqlite.Connection, vault: Vault, first_id: int) -> Catalogue:
    tags = []
    for tag_id, device, name, kind, unit in await db.execute_fetchall("SELECT id, device, name, kind, unit FROM tag"):
        shown = vault.show(tag_id, device, name, unit)
        tags.append(Tag(tag_id, shown[0], shown[1], ValueKind(kind), shown[2]))
    return Catalogue(tags, first_id)


async def _begin_run(
    db: aiosqlite.Connection, clock: Clock, vault: Vault, consumers: Sequence[str], position: int
) -> dict[str, int]:
    """Draw this run's key, and each consumer's epoch: no two of them ever give one identity to different content."""
    epochs = {name: new_epoch() for name in consumers}
    named = [(name,) for name in consumers]
    await db.execute("BEGIN IMMEDIATE")
    await db.executemany("INSERT INTO epoch VALUES (?, ?)", [(epoch, clock.now()) for epoch in epochs.values()])
    await db.executemany("INSERT OR IGNORE INTO consumer (name, cut, event_cut) VALUES (?, 0, 0)", named)
    if vault.is_sealing:
        key_id = await number(db, "SELECT max(id) FROM key") + 1
        await db.execute("INSERT INTO key VALUES (?, ?, ?)", (key_id, position + 1, vault.new_key(key_id)))
    await db.execute("COMMIT")
    return epochs
