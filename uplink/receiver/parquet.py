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
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
from cryptography import x509

from edge.core.errors import YulinkError
from edge.core.language import say
from edge.core.ledger import HOUR_NS
from uplink import batch_pb2 as pb
from uplink.encode import decode
from uplink.receiver.books import Finding
from uplink.receiver.columns import Readings, read
from uplink.receiver.message import Arrived
from uplink.receiver.parquet_tables import Compared, by_day, readings_of, singles, waveform_tags
from uplink.receiver.store import SqliteStore

STORE_NAME = "received.sqlite3"
FILES_EVERY_S = 300.0
ROWS_MAX = 1_000_000

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
            keys = {tag: self._tags[gateway].key(tag) for tag in waveform_tags(messages)}
            for kind, table in (
                ("reading", readings_of(messages, tags)),
                *singles(messages, keys, tags, lines.get(gateway, ())),
            ):
                for day, part in by_day(table):
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
