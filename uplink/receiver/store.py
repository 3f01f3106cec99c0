"""The brain's store on one machine: SQLite, every message once, acknowledged only after its commit."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from uplink import batch_pb2 as pb
from uplink.encode import BadMessage, decode, qualities, times, values

QUARANTINE_MAX = 1000

_TABLES = """
CREATE TABLE IF NOT EXISTS message (id INTEGER PRIMARY KEY, gateway TEXT NOT NULL, epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL, rows INTEGER NOT NULL, bytes INTEGER NOT NULL, received INTEGER NOT NULL,
    historical INTEGER NOT NULL, printed INTEGER NOT NULL DEFAULT 0, UNIQUE (gateway, epoch, seq));
CREATE INDEX IF NOT EXISTS message_unprinted ON message (id) WHERE printed = 0;
CREATE TABLE IF NOT EXISTS reading (message INTEGER NOT NULL, gateway TEXT NOT NULL, device TEXT NOT NULL,
    tag TEXT NOT NULL, ts INTEGER NOT NULL, value, unit TEXT NOT NULL, quality INTEGER NOT NULL, kind INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS reading_message ON reading (message);
CREATE TABLE IF NOT EXISTS waveform (message INTEGER NOT NULL, gateway TEXT NOT NULL, device TEXT NOT NULL,
    tag TEXT NOT NULL, ts INTEGER NOT NULL, rate_hz REAL NOT NULL, full_scale REAL NOT NULL, unit TEXT NOT NULL,
    quality INTEGER NOT NULL, int16_samples BLOB, float32_samples BLOB);
CREATE TABLE IF NOT EXISTS event (message INTEGER NOT NULL, gateway TEXT NOT NULL, ts INTEGER NOT NULL,
    source TEXT NOT NULL, kind TEXT NOT NULL, severity INTEGER NOT NULL, text TEXT NOT NULL, facts TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS gap (message INTEGER NOT NULL, gateway TEXT NOT NULL, rows INTEGER NOT NULL,
    ts_min INTEGER NOT NULL, ts_max INTEGER NOT NULL, reason TEXT NOT NULL);
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


class Store:
    """The database and what it knows of each gateway's epochs. Used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_TABLES)
        self._progress: dict[tuple[str, int], Progress] = {}
        self.counters = StoreCounters()

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def commit(self, arrived: Sequence[tuple[str, bytes]], now: int) -> list[tuple[str, dict[str, Any]]]:
        """Store messages, given as (topic, payload), in one transaction.

        Returns (gateway, acknowledgement) for every epoch that was touched, repeats included. What cannot be
        read is put aside in `quarantine` and counted.
        """
        touched: dict[tuple[str, int], Progress] = {}
        new: list[tuple[str, int, int]] = []
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for topic, payload in arrived:
                try:
                    message = verify(topic, payload)
                except BadMessage as error:
                    self._quarantine(topic, payload, str(error), now)
                    continue
                epoch = (message.gateway, message.epoch)
                touched[epoch] = self._known(*epoch)
                if self._insert(message, len(payload), now):
                    new.append((*epoch, message.seq))
                else:
                    self.counters.duplicates += 1
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        for gateway, number, seq in new:
            self._progress[gateway, number].add(seq)
        return [(gateway, progress.acknowledgement(number)) for (gateway, number), progress in touched.items()]

    def _known(self, gateway: str, epoch: int) -> Progress:
        if (gateway, epoch) not in self._progress:
            progress = Progress()
            for (seq,) in self._db.execute("SELECT seq FROM message WHERE gateway = ? AND epoch = ?", (gateway, epoch)):
                progress.add(seq)
            self._progress[gateway, epoch] = progress
        return self._progress[gateway, epoch]

    def _insert(self, message: pb.Batch, size: int, now: int) -> bool:
        rows = sum(len(series.ts_delta) for series in message.series) + len(message.waveforms)
        cursor = self._db.execute(
            "INSERT OR IGNORE INTO message (gateway, epoch, seq, rows, bytes, received, historical)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (message.gateway, message.epoch, message.seq, rows, size, now, message.historical),
        )
        if not cursor.rowcount:
            return False
        key, gateway = cursor.lastrowid, message.gateway
        self._db.executemany(
            "INSERT INTO reading VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    key,
                    gateway,
                    series.tag.device,
                    series.tag.name,
                    ts,
                    _stored(value),
                    series.tag.unit,
                    quality,
                    series.tag.kind,
                )
                for series in message.series
                for ts, value, quality in zip(times(series), values(series), qualities(series), strict=True)
            ],
        )
        self._db.executemany(
            "INSERT INTO waveform VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (key, gateway, wave.tag.device, wave.tag.name, wave.ts, wave.rate_hz, wave.full_scale, wave.tag.unit,
                 wave.quality, wave.int16_samples or None, wave.float32_samples or None)
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
            "SELECT id, gateway, epoch, seq, historical FROM message WHERE printed = 0 ORDER BY id"
        ).fetchall()
        for key, gateway, _, seq, historical in found:
            yield from ((key, line) for line in self._lines(key, gateway, seq, bool(historical)))

    def _lines(self, key: int, gateway: str, seq: int, historical: bool) -> Iterator[str]:
        common = {"seq": seq, "historical": historical}
        for device, tag, ts, value, unit, quality, kind in self._db.execute(
            "SELECT device, tag, ts, value, unit, quality, kind FROM reading WHERE message = ?", (key,)
        ):
            shown = None if quality & 0x80000000 else _shown(value, kind)
            yield _line(
                {"gateway": gateway, "device": device, "tag": tag, "ts": iso(ts), "value": shown, "unit": unit,
                 "quality": f"0x{quality:08X}", **common}
            )  # fmt: skip
        for device, tag, ts, rate_hz, full_scale, unit, quality, short, single in self._db.execute(
            "SELECT device, tag, ts, rate_hz, full_scale, unit, quality, int16_samples, float32_samples"
            " FROM waveform WHERE message = ?",
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
            yield _line({"waveform": wave | common})
        for ts, source, kind, severity, text, facts in self._db.execute(
            "SELECT ts, source, kind, severity, text, facts FROM event WHERE message = ?", (key,)
        ):
            event = {"gateway": gateway, "ts": iso(ts), "source": source, "kind": kind, "severity": severity,
                     "text": text, "facts": json.loads(facts)}  # fmt: skip
            yield _line({"event": event | common})
        for rows, ts_min, ts_max, reason in self._db.execute(
            "SELECT rows, ts_min, ts_max, reason FROM gap WHERE message = ?", (key,)
        ):
            gap = {"gateway": gateway, "rows": rows, "from": iso(ts_min), "to": iso(ts_max), "reason": reason}
            yield _line({"gap": gap | common})

    def mark_printed(self, through: int) -> None:
        """Remember that every message up to this id was printed."""
        self._db.execute("UPDATE message SET printed = 1 WHERE printed = 0 AND id <= ?", (through,))


def verify(topic: str, payload: bytes) -> pb.Batch:
    """Return the message, checked against the topic it came by. Raises BadMessage."""
    parts = topic.split("/")
    message = decode(payload)
    if len(parts) < 5 or parts[0] != "v1" or parts[3] != "data" or message.gateway != f"{parts[1]}/{parts[2]}":
        raise BadMessage(f"a message of {message.gateway!r} came by the topic {topic!r}")
    return message


def _stored(value: bool | int | float | str) -> int | float | str | None:
    """SQLite's integers have 64 bits with sign, and NaN would become NULL; both are kept as text."""
    if isinstance(value, float) and np.isnan(value):
        return "NaN"
    return str(value) if isinstance(value, int) and value >= 2**63 else value


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
