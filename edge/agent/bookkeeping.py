"""Keeps the ledger going while nothing is read: what devices owe is counted, and stored before each hour ends."""

from collections.abc import Awaitable, Callable, Iterable

from edge.core.clock import Clock
from edge.core.ledger import HOUR_NS

EVERY_S = 10.0
BEFORE_HOUR_S = 0.3
"""So long before an hour ends everything is counted once more: more than a commit takes, or it falls into the next."""


async def keep(clock: Clock, tellers: Callable[[], Iterable[Callable[[], Awaitable[None]]]]) -> None:
    """Let each of the `tellers` put its tally, every ten seconds and just before each hour ends, until cancelled."""
    while True:
        await clock.sleep(_wait_s(clock.now()))
        for tell in list(tellers()):
            await tell()


def _wait_s(now: int) -> float:
    left_s = (HOUR_NS - now % HOUR_NS) / 1e9 - BEFORE_HOUR_S
    return min(EVERY_S, left_s if left_s > 0.01 else EVERY_S)
