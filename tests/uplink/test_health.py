"""A gateway's state at the brain: told at once, replaced, never kept, and the broker's word when it is gone."""

import asyncio
import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from simulators.broker import start_broker
from simulators.faults import FaultLine, fault_line
from simulators.pki import Pki
from tests.contract import golden
from tests.support import until
from tests.uplink.support import CLOCK, SITE, background, brain, feed, open_plant, uplink_to
from uplink.receiver.message import Arrived
from uplink.receiver.store import SqliteStore
from uplink.session import Access, Will, open_session

ACL = (Path(__file__).parents[2] / "contract" / "mosquitto.acl").read_text()
FACTS: dict[str, Any] = {
    "values_s": 10.0,
    "devices": {"connecting": 0, "connected": 1, "lost": 0},
    "failing": [],
    "log": {"writable": True, "last_error": "", "rows_dropped": 0, "damaged": 0},
    "clock": {"synchronised": True, "steps": 0},
}
LOST = {"device": "plc-1", "state": "lost", "since": "2026-01-01T00:00:00.000000Z", "reason": "no answer"}


def known(folder: Path) -> dict[str, Any]:
    """The newest health at the brain; nothing is in every key before the first."""
    path = folder / "brain.sqlite3"
    if not path.exists():
        return {}
    db = sqlite3.connect(path)
    try:
        found = db.execute("SELECT facts FROM health WHERE gateway = ?", (SITE,)).fetchone()
    except sqlite3.OperationalError:
        return {}
    finally:
        db.close()
    return json.loads(found[0]) if found else {}


def line_url(line: FaultLine) -> str:
    return f"mqtts://127.0.0.1:{line.port}"


