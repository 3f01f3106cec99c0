"""What happens to a message at the brain, wherever it comes from and whatever keeps it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from edge.core.clock import Clock
from edge.core.language import say
from uplink.receiver.message import Arrived, Refused, gateway_of, kind_of
from uplink.seal import BadSeal, Opener, UnknownKey, is_sealed

ASK_EVERY_S = 1.0
ASKED_MAX = 100_000


@dataclass(slots=True)
class StoreCounters:
    """Totals since the store was opened. `unresolved`: left to come again, for want of a catalogue."""

    messages: int = 0
    duplicates: int = 0
    rows: int = 0
    quarantined: int = 0
    unresolved: int = 0


@dataclass(slots=True)
class Outcome:
    """What committing messages asks for.

    acknowledgements   (gateway, acknowledgement) to send
    unresolved         places of messages that were not stored: their gateway's catalogue is needed first
    """

    acknowledgements: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    unresolved: list[int] = field(default_factory=list)


class Store(Protocol):
    """Where the brain keeps what it received. One task calls it, one call at a time.

    After `commit` has returned, everything it was given survives any crash, each message once however often it came:
    a message's key is (gateway, epoch, seq). When it raises, nothing of the call was stored.
    """

    @property
    def counters(self) -> StoreCounters:
        """Totals since the store was opened."""

    async def open(self) -> None:
        """Make ready. Raises YulinkError for what an operator must mend, a second user of the same store too."""

    async def commit(self, arrived: Sequence[Arrived], now: int, refused: Sequence[Refused] = ()) -> Outcome:
        """Store messages in one transaction, and put aside what was refused.

        Every epoch that was touched is acknowledged, repeats included. What cannot be read is put aside in
        `quarantine`, counted, and listed in the acknowledgement as `refused` where its number is known: only what is
        wrong with the message itself may lead there, never a fault of the store. A batch whose tags are not in the
        catalogue yet is left to be sent again.

        Raises:
            Disconnected: the database is gone. Call `open` again, then commit again.
        """

    async def settle(self) -> None:
        """Do what may take its time: called after each commit, and about once a second while nothing comes."""

    async def announcements(self, gateway: str) -> list[tuple[str, bytes]]:
        """Return the stored key announcements of a gateway, oldest first, as (topic, payload)."""

    async def close(self) -> None:
        """Let go of everything."""


@dataclass(slots=True)
class ReceiverCounters:
    """Totals since the start. `repeated`: the very same envelope came again, by redelivery or by replay."""

    opened: int = 0
    repeated: int = 0
    refused: int = 0


@dataclass(slots=True)
class Taken:
    """What a group of messages led to.

    replies   (topic, payload) to publish, in this order
    left      places in the group of messages that are not stored and must come again
    """

    replies: list[tuple[str, bytes]] = field(default_factory=list)
    left: set[int] = field(default_factory=set)


class Reception:
    """Opens, verifies, stores and answers. With an `opener` only what an authentic gateway sealed for us counts."""

    def __init__(self, store: Store, clock: Clock, opener: Opener | None) -> None:
        self._store = store
        self._clock = clock
        self._opener = opener
        self._asked: dict[str, float] = {}
        self._looked_up: dict[str, float] = {}
        self.counters = ReceiverCounters()

    async def take(self, group: Sequence[tuple[str, bytes]]) -> Taken:
        """Store a group of (topic, payload) durably and return what to answer."""
        taken = Taken()
        opened: list[Arrived] = []
        places: list[int] = []
        refused: list[Refused] = []
        keys: list[tuple[str, bytes]] = []
        for place, (topic, payload) in enumerate(group):
            if not payload:  # somebody deleted what the broker retained
                continue
            try:
                if kind_of(topic) == "key":
                    if self._opener is None:
                        continue
                    self._opener.learn(topic, payload)
                    keys.append((topic, payload))
                    arrived = Arrived(topic, payload)
                else:
                    arrived = await self._open(topic, payload, keys)
            except UnknownKey:
                taken.left.add(place)
            except BadSeal as error:
                self.counters.refused += 1
                refused.append(Refused(topic, payload, str(error)))
            else:
                opened.append(arrived)
                places.append(place)
        outcome = await self._store.commit(opened, self._clock.now(), refused)
        taken.left.update(places[place] for place in outcome.unresolved)
        taken.replies += await self.replies(outcome.acknowledgements)
        for gateway in sorted({gateway_of(group[place][0]) for place in taken.left}):
            if self._is_due(self._asked, gateway):
                taken.replies.append((f"v1/{gateway}/cmd/announce", b""))
        return taken

    async def replies(self, acknowledgements: Iterable[tuple[str, dict[str, Any]]]) -> list[tuple[str, bytes]]:
        """Return acknowledgements as (topic, payload) to publish; none to a gateway whose key is not known."""
        replies = []
        for gateway, acknowledgement in acknowledgements:
            topic = f"v1/{gateway}/ack"
            reply: bytes | None = json.dumps(acknowledgement).encode()
            if self._opener is not None and reply is not None:
                sealed = self._opener.seal_ack(gateway, topic, reply)
                if sealed is None and self._is_due(self._looked_up, gateway):
                    await self._learn_again(self._opener, gateway, ())
                    sealed = self._opener.seal_ack(gateway, topic, reply)
                reply = sealed
            if reply is not None:
                replies.append((topic, reply))
        return replies

    async def _open(self, topic: str, payload: bytes, keys: Sequence[tuple[str, bytes]]) -> Arrived:
        """Return a message that may be stored. Raises BadSeal, UnknownKey."""
        if self._opener is None:
            if is_sealed(payload):
                raise BadSeal(say("sealed, and we have no key"), say("start `yulink receive` with --key"))
            return Arrived(topic, payload)
        try:
            plain = self._opener.open(topic, payload)
        except UnknownKey:
            gateway = gateway_of(topic)
            if not self._is_due(self._looked_up, gateway):
                raise
            await self._learn_again(self._opener, gateway, keys)
            plain = self._opener.open(topic, payload)
        self.counters.opened += 1
        self.counters.repeated += plain.repeated
        return Arrived(topic, plain.plain, sealed=True, number=plain.number)

    async def _learn_again(self, opener: Opener, gateway: str, keys: Sequence[tuple[str, bytes]]) -> None:
        """Take in a gateway's announcements from the store, then those that are about to be stored.

        A message may come before its key is announced anew, or to another process than the announcement. The last one
        learnt is what acknowledgements are sealed with.
        """
        stored = await self._store.announcements(gateway)
        for topic, payload in [*stored, *(each for each in keys if gateway_of(each[0]) == gateway)]:
            try:
                opener.learn(topic, payload)
            except BadSeal:  # for a key that we have no more
                continue

    def _is_due(self, done: dict[str, float], gateway: str) -> bool:
        """Tell whether something that is done for a gateway at most once a second may be done now."""
        now = self._clock.monotonic()
        if not gateway or now - done.get(gateway, -1e9) < ASK_EVERY_S:
            return False
        if len(done) >= ASKED_MAX:
            done.clear()
        done[gateway] = now
        return True
