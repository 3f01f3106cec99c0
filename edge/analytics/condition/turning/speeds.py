"""The speed of a shaft over time, as far back as blocks of samples reach."""

from collections import deque
from collections.abc import Sequence
from typing import Any

KEPT_MAX = 1000


class Speeds:
    """Speeds in rpm that held from a time on; `start` is the one before any was read."""

    def __init__(self, start: float) -> None:
        self._kept: deque[tuple[int, float]] = deque([(0, start)], KEPT_MAX)

    def feed(self, at: int, rpm: float) -> None:
        """Take a speed; NaN for one that is not known."""
        self._kept.append((at, rpm))

    def within(self, begin: int, end: int) -> list[float]:
        """Return all speeds that held at some time between two; none where it lies too far back."""
        before = [rpm for at, rpm in self._kept if at <= begin][-1:]
        return [*before, *(rpm for at, rpm in self._kept if begin < at <= end)]

    def shift(self, by: int) -> None:
        """Move what is counted from a moment."""
        self._kept = deque(((at + by, rpm) for at, rpm in self._kept), KEPT_MAX)

    def state(self) -> list[Any]:
        """Return it as plain values."""
        return [[at, rpm] for at, rpm in self._kept]

    def restore(self, state: Sequence[Any]) -> None:
        """Take up what `state` told."""
        self._kept = deque(((at, rpm) for at, rpm in state), KEPT_MAX)
