"""What the brain can never store it refuses, so the gateway sets it aside; a fault of its own refuses nothing."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import pytest

from buffer.log import Log
from edge.core.batch import Batch, Event, Lane, Severity
from edge.core.catalogue import Tag, ValueKind
from edge.core.delivery import Parcel
from edge.core.errors import Disconnected
from edge.core.zstd import compress
from simulators.broker import start_broker
from simulators.pki import Pki
from tests.buffer.support import numbered
from tests.postgres import start_postgres
from tests.support import until
from tests.uplink.support import SITE, background, brain, open_plant, received, uplink_to
from uplink import pump as pump_module
from uplink.catalogue import Equipment, encode_catalogue
from uplink.encode import decode, encode
from uplink.receiver.message import Arrived, Refused
from uplink.receiver.parquet import ParquetStore
from uplink.receiver.postgres import PostgresStore
from uplink.receiver.reception import Store
from uplink.receiver.store import SqliteStore

DATA = f"v1/{SITE}/data/telemetry"
TOLD = encode_catalogue(SITE, "plc-1", [Tag(1, "plc-1", "count", ValueKind.INT64)], Equipment(), 1)
CATALOGUE = Arrived(f"v1/{SITE}/catalog/plc-1", TOLD)
NUMBERS = Batch.of(Lane.INT, [1] * 3, np.arange(3), np.arange(3))
TEXTS = Batch.of(Lane.TEXT, [1] * 3, np.arange(3), ["a", "b", "c"])
"""Texts of a tag that the catalogue calls a number."""


def sealed(seq: int, payload: bytes) -> Arrived:
    return Arrived(DATA, payload, sealed=True, number=(7, seq))


def parcel(seq: int, batch: Batch, **more: Any) -> bytes:
    return encode(Parcel(7, seq, (batch,), **more), SITE, 1)


def with_facts(text: str) -> bytes:
    """An event whose facts are not what the contract says."""
    whole = encode(Parcel(7, 2, (Event(1, "plc-1", "test", Severity.INFO, "x"),)), SITE, 1)
    message = decode(whole)
    message.events[0].facts_json = text
    return compress(message.SerializeToString(), 3)


@asynccontextmanager
async def opened(kind: str, folder: Path) -> AsyncIterator[Store]:
    if kind == "postgres":
        async with start_postgres() as server:
            store: Store = PostgresStore(server.dsn)
            await store.open()
            yield store
            await store.close()
        return
    store = SqliteStore(folder / "brain.sqlite3") if kind == "sqlite" else ParquetStore(folder / "files")
    await store.open()
    yield store
    await store.close()


KINDS = ["sqlite", "parquet", "postgres"]


@pytest.mark.parametrize("kind", KINDS)
async def test_what_breaks_the_contract_is_refused_by_its_number_until_its_parts_are_here(
    tmp_path: Path, kind: str, postgres: None
) -> None:
    async with opened(kind, tmp_path) as store:
        outcome = await store.commit(
            [
                CATALOGUE,
                sealed(1, parcel(1, NUMBERS)),
                sealed(2, with_facts("[]")),
                sealed(3, parcel(3, TEXTS)),
                sealed(4, b"sealed right, but no message"),
                sealed(5, parcel(6, NUMBERS)),  # its header says otherwise
                Arrived(DATA, parcel(8, TEXTS)),  # not sealed: it says its number itself
                Arrived(DATA, b"nobody knows which"),
            ],
            1,
        )
        refused = [[seq, seq] for seq in (2, 3, 4, 5, 8)]
        assert outcome.acknowledgements == [
            (SITE, {"epoch": 7, "committed_through": 1, "missing": [], "refused": joined(refused, kind)})
        ]
        assert store.counters.quarantined == 6
        half = parcel(9, NUMBERS.take(slice(0, 1)), instead_of=((7, 2), (7, 4)))
        outcome = await store.commit([sealed(9, half)], 1)
        ((_, acknowledged),) = outcome.acknowledgements
        assert acknowledged == {
            "epoch": 7, "committed_through": 9, "missing": [[3, 3], [5, 8]],
            "refused": [[3, 3], [5, 5], [8, 8]],
        }  # fmt: skip
        outcome = await store.commit([sealed(1, with_facts("?"))], 1)
        assert [1, 1] not in outcome.acknowledgements[0][1]["refused"], "it is here already"


def joined(ranges: list[list[int]], kind: str) -> list[list[int]]:
    """PostgreSQL joins neighbours; both mean the same."""
    return [[2, 5], [8, 8]] if kind == "postgres" else ranges


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_not_the_message_s_own_fault_is_never_refused(
    tmp_path: Path, kind: str, postgres: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not authentic, unknown tags, a full disk, a database that is gone."""
    async with opened(kind, tmp_path) as store:
        outcome = await store.commit([sealed(1, parcel(1, NUMBERS))], 1, [Refused(DATA, b"?", "forged")])
        assert (outcome.acknowledgements, outcome.unresolved) == ([], [0]), "the catalogue comes later"
        await store.commit([CATALOGUE], 1)
        if kind == "postgres":
            full = asyncpg.DiskFullError("no space left on device")
            monkeypatch.setattr(asyncpg.Connection, "copy_to_table", fails(full))
        else:
            store._db.execute("PRAGMA max_page_count = 1")  # type: ignore[attr-defined]
        with pytest.raises(Disconnected):
            await store.commit([sealed(1, parcel(1, NUMBERS)), sealed(2, parcel(2, big()))], 1)
        monkeypatch.undo()
        if kind == "postgres":
            await store.open()
        else:
            store._db.execute("PRAGMA max_page_count = 100000")  # type: ignore[attr-defined]
        outcome = await store.commit([sealed(1, parcel(1, NUMBERS)), sealed(2, parcel(2, big()))], 1)
        assert outcome.acknowledgements == [(SITE, {"epoch": 7, "committed_through": 2, "missing": []})]
        assert store.counters.quarantined == 1


