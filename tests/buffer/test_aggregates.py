"""Figures of intervals in the log: corrected in place, kept for months, whatever becomes of the readings."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffer.aggregates import by_level, figures, merge, page_of, pages_max
from buffer.log import Log, open_log
from buffer.view import open_view
from edge.core.batch import Batch, Lane
from edge.core.catalogue import ValueKind
from edge.core.clock import SystemClock, VirtualClock
from edge.core.interval import Level
from tests.buffer.support import everything, numbered, values

F = ["analytics"]
CLOCK = SystemClock()
MINUTE = 60 * 10**9
T0 = 1_767_225_600 * 10**9
SECRET = "a secret of more than sixteen"


def figure(ts: int, value: float, revision: int = 0, tag: int = 1) -> Batch:
    return Batch.of(Lane.FLOAT, [tag], [ts], [value], 0, [revision])


async def put(log: Log, *batches: Batch, level: Level = Level.MINUTE) -> None:
    follower = log.followers["analytics"]
    await follower.commit(follower.position, b"state", [], [(level, batch) for batch in batches])


async def kept(path: Path, level: Level = Level.MINUTE, secret: str | None = None) -> list[tuple[int, float, int]]:
    """(minute, value, revision) of all figures of a level."""
    async with open_view(path, secret) as view:
        tags = {tag.id: tag for tag in view.catalogue}
        found = figures(view.fetch, view.vault, tags, level, 0, 2**62)
        return [((each.ts - T0) // MINUTE, each.value, each.revision) async for each in found]


async def log_with_minutes(path: Path, minutes: int, secret: str | None = None) -> list[tuple[int, float, int]]:
    async with open_log(path, CLOCK, followers=F, secret=secret, commit_interval_s=0.001) as log:
        log.catalogue.intern("incomer", "energy_1min", ValueKind.FLOAT64, "kWh")
        await log.append([numbered(n, 50) for n in range(0, 500, 50)])
        noise = np.random.default_rng(1).normal(size=(minutes, 20))
        for first in range(0, minutes, 20):
            span = range(first, min(first + 20, minutes))
            await put(log, *(Batch.of(Lane.FLOAT, np.arange(1, 21), T0 + n * MINUTE, noise[n]) for n in span))
    return [(n, float(noise[n, 0]), 0) for n in range(minutes)]


async def test_a_correction_takes_the_place_of_what_it_corrects_and_nothing_older_does(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite3"
    async with open_log(path, CLOCK, followers=F) as log:
        for name in ("energy_1min", "cost_1min"):
            log.catalogue.intern("incomer", name, ValueKind.FLOAT64, "kWh")
        await log.append([numbered(0, 1)])
        await put(log, figure(T0, 10.0), figure(T0 + MINUTE, 20.0), figure(T0, 3.0, tag=2))
        await put(log, figure(T0, 11.0, 2))
        await put(log, figure(T0, 99.0, 1), figure(T0 + MINUTE, 21.0))
        assert await kept(path) == [(0, 11.0, 2), (0, 3.0, 0), (1, 21.0, 0)], "read while the log is open"
        await log.prune()
        assert log.statistics().aggregate_bytes > 0
    assert await kept(path) == [(0, 11.0, 2), (0, 3.0, 0), (1, 21.0, 0)]
    assert await kept(path, Level.HOUR) == []


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3), st.floats(allow_nan=False)), min_size=1), st.data())
def test_merging_keeps_the_highest_revision_however_it_is_cut(
    rows: list[tuple[int, int, float]], data: st.DataObject
) -> None:
    best: dict[int, tuple[int, float]] = {}
    for tag, revision, value in rows:
        if tag not in best or revision >= best[tag][0]:
            best[tag] = revision, value
    place = data.draw(st.integers(0, len(rows)))
    parts = [
        Batch.of(Lane.FLOAT, [r[0] for r in part], 7, [r[2] for r in part], 0, [r[1] for r in part])
        for part in (rows[:place], rows[place:])
    ]
    found = merge(Batch.concat([merge(parts[0]), parts[1]]))
    told = zip(found.tag.tolist(), found.revisions().tolist(), found.value.tolist(), strict=True)
    assert {tag: (revision, value) for tag, revision, value in told} == best


def test_only_figures_are_picked_by_level() -> None:
    batch = Batch.of(Lane.FLOAT, [5, 80_000_000, 6], [0, 0, 0], [1.0, 2.0, 3.0])
    picked = by_level([batch], {5: Level.DAY, 80_000_000: Level.MINUTE})
    assert [(level, each.value.tolist()) for level, each in picked] == [(Level.MINUTE, [2.0]), (Level.DAY, [1.0])]
    assert by_level([batch], {}) == []


_COMMITTING = """
import asyncio, sys
from pathlib import Path
from buffer.log import open_log
from edge.core.batch import Batch, Lane
from edge.core.catalogue import ValueKind
from edge.core.clock import SystemClock
from edge.core.interval import Level

