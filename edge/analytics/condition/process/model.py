"""What is normal for process values that belong together: learned from rows of a healthy machine, with honest limits.

Control charts promise their run lengths for values that do not depend on each other. Process values do. So values are
judged together by what one half of the learning did against the other (`multivariate.fit_across`), and each alone by
means over as many rows as its values depend on each other; where the learning has too few of those, it is not judged
alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.analytics.condition.gate import CONFIRM
from edge.analytics.condition.statistics import multivariate as mv
from edge.analytics.condition.statistics.control import cusum_limit, ewma_limit
from edge.analytics.condition.statistics.independence import independent

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

MEANS_MIN = 100
"""Independent means that a value is judged alone by; fewer say too little of its middle and spread. Source:
Quesenberry, J. Quality Technology 25 (1993) 237."""

EWMA_WEIGHT = 0.1
CUSUM_SLACK = 0.5
CLIP = 4.0
"""Standard deviations that a single mean counts at most in EWMA and CUSUM: one jump is no drift."""


@dataclass(frozen=True, slots=True)
class Singles:
    """What is expected of each value alone.

    mean        (d,) f64, of each value
    sigma       (d,) f64, of the independent means of each value
    rows        (d,) i64, how many rows such a mean is made of; 0: the value is not judged alone
    bias        what `mean` may be off, in sigma, that charts allow for
    ewma_limit, cusum_limit  in sigma, of EWMA (settled) and of CUSUM
    """

    mean: F64
    sigma: F64
    rows: I64
    bias: float
    ewma_limit: float
    cusum_limit: float

    def state(self) -> list[Any]:
        """Return it as CBOR types."""
        arrays = [each.tobytes() for each in (self.mean, self.sigma, self.rows)]
        return [*arrays, self.bias, self.ewma_limit, self.cusum_limit]

    @classmethod
    def of(cls, state: Sequence[Any]) -> "Singles":
        """Return what `state` told."""
        mean, sigma, rows, *limits = state
        arrays = np.frombuffer(mean).copy(), np.frombuffer(sigma).copy(), np.frombuffer(rows, np.int64).copy()
        return cls(*arrays, *limits)


@dataclass(frozen=True, slots=True)
class ProcessModel:
    """What was learned of all values together, and of each alone."""

    together: mv.Model
    alone: Singles

    def state(self) -> dict[str, Any]:
        """Return it as CBOR types."""
        t = self.together
        return {
            "mean": t.mean.tobytes(), "scale": t.scale.tobytes(), "loadings": t.loadings.tobytes(),
            "variances": t.variances.tobytes(), "kept": t.kept, "limits": [t.t2_limit, t.spe_limit],
            "alone": self.alone.state(),
        }  # fmt: skip

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "ProcessModel":
        """Return what `state` told."""
        mean, scale, loadings, variances = (
            np.frombuffer(state[name]).copy() for name in ("mean", "scale", "loadings", "variances")
        )
        together = mv.Model(mean, scale, loadings.reshape(len(mean), -1), variances, state["kept"], *state["limits"])
        return cls(together, Singles.of(state["alone"]))


def learn(rows: F64, run_length: float) -> ProcessModel:
    """Learn from rows of a healthy machine.

    Args:
        rows: (n, d) f64 in time order, n > 2d; no NaN. A row is what is judged at a time.
        run_length: rows between two false alarms, shared evenly among T², SPE, EWMA and CUSUM. Of T² and SPE an alarm
            takes three rows beyond the limit, so three times as many may be: at worst they come together.
    """
    d = rows.shape[1]
    together = mv.fit_across(rows, 1 - CONFIRM / (4 * run_length))
    found = [independent(rows[:, place], MEANS_MIN) for place in range(d)]
    # A value that never moved has a spread of nothing: one beyond rounding.
    sigma = [each.sigma if each.sigma > mv.SCALE_MIN * max(abs(each.mean), 1.0) else 1.0 for each in found]
    taken = np.array([each.count for each in found], np.int64)
    bias = max(each.bias for each in found)
    between = 4 * d * run_length
    alone = Singles(
        rows.mean(axis=0), np.array(sigma), taken, bias, ewma_limit(between), cusum_limit(CUSUM_SLACK, between)
    )
    return ProcessModel(together, alone)
