"""The brain beyond one machine: every batch exactly once in PostgreSQL, whoever dies."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from nats.aio.client import Client

from edge.core.errors import Disconnected
from simulators.broker import find_nats
from simulators.pki import Pki
from tests.brain import Fleet, account, running_brain
from tests.support import until
from tests.uplink.fleet import Gateway
from uplink.keys import CLASSICAL, make_key
from uplink.receiver import stream
from uplink.receiver.stream import StreamAccess, epoch_of, identity_of, open_stream, subject_of


def test_a_message_is_named_by_its_number_whoever_carries_it(pki: Pki) -> None:
    identity = pki.issue("gateway", common_name="t/g")
    sealed = Gateway("t/g", 7, identity=identity, brain=make_key(CLASSICAL).public)
    first, again = sealed.batch(3), sealed.batch(3)
    assert first != again
    assert identity_of(*first) == identity_of(*again) == identity_of(*Gateway("t/g", 7).batch(3)) == "t/g/7/3"
    assert epoch_of("t/g/7/3") == ("t/g", 7)
    assert subject_of(first[0]) == subject_of(sealed.key()[0])
    assert identity_of(*sealed.health()) != identity_of(*sealed.health()), "a state has no number"
    assert epoch_of(identity_of(*Gateway("t/g", 7).health())) is None
    key = identity_of(*sealed.key())
    assert epoch_of(key) is None
    assert identity_of(*first[:1], b"\xd0 not sealed") != key


async def test_connecting_to_the_stream_keeps_its_deadline_though_the_client_swallows_cancellation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Seen of nats-py under load, while servers refused a certificate: it went on trying, for ever."""
    swallowed = 0

    async def connect(self: Client, *_: object, **__: object) -> None:
        nonlocal swallowed
        while swallowed < 3:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1
        await asyncio.Event().wait()

    async def close(self: Client) -> None:
        return None

    monkeypatch.setattr(Client, "connect", connect)
    monkeypatch.setattr(Client, "close", close)
    monkeypatch.setattr(stream, "CONNECT_DEADLINE_S", 0.05)
    monkeypatch.setattr(stream, "CANCEL_AGAIN_S", 0.01)
    with pytest.raises(Disconnected, match="no answer"):
        await asyncio.wait_for(open_stream(StreamAccess(("nats://127.0.0.1:4222",))).__aenter__(), 5)
    assert swallowed == 3


async def test_a_gateway_that_missed_its_acknowledgement_gets_it_again_from_any_writer(
    tmp_path: Path, mosquitto: str, postgres: None
) -> None:
    """What the stream holds already is not stored a second time, but answered a second time."""
    async with running_brain(tmp_path, bridges=1, writers=1) as brain:
        fleet = Fleet(brain, gateways=2, batches=3)
        await asyncio.wait_for(fleet.run(), 30)
        stranger = replace(brain.stream, identity=brain.pki.folder / "g0.pem")
        with pytest.raises(Disconnected, match="cannot be used"):  # a gateway has no business in the stream
            await open_stream(stranger).__aenter__()
        fleet.forget()  # as if no acknowledgement had come; within the stream's two minutes
        await asyncio.wait_for(fleet.run(), 30)
        assert fleet.acknowledged == 6
        ((messages,),) = await brain.ask("SELECT count(*) FROM message")
        assert messages == 6
        async with asyncio.timeout(10):
            while await brain.ask("SELECT state, count(*) FROM health GROUP BY 1") != [("online", 2)]:
                await asyncio.sleep(0.05)


@pytest.mark.timeout(120)
async def test_every_batch_is_stored_exactly_once_though_leader_bridge_and_writer_are_killed(
    tmp_path: Path, mosquitto: str, postgres: None
) -> None:
    assert find_nats() is not None
    async with running_brain(tmp_path, bridges=2, writers=2) as brain:
        fleet = Fleet(brain, gateways=1000, batches=2)
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
            "messages": 1000 * 2,
            "lost": 0,
            "twice": 0,
            "rows lost": 0,
            "rows replaced": 0,
            "rows told": 1000 * 2 * 20,
        }
