"""The brain's own count beside the gateway's ledger, in every store: what agrees is quiet, what does not is told."""

import asyncio
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pyarrow.parquet as parquet
import pytest
from cryptography import x509

from edge.core.batch import Batch, Lane, Record
from edge.core.delivery import Identity, Parcel, Priority
from edge.core.ledger import HOUR_NS, Line, Way
from simulators.pki import Pki
from tests.contract.golden import FOLDER, GATEWAY
from tests.postgres import start_postgres
from uplink.encode import encode
from uplink.receiver.message import Arrived
from uplink.receiver.parquet import ParquetStore
from uplink.receiver.postgres import PostgresStore
from uplink.receiver.reception import Store
from uplink.receiver.store import SqliteStore
from uplink.statement import Signer, statement

CATALOGUE = Arrived(f"v1/{GATEWAY}/catalog/plc-1", (FOLDER / "catalogue.unsealed.bin").read_bytes())
HOUR = 500_000
LINE = Line(HOUR, "plc-1", 2, 20, 20, 0, 0, 20, 3_600_000, 3_600_000, {"brain": Way(20, 20)})


def message(
    seq: int,
    *records: Record,
    hour: int = HOUR,
    priority: Priority = Priority.LIVE,
    instead_of: tuple[Identity, ...] = (),
) -> Arrived:
    topic = "event" if priority is Priority.EVENT else "data/telemetry"
    parcel = Parcel(7, seq, records, priority=priority, hour=hour, uplink="brain", instead_of=instead_of)
    return Arrived(f"v1/{GATEWAY}/{topic}", encode(parcel, GATEWAY))


def rows(count: int) -> Batch:
    return Batch.of(Lane.FLOAT, [1] * count, list(range(count)), [1.0] * count)


def telling(seq: int, line: Line, signer: Signer | None = None) -> Arrived:
    return message(seq, statement(line, GATEWAY, 1_800_000_000 * 10**9, signer), hour=0, priority=Priority.EVENT)


