"""Messages that cannot pass: their rows are kept aside with the reason, out of the way, until someone retries."""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import aiosqlite

from buffer.database import Database
from buffer.vault import Vault
from edge.core.batch import Record
from edge.core.delivery import Identity

QUARANTINE_MAX = 1000
_SIZE = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One message that was set aside. Times are nanoseconds since 1970 UTC."""

    id: int
    epoch: int
    seq: int
    since: int
    reason: str
    rows: int
    ts_min: int
    ts_max: int


def pack(vault: Vault, records: Sequence[Record]) -> bytes:
    """Return records as one value: each one's bytes, sealed where the log is, behind its size."""
    bodies = [vault.write(0, record) for record in records]
    return b"".join(_SIZE.pack(len(body)) + body for body in bodies)


def unpack(vault: Vault, data: bytes) -> list[Record]:
    """Return what `pack` was given."""
    records, at = [], 0
    while at < len(data):
        (size,) = _SIZE.unpack_from(data, at)
        at += _SIZE.size
        records.append(vault.read(0, data[at : at + size]))
        at += size
    return records


async def keep(
    db: aiosqlite.Connection,
    consumer: str,
    entry: Quarantined,
    instead_of: Sequence[tuple[int, int]],
    data: bytes,
) -> None:
    """Store one, and let the oldest go above `QUARANTINE_MAX`: all of them have been told as gaps."""
    await db.execute(
        "INSERT INTO quarantine (consumer, epoch, seq, since, reason, rows, ts_min, ts_max, instead_of, data)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(consumer, entry.epoch, entry.seq, entry.since, entry.reason, entry.rows, entry.ts_min, entry.ts_max),
            *(json.dumps(instead_of), data),
        ),
    )
    await db.execute(
        "DELETE FROM quarantine WHERE consumer = ? AND id <="
        " (SELECT id FROM quarantine WHERE consumer = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
        (consumer, consumer, QUARANTINE_MAX),
    )


async def listed(database: Database, consumer: str) -> list[Quarantined]:
    """Return all that is set aside, oldest first."""
    rows = await database.read(
        "SELECT id, epoch, seq, since, reason, rows, ts_min, ts_max FROM quarantine WHERE consumer = ? ORDER BY id",
        (consumer,),
    )
    return [Quarantined(*row) for row in rows]


async def find(database: Database, vault: Vault, entry_id: int) -> tuple[list[Identity], list[Record]] | None:
    """Return what an entry stands for and its records; None when it is no more there."""
    rows = await database.read("SELECT instead_of, data FROM quarantine WHERE id = ?", (entry_id,))
    if not rows:
        return None
    return [(int(epoch), int(seq)) for epoch, seq in json.loads(rows[0][0])], unpack(vault, rows[0][1])
