"""Readings that come at different times made rows of one time, a step apart, and their means over a few steps."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

AVERAGED = 6
"""Steps that a judged row is the mean of, without the lowest and the highest of each value: one outlier is no fault.
Rows share no step, so three of them in a row are three witnesses."""


class Steps:
    """The values of the present step. A step's value is the mean of what came in it; else the last one that came, while
    it is not older than `max_age_ns`; NaN where the last one was bad."""

    def __init__(self, count: int, max_age_ns: int) -> None:
        self._max_age_ns = max_age_ns
        self._last = [math.nan] * count
        self._at = [0] * count
        self._sums = [0.0] * count
        self._counts = [0] * count

    def take(self, slot: int, at: int, value: float) -> None:
        """Take a reading; NaN for one that is bad."""
        self._last[slot], self._at[slot] = value, at
        if not math.isnan(value):
            self._sums[slot] += value
            self._counts[slot] += 1

    def close(self, end: int) -> F64:
        """End the step and return its row."""
        row = np.empty(len(self._last))
        for slot, last in enumerate(self._last):
            if self._counts[slot]:
                row[slot] = self._sums[slot] / self._counts[slot]
            else:
                row[slot] = last if end - self._at[slot] <= self._max_age_ns else math.nan
            self._sums[slot], self._counts[slot] = 0.0, 0
        return row

    def shift(self, by: int) -> None:
        """Move the times of the readings: the clock was set."""
        self._at = [at + by for at in self._at]

    def state(self) -> list[Any]:
        """Return it as CBOR types."""
        return [self._last, self._at, self._sums, self._counts]

    def restore(self, state: Sequence[Any]) -> None:
        """Take up what `state` told."""
        self._last, self._at, self._sums, self._counts = (list(column) for column in state)


class Block:
    """The steps that the next row is made of, without a break between them."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._steps: list[F64] = []

    def clear(self) -> None:
        """Begin anew: the machine stood, or does something else."""
        self._steps = []

    def take(self, step: F64) -> F64 | None:
        """Take a step; return the trimmed mean of a whole block, (d,) f64, None until it is whole."""
        self._steps.append(step)
        if len(self._steps) < AVERAGED:
            return None
        ordered = np.sort(np.stack(self._steps), axis=0)
        self._steps = []
        mean: F64 = ordered[1:-1].mean(axis=0)
        # NaN is sorted last: one would be cut off as if it were the highest.
        mean[np.isnan(ordered[-1])] = math.nan
        return mean

    def state(self) -> bytes:
        """Return it as a CBOR type."""
        return b"".join(step.tobytes() for step in self._steps)

    def restore(self, state: bytes) -> None:
        """Take up what `state` told."""
        self._steps = list(np.frombuffer(state).reshape(-1, self._width).copy())
