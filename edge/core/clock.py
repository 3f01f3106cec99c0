"""Time, wall and monotonic, as an object that tests can replace. Schedules use the monotonic one only."""

import asyncio
import heapq
import itertools
import time
from datetime import datetime, timedelta
from typing import Protocol

_EPOCH = datetime(1970, 1, 1)


def iso8601(ts: int) -> str:
    """Return nanoseconds since 1970 UTC as ISO 8601 with microseconds; any int64 will do."""
    return (_EPOCH + timedelta(microseconds=ts // 1000)).isoformat(timespec="microseconds") + "Z"


class Clock(Protocol):
    """What the program asks about time. Safe to share between tasks of one loop."""

    def now(self) -> int:
        """Return wall time in nanoseconds since 1970 UTC. It may jump either way."""

    def monotonic(self) -> float:
        """Return seconds that never go back, from an arbitrary start."""

    async def sleep(self, seconds: float) -> None:
        """Wait. Cancelling it is safe and leaves nothing behind."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class VirtualClock:
    """A clock that moves only when a test says so: `await clock.advance(60)` runs a minute at once."""

    def __init__(self, now: int = 1_767_225_600_000_000_000) -> None:
        self._wall_offset = now
        self._elapsed = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> int:
        return self._wall_offset + round(self._elapsed * 1e9)

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        wake = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._order), wake))
        await wake

    async def advance(self, seconds: float) -> None:
        """Move on, waking each sleeper at its own time and letting it run before the next."""
        end = self._elapsed + seconds
        await _let_run()
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, wake = heapq.heappop(self._sleepers)
            self._elapsed = max(self._elapsed, due)
            if not wake.done():
                wake.set_result(None)
            await _let_run()
        self._elapsed = end

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an operator or NTP does; monotonic time stays."""
        self._wall_offset += round(seconds * 1e9)


async def _let_run(turns: int = 20) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
