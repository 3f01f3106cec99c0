"""The JSON view against a real mosquitto: every reading at least once, in order, whatever happens on the way."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.core.batch import Batch, Event, Lane, Severity
from edge.core.catalogue import ValueKind
from simulators.broker import start_broker
from simulators.faults import fault_line
from simulators.pki import Pki
from tests.plain.support import listening, open_view, section_of
from tests.support import until
from tests.uplink.support import CLOCK, SITE, background, feed
from uplink.plain import uplink as uplink_module


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter deadlines, so that a test sees in a second what a plant sees in ten."""
    monkeypatch.setattr("uplink.backoff.BACKOFF_MAX_S", 0.1)
    monkeypatch.setattr(uplink_module, "REFUSED_RETRY_S", 0.2)
    monkeypatch.setattr("uplink.health.LOOK_S", 0.02)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_readings_events_and_the_gateways_state_reach_who_listens(
    tmp_path: Path, pki: Pki, mosquitto: str, protocol: str
) -> None:
    async with (
        start_broker(tmp_path / "broker", pki, kind=mosquitto) as broker,
        listening(broker, pki) as heard,
        open_view(tmp_path, section_of(broker, pki, protocol=protocol)) as (log, view),
    ):
        async with background(view.run):
            await feed(log, 500)
            await log.append([Event(CLOCK.now(), "plc-1", "test", Severity.LOW, "hello")])
            await until(lambda: not log.outbox("json").backlog().rows)
            await until(lambda: len(heard.values()) == 500)
            await view.drain(5)
        await until(lambda: [each["state"] for each in heard.of(f"{SITE}/gateway/health")][-1] == "stopped")
        assert heard.values() == list(range(500))
        assert [each["text"] for each in heard.of(f"{SITE}/plc-1/event")] == ["hello"]
        assert heard.of(f"{SITE}/gateway/health")[0]["state"] == "online"
        assert view.statistics().unheard_total == 0


async def test_a_cut_sends_again_only_what_was_not_acknowledged(tmp_path: Path, pki: Pki, mosquitto: str) -> None:
    async with (
        start_broker(tmp_path / "broker", pki, kind=mosquitto) as broker,
        fault_line(broker.host, broker.port) as line,
        listening(broker, pki) as heard,
        open_view(tmp_path, section_of(broker, pki, json=f"mqtts://127.0.0.1:{line.port}")) as (log, view),
        background(view.run),
    ):
        for first in range(0, 1000, 200):
            await feed(log, 200, first)
            await until(lambda first=first: len(set(heard.values())) > first + 20)  # type: ignore[misc]
            line.cut()
        await until(lambda: not log.outbox("json").backlog().rows)
        await until(lambda: set(heard.values()) == set(range(1000)))
        assert view.statistics().reconnects_total >= 1
        again = len(heard.values()) - 1000
        assert again <= view.statistics().resends_total
        firsts = list(dict.fromkeys(heard.values()))
        assert firsts == sorted(firsts), "in order of time"
        assert {"offline", "online"} <= {each["state"] for each in heard.of(f"{SITE}/gateway/health")}


async def test_where_nobody_listens_the_broker_says_so_and_nothing_waits(
    tmp_path: Path, pki: Pki, mosquitto: str
) -> None:
    async with (
        start_broker(tmp_path / "broker", pki, kind=mosquitto) as broker,
        open_view(tmp_path, section_of(broker, pki)) as (log, view),
        background(view.run),
    ):
        await feed(log, 100)
        await until(lambda: not log.outbox("json").backlog().rows)
        assert view.statistics().unheard_total == 100


@pytest.mark.parametrize("announced", [True, False])
async def test_what_the_broker_does_not_take_is_set_aside_and_all_else_arrives(
    tmp_path: Path, pki: Pki, mosquitto: str, announced: bool
) -> None:
    """A text above the broker's limit among readings; MQTT 5 tells the limit, or ends the connection."""
    limit: dict[str, Any] = {"message_bytes_max": 20_000, "limit_is_announced": announced}
    async with (
        start_broker(tmp_path / "broker", pki, kind=mosquitto, **limit) as broker,
        listening(broker, pki) as heard,
        open_view(tmp_path, section_of(broker, pki, together=True)) as (log, view),
    ):
        noise = log.catalogue.intern("plc-1", "noise", ValueKind.TEXT)
        texts = ["short", "x" * 30_000, "short too"]
        await feed(log, 300)
        await log.append([Batch.of(Lane.TEXT, [noise.id] * 3, np.arange(3), texts)])
        await feed(log, 300, 300)
        async with background(view.run):
            await until(lambda: log.outbox("json").backlog().quarantined == 1, 30)
            await until(lambda: not log.outbox("json").backlog().rows)
            await until(lambda: heard.of(f"{SITE}/gateway/gap") and heard.of(f"{SITE}/gateway/event"))
        readings = [each for some in heard.of(f"{SITE}/plc-1") for each in some]
        assert {each["value"] for each in readings if each["tag"] == "count"} == set(range(600))
        assert {each["value"] for each in readings if each["tag"] == "noise"} == {"short", "short too"}
        assert [each["kind"] for each in heard.of(f"{SITE}/gateway/event")] == ["message_set_aside"]
        assert view.statistics().splits_total >= 1


