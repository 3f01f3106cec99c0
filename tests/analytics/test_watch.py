"""A machine's condition in event time: zones, changes, drift, bearing faults, with evidence; the same from any cut."""

from pathlib import Path
from typing import Any

import cbor2
import numpy as np
import pytest

from edge.agent.configuration.loader import load
from edge.analytics.condition.bearing.bearings import bearing
from edge.analytics.condition.judge import BLOCK_NS
from edge.analytics.condition.severity import LIMITS
from edge.analytics.condition.statistics.baseline import LEARN_COUNT
from edge.analytics.condition.watch import MachineWatch, make
from edge.analytics.conformance import check_operator
from edge.analytics.operator import EMPTY, Derived, Rows
from edge.analytics.registry import build
from edge.core.batch import Severity, Waveform
from edge.core.data_class import DataClass
from edge.core.quality import StatusCode
from tests.agent.test_explain import EXAMPLE
from tests.analytics.test_diagnosis import RATE, RPM, strokes

S = 10**9
T0 = 1_767_225_600 * S


def machine(**changes: Any) -> dict[str, Any]:
    limits = LIMITS["iso20816-3", "2", "rigid"]
    return {
        "device": "pump-3", "rpm": RPM, "speed": None, "clause": limits.clause,
        "velocity_mm_s": list(limits.velocity), "displacement_um": list(limits.displacement or ()),
        "orders": bearing("6205").orders, "teeth": None, "running": {"tag": "current", "above": 4.0, "hold_ns": 10 * S},
        "velocities": {"velocity": 1.0}, "waveforms": {}, "joined": [],
        "blocks": {"trend": [1.0, 1.0], "bearing": [10.0, 10.0]},
    } | changes  # fmt: skip


def watch(**changes: Any) -> MachineWatch:
    (made,) = make({"machines": [machine(**changes)]})
    assert isinstance(made, MachineWatch)
    return made


def feed(operator: MachineWatch, values: list[tuple[str, float]], start: int = 0, step: int = 10) -> Derived:
    """Push a reading every `step` seconds."""
    slots = [operator.inputs.index(f"pump-3.{tag}") for tag, _ in values]
    times = [T0 + (start + step * i) * S for i in range(len(values))]
    return operator.push(Rows.of(slots, times, [value for _, value in values]), times[-1])


def alarms(derived: Derived) -> list[tuple[str, str]]:
    return [(event.kind, str(event.facts["rule"])) for event in derived.events]


def test_a_zone_is_an_alarm_after_three_readings_and_over_after_three() -> None:
    operator = watch()
    on, off = feed(operator, [("current", 5.0)] * 2 + [("velocity", v) for v in (1, 1, 1, 5, 1, 3, 5, 3)]), None
    assert alarms(on) == [("condition_alarm", "zone")]
    (event,) = on.events
    assert event.severity is Severity.MEDIUM
    assert event.message == "pump-3.velocity zone C: 3 mm/s, the limit is 2.8 mm/s"
    facts = event.facts
    assert (facts["value"], facts["limit"], facts["unit"], facts["zone"]) == (3.0, 2.8, "mm/s", "C")
    assert facts["clause"] == "ISO 20816-3:2022 Table A.2"
    assert (facts["from"], facts["to"]) == ("2026-01-01T00:01:10.000000Z", "2026-01-01T00:01:30.000000Z")
    zones = [reading.value for reading in on.readings if operator.outputs[reading.output].name == "velocity_zone"]
    assert zones == ["A", "C"]
    off = feed(operator, [("velocity", 2.8)] * 3, start=200)
    assert alarms(off) == [("condition_alarm_over", "zone")]
    assert alarms(feed(operator, [("velocity", 6.0)] * 3, start=300)) == [("condition_alarm", "zone")]


def test_nothing_is_judged_while_it_stands_or_starts_or_is_not_known() -> None:
    operator = watch()
    shaking = [("velocity", 9.0)] * 5
    assert not feed(operator, shaking).readings
    assert not feed(operator, [("current", 1.0), *shaking], start=100).readings
    assert not feed(operator, [("current", 5.0), *shaking], start=200, step=1).readings
    bad = Rows.of(
        [operator.inputs.index("pump-3.current")], [T0 + 300 * S], [5.0], int(StatusCode.BAD_COMMUNICATION_ERROR)
    )
    operator.push(bad, T0 + 300 * S)
    assert not feed(operator, shaking, start=310).readings


