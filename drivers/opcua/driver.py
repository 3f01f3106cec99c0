"""An OPC UA device: subscribes to its variables, or polls them."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from asyncua import Client, Node, ua

from drivers.api import DeviceContext, Session
from drivers.opcua.client import FAILURES, REQUEST_TIMEOUT_S, Identity, open_client
from drivers.opcua.section import OpcUaSection
from drivers.opcua.values import kind_of, kind_of_type, row
from edge.core.batch import Batch, Lane
from edge.core.catalogue import Tag, ValueKind
from edge.core.errors import Disconnected
from edge.core.language import say

READ_ITEMS_MAX = 200
WAITING_MAX = 100_000
QUEUE_PER_ITEM = 10
OVERFLOW = 0x480
"""InfoType DataValue with the bit Overflow (OPC 10000-4, 7.39): values before this one were dropped."""
QUIET_S = 2.0

log = logging.getLogger("yulink.opcua")


class OpcUaDriver:
    """Implements `drivers.api.Driver`."""

    def __init__(self, section: OpcUaSection, context: DeviceContext) -> None:
        self.section = section
        self.context = context
        self.tags: dict[str, Tag] = {}
        self._identity: Identity | None = None
        for name, tag in section.tags.items():
            if tag.type is not None:
                self.intern(name, ValueKind(tag.type))
            elif (known := context.catalogue.find(context.device, name)) and known.unit == tag.unit:
                self.tags[name] = known  # from an earlier run: it can be marked bad before the server is reached

    def intern(self, name: str, kind: ValueKind) -> Tag:
        """Give a tag its id once its kind is known."""
        tag = self.context.catalogue.intern(self.context.device, name, kind, self.section.tags[name].unit)
        self.tags[name] = tag
        return tag

    @property
    def tag_ids(self) -> Sequence[int]:
        """Ids of the tags whose kind is known by configuration or from the server."""
        return [tag.id for tag in self.tags.values()]

    @property
    def read_deadline(self) -> float:
        """A session answers at least every two seconds, or finds out that the server does not."""
        slowest = max(tag.every or self.context.every for tag in self.section.tags.values())
        return QUIET_S + 3 * REQUEST_TIMEOUT_S + (3 * slowest if self.section.mode == "poll" else 0)

    def identity(self) -> Identity:
        """Return our application certificate, the same for all sessions of this device."""
        if self._identity is None:
            name = self.section.identity
            self._identity = Identity(self.context.secret(name) if name else None)
        return self._identity

    def connect(self) -> AbstractAsyncContextManager[Session]:
        """Open a session and learn the kinds of all variables."""
        return self._connect()

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[Session]:
        lost = asyncio.Event()
        async with open_client(self.section, self.identity, self.context.secret, lost.set) as client:
            session = OpcUaSession(self, client, lost)
            try:
                await session.start()
            except FAILURES as error:
                raise Disconnected(say("the server stopped answering: {reason}", reason=error)) from error
            yield session


class OpcUaSession:
    """Implements `drivers.api.Session` and `Inspectable`."""

    def __init__(self, driver: OpcUaDriver, client: Client, lost: asyncio.Event) -> None:
        self._driver = driver
        self._client = client
        self._lost = lost
        self._clock = driver.context.clock
        self._waiting: deque[tuple[Tag, int, Any, int]] = deque()
        self._arrived = asyncio.Event()
        self._names: dict[ua.NodeId, list[str]] = {}
        self._nodes: dict[str, Node] = {}
        self._origins: dict[str, str] = {}
        self._due: dict[str, float] = {}
        self._last: dict[str, tuple[int, Any, int]] = {}
        self._overflowed: set[str] = set()

    async def start(self) -> None:
        """Read every variable once, which gives kinds and first values, and subscribe where that is wanted."""
        section = self._driver.section
        for name, tag in section.tags.items():
            node = self._client.get_node(ua.NodeId.from_string(tag.node))
            self._nodes[name] = node
            self._names.setdefault(node.nodeid, []).append(name)
        first = await self._read_values(list(section.tags))
        unknown = [name for name, data in first.items() if kind_of(data) is None and name not in self._driver.tags]
        types = await self._read(unknown, ua.AttributeIds.DataType) if unknown else {}
        for name, data in first.items():
            if name not in self._driver.tags or section.tags[name].type is None:
                known = self._driver.tags.get(name)
                variant = types[name].Value if name in types else None
                stated = kind_of_type(variant.Value) if variant else None
                kind = kind_of(data) or (known.kind if known else None) or stated or ValueKind.FLOAT64
                self._driver.intern(name, kind)
            self._take(name, data)
        now = self._clock.monotonic()
        self._due = {name: now + self._every(name) for name in section.tags}
        if section.mode == "subscribe":
            await self._subscribe(first)

    def _every(self, name: str) -> float:
        section = self._driver.section
        return section.tags[name].every or section.every or self._driver.context.every

    async def _subscribe(self, first: Mapping[str, ua.DataValue]) -> None:
        """Subscribe every node; one that the server refuses keeps its bad row and harms no other."""
        by_interval: dict[float, list[str]] = {}
        for name in first:
            by_interval.setdefault(self._every(name), []).append(name)
        for every, names in by_interval.items():
            subscription = await self._client.create_subscription(every * 1000, self)
            nodes = list({self._nodes[name].nodeid: self._nodes[name] for name in names}.values())
            for start in range(0, len(nodes), READ_ITEMS_MAX):
                await subscription.subscribe_data_change(
                    nodes[start : start + READ_ITEMS_MAX],
                    queuesize=QUEUE_PER_ITEM,
                    sampling_interval=ua.Double(every * 1000),
                )

    def datachange_notification(self, node: Node, value: Any, data: Any) -> None:
        """Take a change in; asyncua calls this in the event loop."""
        for name in self._names.get(node.nodeid, ()):
            self._take(name, data.monitored_item.Value)
        self._arrived.set()

    def status_change_notification(self, status: Any) -> None:
        """Take the end of a subscription as the end of the session."""
        if status.Status is not None and status.Status.is_bad():
            self._lost.set()
            self._arrived.set()

    def _take(self, name: str, data: ua.DataValue) -> None:
        tag = self._driver.tags[name]
        ts, value, status = row(data, tag.kind, self._clock.now())
        if (known := self._last.get(name)) is not None and known[0::2] == (ts, status) and _same(known[1], value):
            return  # the first notification repeats what was read at the start; an unchanged value polled again
        self._last[name] = (ts, value, status)
        if name in self._overflowed:
            self._overflowed.discard(name)
            status |= OVERFLOW
        if len(self._waiting) >= WAITING_MAX:
            oldest, *_ = self._waiting.popleft()
            self._overflowed.add(oldest.name)
        self._waiting.append((tag, ts, value, status))
        self._origins[name] = f"{self._driver.section.tags[name].node} = {data.Value.Value if data.Value else None!r}"

    async def _read_values(self, names: Sequence[str]) -> dict[str, ua.DataValue]:
        return await self._read(names, ua.AttributeIds.Value)

    async def _read(self, names: Sequence[str], attribute: ua.AttributeIds) -> dict[str, ua.DataValue]:
        found: dict[str, ua.DataValue] = {}
        for start in range(0, len(names), READ_ITEMS_MAX):
            part = names[start : start + READ_ITEMS_MAX]
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                values = await self._client.read_attributes([self._nodes[name] for name in part], attribute)
            found.update(zip(part, values, strict=True))
        return found

    async def read(self) -> list[Batch]:
        """Wait for changes, or the next interval when polling; return at most one batch a lane.

        Returns nothing after two quiet seconds in which the server was asked and answered. Cancelling loses nothing.

        Raises:
            Disconnected: the connection is gone or the server does not answer.
        """
        try:
            if not self._waiting:
                await (self._poll() if self._driver.section.mode == "poll" else self._wait())
        except FAILURES as error:
            raise Disconnected(say("the server stopped answering: {reason}", reason=error)) from error
        if self._lost.is_set() and not self._waiting:
            raise Disconnected(say("the connection was cut"))
        return self._batches()

    async def _wait(self) -> None:
        self._arrived.clear()
        arrived = asyncio.create_task(self._arrived.wait())
        lost = asyncio.create_task(self._lost.wait())
        try:
            await asyncio.wait({arrived, lost}, timeout=QUIET_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (arrived, lost):
                task.cancel()
            await asyncio.wait({arrived, lost})
        if not self._waiting and not self._lost.is_set():
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                await self._client.nodes.server_state.read_value()

    async def _poll(self) -> None:
        now = self._clock.monotonic()
        if (next_due := min(self._due.values())) > now:
            await self._clock.sleep(next_due - now)
            now = self._clock.monotonic()
        due = [name for name, when in self._due.items() if when <= now]
        for name, data in (await self._read_values(due)).items():
            self._take(name, data)
        for name in due:
            every = self._every(name)
            self._due[name] += (int((now - self._due[name]) / every) + 1) * every

    def _batches(self) -> list[Batch]:
        rows: dict[Lane, list[tuple[Tag, int, Any, int]]] = {}
        while self._waiting:
            entry = self._waiting.popleft()
            rows.setdefault(entry[0].kind.lane, []).append(entry)
        return [
            Batch.of(
                lane,
                [tag.id for tag, _, _, _ in entries],
                [ts for _, ts, _, _ in entries],
                [value for _, _, value, _ in entries],
                [status for _, _, _, status in entries],
            )
            for lane, entries in rows.items()
        ]

    def raw(self) -> Mapping[str, str]:
        """Return per tag its node and the value as the server gave it."""
        return self._origins


def _same(one: Any, other: Any) -> bool:
    return bool(one == other or (one != one and other != other))
