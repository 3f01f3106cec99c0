"""MQTT as it passes by: a proxy between an edge and its server that writes down every packet both ways."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, UNSUBSCRIBE, DISCONNECT = 1, 2, 3, 4, 8, 9, 10, 14


@dataclass(slots=True)
class Packet:
    """One packet. `connection` counts the TCP connections, `server` names the broker; other fields by kind."""

    connection: int
    server: str
    from_edge: bool
    kind: int
    at_ms: int = 0
    version: int = 4
    topic: str = ""
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    will: "Packet | None" = None
    clean: bool = False
    expiry_s: int = 0
    reason: int = 0
    filters: tuple[str, ...] = ()


@dataclass(slots=True)
class Recording:
    """All packets in the order in which they passed, and a mark where a TCP connection ended without DISCONNECT."""

    packets: list[Packet] = field(default_factory=list)


class _Reader:
    """A packet's body, read from the front."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        found = self.data[self.at : self.at + count]
        self.at += count
        return found

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def block(self) -> bytes:
        return self.take(self.number(2))

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def properties(self) -> bytes:
        return self.take(self.varint())


def parse_packet(head: int, body: bytes, version: int, connection: int, server: str, from_edge: bool) -> Packet:
    """Return what matters of a packet (MQTT 3.1.1 and 5, chapter 3)."""
    packet = Packet(connection, server, from_edge, head >> 4, version=version)
    reader = _Reader(body)
    match packet.kind:
        case 1:
            reader.block()
            packet.version = reader.number(1)
            flags = reader.number(1)
            packet.clean = bool(flags & 2)
            reader.number(2)
            if packet.version == 5:
                packet.expiry_s = _session_expiry(reader.properties())
            reader.block()
            if flags & 4:
                if packet.version == 5:
                    reader.properties()
                will = Packet(connection, server, True, PUBLISH, topic=reader.block().decode())
                will.payload, will.qos, will.retain = reader.block(), flags >> 3 & 3, bool(flags & 0x20)
                packet.will = will
        case 2:
            reader.number(1)
            packet.reason = reader.number(1)
        case 3:
            packet.qos, packet.retain = head >> 1 & 3, bool(head & 1)
            packet.topic = reader.block().decode()
            if packet.qos:
                reader.number(2)
            if version == 5:
                reader.properties()
            packet.payload = body[reader.at :]
        case 8:
            reader.number(2)
            if version == 5:
                reader.properties()
            filters = []
            while reader.at < len(body):
                filters.append(reader.block().decode())
                reader.number(1)
            packet.filters = tuple(filters)
        case 14:
            packet.reason = body[0] if body else 0
    return packet


def _session_expiry(properties: bytes) -> int:
    at = properties.find(b"\x11")  # the only property an edge of ours sends besides is none
    return int.from_bytes(properties[at + 1 : at + 5], "big") if at >= 0 else 0


class Tap:
    """A proxy in front of one server. `port` is where the edge connects."""

    _connections = 0

    def __init__(self, recording: Recording, server_port: int, name: str) -> None:
        self.recording, self.name = recording, name
        self.port = 0
        self._server_port = server_port
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Break every connection without a DISCONNECT."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        Tap._connections += 1
        connection = Tap._connections
        version = [4]
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        tasks = [
            asyncio.create_task(self._pump(reader, far_writer, connection, version, True)),
            asyncio.create_task(self._pump(far_reader, writer, connection, version, False)),
        ]
        self._tasks |= set(tasks)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (writer, far_writer):
                each.transport.abort()
                self._writers.discard(each)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self._tasks -= set(tasks)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        connection: int,
        version: list[int],
        from_edge: bool,
    ) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                raw = await reader.readexactly(1)
                head = raw[0]
                length = shift = 0
                while True:
                    byte = await reader.readexactly(1)
                    raw += byte
                    length |= (byte[0] & 0x7F) << shift
                    shift += 7
                    if byte[0] < 0x80:
                        break
                body = await reader.readexactly(length)
                packet = parse_packet(head, body, version[0], connection, self.name, from_edge)
                packet.at_ms = round(asyncio.get_running_loop().time() * 1000)
                version[0] = packet.version if packet.kind == CONNECT else version[0]
                self.recording.packets.append(packet)
                writer.write(raw + body)
                await writer.drain()


@asynccontextmanager
async def tapped(recording: Recording, server_port: int, name: str = "a") -> AsyncIterator[Tap]:
    """Run a recording proxy while the block runs."""
    tap = Tap(recording, server_port, name)
    server = await asyncio.start_server(tap._serve, "127.0.0.1", 0)
    tap.port = server.sockets[0].getsockname()[1]
    try:
        yield tap
    finally:
        tap.cut()
        server.close()
        await server.wait_closed()
        while tap._tasks:
            await asyncio.sleep(0)
