"""Demand (需量): the mean power of a window, fixed or sliding, and what it will be when the window closes."""

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Flags = NDArray[np.bool_]

MINUTES_OF_HOUR = 60


def block_demand(minutes: F64, known: Flags, window: int) -> tuple[F64, Flags]:
    """Return the mean power of each whole window, and whether all its minutes are known (区间式).

    Args:
        minutes: (n,) f64, energy of each minute in kWh; the first begins a window.
        known: (n,) bool, whether a minute was measured. A missing minute counts nothing and marks the window.
        window: minutes of a window.
    """
    windows = len(minutes) // window
    whole = np.where(known, minutes, 0.0)[: windows * window].reshape(windows, window)
    complete: Flags = np.all(known[: windows * window].reshape(windows, window), axis=1)
    return whole.sum(1) * (MINUTES_OF_HOUR / window), complete


def sliding_demand(minutes: F64, known: Flags, window: int, slip: int = 1) -> tuple[F64, Flags]:
    """Return the mean power of the window that ends with every `slip`-th minute, and whether it is complete (滑差式).

    Args:
        minutes, known, window: as for `block_demand`.
        slip: minutes from one window's end to the next one's.
    """
    if len(minutes) < window:
        return np.empty(0), np.empty(0, np.bool_)
    total = np.concatenate([[0.0], np.cumsum(np.where(known, minutes, 0.0))])
    missing = np.concatenate([[0], np.cumsum(~known)])
    ends = np.arange(window, len(minutes) + 1, slip)
    power = (total[ends] - total[ends - window]) * (MINUTES_OF_HOUR / window)
    return power, missing[ends] == missing[ends - window]


def forecast(energy: float, elapsed: float, recent_power: float, window: float) -> float:
    """Return what the demand will be when the window closes, if the recent power goes on.

    Args:
        energy: kWh since the window began.
        elapsed: minutes since then, at most `window`.
        recent_power: kW of late.
        window: minutes.
    """
    return (energy * MINUTES_OF_HOUR + recent_power * (window - elapsed)) / window


def needed_reduction(energy: float, elapsed: float, recent_power: float, window: float, limit: float) -> float:
    """Return by how many kW the power must fall now so that the window closes at `limit` kW; 0 if it does anyway.

    Infinity if the window is lost already.
    """
    left = window - elapsed
    allowed = (limit * window - energy * MINUTES_OF_HOUR) / left if left > 0 else -np.inf
    if energy * MINUTES_OF_HOUR > limit * window:
        return float("inf")
    return max(recent_power - allowed, 0.0)
