"""Squared envelope spectrum in bands, after cepstral pre-whitening; which bands are looked at."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edge.analytics.condition.signal.fast_length import fast_length

F64 = NDArray[np.float64]
C128 = NDArray[np.complex128]
Band = tuple[float, float]

SPLITS_MAX = 8
"""The narrowest band is this part of the spectrum."""

FLOOR_LINES = 4
"""A band is never narrower than this many times the highest fault frequency: a narrower one cannot hold harmonics."""


def whitened(block: F64) -> C128:
    """Return the one-sided spectrum of a block with every bin at amplitude 1: cepstral pre-whitening.

    (n,) f64 in, (n // 2 + 1,) c128 out. Shaft and gear lines lose their dominance, the phase that carries the
    impacts stays. Source: Borghesani et al., MSSP 36 (2013) 370.
    """
    spectrum = np.fft.rfft(block - block.mean())
    size = np.abs(spectrum)
    silent = size == 0
    size[silent] = 1.0
    spectrum /= size
    spectrum[0] = 0
    return spectrum


def bands(rate_hz: float, highest_line_hz: float) -> list[Band]:
    """Return the bands in Hz that are looked at: the whole, halves, quarters and eighths, each overlapping by half."""
    nyquist = rate_hz / 2
    found = [(0.0, nyquist)]
    parts = 2
    while parts <= SPLITS_MAX and nyquist / parts >= FLOOR_LINES * highest_line_hz:
        width = nyquist / parts
        found += [(place * width / 2, place * width / 2 + width) for place in range(2 * parts - 1)]
        parts *= 2
    return found


def band_envelope(spectrum: C128, step_hz: float, band: Band) -> F64:
    """Return the squared envelope of the signal inside a band, sampled just fast enough for the band.

    spectrum: one-sided, (n // 2 + 1,) c128; step_hz: distance of its bins. The result has `fast_length` of the
    band's bins; its sample distance is 1 / (length · step_hz).
    """
    first, last = max(int(band[0] / step_hz) + 1, 1), min(int(band[1] / step_hz) + 1, spectrum.size)
    length = fast_length(max(last - first, 1))
    part = np.zeros(length, complex)
    part[: last - first] = spectrum[first:last]
    signal = np.fft.ifft(part) * (length * 2.0)
    envelope: F64 = signal.real**2 + signal.imag**2
    return envelope


def envelope_spectrum(envelope: F64) -> F64:
    """Return the amplitude spectrum of a squared envelope, mean removed; bins lie as far apart as the signal's."""
    return np.abs(np.fft.rfft(envelope - envelope.mean())) * (2.0 / envelope.size)


def envelope_spectra(spectrum: C128, step_hz: float, over: list[Band]) -> Iterator[tuple[Band, F64]]:
    """Yield each band with its squared envelope spectrum."""
    for band in over:
        yield band, envelope_spectrum(band_envelope(spectrum, step_hz, band))


def kurtogram(block: F64, rate_hz: float, floor_hz: float) -> list[tuple[Band, float]]:
    """Return for each band of a binary and ternary tree, none narrower than the floor, the kurtosis of its signal.

    K = E|c|⁴ / (E|c|²)² − 2: zero for Gaussian noise. Source: Antoni, MSSP 21 (2007) 108; the floor is needed
    because the kurtosis of a narrow band rises with a single stroke.
    """
    spectrum, step = np.fft.rfft(block - block.mean()), rate_hz / block.size
    found = []
    level = 1
    while rate_hz / 2 / level >= floor_hz:
        for parts in (level, level * 3 // 2) if level > 1 else (level,):
            width = rate_hz / 2 / parts
            if width < floor_hz:
                continue
            for place in range(parts):
                band = (place * width, (place + 1) * width)
                power = band_envelope(spectrum, step, band)
                mean = power.mean()
                found.append((band, float((power**2).mean() / mean**2 - 2) if mean > 0 else 0.0))
        level *= 2
    return found
