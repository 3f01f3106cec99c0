"""What one device owes, and how long it answered: counted between one tally and the next."""

from collections.abc import Mapping

from edge.core.clock import Clock
from edge.core.ledger import Plan, Tally

HOUR_S = 3600.0
"""The interval of a device that reports by itself: it owes a reading a tag and hour."""


class Tallying:
    """Keeps a device's tally until it is taken away, to be stored.

    `schedule` tells how many readings are owed at each interval in seconds, device lost or not.
    """

    def __init__(self, device: str, schedule: Mapping[float, int], clock: Clock) -> None:
        self._device = device
        self._clock = clock
        self._plan = Plan(list(schedule.items()), clock.monotonic())
        self._watched_s = clock.monotonic()
        self.tally = Tally(device)

    def watch(self, *, connected: bool) -> None:
        """Count the time since the last call, in which the device answered or did not; and what it owed."""
        now = self._clock.monotonic()
        milliseconds = round((now - self._watched_s) * 1e3)
        self._watched_s += milliseconds / 1e3
        self.tally.watched_ms += milliseconds
        self.tally.connected_ms += milliseconds if connected else 0
        self.tally.due += self._plan.due(now)

    def take(self, *, connected: bool) -> Tally:
        """Return what was counted since the last time."""
        self.watch(connected=connected)
        taken, self.tally = self.tally, Tally(self._device)
        return taken
