"""A message and the parts it was cut into, in any order, some of them twice: each row and event is stored once."""

import itertools
import json
import random
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import pyarrow.parquet as parquet
import pytest
import pytest_asyncio

from edge.core.batch import Batch, Event, Lane, Severity, Waveform
from edge.core.catalogue import Tag, ValueKind
from edge.core.delivery import Gap, Parcel
from tests.postgres import start_postgres
from uplink.catalogue import Equipment, encode_catalogue
from uplink.encode import encode
from uplink.receiver.message import Arrived
from uplink.receiver.parquet import ParquetStore
from uplink.receiver.postgres import PostgresStore
from uplink.receiver.store import SqliteStore

TAGS = [Tag(1, "plc-1", "count", ValueKind.INT64), Tag(2, "plc-1", "shock", ValueKind.WAVEFORM)]
BATCH = Batch.of(Lane.INT, [1] * 8, np.arange(8), np.arange(8))
WAVES = [Waveform(2, ts, 6400.0, 8.0, np.arange(4, dtype=np.int16)) for ts in (1, 2)]
EVENTS = [Event(ts, "plc-1", "test", Severity.INFO, f"event {ts}") for ts in (1, 2)]
GAPS = [Gap(1, ts, ts, "log full") for ts in (1, 2)]
# The whole (7, 1); its halves (9, 1) and (9, 2); the halves of the first half (9, 3) and (9, 4), which also says that
# (8, 1) will not come.
PARCELS = {
    "whole": Parcel(7, 1, (BATCH, *WAVES, *EVENTS), tuple(GAPS)),
    "first": Parcel(9, 1, (BATCH.take(slice(0, 4)), WAVES[0], EVENTS[0]), (GAPS[0],), instead_of=((7, 1),)),
    "second": Parcel(9, 2, (BATCH.take(slice(4, 8)), WAVES[1], EVENTS[1]), (GAPS[1],), instead_of=((7, 1),)),
    "first of first": Parcel(9, 3, (BATCH.take(slice(0, 2)), EVENTS[0]), (GAPS[0],), instead_of=((7, 1), (9, 1))),
    "second of first": Parcel(
        9, 4, (BATCH.take(slice(2, 4)), WAVES[0]), instead_of=((7, 1), (9, 1)), gone=((8, 1, 1),)
    ),
}
ORDERS = list(itertools.permutations(PARCELS))


def catalogue(site: str) -> Arrived:
    return Arrived(f"v1/{site}/catalog/plc-1", encode_catalogue(site, "plc-1", TAGS, Equipment(), 2))


def arrived(site: str, name: str) -> Arrived:
    return Arrived(f"v1/{site}/data/backlog", encode(PARCELS[name], site, 2))


async def deliver(store: Any, site: str, order: tuple[str, ...], chance: random.Random) -> None:
    """Give the messages in this order, some of them twice, in groups of any size; all is acknowledged in the end."""
    await store.commit([catalogue(site)], 1)
    left = [name for name in order for _ in range(chance.choice((1, 1, 2)))]
    left.insert(chance.randrange(len(left) + 1), chance.choice(order))
    first = list(dict.fromkeys(left))
    heard: dict[int, Any] = {}
    while left:
        size = chance.choice((1, 1, 2, 3, 7))
        group, left = left[:size], left[size:]
        outcome = await store.commit([arrived(site, name) for name in group], 1)
        heard |= {each["epoch"]: each for _, each in outcome.acknowledgements}
    assert heard == {
        7: {"epoch": 7, "committed_through": 1, "missing": []},
        8: {"epoch": 8, "committed_through": 1, "missing": []},
        9: {"epoch": 9, "committed_through": 4, "missing": []},
    }, (first, json.dumps(heard))


@pytest.fixture
def chance() -> random.Random:
    seed = random.randrange(2**32)
    print("seed", seed)
    return random.Random(seed)


