"""Which message cannot pass: told from a dead link, a denied topic and a brain that is away, all of which look alike.

A message is guilty when its content is refused; when the broker ended the connection with it alone on the way; or when
others that went later by the same topic arrived and it did not, again and again. What is guilty is sent in halves, and
what cannot be halved is set aside, so nothing else waits for it.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from edge.core.batch import Event, Severity
from edge.core.delivery import Identity, Outbox
from edge.core.language import say

CUTS_MAX = 3
REFUSALS_MAX = 3
LOSSES_MAX = 3
SUSPECTS_MAX = 4096

_NO_FAULT_OF_A_MESSAGE = ("Keep alive", "shutting down", "taken over")  # among paho's words for why it is over
_CONTENT = frozenset({0x95, 0x99})  # Packet Too Large, Payload Format Invalid: MQTT 5, 2.4

log = logging.getLogger("yulink.uplink")


@dataclass(slots=True)
class _Record:
    """What is held against a message. `passed`: how many of its topic had passed when it was first refused."""

    cuts: int = 0
    refusals: int = 0
    losses: int = 0
    passed: int = 0


class Suspicion:
    """What is known of messages that did not pass. Those that pass are forgotten."""

    def __init__(self) -> None:
        self._records: dict[Identity, _Record] = {}
        self._passed: dict[str, int] = {}

    def must_go_alone(self, identity: Identity) -> bool:
        """Tell whether a message was on its way when the connection was cut so often that it is tried by itself."""
        record = self._records.get(identity)
        return record is not None and record.cuts >= CUTS_MAX

    def passed(self, identity: Identity, topic: str) -> None:
        """Count a message that the broker took."""
        self._passed[topic] = self._passed.get(topic, 0) + 1
        if record := self._records.get(identity):
            record.cuts = record.refusals = 0

    def confirmed(self, identities: Iterable[Identity]) -> None:
        """Forget messages that arrived."""
        for identity in identities:
            self._records.pop(identity, None)

    def cut(self, on_their_way: Iterable[Identity]) -> None:
        """Count an end of the connection, made by the broker, with these unacknowledged."""
        for identity in on_their_way:
            self._of(identity).cuts += 1

    def inherit(self, pieces: Iterable[Identity], of: Identity) -> None:
        """Suspect the pieces of what was guilty: it takes less to convict them."""
        record = self._records.pop(of, _Record())
        for identity in pieces:
            piece = self._of(identity)
            piece.cuts = CUTS_MAX if record.cuts >= CUTS_MAX else 0
            piece.losses = LOSSES_MAX - 1 if record.losses >= LOSSES_MAX else 0

    def refused(self, identity: Identity, reason: int, topic: str) -> bool:
        """Count a refusal and tell whether the message itself is why: a denied topic refuses every one."""
        if reason in _CONTENT:
            return True
        record = self._of(identity)
        if not record.refusals:
            record.passed = self._passed.get(topic, 0)
        record.refusals += 1
        return record.refusals >= REFUSALS_MAX and self._passed.get(topic, 0) > record.passed

    def lost(self, identity: Identity) -> bool:
        """Count that the brain lacks a message, but has later ones of its topic; tell whether that is too often."""
        record = self._of(identity)
        record.losses += 1
        return record.losses >= LOSSES_MAX

    def _of(self, identity: Identity) -> _Record:
        if len(self._records) >= SUSPECTS_MAX:
            self._records.pop(next(iter(self._records)))
        return self._records.setdefault(identity, _Record())


def may_be_of_a_message(reason: str) -> bool:
    """Tell whether a message may be why the broker ended a connection."""
    return not any(words in reason for words in _NO_FAULT_OF_A_MESSAGE)


async def convict(outbox: Outbox, suspicion: Suspicion, identity: Identity, reason: str, uplink: str) -> Event | None:
    """Have a message that cannot pass come in halves; set it aside when it is a single row.

    Returns the event that tells of what was set aside, its `ts` 0; None when the halves come, or when nothing had to be
    set aside: the message has no rows, or it was judged before.
    """
    if pieces := await outbox.split(*identity):
        suspicion.inherit(pieces, identity)
        return None
    rows = await outbox.quarantine(*identity, reason)
    suspicion.confirmed([identity])
    if not rows:
        return None
    words = say("a message with {rows} rows was set aside: {reason}", rows=rows, reason=reason)
    log.error(say("uplink: {error}", error=words))
    facts: dict[str, str | int | float | bool | None]
    facts = {"uplink": uplink, "epoch": identity[0], "seq": identity[1], "rows": rows}
    text = f"a message with {rows} rows was set aside: {reason}"
    return Event(0, "gateway", "message_set_aside", Severity.HIGH, text, facts)
