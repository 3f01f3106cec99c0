"""What the brain's stores on one machine carry, from a message's bytes to its durable commit, beside their floors.

The floors, in the same run and with the same rows: sqlite3's bare `executemany` in transactions of equal size, and
PostgreSQL's bare COPY of ready-made records into a table without an index.
"""

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import numpy as np

from edge.core.batch import Batch, Lane
from edge.core.catalogue import Catalogue, ValueKind
from edge.core.delivery import Parcel
from tests.postgres import start_postgres
from uplink.catalogue import Equipment, encode_catalogue
from uplink.encode import encode
from uplink.receiver.message import Arrived
from uplink.receiver.parquet import ParquetStore
from uplink.receiver.postgres import PostgresStore
from uplink.receiver.reception import Store
from uplink.receiver.store import SqliteStore

VALUES = 400_000
GROUP = 20
SHAPES = ((1000, 1), (1000, 10), (100, 100))


def messages(tags: int, rows: int) -> list[Arrived]:
    """Return a catalogue and messages with so many readings of each tag, `VALUES` readings in all."""
    gateway = f"bench/{tags}x{rows}"
    known = Catalogue()
    for n in range(tags):
        known.intern("plc", f"t{n}", ValueKind.FLOAT64, "")
    told = encode_catalogue(gateway, "plc", known.since(0), Equipment(), known.last_id)
    made = [Arrived(f"v1/{gateway}/catalog/plc", told)]
    chance = np.random.default_rng(1)
    for seq in range(1, VALUES // tags // rows + 1):
        batches = tuple(
            Batch.of(
                Lane.FLOAT,
                list(range(1, tags + 1)),
                [10**18 + (seq * rows + row) * 10**9] * tags,
                np.round(chance.normal(50, 1, tags), 2),
                0,
            )
            for row in range(rows)
        )
        made.append(Arrived(f"v1/{gateway}/data/telemetry", encode(Parcel(7, seq, batches), gateway, tags)))
    return made


async def rate(store: Store, made: Sequence[Arrived]) -> float:
    """Return values a second on the clock through a store, the time to close it included."""
    await store.open()
    began = time.perf_counter()
    for first in range(0, len(made), GROUP):
        await store.commit(made[first : first + GROUP], 1)
        await store.settle()
    await store.close()
    assert store.counters.rows == VALUES
    return VALUES / (time.perf_counter() - began)


def sqlite_floor(folder: Path, group: int) -> float:
    """Return rows a second of the bare library in transactions of `group` rows."""
    db = sqlite3.connect(folder / "floor.sqlite3", isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE sample (message INTEGER, tag INTEGER, ts INTEGER, value, quality INTEGER)")
    rows = [(1, n % 1000, 10**18 + n, 50.12, 0) for n in range(group)]
    began = time.perf_counter()
    for _ in range(VALUES // group):
        db.execute("BEGIN")
        db.executemany("INSERT INTO sample VALUES (?, ?, ?, ?, ?)", rows)
        db.execute("COMMIT")
    spent = time.perf_counter() - began
    db.close()
    return VALUES / spent


async def copy_floor(dsn: str) -> float:
    """Return rows a second of a bare COPY."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE TABLE floor (tag bigint, ts bigint, value double precision, quality bigint)")
    records = [(n % 1000, 10**18 + n, 50.12, 0) for n in range(VALUES)]
    began = time.perf_counter()
    await connection.copy_records_to_table("floor", records=records)
    spent = time.perf_counter() - began
    await connection.execute("DROP TABLE floor")
    await connection.close()
    return VALUES / spent


async def measure(folder: Path) -> None:
    """Print the table."""
    print("values/s, and how many times slower than the floor")
    print(f"{'a message':>22} {'SQLite':>18} {'Parquet':>11} {'PostgreSQL':>18}")
    async with start_postgres() as server:
        for tags, rows in SHAPES:
            made = messages(tags, rows)
            place = folder / f"{tags}x{rows}"
            place.mkdir()
            sqlite = await rate(SqliteStore(place / "store.sqlite3"), made)
            least = sqlite_floor(place, min(tags * rows * GROUP, VALUES // 2))
            files = await rate(ParquetStore(place / "lake"), made)
            postgres = await rate(PostgresStore(server.dsn), made)
            copy = await copy_floor(server.dsn)
            print(
                f"{tags:5} tags x {rows:3} rows {sqlite:11,.0f} {least / sqlite:5.1f}x {files:11,.0f}"
                f" {postgres:11,.0f} {copy / postgres:5.1f}x"
            )


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory(prefix="yulink-bench-") as name:
        asyncio.run(measure(Path(name)))


if __name__ == "__main__":
    main()
