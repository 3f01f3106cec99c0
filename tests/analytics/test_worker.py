"""The worker under the core: fed from the log, killed at any instant, poisoned, replaced; each outcome comes once."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from edge.agent import analytics as feeding
from edge.core.batch import Event
from tests.analytics.poison import CRASHES, GROWS, RAISES
from tests.analytics.stage import COMPILED, POISON, T0, TOTALS, S, finish, of_plan, staged

SET_ASIDE = "analytics_set_aside"


def set_aside(events: list[Event]) -> list[Event]:
    return [event for event in events if event.kind == SET_ASIDE]


async def test_derived_rows_are_in_the_log_with_their_tag(tmp_path: Path) -> None:
    plan = {**TOTALS, "wait_s": 30.0}  # longer than any machine takes: the row at 60 s waits for the next run
    async with staged(tmp_path, plan) as stage:
        await stage.log.append([stage.counts((0, 1), (1, 2)), stage.counts((60, 4))])
        await finish(stage)
        rows, events = await stage.records()
        assert rows == [("press.total", T0, 1, 0), ("press.total", T0 + S, 3, 0)]
        assert [event.ts for event in events] == [T0 + 11 * S]
        tag = stage.log.catalogue.find("press", "total")
        assert tag is not None
        assert tag.unit == "pcs"
        (line,) = await stage.log.ledger(0, 2**40)
        assert (line.due, line.read, line.stored, line.broken()) == (5, 5, 5, [])
    # The next run goes on from the state: what waited for its time comes now.
    async with staged(tmp_path, plan) as stage:
        await stage.log.append([stage.counts((120, 8))])
        await finish(stage)
        rows, _ = await stage.records()
        assert [value for _, _, value, _ in rows] == [1, 3, 7]


async def test_what_waits_for_a_time_comes_though_nothing_is_read(tmp_path: Path) -> None:
    async with staged(tmp_path, {**TOTALS, "wait_s": 0.1}) as stage:
        await stage.log.append([stage.counts((0, 1))])

        async def told() -> bool:
            rows, _ = await stage.records()
            return len(rows) == 1

        await stage.until(told)


PLAN = of_plan(
    {"press.mean": "avg(press.count, 10min)", "press.n": "count(press.count, 5min) + press.mean"},
    {"high": {"when": "press.count > 40", "for_ns": 30 * S}, "odd": {"when": "press.count % 2 == 1", "latch": True}},
)

CHILD = """
import asyncio, os, random, signal, sys
from pathlib import Path
from tests.analytics.stage import staged
from tests.analytics.test_worker import PLAN

async def main():
    chance = random.Random(int(sys.argv[2]))
    async with staged(Path(sys.argv[1]), PLAN) as stage:
        print("ready", flush=True)
        n = stage.log.statistics().position * 1000
        async def kill():
            while True:
                await asyncio.sleep(chance.uniform(0, 0.6))
                if stage.analytics.health.pid:
                    os.kill(stage.analytics.health.pid, signal.SIGKILL)
        killing = asyncio.create_task(kill())
        while True:
            n += 1
            # The log's own rows say how far it is: a minute of event time for each, whatever the clock says.
            await stage.log.append([stage.counts((60 * n, n * 37 % 50))])
            await asyncio.sleep(0.01)

