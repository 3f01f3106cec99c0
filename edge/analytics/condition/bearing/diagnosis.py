"""The judgement of one recorded waveform: features, fault lines, a verdict with its evidence, or why there is none."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge.analytics.condition.bearing.lines import (
    JITTER,
    LEVEL_DB_MIN,
    P_FALSE_ALARM,
    P_FLOOR,
    Line,
    fault_lines,
    level_needed,
)
from edge.analytics.condition.names import REVOLUTIONS_MIN, SLOW_BELOW_RPM
from edge.analytics.condition.severity import Limits, zone
from edge.analytics.condition.signal import moments as m
from edge.analytics.condition.signal.envelope import FLOOR_LINES, kurtogram
from edge.analytics.condition.signal.spectrum import band_rms, order_rms, power_spectrum, velocity_band
from edge.core.language import say

if TYPE_CHECKING:
    from edge.analytics.condition.turning.tacho import Track

F64 = NDArray[np.float64]

STANDARD_GRAVITY = 9.80665
FAULTS = {"bpfo": "outer_race", "bpfi": "inner_race", "bsf2": "ball", "ftf": "cage"}

REVOLUTIONS_MAX = 600.0
"""Of a longer record the middle part is judged: over more turns the slip smears the lines."""

MISSING_MAX = 0.01
CLIPPED_MAX = 0.01
FLAT_MAX = 0.5
IMPULSIVE_KURTOSIS = 4.0
SAME_BINS = 2.0
"""Lines of two families this close are the same."""

SPEED_OFF_MIN = 0.003
"""From here it is told that the shaft turns at another speed than given."""

SIDEBANDS_DB = 10.0
"""Sidebands count from this height over the carpet."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with the bearing.

    fault          outer_race, inner_race, ball, cage, none, or not_diagnosable
    evidence       why, in one sentence
    p_false_alarm  bound on the chance that noise alone shows this; None without a fault
    """

    fault: str
    evidence: str
    p_false_alarm: float | None = None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything known from one record. Features carry their unit in their name."""

    features: dict[str, float]
    lines: dict[str, Line]
    verdict: Verdict
    zone: str | None
    level_needed_db: float
    notes: tuple[str, ...] = field(default=())


def diagnose(
    block: F64,
    rate_hz: float,
    rpm: float,
    orders: Mapping[str, float],
    *,
    si: bool = True,
    limits: Limits | None = None,
    track: "Track | None" = None,
) -> Diagnosis:
    """Judge one record of acceleration.

    Args:
        block: (n,) f64, m/s², not empty; NaN where samples are missing.
        rate_hz: samples a second.
        rpm: turns of the shaft a minute.
        orders: of the bearing's fault lines, `Bearing.orders`; empty where it is not known.
        si: whether the amplitudes are really m/s²; if not, no velocity and no zone is told.
        limits: the standard's borders for this machine; without them no zone is told.
        track: the turns of a shaft of changing speed; then lines are looked for over the angle instead of the time.

    Raises:
        NoSpeed: with a track: too few turns, or the speed changes too much for one block.
    """
    shape = np.empty(m.SIZE)
    m.moments(block, shape)
    notes: list[str] = []
    health = _health(shape)
    good = block
    if shape[m.MISSING]:
        good = np.where(np.isfinite(block), block, shape[m.MEAN]) if shape[m.MISSING] < 1 else np.zeros(block.size)
    features = _features(good, shape, rate_hz, rpm, orders, si)
    if track is None:
        judged = middle(good, rate_hz, rpm)
        if judged.size < good.size:
            notes.append(say("the middle {seconds:.1f} s are judged for lines", seconds=judged.size / rate_hz))
        revolutions = judged.size / rate_hz * rpm / 60
    else:
        from edge.analytics.condition.turning.orders import (  # kernels that most machines do without
            bearing_lines,
            within,
        )

        judged = good
        revolutions = float(within(track, (good.size - 1) / rate_hz, REVOLUTIONS_MAX)[1])
    lines: dict[str, Line] = {}
    if orders and not health and np.ptp(judged) > 0 and revolutions >= REVOLUTIONS_MIN:
        if track is None:
            lines, speed_hz = fault_lines(judged, rate_hz, rpm / 60, orders)
            if speed_hz is not None and abs(60 * speed_hz / rpm - 1) > SPEED_OFF_MIN:
                words = say(
                    "the lines of the shaft tell {measured:.1f} rpm, not {given:g}", measured=60 * speed_hz, given=rpm
                )
                notes.append(words)
        else:
            lines = bearing_lines(judged, rate_hz, track, orders, REVOLUTIONS_MAX)
    verdict = _health_verdict(health, revolutions) or _verdict(
        lines, revolutions, features["kurtosis"], rate_hz / judged.size
    )
    found = None
    if limits is not None and si:
        found = zone(features["velocity_rms_mm_s"], limits.velocity) or None
        if 0 < rpm < SLOW_BELOW_RPM and limits.displacement is not None:
            other = zone(features["displacement_rms_um"], limits.displacement)
            found = max(found or "", other) or None
        notes.append(say("zone by {clause}", clause=limits.clause))
    return Diagnosis(features, lines, verdict, found, level_needed(revolutions), tuple(notes))


