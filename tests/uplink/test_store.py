"""The brain's stores: one message is stored once, whatever comes twice, late or without its catalogue."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edge.core.batch import Batch, Event, Lane, Severity
from edge.core.delivery import Gap, Parcel
from edge.core.errors import Disconnected, YulinkError
from tests.contract.golden import FOLDER, GATEWAY
from uplink.encode import encode
from uplink.receiver.message import Arrived, Refused
from uplink.receiver.store import SqliteStore

CATALOGUE = Arrived(f"v1/{GATEWAY}/catalog/plc-1", (FOLDER / "catalogue.unsealed.bin").read_bytes())
FIRST, THIRD = (
    Arrived(f"v1/{GATEWAY}/data/telemetry", (FOLDER / f"telemetry-{n}.unsealed.bin").read_bytes()) for n in (1, 3)
)


def query(path: Path, words: str) -> list[Any]:
    db = sqlite3.connect(path)
    try:
        return db.execute(words).fetchall()
    finally:
        db.close()


async def test_a_message_is_stored_once_and_a_gap_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "brain.sqlite3"
    for _ in range(2):
        store = SqliteStore(path)
        await store.open()
        for _ in range(2):
            outcome = await store.commit([CATALOGUE, FIRST, THIRD, FIRST], now=1)
            ((gateway, told),) = outcome.acknowledgements
            assert (gateway, told["committed_through"], told["missing"]) == (GATEWAY, 3, [[2, 2]])
            assert outcome.unresolved == []
        await store.close()
    assert query(path, "SELECT count(*) FROM message") == [(2,)]
    assert query(path, "SELECT count(*), count(DISTINCT id) FROM reading") == [(43, 43)]
    rows = "SELECT m.seq, count(*) FROM message m JOIN sample s ON s.rowid BETWEEN m.first AND m.last GROUP BY 1"
    assert query(path, rows) == [(1, 35), (3, 8)]
    assert query(path, "SELECT value FROM reading WHERE tag = 'total'")[2] == (str(2**64 - 1),)
    assert query(path, "SELECT typeof(value), value FROM reading WHERE tag = 'level' AND quality = 2150694912") == [
        ("text", "NaN")
    ]


async def test_without_its_catalogue_a_message_is_left_to_come_again(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "brain.sqlite3")
    await store.open()
    outcome = await store.commit([FIRST, CATALOGUE, THIRD], now=1)
    assert outcome.unresolved == [0]
    assert [told["committed_through"] for _, told in outcome.acknowledgements] == [3]
    assert (await store.commit([FIRST], now=2)).acknowledgements[0][1]["missing"] == [[2, 2]]
    await store.close()


async def test_what_cannot_be_read_is_set_aside_with_the_reason(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "brain.sqlite3")
    await store.open()
    stranger = Arrived("v1/chongqing/plant-2/data/telemetry", FIRST.payload)
    cut = Arrived(FIRST.topic, FIRST.payload[:40])
    await store.commit([CATALOGUE, stranger, cut, THIRD], 1, [Refused("v1/x", b"?", "forged")])
    assert store.counters.quarantined == 3
    await store.close()
    reasons = [reason for (reason,) in query(tmp_path / "brain.sqlite3", "SELECT reason FROM quarantine")]
    assert "came by the topic" in reasons[0]
    assert "not a message" in reasons[1] or "cut off" in reasons[1]
    assert reasons[2] == "forged"


def message(seq: int, *records: Any, gaps: tuple[Gap, ...] = ()) -> Arrived:
    return Arrived(FIRST.topic, encode(Parcel(7, seq, records, gaps), GATEWAY))


async def test_a_gap_is_printed_with_the_names_of_its_tags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = SqliteStore(tmp_path / "brain.sqlite3", jsonl=True)
    await store.open()
    await store.commit([CATALOGUE, message(1, gaps=(Gap(9, 0, 10**9, "thinned", "telemetry", ((1, 4), (77, 5))),))], 1)
    await store.settle()
    await store.settle()
    await store.close()
    (line,) = capsys.readouterr().out.splitlines()
    gap = json.loads(line)["gap"]
    assert (gap["rows"], gap["class"], gap["tags"]) == (9, "telemetry", {"plc-1.level": 4, "77": 5})


async def test_a_correction_is_printed_with_its_revision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = SqliteStore(tmp_path / "brain.sqlite3", jsonl=True)
    await store.open()
    await store.commit([CATALOGUE, message(1, Batch.of(Lane.FLOAT, [1, 1], [7, 8], [1.0, 2.0], 0, [0, 3]))], 1)
    await store.settle()
    await store.close()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["value"], line.get("revision")) for line in lines] == [(1.0, None), (2.0, 3)]


async def test_a_store_of_before_revisions_is_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "brain.sqlite3"
    store = SqliteStore(path)
    await store.open()
    await store.commit([CATALOGUE, message(1, Batch.of(Lane.FLOAT, [1], [7], [1.0]))], 1)
    await store.close()
    with closing(sqlite3.connect(path)) as db:  # as format 4 had it
        db.executescript("DROP VIEW reading; ALTER TABLE sample DROP COLUMN revision; PRAGMA user_version = 4")
    store = SqliteStore(path)
    await store.open()
    await store.commit([message(2, Batch.of(Lane.FLOAT, [1], [7], [1.5], 0, [1]))], 1)
    await store.close()
    assert query(path, "SELECT value, revision FROM reading") == [(1.0, 0), (1.5, 1)]


async def test_a_full_disk_stores_nothing_of_the_group_and_all_of_it_later(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "brain.sqlite3")
    await store.open()
    await store.commit([CATALOGUE], 1)
    ((pages,),) = store._db.execute("PRAGMA page_count")
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(Disconnected, match="full"):
        await store.commit([FIRST, THIRD] + [message(seq, event(seq)) for seq in range(1, 200)], 2)
    assert store._db.execute("SELECT count(*) FROM message").fetchall() == [(0,)]
    store._db.execute("PRAGMA max_page_count = 100000")
    outcome = await store.commit([FIRST, THIRD], 3)
    assert outcome.acknowledgements[0][1]["committed_through"] == 3
    await store.close()


def event(number: int) -> Event:
    return Event(number, "plc-1", "device_lost", Severity.MEDIUM, "x" * 200)


async def test_two_receivers_cannot_share_a_store(tmp_path: Path) -> None:
    first, second = SqliteStore(tmp_path / "brain.sqlite3"), SqliteStore(tmp_path / "brain.sqlite3")
    await first.open()
    with pytest.raises(YulinkError, match="in use by process"):
        await second.open()
    await second.close()
    await first.close()
    await (third := SqliteStore(tmp_path / "brain.sqlite3")).open()
    await third.close()


async def test_a_file_that_is_no_store_of_ours_is_not_touched(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "other.sqlite3")
    db.execute("CREATE TABLE message (id)")
    db.commit()
    db.close()
    for name, words in (("other.sqlite3", "another version"), ("none/brain.sqlite3", "cannot be used")):
        store = SqliteStore(tmp_path / name)
        with pytest.raises(YulinkError, match=words):
            await store.open()
        await store.close()
