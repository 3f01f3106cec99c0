"""The Sparkplug view at work: one server at a time, births when the primary host is there, then what the log has.

Sparkplug data is QoS 0, so nobody confirms it. After each turn the broker is asked a question that it answers in order;
with the answer all that was sent before counts as delivered, which is as much as a PUBACK says. What was on its way
when a connection broke is sent again.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.core.delivery import Parcel, Priority
from edge.core.errors import Disconnected
from edge.core.language import say
from uplink.api import UplinkContext
from uplink.backoff import Backoff
from uplink.session import Access, Facts, MqttSession, RefusedSession, Version, Will, open_session
from uplink.sparkplug.node import NAMESPACE, Message, Node, devices_of
from uplink.sparkplug.payload import asks_rebirth, host_state
from uplink.sparkplug.section import SparkplugSection

ROWS_MAX = 5000
BACKLOG_ROWS_MAX = 1000
ANSWER_DEADLINE_S = 15.0
NDEATH_DEADLINE_S = 2.0

log = logging.getLogger("yulink.uplink.sparkplug")


@dataclass(frozen=True, slots=True)
class SparkplugStatistics:
    """A snapshot; totals since the start."""

    connected: bool
    protocol: str
    tls: str
    server: str
    primary_host_online: bool | None
    messages_total: int
    bytes_total: int
    births_total: int
    rows_unchanged_total: int
    waveforms_left_out_total: int
    reconnects_total: int
    last_error: str


class _HostAway(Disconnected):
    """The primary host is not online here."""


class SparkplugUplink:
    """One edge node. `run` is its one task; it alone uses the outbox."""

    def __init__(self, section: SparkplugSection, context: UplinkContext) -> None:
        tenant, _, gateway = context.site.partition("/")
        self._section = section
        self._outbox = context.outbox
        self._clock = context.clock
        self._equipment: Callable[[], Any] = context.equipment
        self._servers = (section.sparkplug, *section.servers)
        self._server = 0
        self._versions: tuple[Version, ...] = ("5", "3.1.1") if section.protocol == "auto" else (section.protocol,)
        self._version = 0
        self._client_id = f"yulink-{context.site.replace('/', '-')}-{section.name}"
        self._node = Node(
            section.group or tenant,
            section.node or gateway,
            context.outbox.catalogue,
            context.outbox.selects,
            historical_after_ns=round(section.historical_after * 1e9),
            datatype_in_data=section.datatype_in_data,
            unchanged=section.unchanged,
        )
        self._session: MqttSession | None = None
        self._facts: Facts | None = None
        self._host_online: bool | None = None
        self._host_timestamp = 0
        self._rebirth_wanted = False
        self._revision = 0
        self._flying: list[Parcel] = []
        self._woken = asyncio.Event()
        self._draining = asyncio.Event()
        self._drained = asyncio.Event()
        self._backoff = Backoff(context.clock)
        self._messages = self._bytes = self._births = self._sessions = 0
        self._last_error = ""

    async def run(self) -> None:
        """Deliver until cancelled, reconnecting with exponential back-off and full jitter, server after server.

        Cancelling publishes the node's death and closes the connection; what is unconfirmed stays in the log.
        """
        while True:
            births = self._births
            try:
                await self._connect()
            except RefusedSession as error:
                self._version = (self._version + 1) % len(self._versions)
                self._failed(error)
            except Disconnected as error:
                self._server = (self._server + 1) % len(self._servers)
                self._failed(error)
            await self._put_back()
            await self._backoff.pause(progressed=self._births > births)

    def _failed(self, error: Disconnected) -> None:
        if str(error) != self._last_error:
            log.warning(say("Sparkplug: {error}", error=error))
        self._last_error = str(error)

    async def _connect(self) -> None:
        access = Access(
            url=self._servers[self._server],
            ca=Path(self._section.ca) if self._section.ca else None,
            identity=Path(self._section.identity) if self._section.identity else None,
            client_id=self._client_id,
            will=Will(*self._node.connecting(self._clock.now())),
        )
        async with open_session(access, (self._versions[self._version],)) as (session, facts):
            reading = asyncio.create_task(self._listen(session), name="Sparkplug commands")
            try:
                await self._serve(session, facts)
            finally:
                self._session = None
                reading.cancel()
                await asyncio.wait([reading])
                await self._say_goodbye(session)

    async def _say_goodbye(self, session: MqttSession) -> None:
        """Publish NDEATH before the DISCONNECT that makes the broker forget the will."""
        if session.lost.done():
            return
        puback = session.publish(*self._node.death(self._clock.now()))
        ended: set[asyncio.Future[Any]] = {puback, session.lost}
        await asyncio.wait(ended, timeout=NDEATH_DEADLINE_S, return_when=asyncio.FIRST_COMPLETED)

    async def _serve(self, session: MqttSession, facts: Facts) -> None:
        section = self._section
        self._host_online = False if section.primary_host else None
        self._host_timestamp = 0
        await session.subscribe(self._node.topic("NCMD"))
        if section.primary_host:
            await session.subscribe(f"{NAMESPACE}/STATE/{section.primary_host}")
        self._facts, self._sessions = facts, self._sessions + 1
        self._session = session
        await self._wait_for_host(session)
        self._last_error = ""
        log.info(
            say(
                "Sparkplug: connected to {url} ({protocol}, {tls})",
                url=self._servers[self._server],
                protocol=facts.protocol,
                tls=facts.tls,
            )
        )
        self._bear(session)
        next_live = 0.0
        while True:
            self._woken.clear()
            self._check(session)
            if self._rebirth_wanted:
                self._bear(session)
            self._renew(session)
            sent = False
            now = self._clock.monotonic()
            if self._draining.is_set() or now >= next_live or self._outbox.ready(Priority.EVENT):
                next_live = now + section.latency
                sent = await self._turn(session, (Priority.EVENT, Priority.LIVE), ROWS_MAX)
            # A small turn of backlog after each of live data, or as many as fit between two: neither waits long.
            if self._outbox.ready(Priority.BACKLOG):
                sent = await self._turn(session, (Priority.BACKLOG,), BACKLOG_ROWS_MAX) or sent
            if sent:
                continue
            if self._draining.is_set():
                self._drained.set()
            await self._pause(session, next_live - self._clock.monotonic())

    def _check(self, session: MqttSession) -> None:
        if session.lost.done():
            raise Disconnected(say("the connection was lost: {reason}", reason=session.lost.result()))
        if self._host_online is False:
            raise _HostAway(
                say("the primary host {host} is offline", host=self._section.primary_host),
                say("nothing is sent until it is back; readings stay in the log"),
            )

    async def _wait_for_host(self, session: MqttSession) -> None:
        """Return when the primary host is online. With several servers, not for ever."""
        started = self._clock.monotonic()
        if self._host_online is False:
            self._last_error = say("waiting for the primary host {host}", host=self._section.primary_host)
        while self._host_online is False:
            self._woken.clear()
            left = started + self._section.host_wait - self._clock.monotonic()
            if len(self._servers) > 1 and left <= 0:
                self._check(session)
            await self._pause(session, left if len(self._servers) > 1 else 60, log_too=False)
            if session.lost.done():
                self._check(session)

    async def _listen(self, session: MqttSession) -> None:
        """Take in commands and the host's states; each wakes whoever pauses."""
        while True:
            message = await session.received.get()
            if message.topic.startswith(f"{NAMESPACE}/STATE/"):
                state = host_state(message.payload)
                if state is not None and state.timestamp >= self._host_timestamp:
                    self._host_online, self._host_timestamp = state.online, state.timestamp
            elif asks_rebirth(message.payload):
                self._rebirth_wanted = True
            self._woken.set()

    async def _pause(self, session: MqttSession, timeout_s: float, *, log_too: bool = True) -> None:
        """Sleep until a command came, the connection is lost, the time is up, or an event or new data is there."""
        awaited: set[asyncio.Future[Any]] = {asyncio.ensure_future(self._woken.wait())}
        if log_too:
            idle = not any(self._outbox.ready(priority) for priority in Priority)
            awaited.add(asyncio.ensure_future(self._outbox.wait() if idle else self._outbox.changed()))
            timeout_s = 60 if idle else timeout_s
        try:
            await asyncio.wait({*awaited, session.lost}, timeout=max(timeout_s, 0), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in awaited:
                task.cancel()
            await asyncio.wait(awaited)

    def _bear(self, session: MqttSession) -> None:
        """Publish all births. Data that comes later has a later number."""
        self._rebirth_wanted = False
        self._births += 1
        self._revision = self._outbox.catalogue.last_id
        self._publish(session, self._node.births(self._clock.now(), self._devices()))

    def _renew(self, session: MqttSession) -> None:
        """Publish a birth of every device whose tags have changed."""
        if self._outbox.catalogue.last_id != self._revision:
            self._revision = self._outbox.catalogue.last_id
            self._publish(session, self._node.renewed(self._clock.now(), self._devices()))

    def _devices(self) -> list[str]:
        return devices_of(self._outbox.catalogue, self._equipment(), self._outbox.selects)

    def _publish(self, session: MqttSession, messages: Iterable[Message]) -> None:
        for message in messages:
            session.publish(*message, qos=0)
            self._messages += 1
            self._bytes += len(message.payload)

    async def _turn(self, session: MqttSession, priorities: Iterable[Priority], rows_max: int) -> bool:
        """Send one turn, events among the live data they came with. Return whether there was any."""
        for priority in priorities:
            rows = 0
            while rows < rows_max and self._outbox.ready(priority):
                if (parcel := await self._outbox.next(rows_max - rows, priority)) is None:
                    break
                self._flying.append(parcel)
                rows += sum(len(record) for record in parcel.records) + 1
        if not self._flying:
            return False
        self._renew(session)
        self._publish(session, self._node.take(self._flying, self._clock.now()))
        await session.unsubscribe(self._node.topic("NDEATH"), ANSWER_DEADLINE_S)
        await self._confirm()
        return True

    async def _confirm(self) -> None:
        for epoch, seqs in _by_epoch(self._flying).items():
            await self._outbox.confirm(epoch, seqs)
        self._flying.clear()

    async def _put_back(self) -> None:
        for epoch, seqs in _by_epoch(self._flying).items():
            await self._outbox.again(epoch, seqs)
        self._flying.clear()

    async def drain(self, deadline_s: float) -> None:
        """Send what is left; return when the broker has all of it, nobody is connected, or the time is up."""
        self._draining.set()
        self._woken.set()
        if self._session is None or self._host_online is False:
            return
        try:
            async with asyncio.timeout(deadline_s):
                await self._drained.wait()
        except TimeoutError:
            return

    def statistics(self) -> SparkplugStatistics:
        """Return a snapshot."""
        facts = self._facts
        return SparkplugStatistics(
            connected=self._session is not None,
            protocol=f"Sparkplug B, {facts.protocol}" if facts else "",
            tls=facts.tls if facts else "",
            server=self._servers[self._server],
            primary_host_online=self._host_online,
            messages_total=self._messages,
            bytes_total=self._bytes,
            births_total=self._births,
            rows_unchanged_total=self._node.unchanged_total,
            waveforms_left_out_total=self._node.waveforms_total,
            reconnects_total=max(self._sessions - 1, 0),
            last_error=self._last_error,
        )


def _by_epoch(parcels: Iterable[Parcel]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for parcel in parcels:
        found.setdefault(parcel.epoch, []).append(parcel.seq)
    return found
