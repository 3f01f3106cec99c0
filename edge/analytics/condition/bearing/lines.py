"""Fault lines of a bearing in the envelope spectrum: how far above the carpet, and how likely by chance.

A bin of the squared envelope spectrum of Gaussian noise is Rayleigh distributed, so the power of a line over its
neighbourhood's median has a known tail. A family shows as its fundamental, or as two or three of its first harmonics
together. Everything searched counts (Bonferroni): slips, harmonics, families, bands.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge.analytics.condition.bearing.shaft import SPEED_TOLERANCE, measured_speed
from edge.analytics.condition.names import REVOLUTIONS_MIN
from edge.analytics.condition.signal.envelope import Band, bands, envelope_spectra, whitened

F64 = NDArray[np.float64]

HARMONICS = 5
HARMONICS_MIN = 3
CARPET_MIN = 8
SLIP = 0.02
"""How far real bearings run from the kinematic frequency, as a share of it: 1 to 2 % (Randall & Antoni 2011)."""

SLIP_USUAL = 0.0025
"""Where lines are expected first; if shaft and mains cover that, a fault may hide there."""

JITTER = 0.0005
"""How far a harmonic may lie from its place in the comb besides, as a share of its frequency."""

MASK_BINS = 1.5
"""Bins this close to a multiple of the shaft's frequency belong to the shaft; likewise for the mains."""

SKIRT = 2.0
"""A skirt counts to where it has sunk to this many times the carpet,"""

SKIRT_MAX = 0.05
"""and to this share of the distance of two multiples at most."""

SPEED_DRIFT = 0.0003
"""How far a multiple of the shaft's frequency may lie from its place besides: speeds come in whole turns a minute."""

MAINS_HZ = (100.0, 120.0)
"""Magnetic forces pull at twice the frequency of the mains, 50 or 60 Hz, in every motor."""

MAINS_DRIFT = 0.001

P_FALSE_ALARM = 1e-3
"""The chance of calling a fault in noise that a call may have, after all corrections."""

P_FLOOR = 1e-6
"""No chance below this is claimed: real noise is Gaussian only so far."""

LEVEL_DB = 18.0
LEVEL_REVOLUTIONS = 300.0
LEVEL_DB_MIN = 12.0
"""The size a fault's lines must have besides: 18 dB over the carpet in 300 revolutions. A line of a given
modulation depth grows with the square root of the length, so shorter records need less, down to 12 dB."""

RAYLEIGH_MEDIAN = math.sqrt(2 * math.log(2))


@dataclass(frozen=True, slots=True)
class Line:
    """What was found of one family of fault lines, in the band where it stands out most.

    hz         the expected frequency
    slip       how far the lines really lie from it, as a share
    level_db   mean of the three highest of its harmonics, over the carpet
    chance     bound on the probability of such lines in noise, over all that was searched
    band       the band in Hz
    harmonics  level of each harmonic in dB
    sidebands  level in dB of what stands a turn of the shaft beside the fundamental, and a turn of the cage: an inner
               race passes the load once a turn of the shaft, a ball once a turn of the cage
    is_covered whether shaft or mains lie where the lines are expected, so that nothing can be seen there
    """

    hz: float
    slip: float
    level_db: float
    chance: float
    band: Band
    harmonics: tuple[float, ...]
    sidebands: tuple[float, float] = (0.0, 0.0)
    is_covered: bool = False

    @property
    def found_hz(self) -> float:
        """Return where the lines really are."""
        return self.hz * (1 + self.slip)

    def at(self, hz: float) -> "Line":
        """Return the same with another expected frequency."""
        return replace(self, hz=hz)


def level_needed(revolutions: float) -> float:
    """Return the level in dB that calls a fault in a record of this many revolutions."""
    return max(LEVEL_DB_MIN, LEVEL_DB + 10 * math.log10(max(revolutions, 1e-9) / LEVEL_REVOLUTIONS))


