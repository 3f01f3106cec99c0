"""The edge node against a real mosquitto, seen by a proxy that writes down every packet."""

from pathlib import Path

import pytest

from buffer import cutting
from edge.core.batch import Batch, Lane
from edge.core.catalogue import ValueKind
from tests.sparkplug.support import CLOCK, host_at, open_edge, recorded, said
from tests.sparkplug.wire import CONNECT, DISCONNECT, Recording
from tests.support import until
from tests.uplink.support import background
from uplink.sparkplug.sparkplug_b_pb2 import Payload

pytestmark = pytest.mark.usefixtures("mosquitto")


def metrics(recording: Recording, kind: str, tag: int) -> list[Payload.Metric]:
    """What was said of a tag, in order."""
    return [metric for payload in said(recording, kind) for metric in payload.metrics if metric.alias == tag]


@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_births_data_loss_of_a_device_rebirth_and_an_orderly_end(tmp_path: Path, version: str) -> None:
    async with (
        recorded(tmp_path) as (recording, (tap,), (broker,)),
        open_edge(tmp_path, tap.url, protocol=version) as (plant, edge),
        host_at(broker) as host,
    ):
        async with background(edge.run):
            await until(lambda: len(said(recording, "DBIRTH")) == 2)
            for count in range(1, 4):
                await plant.put("pump-3", count)
            await until(lambda: len(said(recording, "DDATA")) >= 1 and not plant.log.outbox("sparkplug").backlog().rows)
            await plant.lose("pump-3")
            await until(lambda: said(recording, "DDEATH", "pump-3"))
            await plant.find("pump-3")
            await until(lambda: len(said(recording, "DBIRTH", "pump-3")) == 2)
            await plant.put("pump-3", 9)
            await host.ask_rebirth()
            await until(lambda: len(said(recording, "NBIRTH")) == 2)
            await until(lambda: not plant.log.outbox("sparkplug").backlog().rows)
        first, second = said(recording, "NBIRTH")
        assert [metric.name for metric in first.metrics][:2] == ["bdSeq", "Node Control/Rebirth"]
        assert first.metrics[0].long_value == second.metrics[0].long_value == 0
        values = [
            m for p in said(recording, "DDATA", "pump-3") for m in p.metrics if m.alias == plant.id("pump-3", "count")
        ]
        assert [m.long_value for m in values if not m.is_null] == [1, 2, 3, 9]
        energy = [
            m for p in said(recording, "DDATA", "pump-3") for m in p.metrics if m.alias == plant.id("pump-3", "energy")
        ]
        assert energy[0].long_value == 2**64 - 2
        assert said(recording, "NDEATH"), "an orderly end says so itself"
        assert any(packet.kind == DISCONNECT for packet in recording.packets)


async def test_the_primary_host_is_waited_for_and_its_absence_ends_the_session(tmp_path: Path) -> None:
    async with (
        recorded(tmp_path) as (recording, (tap,), (broker,)),
        open_edge(tmp_path, tap.url, primary_host="scada") as (plant, edge),
        host_at(broker) as host,
        background(edge.run),
    ):
        await plant.put("pump-3", 1)
        await until(lambda: edge.statistics().connected)
        await host.say(False)
        assert not said(recording, "NBIRTH")
        await host.say(True)
        await until(lambda: len(said(recording, "NBIRTH")) == 1)
        await until(lambda: not plant.log.outbox("sparkplug").backlog().rows)
        await host.say(False, 1)  # older than what is known: a late message
        await host.say(False)
        await until(lambda: len(said(recording, "NDEATH")) == 1)
        await plant.put("pump-3", 2)
        await until(lambda: sum(packet.kind == CONNECT for packet in recording.packets) == 2)
        assert plant.log.outbox("sparkplug").backlog().rows > 0, "kept while nobody looks"
        await host.say(True)
        await until(lambda: len(said(recording, "NBIRTH")) == 2)
        await until(lambda: not plant.log.outbox("sparkplug").backlog().rows)
        assert [p.metrics[0].long_value for p in said(recording, "NBIRTH")] == [0, 1]


