"""How long an uplink waits before it connects again."""

import random

from edge.core.clock import Clock

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 30.0
_LEAST_S = 0.05


class Backoff:
    """Pauses that grow with each failure, with full jitter: a thousand gateways do not come back in one moment."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._jitter = random.Random()
        self._failures = 0

    async def pause(self, *, progressed: bool) -> None:
        """Wait after an attempt. One that came to work ends the row of failures."""
        self._failures = 0 if progressed else self._failures + 1
        ceiling = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(self._failures, 10))
        await self._clock.sleep(self._jitter.uniform(_LEAST_S, ceiling))
