"""The brain beyond one machine: every batch exactly once in PostgreSQL, whoever dies."""

import asyncio
from pathlib import Path

import pytest

from simulators.broker import find_nats
from tests.brain import Fleet, account, running_brain
from tests.support import until


@pytest.mark.timeout(120)
async def test_every_batch_is_stored_exactly_once_though_leader_bridge_and_writer_are_killed(
    tmp_path: Path, mosquitto: str, postgres: None
) -> None:
    assert find_nats() is not None
    async with running_brain(tmp_path, bridges=2, writers=2) as brain:
        fleet = Fleet(brain, gateways=60, batches=20)
        running = asyncio.create_task(fleet.run())
        try:
            await until(lambda: fleet.acknowledged > 100 or running.done(), 30)
            leader = await brain.leader()
            await brain.kill(leader)
            await brain.kill("bridge-0")
            await brain.kill("write-1")
            await brain.start("bridge-0")
            await brain.start("write-1")
            await brain.start(leader)
            async with asyncio.timeout(60):
                await running
        finally:
            running.cancel()
            await asyncio.wait([running])
        assert await account(brain, fleet) == {
            "messages": 60 * 20,
            "lost": 0,
            "twice": 0,
            "rows lost": 0,
            "rows replaced": 0,
            "rows told": 60 * 20 * 20,
        }