def days(operator: MachineWatch, hours: float, level: float, start: float, seed: int = 1, rise: float = 0.0) -> Derived:
    """Push hours of readings, one a minute, scattering by 8 % around a level that rises by so much an hour."""
    random = np.random.default_rng(seed)
    n = int(hours * 60)
    at = [T0 + round((start * 3600 + 60 * i) * S) for i in range(n)]
    value = (level + rise * np.arange(n) / 60) * random.normal(1, 0.08, n)
    slot = [operator.inputs.index("pump-3.velocity")] * n
    return operator.push(Rows.of(slot, at, value.tolist()), at[-1])


def test_a_change_inside_a_zone_is_criterion_ii_and_teaches_nothing() -> None:
    operator = watch(running=None)
    hours = LEARN_COUNT * BLOCK_NS / 3.6e12 + 0.5
    assert alarms(days(operator, hours, 0.5, 0)) == []
    changed = days(operator, 1, 1.3, hours)
    assert ("condition_alarm", "criterion II") in alarms(changed)
    event = next(event for event in changed.events if event.facts["rule"] == "criterion II")
    assert event.facts["clause"] == "ISO 20816-1, criterion II"
    assert event.facts["limit"] == pytest.approx(0.5 + 0.25 * 2.8, rel=0.05)


def test_what_it_did_for_as_long_while_it_was_learned_is_no_change() -> None:
    hours = LEARN_COUNT * BLOCK_NS / 3.6e12 + 0.5
    operator = watch(running=None)
    days(operator, hours - 1, 0.5, 0)
    assert alarms(feed(operator, [("velocity", 1.9)] * 5, start=round((hours - 0.9) * 3600))) == []
    assert alarms(days(operator, 1, 0.5, hours)) == []
    assert operator.view()["learned"] == ["velocity"]
    later = round((hours + 2) * 3600)
    assert alarms(feed(operator, [("velocity", 1.8)] * 5, start=later)) == []
    assert alarms(feed(operator, [("velocity", 2.0)] * 5, start=later + 100)) == [("condition_alarm", "criterion II")]


def test_a_slow_drift_is_seen_below_every_limit_and_a_healthy_week_is_quiet() -> None:
    operator = watch(running=None)
    assert alarms(days(operator, 24 * 9, 1.0, 0)) == []
    assert operator.view()["learned"] == ["velocity"]
    found = days(operator, 14, 1.0, 24 * 9, rise=0.02)
    assert alarms(found) == [("condition_alarm", "drift")]
    (event,) = found.events
    assert "2026-01-09T20:00" < str(event.facts["from"]) < str(event.facts["to"]), "since it began to lean"
    values = [float(each) for each in str(event.facts["values"]).split()]
    assert len(values) == event.facts["readings"]
    assert values[-1] == pytest.approx(float(str(event.facts["value"])), rel=1e-3)
    assert len(values) > 3


def test_life_is_told_only_in_alarm_and_with_an_interval() -> None:
    operator = watch(running=None)
    days(operator, 11, 1.0, 0)
    derived = days(operator, 20, 1.0, 11, rise=0.12)
    names = {operator.outputs[reading.output].name for reading in derived.readings}
    assert {"velocity_remaining_low", "velocity_remaining", "velocity_remaining_high"} <= names
    last = {operator.outputs[reading.output].name: reading.value for reading in derived.readings}
    assert (
        float(last["velocity_remaining_low"])
        <= float(last["velocity_remaining"])
        <= float(last["velocity_remaining_high"])
    )
    assert float(last["velocity_remaining"]) == pytest.approx((1.25 * 4.5 - 3.4) / 0.12, rel=0.5)
    first_alarm = min(event.ts for event in derived.events)
    told = [r.ts for r in derived.readings if operator.outputs[r.output].name == "velocity_remaining"]
    assert min(told) >= first_alarm


