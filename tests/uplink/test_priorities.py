"""After an outage: events first, live data beside the backlog, and the backlog takes its share of the link."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.batch import Batch, Lane
from edge.core.clock import VirtualClock
from edge.core.delivery import Priority
from simulators.broker import start_broker
from simulators.pki import Pki
from tests.buffer.support import event
from tests.support import until
from tests.uplink.support import background, brain, open_plant, stored, uplink_to
from uplink import pump as pump_module
from uplink.answers import Ack
from uplink.share import BacklogShare


def noisy(first: int, rows: int) -> Batch:
    """Rows that count on from `first` in their upper half and do not compress in the lower."""
    noise = np.random.default_rng(first).integers(0, 2**31, rows)
    return Batch.of(Lane.INT, np.ones(rows, np.int32), 0, (np.arange(first, first + rows) << 32) + noise)


async def test_live_data_and_events_do_not_wait_for_a_long_backlog(
    tmp_path: Path, pki: Pki, mosquitto: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("buffer.cutting.BACKLOG_AFTER_NS", 10**9)
    monkeypatch.setattr(pump_module, "PARCEL_ROWS_MAX", 2000)
    old, live = 60_000, 500
    async with (
        start_broker(tmp_path / "broker", pki, kind=mosquitto) as broker,
        open_plant(tmp_path, **uplink_to(broker, pki)) as (log, pump),
    ):
        for first in range(0, old, 500):
            await log.append([noisy(first, 500)])
        await log.append([event("lost")])
        monkeypatch.setattr("buffer.cutting.BACKLOG_AFTER_NS", 0)  # all of it has grown old
        outbox = log.outbox()
        async with background(brain(broker, pki, tmp_path).run, pump.run):
            await until(lambda: outbox.backlog().historical_rows)
            monkeypatch.setattr("buffer.cutting.BACKLOG_AFTER_NS", 10**12)
            for first in range(old, old + live, 50):
                await log.append([noisy(first, 50)])
            await log.append([event("back")])
            await until(lambda: outbox.backlog().rows == 0, 60)
    order = [(historical, value >> 32) for historical, value in stored(tmp_path)]
    assert sorted(value for _, value in order) == list(range(old + live))
    last_old = max(place for place, (historical, _) in enumerate(order) if historical)
    first_live = min(place for place, (historical, _) in enumerate(order) if not historical)
    assert first_live < last_old, "live data waited for the backlog"
    for historical in (False, True):
        values = [value for h, value in order if h is historical]
        assert values == sorted(values), "the order inside a class is kept"


async def test_a_brain_that_does_not_answer_finds_little_backlog_before_what_is_live(
    tmp_path: Path, pki: Pki, mosquitto: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("buffer.cutting.BACKLOG_AFTER_NS", 0)
    monkeypatch.setattr(pump_module, "PARCEL_ROWS_MAX", 100)
    async with (
        start_broker(tmp_path / "broker", pki, kind=mosquitto) as broker,
        open_plant(tmp_path, **uplink_to(broker, pki, backlog_share=1)) as (log, pump),
    ):
        for first in range(0, 1000, 100):
            await log.append([noisy(first, 100)])

        def flying(topic: str) -> int:
            return sum(flight.topic.endswith(topic) and flight.puback is None for flight in pump._flights.values())

        async with background(pump.run):
            await until(lambda: flying("backlog") == pump_module.BACKLOG_UNCONFIRMED_MAX)
            monkeypatch.setattr("buffer.cutting.BACKLOG_AFTER_NS", 10**12)
            for first in range(1000, 1300, 100):
                await log.append([noisy(first, 100)])
                await until(lambda: log.outbox().ready_rows(Priority.LIVE) == 0)
            assert flying("backlog") == pump_module.BACKLOG_UNCONFIRMED_MAX
            await until(lambda: flying("telemetry") == 3)
            async with background(brain(broker, pki, tmp_path).run):
                await until(lambda: log.outbox().backlog().rows == 0, 30)
    assert sorted(value >> 32 for _, value in stored(tmp_path)) == list(range(1300))


async def test_a_stream_that_never_pauses_goes_out_once_a_latency(tmp_path: Path, pki: Pki, mosquitto: str) -> None:
    """Cutting a message commits what waits; were that sent along, the next cut would bring more, without end."""
    rows, seconds, latency = 40, 1.5, 0.25
    async with (
        start_broker(tmp_path / "broker", pki, kind=mosquitto) as broker,
        open_plant(tmp_path, **uplink_to(broker, pki, latency=f"{latency}s")) as (log, pump),
        background(brain(broker, pki, tmp_path).run, pump.run),
    ):
        await until(lambda: pump.statistics().connected)
        loop, count = asyncio.get_running_loop(), 0
        end = loop.time() + seconds
        while loop.time() < end:
            await log.put(noisy(count, rows))
            count += rows
            await asyncio.sleep(0.001)
        lasted = loop.time() - end + seconds
        await until(lambda: log.outbox().backlog().rows == 0 and len(stored(tmp_path)) == count)
        assert pump.statistics().messages_total <= lasted / latency + 3
    assert [value >> 32 for _, value in stored(tmp_path)] == list(range(count))


async def test_a_brain_that_answers_before_the_broker_leaves_nothing_counted_as_on_its_way(tmp_path: Path) -> None:
    """Else the time between two messages would count as the time one takes, and the backlog would slow to a halt."""
    async with open_plant(tmp_path, mqtt="mqtt://localhost") as (log, pump):
        await log.append([noisy(0, 10)])
        parcel = await log.outbox().next(10)
        assert parcel is not None
        puback = asyncio.get_running_loop().create_future()
        identity = (parcel.epoch, parcel.seq)
        pump._flights[identity] = pump_module._Flight(*identity, 10, 1000, 0.0, puback)
        pump._share.published()
        await pump._acknowledged(Ack(parcel.epoch, parcel.seq, (), ()))
        assert (pump._flights, pump._share.on_their_way) == ({}, 0)


def test_the_backlog_takes_its_share_of_what_the_link_carries() -> None:
    clock = VirtualClock()
    share = BacklogShare(0.3, clock)
    sent = 0.0
    seconds = 0.0
    for _ in range(5000):  # a link of 100 kB/s: a message of 10 kB takes 0.1 s
        if not (wait := share.wait_s()):
            share.spend(10_000)
            share.published()
            clock._elapsed += 0.1
            seconds += 0.1
            share.acknowledged(10_000)
            sent += 10_000
        else:
            clock._elapsed += wait
            seconds += wait
    assert share.goodput_bytes_s == pytest.approx(100_000, rel=0.05)
    assert sent / seconds == pytest.approx(30_000, rel=0.1)


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 200_000)), max_size=50))
def test_the_bucket_never_gives_more_than_its_share(steps: list[tuple[float, int]]) -> None:
    clock = VirtualClock()
    share = BacklogShare(0.5, clock)
    spent = largest = 0
    for pause, size in steps:
        clock._elapsed += pause
        if not share.wait_s():
            share.spend(size)
            spent, largest = spent + size, max(largest, size)
    assert spent <= 0.5 * share.goodput_bytes_s * (clock.monotonic() + 1) + largest


@pytest.mark.parametrize("steps", range(4))
async def test_a_pause_that_is_cancelled_at_any_step_leaves_nothing_running(tmp_path: Path, steps: int) -> None:
    async with open_plant(tmp_path, mqtt="mqtt://127.0.0.1:1") as (log, pump):
        await log.append([noisy(0, 10)])
        waiting = asyncio.create_task(log.outbox().wait())
        await waiting
        before = asyncio.all_tasks()
        pause = asyncio.create_task(pump._pause(waiting, True))
        for _ in range(steps):
            await asyncio.sleep(0)
        pause.cancel()
        await asyncio.wait([pause])
        assert not {task for task in asyncio.all_tasks() - before if not task.done()}
