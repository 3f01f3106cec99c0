"""The log's own time, by which ages are judged: an operator or NTP may set the wall clock by hours either way."""

from edge.core.clock import Clock


class LogTime:
    """Nanoseconds since about 1970 UTC that never go back and follow no step of the wall clock while the log is open.

    Opening takes the wall clock, or the latest time on file when that is later: the hours in between then do not count.
    """

    def __init__(self, clock: Clock, latest: int) -> None:
        self._clock = clock
        self._offset = max(clock.now(), latest) - round(clock.monotonic() * 1e9)

    def now(self) -> int:
        """Return the log's time."""
        return self._offset + round(self._clock.monotonic() * 1e9)
