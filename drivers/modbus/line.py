"""A serial bus, or one connection to a host, and the devices that share it: one request at a time, in turn."""

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from drivers.modbus.client import Client
from drivers.modbus.plan import Request
from drivers.modbus.section import Endpoint
from edge.core.clock import Clock

QUIET_MIN_S = 0.02


class Line:
    """Owned by all devices that have it open; the last one closes it.

    After a time-out a TCP connection is dropped, so that a late answer dies with it. A serial line stays open for
    the others; the unit that was late is left alone for as long as its answer might still come.
    """

    def __init__(self, endpoint: Endpoint, clock: Clock) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._turn = asyncio.Lock()
        self._client: Client | None = None
        self._users = 0
        self._quiet_until: dict[int, float] = {}

    @classmethod
    @asynccontextmanager
    async def share(
        cls, shared: MutableMapping[str, Any], endpoint: Endpoint, clock: Clock, timeout_s: float
    ) -> AsyncIterator["Line"]:
        """Join the line of this endpoint, opening it for the first device. Raises Disconnected."""
        key = f"modbus {endpoint.line}"
        line: Line = shared.setdefault(key, cls(endpoint, clock))
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
        if self._client is None or not self._client.connected:
            self.close()
            client = Client(self._endpoint, timeout_s)
            await client.open(timeout_s)
            self._client = client
        return self._client

    def close(self) -> None:
        """Close the connection; the next request opens it again."""
        if self._client is not None:
            self._client.close()
            self._client = None

    async def read(self, unit: int, request: Request, timeout_s: float, pause_s: float) -> bytes:
        """Return the answer's data bytes, waiting for the line first.

        Cancelling is safe: the connection is dropped, or the unit left alone until its answer is surely past.
        Raises BlockFailed, TimeoutError, Disconnected.
        """
        await self._rest(unit)
        async with self._turn:
            client = await self._open(timeout_s)
            try:
                return await client.read(unit, request, timeout_s)
            except (TimeoutError, asyncio.CancelledError):
                if self._endpoint.transport == "serial":
                    self._quiet_until[unit] = self._clock.monotonic() + max(timeout_s, QUIET_MIN_S)
                else:
                    self.close()
                raise
            finally:
                if pause_s:
                    await self._clock.sleep(pause_s)

    async def _rest(self, unit: int) -> None:
        if (left := self._quiet_until.pop(unit, 0.0) - self._clock.monotonic()) > 0:
            await self._clock.sleep(left)
