"""The one writer: collects what comes in 100 ms or 20,000 rows and commits it in one transaction."""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import aiosqlite

from buffer.classes import ClassMap
from buffer.database import Damaged, Database
from buffer.ledger import Ledger
from buffer.ledger_devices import Devices
from buffer.log_time import LogTime
from buffer.records import in_segments, kind_of, rows_of, times_of
from buffer.salvage import is_damage
from buffer.vault import Vault
from edge.core.batch import Batch, Event, Lane, Record
from edge.core.catalogue import Catalogue, Tag
from edge.core.channel import Channel
from edge.core.clock import Clock
from edge.core.errors import Closed, LogError
from edge.core.language import say
from edge.core.ledger import HOUR_NS, Tally

GROUP_ROWS_MAX = 100_000
RETRY_FIRST_S = 0.2
RETRY_MAX_S = 10.0
CLOSING_RETRIES_MAX = 5
REPAIRS_MAX = 3

log = logging.getLogger("yulink.log")

Step: TypeAlias = Callable[[aiosqlite.Connection], Awaitable[Any]]
"""Statements inside the writer's transaction. May run again after a failure, so it must not change memory."""

Then: TypeAlias = Callable[[Any], None]
"""Takes a step's result into memory, at once after its commit: between two groups memory and file say the same."""


@dataclass(slots=True)
class Entry:
    """What waits for the writer: records, a tally, a step, or work with transactions of its own; and who awaits it.

    Several records, and a step with them, are in one transaction.
    """

    records: Sequence[Record] = ()
    tally: Tally | None = None
    step: Step | None = None
    then: Then | None = None
    work: Step | None = None
    done: "asyncio.Future[Any] | None" = None
    patient: bool = False

    def __len__(self) -> int:
        return sum(map(len, self.records)) or 1

    @property
    def urgent(self) -> bool:
        """Events and awaited changes do not wait for company, if they are not patient."""
        if any(isinstance(record, Event) for record in self.records):
            return True
        return (self.step is not None and not self.patient) or self.work is not None


@dataclass(slots=True)
class WriterCounters:
    """What the writer has done since it was opened."""

    rows_durable: int = 0
    payload_bytes: int = 0
    transactions: int = 0
    commit_ms: float = 0.0
    last_error: str = ""
    writable: bool = True


