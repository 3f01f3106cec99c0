"""Chatter of a cutting tool: vibration that does not come back with the turns of the spindle.

A stable cut repeats itself each turn, so its lines lie at multiples of the spindle's frequency; chatter adds lines
elsewhere. Chatter is called only when all agree: the share of what is not synchronous, a narrow line that stands out,
that it holds for the whole block, and the variance from one turn to the next. Source: Altintas, Manufacturing
Automation (2nd ed. 2012), chapter 4; Schmitz, Medicus & Dutterer, CIRP Annals 51 (2002) 1: once-per-revolution
variance.

What comes back once a turn cannot be told from runout: period-doubling chatter of a tool with an even number of teeth,
and chatter whose frequency happens to be a multiple of the spindle's.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.analytics.condition.signal.spectrum import power_spectrum
from edge.analytics.condition.turning.orders import spline, spline_at

F64 = NDArray[np.float64]

BAND_HZ = (2.0, 5000.0)
SPEED_SHARE = 0.005
"""How far the spindle's real speed may lie from the one that is told."""

TOLERANCE_BINS, TOLERANCE_SHARE = 2.5, 0.0005
"""Half width of a synchronous line: Hann's main lobe, and what the speed wavers."""

TOLERANCE_MAX = 0.25
"""Of the distance of two lines: where they are wider nothing is left between them."""

TURNS_MIN = 24
TEETH_LINES = 6
"""Harmonics of the tooth-passing frequency that the speed is refined by."""

LAGS = (1, 2, 4, 8)
INDEX_LIMIT, VARIANCE_LIMIT = 0.3, 0.3
LEVEL_DB = 20.0
NARROW_BINS, NARROW_AROUND, NARROW_SHARE = 3, 20, 0.6
PARTS, SUSTAINED_SHARE = 4, 0.1
"""In each quarter of the block the line must have this part of its mean power."""


@dataclass(frozen=True, slots=True)
class Chatter:
    """What was found in one block.

    index         share of the power from 2 Hz to 5 kHz that is not at multiples of the spindle's frequency
    variance      share of the vibration that differs from one turn to the next
    hz            the highest line that is not synchronous; `amplitude` is its RMS in the unit of the block
    level_db      how far it stands over its surroundings
    is_narrow     it is a line, not the hump of a damped resonance
    is_sustained  it is there in all quarters of the block
    rpm           the speed by the lines of the teeth
    """

    index: float
    variance: float
    hz: float
    amplitude: float
    level_db: float
    is_narrow: bool
    is_sustained: bool
    rpm: float

    @property
    def is_chatter(self) -> bool:
        """Whether all agree."""
        votes = self.index > INDEX_LIMIT and self.variance > VARIANCE_LIMIT
        return votes and self.level_db > LEVEL_DB and self.is_narrow and self.is_sustained


def chatter(block: F64, rate_hz: float, rpm: float, teeth: int) -> Chatter | None:
    """Judge a block of a cut; None where it has too few turns for the lines to lie apart.

    block: (n,) f64, finite, of acceleration or sound; rpm: of the spindle, within 0.5 %; teeth: of the tool.
    """
    seconds = block.size / rate_hz
    if not rpm > 0 or seconds * rpm / 60 < TURNS_MIN or np.ptp(block) == 0:
        return None
    hz, power = power_spectrum(block, rate_hz)
    step = 1 / seconds
    shaft = _refined(hz, power, rpm / 60, teeth)
    top = min(BAND_HZ[1], rate_hz / 2.56, (TOLERANCE_MAX * shaft - TOLERANCE_BINS * step) / TOLERANCE_SHARE)
    if top < 2 * teeth * shaft:
        return None
    inside = (hz >= BAND_HZ[0]) & (hz <= top)
    distance = np.abs(hz - np.round(hz / shaft) * shaft)
    free = inside & (distance > TOLERANCE_BINS * step + TOLERANCE_SHARE * hz)
    total = float(power[inside].sum())
    index = float(power[free].sum()) / total
    place = int(np.argmax(np.where(free, power, 0.0)))
    around = slice(max(place - NARROW_AROUND, 1), place + NARROW_AROUND + 1)
    near = slice(max(place - NARROW_BINS, 1), place + NARROW_BINS + 1)
    line = float(power[near][free[near]].sum())
    whole = float(power[around][free[around]].sum())
    reach = max(int(1.5 * shaft / step), NARROW_AROUND)
    carpet = power[max(place - reach, 1) : place + reach][free[max(place - reach, 1) : place + reach]]
    level = 10 * math.log10(float(power[place]) / max(float(np.median(carpet)), 1e-300))
    return Chatter(
        index, _variance(block, rate_hz, shaft, top), float(hz[place]), math.sqrt(line), level,
        line >= NARROW_SHARE * whole, _is_sustained(block, rate_hz, float(hz[place])), 60 * shaft,
    )  # fmt: skip


