"""The brain's own count beside the gateway's ledger: what agrees is quiet, what does not becomes an event."""

import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from edge.core.batch import Batch, Lane, Record
from edge.core.delivery import Parcel, Priority
from edge.core.ledger import Line, Way
from simulators.pki import Pki
from tests.contract.golden import FOLDER, GATEWAY
from uplink.encode import encode
from uplink.receiver.message import Arrived
from uplink.receiver.store import SqliteStore
from uplink.statement import Signer, statement

CATALOGUE = Arrived(f"v1/{GATEWAY}/catalog/plc-1", (FOLDER / "catalogue.unsealed.bin").read_bytes())
HOUR = 500_000
LINE = Line(HOUR, "plc-1", 2, 20, 20, 0, 0, 20, 3_600_000, 3_600_000, {"brain": Way(20, 20)})


def message(seq: int, *records: Record, hour: int = HOUR, priority: Priority = Priority.LIVE) -> Arrived:
    topic = "event" if priority is Priority.EVENT else "data/telemetry"
    parcel = Parcel(7, seq, records, priority=priority, hour=hour, uplink="brain")
    return Arrived(f"v1/{GATEWAY}/{topic}", encode(parcel, GATEWAY))


def rows(count: int) -> Batch:
    return Batch.of(Lane.FLOAT, [1] * count, list(range(count)), [1.0] * count)


def telling(seq: int, line: Line, signer: Signer | None = None) -> Arrived:
    return message(seq, statement(line, GATEWAY, 1_800_000_000 * 10**9, signer), hour=0, priority=Priority.EVENT)


class Brain:
    def __init__(self, path: Path, **options: Any) -> None:
        self.path = path
        self._options = options

    async def take(self, *arrived: Arrived) -> list[str]:
        """Store messages, in a store that is opened anew, and return every discrepancy told so far."""
        store = SqliteStore(self.path, **self._options)
        await store.open()
        await store.commit([CATALOGUE, *arrived], now=1)
        await store.settle()
        await store.close()
        db = sqlite3.connect(self.path)
        try:
            return [text for (text,) in db.execute("SELECT text FROM event WHERE kind = 'ledger_discrepancy'")]
        finally:
            db.close()


@pytest.fixture
def brain(tmp_path: Path) -> Brain:
    return Brain(tmp_path / "brain.sqlite3")


async def test_a_count_that_agrees_is_kept_quietly_whatever_comes_first_or_twice(brain: Brain) -> None:
    assert await brain.take(telling(1, LINE), message(2, rows(15)), message(2, rows(15)), message(3, rows(5))) == []
    assert await brain.take(message(3, rows(5)), telling(1, LINE)) == []
    db = sqlite3.connect(brain.path)
    assert db.execute("SELECT uplink, hour, device, revision, arrived, verified FROM ledger").fetchall() == [
        ("brain", HOUR, "plc-1", 2, 20, 0)
    ]
    db.close()


@pytest.mark.parametrize(
    ("arrived", "line", "words"),
    [
        (19, LINE, ["20 rows are committed, but 19 are here"]),
        (21, LINE, ["20 rows were stored for us, but 21 are here"]),
        (12, replace(LINE, uplinks={"brain": Way(15, 10, 0, 3, {"log full": 2})}), []),  # five are on their way
        (18, replace(LINE, uplinks={"brain": Way(20, 10, 0, 3)}), ["17 rows were stored for us, but 18 are here"]),
        (20, replace(LINE, read=21), ["read = filtered + stored"]),
    ],
)
async def test_a_count_that_disagrees_is_told(brain: Brain, arrived: int, line: Line, words: list[str]) -> None:
    assert await brain.take(message(1, rows(arrived)), telling(2, line)) == words


async def test_a_lower_revision_replaces_nothing_and_a_higher_one_is_compared_anew(brain: Brain) -> None:
    early = replace(LINE, revision=1, uplinks={"brain": Way(10, 10)})
    assert await brain.take(message(1, rows(10)), telling(2, LINE)) == ["20 rows are committed, but 10 are here"]
    assert len(await brain.take(telling(3, early))) == 1
    assert len(await brain.take(message(4, rows(10)), telling(5, replace(LINE, revision=9)))) == 1
    db = sqlite3.connect(brain.path)
    assert db.execute("SELECT revision, discrepancies FROM ledger").fetchall() == [(9, "[]")]
    db.close()


async def test_rows_of_an_unknown_hour_are_no_reason_to_miss_any(brain: Brain) -> None:
    assert await brain.take(message(1, rows(12)), message(2, rows(8), hour=0), telling(3, LINE)) == []


async def test_a_line_signed_by_somebody_else_is_told(tmp_path: Path, pki: Pki) -> None:
    authorities = x509.load_pem_x509_certificates(pki.ca.read_bytes())
    own = Signer(GATEWAY, pki.issue("gateway", common_name=GATEWAY))
    other = Signer(GATEWAY, pki.issue("other", common_name="chongqing/plant-2"))
    brain = Brain(tmp_path / "brain.sqlite3", authorities=authorities)
    assert await brain.take(message(1, rows(20)), telling(2, LINE, own)) == []
    (words,) = await brain.take(telling(3, replace(LINE, revision=3), other))
    assert "chongqing/plant-2" in words
    db = sqlite3.connect(brain.path)
    assert db.execute("SELECT revision, verified FROM ledger").fetchall() == [(3, 0)]
    db.close()


async def test_what_is_printed_is_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    brain = Brain(tmp_path / "brain.sqlite3", jsonl=True)
    await brain.take(telling(1, LINE))
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert Line.of_json(first["ledger"]) == LINE
    assert first["ledger"]["gateway"] == GATEWAY
    assert second["event"]["kind"] == "ledger_discrepancy"
