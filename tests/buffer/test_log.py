import asyncio
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from buffer.classes import ClassMap
from buffer.log import open_log
from buffer.writer import join
from edge.core.batch import Batch, Lane, Record, Waveform
from edge.core.catalogue import Catalogue, ValueKind
from edge.core.clock import SystemClock, VirtualClock
from edge.core.delivery import Gap, Priority
from edge.core.errors import LogError
from edge.core.quality import StatusCode
from tests.buffer.support import event, everything, numbered, values, waveform
from tests.support import until

CLOCK = SystemClock()


async def test_what_was_put_is_there_after_reopening_with_its_names(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite3"
    async with open_log(path, CLOCK) as log:
        tag = log.catalogue.intern("plc-1", "count", ValueKind.INT64, "pcs")
        unread = Waveform(tag.id, 9, 6400.0, 8.0, np.empty(0, np.int16), StatusCode.BAD_TIMEOUT)
        stored: list[Record] = [numbered(0, 10, tag.id), waveform(tag.id, 5), unread, event("hello")]
        for record in stored:
            await log.put(record)
    async with open_log(path, CLOCK) as log:
        assert log.catalogue[tag.id] == tag
        assert [record for _, record in await log.read(0)] == stored
        assert log.catalogue.intern("plc-1", "other", ValueKind.BOOL).id > tag.id


async def test_records_of_one_interval_share_a_transaction_and_a_segment(tmp_path: Path) -> None:
    async with open_log(tmp_path / "log.sqlite3", CLOCK, commit_interval_s=5, commit_rows=10**6) as log:
        for start in range(0, 100, 10):
            await log.put(numbered(start, 10))
        await log.flush()
        assert log.statistics().transactions_total == 1
        ((position, record),) = await log.read(0)
        assert position == 1
        assert values([record]) == list(range(100))


async def test_enough_rows_or_an_event_do_not_wait_for_the_interval(tmp_path: Path) -> None:
    async with open_log(tmp_path / "log.sqlite3", CLOCK, commit_interval_s=3600, commit_rows=512) as log:
        await log.put(numbered(0, 512))
        await until(lambda: log.statistics().rows_durable_total == 512)
        await log.put(event("alarm"))
        await until(lambda: log.statistics().rows_durable_total == 513)


def test_joining_splits_large_batches_and_keeps_order() -> None:
    classes = ClassMap(Catalogue())
    joined = join([numbered(0, 30_000), event("a"), numbered(30_000, 15_000), Batch.empty(Lane.FLOAT)], classes)
    assert [len(record) for record in joined] == [20_000, 20_000, 5_000, 1]
    assert values(joined) == list(range(45_000))


async def test_reading_goes_on_behind_a_position(tmp_path: Path) -> None:
    async with open_log(tmp_path / "log.sqlite3", CLOCK) as log:
        for start in range(0, 50, 10):
            await log.append([numbered(start, 10)])
        first = await log.read(0, rows_max=20)
        rest = await log.read(first[-1][0])
        assert values(record for _, record in first) == list(range(20))
        assert values(record for _, record in rest) == list(range(20, 50))
        assert await log.read(rest[-1][0]) == []


async def test_a_full_disk_holds_producers_back_and_loses_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log.sqlite3"
    async with open_log(path, CLOCK, rows_waiting_max=1000) as log:
        await log.append([numbered(0, 100)])
        pages = (await (await log._writer._db.execute("PRAGMA page_count")).fetchone())[0]  # type: ignore[index]
        await log._writer._db.execute(f"PRAGMA max_page_count={pages + 1}")

        async def produce() -> None:
            for start in range(100, 60_100, 1000):
                await log.put(numbered(start, 1000))

        producing = asyncio.create_task(produce())
        await until(lambda: not log.statistics().writable)
        assert "full" in log.statistics().last_error
        await until(lambda: log.statistics().rows_waiting >= 1000)
        assert not producing.done()
        await log._writer._db.execute("PRAGMA max_page_count=1000000")
        await producing
        await log.flush()
        assert log.statistics().writable
        stored = [record for _, record in await log.read(0)]
    assert values(stored) == list(range(60_100))
    words = [record.getMessage() for record in caplog.records if record.name == "yulink.log"]
    assert len(words) == 2
    assert "cannot be written" in words[0]
    assert "can be written again" in words[1]


async def test_closing_while_the_disk_is_full_ends_and_says_what_is_lost(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="waiting rows are lost"):
        async with open_log(tmp_path / "log.sqlite3", CLOCK) as log:
            await log.append([numbered(0, 1)])
            pages = (await (await log._writer._db.execute("PRAGMA page_count")).fetchone())[0]  # type: ignore[index]
            await log._writer._db.execute(f"PRAGMA max_page_count={pages}")
            for _ in range(40):
                await log.put(Batch.of(Lane.TEXT, range(1000), 0, [os.urandom(20).hex() for _ in range(1000)]))


async def test_a_corrupt_segment_is_set_aside_and_the_rest_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite3"
    async with open_log(path, CLOCK) as log:
        for start in range(0, 30, 10):
            await log.append([numbered(start, 10)])
    with sqlite3.connect(path) as db:
        db.execute("UPDATE body SET data = zeroblob(40) WHERE position = 2")
    db.close()
    async with open_log(path, CLOCK) as log:
        assert values(record for _, record in await log.read(0)) == [*range(10), *range(20, 30)]
        assert log.statistics().segments_corrupt_total == 1
        parcel = await log.outbox().next(1000)
        assert parcel is not None
        assert values(parcel.records) == [*range(10), *range(20, 30)]
        (gap,) = parcel.gaps
        assert (gap.rows, gap.ts_min, gap.ts_max, gap.reason) == (10, 10, 19, "corrupt segment")


async def test_many_corrupt_segments_in_a_row_are_not_mistaken_for_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("buffer.log.READ_SEGMENTS_MAX", 2)
    path = tmp_path / "log.sqlite3"
    async with open_log(path, CLOCK) as log:
        for start in range(0, 80, 10):
            await log.append([numbered(start, 10)])
    with sqlite3.connect(path) as db:
        db.execute("UPDATE body SET data = zeroblob(40) WHERE position BETWEEN 2 AND 6")
    db.close()
    async with open_log(path, CLOCK) as log:
        assert values(await everything(log)) == [*range(10), *range(60, 80)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("PRAGMA user_version=99", "later version"),
        ("PRAGMA application_id=7", "not a Yulink log"),
    ],
)
async def test_a_foreign_or_later_database_is_refused_and_untouched(tmp_path: Path, change: str, words: str) -> None:
    path = tmp_path / "log.sqlite3"
    async with open_log(path, CLOCK) as log:
        await log.append([numbered(0, 10)])
    with sqlite3.connect(path) as db:
        db.execute(change)
    db.close()
    with pytest.raises(LogError, match=words):
        async with open_log(path, CLOCK):
            pass
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT sum(rows) FROM segment").fetchone() == (10,)
    db.close()


