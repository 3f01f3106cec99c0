"""Moments, peak and sensor health of a block, in one pass over its samples."""

import numpy as np
from numpy.typing import NDArray

from edge.analytics.kernels import kernel

F64 = NDArray[np.float64]

MEAN, RMS, PEAK, CREST, KURTOSIS, SKEWNESS, FLAT, CLIPPED, MISSING = range(9)
SIZE = 9
MOMENTS = ("mean", "rms", "peak", "crest", "kurtosis", "skewness", "flat", "clipped", "missing")
"""What `moments` puts at each place of its output."""


def moments_numpy(block: F64, out: F64) -> None:
    """Do what `moments` does, with numpy alone."""
    out[:] = np.nan
    finite = np.isfinite(block)
    count = int(finite.sum())
    out[MISSING] = 1.0 - count / block.size if block.size else 1.0
    if not count:
        return
    x = block[finite]
    mean = x.mean()
    d = x - mean
    m2 = (d * d).mean()
    low, high = x.min(), x.max()
    out[MEAN] = mean
    out[RMS] = np.sqrt(m2)
    out[PEAK] = max(high - mean, mean - low)
    out[FLAT] = np.count_nonzero(x[1:] == x[:-1]) / (count - 1) if count > 1 else 0.0
    at_rail = int(np.count_nonzero(x == low)), int(np.count_nonzero(x == high))
    out[CLIPPED] = sum(number for number in at_rail if number > 2) / count if high > low else 0.0
    # A constant far from zero keeps rounding noise as its second moment: no shape is measured on that.
    if m2 > 1e-24 * max(mean * mean, 1e-280):
        out[CREST] = out[PEAK] / out[RMS]
        out[SKEWNESS] = (d * d * d).mean() / m2**1.5
        out[KURTOSIS] = (d * d * d * d).mean() / (m2 * m2)


@kernel("void(f8[::1], f8[::1])", moments_numpy)
def moments(block: F64, out: F64) -> None:
    """Measure mean, RMS, peak, crest, kurtosis, skewness (all about the mean) and the health of a sensor.

    Shifted power sums in one pass: the first finite sample is the shift, so a large offset costs no digits.

    Args:
        block: (n,) f64, samples in any unit; NaN and infinity are missing samples.
        out: (9,) f64, see `MOMENTS`: the first three in the unit of the block; crest, kurtosis (Pearson, 3 for
            Gaussian noise) and skewness as numbers, NaN for a constant; `flat` the share of samples that equal
            the one before, `clipped` the share at a rail that is hit more than twice, `missing` the share lost.
    """
    for place in range(out.size):
        out[place] = np.nan
    count = 0
    shift = previous = low = high = 0.0
    s1 = s2 = s3 = s4 = 0.0
    same = at_low = at_high = 0
    for index in range(block.size):
        x = block[index]
        if not np.isfinite(x):
            continue
        if count == 0:
            shift = low = high = x
        elif x == previous:
            same += 1
        previous = x
        count += 1
        if x < low:
            low = x
            at_low = 1
        elif x == low:
            at_low += 1
        if x > high:
            high = x
            at_high = 1
        elif x == high:
            at_high += 1
        d = x - shift
        d2 = d * d
        s1 += d
        s2 += d2
        s3 += d2 * d
        s4 += d2 * d2
    out[MISSING] = 1.0 - count / block.size if block.size else 1.0
    if count == 0:
        return
    a = s1 / count
    mean = shift + a
    m2 = max(s2 / count - a * a, 0.0)
    m3 = s3 / count - 3 * a * s2 / count + 2 * a * a * a
    m4 = s4 / count - 4 * a * s3 / count + 6 * a * a * s2 / count - 3 * a * a * a * a
    out[MEAN] = mean
    out[RMS] = np.sqrt(m2)
    out[PEAK] = max(high - mean, mean - low)
    out[FLAT] = same / (count - 1) if count > 1 else 0.0
    clipped = 0
    if high > low:
        clipped = (at_low if at_low > 2 else 0) + (at_high if at_high > 2 else 0)
    out[CLIPPED] = clipped / count
    if m2 > 1e-24 * max(mean * mean, 1e-280):
        out[CREST] = out[PEAK] / out[RMS]
        out[SKEWNESS] = m3 / m2**1.5
        out[KURTOSIS] = m4 / (m2 * m2)
