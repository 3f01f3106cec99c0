"""What the next quarter hour will take: the median of what followed on similar moments of the weeks before.

A moment is its last four quarter hours, on a logarithmic scale, and the time of the day. The method of analogues needs
no training, learns a new shift plan within days, and gives the median, which no single peak can move.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

QUARTERS_OF_DAY = 96
WEEKS = 8
HISTORY = WEEKS * 7 * QUARTERS_OF_DAY
NEIGHBOURS = 24
LEAST = 2 * QUARTERS_OF_DAY
"""Two days are the least to find something similar in."""

_LAG_WEIGHTS = (1.0, 0.6, 0.4, 0.3)
_TIME_WEIGHT = 2.0


class LoadForecast:
    """The forecast for one meter. Frozen weights: nothing is tuned to a plant."""

    def __init__(self) -> None:
        self._values = np.empty(0, np.float32)
        self._slots = np.empty(0, np.int16)

    def push(self, slot: int, value: float) -> None:
        """Take the energy of the quarter hour that just ended; `slot` is its place in the day, 0 to 95."""
        self._values = np.append(self._values, np.float32(value))[-HISTORY:]
        self._slots = np.append(self._slots, np.int16(slot))[-HISTORY:]

    def next(self) -> float | None:
        """Return what is expected of the next quarter hour; None as long as too little is known."""
        if len(self._values) < LEAST:
            return None
        moments = self._moments()
        distance = ((moments[:-1] - moments[-1]) ** 2).sum(1)
        nearest = np.argpartition(distance, NEIGHBOURS)[:NEIGHBOURS]
        # Row i is the moment that ends with value i + 3; what followed is value i + 4.
        return float(np.median(self._values[nearest + len(_LAG_WEIGHTS)]))

    def _moments(self) -> NDArray[np.float64]:
        """Return a row for each quarter hour that has three before it."""
        log = np.log1p(np.maximum(self._values.astype(np.float64), 0.0))
        lags = len(_LAG_WEIGHTS)
        columns = [weight * log[lags - 1 - lag : len(log) - lag] for lag, weight in enumerate(_LAG_WEIGHTS)]
        angle = 2 * np.pi * self._slots[lags - 1 :].astype(np.float64) / QUARTERS_OF_DAY
        return np.stack([*columns, _TIME_WEIGHT * np.cos(angle), _TIME_WEIGHT * np.sin(angle)], axis=1)

    def state(self) -> list[Any]:
        """Return everything as CBOR types."""
        return [self._values.tobytes(), self._slots.tobytes()]

    def restore(self, state: list[Any]) -> None:
        """Take a state up."""
        values, slots = state
        self._values, self._slots = np.frombuffer(values, np.float32), np.frombuffer(slots, np.int16)
