"""The real speed of the shaft, read off a record: a name plate is a percent off, and shaft lines must not pass as a
bearing's."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

SPEED_TOLERANCE = 0.03
"""How far the real speed is searched from the given one, as a share: no load to full load of an induction motor."""

MULTIPLES = 10
COUNTS_FROM_DB = 10.0
COUNTS_MAX_DB = 20.0
"""What a bin shows of a line: dB over the carpet above the first, at most the second, so that one line is no comb."""

COMB_DB = 30.0
"""What the multiples of the speed must show together, or the given speed is kept. Noise shows a few at the best."""

DOUBT = 1 / 3
"""By how much less a speed at the end of the tolerance counts than the given one."""

REACH_BINS = 1.5
MAINS_HZ = (50.0, 60.0)
MAINS_DRIFT = 0.001


def measured_speed(acceleration: F64, envelopes: Sequence[F64], step_hz: float, shaft_hz: float) -> float | None:
    """Return the speed in Hz whose multiples stand out most, or nothing where none do.

    acceleration: its amplitude spectrum; envelopes: those of its squared envelope in bands, which count together as
    much as the acceleration: what stands in all of them may be a bearing. All have bins of the same distance; they may
    differ in length. The error is a few hundredths of a bin.
    """
    shown = np.zeros(int((MULTIPLES * (1 + SPEED_TOLERANCE) + 1) * shaft_hz / step_hz) + 2)
    for amplitudes, share in ((acceleration, 1.0), *((each, 1 / len(envelopes)) for each in envelopes)):
        levels = _shown(amplitudes[: shown.size], step_hz, shaft_hz)
        shown[: levels.size] += share * levels
    trials = 2 * int(np.ceil(SPEED_TOLERANCE * MULTIPLES * shaft_hz / step_hz)) + 1
    off = np.linspace(-SPEED_TOLERANCE, SPEED_TOLERANCE, trials)
    at = np.rint(np.arange(1, MULTIPLES + 1)[:, None] * shaft_hz * (1 + off) / step_hz).astype(np.int64)
    multiples = np.maximum(np.maximum(shown[at - 1], shown[at]), shown[at + 1])
    comb = multiples.sum(axis=0)
    for part in range(2, MULTIPLES // 2 + 1):  # every third multiple alone is the outer race of a bearing of order 3.05
        others = np.arange(1, MULTIPLES + 1) % part != 0
        comb[multiples[others].sum(axis=0) < COMB_DB / 2] = 0.0
    comb *= 1 - DOUBT * np.abs(off) / SPEED_TOLERANCE
    best = int(np.argmax(comb))
    return _followed(shown, step_hz, shaft_hz * (1 + float(off[best]))) if comb[best] >= COMB_DB else None


def _shown(amplitudes: F64, step: float, shaft_hz: float) -> F64:
    """Return what each bin shows of a line, in dB over the median of the turn around it; mains' multiples show none."""
    window = max(int(shaft_hz / step), 8)
    whole = amplitudes.size // window * window
    if not whole:
        return np.zeros(0)
    carpet = np.median(amplitudes[:whole].reshape(-1, window), axis=1)
    levels = 20 * np.log10(np.maximum(amplitudes[:whole], 1e-300) / np.maximum(np.repeat(carpet, window), 1e-300))
    hz = np.arange(whole) * step
    for mains in MAINS_HZ:
        if abs(shaft_hz / mains - 1) <= SPEED_TOLERANCE:  # a motor of two poles: its lines lie beside the mains'
            continue
        levels[np.abs(hz - np.round(hz / mains) * mains) <= REACH_BINS * step + MAINS_DRIFT * hz] = 0.0
    return np.asarray(np.clip(levels - COUNTS_FROM_DB, 0, COUNTS_MAX_DB))


def _followed(shown: F64, step: float, speed: float) -> float:
    """Return the speed that fits the multiples best, each looked for where the lower ones promise it."""
    weight = moment = 0.0
    for order in range(1, MULTIPLES + 1):
        centre = order * speed / step
        first = max(int(np.ceil(centre - REACH_BINS - 0.5)), 1)
        near = shown[first : int(centre + REACH_BINS + 0.5) + 1]
        if near.size and (total := near.sum()) > 0:
            place = first + float(np.dot(near, np.arange(near.size)) / total)
            weight, moment = weight + order * order, moment + order * place * step
            speed = moment / weight
    return speed
