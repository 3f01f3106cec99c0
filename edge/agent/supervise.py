"""One device's life: connect, read, lose it, come back. The only place where a driver's failures are judged."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum

from drivers.api import Driver, Measuring
from edge.agent.ingest import Ingest
from edge.agent.tallying import Tallying
from edge.agent.unit_watch import UnitWatch
from edge.core.batch import Batch, Event, Lane, Record, Severity, Waveform
from edge.core.cancelling import check_cancelled
from edge.core.catalogue import Catalogue, ValueKind
from edge.core.clock import Clock
from edge.core.deadline import Deadline
from edge.core.errors import Disconnected, Untrusted
from edge.core.language import say
from edge.core.ledger import Tally
from edge.core.quality import StatusCode, is_bad

CONNECT_DEADLINE_S = 20.0
BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 4.0
"""So that a device is read again within five seconds of its return, with a second to connect."""
LAST_TALLY_S = 1.0

log = logging.getLogger("yulink.device")


class DeviceState(StrEnum):
    """Where a device stands. `connected` means that its last read was answered."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    LOST = "lost"


@dataclass(slots=True)
class DeviceHealth:
    """What people ask about a device. Counters since the start of the agent; times in ns since 1970 UTC.

    `counters` are the driver's own: what happened on the wire. `flags` tell how many readings broke which rule.
    """

    name: str
    protocol: str
    security: str
    state: DeviceState = DeviceState.CONNECTING
    reason: str = ""
    hint: str = ""
    since: int = 0
    last_read: int = 0
    reads: int = 0
    losses: int = 0
    values_read: int = 0
    values_bad: int = 0
    values_filtered: int = 0
    counters: Mapping[str, int] = field(default_factory=dict)
    flags: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Supervisor:
    """Runs one driver for ever.

    `put` takes what was read, and the tally that it belongs to, into the log and holds the device back while the log
    is full.
    """

    health: DeviceHealth
    driver: Driver
    ingest: Ingest
    catalogue: Catalogue
    clock: Clock
    put: Callable[[Record | None, Tally | None], Awaitable[None]]
    tallying: Tallying
    jitter: random.Random = field(default_factory=random.Random)
    _units: UnitWatch = field(init=False)
    _units_known: int = 0

    def __post_init__(self) -> None:
        self._units = UnitWatch(self.health.name, self.catalogue)

    async def run(self) -> None:
        """Read the device until cancelled. Reconnects with exponential back-off and full jitter.

        Cancelling closes the session; what was read before is with the log.
        """
        self.health.since = self.clock.now()
        failures = 0
        try:
            while True:
                reads_before = self.health.reads
                try:
                    await self._session()
                except Disconnected as error:
                    await self._lost(error)
                check_cancelled()
                if self.health.reads > reads_before:
                    failures = 0
                ceiling = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(failures, 10))
                failures += 1
                await self.clock.sleep(self.jitter.uniform(ceiling / 4, ceiling))
        finally:
            with suppress(TimeoutError):  # the log is full: it will be closed without this
                async with asyncio.timeout(LAST_TALLY_S):
                    await self.tell()

    async def tell(self) -> None:
        """Put what was counted since the last reading, as must be done now and then while none comes."""
        await self.put(None, self._tally())

    def _tally(self) -> Tally:
        return self.tallying.take(connected=self.health.state is DeviceState.CONNECTED)

    async def _session(self) -> None:
        async with AsyncExitStack() as closing:
            with self._judged():
                async with asyncio.timeout(CONNECT_DEADLINE_S):
                    session = await closing.enter_async_context(self.driver.connect())
                deadline = Deadline(self.driver.read_deadline)
                closing.callback(deadline.close)
            while True:
                with self._judged(), deadline:
                    records = await session.read()
                await self._read(records)
                check_cancelled()

    @contextmanager
    def _judged(self) -> Iterator[None]:
        """Turn whatever a driver raises into `Disconnected`: its mistake must cost its own device only."""
        try:
            yield
        except Disconnected:
            raise
        except TimeoutError as error:
            raise Disconnected(say("no answer within the deadline")) from error
        except Exception as error:
            if self.health.state is not DeviceState.LOST:
                log.exception(say("{device}: the driver failed unexpectedly", device=self.health.name))
            raise Disconnected(f"{type(error).__name__}: {error}") from error

    async def _read(self, records: Sequence[Record]) -> None:
        health = self.health
        health.reads += 1
        health.last_read = self.clock.now()
        if health.state is not DeviceState.CONNECTED:
            await self._found()
        if isinstance(self.driver, Measuring) and len(self.driver.units) != self._units_known:
            await self._look_at_units(self.driver.units)
        for record in records:
            if isinstance(record, Waveform):
                health.values_read += 1
                bad = is_bad(record.quality)
                health.values_bad += bad
                self.tallying.tally.read += 1
                self.tallying.tally.bad += bad
                await self.put(record, self._tally())
            elif isinstance(record, Event):
                await self.put(record, None)
            else:
                await self._store(record)

    async def _look_at_units(self, told: Mapping[int, str]) -> None:
        """Tell where the device gives another unit than the configuration, and doubt what comes from there."""
        self._units_known = len(told)
        for event in self._units.look(told, self.clock.now()):
            log.warning("%s", event.message)
            await self.put(event, None)
        self.ingest.doubt_units(self._units.wrong)

    async def _store(self, batch: Batch) -> None:
        tally = self.tallying.tally
        bad_before = tally.bad
        kept = self.ingest.take(batch, tally, self.clock.now())
        self.health.values_read += len(batch)
        self.health.values_filtered += len(batch) - len(kept)
        self.health.values_bad += tally.bad - bad_before
        if len(kept):
            await self.put(kept, self._tally())

    async def _found(self) -> None:
        health = self.health
        returned = health.state is DeviceState.LOST
        self._enter(DeviceState.CONNECTED)
        self._units_known = -1
        log.info(say("{device}: connected", device=health.name))
        kind, words = ("device_returned", "is back") if returned else ("device_connected", "is connected")
        await self.put(Event(self.clock.now(), health.name, kind, Severity.INFO, f"{health.name} {words}"), None)

    async def _lost(self, error: Disconnected) -> None:
        health = self.health
        if isinstance(error, Untrusted) and error.message != health.reason:
            log.error("%s", say("{device}: not trusted: {reason}", device=health.name, reason=error))
            await self.put(
                Event(
                    self.clock.now(),
                    health.name,
                    "certificate_refused",
                    Severity.HIGH,
                    error.message,
                    {"hint": error.hint},
                ),
                None,
            )
        if health.state is DeviceState.LOST:
            health.reason, health.hint = error.message, error.hint
            return
        self._enter(DeviceState.LOST, error)
        health.losses += 1
        if not isinstance(error, Untrusted):
            log.warning(say("{device}: lost: {reason}", device=health.name, reason=error))
        now = self.clock.now()
        for batch in self._all_bad(now):
            await self._store(batch)
        message = f"{health.name} is lost: {error.message}"
        await self.put(Event(now, health.name, "device_lost", Severity.MEDIUM, message, {"hint": error.hint}), None)

    def _enter(self, state: DeviceState, error: Disconnected | None = None) -> None:
        self.tallying.watch(connected=self.health.state is DeviceState.CONNECTED)
        self.health.state = state
        self.health.since = self.clock.now()
        self.health.reason = error.message if error else ""
        self.health.hint = error.hint if error else ""

    def _all_bad(self, now: int) -> list[Batch]:
        """Return a row for each tag that says: there is no value at this time."""
        tags = [self.catalogue[tag] for tag in self.driver.tag_ids]
        nothing = {Lane.FLOAT: float("nan"), Lane.INT: 0, Lane.TEXT: ""}
        batches = []
        for lane, value in nothing.items():
            ids = [tag.id for tag in tags if tag.kind is not ValueKind.WAVEFORM and tag.kind.lane is lane]
            if ids:
                batches.append(Batch.of(lane, ids, now, [value] * len(ids), StatusCode.BAD_NO_COMMUNICATION))
        return batches
