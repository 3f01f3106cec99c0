"""What never grows, hangs or spins: cancelling, shutting down, floods, idle time, speed of a serial line."""

import asyncio
import time
from contextlib import suppress
from typing import Any

import pytest

from drivers.modbus import SPEC
from drivers.modbus.endpoint import Endpoint
from drivers.modbus.link import RECEIVED_BYTES_MAX, open_link
from edge.core.errors import Disconnected
from simulators.faults import fault_line
from simulators.modbus import Unit, serve_serial, serve_tcp
from tests.drivers.support import make_driver, read_rows

STOP_S = 1.0


def section(url: str, **more: Any) -> dict[str, Any]:
    tags = {f"w{place}": {"at": f"holding/{place}"} for place in range(3)}
    return {"modbus": url, "every": "10ms", "tags": tags, **more}


def slave() -> Unit:
    unit = Unit()
    unit.put("holding", 0, "u16", [1, 2, 3])
    return unit


@pytest.mark.parametrize("transport", ["tcp", "rtu", "serial"])
@pytest.mark.parametrize("after_requests", [0, 1, 2, 5])
async def test_cancelling_ends_at_once_wherever_it_strikes(transport: Any, after_requests: int) -> None:
    """The library's client has swallowed cancellation; here a device that is silent for an hour holds up nothing."""
    unit = slave()
    serving = serve_serial({1: unit}, baud=0) if transport == "serial" else serve_tcp({1: unit}, framing=transport)
    async with serving as server:
        driver, _ = make_driver(SPEC, section(server.url, limits={"timeout": "1h"}))

        async def live() -> None:
            async with driver.connect() as session:
                while True:
                    await session.read()

        unit.silent = after_requests == 0
        living = asyncio.create_task(live())
        async with asyncio.timeout(5):
            while len(server.requests) < max(after_requests, 1):
                await asyncio.sleep(0.001)
        unit.silent = True
        await asyncio.sleep(0.02)  # now it waits for an answer that will not come
        began = time.monotonic()
        living.cancel()
        await asyncio.wait([living], timeout=STOP_S)
        assert living.cancelled()
        assert time.monotonic() - began < STOP_S


async def test_connecting_into_a_black_hole_is_cancelled_at_once() -> None:
    unit = slave()
    async with serve_tcp({1: unit}) as server, fault_line(server.host, server.port) as line:
        line.freeze()
        url = f"tcp://{line.host}:{line.port}"
        driver, _ = make_driver(SPEC, section(url, limits={"timeout": "1h"}))
        connecting = asyncio.create_task(driver.connect().__aenter__())
        await asyncio.sleep(0.05)
        connecting.cancel()
        await asyncio.wait([connecting], timeout=STOP_S)
        assert connecting.cancelled()


async def test_a_flood_is_not_kept() -> None:
    flooding: list[asyncio.Task[None]] = []

    async def flood(writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while True:
                writer.write(b"\x01\x03" * 30_000)
                await writer.drain()

    def called(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        flooding.append(asyncio.create_task(flood(writer)))

    server = await asyncio.start_server(called, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        link = await open_link(Endpoint("rtu+tcp", "127.0.0.1", port), 1.0, None, None)
        for _ in range(20):
            await link.wait_more(float("inf"))
            assert len(link.received) <= RECEIVED_BYTES_MAX
        link.close()
        driver, _ = make_driver(SPEC, section(f"rtu+tcp://127.0.0.1:{port}", limits={"timeout": "50ms"}))
        async with asyncio.timeout(5):
            with pytest.raises(Disconnected, match="what came is no answer"):
                async with driver.connect():
                    pass
        await asyncio.wait(flooding, timeout=5)


async def test_waiting_for_the_next_poll_costs_nothing() -> None:
    async with serve_tcp({1: slave()}) as server:
        driver, names = make_driver(SPEC, section(server.url, every="1h"))
        async with driver.connect() as session:
            await read_rows(session, names)
            waiting = asyncio.create_task(session.read())
            await asyncio.sleep(0.05)
            before = time.process_time()
            await asyncio.sleep(0.5)
            assert time.process_time() - before < 0.05
            waiting.cancel()
            await asyncio.wait([waiting])


async def test_a_serial_line_is_as_fast_as_its_bits() -> None:
    """No tick of 200 ms: at 115,200 baud a poll every 20 ms is held."""
    async with serve_serial({1: slave()}, baud=115_200) as bus:
        driver, names = make_driver(SPEC, section(bus.url.replace("9600", "115200"), every="20ms"))
        async with driver.connect() as session:
            await read_rows(session, names)
            began = time.monotonic()
            for _ in range(25):
                await read_rows(session, names)
            assert time.monotonic() - began < 25 * 0.02 * 3  # a third of the asked speed would do on a busy machine
