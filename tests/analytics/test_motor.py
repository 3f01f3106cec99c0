"""Motor current: levels of planted lines, where the slip comes from, what is not diagnosable; the operator."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.analytics.condition.bearing.bearings import bearing
from edge.analytics.condition.motor.current import Motor, NotDiagnosable, current_spectrum
from edge.analytics.condition.motor.watch import MotorWatch
from edge.analytics.conformance import check_operator
from edge.analytics.operator import Derived, Rows
from edge.core.batch import Severity, Waveform
from tests.analytics.test_watch import T0, S, machine

F64 = NDArray[np.float64]
RATE, SUPPLY, RATED, SLIP = 2000.0, 49.963, 42.0, 0.012
ORDERS = bearing("6308").orders
MOTOR = Motor(50.0, 1480.0, RATED, ORDERS)
SHAFT = SUPPLY * (1 - SLIP) / 2
RPM = 60 * SHAFT


def current(seconds: float = 20, load: float = 0.9, noise_db: float = -70, seed: int = 1, **lines: float) -> F64:
    """Return a phase current: supply, its harmonics, noise, and lines as name=dB below the supply."""
    t = np.arange(int(seconds * RATE)) / RATE
    places = {
        "lower": SUPPLY * (1 - 2 * SLIP), "upper": SUPPLY * (1 + 2 * SLIP),
        "below": SUPPLY - SHAFT, "above": SUPPLY + SHAFT,
        "bpfo": SUPPLY + 0.99 * ORDERS["bpfo"] * SHAFT, "h3": 3 * SUPPLY, "h5": 5 * SUPPLY, "h7": 7 * SUPPLY,
    }  # fmt: skip
    block = np.cos(2 * np.pi * SUPPLY * t)
    for name, level in ({"h3": -40, "h5": -34, "h7": -38} | lines).items():
        block += 10 ** (level / 20) * np.cos(2 * np.pi * places[name] * t + len(name))
    block += 10 ** (noise_db / 20) * np.random.default_rng(seed).normal(size=t.size)
    return block * load * RATED * math.sqrt(2)


def test_the_name_plate_tells_pole_pairs_and_slip() -> None:
    assert MOTOR.pole_pairs == 2
    assert MOTOR.rated_slip == pytest.approx(20 / 1500)
    assert Motor(60.0, 3540.0, 1).pole_pairs == 1
    assert Motor(50.0, 735.0, 1).pole_pairs == 4


@pytest.mark.parametrize("seconds", [10.0, 20.0])
@pytest.mark.parametrize("rpm", [math.nan, RPM])
def test_levels_are_those_that_were_planted(seconds: float, rpm: float) -> None:
    found = current_spectrum(current(seconds, lower=-40, upper=-43, below=-50, above=-52, bpfo=-65), RATE, MOTOR, rpm)
    assert found.supply_hz == pytest.approx(SUPPLY, abs=1e-4)
    assert found.load == pytest.approx(0.9, rel=1e-3)
    assert abs(found.slip - SLIP) <= found.slip_doubt < 0.1 * SLIP + 5e-4
    assert found.slip_from == ("shaft" if math.isnan(rpm) else "speed")
    planted = {"rotor_bars_lower": -40, "rotor_bars_upper": -43, "eccentricity_lower": -50, "eccentricity_upper": -52}
    for name, level in planted.items():
        assert found.lines[name].level_db == pytest.approx(level, abs=0.2)
        assert found.lines[name].is_visible
        assert found.lines[name].floor_db < -80
    assert found.lines["rotor_bars_lower"].hz == pytest.approx(SUPPLY * (1 - 2 * SLIP), abs=0.01)
    if seconds == 20:
        assert found.lines["bpfo"].level_db == pytest.approx(-65, abs=0.5)
        assert found.lines["bpfo"].is_visible


def test_a_healthy_motor_shows_no_line_and_harmonics_are_taken_for_none() -> None:
    seen = 0
    for seed in range(10):
        found = current_spectrum(current(below=-50, above=-52, seed=seed), RATE, MOTOR, RPM)
        assert found.lines["rotor_bars_lower"].level_db < -75
        seen += sum(found.lines[name].is_visible for name in ("rotor_bars_lower", "rotor_bars_upper", *ORDERS))
    assert seen <= 1


def test_without_speed_and_shaft_lines_the_slip_is_estimated_with_its_doubt() -> None:
    found = current_spectrum(current(lower=-40, upper=-43), RATE, MOTOR)
    assert found.slip_from == "name plate"
    assert abs(found.slip - SLIP) <= found.slip_doubt == pytest.approx(0.4 * found.slip)
    assert found.lines["rotor_bars_lower"].level_db == pytest.approx(-40, abs=0.2)


def test_lines_too_close_to_the_supplys_are_not_told() -> None:
    found = current_spectrum(current(10, lower=-40), RATE, MOTOR, 60 * SUPPLY / 2 * (1 - 0.003))
    assert "rotor_bars_lower" not in found.lines


@pytest.mark.parametrize(
    ("block", "rpm", "code"),
    [
        (current(8), math.nan, "too_short"),
        (current(load=0.4), math.nan, "low_load"),
        (np.full(40000, np.nan), math.nan, "missing_samples"),
        (100 * np.random.default_rng(1).normal(size=40000), math.nan, "no_supply"),
        (np.zeros(40000), math.nan, "no_supply"),
        (current() * np.linspace(0.8, 1.2, 40000), math.nan, "unsteady_load"),
        (current(), 1520.0, "slip_not_plausible"),
        (current(), 1200.0, "slip_not_plausible"),
    ],
)
def test_what_is_not_diagnosable_says_why(block: F64, rpm: float, code: str) -> None:
    with pytest.raises(NotDiagnosable) as caught:
        current_spectrum(block, RATE, MOTOR, rpm)
    assert caught.value.code == code


def watch() -> MotorWatch:
    motor = {
        "currents": {"i1": 1.0}, "joined": ["i1"], "rated_a": RATED, "supply_hz": 50.0, "window_s": 10.0,
        "bars_db": [-45.0, -36.0],
    }  # fmt: skip
    return MotorWatch(machine(motor=motor, rpm=1480.0, orders={}, speed="speed", running=None))


def wave(samples: F64, at: int) -> Waveform:
    return Waveform(0, at, RATE, 100.0, np.round(samples / 100 * 32768).astype(np.int16))


def rows(operator: MotorWatch, blocks: list[F64], rpm: float = RPM) -> Rows:
    """Return blocks of 10 s, each in two parts that follow each other."""
    slots = {path.partition(".")[2]: slot for slot, path in enumerate(operator.inputs)}
    waves = []
    for number, block in enumerate(blocks):
        for part in (0, 1):
            half = block[part * 10000 : (part + 1) * 10000]
            waves.append((slots["i1"], wave(half, T0 + number * 600 * S + part * 5 * S)))
    return replace(Rows.of([slots["speed"]], [T0 - S], [rpm]), waveforms=waves, waveforms_at=())


def told(operator: MotorWatch, out: Derived) -> dict[str, Any]:
    return {operator.outputs[each.output].name: each.value for each in out.readings}


def test_broken_bars_are_an_alarm_after_three_blocks_from_any_cut() -> None:
    blocks = [current(10, lower=-34, upper=-38, seed=number) for number in range(3)]
    blocks += [current(10, lower=-60, seed=number) for number in range(3)]
    out = check_operator(watch, rows(watch(), blocks), T0 + 3600 * S, rounds=2)
    on, over = out.events
    assert (on.kind, on.severity) == ("condition_alarm", Severity.HIGH)
    assert on.message.startswith("pump-3.i1_rotor_bars_lower shows lines of broken rotor bars, or a load that puls")
    facts = on.facts
    assert (facts["rule"], facts["limit"], facts["unit"], facts["readings"]) == ("rotor bars", -45.0, "dB", 3)
    assert facts["value"] == pytest.approx(-34, abs=0.3)
    assert facts["upper_db"] == pytest.approx(-38, abs=0.3)
    assert facts["slip_from"] == "speed"
    assert "no standard" in str(facts["clause"])
    ((output, evidence),) = out.waveforms
    assert watch().outputs[output].name == facts["evidence"] == "i1_motor_evidence"
    assert len(evidence) == 20000
    assert over.kind == "condition_alarm_over"
    names = told(watch(), out)
    assert names["i1_motor"] == "judged"
    assert names["i1_supply_frequency"] == pytest.approx(SUPPLY, abs=1e-3)
    assert names["i1_slip"] == pytest.approx(1.2, abs=0.01)


def test_a_motor_that_is_not_loaded_says_so_and_nothing_else() -> None:
    operator = watch()
    out = operator.push(rows(operator, [current(10, load=0.3)]), T0 + 600 * S)
    assert told(operator, out) == {"i1_motor": "low_load"}