async def main():
    async with open_log(Path(sys.argv[1]), SystemClock(), followers=["analytics"], commit_interval_s=0.001) as log:
        tag = log.catalogue.intern("incomer", "energy_1min", ValueKind.FLOAT64, "kWh").id
        follower = log.followers["analytics"]
        n = int(follower.state or b"0")
        while True:
            n += 1
            batch = Batch.of(Lane.FLOAT, [tag], [int(sys.argv[2])], [float(n)], 0, [n])
            await follower.commit(0, str(n).encode(), [batch], [(Level.MINUTE, batch)])
            print(n, flush=True)

asyncio.run(main())
"""


async def test_killed_at_any_instant_figure_and_state_are_of_one_commit(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite3"
    for lines in (1, 40, 7):
        child = subprocess.Popen(
            [sys.executable, "-c", _COMMITTING, str(path), str(T0)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        told = [child.stdout.readline() for _ in range(lines)]
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        async with open_log(path, CLOCK, followers=F) as log:
            state = int(log.followers["analytics"].state or b"0")
        assert state >= int(told[-1])
        assert await kept(path) == [(0, float(state), state)]


async def test_the_limits_of_the_log_take_no_figure_and_figures_take_no_reading(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite3"
    expected = await log_with_minutes(path, 400)
    async with open_log(path, CLOCK, followers=F, consumers=(), bytes_max=1) as log:
        for n in range(5):
            await log.append([numbered(n, 1)])
        assert log.statistics().rows_dropped_total > 0
    assert [each for each in await kept(path) if each in expected] == expected
    assert path.stat().st_size > 100_000
    async with open_log(
        tmp_path / "new.sqlite3", CLOCK, followers=F, bytes_max=300_000, commit_interval_s=0.001
    ) as log:
        await log.append([numbered(0, 1000)])
        noise = np.random.default_rng(1).normal(size=2000)
        for n in range(40):  # 1 MB of figures beside a log of 0.3 MB
            await put(log, Batch.of(Lane.FLOAT, np.arange(2000), T0 + n * MINUTE, noise))
        await log.append([numbered(1000, 100)])
        assert values(await everything(log)) == list(range(1100))
        assert log.statistics().rows_dropped_total == 0


async def test_each_level_keeps_as_many_intervals_as_its_time_has(tmp_path: Path) -> None:
    path, clock = tmp_path / "log.sqlite3", VirtualClock()
    async with open_log(path, clock, followers=F, aggregates_s=600) as log:
        log.catalogue.intern("incomer", "energy", ValueKind.FLOAT64, "kWh")
        await log.append([numbered(0, 1)])
        await put(log, *(figure(T0 + n * MINUTE, n) for n in range(14)))
        await put(log, *(figure(T0 + n * MINUTE, n) for n in range(14)), level=Level.DAY)
        await put(log, figure(T0 + 10**6 * MINUTE, 1e6))  # a clock that jumped ahead
        await log.prune()
        assert [minute for minute, _, _ in await kept(path)] == [5, 6, 7, 8, 9, 10, 11, 12, 13, 10**6]
        assert len(await kept(path, Level.DAY)) == 14
        assert log.statistics().aggregates_forgotten_total == 5
    assert pages_max(Level.MINUTE, 200 * 86_400) == 200 * 1440
    assert pages_max(Level.DAY, 600) >= 3652


def damage(path: Path, table: str, pages: Sequence[int] | None = None) -> None:
    """Overwrite leaves of a table, or its root."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        ((root,),) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchall()
    content = path.read_bytes()
    leaves = [root]
    if pages is not None:
        count = int.from_bytes(content[4096 * (root - 1) + 3 : 4096 * (root - 1) + 5], "big")
        at = 4096 * (root - 1) + 12
        cells = [int.from_bytes(content[at + 2 * n : at + 2 * n + 2], "big") for n in range(count)]
        children = [int.from_bytes(content[4096 * (root - 1) + cell :][:4], "big") for cell in cells]
        leaves = [children[page] for page in pages]
    with path.open("r+b") as file:
        for leaf in leaves:
            file.seek(4096 * (leaf - 1))
            file.write(b"\xff" * 4096)


