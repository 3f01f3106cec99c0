"""A follower of the log: its outcome, position and state are one; what it has not read is held for it."""

import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from buffer.follower import Follower
from buffer.log import Log, open_log
from buffer.quality_days import TagDay, days, gaps, storing
from buffer.salvage import salvage
from buffer.vault import Vault
from edge.core.clock import SystemClock, VirtualClock
from tests.buffer.support import everything, numbered, values, waveform

F = ["analytics"]
SECRET = "a secret of more than sixteen"


async def read_all(follower: Follower, segments_max: int) -> list[list[int]]:
    """The positions of each portion, as a follower reads them."""
    portions, position = [], 0
    while found := await follower.read(position, segments_max):
        position = found[-1].position
        portions.append([each.position for each in found])
    return portions


async def fill(log: Log, transactions: int) -> None:
    """Store transactions of three segments each."""
    for n in range(transactions):
        for record in (numbered(n, 1), waveform(1, n), waveform(1, n)):
            await log.put(record)
        await log.flush()


async def test_a_new_one_begins_at_the_end_and_goes_on_where_it_was(tmp_path: Path) -> None:
    path, clock = tmp_path / "log.sqlite3", SystemClock()
    async with open_log(path, clock) as log:
        await log.append([numbered(0, 3)])
    async with open_log(path, clock, followers=F) as log:
        follower = log.followers["analytics"]
        assert (follower.position, follower.state) == (1, b"")
        await log.append([numbered(3, 2)])
        (found,) = await follower.read(follower.position)
        await follower.commit(found.position, b"state", [numbered(100, 1, tag=2)])
        assert values(await everything(log)) == [0, 1, 2, 3, 4, 100]
    async with open_log(path, clock, followers=F) as log:
        follower = log.followers["analytics"]
        assert (follower.position, follower.state) == (2, b"state")


async def test_what_one_transaction_stored_is_read_together(tmp_path: Path) -> None:
    async with open_log(tmp_path / "log.sqlite3", SystemClock(), followers=F, commit_interval_s=0.01) as log:
        await fill(log, 4)
        follower = log.followers["analytics"]
        stored = {each.position: each.stored for each in await follower.read(0)}
        for segments_max in range(1, 14):
            portions = await read_all(follower, segments_max)
            assert [position for portion in portions for position in portion] == list(range(1, 13))
            for before, after in pairwise(portions):
                assert stored[before[-1]] != stored[after[0]]
                assert len(before) <= max(segments_max, 3)


async def test_what_is_not_read_yet_outlives_its_time(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with open_log(tmp_path / "log.sqlite3", clock, consumers=(), followers=F, keep_s=60) as log:
        await log.append([numbered(0, 2)])
        await log.append([numbered(2, 2)])
        follower = log.followers["analytics"]
        await follower.commit(1, b"1")
        await clock.advance(3600)
        await log.prune()
        assert values(await everything(log)) == [2, 3]
        await follower.commit(2, b"2")
        await log.prune()
        assert values(await everything(log)) == []


async def test_a_limit_may_take_what_a_follower_has_not_read(tmp_path: Path) -> None:
    async with open_log(tmp_path / "log.sqlite3", SystemClock(), consumers=(), followers=F, bytes_max=1) as log:
        for n in range(5):
            await log.append([numbered(n, 1)])
        assert log.statistics().rows_dropped_total > 0
        assert values(await everything(log))[-1] == 4


async def test_a_state_is_sealed_where_the_log_is(tmp_path: Path) -> None:
    path, clock = tmp_path / "log.sqlite3", SystemClock()
    async with open_log(path, clock, followers=F, secret=SECRET) as log:
        await log.followers["analytics"].commit(0, b"how much the press made")
    assert not any(b"the press made" in file.read_bytes() for file in tmp_path.iterdir())
    async with open_log(path, clock, followers=F, secret=SECRET) as log:
        assert log.followers["analytics"].state == b"how much the press made"


@pytest.mark.parametrize("secret", [None, SECRET])
async def test_position_and_state_outlive_damage_of_the_file(tmp_path: Path, secret: str | None) -> None:
    path, clock = tmp_path / "log.sqlite3", SystemClock()
    async with open_log(path, clock, followers=F, secret=secret) as log:
        await log.append([numbered(n, 50) for n in range(0, 2000, 50)])
        await log.followers["analytics"].commit(1, b"the state")
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        ((root,),) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'segment'").fetchall()
    with path.open("r+b") as file:
        file.seek(4096 * (root - 1))
        file.write(b"\xff" * 4096)
    async with open_log(path, clock, followers=F, secret=secret) as log:
        await everything(log)
        follower = log.followers["analytics"]
        assert (follower.position, follower.state) == (1, b"the state")
        await log.append([numbered(5000, 1)])
        assert log.statistics().position > 1


@pytest.mark.parametrize("version", [5, 6])
async def test_an_older_log_gains_the_tables_of_data_quality_and_a_damaged_one_keeps_their_rows(
    tmp_path: Path, version: int
) -> None:
    path = tmp_path / "log.sqlite3"
    path.write_bytes((Path(__file__).parent / "databases" / f"format-{version}.sqlite3").read_bytes())
    async with open_log(path, SystemClock(), followers=["quality"], commit_interval_s=0.001) as log:
        follower = log.followers["quality"]
        await follower.commit(follower.position, b"", more=storing([(9, 1, *range(10))], {1: 7}, [(3, 4, 1, True)]))
        kept = TagDay(9, 1, tuple(map(float, range(10))), 7)
        assert await days(follower.fetch, 0, 9) == [kept]
    salvage(path, Vault(None))
    async with open_log(path, SystemClock(), followers=["quality"]) as log:
        assert await days(log.followers["quality"].fetch, 0, 9) == [kept]
        assert await gaps(log.followers["quality"].fetch, 0, 9) == [(3, 4, 1, True)]


async def test_the_last_400_days_with_counts_are_kept(tmp_path: Path) -> None:
    async with open_log(tmp_path / "log.sqlite3", SystemClock(), followers=["quality"], commit_interval_s=0.001) as log:
        follower = log.followers["quality"]
        rows = [(day, 1, *range(10)) for day in range(20_000, 20_410)]
        ends = [(day * 86_400 * 10**9, day * 86_400 * 10**9 + 1, 1, True) for day in range(20_000, 20_410)]
        await follower.commit(follower.position, b"", more=storing(rows, {}, ends))
        await log.prune()
        assert [row.day for row in await days(follower.fetch, 0, 2**40)] == list(range(20_010, 20_410))
        assert len(await gaps(follower.fetch, 0, 2**62)) == 401  # a day may begin before midnight UTC
