"""What was acknowledged and is asked for again comes from the log; what the log no longer has is told as gone."""

from pathlib import Path

from buffer.log import open_log
from edge.core.catalogue import ValueKind
from edge.core.clock import VirtualClock
from edge.core.delivery import Outbox, Parcel
from tests.buffer.support import numbered, values

CLOCK = VirtualClock()


async def everything(outbox: Outbox) -> list[Parcel]:
    """All parcels that are ready, in the order of sending."""
    found = []
    while (parcel := await outbox.next(10)) is not None:
        found.append(parcel)
    return found


async def test_missing_ranges_of_this_and_an_older_epoch_come_again_as_they_were(tmp_path: Path) -> None:
    sent: dict[tuple[int, int], list[int]] = {}
    for run in range(2):
        async with open_log(tmp_path / "log.sqlite3", CLOCK) as log:
            log.catalogue.intern("plc-1", "count", ValueKind.INT64)
            for start in range(0, 30, 10):
                await log.append([numbered(100 * run + start, 10)])
            outbox = log.outbox()
            for parcel in await everything(outbox):
                sent[parcel.epoch, parcel.seq] = values(parcel.records)
            await outbox.committed(outbox.epoch, 3)
            assert outbox.backlog().rows == 0
            if not run:
                older = outbox.epoch
                continue
            await outbox.committed(older, 3, [(2, 3)])
            await outbox.committed(outbox.epoch, 3, [(1, 1)])
            again = {(parcel.epoch, parcel.seq): parcel for parcel in await everything(outbox)}
            assert set(again) == {(older, 2), (older, 3), (outbox.epoch, 1)}
            assert all(values(parcel.records) == sent[identity] for identity, parcel in again.items())
            assert all(parcel.historical and not parcel.gaps for parcel in again.values())
            await outbox.committed(older, 3)
            await outbox.committed(outbox.epoch, 3)
            assert outbox.backlog().rows == 0


async def test_a_range_that_is_gone_is_answered_once_with_a_gap(tmp_path: Path) -> None:
    async with open_log(tmp_path / "log.sqlite3", CLOCK) as log:
        outbox = log.outbox()
        assert await outbox.recall(77, 1, 40) == 0
        (told,) = await everything(outbox)
        assert (told.gone, told.records, told.gaps[0].reason) == (((77, 1, 40),), (), "no longer in the log")
        assert await outbox.recall(77, 1, 40) == 0
        assert await everything(outbox) == [], "the answer is on its way"
        await outbox.committed(told.epoch, told.seq)
        await outbox.recall(77, 1, 40)
        assert len(await everything(outbox)) == 1, "the brain did not take it in"


async def test_a_time_comes_again_and_what_is_older_than_the_log_is_told(tmp_path: Path) -> None:
    async with open_log(tmp_path / "log.sqlite3", CLOCK) as log:
        log.catalogue.intern("plc-1", "count", ValueKind.INT64)
        for start in range(0, 30, 10):
            await log.append([numbered(start, 10)])
        outbox = log.outbox()
        parcels = await everything(outbox)
        await outbox.committed(outbox.epoch, len(parcels))
        times = [int(ts) for record in parcels[1].records for ts in record.ts]  # type: ignore[union-attr]
        assert await outbox.replay(min(times), max(times)) == 0
        assert [values(parcel.records) for parcel in await everything(outbox)] == [list(range(10, 20))]
        await outbox.committed(outbox.epoch, len(parcels))
        assert await outbox.replay(-10, -1) == 0
        (told,) = await everything(outbox)
        assert (told.gaps[0].ts_min, told.gaps[0].ts_max, told.gone) == (-10, -1, ())
