"""Order tracking: a block resampled to equal angles of the shaft, so that lines stay sharp while the speed changes.

What lies above the highest order is filtered out before, so nothing folds down at low speed. Source: Fyfe & Munck,
MSSP 11 (1997) 187; cubic B-splines: Unser, Aldroubi & Eden, IEEE Trans. Signal Processing 41 (1993) 821.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edge.analytics.condition.bearing.lines import HARMONICS, MAINS_HZ, MASK_BINS, SLIP, Line, clearest
from edge.analytics.condition.signal.envelope import Band, band_envelope, bands, envelope_spectrum, whitened
from edge.analytics.condition.signal.fast_length import fast_length
from edge.analytics.condition.signal.spectrum import order_rms, power_spectrum
from edge.analytics.condition.turning.tacho import SPEED_RATIO_MAX, TURNS_MIN, NoSpeed, Track, cubic
from edge.analytics.kernels import kernel
from edge.core.language import say

F64 = NDArray[np.float64]

POLE = math.sqrt(3) - 2
"""Of the recursive filter that makes a cubic B-spline pass through its samples."""

REACH = 40
"""Samples after which that filter has forgotten: POLE to this power is below 1e-22."""

OVERSAMPLING = 6.0
"""Samples per period of the highest order before resampling: the spline is then true to 0.3 %."""

MARGIN = 1.1
SAMPLES_MAX = 1 << 22
MAINS_SMEAR_MAX = 0.1
"""A line of the mains that moves over less than this many orders is still a line."""


def _spline_numpy(samples: F64, out: F64) -> None:
    """Do what `spline` does, with numpy alone."""
    padded = np.pad(samples, REACH, mode="reflect")
    answer = -6 * POLE / (1 - POLE * POLE) * POLE ** np.abs(np.arange(-REACH, REACH + 1))
    out[:] = np.convolve(padded, answer, mode="valid")


@kernel("void(f8[::1], f8[::1])", _spline_numpy)
def spline(samples: F64, out: F64) -> None:
    """Find the coefficients of the cubic B-spline through equally spaced samples, mirrored at both ends.

    Args:
        samples: (n,) f64, n > 40, in any unit.
        out: (n,) f64, gets the coefficients in that unit.
    """
    n = samples.size
    total, power = samples[0], 1.0
    for k in range(1, REACH):
        power *= POLE
        total += power * samples[k]
    out[0] = total
    for k in range(1, n):
        out[k] = samples[k] + POLE * out[k - 1]
    out[n - 1] = 6 * POLE / (POLE * POLE - 1) * (out[n - 1] + POLE * out[n - 2])
    for k in range(n - 2, -1, -1):
        out[k] = POLE * (out[k + 1] - 6 * out[k])


def _spline_at_numpy(coefficients: F64, at: F64, out: F64) -> None:
    """Do what `spline_at` does, with numpy alone."""
    n = coefficients.size
    place = np.clip(np.floor(at).astype(np.int64), 0, n - 2)
    t = at - place
    u = 1 - t
    before, after = np.abs(place - 1), np.where(place + 2 < n, place + 2, n - 2)
    out[:] = (
        u * u * u * coefficients[before] + (4 - 6 * t * t + 3 * t * t * t) * coefficients[place]
        + (4 - 6 * u * u + 3 * u * u * u) * coefficients[place + 1] + t * t * t * coefficients[after]
    ) / 6  # fmt: skip


@kernel("void(f8[::1], f8[::1], f8[::1])", _spline_at_numpy)
def spline_at(coefficients: F64, at: F64, out: F64) -> None:
    """Evaluate a cubic B-spline.

    Args:
        coefficients: (n,) f64, of `spline`.
        at: (m,) f64, places in samples from the first, 0 to n - 1.
        out: (m,) f64, gets the values there.
    """
    n = coefficients.size
    for index in range(at.size):
        place = min(max(int(at[index]), 0), n - 2)
        t = at[index] - place
        u = 1 - t
        before = coefficients[abs(place - 1)]
        after = coefficients[place + 2 if place + 2 < n else n - 2]
        out[index] = (
            u * u * u * before + (4 - 6 * t * t + 3 * t * t * t) * coefficients[place]
            + (4 - 6 * u * u + 3 * u * u * u) * coefficients[place + 1] + t * t * t * after
        ) / 6  # fmt: skip


def within(track: Track, seconds: float, turns_max: float = math.inf) -> tuple[float, int]:
    """Return the first angle in turns, and how many whole turns follow, that lie inside a block of so many seconds.

    Of more than `turns_max` turns the middle ones are taken.

    Raises:
        NoSpeed: there are too few.
    """
    inside = (track.seconds >= 0) & (track.seconds <= seconds)
    turns = track.turns[inside]
    count = int(turns[-1] - turns[0]) if turns.size else 0
    if count < TURNS_MIN:
        words = say("{count} whole turns are fewer than {least:.0f}", count=count, least=TURNS_MIN)
        raise NoSpeed("too_few_turns", words)
    first = float(turns[0])
    if count > turns_max:
        first += (count - int(turns_max)) // 2
        count = int(turns_max)
    return first, count


def in_angle(
    block: F64, rate_hz: float, track: Track, highest_order: float, turns_max: float = math.inf
) -> tuple[F64, int]:
    """Resample a block to 2ᵏ values a turn; returns them and 2ᵏ.

    Args:
        block: (n,) f64, finite, in any unit.
        rate_hz: samples a second.
        track: the turns of the shaft since the block's first sample.
        highest_order: lines up to this multiple of the shaft's frequency keep their amplitudes; what lies above half
            the rate is lost.
        turns_max: of more turns the middle ones are taken.

    Raises:
        NoSpeed: too few turns, or the speed changes too much for one block.
    """
    slowest, _, fastest = track.hz()
    if not fastest <= SPEED_RATIO_MAX * slowest:
        words = say("the speed changes by more than {ratio:.0f} times in one block", ratio=SPEED_RATIO_MAX)
        raise NoSpeed("unsteady", words)
    first, turns = within(track, (block.size - 1) / rate_hz, turns_max)
    top = min(highest_order, rate_hz / 2 / fastest)
    a_turn = 1 << math.ceil(math.log2(MARGIN * top * (1 + fastest / slowest)))
    if turns * a_turn > SAMPLES_MAX:
        words = say("the block has too many turns: {count}", count=turns)
        raise NoSpeed("too_many_turns", words)
    cut = min((a_turn - top) * slowest, rate_hz / 2)
    wanted = max(OVERSAMPLING * top * fastest, 2 * cut)
    size = fast_length(max(math.ceil(block.size * wanted / rate_hz), 2 * REACH))
    spectrum = np.fft.rfft(block - block.mean())[: int(cut / rate_hz * block.size) + 1]
    fine = np.fft.irfft(spectrum, size) * (size / block.size)
    coefficients = np.empty(size)
    spline(fine, coefficients)
    at = np.empty(turns * a_turn)
    cubic(track.turns, track.seconds, first + np.arange(at.size) / a_turn, at)
    at *= rate_hz * size / block.size
    np.clip(at, 0, size - 1, out=at)
    out = np.empty(at.size)
    spline_at(coefficients, at, out)
    return out, a_turn


def order_amplitudes(block: F64, rate_hz: float, track: Track, orders: Sequence[float]) -> list[float]:
    """Return the RMS of the line at each order, in the unit of the block; NaN where the rate is too low for it.

    Raises:
        NoSpeed: too few turns, or the speed changes too much for one block.
    """
    fits = [order for order in orders if (order + 1) * track.hz()[2] < rate_hz / 2]
    if not fits:
        return [math.nan] * len(orders)
    samples, a_turn = in_angle(block, rate_hz, track, max(fits) + 1)
    places, power = power_spectrum(samples, a_turn)
    return [order_rms(places, power, 1.0, order) if order in fits else math.nan for order in orders]


def bearing_lines(
    block: F64, rate_hz: float, track: Track, orders: Mapping[str, float], turns_max: float
) -> dict[str, Line]:
    """Return for each family its clearest lines in the envelope's order spectrum, over all bands: as `fault_lines`.

    Raises:
        NoSpeed: too few turns, or the speed changes too much for one block.
    """
    slowest, mean, fastest = track.hz()
    _, turns = within(track, (block.size - 1) / rate_hz, turns_max)
    spectrum, step = whitened(block), rate_hz / block.size
    over = bands(rate_hz, max(orders.values()) * fastest)
    top = HARMONICS * (1 + SLIP) * max(orders.values()) + 1

    def spectra() -> Iterator[tuple[Band, F64, float]]:
        for band in over:
            envelope = band_envelope(spectrum, step, band)
            samples, _ = in_angle(envelope, envelope.size * step, track, top, turns_max)
            reach = min(top, (band[1] - band[0]) / 2 / fastest) * turns
            yield band, envelope_spectrum(samples)[: int(reach) + 1], reach

    found = clearest(spectra(), 1 / turns, 1.0, orders, len(over), lambda size: _free(size, turns, slowest, fastest))
    return {name: line.at(line.hz * mean) for name, line in found.items()}


def _free(size: int, turns: int, slowest: float, fastest: float) -> NDArray[np.bool_]:
    """Return which bins belong neither to a multiple of the shaft's frequency nor to one of the mains."""
    places = np.arange(size) / turns
    free = np.abs(places - np.round(places)) > MASK_BINS / turns
    for mains in MAINS_HZ:
        number = 1
        while (
            number * mains * (1 / slowest - 1 / fastest) < MAINS_SMEAR_MAX and number * mains / fastest * turns < size
        ):
            low, high = number * mains / fastest, number * mains / slowest
            free &= (places < low - MASK_BINS / turns) | (places > high + MASK_BINS / turns)
            number += 1
    return free
