"""Modbus: requests for scattered tags, CPU and cycle times of 100 polled devices, and how soon a device is back.

The devices are simulated in a process of their own, so the CPU counted is that of drivers, supervisors and ingest.
In the same run: the library's own client reading the same registers, and a bare asyncio client that sends a ready
frame and decodes nothing.
"""

import asyncio
import contextlib
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import numpy as np
from pymodbus.client import AsyncModbusTcpClient

from drivers.api import DeviceContext, Shared
from drivers.modbus import SPEC
from drivers.modbus.plan import Span, plan_requests
from drivers.modbus.section import Limits
from edge.agent.configuration.rules import TagRule
from edge.agent.ingest import Ingest
from edge.agent.supervise import DeviceHealth, DeviceState, Supervisor
from edge.agent.tallying import Tallying
from edge.core.batch import Batch, Record
from edge.core.catalogue import Catalogue
from edge.core.clock import SystemClock
from edge.core.ledger import Tally
from simulators.modbus import Unit, serve_tcp

DEVICES = 100
REGISTERS = 100
WARM_S = 3.0
STARTING = 3  # first polls, in which all devices begin at once and go over to grids of their own
MEASURED_S = 20.0
RECONNECTS = 5
OUTAGE_S = 1.5


def cpu_s() -> float:
    """Return the CPU time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def serve_devices() -> None:
    """Serve the devices until the reader of our output goes away."""
    async with AsyncExitStack() as closing:
        ports = []
        for _ in range(DEVICES):
            unit = Unit()
            unit.put("holding", 0, "u16", list(range(REGISTERS)))
            ports.append((await closing.enter_async_context(serve_tcp({1: unit}))).port)
        print(*ports, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


@contextlib.contextmanager
def devices() -> Any:
    """Yield the ports of devices in another process."""
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield [int(port) for port in process.stdout.readline().split()]
        finally:
            process.communicate("")


class Gateway:
    """Supervised drivers of all devices, with what they deliver."""

    def __init__(self, ports: list[int]) -> None:
        self.times: dict[int, list[int]] = {}
        self.values = 0
        catalogue, clock, shared = Catalogue(), SystemClock(), Shared()
        self.supervisors = []
        for number, port in enumerate(ports):
            name = f"device-{number}"
            tags = {f"r{place}": {"at": f"holding/{place}"} for place in range(REGISTERS)}
            section = SPEC.section.model_validate({"modbus": f"tcp://127.0.0.1:{port}", "every": "1s", "tags": tags})
            driver = SPEC.create(section, DeviceContext(name, 1.0, catalogue, clock, str, shared))
            rules = {"r0": TagRule(valid=(0, 1e6)), "r1": TagRule(deadband=1.0)}
            ingest = Ingest(name, rules, catalogue)
            health = DeviceHealth(name, "modbus", "none")
            tallying = Tallying(name, {1.0: REGISTERS}, clock)
            self.supervisors.append(Supervisor(health, driver, ingest, catalogue, clock, self.put, tallying))

    async def put(self, record: Record | None, tally: Tally | None) -> None:
        """Take what is delivered."""
        if isinstance(record, Batch):
            self.values += len(record)
            self.times.setdefault(int(record.tag[-1]), []).append(int(record.ts[-1]))


@asynccontextmanager
async def running(*jobs: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run the jobs while the block runs."""
    tasks = [asyncio.ensure_future(job()) for job in jobs]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def measure(*jobs: Callable[[], Awaitable[None]]) -> float:
    """Return the CPU seconds a second that the jobs take once they run."""
    async with running(*jobs):
        await asyncio.sleep(WARM_S)
        before = cpu_s()
        await asyncio.sleep(MEASURED_S)
        return (cpu_s() - before) / MEASURED_S


async def polled(ports: list[int]) -> tuple[float, Gateway]:
    """Return the CPU share of our gateway, and what it delivered."""
    gateway = Gateway(ports)
    return await measure(*(supervisor.run for supervisor in gateway.supervisors)), gateway


