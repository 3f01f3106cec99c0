"""What is normal for process values that belong together: learned from rows of a healthy machine, with honest limits.

Control charts promise their run lengths for values that do not depend on each other. Process values do. So values are
judged together by what one half of the learning did against the other (`multivariate.fit_across`), and each alone by
means over as many rows as its values depend on each other; where the learning has too few of those, it is not judged
alone.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.analytics.condition import multivariate as mv
from edge.analytics.condition.control import cusum_limit, ewma_limit
from edge.analytics.condition.gate import CONFIRM
from edge.analytics.condition.quantiles import normal_quantile

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

MEANS_MIN = 100
"""Independent means that a value is judged alone by; fewer say too little of its middle and spread. Source:
Quesenberry, J. Quality Technology 25 (1993) 237."""

GUARD = 0.9
"""Confidence that limits made from few values are wide enough. Source: guaranteed in-control performance, Albers &
Kallenberg, Statistics 38 (2004) 67."""

EWMA_WEIGHT = 0.1
CUSUM_SLACK = 0.5
CLIP = 4.0
"""Standard deviations that a single mean counts at most in EWMA and CUSUM: one jump is no drift."""

CORRELATED_MIN = 0.1


@dataclass(frozen=True, slots=True)
class ProcessModel:
    """What was learned.

    together    all values: T², SPE and their limits
    mean        (d,) f64, of each value
    sigma       (d,) f64, of the independent means of each value, at the upper end of what it may be
    rows        (d,) i64, how many rows such a mean is made of; 0: the value is not judged alone
    bias        standard errors of `mean` in sigma, that charts allow for
    ewma_limit, cusum_limit  in sigma, of EWMA (settled) and of CUSUM
    """

    together: mv.Model
    mean: F64
    sigma: F64
    rows: I64
    bias: float
    ewma_limit: float
    cusum_limit: float

    def state(self) -> dict[str, Any]:
        """Return it as CBOR types."""
        t = self.together
        return {
            "mean": t.mean.tobytes(), "scale": t.scale.tobytes(), "loadings": t.loadings.tobytes(),
            "variances": t.variances.tobytes(), "kept": t.kept, "limits": [t.t2_limit, t.spe_limit],
            "single": [self.mean.tobytes(), self.sigma.tobytes(), self.rows.tobytes()],
            "single limits": [self.bias, self.ewma_limit, self.cusum_limit],
        }  # fmt: skip

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "ProcessModel":
        """Return what `state` told."""
        mean, scale, loadings, variances = (
            np.frombuffer(state[name]).copy() for name in ("mean", "scale", "loadings", "variances")
        )
        together = mv.Model(mean, scale, loadings.reshape(len(mean), -1), variances, state["kept"], *state["limits"])
        middle, sigma, rows = state["single"]
        return cls(
            together, np.frombuffer(middle).copy(), np.frombuffer(sigma).copy(), np.frombuffer(rows, np.int64).copy(),
            *state["single limits"],
        )  # fmt: skip


def learn(rows: F64, run_length: float) -> ProcessModel:
    """Learn from rows of a healthy machine.

    Args:
        rows: (n, d) f64 in time order, n > 2d; no NaN. A row is what is judged at a time.
        run_length: rows between two false alarms, shared evenly among T², SPE, EWMA and CUSUM. Of T² and SPE an alarm
            takes three rows beyond the limit, so three times as many may be: at worst they come together.
    """
    n, d = rows.shape
    together = mv.fit_across(rows, 1 - CONFIRM / (4 * run_length))
    taken = np.zeros(d, np.int64)
    sigma = np.ones(d)
    for place in range(d):
        count = dependence(rows[:, place])
        means = n // count
        if means < MEANS_MIN:
            continue
        taken[place] = count
        blocks = rows[: means * count, place].reshape(means, count).mean(axis=1)
        half = means // 2
        across = np.concatenate([blocks[:half] - blocks[half:].mean(), blocks[half:] - blocks[:half].mean()])
        spread = math.sqrt(float((across**2).sum()) / _chi2_low(means - 1))
        sigma[place] = spread if spread > mv.SCALE_MIN * max(abs(float(rows[:, place].mean())), 1.0) else 1.0
    fewest = min((n // int(count) for count in taken if count), default=n)
    each = 4 * d * run_length
    bias = normal_quantile(GUARD) / math.sqrt(fewest)
    return ProcessModel(
        together, rows.mean(axis=0), sigma, taken, bias, ewma_limit(each), cusum_limit(CUSUM_SLACK, each)
    )


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
