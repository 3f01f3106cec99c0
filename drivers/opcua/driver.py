"""An OPC UA device: its sessions, one after the other, and what is carried from one to the next."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from drivers.api import CertificateState, DeviceContext, Session
from drivers.opcua.client import FAILURES, REQUEST_TIMEOUT_S, Connection, Kept, open_connection
from drivers.opcua.section import OpcUaSection, OpcUaTag
from drivers.opcua.security import Security
from drivers.opcua.session import QUIET_S, Model, OpcUaSession
from edge.core.catalogue import Tag, ValueKind
from edge.core.errors import Disconnected
from edge.core.language import say

HOUR_S = 3600.0
_COUNTERS = (
    "resumed_total", "rebuilt_total", "republished_total", "lost_notifications_total", "overflows_total",
    "history_rows_total", "dead_subscriptions_total", "overruns_total", "refused_items", "polled_items",
    "parts_left_out",
)  # fmt: skip


@dataclass(slots=True)
class _Suspended:
    """A session that broke: what the server may still hold, and what we know of its tags."""

    kept: Kept
    model: Model


class OpcUaDriver:
    """Implements `drivers.api.Driver`, `Counting`, `Certified`, `Repeating` and `Measuring`.

    units     by tag id, the unit that the server told last
    repeated  by tag id, how often a notification brought the reading before again
    """

    def __init__(self, section: OpcUaSection, context: DeviceContext) -> None:
        self.section = section
        self.context = context
        self.tags: dict[str, Tag] = {}
        self._security = Security(section, context)
        self._suspended: _Suspended | None = None
        self._counters = dict.fromkeys(_COUNTERS, 0)
        self.units: dict[int, str] = {}
        self.repeated: Counter[int] = Counter()
        for name, tag in section.tags.items():
            if tag.type is not None and not tag.spreads:
                self.intern(name, ValueKind.WAVEFORM if tag.rate else ValueKind(tag.type), tag.unit)
            elif (known := context.catalogue.find(context.device, name)) and known.unit == tag.unit:
                self.tags[name] = known  # from an earlier run: it can be marked bad before the server is reached

    def intern(self, name: str, kind: ValueKind, unit: str) -> Tag:
        """Give a tag its id once its kind is known."""
        tag = self.context.catalogue.intern(self.context.device, name, kind, unit)
        self.tags[name] = tag
        return tag

    @property
    def tag_ids(self) -> Sequence[int]:
        """Ids of the tags whose kind is known by configuration or from the server."""
        return [tag.id for tag in self.tags.values()]

    @property
    def read_deadline(self) -> float:
        """A session answers at least every two seconds, or finds out that the server does not."""
        slowest = max(self.interval(tag) for tag in self.section.tags.values())
        return QUIET_S + 3 * REQUEST_TIMEOUT_S + (3 * slowest if self.section.mode == "poll" else 0)

    @property
    def schedule(self) -> Mapping[float, int]:
        """Return how many readings are owed at each interval: a change of each tag now and then, or every poll."""
        if self.section.mode == "subscribe":
            return {HOUR_S: len(self.section.tags)}
        return Counter(self.interval(tag) for tag in self.section.tags.values())

    def interval(self, tag: OpcUaTag) -> float:
        """Return how often a tag is read, seconds."""
        return tag.every or self.section.every or self.context.every

    @property
    def counters(self) -> Mapping[str, int]:
        """Return how often sessions were taken up or rebuilt, and what came through or was lost meanwhile."""
        return self._counters

    @property
    def certificates(self) -> Sequence[CertificateState]:
        """Return the certificates of the server and of ours that the last connection used."""
        return self._security.certificates

    def connect(self) -> AbstractAsyncContextManager[Session]:
        """Open a session: the one that broke, where the server still has it, else a new one."""
        return self._connect()

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[Session]:
        suspended = self._suspended
        connection = await open_connection(
            self.section, self._security, self.context.secret, suspended.kept if suspended else None
        )
        self._suspended = None
        session = OpcUaSession(self, connection, suspended.model if suspended else Model(self.context.clock))
        try:
            await self._begin(session, suspended is not None)
            yield session
        except Exception:
            # The connection broke, or was judged to hang: the server may keep what we have not got.
            await session.stop()
            self._suspended = _Suspended(connection.keep(), session.model)
            session.model.suspend(self.context.clock.now())
            await connection.abandon()
            raise
        except BaseException:
            await self._end(session, connection)
            raise
        else:
            await self._end(session, connection)

    async def _begin(self, session: OpcUaSession, returned: bool) -> None:
        try:
            resumed = returned and await session.resume()
            if not resumed:
                await session.start()
        except FAILURES as error:
            raise Disconnected(say("the server stopped answering: {reason}", reason=_words(error))) from error
        if returned:
            self._counters["resumed_total" if resumed else "rebuilt_total"] += 1

    async def _end(self, session: OpcUaSession, connection: Connection) -> None:
        await session.stop()
        await connection.close()

    def count(self, name: str, number: int = 1) -> None:
        """Add to a counter."""
        self._counters[name] += number

    def set_counter(self, name: str, number: int) -> None:
        """Set a counter that is a level."""
        self._counters[name] = number


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
