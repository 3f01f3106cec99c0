"""All trend features of one second of samples in one call: no memory is taken, every index is made beforehand.

One transform of the raw block serves all: Hann's window is a convolution with three bins, velocity and displacement are
sums over its power, and the envelope comes out of the band's bins alone, already decimated to the band.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.analytics.condition.bearing.lines import SLIP
from edge.analytics.condition.names import SAMPLES_MIN as SIZE_MIN
from edge.analytics.condition.signal import fourier as ft
from edge.analytics.condition.signal.spectrum import velocity_band
from edge.analytics.kernels import kernel

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

FEATURES = (
    "mean", "rms", "peak", "crest", "kurtosis", "skewness", "flat", "clipped", "missing",
    "velocity_rms", "displacement_rms", "band_rms", "order_1", "order_2", "orders_3_10", "subsynchronous",
    "mesh", "mesh_sidebands", "envelope_rms", "envelope_kurtosis", "bpfo", "bpfi", "bsf2", "ftf",
    "bpfi_sidebands", "highest_hz",
)  # fmt: skip
"""What `features` puts at each place. Amplitudes in the unit u of the samples, u·s and u·s² for velocity and
displacement, lines in dB over their neighbourhood, sidebands as a share of their line."""

SIZE = len(FEATURES)
(MEAN, RMS, PEAK, CREST, KURTOSIS, SKEWNESS, FLAT, CLIPPED, MISSING, VELOCITY, DISPLACEMENT, BAND, ORDER_1, ORDER_2,
 ORDERS, SUBSYNCHRONOUS, MESH, MESH_SIDEBANDS, ENVELOPE, ENVELOPE_KURTOSIS, BPFO, BPFI, BSF2, FTF, BPFI_SIDEBANDS,
 HIGHEST) = range(SIZE)  # fmt: skip
FAMILIES = ("bpfo", "bpfi", "bsf2", "ftf")
HARMONICS = 3
SIDEBANDS = 2
FLOAT_MAX = float(np.finfo(np.float64).max)
ENVELOPE_SHARE = (0.1, 0.3)
"""The envelope's band where none is chosen, as shares of the rate: above the machine's own lines, below the filter."""

HIGH_BAND_HZ = (1000.0, 10000.0)


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Everything that does not change from block to block. Made once; the work space makes it one thread's own.

    size        samples of a block; of the form 2ᵃ·5ᵇ and even they go through the kernel, others through numpy
    integers    (8,) i64: first and last bin of velocity and of the high band, of the envelope's band, highest line bin
    reals       (3,) f64: Hz of a bin, factor of the power, samples
    spans       (13, 2) i64: bins of the orders 1 to 10, below the shaft, of the mesh, and its sidebands (as 2 ranges)
    lines       (families · harmonics, 4) i64: neighbourhood and search range of each line; empty ranges where unknown
    """

    size: int
    is_quick: bool
    integers: I64
    reals: F64
    spans: I64
    lines: I64
    passes: I64
    turns: F64
    unpack: F64
    band_passes: I64
    band_turns: F64
    line_passes: I64
    line_turns: F64
    line_unpack: F64
    work: F64
    work_band: F64
    work_lines: F64
    power: F64