class Brain:
    """A store that is opened anew for every group of messages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def store(self, authorities: Sequence[x509.Certificate]) -> Store:
        return SqliteStore(self.folder / "brain.sqlite3", authorities=authorities)

    async def take(self, *arrived: Arrived, authorities: Sequence[x509.Certificate] = ()) -> list[str]:
        """Store messages and return every discrepancy told so far."""
        store = self.store(authorities)
        await store.open()
        await store.commit([CATALOGUE, *arrived], now=1)
        await store.settle()
        await store.close()
        return await self.told()

    async def told(self) -> list[str]:
        query = "SELECT text FROM event WHERE kind = 'ledger_discrepancy' ORDER BY rowid"
        return [text for (text,) in self._ask(query)]

    async def line(self) -> tuple[Any, ...]:
        """(uplink, hour, device, revision, arrived, verified, discrepancies) of the only line."""
        ((*line, wrong),) = self._ask(
            "SELECT uplink, hour, device, revision, arrived, verified, discrepancies FROM ledger"
        )
        return (*line, json.loads(wrong))

    def _ask(self, query: str) -> list[tuple[Any, ...]]:
        db = sqlite3.connect(self.folder / "brain.sqlite3")
        try:
            return db.execute(query).fetchall()
        finally:
            db.close()


class Files(Brain):
    def store(self, authorities: Sequence[x509.Certificate]) -> Store:
        return ParquetStore(self.folder / "files", authorities=authorities)

    async def told(self) -> list[str]:
        return [row["text"] for row in self._rows("event") if row["kind"] == "ledger_discrepancy"]

    async def line(self) -> tuple[Any, ...]:
        newest = max(self._rows("ledger"), key=lambda row: row["revision"])
        assert Line.of_json(json.loads(newest["line"])).stored == newest["stored"]
        hour = newest["ts"].value // HOUR_NS
        return (*(newest["uplink"], hour, newest["device"], newest["revision"], newest["arrived"], newest["verified"]),
                newest["discrepancies"])  # fmt: skip

    def _rows(self, kind: str) -> list[dict[str, Any]]:
        files = sorted((self.folder / "files" / kind).rglob("*.parquet"), key=lambda file: file.name)
        return [row for file in files for row in parquet.ParquetFile(file).read().to_pylist()]


class Database(Brain):
    def __init__(self, dsn: str) -> None:
        self.dsn = dsn

    def store(self, authorities: Sequence[x509.Certificate]) -> Store:
        return PostgresStore(self.dsn, authorities=authorities)

    async def told(self) -> list[str]:
        rows = await self.ask("SELECT text FROM yulink.event WHERE kind = 'ledger_discrepancy' ORDER BY message")
        return [text for (text,) in rows]

    async def line(self) -> tuple[Any, ...]:
        ((*line, wrong),) = await self.ask(
            "SELECT uplink, hour, device, revision, arrived, verified, discrepancies FROM yulink.ledger"
        )
        return (*line, json.loads(wrong))

    async def ask(self, query: str) -> list[Any]:
        connection = await asyncpg.connect(self.dsn)
        try:
            return list(await connection.fetch(query))
        finally:
            await connection.close()


# Each scenario is a specification that every store meets.


async def a_count_that_agrees_is_kept_quietly_whatever_comes_first_or_twice(brain: Brain, pki: Pki) -> None:
    assert await brain.take(telling(1, LINE), message(2, rows(15)), message(2, rows(15)), message(3, rows(5))) == []
    assert await brain.take(message(3, rows(5)), telling(1, LINE)) == []
    assert await brain.line() == ("brain", HOUR, "plc-1", 2, 20, False, [])


async def a_count_that_disagrees_is_told(brain: Brain, pki: Pki) -> None:
    waits = replace(LINE, hour=HOUR + 2, uplinks={"brain": Way(15, 10, 0, 3, {"log full": 2})})
    withheld = replace(LINE, hour=HOUR + 3, uplinks={"brain": Way(20, 10, 0, 3)})
    cases = [
        (19, LINE, ["20 rows are committed, but 19 are here"]),
        (21, replace(LINE, hour=HOUR + 1), ["20 rows were stored for us, but 21 are here"]),
        (12, waits, []),  # five are on their way
        (18, withheld, ["17 rows were stored for us, but 18 are here"]),
        (20, replace(LINE, hour=HOUR + 4, read=21), ["read = filtered + stored"]),
    ]
    expected: list[str] = []
    for number, (arrived, line, words) in enumerate(cases):
        expected += words
        sent = message(2 * number + 1, rows(arrived), hour=line.hour)
        assert await brain.take(sent, telling(2 * number + 2, line)) == expected


async def a_lower_revision_replaces_nothing_and_a_higher_one_is_compared_anew(brain: Brain, pki: Pki) -> None:
    early = replace(LINE, revision=1, uplinks={"brain": Way(10, 10)})
    assert await brain.take(message(1, rows(10)), telling(2, LINE)) == ["20 rows are committed, but 10 are here"]
    assert len(await brain.take(telling(3, early))) == 1
    assert len(await brain.take(message(4, rows(10)), telling(5, replace(LINE, revision=9)))) == 1
    assert await brain.line() == ("brain", HOUR, "plc-1", 9, 20, False, [])


async def two_revisions_in_one_transaction_are_compared_in_order(brain: Brain, pki: Pki) -> None:
    newer, older = replace(LINE, revision=9), replace(LINE, revision=3)
    assert await brain.take(message(1, rows(20)), telling(2, newer), telling(3, older)) == []
    assert await brain.line() == ("brain", HOUR, "plc-1", 9, 20, False, [])


async def rows_of_an_unknown_hour_are_no_reason_to_miss_any(brain: Brain, pki: Pki) -> None:
    assert await brain.take(message(1, rows(12)), message(2, rows(8), hour=0), telling(3, LINE)) == []


async def a_part_of_what_is_here_is_not_counted_again(brain: Brain, pki: Pki) -> None:
    part = message(2, rows(10), instead_of=((7, 1),))
    late = message(3, rows(5), instead_of=((7, 4),)), message(4, rows(5))
    line = replace(LINE, read=25, stored=25, uplinks={"brain": Way(25, 25)})
    assert await brain.take(message(1, rows(20)), part, *late, telling(5, line)) == []
    assert (await brain.line())[4] == 25


async def a_line_signed_by_somebody_else_is_told(brain: Brain, pki: Pki) -> None:
    authorities = x509.load_pem_x509_certificates(pki.ca.read_bytes())
    own = Signer(GATEWAY, pki.issue("gateway", common_name=GATEWAY))
    other = Signer(GATEWAY, pki.issue("other", common_name="chongqing/plant-2"))
    assert await brain.take(message(1, rows(20)), telling(2, LINE, own), authorities=authorities) == []
    assert (await brain.line())[5] is True or (await brain.line())[5] == 1
    (words,) = await brain.take(telling(3, replace(LINE, revision=3), other), authorities=authorities)
    assert "chongqing/plant-2" in words
    assert (await brain.line())[3:6] == (3, 20, False)


SCENARIOS = [
    a_count_that_agrees_is_kept_quietly_whatever_comes_first_or_twice,
    a_count_that_disagrees_is_told,
    a_lower_revision_replaces_nothing_and_a_higher_one_is_compared_anew,
    two_revisions_in_one_transaction_are_compared_in_order,
    rows_of_an_unknown_hour_are_no_reason_to_miss_any,
    a_part_of_what_is_here_is_not_counted_again,
    a_line_signed_by_somebody_else_is_told,
]


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("kind", [Brain, Files])
async def test_books_of_one_machine(tmp_path: Path, pki: Pki, kind: type[Brain], scenario: Any) -> None:
    await scenario(kind(tmp_path), pki)


@pytest.mark.timeout(60)
async def test_books_in_postgresql(tmp_path: Path, pki: Pki, postgres: None) -> None:
    async with start_postgres() as server:
        for scenario in SCENARIOS:
            brain = Database(server.dsn)
            await scenario(brain, pki)
            await brain.ask("DROP SCHEMA yulink CASCADE")


async def test_writers_beside_each_other_count_every_reading_once(postgres: None) -> None:
    async with start_postgres() as server:
        stores = [PostgresStore(server.dsn, shared=True) for _ in range(3)]
        for store in stores:
            await store.open()
        await stores[0].commit([CATALOGUE], 1)
        messages = [message(seq, rows(10)) for seq in range(1, 31)]
        told = replace(LINE, read=300, stored=300, uplinks={"brain": Way(300, 300)})

        async def write(store: PostgresStore, step: int) -> None:
            for place in range(0, 30, 3):  # everyone gets every message, each in an order of its own
                mine = [messages[(step * (place + n)) % 30] for n in range(3)]
                await store.commit(mine, 1)

        await asyncio.gather(*(write(store, step) for store, step in zip(stores, (1, 7, 11), strict=True)))
        await asyncio.gather(*(store.commit([telling(40, told)], 1) for store in stores))
        for store in stores:
            await store.close()
        brain = Database(server.dsn)
        assert await brain.told() == []
        assert await brain.line() == ("brain", HOUR, "plc-1", 2, 300, False, [])


async def test_what_is_printed_is_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = SqliteStore(tmp_path / "brain.sqlite3", jsonl=True)
    await store.open()
    await store.commit([CATALOGUE, telling(1, LINE)], 1)
    await store.settle()
    await store.close()
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert Line.of_json(first["ledger"]) == LINE
    assert first["ledger"]["gateway"] == GATEWAY
    assert second["event"]["kind"] == "ledger_discrepancy"
