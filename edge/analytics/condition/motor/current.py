"""A motor by the spectrum of its current: lines beside the supply's, in dB below it, and how sure their place is.

Broken rotor bars show at fs (1 ± 2ks), eccentricity at fs (1 ± k (1 - s) / p), a bearing's fault at |fs ± k fv|.
Source: Thomson & Fenger, IEEE Industry Applications Magazine 7 (2001) 26; Schoen et al., IEEE Trans. Industry
Applications 31 (1995) 1274; ISO 20958. A load that pulsates so shows the same lines: nothing here tells them apart.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge.analytics.condition.bearing.lines import SLIP
from edge.analytics.condition.signal.spectrum import power_spectrum

F64 = NDArray[np.float64]

SECONDS_MIN = 10.0
LOAD_MIN = 0.5
SUPPLY_SHARE = 0.03
"""How far the supply's frequency may lie from the rated one."""

SUPPLY_POWER_MIN = 0.5
"""Part of the power that the supply's line must have: what has less is no current of a motor at its rated frequency."""

STEADY_SHARE = 0.15
"""The RMS of the parts of a block may differ by this share: slip that changes smears the lines."""

PARTS = 8
LOBE_BINS = 2
"""Hann's main lobe: bins on each side that belong to a line."""

APART_BINS = 6
"""A line so close to the supply's is none of its own."""

SKIRT_BINS = 20
"""What lies so close to the supply's harmonics is no line of a bearing."""

FLOOR_HZ = 4.0
P_FALSE_ALARM = 1e-3
SLIP_MAX = 0.12
SLIP_DOUBT = 0.4
"""Of a slip that is estimated from the name plate and the load alone, as a share of it."""

SHAFT_DB = 12.0
"""How far both lines of the shaft must stand over their floor before the slip is taken from them."""

MAGNETIZING = 0.35
"""Part of the rated current that makes the field and no torque, as usual for motors of 4 poles."""

HARMONICS = 2
SHAFT_LINES = 12
PLACE_BINS = 0.3
"""How exactly a line's place is known, in bins."""

RAYLEIGH_MEDIAN = math.sqrt(2 * math.log(2))


