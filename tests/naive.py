"""Slow, obvious versions of the kernels, written from the definitions alone."""

import cmath
import math
from collections.abc import Sequence
from itertools import pairwise


def moments(block: Sequence[float]) -> list[float]:
    """Return mean, RMS, peak, crest, kurtosis, skewness, and the shares flat, clipped and missing."""
    nan = math.nan
    x = [value for value in block if math.isfinite(value)]
    missing = 1 - len(x) / len(block) if len(block) else 1.0
    if not x:
        return [nan] * 8 + [missing]
    mean = math.fsum(x) / len(x)
    m2, m3, m4 = (math.fsum((value - mean) ** power for value in x) / len(x) for power in (2, 3, 4))
    peak = max(abs(value - mean) for value in x)
    flat = sum(a == b for a, b in pairwise(x)) / (len(x) - 1) if len(x) > 1 else 0.0
    rails = [x.count(rail) for rail in (min(x), max(x))] if min(x) < max(x) else []
    clipped = sum(count for count in rails if count > 2) / len(x)
    shape = [peak / math.sqrt(m2), m4 / m2**2, m3 / m2**1.5] if m2 > 1e-24 * mean**2 and m2 > 0 else [nan] * 3
    return [mean, math.sqrt(m2), peak, *shape, flat, clipped, missing]


def run_rules(z: Sequence[float]) -> list[set[int]]:
    """Return for each value the places in `control.RULES` that fire with it."""
    found = []
    for last in range(len(z)):
        seen = list(z[: last + 1])
        newest = seen[-1]
        fired = set()
        if abs(newest) > 3:
            fired.add(0)
        for sign in (1, -1):
            x = [sign * value for value in seen]
            if len(x) >= 9 and all(value > 0 for value in x[-9:]):
                fired.add(1)
            if len(x) >= 6 and all(a < b for a, b in pairwise(x[-6:])):
                fired.add(2)
            if len(x) >= 14 and all((a < b) if i % 2 else (a > b) for i, (a, b) in enumerate(pairwise(x[-14:]))):
                fired.add(3)
            if x[-1] > 2 and sum(value > 2 for value in x[-3:]) >= 2:
                fired.add(4)
            if x[-1] > 1 and sum(value > 1 for value in x[-5:]) >= 4:
                fired.add(5)
            if len(x) >= 8 and all(value > 0 for value in x[-8:]):
                fired.add(8)
        if len(seen) >= 15 and all(abs(value) <= 1 for value in seen[-15:]):
            fired.add(6)
        if len(seen) >= 8 and all(abs(value) > 1 for value in seen[-8:]):
            fired.add(7)
        found.append(fired)
    return found


def ewma(z: Sequence[float], weight: float, limit: float) -> list[bool]:
    """Tell for each value whether the average of all so far is beyond its limit."""
    found = []
    for last in range(len(z)):
        weights = [weight * (1 - weight) ** (last - i) for i in range(last + 1)]
        average = math.fsum(w * value for w, value in zip(weights, z, strict=False))
        found.append(abs(average) > limit * math.sqrt(math.fsum(w * w for w in weights)))
    return found


def cusum(z: Sequence[float], slack: float, limit: float) -> list[bool]:
    """Tell for each value whether some sum of values up to it, each less the slack, is beyond the limit."""
    found = []
    for last in range(len(z)):
        tails = [z[start : last + 1] for start in range(last + 1)]
        highest = max(math.fsum(sign * v - slack for v in tail) for tail in tails for sign in (1, -1))
        found.append(highest > limit)
    return found


def transform(x: Sequence[complex]) -> list[complex]:
    """Return the discrete Fourier transform, term by term."""
    n = len(x)
    return [sum(x[i] * cmath.exp(-2j * math.pi * k * i / n) for i in range(n)) for k in range(n)]


def edges(samples: Sequence[float], low: float, middle: float, high: float) -> list[float]:
    """Return where `middle` was crossed upwards last before each rise from below `low` to `high`."""
    found: list[float] = []
    start = None
    for place, x in enumerate(samples):
        if x < low:
            start = place
        elif x >= high and start is not None:
            crossed = max(i for i in range(place) if samples[i] < middle <= samples[i + 1])
            found.append(crossed + (middle - samples[crossed]) / (samples[crossed + 1] - samples[crossed]))
            start = None
    return found


def cubic(x: Sequence[float], y: Sequence[float], at: float) -> float:
    """Return the value of the cubic through the four knots around a place."""
    first = min(max(sum(knot <= at for knot in x) - 2, 0), len(x) - 4)
    total = 0.0
    for i in range(first, first + 4):
        total += y[i] * math.prod((at - x[j]) / (x[i] - x[j]) for j in range(first, first + 4) if j != i)
    return total


def spline(samples: Sequence[float], places: Sequence[float]) -> list[float]:
    """Return the values of the cubic B-spline through mirrored samples: its coefficients solve the linear system."""
    import numpy as np

    n = len(samples)
    system = np.zeros((n, n))
    for row in range(n):
        system[row, row] = 4 / 6
        for neighbour in (row - 1, row + 1):
            system[row, abs(neighbour) if neighbour < n else n - 2] += 1 / 6
    coefficients = np.linalg.solve(system, np.array(samples))

    def bump(t: float) -> float:
        t = abs(t)
        return (2 / 3 - t * t + t**3 / 2) if t < 1 else ((2 - t) ** 3 / 6 if t < 2 else 0.0)

    mirrored = {-1: 1, n: n - 2}
    c = {k: float(coefficients[mirrored.get(k, k)]) for k in range(-1, n + 1)}
    return [sum(value * bump(at - k) for k, value in c.items()) for at in places]


def load_features(pieces: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Return mean, RMS, peak and ripple of a load that holds each value for so many seconds: (seconds, value)."""
    total = math.fsum(seconds for seconds, _ in pieces)
    changes = [(after - before) ** 2 for (_, before), (_, after) in pairwise(pieces)]
    return {
        "mean": math.fsum(seconds * value for seconds, value in pieces) / total,
        "rms": math.sqrt(math.fsum(seconds * value**2 for seconds, value in pieces) / total),
        "peak": max(value for _, value in pieces),
        "ripple": math.sqrt(math.fsum(changes) / (2 * len(changes))),
    }
