"""One that reads the log here and puts into it what it makes of it, each segment's outcome exactly once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import aiosqlite

from buffer.aggregates import Aggregates
from buffer.database import Database
from buffer.log_time import LogTime
from buffer.vault import Vault
from buffer.writer import Step, Writer
from edge.core.batch import Batch, Record
from edge.core.errors import CorruptSegment
from edge.core.interval import Level

READ_SEGMENTS_MAX = 500
READ_ROWS_MAX = 50_000
END = 2**62


@dataclass(frozen=True, slots=True)
class Stored:
    """A record in the log: where, and the log time at which it was stored. None is a corrupt one."""

    position: int
    stored: int
    record: Record | None


class Follower:
    """A place in the log with a state. Used by one task.

    position  the last position whose outcome is in the log
    state     what was committed with it; empty for one that is new, None when it is there and cannot be opened
    """

    def __init__(
        self,
        name: str,
        database: Database,
        writer: Writer,
        vault: Vault,
        time: LogTime,
        aggregates: Aggregates,
    ) -> None:
        self.name = name
        self.position = 0
        self.state: bytes | None = b""
        self._database = database
        self._writer = writer
        self._vault = vault
        self._time = time
        self._aggregates = aggregates

    @classmethod
    async def load(
        cls,
        name: str,
        database: Database,
        writer: Writer,
        vault: Vault,
        time: LogTime,
        aggregates: Aggregates,
    ) -> "Follower":
        """Take up where the last run stopped. One that is new begins at the log's end."""
        follower = cls(name, database, writer, vault, time, aggregates)
        follower.position = writer.position
        db = database.db
        for position, state in await db.execute_fetchall(
            "SELECT position, state FROM follower WHERE name = ?", (name,)
        ):
            follower.position = int(position)
            try:
                follower.state = vault.open(0, state)
            except CorruptSegment:
                follower.state = None
        await db.execute("INSERT OR IGNORE INTO follower VALUES (?, ?, ?)", (name, follower.position, b""))
        return follower

    @property
    def last(self) -> int:
        """The log's last position."""
        return self._writer.position

    def now(self) -> int:
        """Return log time."""
        return self._time.now()

    async def read(self, after: int, segments_max: int = READ_SEGMENTS_MAX) -> list[Stored]:
        """Return what lies behind a position, in order; empty only at the log's end.

        What one transaction stored, all of one log time, comes together: readings of one moment lie there in a segment
        for each lane. So it may be more than `segments_max`.
        """
        rows = await self._database.read(
            "SELECT position, stored, rows FROM segment WHERE position > ? ORDER BY position LIMIT ?",
            (after, segments_max + 1),
        )
        if not rows:
            return []
        if len(rows) > segments_max:
            whole = [row for row in rows if row[1] != rows[-1][1]]
            rows = whole or await self._database.read(
                "SELECT position, stored, rows FROM segment WHERE position > ? AND position <"
                " ifnull((SELECT min(position) FROM segment WHERE position > ? AND stored <> ?), ?) ORDER BY position",
                (after, after, rows[0][1], END),
            )
        chosen: list[tuple[int, int]] = []
        total = 0
        for position, stored, count in rows:
            if total > READ_ROWS_MAX and stored != chosen[-1][1]:
                break
            chosen.append((int(position), int(stored)))
            total += count
        bodies = dict(
            await self._database.read(
                "SELECT position, data FROM body WHERE position BETWEEN ? AND ?", (chosen[0][0], chosen[-1][0])
            )
        )
        found = []
        for position, stored in chosen:
            try:
                record = self._vault.read(position, bodies.get(position, b""))
            except CorruptSegment:
                record = None
            found.append(Stored(position, stored, record))
        return found

    async def fetch(self, query: str, parameters: tuple[Any, ...] = ()) -> Iterable[Any]:
        """Run a query on the log and return all rows."""
        return await self._database.read(query, parameters)

    async def wait(self, after: int) -> None:
        """Return when something lies behind a position. Safe to cancel."""
        while self._writer.position <= after:
            self._writer.changed.clear()
            await self._writer.changed.wait()

    async def commit(
        self,
        position: int,
        state: bytes,
        records: Sequence[Record] = (),
        figures: Sequence[tuple[Level, Batch]] = (),
        more: Step | None = None,
    ) -> None:
        """Store what was made of the log up to a position, and the state for what comes next, in one transaction.

        `figures` are those of the records that are kept as aggregates too; `more` is done in the same transaction.
        """

        async def step(db: aiosqlite.Connection) -> None:
            await self._write(db, position, state)
            if more is not None:
                await more(db)
            await self._aggregates.put(db, figures)

        def then(_: object) -> None:
            self.position, self.state = position, state

        await self._writer.do(step, then, records, patient=True)

    async def set_aside(self) -> None:
        """Keep position and state under another name, for whoever looks into why they could not be used."""
        name, position, state = f"{self.name} aside", self.position, self.state or b""

        async def step(db: aiosqlite.Connection) -> None:
            sealed = self._vault.seal(0, state)
            await db.execute("INSERT OR REPLACE INTO follower VALUES (?, ?, ?)", (name, position, sealed))

        await self._writer.do(step)

    async def restate(self, db: aiosqlite.Connection) -> None:
        """Write place and state into a salvaged file."""
        await self._write(db, self.position, self.state or b"")

    async def _write(self, db: aiosqlite.Connection, position: int, state: bytes) -> None:
        await db.execute(
            "INSERT OR REPLACE INTO follower VALUES (?, ?, ?)", (self.name, position, self._vault.seal(0, state))
        )
