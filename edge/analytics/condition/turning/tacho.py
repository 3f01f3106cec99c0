"""Pulses of a tachometer: from samples to edges, from edges to the turns of the shaft over time, with what is wrong.

Source: order tracking as in Fyfe & Munck, MSSP 11 (1997) 187: pulse times give the angle, between them it is smooth.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.analytics.kernels import kernel
from edge.core.language import say

F64 = NDArray[np.float64]

LOW, MIDDLE, HIGH = 0.35, 0.5, 0.65
"""Where between its lowest and highest level a pulse begins: after it was below LOW and gets to HIGH, at MIDDLE."""

SPIKES = 2000
"""One sample in so many may lie beyond the levels."""

BETWEEN_MAX = 0.6
"""Pulses and sines are seldom half way between their levels; noise mostly is."""

TURNS_MIN = 4.0
FAULTY_MAX = 0.05
"""Missing, additional and irregular pulses may be this share of all."""

MARKED_TURNS_MIN = 8
"""Turns from which the real places of several marks are known."""

MARKS_MAX = 256
"""Of a wheel with more, an encoder, the spacing is taken as equal."""

NEIGHBOURS = 4
SHORT, MISSING_MAX, IRREGULAR = 0.6, 4, 0.3
SPEED_RATIO_MAX = 10.0


class NoSpeed(Exception):
    """Why a block has no usable speed: `code` for programs, the words for people."""

    def __init__(self, code: str, words: str = "") -> None:
        super().__init__(words)
        self.code = code


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """The turns of a shaft over time.

    seconds  (m,) f64, rising: since the first sample of the block that is judged
    turns    (m,) f64, rising: of the shaft, at those times
    missing  pulses that were not there, `additional` those too many, neither counted
    """

    seconds: F64
    turns: F64
    missing: int = 0
    additional: int = 0

    @property
    def span(self) -> float:
        """How many turns it covers."""
        return float(self.turns[-1] - self.turns[0])

    def hz(self) -> tuple[float, float, float]:
        """Return the slowest, mean and fastest speed in turns a second, each over one turn."""
        first, last = self.turns[0], self.turns[-1]
        at = np.empty(int(last - first) + 1)
        cubic(self.turns, self.seconds, first + np.arange(at.size), at)
        speeds = 1 / np.diff(at)
        return float(speeds.min()), self.span / float(self.seconds[-1] - self.seconds[0]), float(speeds.max())


def _edges_numpy(samples: F64, low: float, middle: float, high: float, out: F64) -> int:
    """Do what `edges` does, with numpy alone."""
    marks = np.where(samples < low, -1, np.where(samples >= high, 1, 0))
    at = np.flatnonzero(marks)
    fires = at[1:][(marks[at[1:]] == 1) & (marks[at[:-1]] == -1)]
    ups = np.flatnonzero((samples[:-1] < middle) & (samples[1:] >= middle))
    place = ups[np.searchsorted(ups, fires, side="left") - 1] if fires.size else fires
    found = place + (middle - samples[place]) / (samples[place + 1] - samples[place])
    out[: found.size] = found[: out.size]
    return int(found.size)


@kernel("i8(f8[::1], f8, f8, f8, f8[::1])", _edges_numpy)
def edges(samples: F64, low: float, middle: float, high: float, out: F64) -> int:
    """Find rising edges: below `low` arms, `high` fires, and the edge lies where `middle` was crossed last before.

    Args:
        samples: (n,) f64, finite, in any unit.
        low: level that arms, in that unit; so `middle` and `high`.
        middle: level whose crossing is the edge, interpolated between samples.
        high: level that fires.
        out: (m,) f64, gets the edges in samples from the first; as many as fit.

    Returns:
        How many there are.
    """
    count = 0
    crossing = 0.0
    armed = samples.size > 0 and samples[0] < low
    for index in range(1, samples.size):
        before, x = samples[index - 1], samples[index]
        if before < middle <= x:
            crossing = index - 1 + (middle - before) / (x - before)
        if x < low:
            armed = True
        elif armed and x >= high:
            if count < out.size:
                out[count] = crossing
            count += 1
            armed = False
    return count


def _cubic_numpy(x: F64, y: F64, at: F64, out: F64) -> None:
    """Do what `cubic` does, with numpy alone."""
    first = np.clip(np.searchsorted(x, at, side="right") - 2, 0, x.size - 4)
    out[:] = 0.0
    for i in range(4):
        weight = np.ones(at.size)
        for j in range(4):
            if i != j:
                weight *= (at - x[first + j]) / (x[first + i] - x[first + j])
        out += weight * y[first + i]


@kernel("void(f8[::1], f8[::1], f8[::1], f8[::1])", _cubic_numpy)
def cubic(x: F64, y: F64, at: F64, out: F64) -> None:
    """Interpolate with the cubic through the four nearest knots (Lagrange).

    Args:
        x: (m,) f64, m ≥ 4, strictly rising, in any unit.
        y: (m,) f64, values there.
        at: (n,) f64, not falling, in the unit of `x`; beyond the knots it extrapolates.
        out: (n,) f64, gets the values there.
    """
    first = 0
    for place in range(at.size):
        t = at[place]
        while first < x.size - 4 and x[first + 2] <= t:
            first += 1
        a, b, c, d = t - x[first], t - x[first + 1], t - x[first + 2], t - x[first + 3]
        ab, ac, ad = x[first] - x[first + 1], x[first] - x[first + 2], x[first] - x[first + 3]
        bc, bd, cd = x[first + 1] - x[first + 2], x[first + 1] - x[first + 3], x[first + 2] - x[first + 3]
        out[place] = (
            y[first] * (b / ab) * (c / ac) * (d / ad)
            - y[first + 1] * (a / ab) * (c / bc) * (d / bd)
            + y[first + 2] * (a / ac) * (b / bc) * (d / cd)
            - y[first + 3] * (a / ad) * (b / bd) * (c / cd)
        )


def pulse_edges(samples: F64) -> F64:
    """Return the rising edges of a tachometer's samples, in samples from the first.

    Raises:
        NoSpeed: there are no pulses in it.
    """
    n = samples.size
    if n < SPIKES // 10 or not np.isfinite(samples).all():
        raise NoSpeed("no_pulses", say("the tacho's block is too short or has gaps"))
    spare = n // SPIKES
    ordered = np.partition(samples, [spare, n - 1 - spare])
    lowest, highest = float(ordered[spare]), float(ordered[n - 1 - spare])
    size = highest - lowest
    between = np.count_nonzero(np.abs(samples - (lowest + highest) / 2) < size / 4) / n
    if size <= 0 or between > BETWEEN_MAX:
        raise NoSpeed("no_pulses", say("the tacho shows no pulses"))
    out = np.empty(n // 2 + 1)
    count = edges(samples, lowest + LOW * size, lowest + MIDDLE * size, lowest + HIGH * size, out)
    return out[:count].copy()


def track_of(seconds: F64, pulses: int) -> Track:
    """Return the turns that pulses show.

    Args:
        seconds: (m,) f64, rising: when each pulse came, since the first sample of the block that is judged.
        pulses: equally spaced ones in a turn.

    Raises:
        NoSpeed: there are too few, or they come so irregularly that the angle is not known.
    """
    if seconds.size < max(TURNS_MIN * pulses + 1, 6):
        words = say("{count} pulses are fewer than {least:.0f} turns", count=seconds.size, least=TURNS_MIN)
        raise NoSpeed("too_few_turns", words)
    gaps = np.diff(seconds)
    padded = np.pad(gaps, NEIGHBOURS, mode="edge")
    usual = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * NEIGHBOURS + 1), axis=1)
    if bool(np.all(np.abs(gaps / usual - 1) < IRREGULAR)):
        return Track(seconds, _spaced(seconds, np.arange(seconds.size), pulses))
    kept, steps, additional, irregular = _mended(seconds, np.append(usual, usual[-1]))
    missing = int(steps[-1]) - (steps.size - 1)
    faulty = missing + additional + irregular
    if faulty > FAULTY_MAX * seconds.size:
        words = say(
            "the tacho is irregular: of {count} pulses {missing} are missing, {additional} too many, "
            "{irregular} out of place",
            count=seconds.size, missing=missing, additional=additional, irregular=irregular,
        )  # fmt: skip
        raise NoSpeed("irregular_pulses", words)
    times = np.ascontiguousarray(seconds[kept])
    return Track(times, _spaced(times, steps, pulses), missing, additional)


def _spaced(seconds: F64, steps: NDArray[np.int64], pulses: int) -> F64:
    """Return the turns at each pulse, with the marks where they really are: no wheel's are exactly equally spaced.

    The first mark tells whole turns; each other lies where, in the middle of all turns, the angle between those is.
    """
    equal = steps / pulses
    marks = steps % pulses
    first = np.flatnonzero(marks == 0)
    if pulses == 1 or pulses > MARKS_MAX or first.size < MARKED_TURNS_MIN:
        return equal
    angle = np.empty(steps.size)
    cubic(np.ascontiguousarray(seconds[first]), np.ascontiguousarray(equal[first]), seconds, angle)
    inside = slice(int(first[0]), int(first[-1]) + 1)
    off, mark = (angle - equal)[inside], marks[inside]
    by_mark = [float(np.median(off[mark == each])) if (mark == each).any() else 0.0 for each in range(pulses)]
    spaced: F64 = equal + np.array(by_mark)[marks]
    return spaced if bool(np.all(np.diff(spaced) > 0)) else equal


def _mended(seconds: F64, usual: F64) -> tuple[list[int], NDArray[np.int64], int, int]:
    """Return which pulses are kept, how many steps of a pulse each is from the first, those too many, those askew."""
    kept, steps, additional, irregular = [0], [0], 0, 0
    for index in range(1, seconds.size):
        last = kept[-1]
        ratio = (seconds[index] - seconds[last]) / usual[last]
        after = (seconds[index + 1] - seconds[last]) / usual[last] if index + 1 < seconds.size else np.inf
        if ratio < SHORT or abs(after - 1) < abs(ratio - 1):
            additional += 1
            continue
        count = max(round(float(ratio)), 1)
        if count > MISSING_MAX or abs(ratio / count - 1) > IRREGULAR:
            irregular += 1
        kept.append(index)
        steps.append(steps[-1] + count)
    return kept, np.array(steps, np.int64), additional, irregular


def tacho_track(samples: F64, rate_hz: float, pulses: int, offset_s: float = 0.0) -> Track:
    """Return the turns that a tachometer's samples show; `offset_s` is their first sample's place in the block.

    Raises:
        NoSpeed: there are no pulses, too few, or they are irregular.
    """
    return track_of(pulse_edges(samples) / rate_hz + offset_s, pulses)
