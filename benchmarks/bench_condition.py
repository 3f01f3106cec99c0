"""Trend features of vibration: all 26 outputs of a second at 25.6 kHz, one thread, against what else one could do.

Peers in the same run: plain scipy (filters, Hilbert transform, statistics, one call each), good numpy with scipy.fft
(the kernel's algorithm), and one chain of FFTW transforms of the same sizes where pyFFTW is installed: the floor of
the transforms alone. It is no part of the product because FFTW is under the GPL. Memory of large arrays is kept by the
process, so that no peer pays for fresh pages. Times are CPU times: the machine may have other guests.
"""

import os
import sys
import time
from collections.abc import Callable

import numpy as np
import scipy.fft
import scipy.signal
import scipy.stats

from edge.analytics.condition.bearing.bearings import bearing
from edge.analytics.condition.signal import block as b
from edge.analytics.condition.signal.fourier import PAD

RATE, SIZE, RPM, TEETH = 25600.0, 25600, 1480.0, 31
BAND = (2560.0, 7679.5)
ORDERS = bearing("6205").orders
SHAFT = RPM / 60
REPEATS = 15
TARGETS = {"plain scipy": 25.0, "good scipy.fft": 2.0, "FFTW chain": 0.5}


BAND_FILTER = scipy.signal.butter(4, BAND, "band", fs=RATE, output="sos")


def plain(x: b.F64) -> list[float]:
    """Measure the 26 outputs with scipy as its documentation shows it: a filter, a Hilbert transform, two periodograms.

    Nothing is done twice, the filter is designed once, and bins are slices, so that only the algorithm is slow.
    """
    d = x - x.mean()
    rms, low, high = float(np.sqrt(np.mean(d**2))), x.min(), x.max()
    peak = float(max(-d.min(), d.max()))
    rails = [count for count in ((x == low).sum(), (x == high).sum()) if count > 2]
    envelope = np.abs(scipy.signal.hilbert(scipy.signal.sosfiltfilt(BAND_FILTER, d))) ** 2
    f, spectrum = scipy.signal.periodogram(d, RATE, "hann")
    _, lines = scipy.signal.periodogram(envelope, RATE)
    lines = np.sqrt(lines)
    step = float(f[1])
    velocity = spectrum[10:1001] / (2 * np.pi * f[10:1001]) ** 2
    displacement = velocity / (2 * np.pi * f[10:1001]) ** 2

    def level(hz: float) -> float:
        first, last = int((hz - 0.9 * SHAFT) / step), int((hz + 0.9 * SHAFT) / step) + 1
        reach = int((0.02 * hz + 1) / step)
        middle = round(hz / step)
        peak = lines[middle - reach : middle + reach + 1].max()
        carpet = lines[first : middle - reach].sum() + lines[middle + reach + 1 : last].sum()
        return float(peak * (last - first - 2 * reach - 1) / carpet)

    def power(low: float, high: float) -> float:
        return float(np.sqrt(step * spectrum[int(np.ceil(low / step)) : int(high / step) + 1].sum()))

    families = [np.mean([20 * np.log10(level(k * ORDERS[name] * SHAFT)) for k in (1, 2, 3)]) for name in b.FAMILIES]
    mesh, around = (power((TEETH - wide) * SHAFT, (TEETH + wide) * SHAFT) for wide in (2 / SHAFT, 3.5))
    sides = [level((ORDERS["bpfi"] + sign) * SHAFT) for sign in (-1, 1)]
    return [
        x.mean(), rms, peak, peak / rms, scipy.stats.kurtosis(x, fisher=False), scipy.stats.skew(x),
        float(np.mean(np.diff(x) == 0)), sum(rails) / x.size, float(np.mean(~np.isfinite(x))),
        float(np.sqrt(step * velocity.sum())), float(np.sqrt(step * displacement.sum())),
        power(1000, 10000), power(SHAFT - 2, SHAFT + 2), power(2 * SHAFT - 2, 2 * SHAFT + 2),
        float(np.sqrt(sum(power(k * SHAFT - 2, k * SHAFT + 2) ** 2 for k in range(3, 11)))),
        power(0.2 * SHAFT, 0.8 * SHAFT), mesh, float(np.sqrt(around**2 - mesh**2)) / mesh,
        float(np.sqrt(envelope.mean() / 2)),
        float(np.mean(envelope**2) / np.mean(envelope) ** 2 - 2), *map(float, families),
        sum(sides) / 2 / level(ORDERS["bpfi"] * SHAFT), float(f[np.argmax(lines[1:600]) + 1]),
    ]  # fmt: skip