def every_second(once: Callable[[], Awaitable[None]], phase: float) -> Callable[[], Awaitable[None]]:
    """Return a job that does something each second."""

    async def job() -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + phase
        while True:
            await asyncio.sleep(due - loop.time())
            await once()
            due += 1

    return job


async def library(ports: list[int]) -> float:
    """Return the CPU share of the library's own client."""
    async with AsyncExitStack() as closing:
        jobs = []
        for number, port in enumerate(ports):
            client = await closing.enter_async_context(AsyncModbusTcpClient("127.0.0.1", port=port))

            async def once(client: AsyncModbusTcpClient = client) -> None:
                await client.read_holding_registers(0, count=REGISTERS, device_id=1)

            jobs.append(every_second(once, number / len(ports)))
        return await measure(*jobs)


async def bare(ports: list[int]) -> float:
    """Return the CPU share of a client that sends a ready frame and waits for bytes."""
    frame = bytes([0, 1, 0, 0, 0, 6, 1, 3, 0, 0, 0, REGISTERS])
    jobs, writers = [], []
    for number, port in enumerate(ports):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)

        async def once(reader: asyncio.StreamReader = reader, writer: asyncio.StreamWriter = writer) -> None:
            writer.write(frame)
            await reader.readexactly(9 + 2 * REGISTERS)

        jobs.append(every_second(once, number / len(ports)))
    try:
        return await measure(*jobs)
    finally:
        for writer in writers:
            writer.close()


async def reconnects() -> list[float]:
    """Return the seconds from a device's return to its first good value."""
    waits = []
    unit = Unit()
    unit.put("holding", 0, "u16", list(range(REGISTERS)))
    async with serve_tcp({1: unit}) as server:
        port = server.port
    gateway = Gateway([port])
    (supervisor,) = gateway.supervisors

    async def reached(state: DeviceState) -> None:
        while supervisor.health.state is not state:
            await asyncio.sleep(0.005)

    async with running(supervisor.run):
        for _ in range(RECONNECTS):
            await reached(DeviceState.LOST)
            await asyncio.sleep(OUTAGE_S)
            async with serve_tcp({1: unit}, port=port):
                back = time.perf_counter()
                await reached(DeviceState.CONNECTED)
                waits.append(time.perf_counter() - back)
                await asyncio.sleep(0.2)
    return waits


def main() -> None:
    """Print the figures."""
    scattered = plan_requests([Span("holding", place, 1) for place in range(500)], Limits())
    print(f"500 tags of one register      {len(scattered):6d} requests (target ≤ 5; one each: 500)")
    with devices() as ports:
        ours, gateway = asyncio.run(polled(ports))
        least = asyncio.run(bare(ports))
        theirs = asyncio.run(library(ports))
    cycles_ms = np.concatenate([np.diff(times[STARTING:]) / 1e6 for times in gateway.times.values()])
    off = np.abs(cycles_ms / 1e3 - 1)
    states = {supervisor.health.state for supervisor in gateway.supervisors}
    print(f"{DEVICES} devices, {REGISTERS} registers each, 1 s   {gateway.values} values, {', '.join(states)}")
    print(f"CPU of drivers and ingest     {ours:6.1%} of a core (target ≤ 30 %)")
    print(f"  the library's client alone  {theirs:6.1%}, ours is {ours / theirs:4.2f} x")
    print(f"  a ready frame, no decoding  {least:6.1%}, ours is {ours / least:4.2f} x")
    print(f"cycles within 2 %             {np.mean(off <= 0.02):6.2%} of {len(off)} (target ≥ 99 %)")
    print(f"cycle time p1 / p50 / p99     {' / '.join(f'{ms:.1f}' for ms in np.percentile(cycles_ms, [1, 50, 99]))} ms")
    waits = asyncio.run(reconnects())
    print(f"back after a return           {', '.join(f'{wait:.2f}' for wait in waits)} s (target < 5 s)")


if __name__ == "__main__":
    if "--serve" in sys.argv:
        asyncio.run(serve_devices())
    else:
        main()
