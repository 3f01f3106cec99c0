"""Parquet files as the brain's store: what arrives waits in a database of its own until its files are durable.

A message is committed, and acknowledged, as it came. From time to time everything that waits becomes files: first the
database remembers which messages those are and under which number, then the files are written beside their names,
synced and renamed, then the messages stop waiting. Whoever dies in between writes the very same files again.
"""

import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from cryptography import x509

from edge.core.errors import YulinkError
from edge.core.language import say
from edge.core.ledger import COUNTS, HOUR_NS
from uplink import batch_pb2 as pb
from uplink.encode import decode
from uplink.receiver.books import DISCREPANCY, Finding
from uplink.receiver.columns import Column, Readings, joined, read
from uplink.receiver.message import Arrived
from uplink.receiver.store import SqliteStore

STORE_NAME = "received.sqlite3"
FILES_EVERY_S = 300.0
ROWS_MAX = 1_000_000
DAY_NS = 86_400 * 10**9

log = logging.getLogger("yulink.receiver")

_TABLES = """
CREATE TABLE IF NOT EXISTS waiting (message INTEGER PRIMARY KEY, rows INTEGER NOT NULL, payload BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS files (number INTEGER PRIMARY KEY AUTOINCREMENT, through INTEGER NOT NULL,
    done INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS identity (name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS compared (message INTEGER NOT NULL, gateway TEXT NOT NULL, hour INTEGER NOT NULL,
    ts INTEGER NOT NULL, facts TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS compared_message ON compared (message);
INSERT INTO identity SELECT lower(hex(randomblob(4))) WHERE NOT EXISTS (SELECT * FROM identity);
"""
_TEXT = pa.dictionary(pa.int32(), pa.string())
_COMMON = [("epoch", pa.int64()), ("seq", pa.int64()), ("historical", pa.bool_())]
_TIME = pa.timestamp("ns", "UTC")
_WAY = ("sent", "committed", "late", "withheld")
_SCHEMAS = {
    "reading": pa.schema(
        [
            *(("device", _TEXT), ("tag", _TEXT), ("ts", _TIME), ("value", pa.float64()), ("integer", pa.int64())),
            *(("unsigned", pa.uint64()), ("text", pa.string()), ("unit", _TEXT), ("quality", pa.uint32()), *_COMMON),
        ]
    ),
    "waveform": pa.schema(
        [
            *(("device", _TEXT), ("tag", _TEXT), ("ts", _TIME), ("rate_hz", pa.float64())),
            *(("full_scale", pa.float64()), ("unit", _TEXT), ("quality", pa.uint32())),
            *(("int16_samples", pa.list_(pa.int16())), ("float32_samples", pa.list_(pa.float32())), *_COMMON),
        ]
    ),
    "event": pa.schema(
        [
            *(("ts", _TIME), ("source", pa.string()), ("kind", pa.string()), ("severity", pa.int32())),
            *(("text", pa.string()), ("facts", pa.string()), *_COMMON),
        ]
    ),
    "gap": pa.schema(
        [
            *(
                ("rows", pa.int64()),
                ("ts", _TIME),
                ("until", _TIME),
                ("reason", pa.string()),
                ("data_class", pa.string()),
            ),
            *(("tags", pa.list_(pa.int64())), ("tag_rows", pa.list_(pa.int64())), *_COMMON),
        ]
    ),
    # Each line of a ledger as often as it was told anew; of one (uplink, ts, device) the highest revision holds.
    "ledger": pa.schema(
        [
            *(("ts", _TIME), ("device", pa.string()), ("uplink", pa.string()), ("revision", pa.int64())),
            *((name, pa.int64()) for name in (*COUNTS, "before_ms", *_WAY, "dropped", "arrived")),
            *(("verified", pa.bool_()), ("discrepancies", pa.list_(pa.string()))),
            *(("line", pa.string()), ("signature", pa.string())),
        ]
    ),
}


Compared: TypeAlias = tuple[int, int, dict[str, Any], dict[str, Any]]
"""A line of a ledger: its hour and when it was told, both in nanoseconds, what was found, and of which message."""


