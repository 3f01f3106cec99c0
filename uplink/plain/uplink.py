"""The JSON view at work. A parcel counts as delivered when the broker has acknowledged each of its messages.

What the broker has not acknowledged when a connection breaks is sent again, and nothing else of its parcel. A message
that cannot pass takes its parcel apart, as on the way to a brain.
"""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from edge.core.delivery import Identity, Parcel, Priority
from edge.core.errors import Disconnected
from edge.core.language import say
from uplink.api import UplinkContext
from uplink.backoff import Backoff
from uplink.health import Health
from uplink.plain.messages import Message, Renderer
from uplink.plain.section import JsonSection
from uplink.poison import Suspicion, convict, may_be_of_a_message
from uplink.session import NO_MATCHING_SUBSCRIBERS, Access, Facts, MqttSession, Version, Will, open_session
from uplink.share import BacklogShare

ROWS_MAX = 5000
BACKLOG_ROWS_MAX = 1000
HELD_MAX = 1000
PUBACK_TIMEOUT_S = 15.0
REFUSED_RETRY_S = 30.0
HEADER_BYTES = 100
ROW_BYTES_FIRST = 200.0
BACKLOG_TURN_S = 0.5

log = logging.getLogger("yulink.uplink.json")


@dataclass(frozen=True, slots=True)
class JsonStatistics:
    """A snapshot; totals since the start. `unheard`: the broker took it and said that nobody was subscribed."""

    connected: bool
    protocol: str
    tls: str
    messages_total: int
    bytes_total: int
    unheard_total: int
    left_out_total: int
    resends_total: int
    refused_total: int
    splits_total: int
    reconnects_total: int
    last_error: str


@dataclass(slots=True)
class _Load:
    """A parcel on its way: `left` are its messages, by number, that the broker has not acknowledged.

    `due` (monotonic) is when they go again. `guilty`: why it cannot pass.
    """

    parcel: Parcel
    left: dict[int, Message]
    due: float = 0.0
    guilty: str = ""

    @property
    def identity(self) -> Identity:
        return self.parcel.epoch, self.parcel.seq


