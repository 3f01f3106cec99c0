"""How far values depend on their neighbours, and what spread of independent means may be expected of them.

Control charts promise their run lengths for values that do not depend on each other. Those of machines and processes
do, and they wander. So they are charted as means over as many as depend on each other, and the spread of these is what
one half of the learning did about the mean of the other half: for values that do not wander that is the same.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.analytics.condition.statistics.quantiles import normal_quantile

F64 = NDArray[np.float64]

GUARD = 0.9
"""Confidence that limits made from few values are wide enough. Source: guaranteed in-control performance, Albers &
Kallenberg, Statistics 38 (2004) 67."""

CORRELATED_MIN = 0.1


@dataclass(frozen=True, slots=True)
class Independent:
    """What is expected of independent means.

    count  values that make one; 0 where there were too few
    mean   of all
    sigma  of the means, at the upper end of what it may be
    bias   what `mean` may be off, in sigma
    """

    count: int
    mean: float
    sigma: float
    bias: float


def independent(values: F64, means_min: int) -> Independent:
    """Return it for values in order of time, (n,) f64; `count` is 0 where fewer than `means_min` means are in them."""
    mean, count = float(values.mean()), dependence(values)
    means = len(values) // count
    if means < means_min:
        return Independent(0, mean, 1.0, 0.0)
    blocks = values[: means * count].reshape(means, count).mean(axis=1)
    across = across_halves(blocks[:, None])[:, 0]
    sigma = math.sqrt(float(across @ across) / _chi2_low(means - 1))
    return Independent(count, mean, sigma, normal_quantile(GUARD) / math.sqrt(means))


def across_halves(rows: F64) -> F64:
    """Return how far each of (n, d) f64 rows in order of time lies from the mean of the half it is not in."""
    half = len(rows) // 2
    first, second = rows[:half], rows[half:]
    return np.concatenate([first - second.mean(axis=0), second - first.mean(axis=0)])


def dependence(values: F64) -> int:
    """Return over how many values a mean is taken so that means hardly depend on each other, at least 1.

    It is twice the integrated autocorrelation time, summed up to the first autocorrelation below 0.1; 1 where that of
    neighbours is no more than chance makes.
    """
    centred = values - values.mean()
    power = float(centred @ centred)
    if power <= 0:
        return 1
    total, noise = 1.0, max(CORRELATED_MIN, 2 / math.sqrt(len(values)))
    for lag in range(1, len(values) // 2):
        correlation = float(centred[lag:] @ centred[:-lag]) / power
        if correlation < (noise if lag == 1 else CORRELATED_MIN):
            break
        total += 2 * correlation
    return 1 if total == 1.0 else math.ceil(2 * total)


def _chi2_low(freedom: int) -> float:
    """Return the low quantile of chi-squared, by Wilson & Hilferty's cube."""
    part = 2 / (9 * freedom)
    return float(freedom * (1 - part - normal_quantile(GUARD) * math.sqrt(part)) ** 3)
