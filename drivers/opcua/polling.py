"""Variables that are read at their intervals: all of a polled device, and those that cannot be subscribed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from asyncua import ua

from drivers.opcua.client import Connection
from drivers.opcua.decode import Run, Values, decode_read
from drivers.opcua.limits import Limits
from drivers.opcua.variables import Item
from edge.core.clock import Clock


class Polling:
    """When each variable is read next, and the read itself, on the fast path."""

    def __init__(self, connection: Connection, limits: Limits, clock: Clock) -> None:
        self._connection = connection
        self._limits = limits
        self._clock = clock
        self._items: dict[int, Item] = {}
        self._due: dict[int, float] = {}
        self._overruns = 0

    def __len__(self) -> int:
        return len(self._items)

    async def add(self, items: Sequence[Item]) -> None:
        """Read these from now on, under node ids that the server has prepared where it can."""

        async def call(part: Sequence[Item]) -> Sequence[Any]:
            return await self._connection.client.uaclient.register_nodes([i.node for i in part if i.node is not None])

        try:
            registered = await self._limits.each("register", items, call)
        except ua.UaStatusCodeError:
            registered = [item.node for item in items]
        now = self._clock.monotonic()
        for item, node in zip(items, registered, strict=True):
            item.read_as = node
            self._items[item.handle] = item
            self._due[item.handle] = now + item.every

    def next_in(self) -> float:
        """Return the seconds until a variable is due; infinity when there is none."""
        return max(0.0, min(self._due.values(), default=np.inf) - self._clock.monotonic())

    def take_overruns(self) -> int:
        """Return how many reads were left out since the last time, because the ones before had not ended."""
        taken, self._overruns = self._overruns, 0
        return taken

    async def poll(self) -> Values | None:
        """Read what is due; None when nothing is. Raises what `read` raises."""
        now = self._clock.monotonic()
        due = [self._items[handle] for handle, when in self._due.items() if when <= now]
        if not due:
            return None
        found = await self.read(due)
        now = self._clock.monotonic()
        for item in due:
            missed = max(0, int((now - self._due[item.handle]) / item.every))
            self._overruns += missed
            self._due[item.handle] += (missed + 1) * item.every
        return found

    async def read(self, items: Sequence[Item]) -> Values:
        """Return the values of these items by their handles.

        Raises:
            ua.UaError, OSError, TimeoutError: the service failed, or its answer is not one for each node.
        """
        values = Values()

        async def call(part: Sequence[Item]) -> Sequence[Any]:
            request = ua.ReadRequest()
            request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
            for item in part:
                one = ua.ReadValueId()
                one.NodeId = item.read_as or item.node
                one.AttributeId = ua.AttributeIds.Value
                request.Parameters.NodesToRead.append(one)
            body = await self._connection.client.uaclient._send_request(request)
            found = decode_read(bytes(body))
            if len(found) != len(part):
                raise ua.UaError(f"{len(found)} values for {len(part)} nodes")
            handles = np.array([item.handle for item in part], np.int64)
            values.runs += [
                Run(run.place, handles[run.handle], run.type, run.value, run.ts, run.status) for run in found.runs
            ]
            values.rest += [(place, int(handles[at]), data) for place, at, data in found.rest]
            return part

        await self._limits.each("read", items, call)
        return values
