"""A serial bus, a modem, or one connection to a host, and the devices that share it: one request at a time, in turn."""

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from drivers.api import Shared
from drivers.modbus.client import BlockFailed, Client
from drivers.modbus.endpoint import Endpoint
from drivers.modbus.link import Link, open_link
from drivers.modbus.modem import ModemPort
from drivers.modbus.plan import Request
from edge.core.clock import Clock
from edge.core.errors import Disconnected
from edge.core.language import say

REST_MIN_S = 0.02
LATE_DOUBLINGS_MAX = 2
MUTE_MAX = 2
REFUSED_S = 0.3
PROBE_PAUSE_TIMEOUTS = 5
PROBE_PAUSE_MAX_S = 60.0
PROBE_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Access:
    """How a line is opened: its endpoint, TLS where the endpoint has it, and a modem's heartbeat bytes."""

    endpoint: Endpoint
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    heartbeat: bytes = b""


@dataclass(slots=True)
class _Silent:
    """A unit that does not answer, and when it may be asked again."""

    until: float
    pause: float


class Line:
    """Owned by all devices that have it open; the last one closes it.

    Where frames carry no transaction id, a unit that was late is left alone for as long as its answer might still
    come, longer each time it is late again. A unit that is silent is asked again once in a growing pause, and all
    silent ones together may cost the others a tenth of the line's time; as soon as one answers, each may try again.
    """

    def __init__(self, access: Access, clock: Clock, shared: Shared) -> None:
        self._access = access
        self._clock = clock
        self._shared = shared
        self._turn = asyncio.Lock()
        self._client: Client | None = None
        self._users = 0
        self._rest_until: dict[int, float] = {}
        self._lates: Counter[int] = Counter()
        self._silent: dict[int, _Silent] = {}
        self._probe_from = 0.0
        self._mute = 0
        self._refused: tuple[float, Disconnected] | None = None

    @classmethod
    @asynccontextmanager
    async def share(cls, shared: Shared, access: Access, clock: Clock, timeout_s: float) -> AsyncIterator["Line"]:
        """Join the line of this endpoint, opening it for the first device. Raises Disconnected."""
        key = f"modbus {access.endpoint.line}"
        line: Line = shared.setdefault(key, cls(access, clock, shared))
        line._users += 1
        try:
            async with line._turn:
                await line._open(timeout_s)
            yield line
        finally:
            line._users -= 1
            if not line._users:
                line.close()
                shared.pop(key, None)

    async def _open(self, timeout_s: float) -> Client:
        """Return the open connection. Whoever waited while it was refused is refused with the same words."""
        if self._client is None or not self._client.is_open:
            if self._refused and self._clock.monotonic() < self._refused[0]:
                raise Disconnected(self._refused[1].message, self._refused[1].hint)
            self.close()
            try:
                link = await self._open_link(timeout_s)
            except Disconnected as error:
                self._refused = (self._clock.monotonic() + REFUSED_S, error)
                raise
            self._client = Client(link, self._access.endpoint, self._clock)
            self._mute = 0
        return self._client

    async def _open_link(self, timeout_s: float) -> Link:
        access = self._access
        if access.endpoint.transport == "dtu":
            port = await ModemPort.share(self._shared, access.endpoint)
            return await port.wait_link(access.endpoint.registration, access.heartbeat, timeout_s)
        return await open_link(access.endpoint, timeout_s, access.tls, access.server_name)

    def close(self) -> None:
        """Close the connection; the next request opens it again. A modem that dialled stays connected."""
        if self._client is not None and self._access.endpoint.transport != "dtu":
            self._client.close()
        self._client = None

    @property
    def has_transactions(self) -> bool:
        """Tell whether an answer names its request."""
        return self._access.endpoint.has_transactions

    def check(self, unit: int) -> None:
        """Tell a unit that was silent whether it may be asked now.

        Raises:
            Disconnected: not yet; others use the line.
        """
        now = self._clock.monotonic()
        silent = self._silent.get(unit)
        if silent is None or self._users < 2:
            return
        if (left := max(silent.until, self._probe_from) - now) > 0:
            raise Disconnected(
                say("unit {unit} is silent; it is asked again in {seconds:.0f} s", unit=unit, seconds=left),
                say("check the unit id, the wiring and the line settings"),
            )

    def note_silence(self, unit: int, timeout_s: float) -> None:
        """Take note that a unit does not answer: the others need not wait for it."""
        now = self._clock.monotonic()
        before = self._silent.get(unit)
        pause = min(before.pause * 2 if before else PROBE_PAUSE_TIMEOUTS * timeout_s, PROBE_PAUSE_MAX_S)
        self._silent[unit] = _Silent(now + pause, pause)
        self._probe_from = now + timeout_s * (1 / PROBE_SHARE - 1)

    async def read(self, unit: int, request: Request, timeout_s: float, pause_s: float) -> bytes:
        """Return the answer's data bytes, waiting for the line first.

        Cancelling is safe: no answer is ever given to another request.
        Raises BlockFailed, TimeoutError, Disconnected.
        """
        await self._rest(unit)
        async with self._turn:
            client = await self._open(timeout_s)
            try:
                payload = await client.read(unit, request, timeout_s)
            except BlockFailed as error:
                if error.code:
                    self._answered(unit)
                raise
            except TimeoutError:
                self._late(unit, timeout_s)
                self._mute += 1
                if self._mute >= MUTE_MAX and self._access.endpoint.transport != "serial":
                    client.close()  # nobody answers: the connection may lead nowhere
                raise
            except asyncio.CancelledError:
                self._late(unit, timeout_s)
                raise
            finally:
                if pause_s:
                    self._leave_alone(unit, pause_s)
            self._answered(unit)
            return payload

    def _late(self, unit: int, timeout_s: float) -> None:
        if not self.has_transactions:
            rest = timeout_s * 2 ** min(self._lates[unit], LATE_DOUBLINGS_MAX)
            self._lates[unit] += 1
            self._leave_alone(unit, max(rest, REST_MIN_S))

    def _leave_alone(self, unit: int, seconds: float) -> None:
        until = self._clock.monotonic() + seconds
        self._rest_until[unit] = max(until, self._rest_until.get(unit, 0.0))

    def _answered(self, unit: int) -> None:
        self._mute = 0
        self._lates.pop(unit, None)
        if self._silent.pop(unit, None) is not None:
            now = self._clock.monotonic()
            for other in self._silent.values():
                other.until = now

    async def _rest(self, unit: int) -> None:
        if (left := self._rest_until.pop(unit, 0.0) - self._clock.monotonic()) > 0:
            await self._clock.sleep(left)