def _health(shape: F64) -> str:
    """Return what is wrong with the sensor, or nothing."""
    if shape[m.MISSING] > MISSING_MAX:
        return say("{share:.1%} of the samples are missing", share=shape[m.MISSING])
    if shape[m.RMS] == 0 or shape[m.FLAT] > FLAT_MAX:
        return say("the signal is flat: {share:.0%} of the samples repeat the one before", share=shape[m.FLAT])
    if shape[m.CLIPPED] > CLIPPED_MAX:
        return say("{share:.1%} of the samples are clipped", share=shape[m.CLIPPED])
    return ""


def _features(
    block: F64, shape: F64, rate_hz: float, rpm: float, orders: Mapping[str, float], si: bool
) -> dict[str, float]:
    frequencies, power = power_spectrum(block, rate_hz)
    shaft = rpm / 60
    low, high = velocity_band(rpm)
    features = {
        "acceleration_rms_g": shape[m.RMS] / STANDARD_GRAVITY,
        "acceleration_peak_g": shape[m.PEAK] / STANDARD_GRAVITY,
        "bias_g": shape[m.MEAN] / STANDARD_GRAVITY,
        "crest_factor": shape[m.CREST],
        "kurtosis": shape[m.KURTOSIS],
        "skewness": shape[m.SKEWNESS],
        "velocity_rms_mm_s": 1e3 * band_rms(frequencies, power, low, high, integrate=1),
        "displacement_rms_um": 1e6 * band_rms(frequencies, power, low, high, integrate=2),
        "band_rms_1_10_khz_g": band_rms(frequencies, power, 1e3, 10e3) / STANDARD_GRAVITY,
        "order_1_g": order_rms(frequencies, power, shaft, 1) / STANDARD_GRAVITY,
        "order_2_g": order_rms(frequencies, power, shaft, 2) / STANDARD_GRAVITY,
        "orders_3_10_g": float(np.sqrt(np.nansum([order_rms(frequencies, power, shaft, k) ** 2 for k in range(3, 11)])))
        / STANDARD_GRAVITY,
        "subsynchronous_g": band_rms(frequencies, power, 0.2 * shaft, 0.8 * shaft) / STANDARD_GRAVITY,
        "flat_share": shape[m.FLAT],
        "clipped_share": shape[m.CLIPPED],
        "missing_share": shape[m.MISSING],
    }
    floor = FLOOR_LINES * max(orders.values(), default=0.0) * shaft
    part = middle(block, rate_hz, rpm)
    if orders and np.ptp(part) > 0 and rate_hz / 2 >= floor and (tree := kurtogram(part, rate_hz, floor)):
        band, kurtosis = max(tree, key=lambda entry: entry[1])
        features |= {"kurtogram_low_hz": band[0], "kurtogram_high_hz": band[1], "kurtogram_kurtosis": kurtosis}
    if not si:
        features = {name: value for name, value in features.items() if not name.endswith(("_mm_s", "_um"))}
    if shape[m.MISSING] == 1:
        features |= {name: float("nan") for name in features if not name.endswith("_share")}
    return {name: float(value) for name, value in features.items()}


