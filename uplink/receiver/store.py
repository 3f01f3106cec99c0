"""The brain's store on one machine: SQLite, every message once, acknowledged only after its commit."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from uplink import batch_pb2 as pb
from uplink.catalogue import decode_catalogue
from uplink.encode import BadMessage, decode, series

QUARANTINE_MAX = 1000
ANNOUNCEMENTS_MAX = 20

_TABLES = """
CREATE TABLE IF NOT EXISTS tag (key INTEGER PRIMARY KEY, gateway TEXT NOT NULL, id INTEGER NOT NULL,
    device TEXT NOT NULL, name TEXT NOT NULL, kind INTEGER NOT NULL, unit TEXT NOT NULL, ucum TEXT NOT NULL,
    path TEXT NOT NULL, classification TEXT NOT NULL, protocol TEXT NOT NULL, UNIQUE (gateway, id));
CREATE TABLE IF NOT EXISTS message (id INTEGER PRIMARY KEY, gateway TEXT NOT NULL, epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL, rows INTEGER NOT NULL, bytes INTEGER NOT NULL, received INTEGER NOT NULL,
    historical INTEGER NOT NULL, sealed INTEGER NOT NULL, printed INTEGER NOT NULL DEFAULT 0,
    UNIQUE (gateway, epoch, seq));