class ParquetStore(SqliteStore):
    """A `Store` of files below `folder`: `reading/gateway=…/day=…/….parquet`.

    And so for waveform, event, gap and ledger, whose lines come with what had arrived for them here.
    """

    version = SqliteStore.version + 100

    def __init__(
        self, folder: Path, every_s: float = FILES_EVERY_S, *, authorities: Sequence[x509.Certificate] = ()
    ) -> None:
        super().__init__(folder / STORE_NAME, authorities=authorities)
        self._folder = folder
        self._every_s = every_s
        self._due = time.monotonic() + every_s
        self._rows = 0
        self._failing = ""

    async def settle(self) -> None:
        """Write files when it is time, or when a million rows wait."""
        if time.monotonic() >= self._due or self._rows >= ROWS_MAX:
            await self._in_thread(self._try_write)

    async def close(self) -> None:
        """Write what waits and close the database."""
        if self._opened:
            await self._in_thread(self._try_write)
        await super().close()

    def _open(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            probe = self._folder / f".probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise YulinkError(
                say("files cannot be written to {folder}: {error}", folder=self._folder, error=error),
                say("check the folder, its rights and the space on the disk"),
            ) from error
        super()._open()
        self._db.executescript(_TABLES)
        ((self._name,),) = self._db.execute("SELECT name FROM identity")
        ((self._rows,),) = self._db.execute("SELECT ifnull(sum(rows), 0) FROM waiting")

    def _keep(self, key: int, message: pb.Batch, readings: Readings, each: Arrived) -> None:
        rows = len(readings) + len(message.waveforms) + len(message.events) + len(message.gaps)
        if rows:  # of a part of what is here nothing is left, whatever its payload says
            self._db.execute("INSERT INTO waiting VALUES (?, ?, ?)", (key, rows, each.payload))
        self._rows += rows

    def _report(self, finding: Finding) -> None:
        """Keep a line and what it was compared with until the files are written."""
        told = finding.told
        facts = {
            "text": told.text,
            "signature": told.signature,
            "uplink": told.uplink,
            "arrived": finding.arrived,
            "verified": finding.verified,
            "wrong": finding.wrong,
            "event": [finding.severity, finding.text, finding.facts],
        }
        self._db.execute(
            "INSERT INTO compared VALUES (?, ?, ?, ?, ?)",
            (told.message, told.gateway, told.line.hour, told.ts, json.dumps(facts)),
        )

    def _try_write(self) -> None:
        """Write what waits. What fails stays where it is, is told once, and is tried again."""
        self._due = time.monotonic() + self._every_s
        try:
            while self._write_some():
                pass
        except OSError as error:
            if str(error) != self._failing:
                log.error(say("files cannot be written to {folder}: {error}", folder=self._folder, error=error))
            self._failing = str(error)
            return
        self._failing = ""
        ((self._rows,),) = self._db.execute("SELECT ifnull(sum(rows), 0) FROM waiting")

    def _write_some(self) -> bool:
        """Turn the oldest waiting messages, up to about a million rows, into files; tell whether there were any."""
        planned = self._db.execute("SELECT number, through FROM files WHERE NOT done").fetchone()
        if planned is None:
            through = None
            query = "SELECT message, sum(rows) OVER (ORDER BY message) FROM waiting ORDER BY message"
            for message, rows in self._db.execute(query):
                if through is not None and rows > ROWS_MAX:
                    break
                through = message
            if through is None:
                return False
            planned = self._db.execute(
                "INSERT INTO files (through) VALUES (?) RETURNING number, through", (through,)
            ).fetchone()
        number, through = planned
        for kind, gateway, day, table in self._tables(through):
            self._write(kind, gateway, day, number, table)
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("DELETE FROM waiting WHERE message <= ?", (through,))
        self._db.execute("DELETE FROM compared WHERE message <= ?", (through,))
        self._db.execute("UPDATE files SET done = 1 WHERE number = ?", (number,))
        self._db.execute("COMMIT")
        return True

    def _write(self, kind: str, gateway: str, day: str, number: int, table: pa.Table) -> None:
        folder = self._folder / kind / f"gateway={quote(gateway, safe='')}" / f"day={day}"
        folder.mkdir(parents=True, exist_ok=True)
        name = folder / f"part-{self._name}-{number:08d}.parquet"
        unfinished = folder / f".{name.name}.unfinished"
        with unfinished.open("wb") as file:
            pq.write_table(table, file, compression="zstd", row_group_size=ROWS_MAX)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(name)
        for changed in (folder, *folder.parents[:3]):
            handle = os.open(changed, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def _tables(self, through: int) -> Iterator[tuple[str, str, str, pa.Table]]:
        """Yield (kind, gateway, day, table) of the waiting messages up to `through`."""
        waiting: dict[str, list[tuple[pb.Batch, Readings]]] = {}
        for (payload,) in self._db.execute(
            "SELECT payload FROM waiting WHERE message <= ? ORDER BY message", (through,)
        ):
            message = decode(payload)
            readings = read(message, self._tags[message.gateway])
            assert readings is not None  # it was, when the message was stored
            waiting.setdefault(message.gateway, []).append((message, readings))
        lines = self._compared(through)
        for gateway, messages in waiting.items():
            query = "SELECT key, device, name, unit FROM tag WHERE gateway = ? ORDER BY key"
            tags = self._db.execute(query, (gateway,)).fetchall()
            keys = {tag: self._tags[gateway].key(tag) for tag in _waveform_tags(messages)}
            for kind, table in (
                ("reading", _readings(messages, tags)),
                *_singles(messages, keys, tags, lines.get(gateway, ())),
            ):
                for day, part in _by_day(table):
                    yield kind, gateway, day, part

    def _compared(self, through: int) -> dict[str, list[Compared]]:
        """Return the lines of ledgers that came in messages up to `through`, by gateway."""
        found: dict[str, list[Compared]] = {}
        for key, gateway, hour, ts, facts in self._db.execute(
            "SELECT message, gateway, hour, ts, facts FROM compared WHERE message <= ? ORDER BY rowid", (through,)
        ):
            ((epoch, seq, historical),) = self._db.execute(
                "SELECT epoch, seq, historical FROM message WHERE id = ?", (key,)
            )
            common = {"epoch": epoch, "seq": seq, "historical": bool(historical)}
            found.setdefault(gateway, []).append((hour * HOUR_NS, ts, json.loads(facts), common))
        return found


def _readings(messages: Sequence[tuple[pb.Batch, Readings]], tags: Sequence[tuple[int, str, str, str]]) -> pa.Table:
    """Return all readings as one table, by tag and time."""
    parts = []
    keys = np.array([key for key, *_ in tags], np.int64)
    for values in ("floats", "integers", "texts"):
        places, column = joined([(place, getattr(readings, values)) for place, (_, readings) in enumerate(messages)])
        if not len(column):
            continue
        tag = np.searchsorted(keys, column.key).astype(np.int32)
        named = {
            name: pa.DictionaryArray.from_arrays(tag, pa.array([facts[at] for facts in tags]))
            for at, name in ((1, "device"), (2, "tag"), (3, "unit"))
        }
        common = {
            "epoch": np.array([message.epoch for message, _ in messages], np.int64)[places],
            "seq": np.array([message.seq for message, _ in messages], np.int64)[places],
            "historical": np.array([message.historical for message, _ in messages], np.bool_)[places],
        }
        facts = {"ts": pa.array(column.ts, _TIME), "quality": column.quality, **named, **common, **_values(column)}
        schema = _SCHEMAS["reading"]
        table = pa.table(
            {name: facts.get(name, pa.nulls(len(column), schema.field(name).type)) for name in schema.names}
        )
        parts.append(table.cast(schema).take(np.lexsort((column.ts, column.key))))
    return pa.concat_tables(parts).unify_dictionaries() if parts else _SCHEMAS["reading"].empty_table()


def _values(column: Column) -> dict[str, Any]:
    """Return the value columns: `value` is every number, `integer` and `unsigned` the exact ones."""
    if isinstance(column.value, list):
        return {"text": pa.array(column.value, pa.string())}
    if column.value.dtype == np.float64:
        return {"value": pa.array(column.value)}
    unsigned = column.kind == pb.UINT64
    bits = column.value.view(np.uint64)
    return {
        "value": np.where(unsigned, bits.astype(np.float64), column.value.astype(np.float64)),
        "integer": pa.array(column.value, mask=unsigned),
        "unsigned": pa.array(bits, mask=~unsigned),
    }


def _waveform_tags(messages: Sequence[tuple[pb.Batch, Readings]]) -> set[int]:
    return {wave.tag for message, _ in messages for wave in message.waveforms}


def _singles(
    messages: Sequence[tuple[pb.Batch, Readings]],
    keys: dict[int, int | None],
    tags: Sequence[tuple[int, str, str, str]],
    lines: Sequence[Compared],
) -> Iterator[tuple[str, pa.Table]]:
    """Yield the tables of waveforms, events, gaps and lines of the ledger."""
    named = {key: {"device": device, "tag": name, "unit": unit} for key, device, name, unit in tags}
    rows: dict[str, list[dict[str, Any]]] = {"waveform": [], "event": [], "gap": [], "ledger": []}
    for message, _ in messages:
        common = {"epoch": message.epoch, "seq": message.seq, "historical": message.historical}
        facts: dict[str, Any]
        for wave in message.waveforms:
            facts = {"ts": wave.ts, "rate_hz": wave.rate_hz, "full_scale": wave.full_scale, "quality": wave.quality}
            samples = {
                "int16_samples": np.frombuffer(wave.int16_samples, "<i2") if wave.int16_samples else None,
                "float32_samples": np.frombuffer(wave.float32_samples, "<f4") if wave.float32_samples else None,
            }
            rows["waveform"].append(common | facts | samples | named[keys[wave.tag] or 0])
        for e in message.events:
            facts = {"ts": e.ts, "source": e.source, "kind": e.kind, "severity": e.severity}
            rows["event"].append(common | facts | {"text": e.message, "facts": e.facts_json})
        for gap in message.gaps:
            facts = {"ts": gap.ts_min, "until": gap.ts_max, "rows": gap.rows, "reason": gap.reason}
            of = {"data_class": gap.data_class, "tags": list(gap.tags), "tag_rows": list(gap.tag_rows)}
            rows["gap"].append(common | facts | of)
    for hour_ts, told_ts, compared, common in lines:
        line = json.loads(compared["text"])
        way = line["uplinks"].get(compared["uplink"], {})
        counts = {name: line[name] for name in ("device", "revision", *COUNTS)} | {name: way.get(name) for name in _WAY}
        facts = {"ts": hour_ts, "uplink": compared["uplink"], "dropped": sum(way.get("dropped", {}).values())}
        facts["before_ms"] = line.get("before_ms", 0)
        kept = {name: compared[name] for name in ("arrived", "verified", "signature")}
        wrong = {"line": compared["text"], "discrepancies": compared["wrong"]}
        rows["ledger"].append(counts | facts | kept | wrong)
        if compared["wrong"]:
            severity, text, of = compared["event"]
            event = {"ts": told_ts, "source": line["device"], "kind": DISCREPANCY, "severity": severity}
            rows["event"].append(common | event | {"text": text, "facts": of})
    for kind, found in rows.items():
        yield kind, pa.Table.from_pylist(found, _SCHEMAS[kind])


def _by_day(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Yield the days, UTC, that occur in a table with their rows."""
    days = table["ts"].cast(pa.int64()).to_numpy() // DAY_NS
    for day in np.flatnonzero(np.bincount(days - days.min())) + days.min() if len(days) else ():
        # A clock that was wrong by centuries is data, too.
        name = f"{np.datetime64(int(day), 'D')}"
        yield name, table.filter(pa.array(days == day))
