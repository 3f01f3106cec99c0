"""What comes before any judgement: does the machine run, and has a value been beyond its limit for long enough."""

import math
from dataclasses import dataclass, field
from typing import Any

STOP_SHARE = 0.9
CONFIRM = 3
"""Readings in a row that take an alarm in, and out again, as monitors in the field do."""


@dataclass(slots=True)
class Gate:
    """The operating state: stopped, starting, running. Only while it runs anything is learned or alarmed.

    limit    it runs while its value is above; None: while its value is true
    hold_ns  how long it starts
    """

    limit: float | None
    hold_ns: int
    since: int | None = field(default=None, init=False)

    def feed(self, at: int, value: float) -> None:
        """Take the value that tells it; NaN, e.g. of a bad reading, is a standstill: what is unknown is not judged."""
        if math.isnan(value):
            self.since = None
            return
        limit = 0.5 if self.limit is None else self.limit
        stays = self.since is not None and value >= STOP_SHARE * limit and self.limit is not None
        if value > limit or stays:
            self.since = at if self.since is None else self.since
        else:
            self.since = None

    def is_settled(self, at: int) -> bool:
        """Tell whether it runs, and no longer only starts."""
        return self.since is not None and at - self.since >= self.hold_ns


@dataclass(slots=True)
class Confirmed:
    """A yes or no that changes only after `CONFIRM` readings in a row say so."""

    is_on: bool = False
    against: int = 0

    def feed(self, beyond: bool) -> bool:
        """Take one reading; return whether the state changed with it."""
        self.against = self.against + 1 if beyond is not self.is_on else 0
        if self.against < CONFIRM:
            return False
        self.is_on, self.against = not self.is_on, 0
        return True

    def state(self) -> list[Any]:
        """Return it as plain values."""
        return [self.is_on, self.against]


@dataclass(slots=True)
class ConfirmedZone:
    """A zone that changes only after `CONFIRM` readings in a row lie beyond it; then to the mildest of those, or,
    on the way down, to the most severe."""

    zone: str = ""
    recent: list[str] = field(default_factory=list)

    def feed(self, zone: str) -> bool:
        """Take one reading's zone; return whether the confirmed one changed."""
        if not zone:
            return False
        self.recent = [*self.recent, zone][-CONFIRM:]
        if not self.zone:
            self.zone = zone if len(self.recent) == CONFIRM and len(set(self.recent)) == 1 else ""
            if not self.zone and len(self.recent) == CONFIRM:
                self.zone = min(self.recent)
            return bool(self.zone)
        if len(self.recent) < CONFIRM:
            return False
        before = self.zone
        if min(self.recent) > self.zone:
            self.zone = min(self.recent)
        elif max(self.recent) < self.zone:
            self.zone = max(self.recent)
        return self.zone != before