def fails(error: Exception) -> Any:
    async def fail(*arguments: Any, **named: Any) -> None:
        raise error

    return fail


def big() -> Batch:
    """More than fits into a few pages."""
    random = np.random.default_rng(1)
    return Batch.of(Lane.INT, [1] * 20_000, np.arange(20_000), random.integers(-(2**62), 2**62, 20_000))


@pytest.mark.timeout(60)
async def test_the_gateway_sets_aside_what_is_refused_raises_an_alarm_and_goes_on(
    tmp_path: Path, pki: Pki, mosquitto: str, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three rows that cannot be, in one message with fifty sound ones."""
    async with (
        start_broker(tmp_path / "broker", pki, kind=mosquitto) as broker,
        open_plant(tmp_path, **uplink_to(broker, pki)) as (log, pump),
        background(brain(broker, pki, tmp_path).run, pump.run),
    ):
        await log.append([numbered(0, 50)])
        await until(lambda: log.outbox().backlog().rows == 0, 20)
        monkeypatch.setattr(pump_module, "ACK_TIMEOUT_S", 30.0)  # refused, not lost, now that the brain listens
        await log.append([odd(log), numbered(50, 50)])
        await until(lambda: log.outbox().backlog().quarantined == 3, 20)
        await until(lambda: log.outbox().backlog().rows == 0, 20)
        assert [each.rows for each in await log.outbox().quarantined()] == [1, 1, 1]
        await until(lambda: count(tmp_path, "SELECT count(*) FROM event WHERE kind = 'message_set_aside'") == 3)
        await until(lambda: count(tmp_path, "SELECT sum(rows) FROM gap WHERE reason LIKE 'set aside%'") == 3)
        assert count(tmp_path, "SELECT count(*) FROM quarantine") >= 4, "the brain keeps what it refused, too"
    assert received(tmp_path) == list(range(100))


def odd(log: Log) -> Batch:
    """Texts of a tag that the catalogue calls a number, which only a mistake in the gateway could make."""
    tag = log.catalogue.intern("plc-1", "odd", ValueKind.INT64)
    return Batch.of(Lane.TEXT, [tag.id] * 3, np.arange(3), ["a", "b", "c"])


def count(folder: Path, query: str) -> int:
    db = sqlite3.connect(folder / "brain.sqlite3")
    try:
        return int(db.execute(query).fetchone()[0] or 0)
    finally:
        db.close()
