import asyncio

from hypothesis import given
from hypothesis import strategies as st

from edge.core.clock import SystemClock, VirtualClock

DELAYS = st.lists(st.integers(1, 1000), min_size=1, max_size=20)


@given(DELAYS, st.integers(0, 1200))
def test_sleepers_wake_in_order_and_only_when_due(delays: list[int], moved: int) -> None:
    async def run() -> None:
        clock = VirtualClock()
        woken: list[tuple[float, int]] = []

        async def sleeper(seconds: int) -> None:
            await clock.sleep(seconds)
            woken.append((clock.monotonic(), seconds))

        tasks = [asyncio.create_task(sleeper(seconds)) for seconds in delays]
        await clock.advance(moved)
        assert woken == [(seconds, seconds) for seconds in sorted(delays) if seconds <= moved]
        await clock.advance(1000)
        await asyncio.gather(*tasks)

    asyncio.run(run())


async def test_a_step_moves_the_wall_and_not_the_schedule() -> None:
    clock = VirtualClock()
    wall = clock.now()
    sleeping = asyncio.create_task(clock.sleep(10))
    await clock.advance(0)
    clock.step_wall(-3600)
    assert clock.now() == wall - 3600 * 10**9
    assert not sleeping.done()
    await clock.advance(10)
    assert sleeping.done()
    assert clock.monotonic() == 10


async def test_the_machines_clock_goes_on() -> None:
    clock = SystemClock()
    start = clock.monotonic()
    await clock.sleep(0.001)
    assert clock.monotonic() > start
    assert clock.now() > 1_700_000_000 * 10**9
