"""A scripted driver stands in for a device here: what is tested is the judgement, not a protocol."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from drivers.api import Session
from edge.agent import supervise
from edge.agent.ingest import Ingest
from edge.agent.supervise import DeviceHealth, DeviceState, Supervisor
from edge.agent.tallying import Tallying
from edge.core.batch import Batch, Event, Lane, Record, Waveform
from edge.core.catalogue import Catalogue, ValueKind
from edge.core.clock import VirtualClock
from edge.core.errors import Disconnected
from edge.core.ledger import Tally
from edge.core.quality import StatusCode


class Script:
    """A driver whose every connect and read is the next step of a script; the last step repeats for ever."""

    read_deadline = 0.05

    def __init__(self, catalogue: Catalogue, *steps: Callable[[], list[Batch | Waveform]] | BaseException) -> None:
        self.tags = [
            catalogue.intern("plc-1", "speed", ValueKind.FLOAT64),
            catalogue.intern("plc-1", "count", ValueKind.UINT64),
            catalogue.intern("plc-1", "recipe", ValueKind.TEXT),
            catalogue.intern("plc-1", "shape", ValueKind.WAVEFORM),
        ]
        self.tag_ids = [tag.id for tag in self.tags]
        self._steps = iter(steps)
        self.connects = 0
        self.closes = 0

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Session]:
        self.connects += 1
        try:
            yield self
        finally:
            self.closes += 1

    async def read(self) -> list[Batch | Waveform]:
        step = next(self._steps, None)
        if step is None:
            await asyncio.get_running_loop().create_future()
        if isinstance(step, BaseException):
            raise step
        assert step is not None
        return step()


def speed(value: float) -> Callable[[], list[Batch | Waveform]]:
    return lambda: [Batch.of(Lane.FLOAT, [1], 0, [value])]


class Bench:
    """A supervisor on a virtual clock, with everything it stores."""

    def __init__(self, *steps: Callable[[], list[Batch | Waveform]] | BaseException) -> None:
        catalogue = Catalogue()
        self.stored: list[Record] = []
        self.clock = VirtualClock()
        self.driver = Script(catalogue, *steps)
        self.health = DeviceHealth("plc-1", "modbus", "none")
        self.supervisor = Supervisor(
            *(self.health, self.driver, Ingest("plc-1", {}, catalogue), catalogue, self.clock, self.put),
            Tallying("plc-1", {1.0: 3, 3600.0: 1}, self.clock),
        )
        self.counted = Tally("plc-1")

    async def put(self, record: Record | None, tally: Tally | None) -> None:
        if record is not None:
            self.stored.append(record)
        self.counted.add(tally or Tally("plc-1"))

    async def run(self, until: Callable[[], bool]) -> None:
        """Let the supervisor live through back-offs until the condition holds."""
        running = asyncio.create_task(self.supervisor.run())
        try:
            async with asyncio.timeout(5):
                while not until():
                    await self.clock.advance(1)
                    await asyncio.sleep(0.001)
                    if running.done():
                        await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    @property
    def events(self) -> list[str]:
        return [record.kind for record in self.stored if isinstance(record, Event)]

    @property
    def bad_tags(self) -> list[int]:
        return [
            tag
            for record in self.stored
            if isinstance(record, Batch)
            for tag, quality in zip(record.tag.tolist(), record.quality.tolist(), strict=True)
            if quality == StatusCode.BAD_NO_COMMUNICATION
        ]


@pytest.fixture
def short_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "CONNECT_DEADLINE_S", 0.05)


async def test_a_lost_device_marks_every_tag_bad_once_and_its_return_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "yulink.device")
    bench = Bench(speed(1), Disconnected("cut"), Disconnected("refused"), Disconnected("refused"), speed(2))
    await bench.run(lambda: bench.health.reads == 2)
    assert bench.events == ["device_connected", "device_lost", "device_returned"]
    assert sorted(bench.bad_tags) == [1, 2, 3]
    assert [record.getMessage() for record in caplog.records] == [
        "plc-1: connected",
        "plc-1: lost: cut",
        "plc-1: connected",
    ]
    assert bench.driver.connects == bench.driver.closes == 4


async def test_a_device_absent_at_start_is_lost_with_its_reason() -> None:
    bench = Bench(Disconnected("refused", hint="check its address"), Disconnected("no route"))
    await bench.run(lambda: bench.driver.connects == 3)
    assert bench.health.state is DeviceState.LOST
    assert (bench.health.reason, bench.health.hint) == ("no route", "")
    assert bench.events == ["device_lost"]


async def test_a_silent_read_ends_at_its_deadline() -> None:
    bench = Bench(speed(1))
    await bench.run(lambda: bench.health.losses == 1)
    assert bench.health.reason == "no answer within the deadline"


async def test_a_connect_that_hangs_ends_at_its_deadline(short_deadline: None, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()

    @asynccontextmanager
    async def hang() -> AsyncIterator[Session]:
        await asyncio.get_running_loop().create_future()
        yield bench.driver

    monkeypatch.setattr(bench.driver, "connect", hang)
    await bench.run(lambda: bench.health.losses == 1)


async def test_a_drivers_mistake_costs_its_own_device_only(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(speed(1), ZeroDivisionError("oops"), speed(2))
    await bench.run(lambda: bench.health.reads == 2)
    assert bench.events == ["device_connected", "device_lost", "device_returned"]
    assert [record.levelname for record in caplog.records if record.exc_info] == ["ERROR"]


async def test_a_log_that_cannot_take_more_is_no_device_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(speed(1))

    async def refuse(record: Record | None, tally: Tally | None) -> None:
        raise RuntimeError("the log is gone")

    bench.supervisor.put = refuse
    with pytest.raises(RuntimeError, match="the log is gone"):
        await bench.run(lambda: False)
    assert bench.driver.closes == 1


async def test_counters_close_to_the_row() -> None:
    bench = Bench(speed(1), speed(2), Disconnected("cut"))
    await bench.run(lambda: bench.health.losses == 1)
    rows = sum(len(record) for record in bench.stored if isinstance(record, Batch))
    assert bench.health.values_read == rows == 2 + 3
    assert bench.health.values_bad == 3


async def test_backoff_grows_to_its_ceiling_and_is_jittered() -> None:
    bench = Bench(*(Disconnected("refused") for _ in range(40)))
    waits: list[float] = []
    sleep = bench.clock.sleep

    async def record(seconds: float) -> None:
        waits.append(seconds)
        await sleep(seconds)

    bench.clock.sleep = record  # type: ignore[method-assign]
    await bench.run(lambda: bench.driver.connects == 30)
    assert max(waits) <= supervise.BACKOFF_MAX_S
    assert max(waits[:2]) <= 2 * supervise.BACKOFF_FIRST_S
    assert min(waits[8:]) >= supervise.BACKOFF_MAX_S / 4
    assert len(set(waits)) == len(waits)


async def test_the_tally_says_what_was_owed_read_and_bad_and_how_long_the_device_answered() -> None:
    """Owed: three readings a second and one an hour, lost or not. It is read, lost, and read again."""
    bench = Bench(speed(1), Disconnected("cut"), Disconnected("refused"), speed(2))
    await bench.run(lambda: bench.health.reads == 2)
    counted, lived_s = bench.counted, bench.clock.monotonic()
    assert counted.due == 3 * (int(lived_s) + 1) + 1
    assert (counted.read, counted.bad, counted.filtered) == (2 + 3, 3, 0)
    assert counted.watched_ms == round(lived_s * 1000)
    assert counted.connected_ms < counted.watched_ms


async def test_a_device_that_was_never_reached_owes_all_the_same() -> None:
    bench = Bench(*[Disconnected("refused")] * 99)
    await bench.run(lambda: bench.clock.monotonic() >= 60)
    assert bench.counted.due == 3 * (int(bench.clock.monotonic()) + 1) + 1
    assert (bench.counted.connected_ms, bench.counted.watched_ms) == (0, round(bench.clock.monotonic() * 1000))


@pytest.mark.parametrize("fails", [True, False])
async def test_a_driver_that_swallows_a_cancellation_ends_all_the_same(fails: bool) -> None:
    """A library may answer a cancellation with a result, or with an error that looks like a lost device."""
    bench = Bench()

    async def read() -> list[Batch | Waveform]:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            if fails:
                raise Disconnected("cut") from None
        return []

    bench.driver.read_deadline = 60
    bench.driver.read = read  # type: ignore[method-assign]
    running = asyncio.create_task(bench.supervisor.run())
    await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait({running}, timeout=5)
    assert running.cancelled()
    assert bench.driver.connects == bench.driver.closes == 1
