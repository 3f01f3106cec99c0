"""What the log does at its limits: in which order things go, and that every row is delivered or told."""

import logging
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite
import numpy as np
import pytest

from buffer.log import Log, open_log
from buffer.retention import Dropped
from buffer.room import HARD_STOP
from edge.core.batch import Batch, Event, Lane, Record, Severity
from edge.core.catalogue import ValueKind
from edge.core.clock import VirtualClock
from edge.core.data_class import DataClass
from edge.core.delivery import Gap
from tests.buffer.support import event, numbered

MINUTE = 60 * 10**9
TRANSACTION_MAX = 300_000  # bytes of the largest transaction of these tests, with its pages


@asynccontextmanager
async def small_log(folder: Path, clock: VirtualClock | None = None, **limits: Any) -> AsyncIterator[Log]:
    settings = {"bytes_max": 1_000_000, "commit_interval_s": 0.0001} | limits
    async with open_log(folder / "log.sqlite3", clock or VirtualClock(), **settings) as log:
        yield log


def tag_of(log: Log, data_class: DataClass) -> int:
    """A tag of that class."""
    log.classes.tell(data_class.word, {"t": data_class})
    return log.catalogue.intern(data_class.word, "t", ValueKind.TEXT).id


def noise(tag: int, rows: int = 100, ts: int = 0) -> Batch:
    """About 200 bytes a row that nothing can compress, on the disk."""
    return Batch.of(Lane.TEXT, np.full(rows, tag), ts, [os.urandom(200).hex() for _ in range(rows)])


async def delivered(log: Log) -> tuple[list[Record], list[Gap]]:
    """Everything that is still to come, as the brain gets it."""
    records: list[Record] = []
    gaps: list[Gap] = []
    outbox = log.outbox()
    while (parcel := await outbox.next(5000)) is not None:
        records += parcel.records
        gaps += parcel.gaps
        await outbox.committed(parcel.epoch, parcel.seq)
    return records, gaps


def by_tag(records: list[Record]) -> Counter[int]:
    return Counter(tag for record in records if isinstance(record, Batch) for tag in record.tag.tolist())


async def test_a_burst_passes_the_limit_by_no_more_than_a_transaction(tmp_path: Path) -> None:
    async with small_log(tmp_path) as log:
        used = 0
        for _ in range(60):
            await log.append([noise(1, 500)])
            used = max(used, await used_now(log))
        assert log.statistics().rows_dropped_total > 0
        assert used <= 1_000_000 + TRANSACTION_MAX
        assert (tmp_path / "log.sqlite3").stat().st_size <= 1_000_000 + TRANSACTION_MAX


async def used_now(log: Log) -> int:
    """Bytes of pages with content."""
    db = log._writer._db
    (pages,) = (await (await db.execute("PRAGMA page_count")).fetchone()) or (0,)
    (free,) = (await (await db.execute("PRAGMA freelist_count")).fetchone()) or (0,)
    return int((pages - free) * 4096)


async def test_the_least_dear_class_goes_first_and_each_drop_is_told_by_tag(tmp_path: Path) -> None:
    order = [DataClass.DIAGNOSTICS, DataClass.TELEMETRY, DataClass.PRODUCTION]
    kept = [DataClass.ENERGY, DataClass.AUDIT, DataClass.ALARM]
    async with small_log(tmp_path) as log:
        tags = {each: tag_of(log, each) for each in [*order, *kept]}
        gone: list[DataClass] = []

        async def note(db: aiosqlite.Connection, dropped: Dropped) -> None:
            assert set(dropped.tag.tolist()) == {tags[dropped.data_class]}
            assert len(dropped.ts) == len(dropped.tag)
            gone.extend([dropped.data_class] * len(dropped.tag))

        log.retention.on_dropped.append(note)
        await log.append([event("alarm")])
        for _ in range(5):
            for each in tags.values():
                await log.append([noise(each, 100)])
        for _ in range(40):
            await log.append([noise(tags[DataClass.PRODUCTION], 100)])
        records, gaps = await delivered(log)
        # Whole classes in order: nothing of a class went while something less dear was there.
        assert list(dict.fromkeys(gone)) == order
        assert gone == sorted(gone)
        left = by_tag(records)
        assert [left[tags[each]] for each in kept] == [500, 500, 500]
        assert left[tags[DataClass.DIAGNOSTICS]] == left[tags[DataClass.TELEMETRY]] == 0
        assert [record.message for record in records if isinstance(record, Event)] == ["alarm"]
        told = Counter[int]()
        for gap in gaps:
            assert gap.reason == "log full"
            assert sum(rows for _, rows in gap.tags) == gap.rows
            assert {tags[DataClass[gap.data_class.upper()]]} == {tag for tag, _ in gap.tags}
            told.update(dict(gap.tags))
        put = {tags[each]: 500 for each in tags} | {tags[DataClass.PRODUCTION]: 4500}
        assert told + left == Counter(put)
        assert log.statistics().rows_dropped_total == len(gone) == told.total()