async def test_a_second_process_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite3"
    program = (
        "import asyncio, sys; from pathlib import Path; from buffer.log import open_log;"
        "from edge.core.clock import SystemClock\n"
        "async def main():\n"
        "    async with open_log(Path(sys.argv[1]), SystemClock()): pass\n"
        "asyncio.run(main())"
    )
    async with open_log(path, CLOCK):
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=30
        )
    assert done.returncode != 0
    assert f"in use by process {os.getpid()}" in done.stderr


async def test_only_the_writer_may_checkpoint(tmp_path: Path) -> None:
    async with open_log(tmp_path / "log.sqlite3", CLOCK) as log:
        await log.append([numbered(0, 1000)])
        with pytest.raises(sqlite3.OperationalError, match=r"readonly|read-only"):
            await log._database.reader.execute("CREATE TABLE x (y)")
        with pytest.raises(sqlite3.OperationalError):
            await log._database.reader.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        async with log._writer._db.execute("PRAGMA synchronous") as cursor:
            assert await cursor.fetchone() == (2,)


@pytest.mark.parametrize("version", [1, 2])
async def test_a_file_of_an_old_format_opens_for_ever(tmp_path: Path, version: int) -> None:
    path = tmp_path / "log.sqlite3"
    path.write_bytes((Path(__file__).parent / "databases" / f"format-{version}.sqlite3").read_bytes())
    async with open_log(path, CLOCK) as log:
        tag = log.catalogue[1]
        assert (tag.device, tag.name, tag.kind, tag.unit) == ("plc-1", "count", ValueKind.INT64, "pcs")
        assert values(record for _, record in await log.read(0)) == list(range(25))
        first = await log.outbox().next(1000)
        assert first is not None
        assert (first.epoch, first.seq) == (1234567890123456, 2)
        assert values(first.records) == list(range(10, 20))
        rest = await log.outbox().next(1000)
        assert rest is not None
        assert (rest.epoch, rest.seq) == (log.outbox().epoch, 1)
        assert values(rest.records) == list(range(20, 25))


