"""Many sensors of one machine together: principal components, T² and squared prediction error, with contributions."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge.analytics.condition.statistics.independence import across_halves
from edge.analytics.condition.statistics.quantiles import f_quantile, normal_quantile

F64 = NDArray[np.float64]

CONFIDENCE = 0.99
EXPLAINED = 0.9
SCALE_MIN = 1e-12


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
    mean = rows.mean(axis=0)
    return _fit(mean, rows - mean, components, confidence)


def fit_across(rows: F64, confidence: float) -> Model:
    """Learn a model as `fit`, but of how far each half of the rows lies from the mean of the other half.

    Rows of a process depend on each other and wander, so their scatter about their own mean promises too much. What
    one half did against the other is what may be expected of the time that comes: for independent rows that is the
    same, for others the spread grows by what they wandered. The limits grow as well, as far as the farthest row that
    was learned is farther out than that of so many Gaussian rows.

    Args:
        rows: (n, d) f64 in time order, n > 2d; no NaN.
        confidence: share of rows below each limit, were they Gaussian.
    """
    across = across_halves(rows)
    model = _fit(rows.mean(axis=0), across, None, confidence)
    t2, spe = statistics(replace(model, mean=np.zeros_like(model.mean)), across)
    usual = _limits(len(rows), model.variances, model.kept, 1 - 1 / len(rows))
    t2_factor, spe_factor = (
        max(1.0, float(found.max()) / limit) if limit > 0 else 1.0
        for found, limit in zip((t2, spe), usual, strict=True)
    )
    return replace(model, t2_limit=model.t2_limit * t2_factor, spe_limit=model.spe_limit * spe_factor)


def _fit(mean: F64, deviations: F64, components: int | None, confidence: float) -> Model:
    n, d = deviations.shape
    scale = np.sqrt((deviations**2).sum(axis=0) / (n - 1))
    scale = np.where(scale > SCALE_MIN * np.maximum(np.abs(mean), 1.0), scale, 1.0)
    z = deviations / scale
    values, vectors = np.linalg.eigh(z.T @ z / (n - 1))
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    if components is None:
        components = int(np.searchsorted(np.cumsum(values) / max(values.sum(), 1e-300), EXPLAINED)) + 1
    k = max(1, min(components, d, int((values > 1e-9).sum())))
    return Model(mean, scale, np.ascontiguousarray(vectors), values.copy(), k, *_limits(n, values, k, confidence))


def _limits(n: int, variances: F64, k: int, confidence: float) -> tuple[float, float]:
    t2 = k * (n * n - 1) / (n * (n - k)) * f_quantile(confidence, k, n - k)
    return t2, _spe_limit(variances[k:], confidence)


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
