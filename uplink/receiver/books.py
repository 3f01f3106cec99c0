"""The brain's own count of what arrived, kept beside what the gateways' ledgers say, and compared with it."""

import json
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from cryptography import x509

from edge.core.batch import Severity
from edge.core.ledger import Line
from uplink import batch_pb2 as pb
from uplink.receiver.columns import Readings
from uplink.seal import BadSeal
from uplink.statement import KIND, check

DISCREPANCY = "ledger_discrepancy"

TABLES = """
CREATE TABLE IF NOT EXISTS arrived (gateway TEXT NOT NULL, uplink TEXT NOT NULL, hour INTEGER NOT NULL,
    device TEXT NOT NULL, rows INTEGER NOT NULL, PRIMARY KEY (gateway, uplink, hour, device)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ledger (gateway TEXT NOT NULL, uplink TEXT NOT NULL, hour INTEGER NOT NULL,
    device TEXT NOT NULL, revision INTEGER NOT NULL, line TEXT NOT NULL, signature TEXT NOT NULL,
    verified INTEGER NOT NULL, arrived INTEGER NOT NULL, discrepancies TEXT NOT NULL,
    PRIMARY KEY (gateway, uplink, hour, device)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class _Told:
    message: int
    gateway: str
    uplink: str
    line: Line
    text: str
    signature: str
    ts: int


@dataclass(slots=True)
class Books:
    """Counts by gateway, uplink, hour and device. Its methods are steps of the store's transaction.

    With the `authorities` of the gateways' certificates, signatures are checked.
    """

    authorities: Sequence[x509.Certificate] = ()
    _rows: Counter[tuple[str, str, int, str]] = field(default_factory=Counter)
    _told: list[_Told] = field(default_factory=list)

    def begin(self) -> None:
        """Forget what a transaction that failed had counted."""
        self._rows.clear()
        self._told.clear()

    def take(self, key: int, message: pb.Batch, readings: Readings, device_of: Mapping[int, str]) -> None:
        """Count a new message's readings. `device_of` gives the device of a tag by its key in the store."""
        columns = (readings.floats.key, readings.integers.key, readings.texts.key)
        for tag, rows in zip(
            *map(np.ndarray.tolist, np.unique(np.concatenate(columns), return_counts=True)), strict=True
        ):
            self._rows[message.gateway, message.uplink, message.hour, device_of[int(tag)]] += rows
        for event in message.events:
            if event.kind != KIND:
                continue
            try:
                facts = json.loads(event.facts_json)
                text, signature = str(facts["line"]), str(facts.get("signature", ""))
                line = Line.of_json(json.loads(text))
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # kept as the event that it came as
            self._told.append(_Told(key, message.gateway, message.uplink, line, text, signature, event.ts))

    def take_waveform(self, message: pb.Batch, device: str) -> None:
        """Count one block."""
        self._rows[message.gateway, message.uplink, message.hour, device] += 1

    def settle(self, db: sqlite3.Connection) -> None:
        """Add up what arrived, and compare it with what was told."""
        db.executemany(
            "INSERT INTO arrived VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET rows = rows + excluded.rows",
            [(*place, rows) for place, rows in self._rows.items()],
        )
        for told in self._told:
            place = (told.gateway, told.uplink, told.line.hour, told.line.device)
            ((newer,),) = db.execute(
                "SELECT count(*) FROM ledger WHERE gateway = ? AND uplink = ? AND hour = ? AND device = ?"
                " AND revision >= ?",
                (*place, told.line.revision),
            )
            if not newer:
                self._compare(db, told, place)

    def _compare(self, db: sqlite3.Connection, told: _Told, place: tuple[str, str, int, str]) -> None:
        line = told.line
        rows, unplaced = (self._arrived(db, (*place[:2], hour, place[3])) for hour in (line.hour, 0))
        wrong = line.broken()
        if told.uplink in line.uplinks:
            way = line.uplinks[told.uplink]
            if rows + unplaced < way.committed:
                wrong.append(f"{way.committed} rows are committed, but {rows} are here")
            if rows > line.stored - way.withheld:
                wrong.append(f"{line.stored - way.withheld} rows were stored for us, but {rows} are here")
        verified = False
        if told.signature and self.authorities:
            try:
                # By our own clock: the gateway's may be wrong, which is no reason to distrust its counts.
                check(told.gateway, told.text, told.signature, self.authorities, datetime.now(UTC))
                verified = True
            except BadSeal as error:
                wrong.append(error.message)
        db.execute(
            "INSERT OR REPLACE INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*place, line.revision, told.text, told.signature, verified, rows, json.dumps(wrong)),
        )
        if wrong:
            facts = {"hour": line.hour, "revision": line.revision, "uplink": told.uplink, "arrived": rows}
            db.execute(
                "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (told.message, told.gateway, told.ts, line.device, DISCREPANCY, int(Severity.HIGH), "; ".join(wrong),
                 json.dumps(facts)),
            )  # fmt: skip

    @staticmethod
    def _arrived(db: sqlite3.Connection, place: tuple[str, str, int, str]) -> int:
        found = db.execute(
            "SELECT rows FROM arrived WHERE gateway = ? AND uplink = ? AND hour = ? AND device = ?", place
        ).fetchone()
        return int(found[0]) if found else 0
