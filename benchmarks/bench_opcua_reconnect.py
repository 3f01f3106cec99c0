"""Seconds until an OPC UA device gives good values again, by what had happened to it; with the agent's own back-off.

Counted from the moment at which the server could be reached again, or at which it ended what it had, until the first
good reading of the value that the machine had then.
"""

import asyncio
import logging
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from drivers.api import DeviceContext
from drivers.opcua import SPEC
from edge.agent.ingest import Ingest
from edge.agent.supervise import DeviceHealth, Supervisor
from edge.agent.tallying import Tallying
from edge.core.batch import Batch, Record
from edge.core.catalogue import Catalogue
from edge.core.clock import SystemClock
from edge.core.ledger import Tally
from simulators.broker import free_port
from simulators.faults import FaultLine, fault_line
from simulators.opcua import SimulatedServer, Variable, serve_opcua

NODE = "ns=2;s=Speed"
TAGS = 100
REPEATS = 5
TARGET_S = 5.0

Trouble = Callable[[SimulatedServer, FaultLine], Awaitable[None]]


class Agent:
    """One device as the agent runs it. `seen` is the last good value of the tag that is watched."""

    def __init__(self, url: str) -> None:
        clock, catalogue = SystemClock(), Catalogue()
        tags = {"speed": {"node": NODE}} | {f"t{number}": {"node": f"ns=2;s=n{number}"} for number in range(TAGS)}
        section = SPEC.section.model_validate({"opcua": url, "every": "100ms", "tags": tags})
        driver = SPEC.create(section, DeviceContext("cnc", 0.1, catalogue, clock, lambda name: ""))
        self.health = DeviceHealth("cnc", "opcua", "none")
        ingest, tallying = Ingest("cnc", {}, catalogue), Tallying("cnc", {}, clock)
        self.supervisor = Supervisor(self.health, driver, ingest, catalogue, clock, self._put, tallying)
        self.seen = float("nan")
        self._catalogue = catalogue
        self._came = asyncio.Event()

    async def _put(self, record: Record | None, _: Tally | None) -> None:
        if isinstance(record, Batch):
            for tag, value, quality in zip(record.tag, record.value, record.quality, strict=True):
                if self._catalogue[int(tag)].name == "speed" and not quality & 0x80000000:
                    self.seen = float(value)
        self._came.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until what came fulfils a condition."""
        async with asyncio.timeout(60):
            while not condition():
                self._came.clear()
                await self._came.wait()


@asynccontextmanager
async def running(url: str) -> AsyncIterator[Agent]:
    """Run the device while the block runs."""
    agent = Agent(url)
    task = asyncio.create_task(agent.supervisor.run())
    try:
        yield agent
    finally:
        task.cancel()
        await asyncio.wait({task})


def variables(speed: float) -> list[Variable]:
    """Return what the server has."""
    return [Variable(NODE, speed, "Double"), *(Variable(f"ns=2;s=n{n}", n, "Int32") for n in range(TAGS))]


async def line_cut(server: SimulatedServer, line: FaultLine) -> None:
    """Cut the line for a second."""
    line.refuse()
    line.cut()
    await asyncio.sleep(1.0)
    line.heal()


async def line_cut_long(server: SimulatedServer, line: FaultLine) -> None:
    """Cut the line for so long that the pauses between attempts are the longest."""
    line.refuse()
    line.cut()
    await asyncio.sleep(12.0)
    line.heal()


async def line_frozen(server: SimulatedServer, line: FaultLine) -> None:
    """Let nothing pass for ten seconds while the sockets stay open."""
    line.freeze()
    await asyncio.sleep(10.0)
    line.heal()


async def session_ended(server: SimulatedServer, line: FaultLine) -> None:
    """Let the server end the session and its subscriptions."""
    await server.kill_sessions()


async def subscription_dropped(server: SimulatedServer, line: FaultLine) -> None:
    """Let the server drop the subscription and say nothing."""
    await server.kill_subscriptions()


async def seconds(trouble: Trouble) -> list[float]:
    """Return how long each recovery took."""
    found = []
    async with serve_opcua(variables(0.0)) as server:
        host, port = server.url.removeprefix("opc.tcp://").partition("/")[0].split(":")
        async with fault_line(host, int(port)) as line, running(f"opc.tcp://{line.host}:{line.port}/yulink") as agent:
            await agent.until(lambda: agent.seen == 0.0)
            for number in range(1, REPEATS + 1):
                await trouble(server, line)
                start = time.monotonic()
                await server.write(NODE, float(number))
                await agent.until(lambda number=number: agent.seen == number)  # type: ignore[misc]
                found.append(time.monotonic() - start)
    return found


async def restarts() -> list[float]:
    """Return how long it took after a server had been started anew, from when it listened."""
    found = []
    port = free_port()
    async with running(f"opc.tcp://127.0.0.1:{port}/yulink") as agent:
        for number in range(REPEATS + 1):
            async with serve_opcua(variables(float(number)), port=port):
                start = time.monotonic()
                await agent.until(lambda number=number: agent.seen == number)  # type: ignore[misc]
                found.append(time.monotonic() - start)
    return found[1:]


async def measure() -> None:
    """Print the figures."""
    print(f"seconds until good values, {TAGS + 1} tags, {REPEATS} times each     median      most    target")
    troubles: list[tuple[str, Trouble]] = [
        ("line cut for 1 s", line_cut),
        ("line cut for 12 s", line_cut_long),
        ("line frozen for 10 s", line_frozen),
        ("session ended by the server", session_ended),
        ("subscription dropped by the server", subscription_dropped),
    ]
    rows = [(title, await seconds(trouble)) for title, trouble in troubles]
    rows.append(("server started anew", await restarts()))
    for title, found in rows:
        print(f"  {title:52} {statistics.median(found):8.2f} {max(found):9.2f}   < {TARGET_S:g}")


def main() -> None:
    """Run it without the agent's own words."""
    logging.getLogger("yulink").setLevel(logging.CRITICAL)
    asyncio.run(measure())


if __name__ == "__main__":
    main()
