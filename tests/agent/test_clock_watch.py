import asyncio

from edge.agent.clock_watch import watch
from edge.core.batch import Event, Record
from edge.core.clock import VirtualClock


async def test_each_step_is_one_event_and_slewing_is_none() -> None:
    clock = VirtualClock()
    stored: list[Record] = []

    async def put(record: Record) -> None:
        stored.append(record)

    watching = asyncio.create_task(watch(clock, put))
    await clock.advance(5)
    clock.step_wall(-7200)
    await clock.advance(5)
    for _ in range(100):
        clock.step_wall(0.01)
        await clock.advance(1)
    clock.step_wall(86400)
    await clock.advance(1)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    steps = [event.facts["step_s"] for event in stored if isinstance(event, Event)]
    assert [round(float(step or 0)) for step in steps] == [-7200, 86400]
