import asyncio

import pytest

from edge.core.deadline import Deadline


async def test_a_block_that_takes_too_long_is_ended_and_the_next_one_has_its_whole_time() -> None:
    deadline = Deadline(0.02)
    for _ in range(2):
        with pytest.raises(TimeoutError), deadline:
            await asyncio.sleep(60)
        with deadline:
            await asyncio.sleep(0)
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
    deadline.close()


async def test_blocks_that_end_in_time_are_left_alone_however_many_there_are() -> None:
    deadline = Deadline(0.05)
    end = asyncio.get_running_loop().time() + 0.2
    while asyncio.get_running_loop().time() < end:
        with deadline:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.1)  # between blocks nothing is due
    deadline.close()


async def test_what_the_block_raises_and_a_cancellation_from_outside_pass() -> None:
    deadline = Deadline(60)
    with pytest.raises(ValueError, match="of the block"), deadline:
        raise ValueError("of the block")

    async def wait() -> None:
        with deadline:
            await asyncio.sleep(60)

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    deadline.close()