async def test_sqlite_stores_every_order_once(tmp_path: Path, chance: random.Random) -> None:
    path = tmp_path / "brain.sqlite3"
    store = SqliteStore(path)
    await store.open()
    store._db.execute("PRAGMA synchronous=OFF")  # 120 orders, hundreds of commits
    for number, order in enumerate(ORDERS):
        await deliver(store, f"t/g{number}", order, chance)
    await store.close()
    db = sqlite3.connect(path)
    one = "FROM {0} JOIN message ON message.id = {0}.message GROUP BY gateway"
    for table, expected in (("sample", 8), ("waveform", 2), ("event", 2), ("gap", 2)):
        query = f"SELECT count(*), count(DISTINCT {table}.{'ts_min' if table == 'gap' else 'ts'})"
        query += " " + one.format(table).replace("BY gateway", "BY message.gateway")
        assert set(db.execute(query)) == {(expected, expected)}, table
    assert db.execute("SELECT count(DISTINCT gateway), sum(rows) FROM message").fetchall() == [(120, 120 * 10)]
    db.close()


async def test_files_hold_each_row_once(tmp_path: Path, chance: random.Random) -> None:
    store = ParquetStore(tmp_path)
    await store.open()
    orders = chance.sample(ORDERS, 12)  # every gateway has files of its own, each of them synced
    for number, order in enumerate(orders):
        await deliver(store, f"t/g{number}", order, chance)
    await store.close()
    for kind, expected in (("reading", 8), ("waveform", 2), ("event", 2), ("gap", 2)):
        for number in range(12):
            files = (tmp_path / kind / f"gateway=t%2Fg{number}").rglob("*.parquet")
            assert sum(parquet.ParquetFile(file).metadata.num_rows for file in files) == expected, (kind, number)


@pytest_asyncio.fixture
async def dsn(postgres: None) -> AsyncIterator[str]:
    async with start_postgres() as server:
        yield server.dsn


@pytest.mark.timeout(120)
async def test_postgres_stores_every_order_once(dsn: str, chance: random.Random) -> None:
    store = PostgresStore(dsn)
    await store.open()
    assert store._db is not None
    await store._db.execute("SET synchronous_commit = off")
    for number, order in enumerate(ORDERS):
        await deliver(store, f"t/g{number}", order, chance)
    await store.close()
    db = await asyncpg.connect(dsn, server_settings={"search_path": "yulink"})
    try:
        for table, expected in (("sample", 8), ("waveform", 2), ("event", 2), ("gap", 2)):
            time = "ts_min" if table == "gap" else "ts"
            rows = await db.fetch(
                f"SELECT count(*) AS rows, count(DISTINCT one.{time}) AS times FROM {table} AS one"
                " JOIN message ON message.id = one.message GROUP BY message.gateway"
            )
            assert {tuple(row) for row in rows} == {(expected, expected)}, table
            assert len(rows) == 120
        totals = await db.fetchrow("SELECT sum(rows)::int, sum(replaced)::int FROM message")
        assert tuple(totals or ()) == (120 * 10, 0)
    finally:
        await db.close()


async def test_an_original_that_comes_after_a_restart_is_still_late(dsn: str) -> None:
    """What is remembered lies in the database, for every writer: not in the memory of the one that took the parts."""
    for names in (["first of first", "second"], ["whole"], ["first", "second of first"]):
        store = PostgresStore(dsn, shared=True)
        await store.open()
        await store.commit([catalogue("t/g"), *(arrived("t/g", name) for name in names)], 1)
        await store.close()
    db = await asyncpg.connect(dsn, server_settings={"search_path": "yulink"})
    try:
        assert await db.fetchval("SELECT count(*) FROM sample") == 8
        assert await db.fetchval("SELECT count(*) FROM event") == 2
        assert await db.fetchval("SELECT array_agg(DISTINCT seq) FROM message WHERE epoch = 9") == [2, 3, 4]
    finally:
        await db.close()
