"""The brain's store on one machine: SQLite, every message once, acknowledged only after its commit."""

import asyncio
import json
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import repeat
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
from cryptography import x509

from edge.core import lock
from edge.core.clock import iso8601
from edge.core.errors import Disconnected, YulinkError
from edge.core.language import say
from uplink import batch_pb2 as pb
from uplink.encode import BadMessage
from uplink.receiver import lines, sqlite_books
from uplink.receiver.books import DISCREPANCY, Books, Finding
from uplink.receiver.columns import Column, Readings, Tags, read
from uplink.receiver.message import (
    Arrived,
    Health,
    Progress,
    Refused,
    gateway_of,
    husk,
    kind_of,
    refuse,
    verify,
    verify_catalogue,
    verify_health,
)
from uplink.receiver.reception import Outcome, StoreCounters
from uplink.statement import KIND

QUARANTINE_MAX = 1000
ANNOUNCEMENTS_MAX = 20
VERSION = 5
_ADD_REVISIONS = """
ALTER TABLE sample ADD COLUMN revision INTEGER NOT NULL DEFAULT 0; DROP VIEW IF EXISTS reading;
"""

P = ParamSpec("P")
T = TypeVar("T")

# The samples of a message are neighbours: `first` to `last` are their row ids, which costs no index.
_TABLES = (
    """
CREATE TABLE IF NOT EXISTS tag (key INTEGER PRIMARY KEY, gateway TEXT NOT NULL, id INTEGER NOT NULL,
    device TEXT NOT NULL, name TEXT NOT NULL, kind INTEGER NOT NULL, unit TEXT NOT NULL, ucum TEXT NOT NULL,
    path TEXT NOT NULL, classification TEXT NOT NULL, protocol TEXT NOT NULL, UNIQUE (gateway, id));
CREATE TABLE IF NOT EXISTS message (id INTEGER PRIMARY KEY, gateway TEXT NOT NULL, epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL, rows INTEGER NOT NULL, bytes INTEGER NOT NULL, received INTEGER NOT NULL,
    historical INTEGER NOT NULL, sealed INTEGER NOT NULL, printed INTEGER NOT NULL DEFAULT 0,
    first INTEGER NOT NULL, last INTEGER NOT NULL, UNIQUE (gateway, epoch, seq));
CREATE INDEX IF NOT EXISTS message_unprinted ON message (id) WHERE printed = 0;
CREATE TABLE IF NOT EXISTS sample (message INTEGER NOT NULL, tag INTEGER NOT NULL, ts INTEGER NOT NULL, value,
    quality INTEGER NOT NULL, revision INTEGER NOT NULL);
CREATE VIEW IF NOT EXISTS reading AS SELECT sample.rowid AS id, message, gateway, device, name AS tag, ts, value, unit,
    quality, kind, revision FROM sample JOIN tag ON tag.key = sample.tag;
CREATE TABLE IF NOT EXISTS waveform (message INTEGER NOT NULL, tag INTEGER NOT NULL, ts INTEGER NOT NULL,
    rate_hz REAL NOT NULL, full_scale REAL NOT NULL, quality INTEGER NOT NULL, int16_samples BLOB,
    float32_samples BLOB);
CREATE TABLE IF NOT EXISTS event (message INTEGER NOT NULL, gateway TEXT NOT NULL, ts INTEGER NOT NULL,
    source TEXT NOT NULL, kind TEXT NOT NULL, severity INTEGER NOT NULL, text TEXT NOT NULL, facts TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS gap (message INTEGER NOT NULL, gateway TEXT NOT NULL, rows INTEGER NOT NULL,
    ts_min INTEGER NOT NULL, ts_max INTEGER NOT NULL, reason TEXT NOT NULL, data_class TEXT NOT NULL DEFAULT '',
    tags TEXT NOT NULL DEFAULT '[]');
CREATE TABLE IF NOT EXISTS absent (gateway TEXT NOT NULL, epoch INTEGER NOT NULL, first INTEGER NOT NULL,
    last INTEGER NOT NULL, replaced INTEGER NOT NULL, PRIMARY KEY (gateway, epoch, first, last)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS health (gateway TEXT PRIMARY KEY, state TEXT NOT NULL, started TEXT NOT NULL,
    place INTEGER NOT NULL, received INTEGER NOT NULL, facts TEXT NOT NULL, printed INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS announcement (topic TEXT NOT NULL, payload BLOB NOT NULL, received INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS quarantine (received INTEGER NOT NULL, topic TEXT NOT NULL, reason TEXT NOT NULL,
    payload BLOB NOT NULL);
"""
    + sqlite_books.TABLES
)


