"""Moves parcels from the log to the brain: new → sent (PUBACK) → committed (the brain's own acknowledgement)."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from edge.core.batch import Batch, Event
from edge.core.clock import Clock
from edge.core.delivery import Identity, Outbox, Parcel, Priority
from edge.core.errors import Disconnected
from edge.core.language import say
from uplink.announce import Announcer
from uplink.answers import Ack, Recall
from uplink.backoff import Backoff
from uplink.catalogue import Equipment
from uplink.encode import encode
from uplink.health import Health
from uplink.keys import read_public, read_signing
from uplink.poison import Suspicion, convict, may_be_of_a_message
from uplink.seal import BadSeal, Sealer
from uplink.section import MqttSection
from uplink.session import NO_MATCHING_SUBSCRIBERS, Access, Facts, MqttSession, Version, Will, open_session
from uplink.share import BacklogShare

PARCEL_ROWS_MAX = 100_000
UNCONFIRMED_MAX = 256
BACKLOG_UNCONFIRMED_MAX = 2  # one on its way while the brain stores another: live data finds no queue before it
RECALLS_MAX = 100
ACK_TIMEOUT_S = 10.0
PUBACK_TIMEOUT_S = 15.0
REFUSED_RETRY_S = 30.0
SENT_TOLD_AFTER_S = 1.0
MISSED_RETRY_S = 1.0

_TOPICS = {Priority.EVENT: "event", Priority.LIVE: "data/telemetry", Priority.BACKLOG: "data/backlog"}

log = logging.getLogger("yulink.uplink")


@dataclass(frozen=True, slots=True)
class PumpStatistics:
    """A snapshot; totals since the start."""

    connected: bool
    protocol: str
    tls: str
    cipher: str
    messages_total: int
    bytes_total: int
    wire_bytes_total: int
    parcels_committed_total: int
    resends_total: int
    refused_total: int
    splits_total: int
    acks_ignored_total: int
    reconnects_total: int
    last_ack: int
    last_error: str


@dataclass(slots=True)
class _Flight:
    """A parcel on its way: until `deadline` (monotonic) its next acknowledgement must come.

    `tell_at`: the log is told then that the broker has it. Mostly the brain confirms it before, which says as much.
    `alone`: nothing else goes until the broker has taken it. `missed`: the brain lacks it, but has later ones.
    """

    epoch: int
    seq: int
    rows: int
    size: int
    deadline: float
    puback: "asyncio.Future[int] | None"
    topic: str = ""
    number: int = 0
    sent_at: float = 0.0
    alone: bool = False
    missed: bool = False
    tell_at: float = math.inf

    @property
    def identity(self) -> Identity:
        return self.epoch, self.seq


class Pump:
    """One brain's uplink. `run` is its one task; it alone uses the outbox."""

    def __init__(
        self,
        section: MqttSection,
        site: str,
        outbox: Outbox,
        clock: Clock,
        folder: Path = Path(),
        equipment: Callable[[], Mapping[str, Equipment]] = dict,
        put: Callable[[Event], Awaitable[None]] | None = None,
        health: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self._section = section
        self._site = site
        self._root = f"v1/{site}"
        self._sealer = _sealer(section, site, folder)
        self._announcer = Announcer(site, self._root, outbox, self._sealer, equipment, self._tell_refused)
        self._outbox = outbox
        self._clock = clock
        self._access = Access(
            url=section.mqtt,
            ca=folder / section.ca if section.ca else None,
            identity=folder / section.identity if section.identity else None,
            client_id=f"yulink-{site.replace('/', '-')}-{section.name}",
        )
        self._versions: tuple[Version, ...] = ("5", "3.1.1") if section.protocol == "auto" else (section.protocol,)
        self._flights: dict[tuple[int, int], _Flight] = {}
        self._wake = asyncio.Event()
        self._progress = asyncio.Event()
        self._put = put
        self._health = Health(site, outbox, clock, health, self._told_of_itself)
        self._acks: list[Ack] = []
        self._recalls: list[Recall] = []
        self._suspicion = Suspicion()
        self._convicted: list[tuple[Identity, str]] = []
        self._benched: list[Parcel] = []
        self._numbers = 0
        self._arrived: dict[str, int] = {}
        self._cut_by_broker = False
        self._draining = False
        self._live_owed = 0
        self._session: MqttSession | None = None
        self._facts: Facts | None = None
        self._cut_at = 0.0
        self._share = BacklogShare(section.backlog_share, clock)
        self._backoff = Backoff(clock)
        self._messages = self._bytes = self._wire_bytes_before = self._committed = 0
        self._resends = self._refused = self._connects = self._last_ack = self._acks_ignored = self._splits = 0
        self._last_error = ""
        self._refusal_logged: set[int] = set()
        self._refused_topics: set[str] = set()

    async def run(self) -> None:
        """Deliver until cancelled, reconnecting with exponential back-off and full jitter.

        Cancelling closes the connection; what is unconfirmed stays in the log.
        """
        while True:
            connects = self._connects
            try:
                topic = f"{self._root}/health"
                will = Will(topic, self._seal(topic, self._health.will()), retain=True)
                async with open_session(replace(self._access, will=will), self._versions) as (session, facts):
                    await self._serve(session, facts)
            except Disconnected as error:
                if str(error) != self._last_error:
                    log.warning(say("uplink: {error}", error=error))
                self._last_error = str(error)
            await self._put_back()
            await self._backoff.pause(progressed=self._connects > connects)

    async def _serve(self, session: MqttSession, facts: Facts) -> None:
        if self._section.confirm == "brain":
            await session.subscribe(f"{self._root}/ack")
            await session.subscribe(f"{self._root}/cmd/#")
        self._announcer.announce(session)
        self._session, self._facts, self._last_error = session, facts, ""
        self._connects += 1
        log.info(
            say(
                "uplink: connected to {url} ({protocol}, {tls})",
                url=self._section.mqtt,
                protocol=facts.protocol,
                tls=facts.tls,
            )
        )
        window = min(self._section.window, facts.receive_max)
        session.lost.add_done_callback(lambda _: self._wake.set())
        reading = asyncio.create_task(self._read_acks(session), name="uplink acknowledgements")
        tell_health = partial(self._announcer.publish, session, f"{self._root}/health")
        telling = asyncio.create_task(self._health.tell(tell_health, lambda: self._draining), name="uplink health")
        waiting = asyncio.create_task(self._outbox.wait(), name="uplink waits for the log")
        try:
            while not session.lost.done():
                self._wake.clear()
                if self._announcer.is_due:
                    self._announcer.announce(session)
                await self._settle()
                await self._recall()
                if waiting.done() or self._trial_is_due():
                    await self._send(session, facts, window)
                if waiting.done():
                    waiting = asyncio.create_task(self._outbox.wait(), name="uplink waits for the log")
                    await asyncio.sleep(0)
                await self._pause(waiting, self._room(window))
            reason = session.lost.result()
            self._cut_by_broker = may_be_of_a_message(reason)
            raise Disconnected(say("the connection was lost: {reason}", reason=reason))
        finally:
            self._wire_bytes_before += session.wire_bytes()
            self._session = None
            for task in (reading, waiting, telling):
                task.cancel()
            await asyncio.wait([reading, waiting, telling])
            await self._health.farewell(tell_health, session.lost, stopped=self._draining)
            for task in (reading, telling):
                if not task.cancelled() and (error := task.exception()):
                    raise error

    def _tell_refused(self, topic: str) -> None:
        self._last_error = say("the broker refuses {topic}: check the access rules", topic=topic)
        if topic not in self._refused_topics:
            self._refused_topics.add(topic)
            log.error(say("uplink: {error}", error=self._last_error))

    def _told_of_itself(self) -> dict[str, Any]:
        """Return what the health message says of this uplink besides its backlog."""
        return {
            "name": self._section.name,
            "resends": self._resends,
            "refused": self._refused,
            "reconnects": max(self._connects - 1, 0),
            "last_error": self._last_error,
        }

    def _seal(self, topic: str, payload: bytes, number: tuple[int, int] | None = None) -> bytes:
        return payload if self._sealer is None else self._sealer.seal(topic, payload, number)

    async def _read_acks(self, session: MqttSession) -> None:
        """Queue the brain's acknowledgements and wishes for the loop; what cannot be trusted or read is ignored."""
        while True:
            message = await session.received.get()
            if message.topic == f"{self._root}/cmd/announce":
                self._announcer.is_wanted = True
                self._wake.set()
                continue
            try:
                plain = message.payload
                if self._sealer is not None:
                    plain = self._sealer.open_ack(message.topic, plain)
                if message.topic == f"{self._root}/cmd/replay":
                    self._recalls = [*self._recalls[-RECALLS_MAX + 1 :], Recall.read(plain)]
                else:
                    self._acks.append(Ack.read(plain))
            except (BadSeal, ValueError, KeyError, TypeError, AttributeError):
                self._acks_ignored += 1
                log.warning(say("uplink: an acknowledgement that cannot be read was ignored"))
                continue
            self._wake.set()

    async def _settle(self) -> None:
        """Take in everything that was acknowledged, and put back what was not in time."""
        while self._acks:
            await self._acknowledged(self._acks.pop(0))
        now = self._clock.monotonic()
        done = [flight for flight in self._flights.values() if flight.puback is not None and flight.puback.done()]
        confirmed: dict[int, list[int]] = {}
        for flight in done:
            assert flight.puback is not None
            reason = 0x80 if flight.puback.cancelled() else flight.puback.result()
            flight.puback = None
            self._share.acknowledged(flight.size if reason < 0x80 else 0)
            if reason < 0x80:
                flight.deadline, flight.tell_at = now + ACK_TIMEOUT_S, now + SENT_TOLD_AFTER_S
                self._suspicion.passed(flight.identity, flight.topic)
            else:
                self._refuse(flight, reason, now)
            if reason == NO_MATCHING_SUBSCRIBERS:
                self._last_error = say("nobody is subscribed to our messages")
            elif reason == 0 and self._section.confirm == "broker":
                confirmed.setdefault(flight.epoch, []).append(flight.seq)
                del self._flights[flight.epoch, flight.seq]
        await self._tell_sent([flight for flight in self._flights.values() if flight.tell_at <= now])
        for epoch, seqs in confirmed.items():
            self._confirmed(await self._outbox.confirm(epoch, seqs))
        late = [flight for flight in self._flights.values() if flight.deadline <= now]
        if any(flight.puback is not None for flight in late):
            raise Disconnected(
                say("the broker does not acknowledge"), say("is the link dead or the broker overloaded?")
            )
        self._resends += len(late)
        for flight in late:
            if flight.missed and self._suspicion.lost(flight.identity):
                self._convicted.append((flight.identity, say("the broker takes it, but the brain does not get it")))
        await self._again(late)
        while self._convicted:
            await self._convict(*self._convicted.pop(0))

    def _refuse(self, flight: _Flight, reason: int, now: float) -> None:
        self._refused += 1
        flight.deadline = now + REFUSED_RETRY_S
        if self._suspicion.refused(flight.identity, reason, flight.topic):
            self._convicted.append((flight.identity, say("refused with reason 0x{reason:02X}", reason=reason)))
            return
        self._last_error = say("the broker refuses messages with reason 0x{reason:02X}", reason=reason)
        if reason not in self._refusal_logged:
            self._refusal_logged.add(reason)
            log.error(say("uplink: {error}; the data is kept and tried again", error=self._last_error))

    async def _acknowledged(self, ack: Ack) -> None:
        """Take in what the brain holds, and look at what it lacks.

        A message that is missing may still be on its way; it is not when a later one of its topic has arrived.
        """
        flights = [each for each in self._flights.values() if each.epoch == ack.epoch and each.seq <= ack.through]
        on_their_way = [flight for flight in flights if ack.lacks(flight.seq)]
        self._confirmed(
            await self._outbox.committed(ack.epoch, ack.through, ack.missing, {each.seq for each in on_their_way})
        )
        for flight in flights:
            if not ack.lacks(flight.seq):
                self._arrived[flight.topic] = max(self._arrived.get(flight.topic, 0), flight.number)
                self._suspicion.confirmed([flight.identity])
                self._take_down(flight.identity)
        for flight in on_their_way:
            if flight.puback is None and flight.number < self._arrived.get(flight.topic, 0):
                flight.missed = True
                flight.deadline = min(flight.deadline, flight.sent_at + MISSED_RETRY_S)
        for flight in [*self._flights.values()]:
            if flight.epoch == ack.epoch and any(first <= flight.seq <= last for first, last in ack.refused):
                self._convicted.append((flight.identity, say("the brain cannot read it")))
                self._take_down(flight.identity)  # the next acknowledgement may name it again

    def _take_down(self, identity: Identity) -> None:
        """Forget a flight. Where the brain's answer overtook the broker's, the link is free of it all the same."""
        flight = self._flights.pop(identity, None)
        if flight is not None and flight.puback is not None:
            self._share.acknowledged(flight.size)

    async def _convict(self, identity: Identity, reason: str) -> None:
        """Send a message that cannot pass in halves, or set it aside when it is a single row."""
        await self._tell_sent(each for each in [self._flights.get(identity)] if each and each.tell_at < math.inf)
        self._take_down(identity)
        event = await convict(self._outbox, self._suspicion, identity, reason, self._section.name)
        self._splits += event is None
        if event is not None and self._put is not None:
            await self._put(replace(event, ts=self._clock.now()))

    async def _recall(self) -> None:
        """Put what the brain wants again back to new, some hundred parcels at a time."""
        if not self._recalls or self._outbox.ready(Priority.BACKLOG):
            return
        wish = self._recalls[0]
        if wish.epoch:
            wish.first = await self._outbox.recall(wish.epoch, wish.first, wish.last)
            done = not wish.first
        else:
            wish.after = await self._outbox.replay(wish.first, wish.last, wish.after)
            done = not wish.after
        if done:
            self._recalls.pop(0)

    def _confirmed(self, parcels: int) -> None:
        self._last_ack = self._clock.now()
        self._committed += parcels
        self._progress.set()

    async def _tell_sent(self, flights: Iterable[_Flight]) -> None:
        """Record what the broker has taken."""
        told = list(flights)
        for flight in told:
            flight.tell_at = math.inf
        for epoch, seqs in _by_epoch(told).items():
            await self._outbox.sent(epoch, seqs)

    async def _again(self, flights: Iterable[_Flight]) -> None:
        flights = list(flights)
        await self._tell_sent(flight for flight in flights if flight.tell_at < math.inf)
        for flight in flights:
            self._flights.pop(flight.identity, None)
        for epoch, seqs in _by_epoch(flights).items():
            await self._outbox.again(epoch, seqs)

    async def _put_back(self) -> None:
        self._share.reset()
        if self._cut_by_broker:
            unacknowledged = [flight for flight in self._flights.values() if flight.puback is not None]
            self._suspicion.cut(flight.identity for flight in unacknowledged)
            for flight in unacknowledged:
                if flight.alone:
                    await self._convict(flight.identity, say("the broker ends the connection"))
        self._cut_by_broker = False
        await self._again(self._flights.values())
        self._acks.clear()

    async def _send(self, session: MqttSession, facts: Facts, window: int) -> None:
        """Send what may go now: events at once, live data when it is due, of the backlog its share."""
        if self._outbox.ready(Priority.LIVE) and self._is_due():
            self._cut_at = self._clock.monotonic()
            self._live_owed = max(self._outbox.ready_rows(Priority.LIVE), 1)
        while self._room(window) and not session.lost.done():
            if self._trial_is_due():
                self._publish(session, facts, self._benched.pop(0), alone=True)
                return
            priority = self._most_urgent()
            if priority is None:
                return
            parcel = await self._outbox.next(PARCEL_ROWS_MAX, priority)
            if parcel is not None and priority is Priority.LIVE:
                self._live_owed -= max(_rows(parcel), 1)  # what comes meanwhile waits for the next time
            if parcel is not None and self._suspicion.must_go_alone((parcel.epoch, parcel.seq)):
                self._benched.append(parcel)
            elif parcel is not None:
                self._publish(session, facts, parcel)
                await self._settle()

    def _trial_is_due(self) -> bool:
        """Tell whether a suspect may go by itself: the broker has taken everything else."""
        return bool(self._benched) and not any(flight.puback is not None for flight in self._flights.values())

    def _most_urgent(self) -> Priority | None:
        if self._outbox.ready(Priority.EVENT):
            return Priority.EVENT
        if self._live_owed > 0 and self._outbox.ready(Priority.LIVE):
            return Priority.LIVE
        if self._backlog_is_free() and (self._draining or not self._share.wait_s()):
            return Priority.BACKLOG
        return None

    def _backlog_is_free(self) -> bool:
        """Tell whether a message of the backlog may go as soon as its share of the link allows."""
        flying = sum(flight.topic == self._topic(Priority.BACKLOG) for flight in self._flights.values())
        return self._outbox.ready(Priority.BACKLOG) and not self._benched and flying < BACKLOG_UNCONFIRMED_MAX

    def _publish(self, session: MqttSession, facts: Facts, parcel: Parcel, *, alone: bool = False) -> None:
        self._announcer.tell_catalogue(session)
        topic = self._topic(parcel.priority) if parcel.records else f"{self._root}/gap"
        plain = encode(parcel, self._site, self._outbox.catalogue.last_id)
        payload = self._seal(topic, plain, (parcel.epoch, parcel.seq))
        now = self._clock.monotonic()
        self._numbers += 1
        flight = _Flight(
            *(parcel.epoch, parcel.seq, _rows(parcel), len(payload), now + PUBACK_TIMEOUT_S, None),
            *(topic, self._numbers, now, alone),
        )
        self._flights[parcel.epoch, parcel.seq] = flight
        if parcel.priority is Priority.BACKLOG:
            self._share.spend(len(payload))
        if len(payload) + 100 > facts.packet_bytes_max:
            self._refuse(flight, 0x95, now)
            return
        flight.puback = session.publish(topic, payload)
        flight.puback.add_done_callback(lambda _: self._wake.set())
        self._share.published()
        self._messages += 1
        self._bytes += len(payload)

    def _topic(self, priority: Priority) -> str:
        return f"{self._root}/{_TOPICS[priority]}"

    def _room(self, window: int) -> bool:
        unacknowledged = [flight for flight in self._flights.values() if flight.puback is not None]
        if any(flight.alone for flight in unacknowledged):
            return False
        return len(unacknowledged) < window and len(self._flights) < UNCONFIRMED_MAX

    def _is_due(self) -> bool:
        """Tell whether live data should go now: the latency is over, a whole parcel waits, or we are stopping."""
        full = self._outbox.ready_rows(Priority.LIVE) >= PARCEL_ROWS_MAX
        return self._draining or full or self._clock.monotonic() >= self._cut_at + self._section.latency

    async def _pause(self, waiting: "asyncio.Task[None]", room: bool) -> None:
        """Sleep until something was acknowledged or lost, a deadline passes, or there is something to send."""
        now = self._clock.monotonic()
        until = min((min(flight.deadline, flight.tell_at) for flight in self._flights.values()), default=now + 60)
        awaited: set[asyncio.Task[Any]] = {asyncio.create_task(self._wake.wait())}
        if not waiting.done():
            awaited.add(waiting)
        elif room:
            until = min(until, self._next_send(now))
            if not self._outbox.ready(Priority.EVENT):
                # Something waits for its time; what is more urgent may still come.
                awaited.add(asyncio.create_task(self._outbox.changed()))
        try:
            if waiting.done() and room:
                await asyncio.sleep(0)  # now they listen; what came just before is seen here
                if self._outbox.ready(Priority.EVENT):
                    until = now
            await asyncio.wait(awaited, timeout=max(until - now, 0), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in awaited - {waiting}:
                task.cancel()
            await asyncio.wait(awaited - {waiting})

    def _next_send(self, now: float) -> float:
        """Return when what is ready may go."""
        if self._outbox.ready(Priority.EVENT):
            return now
        times = [now + 60]
        if self._outbox.ready(Priority.LIVE):
            times.append(now if self._is_due() else self._cut_at + self._section.latency)
        if self._backlog_is_free():
            times.append(now if self._draining else now + self._share.wait_s())
        return min(times)

    async def drain(self, deadline_s: float) -> None:
        """Send what is left without waiting for company; return when all is confirmed or the time is up."""
        self._draining = True
        self._wake.set()
        if self._session is None:
            return
        try:
            async with asyncio.timeout(deadline_s):
                while self._outbox.backlog().rows:
                    self._progress.clear()
                    await self._progress.wait()
        except TimeoutError:
            return

    def statistics(self) -> PumpStatistics:
        """Return a snapshot."""
        facts = self._facts
        live = self._session.wire_bytes() if self._session else 0
        return PumpStatistics(
            connected=self._session is not None,
            protocol=facts.protocol if facts else "",
            tls=facts.tls if facts else "",
            cipher=facts.cipher if facts else "",
            messages_total=self._messages,
            bytes_total=self._bytes,
            wire_bytes_total=self._wire_bytes_before + live,
            parcels_committed_total=self._committed,
            resends_total=self._resends,
            refused_total=self._refused,
            splits_total=self._splits,
            acks_ignored_total=self._acks_ignored,
            reconnects_total=max(self._connects - 1, 0),
            last_ack=self._last_ack,
            last_error=self._last_error,
        )


def _by_epoch(flights: Iterable[_Flight]) -> dict[int, list[int]]:
    seqs: dict[int, list[int]] = {}
    for flight in flights:
        seqs.setdefault(flight.epoch, []).append(flight.seq)
    return seqs


def _rows(parcel: Parcel) -> int:
    return sum(len(record) if isinstance(record, Batch) else 1 for record in parcel.records)


def _sealer(section: MqttSection, site: str, folder: Path) -> Sealer | None:
    """Return what seals for the configured recipients. Raises WrongInput for a file that cannot be used."""
    if not section.seal_to or section.identity is None:
        return None
    signing = read_signing(folder / section.sign_with) if section.sign_with else None
    recipients = [read_public(folder / name) for name in section.seal_to]
    return Sealer(site, recipients, folder / section.identity, section.cipher, signing)
