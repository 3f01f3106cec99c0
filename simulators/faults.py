"""A line that can fail: a TCP relay on loopback whose faults a test or a scenario switches, and a clock to be set."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from edge.core.clock import SystemClock

CHUNK_BYTES = 65_536
ACCEPTING_TURNS = 10
"""So many turns of the loop, more than enough, until who was accepted at the last moment is known."""


class FaultLine:
    """A relay between clients and one server. Faults hold until `heal`; `cut` is an instant."""

    def __init__(self, target_host: str, target_port: int) -> None:
        self._target = (target_host, target_port)
        self.host = ""
        self.port = 0
        self.connections_total = 0
        self.bytes_total = 0
        self._diverted: list[tuple[str, int]] = []
        self.pieces_lost_total = 0
        self.frames_cut_total = 0
        self._refusing = False
        self._garbage = False
        self._delay_s = 0.0
        self._drip_s = 0.0
        self._loss = (0.0, 0.0)
        self._chance = random.Random()
        self._bytes_left: int | None = None
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()

    def refuse(self) -> None:
        """Close every new connection at once."""
        self._refusing = True

    def cut(self, after_bytes: int = 0) -> None:
        """Break all connections, now or after so many more bytes of answers: in the middle of a frame."""
        if after_bytes:
            self._bytes_left = after_bytes
            return
        for writer in list(self._writers):
            writer.transport.abort()

    def divert(self, host: str, port: int, connections: int = 1) -> None:
        """Lead so many of the next connections to another server, as somebody in between would."""
        self._diverted = [(host, port)] * connections

    def freeze(self) -> None:
        """Let nothing pass while the sockets stay open: a black hole."""
        self._open.clear()

    def delay(self, seconds: float) -> None:
        """Let every piece pass only after so long."""
        self._delay_s = seconds

    def lose(self, share: float, again_after_s: float, chance: random.Random) -> None:
        """Let this share of the pieces, and all behind each, wait for so long: TCP sends a lost packet again."""
        self._loss, self._chance = (share, again_after_s), chance

    def drip(self, seconds: float) -> None:
        """Let answers pass a byte at a time, with so long in between."""
        self._drip_s = seconds

    def garbage(self) -> None:
        """Replace the bytes of answers by others."""
        self._garbage = True

    def heal(self) -> None:
        """End every fault."""
        self._diverted = []
        self._refusing = self._garbage = False
        self._delay_s = self._drip_s = 0.0
        self._loss = (0.0, 0.0)
        self._bytes_left = None
        self._open.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay one connection until either side ends it."""
        self.connections_total += 1
        self._writers.add(writer)
        far_writer: asyncio.StreamWriter | None = None
        try:
            if self._refusing:
                writer.transport.abort()
                return
            target = self._diverted.pop() if self._diverted else self._target
            far_reader, far_writer = await asyncio.open_connection(*target)
            self._writers.add(far_writer)
            up = asyncio.create_task(self._pass(reader, far_writer, answers=False))
            down = asyncio.create_task(self._pass(far_reader, writer, answers=True))
            try:
                await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (up, down):
                    task.cancel()
                await asyncio.gather(up, down, return_exceptions=True)
        except OSError:
            return
        finally:
            for each in (writer, far_writer):
                if each is not None:
                    self._writers.discard(each)
                    each.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(CHUNK_BYTES):
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                share, again_after_s = self._loss
                if share and self._chance.random() < share:
                    self.pieces_lost_total += 1
                    await asyncio.sleep(again_after_s)
                await self._open.wait()
                if answers and self._garbage:
                    data = bytes(byte ^ 0x5A for byte in data)
                pieces = [data[n : n + 1] for n in range(len(data))] if answers and self._drip_s else [data]
                for piece in pieces:
                    if answers and self._bytes_left is not None:
                        piece = piece[: self._bytes_left]
                        self._bytes_left -= len(piece)
                    writer.write(piece)
                    await writer.drain()
                    self.bytes_total += len(piece)
                    if answers and self._bytes_left == 0:
                        self._bytes_left = None
                        self.frames_cut_total += 1
                        return
                    if len(pieces) > 1:
                        await asyncio.sleep(self._drip_s)


@asynccontextmanager
async def fault_line(target_host: str, target_port: int) -> AsyncIterator[FaultLine]:
    """Relay to a server from a free port of loopback while the block runs."""
    line = FaultLine(target_host, target_port)
    serving: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            await line.serve(reader, writer)
        finally:
            serving.discard(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    line.host, line.port = server.sockets[0].getsockname()[:2]
    try:
        yield line
    finally:
        server.close()
        line.heal()
        line.refuse()
        for _ in range(ACCEPTING_TURNS):
            await asyncio.sleep(0)
        while serving:
            line.cut()
            await asyncio.gather(*serving)


class SteppedClock(SystemClock):
    """The machine's clock, whose wall time a test or scenario sets while it runs."""

    def __init__(self) -> None:
        self._offset = 0

    def now(self) -> int:
        return super().now() + self._offset

    def step(self, seconds: float) -> None:
        """Set the wall clock forward or back; monotonic time goes on."""
        self._offset += round(seconds * 1e9)
