"""What arrives at the brain: topics, messages checked against them, and what has come of an epoch."""

import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from edge.core.delivery import Identity
from uplink import batch_pb2 as pb
from uplink.catalogue import decode_catalogue
from uplink.encode import BadMessage, decode

BATCHES = ("data", "event", "gap")
"""The kinds of topics by which messages with a number come."""
NUMBER_MAX = 2**63 - 1
RANGE_MAX = 1_000_000
_WILL = 2**32 - 1  # a will has no number: it is the last word of its connection


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message as the broker gave it, opened: `sealed` says that it was encrypted for us and authentic.

    number  (epoch, seq) as a sealed one tells in its header
    """

    topic: str
    payload: bytes
    sealed: bool = False
    number: Identity | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that may not be stored, and why.

    number  (epoch, seq) of one that is of this gateway, but can never be stored: the gateway is told so
    """

    topic: str
    payload: bytes
    reason: str
    number: Identity | None = None


def refuse(each: Arrived, reason: object) -> Refused:
    """Return the refusal of a message because of what it says, with its number where one can be known."""
    number = each.number
    if kind_of(each.topic) not in BATCHES:
        number = None
    elif number is None:
        with suppress(BadMessage):
            message = decode(each.payload)
            number = (message.epoch, message.seq)
    if number is not None and not 0 < min(number) <= max(number) <= NUMBER_MAX:
        number = None
    return Refused(each.topic, each.payload, str(reason), number)


@dataclass(slots=True)
class Progress:
    """What has arrived of one epoch: everything up to `through`, and `beyond` behind holes.

    `refused` arrived too, but can never be stored; so it stays missing until other messages come in its place.
    """

    through: int = 0
    beyond: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)

    def refuse(self, seq: int) -> None:
        """Note a message that can never be stored."""
        self.refused.add(seq)

    def add(self, seq: int) -> None:
        """Count a message in."""
        self.beyond.add(seq)
        while self.through + 1 in self.beyond:
            self.through += 1
            self.beyond.discard(self.through)

    def add_range(self, first: int, last: int) -> None:
        """Count messages in that will never come; far ahead of the others at most `RANGE_MAX` of them."""
        if first <= self.through + 1:
            self.through = max(self.through, last)
            self.beyond = {seq for seq in self.beyond if seq > self.through}
            while self.through + 1 in self.beyond:
                self.through += 1
                self.beyond.discard(self.through)
        else:
            self.beyond.update(range(first, min(last, first + RANGE_MAX) + 1))

    def acknowledgement(self, epoch: int) -> dict[str, Any]:
        """Return the message that the contract asks for."""
        holes, expected = [], self.through + 1
        for seq in sorted(self.beyond):
            if seq > expected:
                holes.append([expected, seq - 1])
            expected = seq + 1
        told = {"epoch": epoch, "committed_through": max(self.beyond, default=self.through), "missing": holes}
        self.refused = {seq for seq in self.refused if seq > self.through and seq not in self.beyond}
        return told | ({"refused": [[seq, seq] for seq in sorted(self.refused)]} if self.refused else {})


def kind_of(topic: str) -> str:
    """Return the fourth level of a topic: data, event, catalog, key …"""
    return (topic.split("/", 4) + [""] * 4)[3]


def gateway_of(topic: str) -> str:
    """Return tenant and gateway of a topic, "" when it is none of this contract's."""
    parts = topic.split("/")
    return f"{parts[1]}/{parts[2]}" if len(parts) >= 4 and parts[0] == "v1" else ""


def verify(each: Arrived) -> pb.Batch:
    """Return the message, checked against the topic it came by and the number in its header. Raises BadMessage."""
    topic, message = each.topic, decode(each.payload)
    if each.number not in (None, (message.epoch, message.seq)):
        raise BadMessage(f"a message with the number {(message.epoch, message.seq)} was sealed as {each.number}")
    if kind_of(topic) not in BATCHES or message.gateway != gateway_of(topic):
        raise BadMessage(f"a message of {message.gateway!r} came by the topic {topic!r}")
    ranges = [*message.instead_of, *message.gone]
    numbers = (message.epoch, message.seq, *(n for gap in message.gaps for n in (gap.rows, *gap.tag_rows)))
    numbers += tuple(number for one in ranges for number in (one.epoch, one.first, one.last))
    if max(numbers) > NUMBER_MAX:
        raise BadMessage("a number that no database holds")
    try:
        facts = [json.loads(event.facts_json) for event in message.events]
    except ValueError as error:
        raise BadMessage(f"an event whose facts are no JSON: {error}") from error
    if not all(isinstance(each, dict) for each in facts):
        raise BadMessage("an event whose facts are no JSON object")
    return message


def husk(message: pb.Batch) -> pb.Batch:
    """Return a message's identity without its content: what is stored of a part whose whole is held already."""
    return pb.Batch(gateway=message.gateway, epoch=message.epoch, seq=message.seq, historical=message.historical)


def absent(message: pb.Batch) -> list[tuple[int, int, int]]:
    """Return (epoch, first, last) of the messages that will not come, as a message says."""
    return [(one.epoch, one.first, one.last) for one in [*message.instead_of, *message.gone]]


@dataclass(frozen=True, slots=True)
class Health:
    """What a gateway said of its state. Of one run, told by `started`, the highest `place` holds."""

    gateway: str
    state: str
    started: str
    place: int
    facts: str


def verify_health(topic: str, payload: bytes) -> Health:
    """Return the health message, checked against the topic it came by. Raises BadMessage."""
    try:
        facts = json.loads(payload)
        connection, number = int(facts["connection"]), int(facts.get("number", _WILL))
        health = Health(
            str(facts["gateway"]),
            str(facts["state"]),
            str(facts["started"]),
            connection << 32 | number,
            payload.decode(),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadMessage(f"not a health message of this contract: {error}") from error
    if topic != f"v1/{health.gateway}/health":
        raise BadMessage(f"a health message of {health.gateway!r} came by the topic {topic!r}")
    if not (0 <= connection < _WILL // 2 and 0 <= number <= _WILL):
        raise BadMessage("a number that no database holds")
    return health


def verify_catalogue(topic: str, payload: bytes) -> pb.Catalogue:
    """Return the catalogue, checked against the topic it came by. Raises BadMessage."""
    catalogue = decode_catalogue(payload)
    if topic != f"v1/{catalogue.gateway}/catalog/{catalogue.device}":
        raise BadMessage(f"a catalogue of {catalogue.gateway!r} came by the topic {topic!r}")
    return catalogue