async def test_a_denied_topic_holds_back_its_own_readings_alone(tmp_path: Path, pki: Pki, mosquitto: str) -> None:
    rules = f"user listener\ntopic read #\nuser {SITE}\ntopic write {SITE}/plc-1/#\ntopic write {SITE}/gateway/#\n"
    async with (
        start_broker(tmp_path / "broker", pki, kind=mosquitto, acl=rules) as broker,
        open_view(tmp_path, section_of(broker, pki)) as (log, view),
        background(view.run),
    ):
        denied = log.catalogue.intern("press-1", "count", ValueKind.INT64)
        async with listening(broker, pki) as heard:
            for n in range(50):
                await log.append([Batch.of(Lane.INT, [1, denied.id], n, [n, 1000 + n])])
            await until(lambda: heard.values() == list(range(50)))
            await until(lambda: view.statistics().refused_total > 100)
            assert heard.values() == list(range(50)), "what the broker took is not sent again"
            assert f"{SITE}/press-1 with reason 0x87" in view.statistics().last_error
            assert log.outbox("json").backlog().rows > 0
            assert log.outbox("json").backlog().quarantined == 0
        await broker.kill()
        (tmp_path / "broker" / "acl").write_text(rules + f"topic write {SITE}/press-1\n")
        await broker.start()
        async with listening(broker, pki) as heard:
            await until(lambda: not log.outbox("json").backlog().rows)
            assert view.statistics().last_error == ""


async def test_backlog_drains_in_order_beside_live_data(
    tmp_path: Path, pki: Pki, mosquitto: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("buffer.cutting.BACKLOG_AFTER_NS", 0)  # all of it has grown old
    monkeypatch.setattr(uplink_module, "BACKLOG_ROWS_MAX", 50)
    async with (
        start_broker(tmp_path / "broker", pki, kind=mosquitto) as broker,
        listening(broker, pki) as heard,
        open_view(tmp_path, section_of(broker, pki, backlog_share=1)) as (log, view),
    ):
        live = log.catalogue.intern("pump-3", "count", ValueKind.INT64)
        await feed(log, 800)
        async with background(view.run):
            await until(lambda: log.outbox("json").backlog().historical_rows)
            monkeypatch.setattr("buffer.cutting.BACKLOG_AFTER_NS", 10**12)
            told = 0
            while len(heard.values()) < 800:
                await log.append([Batch.of(Lane.INT, [live.id], CLOCK.now(), [told])])
                told += 1
                await asyncio.sleep(0.01)
            await until(lambda: not log.outbox("json").backlog().rows)
        assert heard.values() == list(range(800))
        old = [each.get("historical", False) for each in heard.of(f"{SITE}/plc-1")]
        assert old == [True] * 800
        now = heard.of(f"{SITE}/pump-3")
        assert [each["value"] for each in now] == list(range(told))
        assert not any("historical" in each for each in now)
        places = [place for place, each in enumerate(heard.messages) if each.topic == f"{SITE}/pump-3"]
        last_old = max(place for place, each in enumerate(heard.messages) if each.topic == f"{SITE}/plc-1")
        assert sum(place < last_old for place in places) > 3, "live data does not wait for the end of the backlog"


async def test_a_broker_that_does_not_answer_is_left_and_nothing_is_lost(
    tmp_path: Path, pki: Pki, mosquitto: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uplink_module, "PUBACK_TIMEOUT_S", 0.3)
    async with (
        start_broker(tmp_path / "broker", pki, kind=mosquitto) as broker,
        fault_line(broker.host, broker.port) as line,
        listening(broker, pki) as heard,
        open_view(tmp_path, section_of(broker, pki, json=f"mqtts://127.0.0.1:{line.port}")) as (log, view),
        background(view.run),
    ):
        await feed(log, 100)
        await until(lambda: len(heard.values()) == 100)
        line.freeze()
        await feed(log, 100, 100)
        await until(lambda: "does not acknowledge" in view.statistics().last_error)
        assert log.outbox("json").backlog().rows == 100
        line.cut()
        line.heal()
        await until(lambda: not log.outbox("json").backlog().rows, 20)
        await until(lambda: set(heard.values()) == set(range(200)))
