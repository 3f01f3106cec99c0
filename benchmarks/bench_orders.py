"""Order tracking of a channel-second at 25.6 kHz, one thread: edges of the tacho, the angle, three amplitudes, and the
bearing's lines over the angle; against the same steps in plain numpy, and against the steady-speed lines.

Times are CPU times of ten seconds of samples, over ten: the machine may have other guests.
"""

import sys
import time
from collections.abc import Callable

import numpy as np

from edge.analytics.condition.bearing.bearings import bearing
from edge.analytics.condition.bearing.diagnosis import REVOLUTIONS_MAX
from edge.analytics.condition.bearing.lines import fault_lines
from edge.analytics.condition.turning import orders as o
from edge.analytics.condition.turning import tacho as t

RATE, SECONDS = 25600.0, 10
REPEATS = 7


def best_us(work: Callable[[], object]) -> float:
    """Return CPU microseconds a channel-second, the best of several calls."""
    rounds = []
    for _ in range(REPEATS):
        begin = time.thread_time()
        work()
        rounds.append(time.thread_time() - begin)
    return min(rounds) * 1e6 / SECONDS


def plain(tacho: t.F64, block: t.F64, orders: list[float]) -> list[float]:
    """Do it as one would at first: interpolate the angle linearly, resample with numpy, and take the transform."""
    rises = np.flatnonzero((tacho[1:] > 2.5) & (tacho[:-1] <= 2.5)) + 1
    a_turn = 256
    places = np.interp(np.arange((rises.size - 1) * a_turn) / a_turn, np.arange(rises.size), rises)
    samples = np.interp(places, np.arange(block.size), block)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size))) * (4 / samples.size) / np.sqrt(2)
    return [float(spectrum[round(order * (rises.size - 1))]) for order in orders]


def main() -> int:
    """Print times and ratios."""
    time_s = np.arange(int(RATE * SECONDS)) / RATE
    turns = 10 * time_s + 2 * time_s**2
    tacho = np.where(turns % 1 < 0.2, 5.0, 0.0)
    sizes = {1.0: 1.0, 2.5: 0.5, 17.0: 0.2}
    block = np.sum([size * np.cos(2 * np.pi * k * turns) for k, size in sizes.items()], axis=0)
    block += 0.1 * np.random.default_rng(1).normal(size=block.size)
    orders = list(sizes)
    lines = bearing("6205").orders
    track = t.tacho_track(tacho, RATE, 1)
    angle = best_us(lambda: t.tacho_track(tacho, RATE, 1))
    amplitudes = best_us(lambda: o.order_amplitudes(block, RATE, track, orders))
    first = best_us(lambda: plain(tacho, block, orders))
    envelope = best_us(lambda: o.bearing_lines(block, RATE, track, lines, REVOLUTIONS_MAX))
    steady = best_us(lambda: fault_lines(block, RATE, 30.0, lines))
    true = np.array(list(sizes.values())) / np.sqrt(2)
    errors = [np.abs(np.array(found) / true - 1).max() for found in (
        o.order_amplitudes(block, RATE, track, orders), plain(tacho, block, orders))]  # fmt: skip
    print(f"tacho to angle            {angle:8.0f} us a channel-second")
    print(f"three orders              {amplitudes:8.0f} us a channel-second, worst amplitude {errors[0]:.2%} off")
    print(f"  plain numpy, both       {first:8.0f} us a channel-second, worst amplitude {errors[1]:.2%} off")
    print(f"  ratio                   {first / (angle + amplitudes):8.2f}")
    print(f"bearing over the angle    {envelope:8.0f} us a channel-second")
    print(f"  bearing at steady speed {steady:8.0f} us a channel-second, ratio {steady / envelope:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