async def test_the_next_server_is_used_when_one_is_lost_or_has_no_primary_host(tmp_path: Path) -> None:
    async with (
        recorded(tmp_path, servers=2) as (recording, (near, far), (first, second)),
        open_edge(tmp_path, near.url, servers=[far.url], primary_host="scada", host_wait="300ms") as (plant, edge),
        host_at(first) as here,
        host_at(second) as there,
        background(edge.run),
    ):
        await there.say(True)
        await until(lambda: len(said(recording, "NBIRTH")) == 1)
        assert edge.statistics().server == far.url
        await there.say(False)
        await here.say(True)
        await until(lambda: len(said(recording, "NBIRTH")) == 2, 20)
        assert edge.statistics().server == near.url
        await plant.put("press-1", 5)
        await until(lambda: not plant.log.outbox("sparkplug").backlog().rows)


async def test_a_cut_repeats_nothing_live_and_loses_nothing(tmp_path: Path) -> None:
    async with (
        recorded(tmp_path) as (recording, (tap,), _),
        open_edge(tmp_path, tap.url) as (plant, edge),
        background(edge.run),
    ):
        await until(lambda: len(said(recording, "DBIRTH")) == 2)
        for count in range(1, 40):
            await plant.put("pump-3", count)
            if count % 10 == 0:
                births = len(said(recording, "NBIRTH"))
                tap.cut()
                await until(lambda births=births: len(said(recording, "NBIRTH")) > births)  # type: ignore[misc]
        await until(lambda: not plant.log.outbox("sparkplug").backlog().rows, 20)
        await plant.put("pump-3", 40)
        await until(lambda: not plant.log.outbox("sparkplug").backlog().rows)
    count_id = plant.id("pump-3", "count")
    told = metrics(recording, "DDATA", count_id)
    born = metrics(recording, "DBIRTH", count_id)
    assert {m.long_value for m in told + born if not m.is_null} == set(range(1, 41))
    live = [m.timestamp for m in told if not m.is_historical]
    assert live == sorted(live)
    assert len(born) >= 2


async def test_what_is_old_is_historical_and_a_new_tag_is_a_new_birth(tmp_path: Path) -> None:
    async with (
        recorded(tmp_path) as (recording, (tap,), _),
        open_edge(tmp_path, tap.url) as (plant, edge),
    ):
        await plant.put("pump-3", 1, CLOCK.now() - 3600 * 10**9)
        await plant.put("pump-3", 2)
        async with background(edge.run):
            await until(lambda: not plant.log.outbox("sparkplug").backlog().rows)
            count_id = plant.id("pump-3", "count")
            told = metrics(recording, "DDATA", count_id)
            assert [(m.long_value, m.is_historical) for m in told] == [(1, True), (2, False)]
            tag = plant.log.catalogue.intern("pump-3", "pressure", ValueKind.FLOAT64, "bar")
            await plant.log.append([Batch.of(Lane.FLOAT, [tag.id], CLOCK.now(), [4.5])])
            await until(lambda: not plant.log.outbox("sparkplug").backlog().rows)
        names = {m.name for m in said(recording, "DBIRTH", "pump-3")[-1].metrics}
        assert "pressure" in names


async def test_backlog_drains_while_live_data_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "BACKLOG_AFTER_NS", 10**8)
    async with (
        recorded(tmp_path) as (recording, (tap,), _),
        open_edge(tmp_path, tap.url) as (plant, edge),
    ):
        for count in range(1200):
            await plant.put("pump-3", count, CLOCK.now() - 3600 * 10**9 + count * 10**6)
        outbox = plant.log.outbox("sparkplug")
        await CLOCK.sleep(0.15)
        async with background(edge.run):
            live = 0
            while any(m.long_value == 1199 for m in metrics(recording, "DDATA", plant.id("pump-3", "count"))) is False:
                live += 1
                assert live < 1000, "the backlog waits for the end of live data"
                await plant.put("press-1", live)
                await CLOCK.sleep(0.01)
            await until(lambda: not outbox.backlog().rows)
    told = metrics(recording, "DDATA", plant.id("pump-3", "count"))
    assert [m.long_value for m in told if m.is_historical] == list(range(1200))
    assert metrics(recording, "DDATA", plant.id("press-1", "count")), "and live data did not wait for it"
