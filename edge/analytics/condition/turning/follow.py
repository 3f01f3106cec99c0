"""The speed of a shaft without a tacho: its own line followed from spectrum to spectrum, where it stands out enough."""

import numpy as np
from numpy.typing import NDArray

from edge.analytics.condition.turning.tacho import NoSpeed, Track
from edge.core.language import say

F64 = NDArray[np.float64]

WINDOW_TURNS = 10.0
HOPS = 4
SNR_DB = 15.0
"""How far the line must stand over the median of its surroundings: noise does so in one of 10⁸ windows."""

LOST_MAX = 0.05
STEP_MAX = 0.1
"""Speed that changes by more than this share from one window's quarter to the next is another line."""


def followed(block: F64, rate_hz: float, low_hz: float, high_hz: float) -> Track:
    """Return the turns that the shaft's line between two frequencies shows.

    Good for low orders and for bearing lines, which slip anyway; of high orders the errors add up.

    Args:
        block: (n,) f64, finite, in any unit.
        rate_hz: samples a second.
        low_hz: the slowest speed in turns a second that is looked for.
        high_hz: the fastest.

    Raises:
        NoSpeed: the block is too short, or no line stands out, or it jumps.
    """
    size = int(WINDOW_TURNS / low_hz * rate_hz)
    hop = max(size // HOPS, 1)
    count = (block.size - size) // hop + 1 if block.size >= size else 0
    if count < HOPS or high_hz * 3 > rate_hz / 2:
        words = say("too few turns, or too low a rate, to follow the shaft's line")
        raise NoSpeed("too_few_turns", words)
    window = np.hanning(size + 1)[:-1]
    padded = 4 * size
    bins = slice(int(low_hz * padded / rate_hz), int(high_hz * padded / rate_hz) + 2)
    around = slice(int(0.4 * low_hz * padded / rate_hz), int(2.5 * high_hz * padded / rate_hz))
    speeds, lost = np.empty(count), 0
    for number in range(count):
        part = block[number * hop : number * hop + size]
        size_of = np.abs(np.fft.rfft((part - part.mean()) * window, padded))
        peak = bins.start + int(np.argmax(size_of[bins]))
        carpet = float(np.median(size_of[around]))
        at_edge = peak in (bins.start, bins.stop - 1)
        lost += at_edge or not size_of[peak] > carpet * 10 ** (SNR_DB / 20)
        a, b, c = np.log(np.maximum(size_of[peak - 1 : peak + 2], 1e-300))
        bend = a - 2 * b + c
        speeds[number] = (peak + (0.5 * (a - c) / bend if bend < 0 else 0.0)) * rate_hz / padded
    if lost > LOST_MAX * count:
        words = say(
            "the shaft's line does not stand {level:.0f} dB over its surroundings in {lost} of {count} windows",
            level=SNR_DB, lost=lost, count=count,
        )  # fmt: skip
        raise NoSpeed("no_line", words)
    if bool(np.any(np.abs(np.diff(speeds)) > STEP_MAX * speeds[1:])):
        raise NoSpeed("no_line", say("the line that was followed jumps"))
    seconds: F64 = np.arange(count, dtype=np.float64) * (hop / rate_hz) + (size - 1) / 2 / rate_hz
    turns = np.zeros(count)
    np.cumsum((speeds[1:] + speeds[:-1]) / 2 * np.diff(seconds), out=turns[1:])
    return Track(seconds, turns)
