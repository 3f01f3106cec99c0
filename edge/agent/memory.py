"""Memory of this process: how much it is, and giving back what starting up has left free."""

import ctypes
import gc
import os
from pathlib import Path

from edge.core.clock import Clock

FIRST_AFTER_S = 3.0
EVERY_S = 600.0


def memory_mb() -> float:
    """Return this process's resident memory in megabytes (10⁶ bytes), 0 where /proc is not there."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def give_back_now_and_then(clock: Clock) -> None:
    """Return freed heap pages to the system until cancelled; glibc keeps those below its top. Elsewhere do nothing."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    pause = FIRST_AFTER_S
    while trim is not None:
        await clock.sleep(pause)
        gc.collect()
        trim(0)
        pause = EVERY_S
