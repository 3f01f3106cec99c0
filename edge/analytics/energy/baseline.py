"""Energy baseline (能源基准, GB/T 36713 = ISO 50006): energy as a line over what drives it, and savings against it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


class NoModel(ValueError):
    """There is no line through these data; the message says why."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """energy = intercept + Σ slope · driver, as it was in the baseline period.

    r2       share of the variance that the drivers explain
    cv_rmse  standard error in percent of the mean energy, with n - p degrees of freedom
    periods  how many periods made it
    """

    drivers: tuple[str, ...]
    intercept: float
    slopes: tuple[float, ...]
    r2: float
    cv_rmse: float
    periods: int

    def expected(self, drivers: F64) -> F64:
        """Return the energy that the baseline period would have used: (n, drivers) → (n,)."""
        line: F64 = self.intercept + drivers @ np.array(self.slopes)
        return line

    def savings(self, drivers: F64, energy: F64) -> tuple[F64, F64]:
        """Return what each period saved against the baseline, and the running sum (CUSUM): both (n,)."""
        saved = self.expected(drivers) - energy
        return saved, np.cumsum(saved)

    def accepted(self, r2_least: float = 0.75, cv_most: float = 20.0) -> bool:
        """Whether it is good enough to judge by. The limits are common practice, not a rule of the standard."""
        return self.r2 >= r2_least and self.cv_rmse <= cv_most


def fit(names: Sequence[str], drivers: F64, energy: F64) -> Baseline:
    """Return the least-squares line of a baseline period.

    Args:
        names: of the drivers, e.g. parts made, heating degree days.
        drivers: (n, k) f64.
        energy: (n,) f64, in any unit.

    Raises:
        NoModel: too few periods, a driver that never changes or follows from others, or energy that never changes.
    """
    n, k = drivers.shape
    if n < k + 2:
        raise NoModel(f"{n} periods are too few for {k} drivers: at least {k + 2}")
    for place, name in enumerate(names):
        if np.ptp(drivers[:, place]) <= 1e-12 * max(1.0, float(np.abs(drivers[:, place]).max())):
            raise NoModel(f"{name} never changes: nothing can be told from it")
    centred = drivers - drivers.mean(0)
    scaled = centred / centred.std(0)
    solution, _, rank, _ = np.linalg.lstsq(scaled, energy - energy.mean(), rcond=1e-10)
    if rank < k:
        raise NoModel(f"the drivers {', '.join(names)} follow from each other: leave one out")
    slopes = solution / centred.std(0)
    residual = energy - energy.mean() - centred @ slopes
    spread = float(((energy - energy.mean()) ** 2).sum())
    if spread <= 0:
        raise NoModel("the energy never changes: there is nothing to explain")
    error = float((residual**2).sum())
    mean = float(energy.mean())
    return Baseline(
        tuple(names),
        float(mean - drivers.mean(0) @ slopes),
        tuple(float(slope) for slope in slopes),
        1 - error / spread,
        100 * float(np.sqrt(error / (n - k - 1))) / abs(mean) if mean else float("inf"),
        n,
    )