CREATE INDEX IF NOT EXISTS message_unprinted ON message (id) WHERE printed = 0;
CREATE TABLE IF NOT EXISTS sample (message INTEGER NOT NULL, tag INTEGER NOT NULL, ts INTEGER NOT NULL, value,
    quality INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS sample_message ON sample (message);
CREATE VIEW IF NOT EXISTS reading AS SELECT sample.rowid AS id, message, gateway, device, name AS tag, ts, value, unit,
    quality, kind FROM sample JOIN tag ON tag.key = sample.tag;
CREATE TABLE IF NOT EXISTS waveform (message INTEGER NOT NULL, tag INTEGER NOT NULL, ts INTEGER NOT NULL,
    rate_hz REAL NOT NULL, full_scale REAL NOT NULL, quality INTEGER NOT NULL, int16_samples BLOB,
    float32_samples BLOB);
CREATE TABLE IF NOT EXISTS event (message INTEGER NOT NULL, gateway TEXT NOT NULL, ts INTEGER NOT NULL,
    source TEXT NOT NULL, kind TEXT NOT NULL, severity INTEGER NOT NULL, text TEXT NOT NULL, facts TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS gap (message INTEGER NOT NULL, gateway TEXT NOT NULL, rows INTEGER NOT NULL,
    ts_min INTEGER NOT NULL, ts_max INTEGER NOT NULL, reason TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS announcement (topic TEXT NOT NULL, payload BLOB NOT NULL, received INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS quarantine (received INTEGER NOT NULL, topic TEXT NOT NULL, reason TEXT NOT NULL,
    payload BLOB NOT NULL);
"""


@dataclass(slots=True)
class Progress:
    """What has arrived of one epoch: everything up to `through`, and `beyond` behind holes."""

    through: int = 0
    beyond: set[int] = field(default_factory=set)

    def add(self, seq: int) -> None:
        """Count a message in."""
        self.beyond.add(seq)
        while self.through + 1 in self.beyond:
            self.through += 1
            self.beyond.discard(self.through)

    def acknowledgement(self, epoch: int) -> dict[str, Any]:
        """Return the message that the contract asks for."""
        holes, expected = [], self.through + 1
        for seq in sorted(self.beyond):
            if seq > expected:
                holes.append([expected, seq - 1])
            expected = seq + 1
        return {"epoch": epoch, "committed_through": max(self.beyond, default=self.through), "missing": holes}


@dataclass(slots=True)
class StoreCounters:
    """Totals since the store was opened."""

    messages: int = 0
    duplicates: int = 0
    rows: int = 0
    quarantined: int = 0
    unresolved: int = 0


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message as the broker gave it, opened: `sealed` says that it was encrypted for us and authentic."""

    topic: str
    payload: bytes
    sealed: bool = False


@dataclass(frozen=True, slots=True)
class Known:
    """What the store knows of a tag."""

    key: int
    kind: int


@dataclass(slots=True)
class Outcome:
    """What committing messages asks for: (gateway, acknowledgement) to send, and gateways whose catalogue is needed."""

    acknowledgements: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    catalogues_needed: set[str] = field(default_factory=set)


class Store:
    """The database and what it knows of each gateway's epochs and tags. Used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_TABLES)
        self._progress: dict[tuple[str, int], Progress] = {}
        self._tags: dict[tuple[str, int], Known] = {
            (gateway, tag): Known(key, kind)
            for gateway, tag, key, kind in self._db.execute("SELECT gateway, id, key, kind FROM tag")
        }
        self.counters = StoreCounters()

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def commit(self, arrived: Sequence[Arrived], now: int, refused: Sequence[tuple[str, bytes, str]] = ()) -> Outcome:
        """Store messages in one transaction, and put aside what was `refused`, given as (topic, payload, reason).

        Every epoch that was touched is acknowledged, repeats included. What cannot be read is put aside in
        `quarantine` and counted. A batch whose tags are not in the catalogue yet is left to be sent again.
        """
        touched: dict[tuple[str, int], Progress] = {}
        new: list[tuple[str, int, int]] = []
        outcome = Outcome()
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for each in arrived:
                try:
                    if kind_of(each.topic) == "key":
                        self._keep_announcement(each, now)
                        continue
                    if kind_of(each.topic) == "catalog":
                        self._learn(verify_catalogue(each.topic, each.payload))
                        continue
                    message = verify(each.topic, each.payload)
                    columns = [*series(message)]
                except BadMessage as error:
                    self._quarantine(each.topic, each.payload, str(error), now)
                    continue
                epoch = (message.gateway, message.epoch)
                if self._lacks_tags(message.gateway, [one.tag for one in columns] + [w.tag for w in message.waveforms]):
                    self.counters.unresolved += 1
                    outcome.catalogues_needed.add(message.gateway)
                    continue
                touched[epoch] = self._known(*epoch)
                if self._insert(message, columns, each, now):
                    new.append((*epoch, message.seq))
                else:
                    self.counters.duplicates += 1
            for topic, payload, reason in refused:
                self._quarantine(topic, payload, reason, now)
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        for gateway, number, seq in new:
            self._progress[gateway, number].add(seq)
        outcome.acknowledgements = [
            (gateway, progress.acknowledgement(number)) for (gateway, number), progress in touched.items()
        ]
        return outcome

    def _keep_announcement(self, each: Arrived, now: int) -> None:
        self._db.execute("INSERT INTO announcement VALUES (?, ?, ?)", (each.topic, each.payload, now))
        self._db.execute(
            "DELETE FROM announcement WHERE topic = ? AND rowid <="
            " (SELECT rowid FROM announcement WHERE topic = ? ORDER BY rowid DESC LIMIT 1 OFFSET ?)",
            (each.topic, each.topic, ANNOUNCEMENTS_MAX),
        )

    def announcements(self) -> list[tuple[str, bytes]]:
        """Return the announced keys, oldest first, as (topic, payload)."""
        return self._db.execute("SELECT topic, payload FROM announcement ORDER BY rowid").fetchall()

    def _learn(self, catalogue: pb.Catalogue) -> None:
        for tag in catalogue.tags:
            ((key,),) = self._db.execute(
                "INSERT INTO tag (gateway, id, device, name, kind, unit, ucum, path, classification, protocol)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (gateway, id) DO UPDATE SET ucum = excluded.ucum,"
                " path = excluded.path, classification = excluded.classification, protocol = excluded.protocol"
                " RETURNING key",
                (
                    *(catalogue.gateway, tag.id, catalogue.device, tag.name, tag.kind, tag.unit, tag.ucum),
                    *(tag.path, tag.classification, catalogue.protocol),
                ),
            )
            self._tags.setdefault((catalogue.gateway, tag.id), Known(key, tag.kind))

    def _lacks_tags(self, gateway: str, tags: Iterable[int]) -> bool:
        return any((gateway, tag) not in self._tags for tag in tags)

    def _known(self, gateway: str, epoch: int) -> Progress:
        if (gateway, epoch) not in self._progress:
            progress = Progress()
            for (seq,) in self._db.execute("SELECT seq FROM message WHERE gateway = ? AND epoch = ?", (gateway, epoch)):
                progress.add(seq)
            self._progress[gateway, epoch] = progress
        return self._progress[gateway, epoch]

    def _insert(self, message: pb.Batch, columns: Sequence[Any], each: Arrived, now: int) -> bool:
        rows = sum(len(one.ts) for one in columns) + len(message.waveforms)
        cursor = self._db.execute(
            "INSERT OR IGNORE INTO message (gateway, epoch, seq, rows, bytes, received, historical, sealed)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(message.gateway, message.epoch, message.seq, rows, len(each.payload), now),
                *(message.historical, each.sealed),
            ),
        )
        if not cursor.rowcount:
            return False
        key, gateway = cursor.lastrowid, message.gateway
        for one in columns:
            tag = self._tags[gateway, one.tag]
            self._db.executemany(
                "INSERT INTO sample VALUES (?, ?, ?, ?, ?)",
                [
                    (key, tag.key, ts, value, quality)
                    for ts, value, quality in zip(
                        one.ts.tolist(), _stored(one.value, tag.kind), one.quality.tolist(), strict=True
                    )
                ],
            )
        self._db.executemany(
            "INSERT INTO waveform VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (key, self._tags[gateway, wave.tag].key, wave.ts, wave.rate_hz, wave.full_scale, wave.quality,
                 wave.int16_samples or None, wave.float32_samples or None)
                for wave in message.waveforms
            ],
        )  # fmt: skip
        self._db.executemany(
            "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [(key, gateway, e.ts, e.source, e.kind, e.severity, e.message, e.facts_json) for e in message.events],
        )
        self._db.executemany(
            "INSERT INTO gap VALUES (?, ?, ?, ?, ?, ?)",
            [(key, gateway, gap.rows, gap.ts_min, gap.ts_max, gap.reason) for gap in message.gaps],
        )
        self.counters.messages += 1
        self.counters.rows += rows
        return True

    def _quarantine(self, topic: str, payload: bytes, reason: str, now: int) -> None:
        self.counters.quarantined += 1
        self._db.execute("INSERT INTO quarantine VALUES (?, ?, ?, ?)", (now, topic, reason, payload))
        self._db.execute(
            "DELETE FROM quarantine WHERE rowid <= (SELECT max(rowid) FROM quarantine) - ?", (QUARANTINE_MAX,)
        )

    def unprinted(self) -> Iterator[tuple[int, str]]:
        """Yield (message id, JSON line) of everything not yet marked as printed, in order of arrival."""
        found = self._db.execute(
            "SELECT id, gateway, seq, historical FROM message WHERE printed = 0 ORDER BY id"
        ).fetchall()
        for key, gateway, seq, historical in found:
            common = {"seq": seq, "historical": bool(historical)}
            yield from ((key, _line(fields)) for fields in self._lines(key, gateway, common))

    def _lines(self, key: int, gateway: str, common: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for device, tag, ts, value, unit, quality, kind in self._db.execute(
            "SELECT device, tag, ts, value, unit, quality, kind FROM reading WHERE message = ?", (key,)
        ):
            shown = None if quality & 0x80000000 else _shown(value, kind)
            yield {
                "gateway": gateway,
                "device": device,
                "tag": tag,
                "ts": iso(ts),
                "value": shown,
                "unit": unit,
                "quality": f"0x{quality:08X}",
                **common,
            }
        for device, tag, ts, rate_hz, full_scale, unit, quality, short, single in self._db.execute(
            "SELECT device, name, ts, rate_hz, full_scale, unit, quality, int16_samples, float32_samples"
            " FROM waveform JOIN tag ON tag.key = waveform.tag WHERE message = ?",
            (key,),
        ):
            samples = len(short) // 2 if short else len(single or b"") // 4
            wave = {
                "gateway": gateway,
                "device": device,
                "tag": tag,
                "ts": iso(ts),
                "rate_hz": rate_hz,
                "full_scale": full_scale,
                "unit": unit,
                "samples": samples,
                "quality": f"0x{quality:08X}",
            }
            yield {"waveform": wave | common}
        for ts, source, kind, severity, text, facts in self._db.execute(
            "SELECT ts, source, kind, severity, text, facts FROM event WHERE message = ?", (key,)
        ):
            event = {"gateway": gateway, "ts": iso(ts), "source": source, "kind": kind, "severity": severity}
            yield {"event": event | {"text": text, "facts": json.loads(facts)} | common}
        for rows, ts_min, ts_max, reason in self._db.execute(
            "SELECT rows, ts_min, ts_max, reason FROM gap WHERE message = ?", (key,)
        ):
            gap = {"gateway": gateway, "rows": rows, "from": iso(ts_min), "to": iso(ts_max), "reason": reason}
            yield {"gap": gap | common}

    def mark_printed(self, through: int) -> None:
        """Remember that every message up to this id was printed."""
        self._db.execute("UPDATE message SET printed = 1 WHERE printed = 0 AND id <= ?", (through,))


def kind_of(topic: str) -> str:
    """Return the fourth level of a topic: data, event, catalog, key …"""
    return (topic.split("/", 4) + [""] * 4)[3]


def gateway_of(topic: str) -> str:
    """Return tenant and gateway of a topic, "" when it is none of this contract's."""
    parts = topic.split("/")
    return f"{parts[1]}/{parts[2]}" if len(parts) >= 4 and parts[0] == "v1" else ""


def verify(topic: str, payload: bytes) -> pb.Batch:
    """Return the message, checked against the topic it came by. Raises BadMessage."""
    message = decode(payload)
    if kind_of(topic) not in ("data", "event", "gap") or message.gateway != gateway_of(topic):
        raise BadMessage(f"a message of {message.gateway!r} came by the topic {topic!r}")
    return message


def verify_catalogue(topic: str, payload: bytes) -> pb.Catalogue:
    """Return the catalogue, checked against the topic it came by. Raises BadMessage."""
    catalogue = decode_catalogue(payload)
    if topic != f"v1/{catalogue.gateway}/catalog/{catalogue.device}":
        raise BadMessage(f"a catalogue of {catalogue.gateway!r} came by the topic {topic!r}")
    return catalogue


def _stored(column: Any, kind: int) -> list[Any]:
    """SQLite's integers have 64 bits with sign, and NaN would become NULL; both are kept as text."""
    if isinstance(column, list):
        return column
    if kind == pb.FLOAT64:
        return ["NaN" if value != value else value for value in column.astype(np.float64).tolist()]
    if kind == pb.UINT64:
        return [value if value >= 0 else str(value + 2**64) for value in column.tolist()]
    return column.tolist()  # type: ignore[no-any-return]


def _shown(value: Any, kind: int) -> Any:
    if kind == pb.BOOL:
        return bool(value)
    if kind == pb.UINT64:
        return int(value)
    if kind == pb.FLOAT64 and isinstance(value, float) and np.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def iso(ts: int) -> str:
    """Return nanoseconds since 1970 UTC as ISO 8601 with microseconds."""
    return f"{np.datetime64(ts // 1000, 'us')}Z"


def _line(fields: dict[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=False)
