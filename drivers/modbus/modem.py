"""A port that modems (4G DTUs) dial. Each says who it is with its registration packet, then carries RTU frames."""

import asyncio
import os

from drivers.api import Shared
from drivers.modbus.endpoint import Endpoint
from drivers.modbus.link import Link, TcpLink
from edge.core.errors import Disconnected
from edge.core.language import say

REGISTRATION_BYTES_MAX = 256
REGISTRATION_DEADLINE_S = 10.0
UNKNOWN_MAX = 64
WAIT_S = 5.0


class ModemLink(TcpLink):
    """One modem's connection. Until it has registered it is nobody's; heartbeats are not answers."""

    def __init__(self, port: "ModemPort") -> None:
        super().__init__()
        self._port = port
        self.registration = b""
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._deadline = asyncio.get_running_loop().call_later(REGISTRATION_DEADLINE_S, self.close)
        self._port.greet(self)

    def data_received(self, data: bytes) -> None:
        if not self.registration:
            self.received += data
            self._port.register(self)
        elif data not in (self.registration, self._port.heartbeats.get(self.registration)):
            self._take(data)

    def registered(self, registration: bytes) -> None:
        """Belong to a device from now on."""
        self.registration = registration
        self.received.clear()
        if self._deadline is not None:
            self._deadline.cancel()

    def close(self) -> None:
        self._port.forget(self)
        super().close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._port.forget(self)
        super().connection_lost(exc)


class ModemPort:
    """Listens as long as the agent runs, so that a modem finds it open between two sessions of its device.

    heartbeats   what each expected registration's modem sends to keep its connection, b"" for nothing
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._server: asyncio.Server | None = None
        self._starting = asyncio.Lock()
        self._links: dict[bytes, ModemLink] = {}
        self._unknown: set[ModemLink] = set()
        self._arrived = asyncio.Event()
        self._stranger = b""
        self.heartbeats: dict[bytes, bytes] = {}

    @classmethod
    async def share(cls, shared: Shared, endpoint: Endpoint) -> "ModemPort":
        """Return the port of this address, listening. Raises Disconnected when it cannot be opened."""
        port: ModemPort = shared.setdefault(f"modbus port {endpoint.address}", cls(endpoint))
        async with port._starting:
            if port._server is None:
                await port._listen()
        return port

    async def _listen(self) -> None:
        loop, endpoint = asyncio.get_running_loop(), self._endpoint
        try:
            self._server = await loop.create_server(lambda: ModemLink(self), endpoint.host, endpoint.port)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            raise Disconnected(
                say("{address} cannot be opened: {reason}", address=endpoint.address, reason=reason),
                say("is another program using the port, or is the address not this machine's?"),
            ) from error

    async def wait_link(self, registration: bytes, heartbeat: bytes, timeout_s: float) -> Link:
        """Return the connection of the modem with this registration, waiting a while for it to dial.

        Raises:
            Disconnected: it has not dialled. The hint tells which unknown one has.
        """
        self.heartbeats[registration] = heartbeat
        try:
            async with asyncio.timeout(timeout_s + WAIT_S):
                while registration not in self._links:
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError as error:
            name, address = printable(registration), self._endpoint.address
            hint = say("set the modem's server to this machine, port {port}", port=self._endpoint.port)
            if self._stranger:
                hint = say("a modem that says {bytes!r} has dialled: is it this one?", bytes=printable(self._stranger))
            raise Disconnected(
                say("the modem {name!r} has not dialled {address}", name=name, address=address), hint
            ) from error
        return self._links[registration]

    def greet(self, link: ModemLink) -> None:
        """Take up a new connection, unless too many have not said who they are."""
        if len(self._unknown) >= UNKNOWN_MAX:
            link.close()
        else:
            self._unknown.add(link)

    def register(self, link: ModemLink) -> None:
        """Find out whose modem it is; send strangers away. A modem that dials again replaces its old connection."""
        said = bytes(link.received)
        known = max((each for each in self.heartbeats if said.startswith(each)), key=len, default=None)
        if known is not None:
            if (old := self._links.get(known)) is not None:
                old.close()
            self._unknown.discard(link)
            self._links[known] = link
            link.registered(known)
            self._arrived.set()
        elif len(said) >= REGISTRATION_BYTES_MAX or not any(each.startswith(said) for each in self.heartbeats):
            self._stranger = said[:REGISTRATION_BYTES_MAX]
            link.close()

    def forget(self, link: ModemLink) -> None:
        """Take note that a connection has ended."""
        self._unknown.discard(link)
        if self._links.get(link.registration) is link:
            del self._links[link.registration]

    def close(self) -> None:
        """Stop listening and drop all modems. Whoever waits for one waits in vain."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for link in [*self._links.values(), *self._unknown]:
            link.close()


def printable(registration: bytes) -> str:
    """Return a registration as it is written in the configuration."""
    text = registration.rstrip(b"\r\n").decode("ascii", "replace")
    return text if text.isprintable() and "\ufffd" not in text else f"hex:{registration.hex(' ')}"