def plan(
    size: int, rate_hz: float, rpm: float, orders: Mapping[str, float], band_hz: tuple[float, float], teeth: int = 0
) -> Plan:
    """Return the plan of a machine's blocks.

    Args:
        size: samples of a block, at least `SIZE_MIN`.
        rate_hz: samples a second.
        rpm: turns of the shaft a minute.
        orders: of the bearing's lines, may be empty.
        band_hz: of the envelope.
        teeth: of a gear on the shaft, 0 without one.

    Raises:
        ValueError: the block is too short, or the envelope's band does not lie below half the rate.
    """
    if size < SIZE_MIN:
        raise ValueError(f"a block of {size} samples is shorter than {SIZE_MIN}")
    is_quick = size % 2 == 0 and ft.is_suitable(size)
    step, shaft, half = rate_hz / size, rpm / 60, size // 2
    first, last = int(band_hz[0] / step) + 1, int(band_hz[1] / step)
    if not 0 < first < last < half:
        raise ValueError(f"the band {band_hz} does not lie between 0 and {rate_hz / 2} Hz")
    band_size = _suitable(last - first)

    def bins(low_hz: float, high_hz: float) -> tuple[int, int]:
        low, high = max(int(np.ceil(low_hz / step)), 1), min(int(high_hz / step) + 1, half)
        return (low, high) if low < high else (0, 0)

    reach = max(2 * step, 0.02 * shaft)
    spans = [bins(k * shaft - reach, k * shaft + reach) for k in range(1, 11)] + [bins(0.2 * shaft, 0.8 * shaft)]
    mesh = teeth * shaft
    spans += [bins(mesh - reach, mesh + reach), bins(mesh - 3.5 * shaft, mesh + 3.5 * shaft)] if teeth else [(0, 0)] * 2
    lines = np.zeros((len(FAMILIES) * HARMONICS + 2, 4), np.int64)
    limit = band_size // 2
    for number, family in enumerate(FAMILIES):
        for harmonic in range(1, HARMONICS + 1):
            if family in orders:
                lines[number * HARMONICS + harmonic - 1] = _search(
                    harmonic * orders[family] * shaft / step, shaft / step, limit
                )
    if "bpfi" in orders:
        for side, sign in enumerate((-1, 1)):
            lines[-2 + side] = _search((orders["bpfi"] + sign) * shaft / step, shaft / step, limit)
    low, high = velocity_band(rpm)
    power_last = max(bins(0, HIGH_BAND_HZ[1])[1], int(spans[-1][1]), bins(low, high)[1])
    integers = np.array([*bins(low, high), *bins(*HIGH_BAND_HZ), first, last, power_last, int(lines[:, 3].max())])
    window = 0.375  # mean square of Hann's window
    return Plan(
        size, is_quick, integers.astype(np.int64),
        np.array([step, 2.0 / (size * size * window), size]),
        np.array(spans, np.int64), lines, ft.radices(half), ft.twiddles(half if is_quick else 1), _unpacking(half),
        ft.radices(band_size), ft.twiddles(band_size), ft.radices(band_size // 2), ft.twiddles(band_size // 2),
        _unpacking(band_size // 2), np.zeros((4, half + ft.PAD)), np.zeros((4, band_size + ft.PAD)),
        np.zeros((4, band_size // 2 + ft.PAD)), np.zeros(half + 1),
    )  # fmt: skip


def _suitable(least: int) -> int:
    length = least + least % 2
    while not ft.is_suitable(length):
        length += 2
    return length


def _search(line: float, shaft: float, limit: int) -> tuple[int, int, int, int]:
    """Return bins of the neighbourhood, and between them those of the line; nothing where it does not fit."""
    reach = max(SLIP * line, 1.0)
    low, high = max(int(line - 0.9 * shaft), 1), int(line + 0.9 * shaft) + 1
    inner_low, inner_high = int(np.floor(line - reach)), int(np.ceil(line + reach)) + 1
    if high > limit or inner_low <= low or inner_high >= high:
        return 0, 0, 0, 0
    return low, inner_low, inner_high, high


def _unpacking(half: int) -> F64:
    turn = np.exp(-1j * np.pi * np.arange(half) / half)
    return np.stack([turn.real, turn.imag])


def features(block: F64, made: Plan, out: F64) -> None:
    """Measure a block of (size,) f64 samples into (26,) f64; see `FEATURES`. With a sample missing all else is NaN."""
    measure = _features if made.is_quick else _features_numpy
    measure(
        block, made.integers, made.reals, made.spans, made.lines, made.passes, made.turns, made.unpack,
        made.band_passes, made.band_turns, made.line_passes, made.line_turns, made.line_unpack,
        made.work, made.work_band, made.work_lines, made.power, out,
    )  # fmt: skip


def _features_numpy(
    block: F64, integers: I64, reals: F64, spans: I64, lines: I64, passes: I64, turns: F64, unpack: F64,
    band_passes: I64, band_turns: F64, line_passes: I64, line_turns: F64, line_unpack: F64,
    work: F64, work_band: F64, work_lines: F64, power: F64, out: F64,
) -> None:  # fmt: skip
    """Do what the kernel does, with numpy alone."""
    out[:] = np.nan
    n = block.size
    missing = int(np.count_nonzero(~np.isfinite(block)))
    out[MISSING] = missing / n
    if missing:
        return
    _shape(block, out)
    spectrum = np.fft.rfft(block)
    spectrum[0] = 0.0
    power_last = int(integers[6])
    hann = 0.5 * spectrum[1:power_last] - 0.25 * (spectrum[: power_last - 1] + spectrum[2 : power_last + 1])
    power[1:power_last] = (hann.real**2 + hann.imag**2) * reals[1]
    omega2 = (2 * np.pi * reals[0] * np.arange(1, power_last)) ** 2
    first, last, high_first, high_last, band_first, band_last = integers[:6].tolist()
    inside = power[first:last]
    out[VELOCITY] = np.sqrt((inside / omega2[first - 1 : last - 1]).sum())
    out[DISPLACEMENT] = np.sqrt((inside / omega2[first - 1 : last - 1] ** 2).sum())
    out[BAND] = np.sqrt(power[high_first:high_last].sum())
    sums = np.array([power[low:high].sum() for low, high in spans.tolist()])
    _orders(sums, spans, out)
    size = work_band.shape[1] - ft.PAD
    band = np.zeros(size, complex)
    band[: band_last - band_first] = spectrum[band_first:band_last]
    signal = np.fft.ifft(band) * (2.0 * size / n)
    squared = signal.real**2 + signal.imag**2
    mean = squared.mean()
    out[ENVELOPE] = np.sqrt(mean / 2)
    out[ENVELOPE_KURTOSIS] = (squared * squared).mean() / (mean * mean) - 2 if mean > 0 else np.nan
    amplitudes = np.abs(np.fft.rfft(squared))[: int(integers[7]) + 1]
    _lines(amplitudes, lines, reals[0], out)


def _shape(block: F64, out: F64) -> None:
    n = block.size
    mean, low, high = block.mean(), block.min(), block.max()
    d = block - mean
    m2 = (d * d).mean()
    out[MEAN], out[RMS], out[PEAK] = mean, np.sqrt(m2), max(high - mean, mean - low)
    out[FLAT] = np.count_nonzero(block[1:] == block[:-1]) / (n - 1)
    rails = int(np.count_nonzero(block == low)), int(np.count_nonzero(block == high))
    out[CLIPPED] = sum(each for each in rails if each > 2) / n if high > low else 0.0
    if m2 > 1e-24 * max(mean * mean, 1e-280):
        out[CREST] = out[PEAK] / out[RMS]
        out[SKEWNESS] = (d * d * d).mean() / m2**1.5
        out[KURTOSIS] = (d * d * d * d).mean() / (m2 * m2)


@kernel("void(f8[::1], i8[:, ::1], f8[::1])")
def _orders(sums: F64, spans: I64, out: F64) -> None:
    """Turn the power in each span into order values."""
    out[ORDER_1] = np.sqrt(sums[0]) if spans[0, 1] else np.nan
    out[ORDER_2] = np.sqrt(sums[1]) if spans[1, 1] else np.nan
    total = 0.0
    for order in range(2, 10):
        total += sums[order]
    out[ORDERS] = np.sqrt(total) if spans[2, 1] else np.nan
    out[SUBSYNCHRONOUS] = np.sqrt(sums[10]) if spans[10, 1] else np.nan
    out[MESH] = np.sqrt(sums[11]) if spans[11, 1] else np.nan
    out[MESH_SIDEBANDS] = np.sqrt(max(sums[12] - sums[11], 0.0) / sums[11]) if sums[11] > 0 else np.nan


@kernel("void(f8[::1], i8[:, ::1], f8, f8[::1])")
def _lines(amplitudes: F64, lines: I64, step: float, out: F64) -> None:
    """Measure lines over the mean of their neighbourhood; BPFI's sidebands over BPFI."""
    best, best_at = 0.0, 0
    heights = np.zeros(lines.shape[0])
    for number in range(lines.shape[0]):
        low, inner_low, inner_high, high = lines[number]
        if high == 0:
            heights[number] = np.nan
            continue
        carpet, peak = 0.0, 0.0
        for place in range(low, inner_low):
            carpet += amplitudes[place]
        for place in range(inner_high, high):
            carpet += amplitudes[place]
        carpet /= inner_low - low + high - inner_high
        for place in range(inner_low, inner_high):
            if amplitudes[place] > peak:
                peak = amplitudes[place]
            if amplitudes[place] > best:
                best, best_at = amplitudes[place], place
        heights[number] = peak / carpet if carpet > 0 else np.nan
    for family in range(4):
        total = 0.0
        for harmonic in range(3):
            total += 20 * np.log10(heights[3 * family + harmonic])
        out[BPFO + family] = total / 3
    out[BPFI_SIDEBANDS] = (heights[12] + heights[13]) / (2 * heights[3])
    out[HIGHEST] = best_at * step if best > 0 else np.nan


@kernel("void(f8[::1], f8[::1])", _shape, contract=True, finite=True)
def _shape_sums(block: F64, out: F64) -> None:
    """Measure the shape of a block in two passes, each a plain sum; NaN anywhere makes all NaN."""
    n = block.size
    shift = block[0]
    s1 = s2 = s3 = s4 = 0.0
    for index in range(n):
        d = block[index] - shift
        d2 = d * d
        s1 += d
        s2 += d2
        s3 += d2 * d
        s4 += d2 * d2
    # A minimum waits for the one before; four of them, each of a quarter, do not wait for each other.
    quarter = n // 4
    b0, b1, b2, b3 = block[:quarter], block[quarter:], block[2 * quarter :], block[3 * quarter :]
    l0 = l1 = l2 = l3 = h0 = h1 = h2 = h3 = shift
    for index in range(quarter):
        l0, h0 = min(l0, b0[index]), max(h0, b0[index])
        l1, h1 = min(l1, b1[index]), max(h1, b1[index])
        l2, h2 = min(l2, b2[index]), max(h2, b2[index])
        l3, h3 = min(l3, b3[index]), max(h3, b3[index])
    for index in range(4 * quarter, n):
        l0, h0 = min(l0, block[index]), max(h0, block[index])
    low, high = min(min(l0, l1), min(l2, l3)), max(max(h0, h1), max(h2, h3))
    at_low = at_high = same = 0
    for index in range(n):
        at_low += 1 if block[index] == low else 0
        at_high += 1 if block[index] == high else 0
    before, after = block[: n - 1], block[1:]
    for index in range(n - 1):
        same += 1 if after[index] == before[index] else 0
    a = s1 / n
    mean = shift + a
    m2 = max(s2 / n - a * a, 0.0)
    out[MEAN], out[RMS] = mean, np.sqrt(m2)
    out[PEAK] = max(high - mean, mean - low)
    out[FLAT] = same / (n - 1)
    clipped = (at_low if at_low > 2 else 0) + (at_high if at_high > 2 else 0)
    out[CLIPPED] = clipped / n if high > low else 0.0
    if m2 > 1e-24 * max(mean * mean, 1e-280):
        out[CREST] = out[PEAK] / out[RMS]
        out[SKEWNESS] = (s3 / n - 3 * a * s2 / n + 2 * a * a * a) / m2**1.5
        out[KURTOSIS] = (s4 / n - 4 * a * s3 / n + 6 * a * a * s2 / n - 3 * a * a * a * a) / (m2 * m2)


def _envelope_twin(*_: object) -> None:
    raise AssertionError("only the kernel calls it")


@kernel(
    "void(f8[::1], f8[::1], i8[::1], f8[::1], i8[:, ::1], i8[::1], f8[::1], i8[::1], f8[::1], f8[:, ::1], "
    "f8[:, ::1], f8[:, ::1], f8[::1], f8[::1])",
    _envelope_twin, contract=True, no_overlap=True,
)  # fmt: skip
def _envelope(
    xr: F64, xi: F64, integers: I64, reals: F64, lines: I64, band_passes: I64, band_turns: F64,
    line_passes: I64, line_turns: F64, line_unpack: F64, band: F64, small: F64, amplitudes: F64, out: F64,
) -> None:  # fmt: skip
    """Take the squared envelope of the band and measure its lines."""
    size = band.shape[1] - ft.PAD
    first, count = integers[4], integers[5] - integers[4]
    # Real and imaginary part changed places: the transform is then the inverse one, and so is the square.
    for k in range(count):
        band[0, k] = xi[first + k]
        band[1, k] = xr[first + k]
    for k in range(count, size):
        band[0, k] = 0.0
        band[1, k] = 0.0
    ft.transform(band[:2], band[2:], band_passes, band_turns)
    into = 0 if band_passes.size % 2 == 0 else 2
    zr, zi = band[into], band[into + 1]
    scale = (2.0 / reals[2]) ** 2
    total = square = 0.0
    even, odd = small[0], small[1]
    for place in range(size // 2):
        a = scale * (zr[2 * place] * zr[2 * place] + zi[2 * place] * zi[2 * place])
        b = scale * (zr[2 * place + 1] * zr[2 * place + 1] + zi[2 * place + 1] * zi[2 * place + 1])
        even[place], odd[place] = a, b
        total += a + b
        square += a * a + b * b
    mean = total / size
    out[ENVELOPE] = np.sqrt(mean / 2)
    if mean > 0:
        out[ENVELOPE_KURTOSIS] = square / size / (mean * mean) - 2
    ft.transform(small[:2], small[2:], line_passes, line_turns)
    into = 0 if line_passes.size % 2 == 0 else 2
    half = size // 2
    for k in range(1, integers[7] + 1):
        ar, ai = small[into, k], small[into + 1, k]
        br, bi = small[into, half - k], -small[into + 1, half - k]
        er, ei, dr, di = 0.5 * (ar + br), 0.5 * (ai + bi), 0.5 * (ar - br), 0.5 * (ai - bi)
        c, s = line_unpack[0, k], line_unpack[1, k]
        re, im = er + c * di + s * dr, ei - c * dr + s * di
        amplitudes[k] = np.sqrt(re * re + im * im)
    _lines(amplitudes, lines, reals[0], out)


_ARRAYS = ", ".join(["f8[::1]", "i8[::1]", "f8[::1]", "i8[:, ::1]", "i8[:, ::1]", "i8[::1]", "f8[::1]", "f8[:, ::1]"])
_REST = ", ".join(["i8[::1]", "f8[::1]", "i8[::1]", "f8[::1]", "f8[:, ::1]", "f8[:, ::1]", "f8[:, ::1]", "f8[:, ::1]"])


@kernel(f"void({_ARRAYS}, {_REST}, f8[::1], f8[::1])", _features_numpy, contract=True, no_overlap=True)
def _features(
    block: F64, integers: I64, reals: F64, spans: I64, lines: I64, passes: I64, turns: F64, unpack: F64,
    band_passes: I64, band_turns: F64, line_passes: I64, line_turns: F64, line_unpack: F64,
    work: F64, work_band: F64, work_lines: F64, power: F64, out: F64,
) -> None:  # fmt: skip
    """Measure a block; see `features`."""
    n = block.size
    half = n // 2
    for place in range(out.size):
        out[place] = np.nan
    total = 0.0
    for index in range(n):
        total += block[index]
    missing = 0
    # Not `isfinite`: that is x - x == 0, which sums in any order make true.
    if not abs(total) <= FLOAT_MAX:
        for index in range(n):
            missing += 0 if abs(block[index]) <= FLOAT_MAX else 1
    out[MISSING] = missing / n
    if missing:
        return
    _shape_sums(block, out)
    even, odd = work[0], work[1]
    for index in range(half):
        even[index] = block[2 * index]
        odd[index] = block[2 * index + 1]
    ft.transform(work[:2], work[2:], passes, turns)
    into, free = (0, 2) if passes.size % 2 == 0 else (2, 0)
    zr, zi, xr, xi = work[into], work[into + 1], work[free], work[free + 1]
    last_needed = max(integers[6], integers[5]) + 1
    xr[0], xi[0] = 0.0, 0.0
    cosine, sine = unpack[0], unpack[1]
    for k in range(1, min(last_needed, half - 1) + 1):
        ar, ai, br, bi = zr[k], zi[k], zr[half - k], -zi[half - k]
        er, ei, dr, di = 0.5 * (ar + br), 0.5 * (ai + bi), 0.5 * (ar - br), 0.5 * (ai - bi)
        xr[k] = er + cosine[k] * di + sine[k] * dr
        xi[k] = ei - cosine[k] * dr + sine[k] * di
    scale, base = reals[1], 2 * np.pi * reals[0]
    r1, r2, i1, i2, inner = xr[1:], xr[2:], xi[1:], xi[2:], power[1:]
    for k in range(integers[6] - 1):
        wr = 0.5 * r1[k] - 0.25 * (xr[k] + r2[k])
        wi = 0.5 * i1[k] - 0.25 * (xi[k] + i2[k])
        inner[k] = scale * (wr * wr + wi * wi)
    velocity = displacement = high = 0.0
    for k in range(integers[0], integers[1]):
        over = 1.0 / (base * k) ** 2
        velocity += power[k] * over
        displacement += power[k] * over * over
    for k in range(integers[2], integers[3]):
        high += power[k]
    out[VELOCITY], out[DISPLACEMENT], out[BAND] = np.sqrt(velocity), np.sqrt(displacement), np.sqrt(high)
    sums = np.zeros(spans.shape[0])
    for number in range(spans.shape[0]):
        for k in range(spans[number, 0], spans[number, 1]):
            sums[number] += power[k]
    _orders(sums, spans, out)
    _envelope(xr, xi, integers, reals, lines, band_passes, band_turns, line_passes, line_turns, line_unpack,
              work_band, work_lines, power, out)  # fmt: skip
