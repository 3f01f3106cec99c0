"""Many sensors of one machine together: principal components, T², squared prediction error, and one distance of all."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.analytics.condition.quantiles import f_quantile, normal_quantile

F64 = NDArray[np.float64]

CONFIDENCE = 0.99
EXPLAINED = 0.9
SCALE_MIN = 1e-12

AVERAGED = 6
"""Rows in the moving mean that `distance` is judged on."""

SHRINK = 0.3
"""How far correlations are drawn to none in `distance`: few rows in a row tell little of the small components."""

DISTANCE_FACTOR = 3.5
"""How many times the healthy distance is an alarm: a machine never repeats its first minutes exactly."""


@dataclass(frozen=True, slots=True)
class Model:
    """What a machine's sensors do together when it is well.

    mean, scale   (d,) f64, of each variable
    loadings      (d, d) f64, orthonormal columns, the largest component first
    variances     (d,) f64, of each component
    kept          how many components T² is made of; SPE is made of the others
    t2_limit, spe_limit  at the confidence it was made with
    """

    mean: F64
    scale: F64
    loadings: F64
    variances: F64
    kept: int
    t2_limit: float
    spe_limit: float


def fit(rows: F64, components: int | None = None, confidence: float = CONFIDENCE) -> Model:
    """Learn a model from rows of a healthy machine.

    Args:
        rows: (n, d) f64, n > d; no NaN.
        components: how many are kept; where it is not told, as many as explain 90 % of the variance.
        confidence: share of healthy rows that stay below each limit.

    Sources: T² limit k(n²-1)/(n(n-k))·F (Tracy, Young & Mason, J. Quality Technology 24 (1992) 88); SPE limit by
    Jackson & Mudholkar, Technometrics 21 (1979) 341.
    """
    n, d = rows.shape
    mean, scale = rows.mean(axis=0), rows.std(axis=0, ddof=1)
    scale = np.where(scale > SCALE_MIN * np.maximum(np.abs(mean), 1.0), scale, 1.0)
    values, vectors = np.linalg.eigh(np.cov((rows - mean) / scale, rowvar=False).reshape(d, d))
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    if components is None:
        components = int(np.searchsorted(np.cumsum(values) / max(values.sum(), 1e-300), EXPLAINED)) + 1
    k = max(1, min(components, d, int((values > 1e-9).sum())))
    t2_limit = k * (n * n - 1) / (n * (n - k)) * f_quantile(confidence, k, n - k)
    return Model(
        mean, scale, np.ascontiguousarray(vectors), values.copy(), k, t2_limit, _spe_limit(values[k:], confidence)
    )


def _spe_limit(left: F64, confidence: float) -> float:
    first, second, third = (float((left**power).sum()) for power in (1, 2, 3))
    if second <= 0:
        return 0.0
    h = 1 - 2 * first * third / (3 * second**2)
    h = h if h > 0 else 1e-6
    c = normal_quantile(confidence)
    return float(first * (c * np.sqrt(2 * second * h * h) / first + 1 + second * h * (h - 1) / first**2) ** (1 / h))


def statistics(model: Model, rows: F64) -> tuple[F64, F64]:
    """Return T² and SPE of each row: (n, d) f64 in, two arrays (n,) f64 out."""
    scores = (rows - model.mean) / model.scale @ model.loadings
    t2: F64 = (scores[:, : model.kept] ** 2 / model.variances[: model.kept]).sum(axis=1)
    spe: F64 = (scores[:, model.kept :] ** 2).sum(axis=1)
    return t2, spe


def contributions(model: Model, row: F64) -> tuple[F64, F64]:
    """Return what each variable adds to T² and SPE of a row, two arrays (d,) f64: each sums up to the statistic.

    Source: complete decomposition contributions, Alcala & Qin, J. Process Control 21 (2011) 322.
    """
    z = (row - model.mean) / model.scale
    kept, left = model.loadings[:, : model.kept], model.loadings[:, model.kept :]
    to_t2: F64 = z * (kept @ (z @ kept / model.variances[: model.kept]))
    to_spe: F64 = (left @ (z @ left)) ** 2
    return to_t2, to_spe


@dataclass(frozen=True, slots=True)
class Watch:
    """A model with the distance from it that is an alarm; rows are averaged before."""

    model: Model
    limit: float
    averaged: int = AVERAGED


def learn(rows: F64) -> Watch:
    """Learn what is healthy from (n, d) f64 rows in time order, n > AVERAGED + d; no NaN."""
    smooth = moving_mean(rows, AVERAGED)[AVERAGED - 1 :]
    model = fit(smooth)
    return Watch(model, DISTANCE_FACTOR * float(np.quantile(distance(model, smooth), CONFIDENCE)))


def alarms(watch: Watch, rows: F64) -> NDArray[np.bool_]:
    """Tell for each of (n, d) f64 rows in time order whether the machine is farther than its limit from healthy."""
    return distance(watch.model, moving_mean(rows, watch.averaged)) > watch.limit


def moving_mean(rows: F64, count: int) -> F64:
    """Return the mean of each row with the `count - 1` before it; the first rows have fewer."""
    sums = np.cumsum(rows, axis=0)
    means = sums.copy()
    means[count:] -= sums[:-count]
    means /= np.minimum(np.arange(1, len(rows) + 1), count)[:, None]
    return means


def distance(model: Model, rows: F64) -> F64:
    """Return the squared Mahalanobis distance of each row with correlations shrunk: (n, d) f64 in, (n,) f64 out.

    Source: shrinkage of the correlation matrix, Ledoit & Wolf, J. Multivariate Analysis 88 (2004) 365.
    """
    scores = (rows - model.mean) / model.scale @ model.loadings
    found: F64 = (scores**2 / ((1 - SHRINK) * model.variances + SHRINK)).sum(axis=1)
    return found


def distance_contributions(model: Model, row: F64) -> F64:
    """Return what each variable adds to the distance of a row, (d,) f64; the sum is the distance."""
    z = (row - model.mean) / model.scale
    found: F64 = z * (model.loadings @ (z @ model.loadings / ((1 - SHRINK) * model.variances + SHRINK)))
    return found
