"""Messages that cannot pass: their rows are kept aside with the reason, out of the way, until someone retries."""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import aiosqlite

from buffer.cuts import INTO_PARCEL, Cut
from buffer.fetch import Fetch
from buffer.vault import Vault
from edge.core.batch import Record
from edge.core.delivery import Identity, Priority

QUARANTINE_MAX = 1000
_SIZE = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One message that was set aside. Times are nanoseconds since 1970 UTC.

    uplink        the consumer it was cut for
    since         when it was set aside
    instead_of    every number it went under, its last one included: when it goes again it names them
    stored_bytes  its size in the log
    hour          the hour of the ledger in which its rows were stored; 0 when that is unknown
    sent          whether it is counted there as sent
    """

    id: int
    uplink: str
    epoch: int
    seq: int
    since: int
    reason: str
    rows: int
    ts_min: int
    ts_max: int
    instead_of: tuple[Identity, ...]
    stored_bytes: int = 0
    hour: int = 0
    sent: bool = False


def pack(vault: Vault, records: Sequence[Record]) -> bytes:
    """Return records as one value: each one's bytes, sealed where the log is, behind its size."""
    bodies = [vault.write(0, record) for record in records]
    return b"".join(_SIZE.pack(len(body)) + body for body in bodies)


def unpack(vault: Vault, data: bytes) -> list[Record]:
    """Return what `pack` was given. Raises CorruptSegment."""
    records, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + _SIZE.size], "little")
        at += _SIZE.size
        records.append(vault.read(0, data[at : at + size]))
        at += size
    return records


async def keep(db: aiosqlite.Connection, entry: Quarantined, data: bytes) -> None:
    """Store one, and let the oldest go above `QUARANTINE_MAX`: all of them have been told as gaps."""
    await db.execute(
        "INSERT INTO quarantine (consumer, epoch, seq, since, reason, rows, ts_min, ts_max, instead_of, data, hour,"
        " sent) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,"
        " ifnull((SELECT handed > 0 FROM parcel WHERE consumer = ? AND epoch = ? AND seq = ?), 0))",
        (
            *(entry.uplink, entry.epoch, entry.seq, entry.since, entry.reason, entry.rows, entry.ts_min, entry.ts_max),
            *(json.dumps(entry.instead_of), data, entry.hour, entry.uplink, entry.epoch, entry.seq),
        ),
    )
    await db.execute(
        "DELETE FROM quarantine WHERE consumer = ? AND id <="
        " (SELECT id FROM quarantine WHERE consumer = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
        (entry.uplink, entry.uplink, QUARANTINE_MAX),
    )


async def listed(fetch: Fetch, uplink: str | None = None) -> list[Quarantined]:
    """Return all that is set aside, of one uplink or of all, oldest first."""
    rows = await fetch(
        "SELECT id, consumer, epoch, seq, since, reason, rows, ts_min, ts_max, instead_of, length(data), hour, sent"
        " FROM quarantine WHERE consumer = ifnull(?, consumer) ORDER BY id",
        (uplink,),
    )
    return [_entry(row) for row in rows]


async def find(fetch: Fetch, vault: Vault, entry_id: int) -> tuple[int, list[Record]]:
    """Return hour and records of an entry; none when it is no more there. Raises CorruptSegment."""
    for hour, data in await fetch("SELECT hour, data FROM quarantine WHERE id = ?", (entry_id,)):
        return int(hour), unpack(vault, data)
    return 0, []


async def put_parcels(db: aiosqlite.Connection, uplink: str, cuts: Sequence[Cut]) -> None:
    """Store parcels, those that send an entry again with what is counted of it already."""
    await db.executemany(f"INSERT {INTO_PARCEL}", [cut.row(uplink) for cut in cuts])
    await db.executemany(
        "UPDATE parcel SET handed = (SELECT sent FROM quarantine WHERE id = ?)"
        " WHERE consumer = ? AND epoch = ? AND seq = ?",
        [(cut.held, uplink, *cut.identity) for cut in cuts if cut.held],
    )


async def give_back(db: aiosqlite.Connection, uplink: str, cut: Cut) -> None:
    """Note of an entry whose parcel could not pass either whether that was counted as sent."""
    await db.execute(
        "UPDATE quarantine SET sent = max(sent, (SELECT handed > 0 FROM parcel"
        " WHERE consumer = ? AND epoch = ? AND seq = ?)) WHERE id = ?",
        (uplink, *cut.identity, cut.held),
    )


def again(entry: Quarantined, cut: int) -> Cut:
    """Return the parcel that sends an entry once more; the data up to the position `cut` is in parcels already."""
    return Cut(0, 0, cut + 1, cut, entry.rows, 0, Priority.BACKLOG, instead_of=entry.instead_of, held=entry.id)


def _entry(row: Sequence[Any]) -> Quarantined:
    columns = {field.name: value for field, value in zip(fields(Quarantined), row, strict=True)}
    chain = tuple((int(epoch), int(seq)) for epoch, seq in json.loads(columns["instead_of"]))
    return Quarantined(**columns | {"instead_of": chain})