class JsonUplink:
    """One view. `run` is its one task; it alone uses the outbox."""

    def __init__(self, section: JsonSection, context: UplinkContext) -> None:
        self._section = section
        self._outbox = context.outbox
        self._clock = context.clock
        self._put = context.put
        self._renderer = Renderer(section, context.site, context.outbox.catalogue)
        self._health = Health(context.site, context.outbox, context.clock, context.health, self._told_of_itself)
        self._access = Access(
            url=section.broker,
            ca=Path(section.ca) if section.ca else None,
            identity=Path(section.identity) if section.identity else None,
            client_id=f"yulink-{context.site.replace('/', '-')}-{section.name}",
        )
        self._versions: tuple[Version, ...] = ("5", "3.1.1") if section.protocol == "auto" else (section.protocol,)
        self._share = BacklogShare(section.backlog_share, context.clock)
        self._suspicion = Suspicion()
        self._loads: list[_Load] = []
        self._row_bytes = ROW_BYTES_FIRST
        self._refusals_told: set[tuple[str, int]] = set()
        self._session: MqttSession | None = None
        self._facts: Facts | None = None
        self._woken = asyncio.Event()
        self._draining = asyncio.Event()
        self._drained = asyncio.Event()
        self._backoff = Backoff(context.clock)
        self._messages = self._bytes = self._unheard = self._resends = self._refused = self._splits = 0
        self._connects = 0
        self._last_error = ""

    async def run(self) -> None:
        """Deliver until cancelled, reconnecting with exponential back-off and full jitter.

        Cancelling closes the connection; what is unconfirmed stays in the log.
        """
        while True:
            connects = self._connects
            try:
                await self._connect()
            except Disconnected as error:
                if str(error) != self._last_error:
                    log.warning(say("JSON view: {error}", error=error))
                self._last_error = str(error)
            self._share.reset()
            await self._conclude()
            await self._backoff.pause(progressed=self._connects > connects)

    async def _connect(self) -> None:
        if self._section.health_topic is None:
            async with open_session(self._access, self._versions) as (session, facts):
                await self._serve(session, facts)
            return
        topic = self._renderer.topic(self._section.health_topic)
        access = replace(self._access, will=Will(topic, self._health.will(), retain=True))
        async with open_session(access, self._versions) as (session, facts):
            publish = partial(self._publish_health, session, topic)
            telling = asyncio.create_task(self._health.tell(publish, self._draining.is_set), name="JSON health")
            try:
                await self._serve(session, facts)
            finally:
                telling.cancel()
                await asyncio.wait([telling])
                await self._health.farewell(publish, session.lost, stopped=self._draining.is_set())
                if not telling.cancelled() and (error := telling.exception()):
                    raise error

    def _publish_health(self, session: MqttSession, topic: str, payload: bytes) -> "asyncio.Future[int]":
        puback = session.publish(topic, payload, retain=True)
        puback.add_done_callback(lambda done: None if done.cancelled() else self._watch_refusal(topic, done.result()))
        return puback

    async def _serve(self, session: MqttSession, facts: Facts) -> None:
        self._session, self._facts, self._last_error = session, facts, ""
        self._connects += 1
        self._resends += sum(len(load.left) for load in self._loads)
        log.info(
            say(
                "JSON view: connected to {url} ({protocol}, {tls})",
                url=self._section.broker,
                protocol=facts.protocol,
                tls=facts.tls,
            )
        )
        try:
            for load in self._loads:  # whatever held them back, this is another connection
                load.due = 0.0
            next_live = 0.0
            while True:
                self._woken.clear()
                if session.lost.done():
                    raise Disconnected(say("the connection was lost: {reason}", reason=session.lost.result()))
                sent = await self._send_again(session, facts)
                if len(self._loads) < HELD_MAX:
                    now = self._clock.monotonic()
                    if self._draining.is_set() or now >= next_live or self._outbox.ready(Priority.EVENT):
                        next_live = now + self._section.latency
                        sent = await self._turn(session, facts, (Priority.EVENT, Priority.LIVE), ROWS_MAX) or sent
                    if self._draining.is_set() or not self._share.wait_s():
                        sent = await self._turn(session, facts, (Priority.BACKLOG,), self._backlog_rows()) or sent
                if sent:
                    continue
                if self._draining.is_set():
                    self._drained.set()
                await self._pause(session, next_live)
        finally:
            self._session = None

    def _backlog_rows(self) -> int:
        """Return how many rows of backlog go at once: what the link carries in half a second, so live data waits no
        longer.
        """
        return max(20, min(BACKLOG_ROWS_MAX, int(self._share.goodput_bytes_s * BACKLOG_TURN_S / self._row_bytes)))

    async def _send_again(self, session: MqttSession, facts: Facts) -> bool:
        """Send what a connection took with it, or was refused and is due. Return whether there was any."""
        now = self._clock.monotonic()
        if not (due := [load for load in self._loads if load.due <= now]):
            return False
        await self._deliver(session, facts, due)
        return True

    async def _turn(self, session: MqttSession, facts: Facts, priorities: Iterable[Priority], rows_max: int) -> bool:
        """Send one turn, events ahead of the live data they came with. Return whether there was any."""
        loads: list[_Load] = []
        for priority in priorities:
            rows = 0
            while rows < rows_max and self._outbox.ready(priority):
                if (parcel := await self._outbox.next(rows_max - rows, priority)) is None:
                    break
                messages = self._renderer.messages(parcel, facts.packet_bytes_max - HEADER_BYTES)
                loads.append(_Load(parcel, dict(enumerate(messages))))
                self._loads.append(loads[-1])
                own = sum(len(record) for record in parcel.records) + 1
                size = sum(len(message.payload) for message in messages)
                self._row_bytes += 0.1 * (size / own - self._row_bytes)
                rows += own
                if priority is Priority.BACKLOG:
                    self._share.spend(size)
        if not loads:
            return False
        await self._deliver(session, facts, loads)
        return True

    async def _deliver(self, session: MqttSession, facts: Facts, loads: Iterable[_Load]) -> None:
        """Publish what is left of some parcels, and return when the broker has answered each message.

        Raises:
            Disconnected: the connection is gone, or the broker does not answer.
        """
        flying: dict[asyncio.Future[int], tuple[_Load, int]] = {}
        window = min(self._section.window, facts.receive_max)
        for load in sorted(loads, key=lambda load: self._suspicion.must_go_alone(load.identity)):
            if any(_size(message) > facts.packet_bytes_max for message in load.left.values()):
                load.guilty = say("larger than the broker takes")
                continue
            alone = self._suspicion.must_go_alone(load.identity)
            for number, message in list(load.left.items()):
                await self._settle(session, flying, 0 if alone else window - 1)
                flying[session.publish(message.topic, message.payload, retain=message.retain)] = (load, number)
                self._share.published()
                self._messages += 1
                self._bytes += len(message.payload)
            if alone:
                await self._settle(session, flying, 0)
        await self._settle(session, flying, 0)
        await self._conclude()

    async def _settle(
        self, session: MqttSession, flying: "dict[asyncio.Future[int], tuple[_Load, int]]", most: int
    ) -> None:
        """Wait until at most so many messages are unanswered."""
        while len(flying) > most:
            awaited: set[asyncio.Future[Any]] = {*flying, session.lost}
            done, _ = await asyncio.wait(awaited, timeout=PUBACK_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
            for puback in [each for each in flying if each in done]:
                self._answered(*flying.pop(puback), puback.result())
            if session.lost.done():
                self._suspect({load.identity: load for load, _ in flying.values()}, session.lost.result())
                raise Disconnected(say("the connection was lost: {reason}", reason=session.lost.result()))
            if not done:
                raise Disconnected(
                    say("the broker does not acknowledge"), say("is the link dead or the broker overloaded?")
                )

    def _answered(self, load: _Load, number: int, reason: int) -> None:
        message = load.left[number]
        self._share.acknowledged(len(message.payload) if reason < 0x80 else 0)
        if reason < 0x80:
            self._unheard += reason == NO_MATCHING_SUBSCRIBERS
            self._suspicion.passed(load.identity, message.topic)
            del load.left[number]
            return
        self._refused += 1
        load.due = self._clock.monotonic() + REFUSED_RETRY_S
        if self._suspicion.refused(load.identity, reason, message.topic):
            load.guilty = say("refused with reason 0x{reason:02X}", reason=reason)
        else:
            self._watch_refusal(message.topic, reason)

    def _watch_refusal(self, topic: str, reason: int) -> None:
        if reason < 0x80:
            return
        self._last_error = say("the broker refuses {topic} with reason 0x{reason:02X}", topic=topic, reason=reason)
        if (topic, reason) not in self._refusals_told:
            self._refusals_told.add((topic, reason))
            log.error(say("JSON view: {error}; the data is kept and tried again", error=self._last_error))

    def _suspect(self, cut: dict[Identity, _Load], reason: str) -> None:
        """Note whose messages were unanswered when the broker ended the connection; who was alone then is why."""
        if not may_be_of_a_message(reason):
            return
        for identity, load in cut.items():
            if len(cut) == 1 and self._suspicion.must_go_alone(identity):
                load.guilty = say("the broker ends the connection")
        self._suspicion.cut(cut)

    async def _conclude(self) -> None:
        """Confirm parcels of which every message is acknowledged; take apart those that cannot pass."""
        guilty = [load for load in self._loads if load.guilty]
        done = [load for load in self._loads if not load.left and not load.guilty]
        self._loads = [load for load in self._loads if load.left and not load.guilty]
        by_epoch: dict[int, list[int]] = {}
        for load in done:
            by_epoch.setdefault(load.parcel.epoch, []).append(load.parcel.seq)
        for epoch, seqs in by_epoch.items():
            await self._outbox.confirm(epoch, seqs)
        self._suspicion.confirmed(load.identity for load in done)
        for load in guilty:
            event = await convict(self._outbox, self._suspicion, load.identity, load.guilty, self._section.name)
            self._splits += event is None
            if event is not None:
                await self._put(replace(event, ts=self._clock.now()))

    async def _pause(self, session: MqttSession, next_live: float) -> None:
        """Sleep until the connection is lost, something is due, or an event or new data is there."""
        now = self._clock.monotonic()
        until = [now + 60.0, *(load.due for load in self._loads)]
        idle = not any(self._outbox.ready(priority) for priority in Priority)
        if len(self._loads) < HELD_MAX:
            until += [next_live] if self._outbox.ready(Priority.LIVE) else []
            until += [now + self._share.wait_s()] if self._outbox.ready(Priority.BACKLOG) else []
        awaited: set[asyncio.Future[Any]] = {
            asyncio.ensure_future(self._woken.wait()),
            asyncio.ensure_future(self._outbox.wait() if idle else self._outbox.changed()),
        }
        try:
            left = max(min(until) - now, 0)
            await asyncio.wait({*awaited, session.lost}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in awaited:
                task.cancel()
            await asyncio.wait(awaited)

    async def drain(self, deadline_s: float) -> None:
        """Send what is left; return when the broker has what it takes, nobody is connected, or the time is up."""
        self._draining.set()
        self._woken.set()
        if self._session is None:
            return
        try:
            async with asyncio.timeout(deadline_s):
                await self._drained.wait()
        except TimeoutError:
            return

    def _told_of_itself(self) -> dict[str, Any]:
        """Return what the health message says of this uplink besides its backlog."""
        return {
            "name": self._section.name,
            "resends": self._resends,
            "refused": self._refused,
            "reconnects": max(self._connects - 1, 0),
            "last_error": self._last_error,
        }

    def statistics(self) -> JsonStatistics:
        """Return a snapshot."""
        facts = self._facts
        return JsonStatistics(
            connected=self._session is not None,
            protocol=f"JSON, {facts.protocol}" if facts else "",
            tls=facts.tls if facts else "",
            messages_total=self._messages,
            bytes_total=self._bytes,
            unheard_total=self._unheard,
            left_out_total=self._renderer.left_out_total,
            resends_total=self._resends,
            refused_total=self._refused,
            splits_total=self._splits,
            reconnects_total=max(self._connects - 1, 0),
            last_error=self._last_error,
        )


def _size(message: Message) -> int:
    """Return about the bytes of its packet."""
    return len(message.topic.encode()) + len(message.payload) + HEADER_BYTES
