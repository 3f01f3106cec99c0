"""A Modbus device: its configuration made ready, and what must outlive a session."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from drivers.api import DeviceContext, Session
from drivers.modbus.endpoint import parse_registration
from drivers.modbus.image import element_names, kind_of
from drivers.modbus.known import Known
from drivers.modbus.line import Access, Line
from drivers.modbus.memory import Memory
from drivers.modbus.plan import groups, plan_requests, span_of
from drivers.modbus.section import ModbusSection
from drivers.modbus.session import SEARCH_MAX, ModbusSession
from drivers.modbus.tls import client_context, role_of
from edge.core.errors import ConfigError, Problem
from edge.core.language import say

COUNTERS = (
    "requests_total",
    "timeouts_total",
    "exceptions_total",
    "wrong_answers_total",
    "busy_retries_total",
    "overruns_total",
    "torn_total",
    "registers_refused",
)


class ModbusDriver:
    """Implements `drivers.api.Driver`, `Counting` and `Scheduled`. All tag ids are known from the configuration."""

    def __init__(self, section: ModbusSection, context: DeviceContext) -> None:
        self.section = section
        self.context = context
        self.known = Known(section.limits)
        self.memory = Memory(context.data_dir, context.device, section)
        self._recalled = False
        self.counters = dict.fromkeys(COUNTERS, 0)
        self.hello_turn = 0
        self.ids: dict[str, int] = {}
        for name, tag in section.tags.items():
            unit = tag.unit or (tag.full_scale_quantity[1] if tag.rate else "")
            for element in element_names(name, tag):
                self.ids[element] = context.catalogue.intern(context.device, element, kind_of(tag), unit).id
        self.groups = groups(section, context.every)
        self._access = _access(section, context)

    @property
    def tag_ids(self) -> Sequence[int]:
        """Ids of all its values."""
        return list(self.ids.values())

    @property
    def schedule(self) -> Mapping[float, int]:
        """Readings owed at each interval."""
        tags = self.section.tags
        return {
            every: sum(len(element_names(name, tags[name])) for name in names) for every, names in self.groups.items()
        }

    @property
    def read_deadline(self) -> float:
        """Three of the shortest intervals, and time for every request of a poll and of a search to fail."""
        limits = self.section.limits
        spans = [span_of(tag) for tag in self.section.tags.values()]
        requests = len(plan_requests(spans, limits)) + SEARCH_MAX
        return 3 * min(self.groups) + requests * (2 * limits.timeout + limits.pause) + 30

    def connect(self) -> AbstractAsyncContextManager[Session]:
        """Open the line, or join it when another device has it open, and see that the unit answers."""
        return self._connect()

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[Session]:
        context, limits = self.context, self.section.limits
        if not self._recalled:
            await asyncio.to_thread(self.memory.recall, self.known, context.clock.monotonic(), limits.retry)
            self.counters["registers_refused"] = len(self.known.refused)
            self._recalled = True
        async with Line.share(context.shared, self._access, context.clock, limits.timeout) as line:
            session = ModbusSession(self, line)
            try:
                await session.greet()
                yield session
            finally:
                await session.close()


def _access(section: ModbusSection, context: DeviceContext) -> Access:
    """Return how the device is reached. Raises ConfigError when the certificates are not what they should be."""
    endpoint, tls = section.endpoint, section.tls
    heartbeat = parse_registration(section.heartbeat or "") or b""
    if tls is None:
        return Access(endpoint, heartbeat=heartbeat)
    identity = context.secret(tls.identity)
    try:
        security = client_context(identity, context.secret(tls.ca))
        role = role_of(identity)
    except (ValueError, OSError) as error:
        raise _wrong(
            say("the certificates cannot be used: {reason}", reason=error), say("both are PEM texts")
        ) from error
    if tls.role is not None and role != tls.role:
        raise _wrong(
            say("our certificate carries the role {role!r}, not {asked!r}", role=role, asked=tls.role),
            say("have it issued with the role, or change `role`"),
        )
    return Access(endpoint, security, tls.server_name or endpoint.host)


def _wrong(message: str, hint: str) -> ConfigError:
    return ConfigError([Problem(("tls",), message, hint)])
