"""A log with analytics at work on it, and what should have come of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from buffer.log import Log, open_log
from edge.agent.analytics import FOLLOWER, Analytics
from edge.analytics import registry
from edge.analytics.pipeline import Outcome
from edge.core.batch import Batch, Event
from edge.core.catalogue import ValueKind
from edge.core.clock import SystemClock

S = 10**9
T0 = 1_767_225_600 * S
TOTALS = {"wait_s": 1.0, "memory_mb": 180.0, "parts": [{"kind": "tests.analytics.operators", "settings": {}}]}
COMPILED = {**TOTALS, "parts": [{"kind": "tests.analytics.compiled", "settings": {}}]}
POISON = {**TOTALS, "parts": [{"kind": "tests.analytics.poison", "settings": {}}]}


def of_plan(derived: dict[str, str], alarms: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A plan of expressions, and of alarms that keep their defaults."""
    tags = {name: {"of": of, "kind": "float64", "unit": "", "class": "telemetry"} for name, of in derived.items()}
    rest = {"for_ns": 0, "clear_for_ns": 30 * S, "deadband": 0.0, "latch": False, "severity": "high", "message": ""}
    settings = {"alarms": {name: rest | each for name, each in alarms.items()}, "flood_limit": 10, "flood_ns": 600 * S}
    parts = [{"kind": "derived", "settings": tags}, {"kind": "alarms", "settings": settings}]
    return {"wait_s": 1.0, "memory_mb": 180.0, "parts": parts}


class Stage:
    """An open log and a running `Analytics`."""

    def __init__(self, log: Log, analytics: Analytics) -> None:
        self.log = log
        self.analytics = analytics
        self.count = log.catalogue.intern("press", "count", ValueKind.INT64, "pcs")

    def counts(self, *rows: tuple[float, int]) -> Batch:
        """Rows of `press.count`: second and value."""
        at = [T0 + round(second * S) for second, _ in rows]
        return Batch.of(self.count.kind.lane, [self.count.id] * len(rows), at, [value for _, value in rows])

    async def until(self, condition: Callable[[], bool | Awaitable[bool]]) -> None:
        """Wait for something to become true."""
        async with asyncio.timeout(30):
            while True:
                found = condition()
                if found if isinstance(found, bool) else await found:
                    return
                await asyncio.sleep(0.01)

    async def records(self) -> tuple[list[tuple[str, int, Any, int]], list[Event]]:
        """All derived rows of the log in order, and the events."""
        rows: list[tuple[str, int, Any, int]] = []
        events: list[Event] = []
        position = 0
        derived = set(self.analytics.health.derived_tags)
        while found := await self.log.read(position):
            position = found[-1][0]
            for _, record in found:
                if isinstance(record, Event):
                    events.append(record)
                elif isinstance(record, Batch):
                    for tag, ts, value, quality in zip(
                        record.tag.tolist(), record.ts.tolist(), record.value.tolist(), record.quality.tolist(),
                        strict=True,
                    ):  # fmt: skip
                        if (path := self.log.catalogue[tag].path) in derived:
                            rows.append((path, ts, value, quality))
        return rows, events

    async def expected(self, plan: dict[str, Any]) -> Outcome:
        """What an undisturbed pipeline makes of the very log, and of two quiet seconds behind it."""
        line, outcome = registry.build(plan), Outcome()
        line.learn(self.log.catalogue)
        follower, position, last = self.log.followers[FOLLOWER], 0, 0
        while found := await follower.read(position):
            position = found[-1].position
            for stored, group in groupby(found, attrgetter("stored")):
                batches = [each.record for each in group if isinstance(each.record, Batch)]
                if batches:
                    outcome.add(line.take(batches, stored))
                    last = stored
        outcome.add(line.pass_time(last + 2 * S))
        return outcome


@asynccontextmanager
async def staged(folder: Path, plan: dict[str, Any]) -> AsyncIterator[Stage]:
    """Run analytics on a log in `folder` until the block ends."""
    clock = SystemClock()
    async with open_log(folder / "log.sqlite3", clock, followers=[FOLLOWER], commit_interval_s=0.005) as log:
        analytics = Analytics(
            plan, log.followers[FOLLOWER], log.catalogue, clock, folder / "kernels", lambda tags: None,
            lambda event: None,
        )  # fmt: skip
        running = asyncio.create_task(analytics.run(), name="analytics")
        try:
            yield Stage(log, analytics)
        finally:
            running.cancel()
            await asyncio.wait([running])


async def finish(stage: Stage) -> None:
    """Let analytics finish what is in the log."""
    stage.analytics.finish()
    tasks: Sequence[asyncio.Task[Any]] = [task for task in asyncio.all_tasks() if task.get_name() == "analytics"]
    async with asyncio.timeout(30):
        await asyncio.wait(tasks)
