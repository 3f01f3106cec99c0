import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.channel import Channel
from edge.core.errors import Closed


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(1, 20))
def test_order_is_kept_and_the_bound_holds(sizes: list[int], rows_max: int) -> None:
    async def run() -> None:
        channel: Channel[list[int]] = Channel(rows_max)
        received: list[list[int]] = []

        async def produce() -> None:
            for number, size in enumerate(sizes):
                await channel.send([number] * size)
                statistics = channel.statistics()
                assert statistics.rows <= rows_max or statistics.items == 1
            channel.close()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(produce())
            for _ in sizes:
                received.append(await channel.receive())  # noqa: PERF401
        assert received == [[number] * size for number, size in enumerate(sizes)]
        assert channel.statistics().rows_sent_total == sum(sizes)

    asyncio.run(run())


async def test_many_waiting_senders_all_get_through() -> None:
    channel: Channel[str] = Channel(2)
    senders = [asyncio.create_task(channel.send("ab")) for _ in range(10)]
    received = [await channel.receive() for _ in senders]
    await asyncio.gather(*senders)
    assert received == ["ab"] * 10


async def test_a_cancelled_sender_sent_nothing() -> None:
    channel: Channel[str] = Channel(1)
    await channel.send("a")
    waiting = asyncio.create_task(channel.send("b"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await channel.receive() == "a"
    assert channel.receive_nowait() is None


async def test_closing_refuses_senders_and_lets_the_receiver_finish() -> None:
    channel: Channel[str] = Channel(1)
    await channel.send("a")
    waiting = asyncio.create_task(channel.send("b"))
    await asyncio.sleep(0)
    channel.close()
    with pytest.raises(Closed):
        await waiting
    assert await channel.receive() == "a"
    with pytest.raises(Closed):
        await channel.receive()


async def test_who_waits_for_rows_sleeps_until_there_are_enough_or_somebody_hurries() -> None:
    channel: Channel[str] = Channel(6)

    async def wait_five() -> asyncio.Task[None]:
        waiting = asyncio.create_task(channel.wait_rows(5))
        await asyncio.sleep(0)
        return waiting

    waiting = await wait_five()
    await channel.send("abcd")
    await asyncio.sleep(0)
    assert not waiting.done()
    await channel.send("e")
    await waiting
    await channel.wait_rows(5)  # they are still there
    assert [channel.receive_nowait(), channel.receive_nowait()] == ["abcd", "e"]

    waiting = await wait_five()
    await channel.send("a")
    channel.hurry()
    await waiting
    assert channel.receive_nowait() == "a"

    waiting = await wait_five()
    assert not waiting.done(), "the hurry is over with what was urgent"
    await channel.send("abcd")
    sender = asyncio.create_task(channel.send("efg"))  # which finds no room
    await waiting
    assert [await channel.receive(), await channel.receive()] == ["abcd", "efg"]
    await sender

    waiting = await wait_five()
    channel.close()
    await waiting