class NotDiagnosable(Exception):
    """Why a block of current tells nothing; `code` for programs."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Motor:
    """What the name plate says.

    supply_hz  rated frequency
    rpm        rated speed; the number of pole pairs follows from both
    rated_a    rated current, RMS
    orders     of its bearing's fault lines; may be empty
    """

    supply_hz: float
    rpm: float
    rated_a: float
    orders: Mapping[str, float] = field(default_factory=dict)

    @property
    def pole_pairs(self) -> int:
        """The largest number with which the field turns faster than the rotor."""
        return int(60 * self.supply_hz / self.rpm)

    @property
    def rated_slip(self) -> float:
        """How much slower than its field the rotor turns at its rated load."""
        return 1 - self.rpm * self.pole_pairs / (60 * self.supply_hz)


@dataclass(frozen=True, slots=True)
class CurrentLine:
    """One line: where it was expected, where it is, its level and that of its surroundings in dB below the supply's.

    is_visible  it stands out more than noise does in one of a thousand searches
    """

    expected_hz: float
    hz: float
    level_db: float
    floor_db: float
    is_visible: bool


@dataclass(frozen=True, slots=True)
class CurrentSpectrum:
    """What a block of current shows.

    slip, slip_doubt  as shares; the real slip lies within that of it
    slip_from         `speed` that was measured, the `shaft`'s lines in the current, or the `name plate`
    load              RMS current over the rated one
    lines             by name: rotor_bars_lower, rotor_bars_upper, …; empty ones do not fit
    """

    supply_hz: float
    rms_a: float
    load: float
    slip: float
    slip_doubt: float
    slip_from: str
    lines: dict[str, CurrentLine]


def current_spectrum(
    block: F64, rate_hz: float, motor: Motor, rpm: float = math.nan, rpm_doubt: float = 1.0
) -> CurrentSpectrum:
    """Judge a block of one phase's current.

    Args:
        block: (n,) f64, A.
        rate_hz: samples a second.
        motor: its name plate.
        rpm: the measured speed; NaN where it is not known.
        rpm_doubt: how far that may be wrong, rpm.

    Raises:
        NotDiagnosable: too_short, missing_samples, no_supply, low_load, unsteady_load or slip_not_plausible.
    """
    seconds = block.size / rate_hz
    if seconds < SECONDS_MIN * 0.999:
        raise NotDiagnosable("too_short")
    if not np.isfinite(block).all():
        raise NotDiagnosable("missing_samples")
    hz, power = power_spectrum(block, rate_hz)
    supply, line_power = _supply(hz, power, motor.supply_hz)
    rms = math.sqrt(float(power[1:].sum()))
    if rms < LOAD_MIN * motor.rated_a:
        raise NotDiagnosable("low_load")
    parts = block[: block.size // PARTS * PARTS].reshape(PARTS, -1).std(axis=1)
    if float(np.ptp(parts)) > STEADY_SHARE * rms:
        raise NotDiagnosable("unsteady_load")
    _, rest = power_spectrum(_without(block, rate_hz, supply), rate_hz)
    search = _Search(hz, rest, line_power, supply)
    slip, doubt, source = _slip(search, motor, rms, rpm, rpm_doubt)
    shaft = supply * (1 - slip) / motor.pole_pairs
    shaft_doubt = supply * doubt / motor.pole_pairs
    lines: dict[str, CurrentLine | None] = {}
    if 2 * (slip - doubt) * supply >= APART_BINS * hz[1]:
        for name, sign in (("rotor_bars_lower", -1), ("rotor_bars_upper", 1)):
            lines[name] = search.line(supply * (1 + sign * 2 * slip), 2 * doubt * supply)
    for name, sign in (("eccentricity_lower", -1), ("eccentricity_upper", 1)):
        lines[name] = search.line(supply + sign * shaft, shaft_doubt)
    taken = search.taken(shaft, shaft_doubt, slip, doubt)
    for family, order in motor.orders.items():
        around = [
            search.line(abs(supply + sign * k * order * shaft), k * order * (SLIP * shaft + shaft_doubt), taken)
            for k in range(1, HARMONICS + 1)
            for sign in (-1, 1)
        ]
        lines[family] = max((each for each in around if each), key=lambda each: each.level_db, default=None)
    found = {name: line for name, line in lines.items() if line is not None}
    return CurrentSpectrum(supply, rms, rms / motor.rated_a, slip, doubt, source, found)


def _supply(hz: F64, power: F64, rated_hz: float) -> tuple[float, float]:
    """Return the supply's frequency, interpolated between bins, and the power of its line."""
    near = np.flatnonzero(np.abs(hz - rated_hz) <= SUPPLY_SHARE * rated_hz)
    if near.size < 3 or near[-1] + LOBE_BINS >= hz.size:
        raise NotDiagnosable("no_supply")
    peak = int(near[np.argmax(power[near])])
    line = float(power[peak - LOBE_BINS : peak + LOBE_BINS + 1].sum())
    if not line >= SUPPLY_POWER_MIN * float(power[1:].sum()) > 0:
        raise NotDiagnosable("no_supply")
    return _between_bins(hz, power, peak), line


def _without(block: F64, rate_hz: float, supply_hz: float) -> F64:
    """Return a block without the supply's sine: its skirt would hide what lies beside it."""
    phase = 2 * np.pi * supply_hz / rate_hz * np.arange(block.size, dtype=np.float64)
    window = np.hanning(block.size + 1)[:-1]
    waves = np.stack([np.cos(phase), np.sin(phase)])
    weighted = waves * window
    parts = np.linalg.solve(weighted @ waves.T, weighted @ (block - block.mean()))
    return np.asarray(block - parts @ waves, np.float64)


def _between_bins(hz: F64, power: F64, peak: int) -> float:
    """Return a line's frequency by its two highest bins under Hann's window: Grandke, IEEE Trans. I&M 32 (1983) 350."""
    side = 1 if power[peak + 1] >= power[peak - 1] else -1
    ratio = math.sqrt(power[peak + side] / power[peak]) if power[peak] > 0 else 0.0
    return float(hz[1]) * (peak + side * min(max((2 * ratio - 1) / (1 + ratio), 0.0), 0.5))


