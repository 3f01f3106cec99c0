"""The brain's own count of what arrived, and its comparison with what the gateways' ledgers say; for every store."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeAlias

import numpy as np
from cryptography import x509

from edge.core.batch import Severity
from edge.core.ledger import Line
from uplink import batch_pb2 as pb
from uplink.receiver.columns import Readings, Tags
from uplink.seal import BadSeal
from uplink.statement import KIND, check

DISCREPANCY = "ledger_discrepancy"

Place: TypeAlias = tuple[str, str, int, str]
"""(gateway, uplink, hour, device)"""


@dataclass(frozen=True, slots=True)
class Told:
    """A line of a ledger as it came: in which message of the store, and when it was told by the gateway's clock."""

    message: int
    gateway: str
    uplink: str
    line: Line
    text: str
    signature: str
    ts: int

    @property
    def place(self) -> Place:
        """Where it is counted."""
        return self.gateway, self.uplink, self.line.hour, self.line.device


@dataclass(frozen=True, slots=True)
class Finding:
    """A line compared: what had arrived for it, whether its signature was checked, and what does not fit."""

    told: Told
    arrived: int
    verified: bool
    wrong: tuple[str, ...]

    @property
    def severity(self) -> int:
        """That of the event which tells what does not fit."""
        return int(Severity.HIGH)

    @property
    def text(self) -> str:
        """What does not fit, in one sentence."""
        return "; ".join(self.wrong)

    @property
    def facts(self) -> str:
        """JSON for programs."""
        line, uplink = self.told.line, self.told.uplink
        return json.dumps({"hour": line.hour, "revision": line.revision, "uplink": uplink, "arrived": self.arrived})


@dataclass(slots=True)
class Books:
    """What one transaction of a store counts: readings by place, and the lines that were told.

    With the `authorities` of the gateways' certificates, signatures are checked.
    """

    authorities: Sequence[x509.Certificate] = ()
    rows: Counter[Place] = field(default_factory=Counter)
    told: list[Told] = field(default_factory=list)

    def begin(self) -> None:
        """Forget what a transaction before had counted."""
        self.rows.clear()
        self.told.clear()

    def take(self, key: int, message: pb.Batch, readings: Readings, tags: Tags) -> None:
        """Count a new message, stored under `key`; `tags` are those of its gateway."""
        columns = (readings.floats.key, readings.integers.key, readings.texts.key)
        keys, counts = np.unique(np.concatenate(columns), return_counts=True)
        for tag, rows in zip(keys.tolist(), counts.tolist(), strict=True):
            self.rows[message.gateway, message.uplink, message.hour, tags.device(tag)] += rows
        for wave in message.waveforms:
            self.rows[message.gateway, message.uplink, message.hour, tags.device(tags.key(wave.tag) or 0)] += 1
        for event in message.events:
            if event.kind != KIND:
                continue
            try:
                facts = json.loads(event.facts_json)
                text, signature = str(facts["line"]), str(facts.get("signature", ""))
                line = Line.of_json(json.loads(text))
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # kept as the event that it came as
            self.told.append(Told(key, message.gateway, message.uplink, line, text, signature, event.ts))

    def compare(self, told: Told, arrived: int, unplaced: int) -> Finding:
        """Hold a line against the readings that arrived for it, and those of its device of which no hour is known."""
        line, wrong = told.line, told.line.broken()
        if told.uplink in line.uplinks:
            way = line.uplinks[told.uplink]
            if arrived + unplaced < way.committed:
                wrong.append(f"{way.committed} rows are committed, but {arrived} are here")
            if arrived > line.stored - way.withheld:
                wrong.append(f"{line.stored - way.withheld} rows were stored for us, but {arrived} are here")
        verified = False
        if told.signature and self.authorities:
            try:
                # By our own clock: the gateway's may be wrong, which is no reason to distrust its counts.
                check(told.gateway, told.text, told.signature, self.authorities, datetime.now(UTC))
                verified = True
            except BadSeal as error:
                wrong.append(error.message)
        return Finding(told, arrived, verified, tuple(wrong))