def _refined(hz: F64, power: F64, shaft: float, teeth: int) -> float:
    """Return the spindle's frequency near the told one at which the lines of the teeth have the most amplitude."""
    step = float(hz[1])
    count = min(TEETH_LINES, int(hz[-1] / (1 + SPEED_SHARE) / (teeth * shaft)))
    if count < 1:
        return shaft
    trials = 2 * math.ceil(4 * SPEED_SHARE * count * teeth * shaft / step) + 1
    found = shaft * np.linspace(1 - SPEED_SHARE, 1 + SPEED_SHARE, trials)
    places = teeth * np.arange(1, count + 1)[:, None] * found / step
    below = np.minimum(places.astype(np.int64), hz.size - 2)
    share = places - below
    amplitude = np.sqrt(power)
    sums = (amplitude[below] * (1 - share) + amplitude[below + 1] * share).sum(axis=0)
    best = np.flatnonzero(sums >= sums.max() * (1 - 1e-9))
    return float(found[best[np.argmin(np.abs(found[best] - shaft))]])


def _is_sustained(block: F64, rate_hz: float, line_hz: float) -> bool:
    """Tell whether a line has about the same power in every quarter of the block."""
    size = block.size // PARTS
    powers = []
    for part in range(PARTS):
        hz, power = power_spectrum(block[part * size : (part + 1) * size], rate_hz)
        powers.append(float(power[np.abs(hz - line_hz) <= 2 * hz[1]].sum()))
    return min(powers) >= SUSTAINED_SHARE * sum(powers) / PARTS


def _variance(block: F64, rate_hz: float, shaft: float, top_hz: float) -> float:
    """Return the mean square of the change from turn to turn, over twice the variance: 0 periodic, 1 without relation.

    The largest of the changes over `LAGS` turns counts: what comes back each second turn is seen, and so is a line that
    lies close to a synchronous one.
    """
    spectrum = np.fft.rfft(block - block.mean())
    hz = np.arange(spectrum.size) * (rate_hz / block.size)
    spectrum[(hz < BAND_HZ[0]) | (hz > top_hz)] = 0
    samples = np.fft.irfft(spectrum, block.size)
    a_turn = 1 << math.ceil(math.log2(2.56 * top_hz / shaft))
    turns = int((block.size - 1) / rate_hz * shaft)
    coefficients = np.empty(samples.size)
    spline(samples, coefficients)
    at = np.arange(turns * a_turn, dtype=np.float64) * (rate_hz / shaft / a_turn)
    out = np.empty(at.size)
    spline_at(coefficients, at, out)
    by_turn = out.reshape(turns, a_turn)
    spread = float(out.var())
    changes = [float(np.mean((by_turn[lag:] - by_turn[:-lag]) ** 2)) for lag in LAGS]
    return max(changes) / (2 * spread) if spread > 0 else 0.0
