"""Several brains at once: each has its own position in the log and its own key, and none waits for another."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

from buffer.log import open_log
from edge.core.batch import Batch, Event, Lane, Severity
from edge.core.catalogue import ValueKind
from simulators.broker import start_broker
from simulators.pki import Pki, make_pki
from tests.support import until
from tests.uplink.support import CLOCK, background, brain, feed, open_uplinks, received, uplink_to
from uplink.keys import make_key, write_key


def rows_of(folder: Path, query: str) -> list[tuple[Any, ...]]:
    """What a brain's store answers."""
    db = sqlite3.connect(folder / "brain.sqlite3")
    try:
        return db.execute(query).fetchall()
    finally:
        db.close()


async def test_a_dead_brain_delays_no_other_and_gets_everything_when_it_returns(
    tmp_path: Path, pki: Pki, mosquitto: str
) -> None:
    other_pki, other_key = make_pki(tmp_path / "region"), make_key()
    write_key(other_key, other_pki.folder / "brain.key", other_pki.folder / "brain.pub")
    async with (
        start_broker(tmp_path / "broker", pki, kind=mosquitto) as near,
        start_broker(tmp_path / "region-broker", other_pki, kind=mosquitto) as far,
        open_uplinks(tmp_path, uplink_to(near, pki), uplink_to(far, other_pki, name="region")) as (log, uplinks),
        background(
            brain(near, pki, tmp_path).run,
            brain(far, other_pki, tmp_path / "region", key=other_key).run,
            *(uplink.run for uplink in uplinks.values()),
        ),
    ):
        await feed(log, 500)
        await until(lambda: all(log.outbox(name).backlog().rows == 0 for name in uplinks))
        await far.kill()
        await until(lambda: not uplinks["region"].statistics().connected)
        for first in range(500, 1500, 100):
            await feed(log, 100, first)
            async with asyncio.timeout(5):
                await until(lambda: log.outbox("brain").backlog().rows == 0)
        assert received(tmp_path) == list(range(1500))
        assert log.outbox("region").backlog().rows == 1000
        assert uplinks["brain"].statistics().connected
        await far.start()
        await until(lambda: log.outbox("region").backlog().rows == 0, 20)
        assert received(tmp_path / "region") == list(range(1500))
        assert received(tmp_path) == list(range(1500)), "the brain that was never away hears nothing twice"


async def test_a_new_uplink_begins_where_the_log_begins_and_one_set_aside_keeps_its_place(
    tmp_path: Path, pki: Pki, mosquitto: str
) -> None:
    async with start_broker(tmp_path / "broker", pki, kind=mosquitto) as broker:
        settings = uplink_to(broker, pki)
        async with open_uplinks(tmp_path) as (log, _):
            await feed(log, 100)
        async with (
            open_uplinks(tmp_path, settings) as (log, uplinks),
            background(brain(broker, pki, tmp_path).run, uplinks["brain"].run),
        ):
            await until(lambda: log.outbox().backlog().rows == 0)
        async with open_uplinks(tmp_path) as (log, _):
            await feed(log, 100, 100)
        async with open_uplinks(tmp_path, settings) as (log, uplinks):
            assert log.outbox().backlog().rows == 100
            async with background(brain(broker, pki, tmp_path).run, uplinks["brain"].run):
                await until(lambda: log.outbox().backlog().rows == 0)
        assert received(tmp_path) == list(range(200))


async def test_a_filter_leaves_to_each_brain_its_own_readings_events_and_names(
    tmp_path: Path, pki: Pki, mosquitto: str
) -> None:
    other_pki = make_pki(tmp_path / "region")
    async with (
        start_broker(tmp_path / "broker", pki, kind=mosquitto) as near,
        start_broker(tmp_path / "region-broker", other_pki, kind=mosquitto) as far,
        open_uplinks(
            tmp_path,
            uplink_to(near, pki),
            uplink_to(far, other_pki, name="region", only=["pump-*.temperature", "pump-4.*"]),
        ) as (log, uplinks),
    ):
        tags = [
            log.catalogue.intern(device, name, ValueKind.INT64).id
            for device, name in (("pump-3", "temperature"), ("pump-3", "speed"), ("pump-4", "speed"))
        ]
        for n in range(50):
            await log.append([Batch.of(Lane.INT, [1, *tags], n, [n, 100 + n, 200 + n, 300 + n])])
        await log.append([Event(1, source, "test", Severity.LOW, source) for source in ("plc-1", "pump-3", "gateway")])
        waiting = log.outbox("region").backlog().rows
        assert waiting == 50 * 2 + 2, "only what is for this brain waits for it"
        async with background(
            brain(near, pki, tmp_path).run,
            brain(far, other_pki, tmp_path / "region").run,
            *(uplink.run for uplink in uplinks.values()),
        ):
            await until(lambda: all(log.outbox(name).backlog().rows == 0 for name in uplinks), 30)
    assert len(received(tmp_path)) == 200
    assert received(tmp_path / "region") == [*range(100, 150), *range(300, 350)]
    assert rows_of(tmp_path, "SELECT count(*) FROM event") == [(3,)]
    assert rows_of(tmp_path / "region", "SELECT source FROM event ORDER BY source") == [("gateway",), ("pump-3",)]
    assert rows_of(tmp_path / "region", "SELECT name FROM tag WHERE device = 'pump-3'") == [("temperature",)]
    assert rows_of(tmp_path / "region", "SELECT count(*) FROM gap") == [(0,)], "left out is not lost"


async def test_a_changed_filter_holds_for_what_is_read_from_then_on(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite3"

    async def open_and_put(only: list[str], first: int) -> list[int]:
        """Return the values of all parcels of this run."""
        async with open_log(path, CLOCK, consumers={"brain": only}) as log:
            for device in ("plc-1", "plc-2"):
                log.catalogue.intern(device, "count", ValueKind.INT64)
            await log.append([Batch.of(Lane.INT, [1, 2], n, [n, 1000 + n]) for n in range(first, first + 5)])
            found = []
            while parcel := await log.outbox().next(3):
                found += [value for record in parcel.records for value in record.value.tolist()]  # type: ignore[union-attr]
            return sorted(found)

    assert await open_and_put(["plc-1.*"], 0) == list(range(5))
    assert await open_and_put(["plc-2.*"], 5) == [*range(5), *range(1005, 1010)]
    assert await open_and_put([], 10) == [*range(5), *range(10, 15), *range(1005, 1015)]