class Writer:
    """Owns the writing connection. `run` is its one task; `close` lets it finish what waits."""

    def __init__(
        self,
        database: Database,
        catalogue: Catalogue,
        classes: ClassMap,
        vault: Vault,
        clock: Clock,
        time: LogTime,
        position: int,
        commit_interval_s: float,
        commit_rows: int,
        rows_waiting_max: int,
    ) -> None:
        self._database = database
        self._catalogue = catalogue
        self._classes = classes
        self._vault = vault
        self.ledger = Ledger(Devices(catalogue, vault))
        self._clock = clock
        self._time = time
        self._commit_interval_s = commit_interval_s
        self._commit_rows = commit_rows
        self._tags_saved = self._tags_sent = catalogue.last_id
        self._closing = asyncio.Event()
        self.position = position
        self.channel: Channel[Entry] = Channel(rows_waiting_max)
        self.counters = WriterCounters()
        self.changed = asyncio.Event()
        """Set when there may be something new to send; whoever waits for that clears it."""
        self.on_stored: list[Callable[[Sequence[Record], Sequence[bytes]], None]] = []
        """Called after each transaction with the records it stored and their bytes."""
        self.repair: Callable[[], Awaitable[None]] | None = None
        """Called outside a transaction when the file is damaged; puts a sound one in its place."""
        self.before_storing: Callable[[aiosqlite.Connection, int, int], Awaitable[None]] | None = None
        """Called outside a transaction with the bytes and segments about to be stored: makes room for them."""

    @property
    def _db(self) -> aiosqlite.Connection:
        return self._database.db

    @property
    def tags_saved(self) -> int:
        """The highest id of a tag that is on file."""
        return self._tags_saved

    async def send(self, entry: Entry) -> None:
        """Hand an entry in, waiting while too many rows wait.

        Raises:
            LogError: the log is closed.
        """
        try:
            await self.channel.send(entry)
        except Closed as error:
            raise LogError(say("the log is closed")) from error
        if entry.urgent:
            self.channel.hurry()

    async def do(
        self, step: Step, then: Then | None = None, records: Sequence[Record] = (), *, patient: bool = False
    ) -> Any:
        """Run a step, and store records with it, in one transaction; return its result once that is durable.

        `then` is called with it first. A patient one waits for other records to share its transaction.
        """
        return await self._await(Entry(records, step=step, then=then, patient=patient))

    async def alone(self, work: Step) -> Any:
        """Run work that has transactions of its own, and return its result. It may run again after a failure."""
        return await self._await(Entry(work=work))

    async def _await(self, entry: Entry) -> Any:
        entry.done = asyncio.get_running_loop().create_future()
        await self.send(entry)
        return await entry.done

    async def heal(self, generation: int) -> None:
        """Return when the file that was found damaged in this generation is replaced."""

        async def damaged(db: aiosqlite.Connection) -> None:
            if self._database.generation == generation:
                raise Damaged

        await self.alone(damaged)

    def close(self) -> None:
        """Take nothing more in; `run` returns when what waits is durable."""
        self._closing.set()
        self.channel.close()

    async def run(self) -> None:
        """Commit group after group until closed.

        Raises:
            LogError: while closing, the disk still refused after several tries; rows in memory are lost.
        """
        while True:
            try:
                group = await self._collect()
            except Closed:
                return
            results = await self._commit(group)
            self.changed.set()
            for entry, result in zip(group, results, strict=True):
                if entry.done is not None and not entry.done.done():
                    entry.done.set_result(result)

    async def _collect(self) -> list[Entry]:
        """Return what came together: the writer sleeps through it, however many entries that are."""
        group = [await self.channel.receive()]
        if not group[0].urgent:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._commit_interval_s):
                    await self.channel.wait_rows(self._commit_rows - len(group[0]))
        rows = len(group[0])
        while rows < GROUP_ROWS_MAX and (entry := self.channel.receive_nowait()) is not None:
            group.append(entry)
            rows += len(entry)
        return group

    async def _commit(self, group: Sequence[Entry]) -> list[Any]:
        records = join([record for entry in group for record in entry.records], self._classes)
        bodies = [self._vault.write(position, record) for position, record in enumerate(records, self.position + 1)]
        wait_s, tries = RETRY_FIRST_S, 0
        while True:
            began = self._clock.monotonic()
            try:
                if self._database.is_detached():
                    await self._database.reattach()
                    log.error(say("the log's file was removed or replaced; it was written again, nothing is lost"))
                done = [await entry.work(self._db) if entry.work else None for entry in group]
                if records and self.before_storing is not None:
                    await self.before_storing(self._db, sum(map(len, bodies)), len(bodies))
                results = await self._transaction(group, records, bodies)
            except (sqlite3.Error, OSError) as error:
                tries += 1
                if is_damage(error) and self.repair is not None and tries <= REPAIRS_MAX:
                    await self._roll_back()
                    await self._repair()
                    continue
                await self._failed(error, tries, records)
                await self._pause(wait_s)
                wait_s = min(wait_s * 2, RETRY_MAX_S)
                continue
            if not self.counters.writable:
                log.warning(say("the log can be written again"))
            self.counters.writable = True
            self.counters.last_error = ""
            self.counters.transactions += 1
            self._count(records, bodies)
            self.counters.commit_ms = (self._clock.monotonic() - began) * 1e3
            self.position += len(records)
            self._tags_saved = max(self._tags_saved, self._tags_sent)
            for entry, result in zip(group, results, strict=True):
                if entry.then is not None:
                    entry.then(result)
            return [result if entry.step else one for entry, result, one in zip(group, results, done, strict=True)]

    def _count(self, records: Sequence[Record], bodies: Sequence[bytes]) -> None:
        self.counters.rows_durable += sum(map(rows_of, records))
        self.counters.payload_bytes += sum(map(len, bodies))
        for tell in self.on_stored:
            tell(records, bodies)

    async def _repair(self) -> None:
        assert self.repair is not None
        try:
            await self.repair()
        except (sqlite3.Error, OSError) as error:
            await self._failed(error, 1, ())
            await asyncio.sleep(RETRY_FIRST_S)

    async def _pause(self, wait_s: float) -> None:
        """Wait before the next try; closing cuts it short."""
        if self._closing.is_set():
            await asyncio.sleep(RETRY_FIRST_S)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._closing.wait()

    async def _roll_back(self) -> None:
        try:
            if self._db.in_transaction:
                await self._db.rollback()
        except (sqlite3.Error, ValueError) as error:
            log.error(say("the log cannot be rolled back: {error}", error=error))

    async def _failed(self, error: sqlite3.Error | OSError, tries: int, records: Sequence[Record]) -> None:
        self.counters.last_error = str(error)
        if self.counters.writable:
            self.counters.writable = False
            log.error(say("the log cannot be written: {error}; devices are held back until it can", error=error))
        await self._roll_back()
        if self._closing.is_set() and tries >= CLOSING_RETRIES_MAX:
            rows = self.channel.statistics().rows + sum(map(rows_of, records))
            raise LogError(
                say("stopping while the log cannot be written: {rows} waiting rows are lost", rows=rows),
                hint=say("free space on the disk"),
            ) from error

    async def _transaction(
        self, group: Sequence[Entry], records: Sequence[Record], bodies: Sequence[bytes]
    ) -> list[Any]:
        db, now = self._db, self._time.now()
        clock_now = self._clock.now()
        devices = [self.ledger.devices.of(record) for record in records]
        await db.execute("BEGIN IMMEDIATE")
        if records or any(entry.tally for entry in group):
            self._tags_sent = self._catalogue.last_id
            if tags := self._catalogue.since(self._tags_saved):
                await db.executemany(
                    "INSERT INTO tag VALUES (?, ?, ?, ?, ?)",
                    [tag_row(tag, self._vault) for tag in tags],
                )
        if records:
            first = self.position + 1
            await db.executemany(
                "INSERT INTO segment VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?)",
                [
                    (
                        first + n,
                        kind_of(record),
                        rows_of(record),
                        len(body),
                        *times_of(record),
                        now,
                        self._classes.of(record),
                        clock_now // HOUR_NS,
                        devices[n],
                    )
                    for n, (record, body) in enumerate(zip(records, bodies, strict=True))
                ],
            )
            await db.executemany("INSERT INTO body VALUES (?, ?)", list(enumerate(bodies, first)))
        put = [(record, entry.tally) for entry in group for record in entry.records or (None,)]
        await self.ledger.store(db, clock_now, put, self.position + 1, records, devices)
        results = [await entry.step(db) if entry.step else None for entry in group]
        await db.execute("COMMIT")
        return results


def tag_row(tag: Tag, vault: Vault) -> tuple[object, ...]:
    """Return a tag as it stands in the table."""
    device, name, unit = vault.hide(tag.id, tag.device, tag.name, tag.unit)
    return tag.id, device, name, str(tag.kind), unit


def join(records: Sequence[Record], classes: ClassMap) -> list[Record]:
    """Join the batches of each lane and class, in order, into as few segments as the row limit allows."""
    joined: list[Record] = []
    for lane in Lane:
        batches = [record for record in records if isinstance(record, Batch) and record.lane is lane]
        if any(map(len, batches)):
            for whole in classes.split(Batch.concat(batches)):
                joined += in_segments(whole)
    joined += [record for record in records if not isinstance(record, Batch)]
    return joined