class Good:
    """The kernel's algorithm in numpy with scipy.fft: nothing twice, everything prepared, no loop over samples."""

    def __init__(self, made: b.Plan) -> None:
        self._made = made
        last = int(made.integers[6])
        self._over = 1 / (2 * np.pi * made.reals[0] * np.arange(1, last)) ** 2
        self._edges = made.spans.ravel()
        self._d, self._d2 = np.empty(SIZE), np.empty(SIZE)

    def __call__(self, x: b.F64, out: b.F64) -> None:
        """Measure a block."""
        made = self._made
        n = x.size
        mean, low, high = x.mean(), x.min(), x.max()
        d = np.subtract(x, mean, out=self._d)
        d2 = np.multiply(d, d, out=self._d2)
        m2 = np.dot(d, d) / n
        out[b.MEAN], out[b.RMS], out[b.PEAK] = mean, np.sqrt(m2), max(high - mean, mean - low)
        out[b.MISSING] = 0.0 if np.isfinite(mean) else 1.0
        out[b.CREST] = out[b.PEAK] / out[b.RMS]
        out[b.KURTOSIS], out[b.SKEWNESS] = np.dot(d2, d2) / n / m2**2, np.dot(d2, d) / n / m2**1.5
        out[b.FLAT] = np.count_nonzero(x[1:] == x[:-1]) / (n - 1)
        rails = np.count_nonzero(x == low), np.count_nonzero(x == high)
        out[b.CLIPPED] = sum(each for each in rails if each > 2) / n
        first, last, high_first, high_last, band_first, band_last, power_last, line_last = made.integers.tolist()
        spectrum = scipy.fft.rfft(x)
        spectrum[0] = 0
        hann = 0.5 * spectrum[1:power_last] - 0.25 * (spectrum[: power_last - 1] + spectrum[2 : power_last + 1])
        power = made.power
        power[1:power_last] = (hann.real**2 + hann.imag**2) * made.reals[1]
        velocity = power[first:last] * self._over[first - 1 : last - 1]
        out[b.VELOCITY] = np.sqrt(velocity.sum())
        out[b.DISPLACEMENT] = np.sqrt(np.dot(velocity, self._over[first - 1 : last - 1]))
        out[b.BAND] = np.sqrt(power[high_first:high_last].sum())
        b._orders(np.add.reduceat(power, self._edges)[::2].copy(), made.spans, out)
        size = made.work_band.shape[1] - PAD
        band = np.zeros(size, complex)
        band[: band_last - band_first] = spectrum[band_first:band_last]
        signal = scipy.fft.ifft(band, overwrite_x=True)
        squared = (signal.real**2 + signal.imag**2) * (2 * size / n) ** 2
        envelope = squared.mean()
        out[b.ENVELOPE] = np.sqrt(envelope / 2)
        out[b.ENVELOPE_KURTOSIS] = np.dot(squared, squared) / size / envelope**2 - 2
        b._lines(np.abs(scipy.fft.rfft(squared)[: line_last + 1]), made.lines, made.reals[0], out)


def best_us(work: Callable[[], object], calls: int) -> float:
    """Return CPU microseconds a call, the best of several rounds: the machine has other guests."""
    rounds = []
    for _ in range(REPEATS):
        begin = time.thread_time()
        for _ in range(calls):
            work()
        rounds.append((time.thread_time() - begin) / calls)
    return 1e6 * min(rounds)


def fftw_chain(size: int) -> Callable[[], object] | None:
    """Return the three transforms alone: real block, the band back, real envelope."""
    try:
        import pyfftw
    except ImportError:
        return None

    def planned(into: int, out: int, real: bool, direction: str) -> Callable[[], object]:
        a = pyfftw.empty_aligned(into, "float64" if real else "complex128")
        a[:] = 1
        execute: Callable[[], object] = pyfftw.FFTW(
            a, pyfftw.empty_aligned(out, "complex128"), direction=direction, flags=("FFTW_MEASURE",)
        ).execute
        return execute

    chain = [
        planned(SIZE, SIZE // 2 + 1, True, "FFTW_FORWARD"), planned(size, size, False, "FFTW_BACKWARD"),
        planned(size, size // 2 + 1, True, "FFTW_FORWARD"),
    ]  # fmt: skip

    def run() -> None:
        for each in chain:
            each()

    return run


def main() -> int:
    """Print the table. Returns 1 when a target is missed."""
    x = np.random.default_rng(1).normal(size=SIZE)
    made = b.plan(SIZE, RATE, RPM, ORDERS, BAND, TEETH)
    out, other = np.empty(b.SIZE), np.empty(b.SIZE)
    good = Good(made)
    b.features(x, made, out)
    good(x, other)
    difference = float(np.nanmax(np.abs(out - other) / np.maximum(np.abs(other), 1e-12)))
    kernel = best_us(lambda: b.features(x, made, out), 100)
    peers = {
        "plain scipy": best_us(lambda: plain(x), 3),
        "good scipy.fft": best_us(lambda: good(x, other), 30),
    }
    chain = fftw_chain(made.work_band.shape[1] - PAD)
    if chain is not None:
        peers["FFTW chain"] = best_us(chain, 100)
    print(
        f"kernel           {kernel:8.0f} µs a channel-second, {b.SIZE} outputs; differs from numpy by {difference:.0e}"
    )
    missed = 0
    for name, us in peers.items():
        ratio, target = us / kernel, TARGETS[name]
        missed += ratio < target
        verdict = "" if ratio >= target else "MISSED"
        print(f"{name:16} {us:8.0f} µs  {ratio:6.2f} × the kernel  (target ≥ {target:g}) {verdict}")
    if chain is None:
        print("FFTW chain       not measured: pip install pyfftw beside this program to compare")
    return 1 if missed else 0


KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "1000000000", "MALLOC_TRIM_THRESHOLD_": "1000000000"}

if __name__ == "__main__":
    if not KEEP_MEMORY.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **KEEP_MEMORY})
    sys.exit(main())
