"""Each fault of the line, seen from a client of an echo server behind it."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from edge.core.errors import YulinkError
from simulators.faults import FaultLine, SteppedClock, fault_line
from simulators.scenario import FaultWindow, parse_fault


@pytest.fixture
async def line() -> AsyncIterator[FaultLine]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1000):
                writer.write(data)
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, fault_line(*server.sockets[0].getsockname()[:2]) as line:
        yield line


async def ask(line: FaultLine, words: bytes, deadline_s: float = 5) -> bytes:
    """Send words on a connection of its own and return what comes back until as much came, or the end."""
    reader, writer = await asyncio.open_connection(line.host, line.port)
    try:
        async with asyncio.timeout(deadline_s):
            writer.write(words)
            back = b""
            while len(back) < len(words) and (piece := await reader.read(100)):
                back += piece
            return back
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


async def test_a_healthy_line_passes_everything(line: FaultLine) -> None:
    assert await ask(line, b"hello") == b"hello"


async def test_refuse_cut_and_heal(line: FaultLine) -> None:
    line.refuse()
    assert await ask(line, b"hello") == b""
    line.heal()
    line.cut(after_bytes=2)
    assert await ask(line, b"hello") == b"he"
    assert await ask(line, b"hello") == b"hello"


async def test_freeze_holds_everything_back_with_the_socket_open(line: FaultLine) -> None:
    line.freeze()
    with pytest.raises(TimeoutError):
        await ask(line, b"hello", 0.2)
    line.heal()
    assert await ask(line, b"hello") == b"hello"


async def test_delay_drip_and_garbage(line: FaultLine) -> None:
    began = time.monotonic()
    line.delay(0.05)
    assert await ask(line, b"hello") == b"hello"
    assert time.monotonic() - began >= 0.1
    line.heal()
    began = time.monotonic()
    line.drip(0.01)
    assert await ask(line, b"hello") == b"hello"
    assert time.monotonic() - began >= 0.04
    line.heal()
    line.garbage()
    back = await ask(line, b"hello")
    assert len(back) == 5
    assert back != b"hello"


def test_a_stepped_clock_moves_the_wall_only() -> None:
    clock = SteppedClock()
    wall, elapsed = clock.now(), clock.monotonic()
    clock.step(-3600)
    assert -3601e9 < clock.now() - wall < -3599e9
    assert 0 <= clock.monotonic() - elapsed < 10


def test_fault_windows_are_read_or_refused_with_an_example() -> None:
    assert parse_fault("plc-1:freeze@10s+5s") == FaultWindow("plc-1", "freeze", 10.0, 5.0)
    for wrong in ("plc-1", "plc-1:melt@1s+1s", "plc-9:cut@1s+1s", "plc-1:cut@soon+1s", "plc-1:cut@1s+0s"):
        with pytest.raises(YulinkError, match=r"plc-1:freeze@10s\+5s"):
            parse_fault(wrong)