def fault_lines(
    block: F64, rate_hz: float, shaft_hz: float, orders: Mapping[str, float]
) -> tuple[dict[str, Line], float | None]:
    """Return for each family its clearest lines, over all bands of the whitened block; and the speed measured, in Hz.

    block: (n,) f64, any unit; at least a few dozen revolutions. orders: family → multiple of the shaft's frequency.
    A family that does not fit below the highest frequency is left out.
    """
    step = rate_hz / block.size
    over = bands(rate_hz, max(orders.values()) * shaft_hz)
    # Nothing above the highest line that is looked at; over many bands that is most of it.
    last = int(((1 + SLIP + SPEED_TOLERANCE) * HARMONICS * max(orders.values()) + 2) * shaft_hz / step) + CARPET_MIN
    acceleration = np.abs(np.fft.rfft(block - block.mean()))[:last]
    spectra = [(band, each[:last].copy()) for band, each in envelope_spectra(whitened(block), step, over)]
    speed = measured_speed(acceleration, [each for _, each in spectra], step, shaft_hz)
    turning = shaft_hz if speed is None else speed
    wide = [(band, each, (band[1] - band[0]) / step) for band, each in spectra]
    found = clearest(wide, step, turning, orders, len(over), lambda size: _free_of_others(size, step, turning))
    off = turning / shaft_hz
    told = {family: replace(line, hz=line.hz / off, slip=(1 + line.slip) * off - 1) for family, line in found.items()}
    return told, speed


def clearest(
    spectra: Iterable[tuple[Band, F64, float]],
    step: float,
    shaft: float,
    orders: Mapping[str, float],
    bands_searched: int,
    free_of_others: Callable[[int], NDArray[np.bool_]],
) -> dict[str, Line]:
    """Return for each family its clearest lines over the envelope spectra of all bands.

    spectra: each band, its amplitudes, and how many bins of them are used at most. step: distance of bins, in the
    unit of `shaft`: Hz, or orders. free_of_others: tells of so many bins which belong to nothing else.
    """
    searched = bands_searched * len(orders)
    found: dict[str, Line] = {}
    for band, amplitudes, width in spectra:
        free = free_of_others(amplitudes.size) & ~_skirts(amplitudes, shaft / step)
        for family, order in orders.items():
            measured = _family(amplitudes, free, order * shaft / step, shaft / step, width)
            if measured is None:
                continue
            slip, level, chance, harmonics, is_covered = measured
            at = order * shaft * (1 + slip) / step
            beside = [_beside(amplitudes, at, each * shaft / step) for each in (1.0, orders.get("ftf", 0.4))]
            line = Line(
                order * shaft, slip, level, min(1.0, chance * searched), band, harmonics,
                (beside[0], beside[1]), is_covered,
            )  # fmt: skip
            if family not in found or _rank(line) > _rank(found[family]):
                found[family] = line
    return found


