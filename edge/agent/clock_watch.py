"""Notices when the wall clock is set: readings around such a moment deserve distrust, so it becomes an event."""

import logging
from collections.abc import Awaitable, Callable

from edge.core.batch import Event, Record, Severity
from edge.core.clock import Clock
from edge.core.language import say

CHECK_S = 1.0
STEP_MIN_S = 0.5

log = logging.getLogger("yulink.clock")


async def watch(clock: Clock, put: Callable[[Record], Awaitable[None]]) -> None:
    """Compare wall with monotonic time every second until cancelled.

    A difference of half a second or more within one check is a step: slewing by NTP stays far below.
    """
    expected = clock.now() - clock.monotonic() * 1e9
    while True:
        await clock.sleep(CHECK_S)
        offset = clock.now() - clock.monotonic() * 1e9
        step_s = (offset - expected) / 1e9
        expected = offset
        if abs(step_s) >= STEP_MIN_S:
            log.warning(say("the clock was set by {seconds:+.1f} s", seconds=step_s))
            message = f"the clock was set by {step_s:+.1f} s"
            await put(Event(clock.now(), "gateway", "clock_step", Severity.HIGH, message, {"step_s": step_s}))