@pytest.mark.parametrize("secret", [None, SECRET])
@pytest.mark.parametrize(
    ("table", "pages", "lost_max"), [("segment", None, 0), ("aggregate", None, 0), ("aggregate", (3, 8), 40)]
)
async def test_figures_outlive_damage_of_the_file(
    tmp_path: Path, table: str, pages: Sequence[int] | None, lost_max: int, secret: str | None
) -> None:
    path = tmp_path / "log.sqlite3"
    expected = await log_with_minutes(path, 300, secret)
    damage(path, table, pages)
    async with open_log(path, CLOCK, followers=F, secret=secret, commit_interval_s=0.001) as log:
        await put(log, *(figure(T0 + n * MINUTE, 7.0, 1) for n in range(298, 301)))
        for first in range(0, 300, 50):  # which meets whatever is damaged
            await put(log, *(figure(T0 + n * MINUTE, 7.0, 1) for n in range(first, first + 50, 10)))
        assert log.statistics().damaged_total == 1
        await log.prune()
        assert log.statistics().aggregate_bytes > 0
    found = [each for each in await kept(path, secret=secret) if not each[2]]
    touched = {*range(298, 301), *range(0, 300, 10)}
    left = [each for each in expected if each[0] not in touched]
    assert len([each for each in left if each not in found]) <= lost_max


async def test_what_is_kept_is_sealed_and_its_key_stays_as_long(tmp_path: Path) -> None:
    path, clock = tmp_path / "log.sqlite3", VirtualClock()
    value = 1234.5678901
    for run in range(3):
        async with open_log(path, clock, consumers=(), followers=F, keep_s=60, secret=SECRET) as log:
            log.catalogue.intern("incomer", "energy", ValueKind.FLOAT64, "kWh")
            await log.append([numbered(run, 1)])
            follower = log.followers["analytics"]
            await follower.commit(log.statistics().position, b"")
            await put(log, figure(T0 + run * MINUTE, value))
            await clock.advance(3600)
            await log.prune()
    assert np.float64(value).tobytes() not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert await kept(path, secret=SECRET) == [(run, value, 0) for run in range(3)]


async def test_a_log_of_the_format_before_takes_figures_in(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite3"
    path.write_bytes((Path(__file__).parent / "databases" / "format-6.sqlite3").read_bytes())
    async with open_log(path, CLOCK, followers=F) as log:
        await put(log, figure(T0, 1.0))
    assert await kept(path) == [(0, 1.0, 0)]


def test_a_page_belongs_to_one_level_and_one_interval() -> None:
    pages = {page_of(level, T0 + n * MINUTE) for level in Level for n in range(3)}
    assert len(pages) == 3 * len(Level)
    assert min(pages) >= 2**40