def _skirts(amplitudes: F64, shaft_bins: float) -> NDArray[np.bool_]:
    """Return which bins a strong line of the shaft reaches: a line of height H falls to H / (π d) at d bins from it."""
    covered = np.zeros(amplitudes.size, bool)
    count = int((amplitudes.size - 2) / shaft_bins)
    if count < 1:
        return covered
    at = np.rint(np.arange(1, count + 1) * shaft_bins).astype(np.int64)
    height = np.maximum(np.maximum(amplitudes[at - 1], amplitudes[at]), amplitudes[at + 1])
    whole = amplitudes[: int(count * shaft_bins) + 1]
    pieces = np.array_split(whole, max(count // 5, 1))  # the carpet falls slowly: one height for five turns
    carpet = np.repeat([np.median(piece) for piece in pieces], -(-count // len(pieces)))[:count]
    reach = np.minimum(height / (np.pi * SKIRT * np.maximum(carpet, 1e-300)), SKIRT_MAX * shaft_bins).astype(np.int64)
    for place, bins in zip(at[reach > MASK_BINS], reach[reach > MASK_BINS], strict=True):
        covered[max(place - bins, 0) : place + bins + 1] = True
    return covered


def _beside(amplitudes: F64, line: float, distance: float) -> float:
    """Return the mean level in dB of the bins a distance below and above a line; all in bins."""
    carpet = np.median(amplitudes[max(int(line - 1.5 * distance), 1) : int(line + 1.5 * distance) + 2])
    places = [round(line - distance), round(line + distance)]
    heights = [amplitudes[max(place - 1, 0) : place + 2].max(initial=0.0) for place in places if place > 1]
    return float(np.mean(20 * np.log10(np.maximum(heights, 1e-9 * carpet) / carpet))) if heights and carpet > 0 else 0.0


def _rank(line: Line) -> tuple[bool, float]:
    """Lines beyond chance come first, then the higher ones."""
    return line.chance <= P_FALSE_ALARM, line.level_db


def _free_of_others(size: int, step_hz: float, shaft_hz: float) -> NDArray[np.bool_]:
    """Return which bins belong neither to a multiple of the shaft's frequency nor to one of the mains."""
    hz = np.arange(size) * step_hz
    free = np.ones(size, bool)
    for base, drift in ((shaft_hz, SPEED_DRIFT), *((mains, MAINS_DRIFT) for mains in MAINS_HZ)):
        distance = np.abs(hz - np.round(hz / base) * base)
        free &= distance > MASK_BINS * step_hz + drift * hz
    return free


def _family(
    amplitudes: F64, free: NDArray[np.bool_], line_bins: float, shaft_bins: float, width_bins: float
) -> tuple[float, float, float, tuple[float, ...], bool] | None:
    """Return slip, level in dB, chance in one band, each harmonic's level, and whether it is covered by other lines.

    None if under three harmonics fit.

    All harmonics share one slip, so the comb is moved as a whole, by at most a bin of its highest harmonic.
    """
    top = (1 + SLIP) * line_bins
    count = min(HARMONICS, int((min(width_bins, amplitudes.size - 3) - shaft_bins) / top))
    if count < HARMONICS_MIN:
        return None
    trials = 2 * math.ceil(SLIP * count * line_bins) + 1
    slips = np.linspace(-SLIP, SLIP, trials)
    ratios, chances = np.empty((count, trials)), np.empty((count, trials))
    seen = np.zeros((count, trials), bool)
    candidates = np.where(free, amplitudes, 0.0)
    for harmonic in range(1, count + 1):
        centre = harmonic * line_bins
        near = slice(max(int(centre - 0.9 * shaft_bins), 1), int(centre + 0.9 * shaft_bins) + 1)
        carpet = amplitudes[near][free[near]]
        if carpet.size < CARPET_MIN:
            return None
        reach = 1 + int(JITTER * centre)
        at = np.rint(centre * (1 + slips)).astype(np.int64)
        seen[harmonic - 1] = free[np.minimum(at, free.size - 1)]
        highest = candidates[np.clip(at + np.arange(-reach, reach + 1)[:, None], 1, amplitudes.size - 1)].max(axis=0)
        ratio = highest / max(float(np.median(carpet)), 1e-300)
        # The median of few bins may lie low by chance; the bound allows for that.
        power = np.minimum((ratio * RAYLEIGH_MEDIAN / (1 + carpet.size**-0.5)) ** 2 / 2, 700.0)
        ratios[harmonic - 1] = np.maximum(ratio, 1e-3)
        chances[harmonic - 1] = -np.expm1((2 * reach + 1) * np.log1p(-np.exp(-np.maximum(power, 1e-12))))
    levels = 20 * np.log10(ratios)
    level = np.sort(levels, axis=0)[-3:].mean(axis=0)
    ordered = np.sort(chances, axis=0)
    chance = np.minimum(_at_least(count, 2, ordered[1]), _at_least(count, 3, ordered[2]))
    chance = 3 * trials * np.minimum(chance, chances[0])
    best = int(np.argmax(level))
    is_covered = bool(np.mean(seen[:, np.abs(slips) <= SLIP_USUAL].sum(axis=0) < 2) > 0.5)
    return float(slips[best]), float(level[best]), float(chance[best]), tuple(levels[:, best].tolist()), is_covered


def _at_least(count: int, least: int, chance: F64) -> F64:
    """Return the probability that at least so many of `count` independent events of this chance happen."""
    total = np.zeros_like(chance)
    for k in range(least, count + 1):
        total += math.comb(count, k) * chance**k * (1 - chance) ** (count - k)
    return total


def block_needed(orders: Mapping[str, float], shaft_hz: float) -> tuple[float, float]:
    """Return the least seconds and the least rate in Hz of a block in which every family can be judged."""
    highest = max(orders.values()) * shaft_hz
    return REVOLUTIONS_MIN / shaft_hz, 2 * (HARMONICS_MIN * (1 + SLIP) * highest + shaft_hz)
