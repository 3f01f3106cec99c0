"""What tests of several parts share."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], object], deadline_s: float = 10) -> None:
    """Return as soon as the condition holds; fail with TimeoutError when it does not in time."""
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0.005)
