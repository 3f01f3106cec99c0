"""Slow, obvious versions of the kernels, written from the definitions alone."""

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
