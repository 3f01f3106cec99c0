"""A Modbus slave for tests and the demo: TCP, TLS, RTU over TCP, a modem that dials in, and a real serial line made of
a pseudo-terminal pair.

Written without the library that the driver uses, so that both ends do not share a mistake. It answers reads
(functions 1 to 4) and refuses everything else with exception 1. Faults are attributes of a `Unit`.
"""

import asyncio
import contextlib
import os
import socket
import ssl
import struct
import termios
import tty
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

REGISTERS_MAX = 125
BITS_MAX = 2000

_FUNCTIONS = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}
_FORMATS = {"u16": "H", "i16": "h", "u32": "I", "i32": "i", "u64": "Q", "i64": "q", "f32": "f", "f64": "d"}

Wrong = Literal[
    "transaction",
    "unit",
    "function",
    "length",
    "length_short",
    "length_long",
    "truncate",
    "cut",
    "duplicate",
    "garbage",
]
"""How answers are wrong: in one field; cut off, the connection left open or closed; sent twice; every byte changed."""


@dataclass
class Unit:
    """One slave's memory. Only addresses that were put exist; others answer exception 2.

    refresh          called before each answer, so that a simulated machine can put its present values
    registers_max    a longer request answers exception 3
    exceptions       (table, address) → code: any request that touches it answers this exception
    exception_always every request answers this exception
    unsupported      tables whose function is refused with exception 1
    unanswered       (table, address): a request that touches it gets no answer
    boundaries       (table, address): a request from before it to it answers exception 2
    busy             so many next requests answer exception 6
    silent           no answer at all
    delay_s          an answer comes this late
    drip_s           so long passes between two bytes of an answer
    on_request       called with each request that arrived, before it is answered
    wrong            every answer is wrong in this way
    """

    tables: dict[str, dict[int, int]] = field(
        default_factory=lambda: {"coil": {}, "discrete": {}, "input": {}, "holding": {}}
    )
    refresh: Callable[[], None] | None = None
    registers_max: int = REGISTERS_MAX
    exceptions: dict[tuple[str, int], int] = field(default_factory=dict)
    exception_always: int | None = None
    unsupported: set[str] = field(default_factory=set)
    unanswered: set[tuple[str, int]] = field(default_factory=set)
    boundaries: set[tuple[str, int]] = field(default_factory=set)
    busy: int = 0
    silent: bool = False
    delay_s: float = 0.0
    drip_s: float = 0.0
    on_request: Callable[[str, int, int], None] | None = None
    wrong: Wrong | None = None

    def put(self, table: str, address: int, kind: str, value: Any, order: str = "ABCD") -> None:
        """Write a value: bool (one coil or a register's 0/1), u16 … f64, "string[n]", or a list of numbers."""
        if kind == "bool":
            for place, bit in enumerate(value if isinstance(value, list) else [value]):
                self.tables[table][address + place] = int(bool(bit))
            return
        if kind.startswith("string["):
            data = value.encode().ljust(int(kind[7:-1]) + 1, b"\0")[: (int(kind[7:-1]) + 1) // 2 * 2]
            self._store(table, address, data, "BADC" if order in ("BADC", "DCBA") else "ABCD")
            return
        numbers = value if isinstance(value, list | tuple) else [value]
        code = _FORMATS[kind.partition("[")[0]]
        width = struct.calcsize(code) // 2
        for place, each in enumerate(numbers):
            self._store(table, address + place * width, struct.pack(">" + code, each), order)

    def _store(self, table: str, address: int, data: bytes, order: str) -> None:
        words = [data[place : place + 2] for place in range(0, len(data), 2)]
        if order in ("CDAB", "DCBA"):
            words = words[::-1]
        if order in ("BADC", "DCBA"):
            words = [word[::-1] for word in words]
        for place, word in enumerate(words):
            self.tables[table][address + place] = int.from_bytes(word, "big")

    def answer(self, pdu: bytes) -> bytes | None:
        """Return the answer's PDU (function code and data) to a request's; None when it is not answered."""
        function = pdu[0]
        table = _FUNCTIONS.get(function)
        if self.exception_always:
            return bytes([function | 0x80, self.exception_always])
        if table is None or table in self.unsupported or len(pdu) != 5:
            return bytes([function | 0x80, 1])
        if self.busy:
            self.busy -= 1
            return bytes([function | 0x80, 6])
        address, count = struct.unpack(">HH", pdu[1:])
        if self.on_request:
            self.on_request(table, address, count)
        bits = function in (1, 2)
        if not 1 <= count <= (BITS_MAX if bits else min(REGISTERS_MAX, self.registers_max)):
            return bytes([function | 0x80, 3])
        if self.refresh:
            self.refresh()
        wanted = range(address, address + count)
        if any((table, place) in self.unanswered for place in wanted):
            return None
        if any((table, place) in self.boundaries for place in wanted[1:]):
            return bytes([function | 0x80, 2])
        for place in wanted:
            if code := self.exceptions.get((table, place)):
                return bytes([function | 0x80, code])
            if place not in self.tables[table]:
                return bytes([function | 0x80, 2])
        values = [self.tables[table][place] for place in wanted]
        if bits:
            packed = sum(bit << place for place, bit in enumerate(values))
            data = packed.to_bytes((count + 7) // 8, "little")
        else:
            data = struct.pack(f">{count}H", *values)
        return bytes([function, len(data)]) + data


class Server:
    """What a running simulated slave tells and does."""

    def __init__(self, units: Mapping[int, Unit]) -> None:
        self.units = units
        self.requests: list[tuple[int, int, int, int]] = []
        """(unit, function, address, count) of each read that arrived."""
        self.host = ""
        self.port = 0
        self.path = ""
        self.framing = "tcp"
        self.secure = self.dials = False
        self.echo = False
        """On a serial line: what is sent to it comes back first, as from an RS-485 adapter that hears itself."""
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The address as a Yulink configuration writes it."""
        if self.path:
            return f"rtu:{self.path}?9600-8N1"
        if self.dials:
            return f"dtu:{self.host}:{self.port}"
        return f"{'rtu+tcp' if self.framing == 'rtu' else 'tls' if self.secure else 'tcp'}://{self.host}:{self.port}"

    def cut(self) -> None:
        """Drop every open connection now."""
        for writer in self._writers:
            writer.transport.abort()

    async def respond(self, unit_id: int, pdu: bytes) -> tuple[int, bytes] | None:
        """Return (unit, PDU) of the answer after its delay, None when there is none."""
        if len(pdu) == 5:
            self.requests.append((unit_id, pdu[0], *struct.unpack(">HH", pdu[1:])))
        unit = self.units.get(unit_id)
        if unit is None or unit.silent:
            return None
        if unit.delay_s:
            await asyncio.sleep(unit.delay_s)
        answer = unit.answer(pdu)
        if answer is None:
            return None
        match unit.wrong:
            case "function":
                answer = bytes([answer[0] ^ 0x07]) + answer[1:]
            case "length":
                answer = answer[:1] + bytes([max(answer[1] - 2, 0)]) + answer[2:-2]
            case "unit":
                unit_id = unit_id % 247 + 1
        return unit_id, answer

    def spoil(self, unit_id: int, frame: bytes) -> bytes:
        """Return the frame as the unit's fault leaves it."""
        wrong = self.units[unit_id].wrong if unit_id in self.units else None
        if wrong in ("truncate", "cut"):
            return frame[: len(frame) // 2]
        if wrong == "duplicate":
            return frame * 2
        if wrong in ("length_short", "length_long") and self.framing == "tcp":
            change = -2 if wrong == "length_short" else 2
            return frame[:4] + (int.from_bytes(frame[4:6], "big") + change).to_bytes(2, "big") + frame[6:]
        if wrong == "garbage":
            return bytes((byte * 73 + place * 31 + 17) % 256 for place, byte in enumerate(frame))
        if wrong == "transaction" and self.framing == "tcp":
            return bytes([frame[0] ^ 0x55]) + frame[1:]
        return frame

    async def send(self, unit_id: int, frame: bytes, write: Callable[[bytes], Any]) -> None:
        """Write a frame as the unit's faults have it."""
        unit = self.units.get(unit_id)
        frame = self.spoil(unit_id, frame)
        pieces = [frame[place : place + 1] for place in range(len(frame))] if unit and unit.drip_s else [frame]
        for piece in pieces:
            await write(piece)
            if unit and unit.drip_s:
                await asyncio.sleep(unit.drip_s)
        if unit and unit.wrong == "cut":
            self.cut()

    async def serve_mbap(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one Modbus TCP connection until it ends."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readexactly(7)
                transaction, protocol, length, unit_id = struct.unpack(">HHHB", head)
                pdu = await reader.readexactly(length - 1)
                if protocol == 0 and (answer := await self.respond(unit_id, pdu)):
                    sender, body = answer
                    frame = struct.pack(">HHHB", transaction, 0, len(body) + 1, sender) + body

                    async def write(piece: bytes) -> None:
                        writer.write(piece)
                        await writer.drain()

                    await self.send(unit_id, frame, write)

    async def serve_rtu(self, read: Callable[[int], Any], write: Callable[[bytes], Any]) -> None:
        """Serve requests of eight bytes with their checksum until the connection ends."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                request = await read(8)
                while crc(request[:-2]) != request[-2:]:  # find the next request after a disturbance
                    request = request[1:] + await read(1)
                unit_id = request[0]
                if answer := await self.respond(unit_id, request[1:-2]):
                    sender, body = answer
                    frame = bytes([sender]) + body
                    await self.send(unit_id, frame + crc(frame), write)


def crc(frame: bytes) -> bytes:
    """Return the CRC-16 of a Modbus RTU frame, low byte first (Modbus over Serial Line 1.02, 6.2.2)."""
    value = 0xFFFF
    for byte in frame:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ 0xA001 if value & 1 else value >> 1
    return value.to_bytes(2, "little")


@asynccontextmanager
async def serve_tcp(
    units: Mapping[int, Unit],
    host: str = "127.0.0.1",
    port: int = 0,
    framing: Literal["tcp", "rtu"] = "tcp",
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Server]:
    """Serve the units on a TCP port (0: any free one) while the block runs."""
    served = Server(units)
    served.framing, served.secure = framing, tls is not None

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served._writers.add(writer)
        task = asyncio.current_task()
        assert task is not None
        served._serving.add(task)

        async def write(frame: bytes) -> None:
            writer.write(frame)
            await writer.drain()

        try:
            if framing == "tcp":
                await served.serve_mbap(reader, writer)
            else:
                await served.serve_rtu(reader.readexactly, write)
        finally:
            served._writers.discard(writer)
            served._serving.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(connected, host, port, ssl=tls)
    served.host, served.port = server.sockets[0].getsockname()[:2]
    try:
        yield served
    finally:
        server.close()
        served.cut()
        await asyncio.gather(*served._serving)


@asynccontextmanager
async def dial(
    units: Mapping[int, Unit],
    port: int,
    registration: bytes,
    *,
    heartbeat: bytes = b"",
    redial_s: float = 0.05,
    host: str = "127.0.0.1",
) -> AsyncIterator[Server]:
    """Be a modem with a bus behind it: dial, say who it is, serve RTU frames; dial again whenever that ends.

    A heartbeat is sent before each answer.
    """
    served = Server(units)
    served.framing, served.host, served.port, served.dials = "rtu", host, port, True

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def write(frame: bytes) -> None:
            if heartbeat:
                writer.write(heartbeat)
                await writer.drain()
                await asyncio.sleep(0.002)  # a piece of its own on the wire
            writer.write(frame)
            await writer.drain()

        writer.write(registration)
        await served.serve_rtu(reader.readexactly, write)

    async def keep_dialling() -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(host, port)
                served._writers.add(writer)
                try:
                    await serve(reader, writer)
                finally:
                    served._writers.discard(writer)
                    writer.transport.abort()
            await asyncio.sleep(redial_s)

    dialling = asyncio.create_task(keep_dialling(), name="simulated modem")
    try:
        yield served
    finally:
        dialling.cancel()
        await asyncio.wait([dialling])


def free_port() -> int:
    """Return a TCP port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def serve_serial(units: Mapping[int, Unit], baud: int = 9600) -> AsyncIterator[Server]:
    """Serve the units as a bus on a pseudo-terminal; `path` is the device to open. Answers take their time at `baud`.

    With `baud` 0 they come at once.
    """
    served = Server(units)
    master, slave = os.openpty()
    tty.setraw(slave, termios.TCSANOW)
    os.set_blocking(master, False)
    served.path, served.framing = os.ttyname(slave), "rtu"
    loop = asyncio.get_running_loop()
    received = asyncio.StreamReader()

    def ready() -> None:
        with contextlib.suppress(OSError):
            data = os.read(master, 4096)
            if served.echo:
                os.write(master, data)
            received.feed_data(data)

    async def write(frame: bytes) -> None:
        if baud:
            await asyncio.sleep(len(frame) * 10 / baud)
        with contextlib.suppress(OSError):
            os.write(master, frame)

    loop.add_reader(master, ready)
    serving = asyncio.create_task(served.serve_rtu(received.readexactly, write), name="simulated serial bus")
    try:
        yield served
    finally:
        serving.cancel()
        await asyncio.wait([serving])
        loop.remove_reader(master)
        os.close(master)
        os.close(slave)