def wave(block: np.ndarray[Any, Any], number: int) -> Waveform:
    return Waveform(0, T0 + number * 600 * S, RATE, 80.0, np.round(block / 80 * 32768).astype(np.int16))


def test_a_bearing_fault_is_an_alarm_with_its_raw_samples() -> None:
    operator = watch(running=None, velocities={}, waveforms={"de": 1.0}, velocity_mm_s=None, displacement_um=None)
    found = Derived()
    for number in range(4):
        block = strokes(bearing("6205").orders["bpfo"], seconds=4.0, size=3.0, seed=number)
        derived = operator.push(Rows(**_columns(), waveforms=[(0, wave(block, number))]), T0 + number * 600 * S)
        found.events += derived.events
        found.waveforms += derived.waveforms
        found.readings += derived.readings
    assert alarms(found) == [("condition_alarm", "bearing")]
    (event,) = found.events
    assert event.severity is Severity.HIGH
    assert (event.facts["fault"], event.facts["line"], event.facts["unit"]) == ("outer_race", "bpfo", "dB")
    assert float(str(event.facts["value"])) > float(str(event.facts["limit"])) > 10
    assert float(str(event.facts["p_false_alarm"])) <= 1e-3
    assert event.facts["evidence"] == "de_bearing_evidence"
    window = [event.facts[each] for each in ("from", "evidence_ts", "to")]
    assert window == [f"2026-01-01T00:{minute}.000000Z" for minute in ("00:00", "20:00", "20:04")]
    assert len(str(event.facts["values"]).split()) == event.facts["readings"] == 3
    ((output, evidence),) = found.waveforms
    assert operator.outputs[output].name == "de_bearing_evidence"
    assert evidence.ts == T0 + 2 * 600 * S
    assert np.array_equal(evidence.samples, wave(strokes(bearing("6205").orders["bpfo"], 4.0, 3.0, 2), 2).samples)
    names = {operator.outputs[reading.output].name for reading in found.readings}
    assert {"de_acceleration_rms", "de_velocity_rms", "de_kurtosis", "de_bpfo", "de_fault"} <= names
    state = cbor2.dumps(operator.state(), canonical=True)
    other = watch(running=None, velocities={}, waveforms={"de": 1.0}, velocity_mm_s=None, displacement_um=None)
    other.restore(cbor2.loads(state))
    assert cbor2.dumps(other.state(), canonical=True) == state


def test_below_600_rpm_displacement_is_judged_too_and_not_above() -> None:
    time = np.arange(round(4 * RATE)) / RATE
    shaking = 60e-6 * np.sqrt(2) * (2 * np.pi * 5) ** 2 * np.sin(2 * np.pi * 5 * time)
    for rpm, expected in ((300.0, [("condition_alarm", "zone")]), (1480.0, [])):
        operator = watch(running=None, velocities={}, waveforms={"de": 1.0}, orders={}, rpm=rpm)
        found = Derived()
        for number in range(4):
            block = Waveform(0, T0 + number * 600 * S, RATE, 0.0, shaking.astype(np.float32))
            derived = operator.push(Rows(**_columns(), waveforms=[(0, block)]), T0 + number * 600 * S)
            found.events += derived.events
            found.readings += derived.readings
        assert alarms(found) == expected
    (slow,) = (watch(running=None, velocities={}, waveforms={"de": 1.0}, orders={}, rpm=300.0),)
    assert "de_displacement_rms_zone" in {output.name for output in slow.outputs}


def test_a_machine_that_no_standard_judges_has_no_zone() -> None:
    spindle = watch(velocity_mm_s=None, displacement_um=None, clause="")
    assert not any("zone" in output.name or "remaining" in output.name for output in spindle.outputs)
    shaken = feed(spindle, [("current", 5.0)] * 2 + [("velocity", 30.0)] * 5)
    assert shaken == Derived()


def _columns() -> dict[str, Any]:
    return {name: getattr(EMPTY, name) for name in ("slot", "ts", "at", "value", "exact", "text", "quality", "is_old")}


