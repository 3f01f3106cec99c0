"""Velocity, displacement and band values of a block by integration in the frequency domain."""

import numpy as np
from numpy.typing import NDArray

from edge.analytics.condition.names import SLOW_BELOW_RPM

F64 = NDArray[np.float64]
C128 = NDArray[np.complex128]

VELOCITY_BAND_HZ = (10.0, 1000.0)
SLOW_VELOCITY_BAND_HZ = (2.0, 1000.0)
"""ISO 20816-3: machines slower than this are measured from 2 Hz, and their displacement counts too."""

SPECTRUM_SAMPLES_MAX = 1 << 22


def velocity_band(rpm: float) -> tuple[float, float]:
    """Return the band in Hz of velocity for a machine of this speed (ISO 20816-3)."""
    return SLOW_VELOCITY_BAND_HZ if 0 < rpm < SLOW_BELOW_RPM else VELOCITY_BAND_HZ


def power_spectrum(block: F64, rate_hz: float) -> tuple[F64, F64]:
    """Return frequencies in Hz, and the mean square in each bin of the Hann-windowed block, mean removed.

    (n,) f64 in, two arrays (n // 2 + 1,) f64 out; the sum of the second is the block's mean square. A block of more
    than `SPECTRUM_SAMPLES_MAX` is cut into equal parts whose spectra are averaged: a file of minutes fits a small box.
    """
    parts = -(-block.size // SPECTRUM_SAMPLES_MAX)
    if parts > 1:
        n = block.size // parts
        frequencies, total = power_spectrum(block[:n], rate_hz)
        for part in range(1, parts):
            total += power_spectrum(block[part * n : (part + 1) * n], rate_hz)[1]
        return frequencies, total / parts
    n = block.size
    window: F64 = np.hanning(n + 1)[:-1] if n > 1 else np.ones(n)
    spectrum = np.fft.rfft((block - block.mean()) * window)
    power: F64 = (spectrum.real**2 + spectrum.imag**2) * (2.0 / (n * float(np.sum(window**2))))
    power[0] /= 2
    if n % 2 == 0:
        power[-1] /= 2
    frequencies = np.arange(power.size, dtype=np.float64) * (rate_hz / n)
    return frequencies, power


def band_rms(frequencies: F64, power: F64, low_hz: float, high_hz: float, *, integrate: int = 0) -> float:
    """Return the RMS between two frequencies, integrated 0, 1 (velocity) or 2 times (displacement). NaN if empty.

    v² = Σ a²(f) / (2πf)² over the band, as in ISO 2954's measurement of severity, done in the frequency domain
    because a filter of low order loses 8 % near its corner.
    """
    first, last = np.searchsorted(frequencies, [max(low_hz, frequencies[1] if frequencies.size > 1 else 0.0), high_hz])
    if last < frequencies.size and frequencies[last] == high_hz:
        last += 1
    if first >= last:
        return float("nan")
    inside = power[first:last]
    if integrate:
        inside = inside / (2 * np.pi * frequencies[first:last]) ** (2 * integrate)
    return float(np.sqrt(inside.sum()))


def order_rms(frequencies: F64, power: F64, shaft_hz: float, order: float) -> float:
    """Return the RMS of the line at a multiple of the shaft's frequency: the bins within its Hann lobe."""
    step = frequencies[1] if frequencies.size > 1 else 1.0
    half = max(2 * step, 0.02 * shaft_hz)
    return band_rms(frequencies, power, order * shaft_hz - half, order * shaft_hz + half)
