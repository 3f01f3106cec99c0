"""Parts from a counter: what it gained, over roll-overs, resets, and dips that come back."""

from typing import Any


class Counter:
    """Counts what a counter gains from reading to reading.

    A counter that falls either rolled over, where it is known at which number it does, or was reset: then what it shows
    is what it counted since. When it leaps back to where it had been, the fall was none: what it added is taken back.
    """

    def __init__(self, modulus: float = 0.0) -> None:
        self._modulus = modulus
        self._last: float | None = None
        self._fall: tuple[float, float] | None = None

    def take(self, value: float) -> float:
        """Return how many parts a reading adds; negative where it takes back what a dip had added."""
        last, self._last = self._last, value
        if last is None:
            return 0.0
        step = value - last
        if step < 0:
            return self._fallen(last, value)
        if self._fall is None or value < self._fall[0]:
            return step
        (before, low), self._fall = self._fall, None
        leapt = step >= 2 and step > last - low and step > value - before
        return value - before - last if leapt else step

    def _fallen(self, last: float, value: float) -> float:
        if self._modulus and last - value > self._modulus / 2:
            return value + self._modulus - last
        self._fall = last, value
        return value

    def state(self) -> list[Any]:
        """Return everything as CBOR types."""
        return [self._last, list(self._fall) if self._fall else None]

    def restore(self, state: list[Any]) -> None:
        """Take up the state of the same counter."""
        self._last, fall = state
        self._fall = (fall[0], fall[1]) if fall else None