def middle(block: F64, rate_hz: float, rpm: float) -> F64:
    """Return the part of a block whose lines are judged."""
    wanted = int(REVOLUTIONS_MAX * 60 / rpm * rate_hz)
    spare = max(block.size - wanted, 0)
    return block[spare // 2 : block.size - (spare - spare // 2)]


def _health_verdict(health: str, revolutions: float) -> Verdict | None:
    if health:
        return Verdict("not_diagnosable", health)
    if revolutions < REVOLUTIONS_MIN:
        words = say(
            "{count:.1f} turns of the shaft are too few: {least:.0f} are needed",
            count=revolutions,
            least=REVOLUTIONS_MIN,
        )
        return Verdict("not_diagnosable", words)
    return None


def _verdict(lines: dict[str, Line], revolutions: float, kurtosis: float, step_hz: float) -> Verdict:
    if not {"bpfo", "bpfi", "bsf2"} <= lines.keys():
        return Verdict("not_diagnosable", say("the rate is too low: fault lines do not fit below its half"))
    needed = level_needed(revolutions)
    beyond_chance = {name: line for name, line in lines.items() if line.chance <= P_FALSE_ALARM}
    called = {name: line for name, line in beyond_chance.items() if line.level_db >= needed}
    if called:
        return _fault(called, beyond_chance, needed, step_hz)
    weak = {name: line for name, line in beyond_chance.items() if line.level_db >= LEVEL_DB_MIN}
    if weak:
        name, line = max(weak.items(), key=lambda item: item[1].level_db)
        words = say(
            "{name} at {hz:.1f} Hz is more than chance, but {level:.1f} dB are below the {needed:.1f} dB of a fault",
            name=name.upper(), hz=line.hz, level=line.level_db, needed=needed,
        )  # fmt: skip
        return Verdict("not_diagnosable", words)
    if kurtosis > IMPULSIVE_KURTOSIS:
        words = say("strokes (kurtosis {kurtosis:.1f}) that no line of this bearing explains", kurtosis=kurtosis)
        return Verdict("not_diagnosable", words)
    if covered := [name for name, line in lines.items() if line.is_covered]:
        words = say(
            "no line stands out, but {names} cannot be seen: "
            "multiples of the shaft's or the mains' frequency lie there",
            names=", ".join(f"{name.upper()} ({lines[name].hz:.1f} Hz)" for name in covered),
        )
        return Verdict("not_diagnosable", words)
    return Verdict("none", say("no line of this bearing stands out in any band"))


def _fault(called: dict[str, Line], beyond_chance: dict[str, Line], needed: float, step_hz: float) -> Verdict:
    """Name the fault whose lines are high enough; a ball by the cage's line too, which only its lines explain."""
    races = {name: line for name, line in called.items() if name != "ftf"}
    if not races:
        ball = beyond_chance.get("bsf2")
        if ball is None or ball.level_db < LEVEL_DB_MIN:
            return _told("ftf", called["ftf"], needed)
        words = say(
            "BSF2 at {hz:.1f} Hz: {level:.1f} dB over the carpet, and FTF at {cage_hz:.1f} Hz: {cage_level:.1f} dB; "
            "a fault from {needed:.1f} dB",
            hz=ball.hz, level=ball.level_db,
            cage_hz=called["ftf"].hz, cage_level=called["ftf"].level_db, needed=needed,
        )  # fmt: skip
        return Verdict("ball", words, max(ball.chance, P_FLOOR))
    highest = max(races, key=lambda name: races[name].level_db)
    near = SAME_BINS * step_hz + JITTER * races[highest].hz
    same = [name for name, line in races.items() if abs(line.found_hz - races[highest].found_hz) <= near]
    if len(same) == 1:
        return _told(highest, races[highest], needed)
    by_shaft, by_cage = races[highest].sidebands
    name = highest
    if "bsf2" in same and by_cage >= max(by_shaft, SIDEBANDS_DB):
        name = "bsf2"
    elif "bpfi" in same and by_shaft >= max(by_cage, SIDEBANDS_DB):
        name = "bpfi"
    elif "bpfo" in same and max(by_shaft, by_cage) < SIDEBANDS_DB:
        name = "bpfo"
    doubt = say(
        "{others} lies there too: told apart by sidebands of the shaft ({by_shaft:.0f} dB) "
        "and the cage ({by_cage:.0f} dB)",
        others=", ".join(other.upper() for other in same if other != name), by_shaft=by_shaft, by_cage=by_cage,
    )  # fmt: skip
    return _told(name, races[name], needed, f"; {doubt}")


def _told(name: str, line: Line, needed: float, doubt: str = "") -> Verdict:
    words = say(
        "{name} at {hz:.1f} Hz: {level:.1f} dB over the carpet in {low:.0f}–{high:.0f} Hz; "
        "a fault from {needed:.1f} dB",
        name=name.upper(), hz=line.hz, level=line.level_db, low=line.band[0], high=line.band[1], needed=needed,
    )  # fmt: skip
    return Verdict(FAULTS[name], words + doubt, max(line.chance, P_FLOOR))