def test_cut_anywhere_and_restarted_anywhere_it_gives_the_same() -> None:
    random = np.random.default_rng(5)
    n = 1500
    current = np.where(np.arange(n) % 400 < 380, 5.0, 0.0)
    velocity = np.where(np.arange(n) < 1100, 1.0, 3.5) * random.normal(1, 0.1, n)
    velocity[::97] = np.nan
    operator = watch()
    slot = [operator.inputs.index(f"pump-3.{tag}") for tag in ("current", "velocity")] * n
    at = np.repeat(T0 + 60 * S * np.arange(n), 2).tolist()
    value = np.stack([current, velocity], axis=1).ravel().tolist()
    rows = Rows.of(slot, at, value)
    order = np.lexsort((rows.slot, rows.at))
    derived = check_operator(watch, rows.take(order), int(at[-1]), rounds=3)
    assert ("condition_alarm", "zone") in alarms(derived)


def test_a_configured_machine_is_watched_by_the_worker() -> None:
    settings = load(EXAMPLE)
    assert settings.analytics is not None
    pipeline = build(settings.analytics)
    assert pipeline.inputs == [
        f"pump-3.{tag}" for tag in ("current", "velocity_x", "velocity_y", "velocity_z", "waveform")
    ]
    assert pipeline.outputs["pump-3.velocity_x_zone"].inputs == ("pump-3.velocity_x",)
    assert pipeline.outputs["pump-3.waveform_velocity_rms"].unit == "mm/s"
    assert pipeline.outputs["pump-3.waveform_evidence"].data_class is DataClass.ALARM


ELSEWHERE = """
site: chongqing/plant-1
devices:
  plc-1:
    modbus: tcp://192.168.10.40
    tags: {rpm: {at: input/0, unit: rpm}}
  pump-3:
    modbus: tcp://192.168.10.41
    tags: {velocity: {at: input/0, type: f32, unit: mm/s}}
    machine:
      {standard: iso20816-3, group: 2, support: rigid, rpm: 1480, running: {tag: drive.turns}, speed: plc-1.rpm}
derived:
  drive.turns: plc-1.rpm > 1000
"""


def test_state_and_speed_may_come_from_another_device(tmp_path: Path) -> None:
    (tmp_path / "plant.yaml").write_text(ELSEWHERE)
    settings = load(tmp_path / "plant.yaml")
    assert settings.analytics is not None
    assert build(settings.analytics).inputs == ["plc-1.rpm", "pump-3.velocity"]
    (plan,) = next(part for part in settings.analytics["parts"] if part["kind"] == "condition")["settings"]["machines"]
    paths = MachineWatch(plan).inputs
    # It stands, begins to turn at second 100, and is judged from 220 on, at the speed that the PLC tells.
    turns, rpm, velocity = (paths.index(path) for path in ("drive.turns", "plc-1.rpm", "pump-3.velocity"))
    seconds = np.arange(0, 360, 5)
    slots = np.tile([turns, rpm, velocity], len(seconds)).tolist()
    values = np.stack([seconds >= 100, np.where(seconds >= 100, 1450, 0), np.full(len(seconds), 5.0)], axis=1)
    rows = Rows.of(slots, np.repeat(T0 + seconds * S, 3).tolist(), values.ravel().tolist())
    found = check_operator(lambda: MachineWatch(plan), rows, T0 + 360 * S, rounds=2)
    (event,) = found.events
    assert (event.facts["rule"], event.facts["from"]) == ("zone", "2026-01-01T00:03:40.000000Z")


def test_a_broken_sensor_is_told_and_not_judged() -> None:
    operator = watch(running=None, velocities={}, waveforms={"de": 1.0})
    t = np.arange(12000) / RATE
    loud = 60 * np.sin(2 * np.pi * 50 * t) + 3 * np.sin(2 * np.pi * 1711 * t)
    for number, (samples, told) in enumerate(((0 * loud, "flat"), (np.clip(loud, -59, 59), "clipped"), (loud, "good"))):
        derived = operator.push(Rows(**_columns(), waveforms=[(0, wave(samples, number))]), T0 + number * 600 * S)
        values = {operator.outputs[reading.output].name: reading.value for reading in derived.readings}
        assert values["de_sensor"] == told
        assert ("de_velocity_rms" in values) == (told == "good")
    assert values["de_velocity_rms"] == pytest.approx(60e3 / (2 * np.pi * 50) / np.sqrt(2), rel=0.005)