asyncio.run(main())
"""


@pytest.mark.timeout(120)
async def test_killing_worker_and_core_at_any_instant_changes_no_derived_value_and_no_alarm(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    for round_ in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), str(seed + round_)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0.3, 1.5))  # the instant of death is the random input of this test
        child.send_signal(signal.SIGKILL)
        child.stdout.close()
        child.wait(10)
    async with staged(tmp_path, PLAN) as stage:
        await stage.until(lambda: stage.analytics.health.state == "running")
        await finish(stage)
        rows, events = await stage.records()
        expected = await stage.expected(PLAN)
        wanted = [(path, reading.ts, reading.value, reading.quality) for path, reading in expected.readings]
        # What event time has not reached yet comes with the next reading.
        assert rows == wanted[: len(rows)]
        assert len(wanted) - len(rows) <= 2
        alarms = [event for event in events if event.kind.startswith("alarm_")]
        assert alarms == expected.events[: len(alarms)]
        assert len(expected.events) - len(alarms) <= 3
        assert len(rows) > 50
        assert Counter(event.kind for event in events)[SET_ASIDE] == 0


async def test_rows_that_kill_are_found_set_aside_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeding, "BACKOFF_FIRST_S", 0.01)
    async with staged(tmp_path, POISON) as stage:
        batches = [stage.counts(*((60 * n + m, 1) for m in range(3))) for n in range(4)]
        batches.insert(2, stage.counts((121.2, 10), (121.4, CRASHES), (121.6, 20), (121.7, RAISES)))
        for batch in batches:
            await stage.log.append([batch])
        await stage.log.append([stage.counts((600, 1))])
        await stage.until(lambda: stage.analytics.health.rows_set_aside_total == 2)
        await finish(stage)
        rows, events = await stage.records()
        assert [value for _, _, value, _ in rows][:14] == [1, 2, 3, 4, 5, 6, 7, 8, 18, 38, 39, 40, 41, 42]
        assert sum(int(event.facts["rows"] or 0) for event in set_aside(events)) == 2
        assert set_aside(events)[0].facts["tags"] == "press.count"


async def test_rows_that_only_kill_together_go_as_a_whole_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeding, "BACKOFF_FIRST_S", 0.01)
    async with staged(tmp_path, POISON) as stage:
        await stage.log.append([stage.counts((0, 111), (0.5, 111)), stage.counts((60, 5)), stage.counts((120, 0))])
        await stage.log.append([stage.counts((180, 0))])
        await stage.until(lambda: stage.analytics.health.rows_set_aside_total > 0)
        await stage.log.append([stage.counts((240, 7)), stage.counts((300, 0))])
        await finish(stage)
        rows, events = await stage.records()
        assert rows[-1][2] == 7
        assert len(set_aside(events)) == 1


async def test_a_worker_that_grows_is_ended_and_what_made_it_grow_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeding, "BACKOFF_FIRST_S", 0.01)
    monkeypatch.setattr("edge.agent.worker_link.LOOK_S", 0.05)
    async with staged(tmp_path, POISON) as stage:
        await stage.log.append([stage.counts((0, 1))])
        await stage.log.append([stage.counts((60, GROWS))])
        await stage.log.append([stage.counts((120, 2))])
        await stage.log.append([stage.counts((180, 0))])
        await stage.until(lambda: stage.analytics.health.rows_set_aside_total > 0)
        await finish(stage)
        rows, events = await stage.records()
        assert [value for _, _, value, _ in rows][:2] == [1, 3]
        assert "memory" in str(set_aside(events)[0].facts["reason"])
        assert stage.analytics.health.rss_mb_max < 180


async def test_a_state_that_cannot_be_used_is_told_and_analytics_begin_anew(tmp_path: Path) -> None:
    async with staged(tmp_path, TOTALS) as stage:
        await stage.log.append([stage.counts((0, 1)), stage.counts((60, 2))])
        await finish(stage)
        follower = stage.log.followers["analytics"]
        assert follower.state
        await follower.commit(follower.position, follower.state[:-3] + b"???", [])
    async with staged(tmp_path, TOTALS) as stage:
        await stage.log.append([stage.counts((120, 5)), stage.counts((180, 0))])
        await finish(stage)
        rows, events = await stage.records()
        assert rows[-1][2] == 5
        assert [event.kind for event in events if event.kind.startswith("analytics")] == ["analytics_state_lost"]


async def test_a_worker_that_cannot_begin_costs_no_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeding, "BACKOFF_FIRST_S", 0.01)
    async with staged(tmp_path, TOTALS) as stage:
        await stage.log.append([stage.counts((0, 1)), stage.counts((60, 2))])
        await finish(stage)
        state = stage.log.followers["analytics"].state
    broken = {**TOTALS, "parts": [{"kind": "no.such.module", "settings": {}}]}
    async with staged(tmp_path, broken) as stage:
        await stage.until(lambda: stage.analytics.health.restarts_total > 4)
        _, events = await stage.records()
        assert [event.kind for event in events if event.kind.startswith("analytics")] == ["analytics_failing"]
        assert stage.log.followers["analytics"].state == state


async def test_a_changed_plan_is_taken_up_while_running(tmp_path: Path) -> None:
    async with staged(tmp_path, PLAN) as stage:
        await stage.log.append([stage.counts((0, 10)), stage.counts((60, 41))])
        await stage.until(lambda: stage.analytics.health.state == "running")
        stage.analytics.change(of_plan({"press.double": "press.count + press.count"}, {}))
        await stage.until(lambda: stage.analytics.health.derived_tags == ["press.double"])
        await stage.log.append([stage.counts((120, 8)), stage.counts((180, 0))])
        await finish(stage)
        rows, _ = await stage.records()
        assert ("press.double", T0 + 120 * S, 16.0, 0) in rows


@pytest.mark.parametrize("writable", [True, False])
async def test_compiled_code_is_kept_in_the_data_directory_and_where_it_cannot_be_nothing_stops(
    tmp_path: Path, writable: bool
) -> None:
    kernels = tmp_path / "kernels"
    if not writable:
        kernels.write_text("a file where the folder should be")
    seen: list[dict[Path, int]] = []
    for start in range(2 if writable else 1):
        async with staged(tmp_path, COMPILED) as stage:
            await stage.log.append([stage.counts((60 * start, 3)), stage.counts((60 * start + 30, 0))])
            await finish(stage)
            rows, _ = await stage.records()
            assert rows[0][2] == 9.0
            assert stage.analytics.health.restarts_total == 0
        if writable:
            seen.append({file: file.stat().st_mtime_ns for file in kernels.rglob("*.nb?")})
            assert seen[0]
            assert seen[-1] == seen[0]


async def test_the_worker_of_a_core_that_is_gone_ends(tmp_path: Path) -> None:
    async with staged(tmp_path, TOTALS) as stage:
        await stage.until(lambda: stage.analytics.health.pid is not None)
        pid = stage.analytics.health.pid
        assert pid is not None
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_core_and_a_worker_of_expressions_do_without_numba() -> None:
    for module in ("edge.agent.run", "edge.analytics.worker, edge.analytics.derived, edge.analytics.alarms"):
        program = f"import sys, {module}; print(*sorted({{'numba', 'scipy', 'llvmlite'}} & sys.modules.keys()))"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == ""
