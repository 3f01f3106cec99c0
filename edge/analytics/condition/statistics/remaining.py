"""Remaining life from a rising value: a Wiener process, of the value or of the logarithm of its rise, with an interval.

A prediction is made only after an alarm and towards a stated limit; before that there is nothing to extrapolate.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist

CONFIDENCE = 0.8
POINTS_MIN = 8
DECISIVE = 10.0
"""How many times as likely a model must be to be the only one. Source: strong evidence, Jeffreys (1961), appendix B."""

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Remaining:
    """Time until the limit is reached, in the unit of the times given; infinite where it may never be.

    low, median, high  quantiles; `confidence` of all outcomes lie between low and high
    """

    low: float
    median: float
    high: float
    confidence: float


def passage_share(t: float, way: float, drift: float, sigma2: float, drift_variance: float = 0.0) -> float:
    """Return the probability that a Wiener process has passed `way` within t, its drift being known only so far.

    With a certain drift this is the inverse Gaussian distribution of mean way/drift and shape way²/sigma2.
    Source: Si et al., MSSP 35 (2013) 219, eq. 14, from Gebraeel et al., IIE Trans. 37 (2005) 543.
    """
    if t <= 0:
        return 0.0
    spread = math.sqrt(sigma2 * t + drift_variance * t * t)
    first = _NORMAL.cdf((drift * t - way) / spread)
    exponent = 2 * drift * way / sigma2 + 2 * drift_variance * way**2 / sigma2**2
    place = -(2 * drift_variance * way * t + sigma2 * (drift * t + way)) / (sigma2 * spread)
    logarithm = exponent + _log_share(place)
    return min(1.0, first + math.exp(logarithm)) if logarithm > -700 else first


def _log_share(z: float) -> float:
    """Return the logarithm of the normal distribution, also far out, where the distribution itself is zero."""
    if z > -30:
        return math.log(max(0.5 * math.erfc(-z / math.sqrt(2)), 1e-320))
    return -z * z / 2 - math.log(-z) - 0.5 * math.log(2 * math.pi) + math.log1p(-1 / z**2)


def wiener(
    times: Sequence[float],
    values: Sequence[float],
    limit: float,
    confidence: float = CONFIDENCE,
    averaged: float = 0.0,
) -> Remaining:
    """Predict when a drifting value reaches its limit.

    Args:
        times: increasing, at least `POINTS_MIN`.
        values: at these times.
        limit: above the last value for anything to remain.
        averaged: share of the time between two values that each is the mean over: means scatter less than the process,
            by a third where they are over the whole time.

    Raises:
        ValueError: too few points, or times that do not increase.
    """
    steps = [after - before for before, after in pairwise(times)]
    if len(times) < POINTS_MIN or len(times) != len(values) or min(steps) <= 0:
        raise ValueError(f"{len(times)} points are not at least {POINTS_MIN} at increasing times")
    span = times[-1] - times[0]
    way = limit - values[-1]
    if way <= 0:
        return Remaining(0.0, 0.0, 0.0, confidence)
    rises = [after - before for before, after in pairwise(values)]
    drift = (values[-1] - values[0]) / span
    residual = math.fsum((rise - drift * step) ** 2 / step for rise, step in zip(rises, steps, strict=True))
    sigma2 = max(residual / (len(steps) - 1) / (1 - averaged / 3), 1e-12 * (way / span) ** 2 * span, 1e-300)

    def quantile(share: float) -> float:
        def passed(t: float) -> float:
            return passage_share(t, way, drift, sigma2, sigma2 / span)

        top = span
        while passed(top) < share:
            top *= 2
            if top > 1e6 * span:
                return math.inf
        low = 0.0
        for _ in range(100):
            middle = (low + top) / 2
            low, top = (middle, top) if passed(middle) < share else (low, middle)
        return (low + top) / 2

    tail = (1 - confidence) / 2
    return Remaining(quantile(tail), quantile(0.5), quantile(1 - tail), confidence)


def exponential(
    times: Sequence[float],
    values: Sequence[float],
    base: float,
    limit: float,
    confidence: float = CONFIDENCE,
    averaged: float = 0.0,
) -> Remaining:
    """Predict when a value that rises exponentially above its base reaches its limit: `wiener` of log(value - base).

    Raises:
        ValueError: as `wiener`, or a value or the limit is not above the base.
    """
    if min(*values, limit) <= base:
        raise ValueError(f"a value or the limit is not above the base {base:g}")
    return wiener(times, [math.log(value - base) for value in values], math.log(limit - base), confidence, averaged)


def likelier(
    times: Sequence[float],
    values: Sequence[float],
    base: float,
    limit: float,
    confidence: float = CONFIDENCE,
    averaged: float = 0.0,
) -> Remaining:
    """Predict by `exponential` or by `wiener`, whichever makes the values the more likely.

    Both have as many parameters, so their likelihoods compare as they are; the logarithm's is brought to the values by
    its derivative. Where neither is `DECISIVE` times as likely as the other, the interval is that of both.

    Raises:
        ValueError: as `wiener`.
    """
    straight = wiener(times, values, limit, confidence, averaged)
    if min(*values, limit) <= base:
        return straight
    rises = [math.log(value - base) for value in values]
    bent = exponential(times, values, base, limit, confidence, averaged)
    more = _log_likelihood(times, rises) - math.fsum(rises[1:]) - _log_likelihood(times, values)
    likely, other = (bent, straight) if more > 0 else (straight, bent)
    if abs(more) > math.log(DECISIVE):
        return likely
    return Remaining(min(likely.low, other.low), likely.median, max(likely.high, other.high), confidence)


def _log_likelihood(times: Sequence[float], values: Sequence[float]) -> float:
    """Return that of the steps of a Wiener process at its best, up to what both models share."""
    steps = [after - before for before, after in pairwise(times)]
    drift = (values[-1] - values[0]) / (times[-1] - times[0])
    moves = zip(pairwise(values), steps, strict=True)
    residual = math.fsum((after - before - drift * step) ** 2 / step for (before, after), step in moves)
    return -0.5 * len(steps) * math.log(max(residual / len(steps), 1e-300))