@pytest.mark.parametrize(("version", "data_class"), [(3, ""), (4, "telemetry"), (5, "telemetry"), (6, "telemetry")])
async def test_gaps_and_backlog_of_an_old_format_come_through(tmp_path: Path, version: int, data_class: str) -> None:
    path = tmp_path / "log.sqlite3"
    path.write_bytes((Path(__file__).parent / "databases" / f"format-{version}.sqlite3").read_bytes())
    async with open_log(path, CLOCK) as log:
        assert log.catalogue[1].path == "plc-1.count"
        assert log.statistics().rows_dropped_total == 10
        outbox = log.outbox()
        told = []
        while (parcel := await outbox.next(1000)) is not None:
            told.append((parcel.seq, parcel.priority.name, values(parcel.records), parcel.gaps))
        assert told == [
            (2, "LIVE", list(range(10)), ()),
            (3, "BACKLOG", list(range(10, 20)), ()),
            (1, "BACKLOG", list(range(30, 40)), (Gap(10, 20, 29, "log full", data_class),)),
            (2, "BACKLOG", list(range(40, 45)), ()),
        ]
        await outbox.committed(1234567890123456, 3)
        await outbox.committed(outbox.epoch, 2)
        assert outbox.backlog().rows == 0


async def test_committed_data_expires_by_age_and_uncommitted_never(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with open_log(tmp_path / "log.sqlite3", clock, keep_s=3600, commit_interval_s=0.001) as log:
        outbox = log.outbox()
        await log.append([numbered(0, 10)])
        parcel = await outbox.next(1000)
        assert parcel is not None
        await log.append([numbered(10, 10)])
        await clock.advance(7200)
        await log.prune()
        assert values(record for _, record in await log.read(0)) == list(range(20))
        await outbox.committed(parcel.epoch, parcel.seq)
        await log.prune()
        assert values(record for _, record in await log.read(0)) == list(range(10, 20))
        assert log.statistics().rows_dropped_total == 0


async def test_above_its_limit_the_log_drops_the_oldest_tells_the_gap_and_keeps_events(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_log(tmp_path / "log.sqlite3", CLOCK, bytes_max=400_000) as log:
        await log.append([event("alarm")])
        for start in range(0, 100_000, 1000):
            batch = Batch.of(Lane.TEXT, [1] * 100, start, [os.urandom(100).hex() for _ in range(100)])
            await log.append([batch])
        put = log.statistics().rows_put_total
        await log.prune()
        dropped = log.statistics().rows_dropped_total
        assert dropped > 0
        delivered, told = 0, 0
        outbox = log.outbox()
        assert outbox.backlog().rows == 10_001 - dropped
        while (parcel := await outbox.next(2000)) is not None:
            delivered += sum(len(record) for record in parcel.records)
            told += sum(gap.rows for gap in parcel.gaps)
            await outbox.committed(parcel.epoch, parcel.seq)
        assert put == 10_001
        assert delivered == 10_001 - dropped
        assert told == dropped
        assert outbox.backlog().rows == 0
    assert sum("rows were thinned out or dropped" in record.getMessage() for record in caplog.records) == 1


async def test_what_has_grown_old_is_backlog_and_holds_back_nothing_new(tmp_path: Path) -> None:
    clock = VirtualClock()
    path = tmp_path / "log.sqlite3"
    async with open_log(path, clock, commit_interval_s=0.001) as log:
        outbox = log.outbox()
        for start in range(0, 100, 10):
            await log.append([numbered(start, 10)])
        await log.append([event("lost")])
        await clock.advance(60)
        told = [await outbox.next(30) for _ in range(2)]  # the event, then the oldest of the backlog
        await log.append([numbered(100, 10), event("back")])
        assert outbox.backlog().historical_rows == 100
        told += [await outbox.next(30) for _ in range(3)]
        assert [(parcel.priority.name, parcel.historical, values(parcel.records)) for parcel in told if parcel] == [
            ("EVENT", False, []),
            ("BACKLOG", True, list(range(30))),
            ("EVENT", False, []),
            ("LIVE", False, list(range(100, 110))),
            ("BACKLOG", True, list(range(30, 60))),
        ]
        assert [parcel.seq for parcel in told if parcel] == [1, 2, 3, 4, 5]
        await outbox.committed(outbox.epoch, 5)
        assert outbox.open_ranges(event=True) == [(14, 2**62)]
        assert outbox.open_ranges(event=False) == [(14, 2**62), (7, 11)]
    async with open_log(path, clock, commit_interval_s=0.001) as log:
        outbox = log.outbox()
        assert outbox.backlog().rows == outbox.backlog().historical_rows == 40
        assert outbox.ready(Priority.BACKLOG)
        assert not outbox.ready(Priority.EVENT)
        rest = [await outbox.next(1000) for _ in range(2)]
        assert rest[0] is not None
        assert values(rest[0].records) == list(range(60, 100))
        assert rest[1] is None
        await outbox.committed(outbox.epoch, 1)
        assert outbox.open_ranges(event=False) == [(log.statistics().position + 1, 2**62)]