async def test_protected_classes_go_only_at_the_hard_stop_and_events_last(tmp_path: Path) -> None:
    async with small_log(tmp_path) as log:
        energy, audit = tag_of(log, DataClass.ENERGY), tag_of(log, DataClass.AUDIT)
        await log.append([event("first")])
        await log.append([noise(audit, 100)])
        while await used_now(log) < 1_000_000:
            await log.append([noise(energy, 100)])
        assert log.statistics().rows_dropped_total == 0
        for _ in range(30):
            await log.append([noise(energy, 100)])
        assert await used_now(log) <= 1_000_000 * HARD_STOP + TRANSACTION_MAX
        records, gaps = await delivered(log)
        assert {gap.data_class for gap in gaps} == {"energy"}
        assert by_tag(records)[audit] == 100
        assert by_tag(records)[energy] + sum(gap.rows for gap in gaps) == log.statistics().rows_put_total - 101
        assert [record.message for record in records if isinstance(record, Event)] == ["first"]


async def test_when_events_alone_pass_the_hard_stop_the_oldest_go_and_are_told_too(tmp_path: Path) -> None:
    async with small_log(tmp_path, bytes_max=300_000) as log:
        for number in range(400):
            await log.append([Event(number, "gateway", "test", Severity.HIGH, f"{number} {os.urandom(1000).hex()}")])
        records, gaps = await delivered(log)
        kept = [record.ts for record in records if isinstance(record, Event)]
        assert kept == list(range(400 - len(kept), 400))
        assert {gap.data_class for gap in gaps} == {"event"}
        assert sum(gap.rows for gap in gaps) == 400 - len(kept) > 0
        assert (min(gap.ts_min for gap in gaps), max(gap.ts_max for gap in gaps)) == (0, 399 - len(kept))
        assert log.outbox().backlog().rows == 0