@dataclass(frozen=True, slots=True)
class _Search:
    """Finds lines beside the supply's."""

    hz: F64
    power: F64
    supply_power: float
    supply_hz: float

    def line(self, expected_hz: float, doubt_hz: float, taken: NDArray[np.bool_] | None = None) -> CurrentLine | None:
        """Return the highest line within the doubt around a frequency; None where it does not fit beside the supply.

        taken: (bins,) bool, which belong to something else.
        """
        step = float(self.hz[1])
        reach = doubt_hz + 1.5 * step
        inside = np.abs(self.hz - expected_hz) <= reach
        inside &= np.abs(self.hz - self.supply_hz) >= APART_BINS * step
        if taken is not None:
            inside &= ~taken
        if expected_hz <= APART_BINS * step or expected_hz + reach >= self.hz[-1 - LOBE_BINS] or not inside.any():
            return None
        place = int(np.argmax(np.where(inside, self.power, -1.0)))
        level = float(self.power[place - LOBE_BINS : place + LOBE_BINS + 1].sum())
        around = np.abs(self.hz - expected_hz) <= reach + FLOOR_HZ
        around &= np.abs(self.hz - self.hz[place]) > LOBE_BINS * step
        around &= np.abs(self.hz - self.supply_hz) >= APART_BINS * step
        floor = float(np.median(self.power[around])) if around.any() else 0.0
        limit = math.sqrt(2 * math.log(max(int(inside.sum()), 1) / P_FALSE_ALARM)) / RAYLEIGH_MEDIAN
        is_visible = float(self.power[place]) > limit * limit * floor
        found = _between_bins(self.hz, self.power, place)
        return CurrentLine(expected_hz, found, self._db(level), self._db((2 * LOBE_BINS + 1) * floor), is_visible)

    def taken(self, shaft: float, shaft_doubt: float, slip: float, doubt: float) -> NDArray[np.bool_]:
        """Return which bins belong to the supply's harmonics, the shaft's lines beside it, or the rotor's bars."""
        step = float(self.hz[1])
        own = np.abs(self.hz - np.round(self.hz / self.supply_hz) * self.supply_hz) <= SKIRT_BINS * step
        for k in range(1, SHAFT_LINES + 1):
            reach = APART_BINS * step + k * shaft_doubt
            own |= np.abs(np.abs(self.hz - self.supply_hz) - k * shaft) <= reach
            own |= np.abs(self.hz + self.supply_hz - k * shaft) <= reach
        for k in range(1, HARMONICS + 1):
            reach = APART_BINS * step + 2 * k * doubt * self.supply_hz
            own |= np.abs(np.abs(self.hz - self.supply_hz) - 2 * k * slip * self.supply_hz) <= reach
        return own

    def _db(self, power: float) -> float:
        return 10 * math.log10(max(power, 1e-30) / self.supply_power)


def _slip(search: _Search, motor: Motor, rms: float, rpm: float, rpm_doubt: float) -> tuple[float, float, str]:
    """Return slip, how far it may be wrong, and where it comes from: measured, the shaft's lines, the name plate."""
    field_rpm = 60 * search.supply_hz / motor.pole_pairs
    if not math.isnan(rpm):
        slip = 1 - rpm / field_rpm
        if not 0 < slip < SLIP_MAX:
            raise NotDiagnosable("slip_not_plausible")
        return slip, rpm_doubt / field_rpm, "speed"
    torque = math.sqrt(max((rms / motor.rated_a) ** 2 - MAGNETIZING**2, 0.0) / (1 - MAGNETIZING**2))
    guess = motor.rated_slip * torque
    doubt = SLIP_DOUBT * guess
    step = float(search.hz[1])
    shaft = search.supply_hz * (1 - guess) / motor.pole_pairs
    reach = search.supply_hz * doubt / motor.pole_pairs
    pair = [search.line(search.supply_hz + sign * shaft, reach) for sign in (-1, 1)]
    if all(each is not None and each.level_db - each.floor_db >= SHAFT_DB for each in pair):
        lower, upper = (each for each in pair if each is not None)
        below, above = search.supply_hz - lower.hz, upper.hz - search.supply_hz
        if abs(below - above) <= 2 * step:
            found = 1 - (below + above) / 2 * motor.pole_pairs / search.supply_hz
            if 0 < found < SLIP_MAX:
                return found, PLACE_BINS * motor.pole_pairs * step / search.supply_hz, "shaft"
    return guess, doubt, "name plate"