@pytest.fixture
def quick(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uplink.health.LOOK_S", 0.02)


async def test_the_brain_sees_a_gateway_come_vanish_return_and_end(
    tmp_path: Path, pki: Pki, mosquitto: str, quick: None
) -> None:
    """Under the shipped access rules, sealed; also a brain that comes when all is over."""
    async with (
        start_broker(tmp_path / "broker", pki, kind=mosquitto, acl=ACL) as broker,
        fault_line(broker.host, broker.port) as line,
        open_plant(tmp_path, **uplink_to(broker, pki, mqtt=line_url(line))) as (log, pump),
    ):
        async with background(brain(broker, pki, tmp_path).run):
            async with background(pump.run):
                await until(lambda: known(tmp_path).get("state") == "online")
                first = known(tmp_path)
                line.refuse()
                line.cut()
                await until(lambda: known(tmp_path)["state"] == "offline")
                assert (
                    known(tmp_path).items() >= {"connection": first["connection"], "started": first["started"]}.items()
                )
                await feed(log, 20)
                line.heal()
                await until(lambda: known(tmp_path)["state"] == "online")
                assert known(tmp_path)["connection"] > first["connection"]
                await pump.drain(5)
            await until(lambda: known(tmp_path)["state"] == "stopped")
            assert known(tmp_path)["uplink"]["rows"] == 0
        async with background(brain(broker, pki, tmp_path / "late").run):
            (tmp_path / "late").mkdir()
            await until(lambda: known(tmp_path / "late").get("state") == "stopped")


async def test_a_change_is_told_at_once_and_all_else_waits_for_its_minute(
    tmp_path: Path, pki: Pki, mosquitto: str, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = dict(FACTS)
    async with (
        start_broker(tmp_path / "broker", pki, kind=mosquitto) as broker,
        open_plant(tmp_path, health=lambda: facts, **uplink_to(broker, pki)) as (log, pump),
        background(brain(broker, pki, tmp_path).run, pump.run),
    ):
        await until(lambda: known(tmp_path))
        assert known(tmp_path).items() >= FACTS.items()
        facts["values_s"] = 11.0
        await asyncio.sleep(0.2)
        assert known(tmp_path)["number"] == 1
        facts["failing"], facts["devices"] = [LOST], {"connecting": 0, "connected": 0, "lost": 1}
        await until(lambda: known(tmp_path)["number"] == 2)
        assert known(tmp_path)["failing"] == [LOST]
        assert known(tmp_path)["values_s"] == 11.0
        await feed(log, 100)
        await until(lambda: log.outbox().backlog().rows == 0)
        assert log.statistics().rows_put_total == 100, "health lies in no log"


async def test_what_waits_is_told_with_the_age_of_the_oldest(
    tmp_path: Path, pki: Pki, mosquitto: str, quick: None
) -> None:
    async with (
        start_broker(tmp_path / "broker", pki, kind=mosquitto) as broker,
        open_plant(tmp_path, **uplink_to(broker, pki)) as (log, pump),
    ):
        before = CLOCK.now()
        await feed(log, 100)
        oldest = await log.outbox().oldest()
        assert oldest is not None
        assert before <= oldest <= CLOCK.now()
        stranger = brain(broker, pki, tmp_path)
        async with background(pump.run):  # nobody acknowledges
            await until(lambda: log.outbox().backlog().parcels_sent)
        assert await log.outbox().oldest() == oldest, "sent is not delivered"
        async with background(stranger.run):
            await until(lambda: known(tmp_path))
            assert known(tmp_path)["state"] == "offline", "it was cancelled without an order to end"
            assert known(tmp_path)["uplink"]["rows"] == 100
            assert known(tmp_path)["uplink"]["oldest"]
            async with background(pump.run):
                await until(lambda: log.outbox().backlog().rows == 0)
        assert await log.outbox().oldest() is None


async def test_a_gateway_that_is_told_to_end_says_so_and_what_it_keeps(
    tmp_path: Path, pki: Pki, mosquitto: str, quick: None
) -> None:
    """Not sealed, so that anybody can read it."""
    async with (
        start_broker(tmp_path / "broker", pki, kind=mosquitto) as broker,
        open_plant(tmp_path, **uplink_to(broker, pki, seal_to=[])) as (log, pump),
        open_session(Access(broker.url, pki.ca, pki.issue("brain"), client_id="watch"), ("5",)) as (session, _),
    ):
        await session.subscribe("v1/+/+/health")
        async with background(pump.run):
            await feed(log, 100)
            await until(lambda: log.outbox().backlog().parcels_sent)
            await pump.drain(0.3)  # nobody acknowledges
        told: list[dict[str, Any]] = []
        while not told or told[-1]["state"] != "stopped":
            told.append(json.loads((await session.received.get()).payload))
    assert [each["state"] for each in told] == ["online", "stopping", "stopped"]
    assert [each["number"] for each in told] == [1, 2, 3]
    assert told[-1]["uplink"]["rows"] == 100
    assert told[-1]["uplink"].keys() == json.loads(golden.health()["health"])["uplink"].keys()


async def test_nobody_speaks_of_anothers_health(tmp_path: Path, pki: Pki, mosquitto: str) -> None:
    """Under the shipped rules neither a message nor a will of another gateway arrives."""
    topic = f"v1/{SITE}/health"
    async with start_broker(tmp_path / "broker", pki, kind=mosquitto, acl=ACL) as broker:
        watch = Access(broker.url, pki.ca, pki.issue("brain"), client_id="watch")
        own = Access(broker.url, pki.ca, pki.issue("gateway", common_name=SITE), client_id="own")
        thief = replace(own, identity=pki.issue("thief", common_name="chongqing/plant-2"), client_id="thief")
        async with open_session(watch, ("5",)) as (watching, _):
            await watching.subscribe("v1/+/+/health")
            async with fault_line(broker.host, broker.port) as line:
                through = replace(thief, url=line_url(line), will=Will(topic, b"thief's will", retain=True))
                async with open_session(through, ("5",)) as (session, _):
                    assert await session.publish(topic, b"thief", retain=True) == 0x87
                    line.cut()
                    await session.lost
            async with open_session(own, ("5",)) as (session, _):
                assert await session.publish(topic, b"own", retain=True) == 0
            message = await watching.received.get()
            assert (message.topic, message.payload) == (topic, b"own")


async def test_rules_from_before_there_was_health_cost_no_reading_and_are_named(
    tmp_path: Path, pki: Pki, mosquitto: str, quick: None
) -> None:
    older = "".join(line for line in ACL.splitlines(keepends=True) if "health" not in line)
    async with (
        start_broker(tmp_path / "broker", pki, kind=mosquitto, acl=older) as broker,
        open_plant(tmp_path, **uplink_to(broker, pki)) as (log, pump),
        background(brain(broker, pki, tmp_path).run, pump.run),
    ):
        await feed(log, 100)
        await until(lambda: log.outbox().backlog().rows == 0)
        await until(lambda: f"v1/{SITE}/health" in pump.statistics().last_error)
        assert known(tmp_path) == {}


def health(connection: int, number: int | None, state: str, started: str = "2026-01-01") -> Arrived:
    facts = {"gateway": SITE, "state": state, "started": started, "connection": connection, "number": number}
    told = {key: value for key, value in facts.items() if value is not None}
    return Arrived(f"v1/{SITE}/health", json.dumps(told | {"version": "0", "contract": 1}).encode())


async def test_of_one_run_the_newest_holds_and_of_another_what_came_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = SqliteStore(tmp_path / "brain.sqlite3", jsonl=True)
    await store.open()
    for arrived, holds in (
        (health(1, 1, "online"), "online 1 1"),
        (health(1, 1, "online"), "online 1 1"),
        (health(1, None, "offline"), "offline 1 None"),
        (health(1, 2, "online"), "offline 1 None"),  # a will is the last word of its connection …
        (health(2, 1, "online"), "online 2 1"),
        (health(1, None, "offline"), "online 2 1"),  # … and says nothing of the next
        (health(1, 1, "online", "1970-01-01"), "online 1 1"),  # restarted with a wrong clock
    ):
        outcome = await store.commit([arrived], now=1)
        await store.settle()
        assert outcome.acknowledgements == []
        told = known(tmp_path)
        assert f"{told['state']} {told['connection']} {told.get('number')}" == holds
    await store.commit(
        [Arrived(f"v1/{SITE}/health", b"[]"), Arrived(f"v1/{SITE}/health", b'{"gateway": "a/b"}')], now=2
    )
    assert store.counters.quarantined == 2
    await store.close()
    printed = [json.loads(line)["health"]["state"] for line in capsys.readouterr().out.splitlines()]
    assert printed == ["online", "offline", "online", "online"]
