"""A message that cannot pass is found, halved, and in the end set aside; everything else goes on."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from buffer.log import Log
from edge.core.batch import Batch, Lane
from edge.core.catalogue import ValueKind
from edge.core.delivery import Parcel
from simulators.broker import start_broker
from simulators.pki import Pki
from tests.support import until
from tests.uplink.support import background, brain, feed, open_plant, uplink_to
from uplink import pump as pump_module
from uplink.encode import encode
from uplink.poison import CUTS_MAX, Suspicion, convict
from uplink.receiver.message import Arrived
from uplink.receiver.store import SqliteStore

LIMIT = 20_000


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump_module, "ACK_TIMEOUT_S", 0.5)
    monkeypatch.setattr(pump_module, "MISSED_RETRY_S", 0.05)
    monkeypatch.setattr(pump_module, "REFUSED_RETRY_S", 0.5)
    monkeypatch.setattr("uplink.backoff.BACKOFF_MAX_S", 0.1)


def texts(log: Log, rows: int, length: int) -> Batch:
    """Rows of text that does not compress, `length` characters each, in one segment."""
    tag = log.catalogue.intern("plc-1", "noise", ValueKind.TEXT)
    random = np.random.default_rng(rows)
    values = ["".join(map(chr, random.integers(0x4E00, 0x9FA0, length))) for _ in range(rows)]
    return Batch.of(Lane.TEXT, [tag.id] * rows, np.arange(rows), values)


def asked(folder: Path, query: str) -> list[tuple[Any, ...]]:
    db = sqlite3.connect(folder / "brain.sqlite3")
    try:
        return db.execute(query).fetchall()
    finally:
        db.close()


async def test_a_message_is_set_aside_and_told_once_though_it_is_convicted_twice(tmp_path: Path) -> None:
    async with open_plant(tmp_path, mqtt="mqtts://127.0.0.1:1", identity="-", ca="-") as (log, _):
        await feed(log, 1)
        outbox, suspicion = log.outbox(), Suspicion()
        parcel = await outbox.next(10)
        assert parcel is not None
        told = [await convict(outbox, suspicion, (parcel.epoch, parcel.seq), "too large", "brain") for _ in range(2)]
    assert [event and event.facts["rows"] for event in told] == [1, None]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("case", ["announced", "MQTT 5", "MQTT 3.1.1"])
async def test_what_is_too_large_is_halved_and_what_cannot_be_halved_is_set_aside(
    tmp_path: Path, pki: Pki, mosquitto: str, quick: None, case: str
) -> None:
    """One segment above the broker's limit, one row above it, and readings before and after.

    A broker that announced its limit is never tried; one of MQTT 5 ends the connection; one of 3.1.1 says all is well.
    """
    protocol = {"protocol": "3.1.1"} if case == "MQTT 3.1.1" else {}
    limit = {"message_bytes_max": LIMIT, "limit_is_announced": case == "announced"}
    async with open_plant_at(tmp_path, pki, mosquitto, limit, protocol) as (log, pump):
        await feed(log, 100)
        await log.append([texts(log, 12, 1500)])  # some 30 kB: halves pass
        await log.append([texts(log, 1, 30_000)])
        await feed(log, 100, 100)
        outbox = log.outbox()
        async with background(pump.run):
            for first in range(200, 300, 10):  # only what comes later shows that an earlier message is lost
                await feed(log, 10, first)
                await asyncio.sleep(0.06)
            await until(lambda: outbox.backlog().quarantined == 1, 30)
            await until(lambda: outbox.backlog().rows == 0, 10)
            await until(lambda: asked(tmp_path, "SELECT kind FROM event") == [("message_set_aside",)])
            await until(lambda: asked(tmp_path, "SELECT rows, ts_min, ts_max FROM gap") == [(1, 0, 0)])
        assert numbers(tmp_path) == list(range(300))
        assert asked(tmp_path, "SELECT count(*) FROM reading WHERE tag = 'noise'") == [(12,)]
        (entry,) = await outbox.quarantined()
        assert (entry.rows, bool(entry.reason)) == (1, True)
        assert pump.statistics().splits_total >= 1


@pytest.mark.timeout(60)
async def test_what_was_set_aside_is_tried_again_on_request(
    tmp_path: Path, pki: Pki, mosquitto: str, quick: None
) -> None:
    async with open_plant_at(tmp_path, pki, mosquitto, {"message_bytes_max": LIMIT}, {}) as (log, pump):
        await log.append([texts(log, 1, 30_000)])
        async with background(pump.run):
            await until(lambda: log.outbox().backlog().quarantined == 1)
            await until(lambda: log.outbox().backlog().rows == 0)
            (entry,) = await log.outbox().quarantined()
            assert await log.outbox().retry([entry.id]) == [entry.id]
            assert await log.outbox().retry([entry.id]) == [], "it is on its way already"
            await until(lambda: log.outbox().backlog().rows == 0)
            assert log.outbox().backlog().quarantined == 1, "it is as large as before"
    async with (
        start_broker(tmp_path / "larger", pki, kind=mosquitto) as broker,
        open_plant(tmp_path, **uplink_to(broker, pki)) as (log, pump),
        background(brain(broker, pki, tmp_path).run, pump.run),
    ):
        assert log.outbox().backlog().quarantined == 1, "a restart keeps it"
        await log.outbox().retry([entry.id])
        await until(lambda: log.outbox().backlog().quarantined == 0)
        await until(lambda: asked(tmp_path, "SELECT count(*) FROM reading WHERE tag = 'noise'") == [(1,)])


def open_plant_at(folder: Path, pki: Pki, mosquitto: str, limit: dict[str, Any], settings: dict[str, Any]) -> Any:
    """A plant, and a brain that runs, at a broker with a limit."""
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def opened() -> AsyncIterator[tuple[Log, Any]]:
        async with (
            start_broker(folder / "broker", pki, kind=mosquitto, **limit) as broker,
            open_plant(folder, **uplink_to(broker, pki, **settings)) as (log, pump),
            background(brain(broker, pki, folder).run),
        ):
            yield log, pump

    return opened()


def numbers(folder: Path) -> list[int]:
    return [value for (value,) in asked(folder, "SELECT value FROM reading WHERE tag = 'count' ORDER BY value")]


async def test_a_part_of_what_the_brain_holds_whole_is_a_repeat_and_the_whole_comes_too_late_after_its_parts(
    tmp_path: Path,
) -> None:
    """Either way each reading is stored once, and no number is missing."""
    site = "chongqing/plant-1"
    batch = Batch.of(Lane.INT, [1] * 10, np.arange(10), np.arange(10))
    whole = Parcel(7, 1, (batch,))
    parts = [
        Parcel(9, 1, (batch.take(slice(0, 5)),), instead_of=((7, 1),)),
        Parcel(9, 2, (batch.take(slice(5, 10)),), instead_of=((7, 1),)),
    ]
    for order in ([whole, *parts], [*parts, whole], [parts[0], whole, parts[1]]):
        store = SqliteStore(tmp_path / f"{order.index(whole)}.sqlite3")
        await store.open()
        from edge.core.catalogue import Tag
        from uplink.catalogue import Equipment, encode_catalogue

        told = encode_catalogue(site, "plc-1", [Tag(1, "plc-1", "count", ValueKind.INT64)], Equipment(), 1)
        await store.commit([Arrived(f"v1/{site}/catalog/plc-1", told)], 0)
        acknowledged: dict[int, Any] = {}
        for parcel in order:
            outcome = await store.commit([Arrived(f"v1/{site}/data/telemetry", encode(parcel, site, 1))], 0)
            acknowledged |= {each["epoch"]: each for _, each in outcome.acknowledgements}
        await store.close()
        db = sqlite3.connect(tmp_path / f"{order.index(whole)}.sqlite3")
        assert [row[0] for row in db.execute("SELECT value FROM reading ORDER BY value")] == list(range(10))
        db.close()
        assert acknowledged == {
            7: {"epoch": 7, "committed_through": 1, "missing": []},
            9: {"epoch": 9, "committed_through": 2, "missing": []},
        }, json.dumps(acknowledged)


def test_a_denied_topic_convicts_nobody_and_a_single_refusal_neither() -> None:
    suspicion = Suspicion()
    assert not any(suspicion.refused((1, n % 5), 0x87, "data") for n in range(100)), (
        "every message of the topic is refused"
    )
    suspicion.passed((1, 6), "event")
    assert not suspicion.refused((1, 0), 0x87, "data"), "another topic says nothing"
    suspicion.passed((1, 7), "data")
    assert suspicion.refused((1, 0), 0x87, "data"), "others of its topic pass"
    assert suspicion.refused((1, 8), 0x95, "data"), "too large is too large"


def test_three_cuts_make_a_suspect_and_passing_clears_it() -> None:
    suspicion = Suspicion()
    for _ in range(CUTS_MAX):
        assert not suspicion.must_go_alone((1, 1))
        suspicion.cut([(1, 1), (1, 2)])
    assert suspicion.must_go_alone((1, 1))
    suspicion.passed((1, 1), "data")
    assert not suspicion.must_go_alone((1, 1))
    suspicion.inherit([(1, 3), (1, 4)], of=(1, 2))
    assert suspicion.must_go_alone((1, 3))