class SqliteStore:
    """A `Store` in one file, used by this process alone, written by one thread; `jsonl` prints what is stored."""

    version = VERSION

    def __init__(self, path: Path, *, jsonl: bool = False, authorities: Sequence[x509.Certificate] = ()) -> None:
        self._path = path
        self._jsonl = jsonl
        self._opened = False
        self._samples: list[tuple[int, Readings]] = []
        self._progress: dict[tuple[str, int], Progress] = {}
        self._tags: dict[str, Tags] = {}
        self._books = Books(authorities)
        self._closing = ExitStack()
        self._thread = ThreadPoolExecutor(1, "receiver store")
        self.counters = StoreCounters()

    async def open(self) -> None:
        """Open the file, making it where there is none.

        Raises:
            YulinkError: it cannot be used, or another process uses it.
        """
        if not self._opened:
            self._open()
            self._opened = True

    async def commit(self, arrived: Sequence[Arrived], now: int, refused: Sequence[Refused] = ()) -> Outcome:
        """Store messages in one transaction; see `Store.commit`."""
        try:
            return await self._in_thread(self._commit, arrived, now, refused)
        except sqlite3.Error as error:
            raise Disconnected(
                say("the store {path} cannot be used: {error}", path=self._path, error=error),
                say("nothing is lost: what is not committed comes again"),
            ) from error

    async def announcements(self, gateway: str) -> list[tuple[str, bytes]]:
        """Return the stored key announcements of a gateway, oldest first, as (topic, payload)."""
        return await self._in_thread(self._announcements, gateway)

    async def settle(self) -> None:
        """Print what is not printed yet, when that is wanted; what is flushed but not marked at a crash comes again."""
        if self._jsonl:
            await self._in_thread(self._print)

    async def close(self) -> None:
        """Close the file."""
        await self._in_thread(self._closing.close)
        self._thread.shutdown()

    async def _in_thread(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: function(*arguments, **named))

    def _open(self) -> None:
        try:
            self._closing.enter_context(lock.hold(self._path))
            self._db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            self._closing.callback(self._db.close)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            ((version,),) = self._db.execute("PRAGMA user_version")
            ((tables,),) = self._db.execute("SELECT count(*) FROM sqlite_schema")
            if tables and version == self.version - 1:  # which had no revisions
                self._db.executescript(f"BEGIN; {_ADD_REVISIONS} PRAGMA user_version = {self.version}; COMMIT;")
            elif tables and version != self.version:
                raise YulinkError(
                    say("{path} was made by another version of this program", path=self._path),
                    say("name another file with --store"),
                )
            self._db.executescript(_TABLES)
            self._db.execute(f"PRAGMA user_version = {self.version}")
        except lock.InUse as error:
            raise YulinkError(
                say("the store {path} is in use by process {pid}", path=self._path, pid=error.holder),
                say("stop that process, or give this one another --store"),
            ) from error
        except (OSError, sqlite3.Error) as error:
            raise YulinkError(
                say("the store {path} cannot be used: {error}", path=self._path, error=error),
                say("check the folder, its rights and the space on the disk"),
            ) from error
        for gateway, tag, key, kind, device in self._db.execute("SELECT gateway, id, key, kind, device FROM tag"):
            self._tags.setdefault(gateway, Tags()).learn(tag, key, kind, device)

    def _commit(self, arrived: Sequence[Arrived], now: int, refused: Sequence[Refused]) -> Outcome:
        touched: dict[tuple[str, int], Progress] = {}
        new: list[tuple[str, int, int]] = []
        self._samples.clear()
        self._books.begin()
        absent: list[tuple[str, int, int, int]] = []
        refusals: list[Refused] = []
        outcome = Outcome()
        self._db.execute("BEGIN IMMEDIATE")
        try:
            ((last,),) = self._db.execute("SELECT ifnull(max(rowid), 0) FROM sample")
            for place, each in enumerate(arrived):
                try:
                    if kind_of(each.topic) == "key":
                        self._keep_announcement(each, now)
                        continue
                    if kind_of(each.topic) == "catalog":
                        self._learn(verify_catalogue(each.topic, each.payload))
                        continue
                    if kind_of(each.topic) == "health":
                        self._keep_health(verify_health(each.topic, each.payload), now)
                        continue
                    message = verify(each)
                    readings = read(message, self._tags.setdefault(message.gateway, Tags()))
                except BadMessage as error:
                    refusals.append(refuse(each, error))
                    continue
                if readings is None:
                    self.counters.unresolved += 1
                    outcome.unresolved.append(place)
                    continue
                epoch = (message.gateway, message.epoch)
                touched[epoch] = self._known(*epoch)
                if self._is_replaced(message):
                    self.counters.duplicates += 1
                    continue
                whole = message
                if self._holds_whole(message):
                    message = husk(message)
                    readings = read(message, Tags())
                    assert readings is not None
                absent += self._note_absent(whole)
                if key := self._insert(message, readings, last, each, now):
                    new.append((*epoch, message.seq))
                    last += len(readings)
                else:
                    self.counters.duplicates += 1
            for key, readings in self._samples:
                for column in (readings.floats, readings.integers, readings.texts):
                    self._db.executemany("INSERT INTO sample VALUES (?, ?, ?, ?, ?, ?)", _tuples(key, column))
            for finding in sqlite_books.settle(self._db, self._books):
                self._report(finding)
            for one in (*refusals, *refused):
                self._quarantine(one, now)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # a full disk has ended it already
                self._db.execute("ROLLBACK")
            raise
        for gateway, number, seq in new:
            self._progress[gateway, number].add(seq)
        for gateway, number, first, final in absent:
            touched[gateway, number] = progress = self._known(gateway, number)
            progress.add_range(first, final)
        for one in refusals:
            if one.number is not None:
                epoch = (gateway_of(one.topic), one.number[0])
                touched[epoch] = self._known(*epoch)
                touched[epoch].refuse(one.number[1])
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

    def _keep_health(self, health: Health, now: int) -> None:
        self._db.execute(
            "INSERT INTO health VALUES (?, ?, ?, ?, ?, ?, 0) ON CONFLICT DO UPDATE SET state = excluded.state,"
            " started = excluded.started, place = excluded.place, received = excluded.received, facts = excluded.facts,"
            " printed = 0 WHERE health.started <> excluded.started OR health.place < excluded.place",
            (health.gateway, health.state, health.started, health.place, now, health.facts),
        )

    def _announcements(self, gateway: str) -> list[tuple[str, bytes]]:
        found = self._db.execute(
            "SELECT topic, payload FROM announcement WHERE topic = ? ORDER BY rowid", (f"v1/{gateway}/key",)
        )
        return found.fetchall()

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
            self._tags.setdefault(catalogue.gateway, Tags()).learn(tag.id, key, tag.kind, catalogue.device)

    def _known(self, gateway: str, epoch: int) -> Progress:
        if (gateway, epoch) not in self._progress:
            progress = Progress()
            for (seq,) in self._db.execute("SELECT seq FROM message WHERE gateway = ? AND epoch = ?", (gateway, epoch)):
                progress.add(seq)
            for first, last in self._db.execute(
                "SELECT first, last FROM absent WHERE gateway = ? AND epoch = ? ORDER BY first", (gateway, epoch)
            ):
                progress.add_range(first, last)
            self._progress[gateway, epoch] = progress
        return self._progress[gateway, epoch]

    def _is_replaced(self, message: pb.Batch) -> bool:
        """Tell whether a message comes late: parts of it were taken in its stead."""
        found = self._db.execute(
            "SELECT 1 FROM absent WHERE gateway = ? AND epoch = ? AND first = ? AND last = first AND replaced",
            (message.gateway, message.epoch, message.seq),
        )
        return found.fetchone() is not None

    def _holds_whole(self, message: pb.Batch) -> bool:
        """Tell whether a message is part of one that did arrive."""
        return any(
            self._db.execute(
                "SELECT 1 FROM message WHERE gateway = ? AND epoch = ? AND seq BETWEEN ? AND ?",
                (message.gateway, whole.epoch, whole.first, whole.last),
            ).fetchone()
            for whole in message.instead_of
        )

    def _note_absent(self, message: pb.Batch) -> list[tuple[str, int, int, int]]:
        """Store which messages will not come, and return them as (gateway, epoch, first, last)."""
        ranges = [(message.gateway, one.epoch, one.first, one.last) for one in [*message.instead_of, *message.gone]]
        replaced = [1] * len(message.instead_of) + [0] * len(message.gone)
        self._db.executemany(
            "INSERT OR IGNORE INTO absent VALUES (?, ?, ?, ?, ?)",
            [(*one, flag) for one, flag in zip(ranges, replaced, strict=True)],
        )
        return ranges

    def _insert(self, message: pb.Batch, readings: Readings, last: int, each: Arrived, now: int) -> int:
        """Insert a message with all but its samples, which follow row `last`; return its key, 0 for a repeat."""
        rows = len(readings) + len(message.waveforms)
        cursor = self._db.execute(
            "INSERT OR IGNORE INTO message"
            " (gateway, epoch, seq, rows, bytes, received, historical, sealed, first, last)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(message.gateway, message.epoch, message.seq, rows, len(each.payload), now),
                *(message.historical, each.sealed, last + 1, last + len(readings)),
            ),
        )
        if not cursor.rowcount:
            return 0
        key = cursor.lastrowid or 0
        self._books.take(key, message, readings, self._tags[message.gateway])
        self._keep(key, message, readings, each)
        self.counters.messages += 1
        self.counters.rows += rows
        return key

    def _keep(self, key: int, message: pb.Batch, readings: Readings, each: Arrived) -> None:
        """Insert what a message holds; its samples wait for the end of the transaction."""
        gateway = message.gateway
        self._samples.append((key, readings))
        self._db.executemany(
            "INSERT INTO waveform VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (key, self._tags[gateway].key(wave.tag), wave.ts, wave.rate_hz, wave.full_scale, wave.quality,
                 wave.int16_samples or None, wave.float32_samples or None)
                for wave in message.waveforms
            ],
        )  # fmt: skip
        self._db.executemany(
            "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [(key, gateway, e.ts, e.source, e.kind, e.severity, e.message, e.facts_json) for e in message.events],
        )
        self._db.executemany(
            "INSERT INTO gap VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (key, gateway, gap.rows, gap.ts_min, gap.ts_max, gap.reason, gap.data_class, _tag_rows(gap))
                for gap in message.gaps
            ],
        )

    def _report(self, finding: Finding) -> None:
        """Make an event of what does not fit."""
        told = finding.told
        if finding.wrong:
            self._db.execute(
                "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (told.message, told.gateway, told.ts, told.line.device, DISCREPANCY, finding.severity, finding.text,
                 finding.facts),
            )  # fmt: skip

    def _quarantine(self, each: Refused, now: int) -> None:
        self.counters.quarantined += 1
        self._db.execute("INSERT INTO quarantine VALUES (?, ?, ?, ?)", (now, each.topic, each.reason, each.payload))
        self._db.execute(
            "DELETE FROM quarantine WHERE rowid <= (SELECT max(rowid) FROM quarantine) - ?", (QUARANTINE_MAX,)
        )

    def _print(self) -> None:
        told = self._db.execute("SELECT gateway, facts FROM health WHERE printed = 0").fetchall()
        for _, facts in told:
            sys.stdout.write(_line({"health": json.loads(facts)}) + "\n")
        last = 0
        for key, line in self._unprinted():
            sys.stdout.write(line + "\n")
            last = key
        sys.stdout.flush()
        self._db.executemany("UPDATE health SET printed = 1 WHERE gateway = ?", [(gateway,) for gateway, _ in told])
        if last:
            self._db.execute("UPDATE message SET printed = 1 WHERE printed = 0 AND id <= ?", (last,))

    def _unprinted(self) -> Iterator[tuple[int, str]]:
        """Yield (message id, JSON line) of everything not yet marked as printed, in order of arrival."""
        found = self._db.execute(
            "SELECT id, gateway, seq, historical, first, last FROM message WHERE printed = 0 ORDER BY id"
        ).fetchall()
        for key, gateway, seq, historical, first, last in found:
            common = {"seq": seq, "historical": bool(historical)}
            yield from ((key, _line(fields)) for fields in self._lines(key, gateway, first, last, common))

    def _lines(self, key: int, gateway: str, first: int, last: int, common: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for device, tag, ts, value, unit, quality, kind, revision in self._db.execute(
            "SELECT device, tag, ts, value, unit, quality, kind, revision FROM reading WHERE id BETWEEN ? AND ?",
            (first, last),
        ):
            yield lines.reading(gateway, device, tag, ts, value, unit, quality, kind, revision) | common
        for device, tag, ts, rate_hz, full_scale, unit, quality, short, single in self._db.execute(
            "SELECT device, name, ts, rate_hz, full_scale, unit, quality, int16_samples, float32_samples"
            " FROM waveform JOIN tag ON tag.key = waveform.tag WHERE message = ?",
            (key,),
        ):
            samples = len(short) // 2 if short else len(single or b"") // 4
            wave = lines.waveform(gateway, device, tag, ts, rate_hz, full_scale, unit, samples, quality)
            yield {"waveform": wave | common}
        for ts, source, kind, severity, text, facts in self._db.execute(
            "SELECT ts, source, kind, severity, text, facts FROM event WHERE message = ?", (key,)
        ):
            if kind == KIND and "line" in (known := json.loads(facts)):
                told = {"signature": known.get("signature", "")}
                yield {"ledger": json.loads(known["line"]) | told | common}
                continue
            yield {"event": lines.event(gateway, ts, source, kind, severity, text, json.loads(facts)) | common}
        for rows, ts_min, ts_max, reason, data_class, tags in self._db.execute(
            "SELECT rows, ts_min, ts_max, reason, data_class, tags FROM gap WHERE message = ?", (key,)
        ):
            gap = {
                "gateway": gateway,
                "rows": rows,
                "from": iso8601(ts_min),
                "to": iso8601(ts_max),
                "reason": reason,
            }
            named = {self._tag_path(gateway, tag): count for tag, count in json.loads(tags)}
            yield {"gap": gap | {"class": data_class, "tags": named} | common}

    def _tag_path(self, gateway: str, tag: int) -> str:
        """Return device and name of a tag, or its number while no catalogue has named it."""
        found = self._db.execute("SELECT device, name FROM tag WHERE gateway = ? AND id = ?", (gateway, tag)).fetchone()
        return ".".join(found) if found else str(tag)


def _tuples(message: int, column: Column) -> Iterator[tuple[Any, ...]]:
    """Yield rows of `sample`."""
    columns = (
        column.key.tolist(),
        column.ts.tolist(),
        _stored(column),
        column.quality.tolist(),
        column.revision.tolist(),
    )
    return zip(repeat(message), *columns, strict=False)


def _stored(column: Column) -> list[Any]:
    """SQLite's integers have 64 bits with sign, and NaN would become NULL; both are kept as text."""
    if isinstance(column.value, list):
        return column.value
    values: list[Any] = column.value.tolist()
    if column.value.dtype == np.float64:
        for place in np.flatnonzero(np.isnan(column.value)):
            values[place] = "NaN"
    else:
        for place in np.flatnonzero((column.value < 0) & (column.kind == pb.UINT64)):
            values[place] = str(values[place] + 2**64)
    return values


def _line(fields: dict[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=False)


def _tag_rows(gap: pb.Gap) -> str:
    """Return (tag, rows) of a gap as JSON."""
    return json.dumps(list(zip(gap.tags, gap.tag_rows, strict=False)))