async def test_old_telemetry_is_thinned_before_anything_is_dropped(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with small_log(tmp_path, clock, bytes_max=600_000) as log:
        chance = np.random.default_rng(1)
        tags = [log.catalogue.intern("plc", f"t{n}", ValueKind.FLOAT64).id for n in range(5)]
        start = clock.now()
        written: dict[int, list[float]] = {tag: [] for tag in tags}
        seconds = 0
        while not log.statistics().rows_thinned_total:
            values = chance.normal(0, 1, (5, 20))
            for tag, row in zip(tags, values, strict=True):
                written[tag] += row.tolist()
            ts = start + (seconds + np.arange(20)) * 10**9
            seconds += 20
            await log.append([Batch.of(Lane.FLOAT, np.repeat(tags, 20), np.tile(ts, 5), values.ravel())])
            await clock.advance(20)
        assert log.statistics().rows_dropped_total == 0
        records, gaps = await delivered(log)
        left = by_tag(records)
        assert {gap.reason for gap in gaps} == {"thinned"}
        assert {gap.data_class for gap in gaps} == {"telemetry"}
        assert sum(gap.rows for gap in gaps) == log.statistics().rows_thinned_total
        for tag in tags:
            told = sum(dict(gap.tags).get(tag, 0) for gap in gaps)
            assert told + left[tag] == len(written[tag])
            found = {
                int(ts): value
                for record in records
                if isinstance(record, Batch)
                for each, ts, value in zip(record.tag, record.ts, record.value, strict=True)
                if each == tag
            }
            assert list(found) == sorted(found), "rows of one tag keep their order"
            before = gaps[0].ts_min // MINUTE + 1, gaps[0].ts_max // MINUTE
            for minute in range(*before):
                values_then = [
                    value for second, value in enumerate(written[tag]) if (start + second * 10**9) // MINUTE == minute
                ]
                kept = [value for ts, value in found.items() if ts // MINUTE == minute]
                assert (min(kept), max(kept)) == (min(values_then), max(values_then))
            newest = start + (seconds - 600) * 10**9
            assert [ts for ts in found if ts >= newest] == list(range(newest, start + seconds * 10**9, 10**9))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The free space of the disk, in bytes, as a list of one number."""
    free = [10**12]
    for module in ("room", "retention", "log"):
        monkeypatch.setattr(f"buffer.{module}.free_bytes", lambda path: free[0])
    return free


async def test_below_the_free_disk_guard_the_log_does_not_grow_and_keeps_what_it_has(
    tmp_path: Path, disk: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    path = tmp_path / "log.sqlite3"
    async with small_log(tmp_path, bytes_max=10**9, free_min=50_000_000) as log:
        for _ in range(20):
            await log.append([noise(1, 100)])
        await log._writer._db.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
        size = path.stat().st_size
        disk[0] = 40_000_000  # someone else fills the disk
        await log.prune()
        assert log.statistics().rows_dropped_total == 0, "what is there stays"
        for _ in range(40):
            await log.append([noise(1, 100)])
        await log._writer._db.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
        assert path.stat().st_size <= size + TRANSACTION_MAX
        assert log.statistics().rows_dropped_total > 0
        before = log.statistics().rows_dropped_total
        disk[0] = 10**12
        for _ in range(40):
            await log.append([noise(1, 100)])
        assert log.statistics().rows_dropped_total == before
        records, gaps = await delivered(log)
        assert by_tag(records)[1] + sum(gap.rows for gap in gaps) == 10_000
    assert sum("at its limit" in record.getMessage() for record in caplog.records) == 1


async def test_delivered_history_gives_way_before_anything_undelivered(tmp_path: Path) -> None:
    async with small_log(tmp_path) as log:
        outbox = log.outbox()
        for _ in range(60):
            await log.append([noise(1, 200)])
            parcel = await outbox.next(5000)
            assert parcel is not None
            await outbox.committed(parcel.epoch, parcel.seq)
        assert log.statistics().rows_dropped_total == 0
        assert await used_now(log) <= 1_000_000 + TRANSACTION_MAX


async def test_data_delivered_ahead_of_a_backlog_goes_before_the_backlog(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with small_log(tmp_path, clock) as log:
        outbox = log.outbox()
        await log.append([numbered(0, 1000)])
        await clock.advance(60)
        first = await outbox.next(10)  # the old is backlog now; ten rows of it are on their way
        assert first is not None
        for _ in range(30):
            await log.append([noise(2, 200)])
            live = await outbox.next(5000)
            assert live is not None
            assert not live.historical
            await outbox.committed(live.epoch, live.seq, [(first.seq, first.seq)])
        assert log.statistics().rows_dropped_total == log.statistics().rows_thinned_total == 0
        await outbox.again(first.epoch, [first.seq])
        records, gaps = await delivered(log)
        assert by_tag(records) == {1: 1000}
        assert not gaps


async def test_steps_of_the_wall_clock_change_neither_order_nor_age(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with small_log(tmp_path, clock, keep_s=3600) as log:
        outbox = log.outbox()
        await log.append([numbered(0, 10)])
        sent = await outbox.next(10)
        assert sent is not None
        await outbox.committed(sent.epoch, sent.seq)
        for step in (7 * 3600.0, -20 * 3600.0, 24 * 365 * 3600.0):
            clock.step_wall(step)
            await log.append([numbered(10, 10, ts=clock.now())])
            live = await outbox.next(10)
            assert live is not None
            assert not live.historical, "what came now is not backlog, whatever the clock says"
            await outbox.again(live.epoch, [live.seq])
            await outbox.next(10)
            await outbox.committed(live.epoch, live.seq)
            await log.prune()
            assert (await log.read(0))[0][0] == 1, "an hour has not passed"
        await clock.advance(3601)
        await log.prune()
        assert not await log.read(0)
        await log.append([numbered(20, 10)])
    clock.step_wall(-400 * 86400)  # and the machine starts with a clock that is far back
    async with small_log(tmp_path, clock, keep_s=3600) as log:
        outbox = log.outbox()
        await clock.advance(11)
        old = await outbox.next(10)
        assert old is not None
        assert old.historical, "eleven seconds more are counted on from the time on file"
        await outbox.committed(old.epoch, old.seq)
        await clock.advance(3600)
        await log.prune()
        assert not await log.read(0)


async def test_the_outage_that_finds_room_is_told_honestly_also_near_the_guard(tmp_path: Path, disk: list[int]) -> None:
    clock = VirtualClock()
    async with small_log(tmp_path, clock, bytes_max=8_000_000, free_min=50_000_000) as log:
        assert log.statistics().outage_s is None
        outbox = log.outbox()

        async def minute() -> None:
            await log.append([noise(1, 200)])
            await clock.advance(60)
            await log.prune()

        for _ in range(12):
            await minute()
            while (parcel := await outbox.next(5000)) is not None:
                await outbox.committed(parcel.epoch, parcel.seq)
        promised = log.statistics().outage_s
        assert promised is not None
        # The promise is kept: that long nothing is dropped, a little longer and it is.
        minutes = 0
        while not log.statistics().rows_dropped_total + log.statistics().rows_thinned_total:
            await minute()
            minutes += 1
        assert 0.95 < minutes * 60 / promised < 1.3, "rather too little than too much"
        while (parcel := await outbox.next(5000)) is not None:
            await outbox.committed(parcel.epoch, parcel.seq)
        calm = log.statistics().outage_s
        assert calm is not None
        disk[0] = 49_000_000
        await log.prune()
        full = log.statistics().outage_s
        assert full is not None
        assert full <= calm, "below the guard there is only what the file has already"
        for _ in range(10):
            await minute()
        shrinking = log.statistics().outage_s
        assert shrinking is not None
        assert shrinking < full - 400
