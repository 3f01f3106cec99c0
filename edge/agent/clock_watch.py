"""Notices when the wall clock is set: readings around such a moment deserve distrust, so it becomes an event."""

import ctypes
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from edge.core.batch import Event, Record, Severity
from edge.core.clock import Clock
from edge.core.language import say

CHECK_S = 1.0
STEP_MIN_S = 0.5

_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
_TIMEX_BYTES = 512

log = logging.getLogger("yulink.clock")


@dataclass(slots=True)
class ClockHealth:
    """What was seen of the clock since the start: how often it was set, and by how much the last time."""

    steps: int = 0
    last_step_s: float = 0.0


def is_synchronised() -> bool | None:
    """Return what the kernel says of its clock: whether NTP, or another, keeps it; None where it does not say."""
    try:
        answer = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    return None if answer < 0 else answer != _TIME_ERROR


async def watch(clock: Clock, put: Callable[[Record], Awaitable[None]], health: ClockHealth | None = None) -> None:
    """Compare wall with monotonic time every second until cancelled, counting in `health`.

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
            if health is not None:
                health.steps += 1
                health.last_step_s = step_s
            message = f"the clock was set by {step_s:+.1f} s"
            await put(Event(clock.now(), "gateway", "clock_step", Severity.HIGH, message, {"step_s": step_s}))
