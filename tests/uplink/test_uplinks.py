"""Several brains at once: each has its own position in the log and its own key, and none waits for another."""

import asyncio
from pathlib import Path

from simulators.broker import start_broker
from simulators.pki import Pki, make_pki
from tests.support import until
from tests.uplink.support import background, brain, feed, open_uplinks, received, uplink_to
from uplink.keys import make_key, write_key


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
