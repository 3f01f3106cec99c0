"""Keeps the ledger going while nothing is read, and tells of each hour when it is over."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from buffer.log import Log
from edge.core.batch import Event
from edge.core.clock import Clock
from edge.core.ledger import HOUR_NS, Line

EVERY_S = 10.0
BEFORE_HOUR_S = 0.3
"""So long before an hour ends everything is counted once more: more than a commit takes, or it falls into the next."""


async def keep(
    log: Log,
    clock: Clock,
    tellers: Callable[[], Iterable[Callable[[], Awaitable[None]]]],
    statement: Callable[[Line, int], Event],
) -> None:
    """Let each of the `tellers` put its tally, every ten seconds and just before each hour ends, until cancelled.

    What is to be told of hours that have ended is put into the log as statements.
    """
    while True:
        await clock.sleep(_wait_s(clock.now()))
        for tell in list(tellers()):
            await tell()
        now = clock.now()
        # All in one transaction, as the writer takes what waits for it.
        await asyncio.gather(*(log.tell(statement(line, now), [line]) for line in await log.untold(now)))


def _wait_s(now: int) -> float:
    left_s = (HOUR_NS - now % HOUR_NS) / 1e9 - BEFORE_HOUR_S
    return min(EVERY_S, left_s if left_s > 0.01 else EVERY_S)
