"""A machine's production in event time: states, planned time, parts, stops, and what late readings change."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import cbor2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.analytics.conformance import check_operator
from edge.analytics.energy.working_calendar import WorkingCalendar
from edge.analytics.operator import Derived, Rows
from edge.analytics.production.counter import Counter
from edge.analytics.production.machine import MachineProduction
from edge.analytics.production.planned import PlannedTime
from edge.core.batch import Event, Severity
from edge.core.quality import StatusCode

S = 10**9
MIN, HOUR = 60 * S, 3600 * S
STATES = [
    {"state": "fault", "when": "cnc.alarm > 0", "for_ns": 0, "deadband": 0.0},
    {"state": "running", "when": "cnc.status == 2", "for_ns": 0, "deadband": 0.0},
    {"state": "idle", "when": "cnc.status == 1", "for_ns": 0, "deadband": 0.0},
    {"state": "off", "when": "cnc.status == 0", "for_ns": 0, "deadband": 0.0},
]
DAY_SHIFT = {"name": "day", "from": 480, "to": 990, "breaks": [[720, 750]], "days": []}
Row = tuple[str, int, float | int | str]


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Asia/Shanghai")).timestamp()) * S


BEGIN = ns("2026-03-02T08:00:00")


def plan(**more: Any) -> dict[str, Any]:
    """Return a machine of a plan: three states, a counter, a shift of 480 planned minutes."""
    return {
        "machine": "cnc",
        "timezone": "Asia/Shanghai",
        "states": STATES,
        "watched": ["cnc.alarm", "cnc.status"],
        "reads": [],
        "stale": {"cnc.alarm": 5 * MIN, "cnc.status": 5 * MIN},
        "parts": {"tag": "cnc.parts", "modulus": 0.0},
        "good": None,
        "scrap": None,
        "cycles": {"other": 30.0},
        "energy": None,
        "programme": None,
        "reasons": None,
        "micro_stop_ns": 2 * MIN,
        "shifts": [DAY_SHIFT],
        "edges": {"day": 480, "day end": 990},
        "calendar": {"years": {}},
        "late_ns": HOUR,
        **more,
    }


def rows_of(machine: MachineProduction, readings: Sequence[Row], quality: Sequence[int] | None = None) -> Rows:
    # The account gives a minute out when it is over.
    at = [ts + MIN * path.startswith("meter") for path, ts, _ in readings]
    order = sorted(range(len(readings)), key=lambda place: (at[place], readings[place][0]))
    chosen = [readings[place] for place in order]
    slots = [machine.inputs.index(path) for path, _, _ in chosen]
    codes = 0 if quality is None else [quality[place] for place in order]
    return Rows.of(slots, [ts for _, ts, _ in chosen], [value for *_, value in chosen], codes, [at[p] for p in order])


def figures(asked: dict[str, Any], derived: Derived) -> dict[str, list[tuple[int, Any, int, int]]]:
    """Return by tag what was given out: time, value, quality, revision."""
    outputs = MachineProduction(asked).outputs
    found: dict[str, list[tuple[int, Any, int, int]]] = {}
    for each in derived.readings:
        found.setdefault(outputs[each.output].name, []).append((each.ts, each.value, each.quality, each.revision))
    return found


def run(asked: dict[str, Any], readings: Sequence[Row], end: int, quality: Sequence[int] | None = None) -> Derived:
    machine = MachineProduction(asked)
    return machine.push(rows_of(machine, readings, quality), end)


def trace(status: Sequence[int | None], begin: int = BEGIN, alarm: int = 0) -> list[Row]:
    """Return a reading of status and alarm a minute; None for a minute without."""
    known = [(minute, each) for minute, each in enumerate(status) if each is not None]
    readings: list[Row] = [("cnc.status", begin + minute * MIN, each) for minute, each in known]
    return readings + [("cnc.alarm", begin + minute * MIN, alarm) for minute, _ in known]


def last(found: dict[str, list[tuple[int, Any, int, int]]], name: str) -> Any:
    return found[name][-1][1]


def test_a_cut_link_adds_to_unknown_and_to_nothing_else() -> None:
    asked = plan()
    whole = figures(asked, run(asked, trace([2] * 511), BEGIN + 9 * HOUR))
    cut = figures(asked, run(asked, trace([2] * 100 + [None] * 30 + [2] * 381), BEGIN + 9 * HOUR))
    # A state holds for as long as a tag may be silent, from its last reading on.
    unknown = (30 + 1 - 5) * 60
    assert last(cut, "state_seconds_unknown_shift") == unknown
    assert last(whole, "state_seconds_running_shift") - last(cut, "state_seconds_running_shift") == unknown
    assert "state_seconds_off_shift" not in cut
    assert cut["availability_shift"] == [(BEGIN, 1.0, StatusCode.UNCERTAIN, 0)]
    assert whole["availability_shift"] == [(BEGIN, 1.0, 0, 0)]
    assert [state for _, state, *_ in cut["state"]][:3] == ["running", "unknown", "running"]


def test_bad_readings_are_unknown_and_never_off() -> None:
    asked = plan()
    readings = trace([2, 2, 0, 0, 2])
    bad = [int(StatusCode.BAD_NO_COMMUNICATION) * (ts - BEGIN in (2 * MIN, 3 * MIN)) for _, ts, _ in readings]
    found = figures(asked, run(asked, readings, BEGIN + 4 * MIN, bad))
    assert [state for _, state, *_ in found["state"]] == ["running", "unknown", "running"]


def test_while_the_gateway_was_off_the_state_is_unknown_though_no_tag_is_watched_for_silence() -> None:
    asked = plan(stale={})
    machine = MachineProduction(asked)
    derived = machine.push(rows_of(machine, trace([2] * 60)), BEGIN + HOUR)
    started = Event(BEGIN + 3 * HOUR, "gateway", "gateway_started", Severity.INFO, "", {})
    nothing = machine.push(replace(rows_of(machine, []), events=[started]), BEGIN + HOUR + S)
    assert not nothing.readings
    again = machine.push(rows_of(machine, trace([2] * 331, BEGIN + 3 * HOUR)), BEGIN + 9 * HOUR)
    found = figures(asked, Derived([*derived.readings, *again.readings]))
    assert last(found, "state_seconds_unknown_shift") == 2 * 3600 + 60
    assert last(found, "availability_shift") == 1.0


def test_no_reading_at_all_in_planned_time_is_no_availability() -> None:
    asked = plan()
    found = figures(asked, run(asked, trace([2], BEGIN - 30 * MIN), BEGIN + 9 * HOUR))
    assert [each[2] for each in found["availability_shift"]] == [StatusCode.BAD_NO_COMMUNICATION]


def test_more_parts_than_can_be_are_shown_and_told() -> None:
    asked = plan(cycles={"other": 60.0})
    parts: list[Row] = [("cnc.parts", BEGIN + minute * MIN, minute * 2) for minute in range(511)]
    derived = run(asked, trace([2] * 511) + parts, BEGIN + 9 * HOUR)
    assert last(figures(asked, derived), "effectiveness_shift") == pytest.approx(2.0)
    (flag,) = [event for event in derived.events if event.kind == "performance_above_one"]
    assert flag.facts["effectiveness"] == pytest.approx(2.0)


def test_without_a_count_of_good_parts_oee_is_uncertain() -> None:
    asked = plan()
    parts: list[Row] = [("cnc.parts", BEGIN + minute * MIN, minute) for minute in range(511)]
    found = figures(asked, run(asked, trace([2] * 511) + parts, BEGIN + 9 * HOUR))
    assert found["oee_shift"][0][1:3] == (pytest.approx(0.5), StatusCode.UNCERTAIN)
    assert "quality_shift" not in found


def test_a_part_read_late_gives_its_shift_out_again() -> None:
    asked = plan()
    machine = MachineProduction(asked)
    readings = [*trace([2] * 511), ("cnc.parts", BEGIN, 0), ("cnc.parts", BEGIN + HOUR, 100)]
    end = BEGIN + 511 * MIN
    first = machine.push(rows_of(machine, readings), end)
    slot = machine.inputs.index("cnc.parts")
    late = machine.push(Rows.of([slot], [BEGIN + 2 * HOUR], [150], at=[end + MIN]), end + MIN)
    assert figures(asked, first)["parts_shift"] == [(BEGIN, 100.0, 0, 0)]
    assert figures(asked, late)["parts_shift"] == [(BEGIN, 150.0, 0, 1)]


def test_stops_are_told_with_their_reason_and_micro_stops_counted() -> None:
    asked = plan(reasons={"tag": "cnc.code", "codes": {"1": "tool change"}})
    status = [2] * 10 + [1] * 1 + [2] * 10 + [1] * 20 + [2] * 10
    readings = [*trace(status), ("cnc.code", BEGIN + 25 * MIN, 1), ("cnc.code", BEGIN + 41 * MIN, 0)]
    derived = run(plan(**asked), readings, BEGIN + 9 * HOUR)
    kinds = [(event.kind, event.facts.get("reason"), event.facts.get("seconds")) for event in derived.events]
    assert kinds == [("machine_stopped", "idle", None), ("machine_stop_ended", "tool change", 1200.0)]
    found = figures(asked, derived)
    assert (last(found, "micro_stops_shift"), last(found, "stops_shift")) == (1.0, 1.0)


def test_failures_make_mtbf_and_mttr() -> None:
    asked = plan()
    readings = trace([2] * 511)
    readings += [("cnc.alarm", BEGIN + minute * MIN + S, int(minute in (60, 61, 200))) for minute in range(511)]
    readings = [row for row in readings if row[0] != "cnc.alarm" or row[1] % MIN == S]
    found = figures(asked, run(asked, readings, BEGIN + 9 * HOUR))
    assert last(found, "mttr_shift") == pytest.approx(1.5)
    assert last(found, "mtbf_shift") == pytest.approx((510 - 3) / 60 / 2, rel=1e-3)


def test_a_current_clamp_has_hysteresis_and_dwell() -> None:
    rules = [
        {"state": "running", "when": "cnc.current > 5", "for_ns": 2 * S, "deadband": 1.0},
        {"state": "idle", "when": "cnc.current > 1", "for_ns": 2 * S, "deadband": 0.2},
        {"state": "off", "when": "cnc.current <= 1", "for_ns": 5 * S, "deadband": 0.0},
    ]
    asked = plan(states=rules, watched=["cnc.current"], stale={}, parts=None, cycles={})
    current = [0.1] * 6 + [2.0] * 4 + [8.0, 2.0] * 3 + [8.0] * 3 + [4.5] * 3 + [3.9] * 3 + [0.9] * 3 + [0.1] * 9
    derived = run(asked, [("cnc.current", BEGIN + at * S, each) for at, each in enumerate(current)], BEGIN + MIN)
    states = [((ts - BEGIN) // S, state) for ts, state, *_ in figures(asked, derived)["state"]]
    assert states == [(0, "unknown"), (5, "off"), (8, "idle"), (18, "running"), (22, "idle"), (30, "off")]


def energy_plan() -> dict[str, Any]:
    return plan(energy={"tag": "meter.energy_1min"}, programme="cnc.programme")


def test_energy_by_part_by_state_and_by_programme() -> None:
    asked = energy_plan()
    readings: list[Row] = trace([2] * 60 + [1] * 60 + [2] * 391)
    readings += [
        ("meter.energy_1min", BEGIN + minute * MIN, 0.1 if 60 <= minute < 120 else 0.4) for minute in range(512)
    ]
    readings += [("cnc.parts", BEGIN + minute * MIN, minute) for minute in range(511)]
    readings += [("cnc.programme", BEGIN, "A"), ("cnc.programme", BEGIN + 120 * MIN, "B")]
    derived = run(asked, readings, BEGIN + 9 * HOUR)
    found = figures(asked, derived)
    total = 450 * 0.4 + 60 * 0.1
    assert last(found, "kwh_per_part_shift") == pytest.approx(total / 510)
    assert last(found, "idle_energy_share_shift") == pytest.approx(6 / total)
    assert last(found, "base_load_shift") == pytest.approx(6.0)
    told = next(event for event in derived.events if event.kind == "energy_by_programme")
    assert told.facts["A: parts"] == 120
    assert told.facts["A: kWh a part"] == pytest.approx((60 * 0.4 + 60 * 0.1) / 120)


def test_energy_that_a_meter_sends_after_a_long_silence_counts_in_the_day_that_is_open() -> None:
    asked = energy_plan()
    machine = MachineProduction(asked)
    slot = machine.inputs.index(asked["energy"]["tag"])
    begin = int(datetime(2026, 3, 2, tzinfo=ZoneInfo(asked["timezone"])).timestamp()) * 10**9
    other = next(each for each in range(len(machine.inputs)) if each != slot)
    minutes = [begin + minute * 60 * 10**9 for minute in range(1440)]
    at = [begin + 86_400 * 10**9] * 1440
    quiet = Rows.of([other] * 24, [begin + hour * 3600 * 10**9 for hour in range(24)], [1.0] * 24)
    machine.push(quiet, begin + 23 * 3600 * 10**9)
    derived = machine.push(Rows.of([slot] * 1440, minutes, [0.5] * 1440, at=at), at[0] + 10**9)
    names = {output.name: place for place, output in enumerate(machine.outputs)}
    base = [reading.value for reading in derived.readings if reading.output == names["base_load_1d"]]
    assert base == [pytest.approx(30.0)]


def test_the_state_stays_small_over_a_month() -> None:
    machine = MachineProduction(energy_plan())
    sizes = []
    for day in range(28):
        begin = BEGIN + day * 24 * HOUR
        every = 1 if day in (2, 27) else 20  # whole days where it is measured, and what came between
        readings: list[Row] = [("meter.energy_1min", begin + at * MIN, 0.4) for at in range(0, 1440, every)]
        readings += [("cnc.parts", begin + at * HOUR, 100 * day + at) for at in range(24)]
        machine.push(rows_of(machine, [*readings, *trace([2] * 10, begin)]), begin + 24 * HOUR)
        sizes.append(len(cbor2.dumps(machine.state())))
    assert sizes[-1] < 1.2 * sizes[2]
    assert sizes[-1] < 10_000


def test_the_same_from_any_cut_and_after_any_restart() -> None:
    asked = energy_plan() | {"reasons": {"tag": "cnc.code", "codes": {"1": "tool change"}}}
    chance = np.random.default_rng(3)
    readings: list[Row] = []
    for minute in range(0, 24 * 60, 23):
        ts = BEGIN - 2 * HOUR + minute * MIN + int(chance.integers(0, MIN))
        if chance.random() < 0.9:
            readings += [("cnc.status", ts, int(chance.integers(0, 3))), ("cnc.alarm", ts, int(chance.random() < 0.1))]
        readings += [("cnc.parts", ts, minute % 500), ("cnc.code", ts, int(chance.integers(0, 2)))]
        readings.append(("meter.energy_1min", ts - ts % MIN, float(chance.random())))
        readings.append(("cnc.programme", ts, "AB"[int(chance.integers(0, 2))]))
    rows = rows_of(MachineProduction(asked), readings)
    derived = check_operator(lambda: MachineProduction(asked), rows, BEGIN + 26 * HOUR)
    assert len(derived.readings) > 100
    assert {"machine_stopped", "machine_stop_ended"} <= {event.kind for event in derived.events}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 200), st.sampled_from([0, 1, 2, 3])), max_size=40))
def test_the_seconds_of_all_states_are_the_interval(steps: list[tuple[int, int]]) -> None:
    asked, at, readings = plan(), BEGIN + 17 * S, list[Row]()
    for minutes, status in steps:
        at += minutes * MIN // 7
        readings += [("cnc.status", at, status), ("cnc.alarm", at, 0)]
    readings.append(("cnc.status", BEGIN + 17 * S, 2))
    found = figures(asked, run(asked, readings, BEGIN + 30 * HOUR))
    shift = sum(each for name, rows in found.items() if name.startswith("state_seconds") and name.endswith("_shift")
                for ts, each, *_ in rows if ts == BEGIN)  # fmt: skip
    assert shift == pytest.approx(510 * 60)
    day = sum(each for name, rows in found.items() if name.startswith("state_seconds") and name.endswith("_1d")
              for ts, each, *_ in rows if ts == BEGIN - 8 * HOUR)  # fmt: skip
    assert day == pytest.approx(86_400)


@given(st.lists(st.integers(0, 300), max_size=60), st.integers(1000, 70_000), st.integers(0, 999))
def test_a_counter_that_rolls_over_loses_nothing(gains: list[int], modulus: int, start: int) -> None:
    counter, total = Counter(modulus), 0.0
    counter.take(start)
    for number in np.cumsum(gains).tolist():
        total += counter.take((start + number) % modulus)
    assert total == sum(gains)


def test_a_reset_counts_from_zero_and_a_dip_counts_nothing() -> None:
    def counted(*values: float) -> float:
        counter = Counter()
        return sum(counter.take(value) for value in values)

    assert counted(100, 105, 3, 7) == 12
    assert counted(100, 105, 0, 106, 108) == 8
    assert counted(0, 1, 2, 3, 0, 1, 2, 3, 0, 1) == 7
    assert counted(1000, 0, 0, 5, 1006) == 6


def test_planned_time_knows_breaks_nights_and_made_up_days() -> None:
    calendar = WorkingCalendar.of({"years": {"2026": {"holidays": {"May": "05-01..05-03"}, "workdays": ["05-09"]}}})
    night = {"from": 1320, "to": 360, "breaks": [[120, 150]], "days": ["workday"]}
    planned = PlannedTime("Asia/Shanghai", [night], calendar)
    hours = {
        day: planned.between(ns(f"2026-05-{day:02}T12:00:00"), ns(f"2026-05-{day + 1:02}T12:00:00")) / HOUR
        for day in (1, 4, 9, 10)
    }
    assert hours == {1: 0, 4: 7.5, 9: 7.5, 10: 0}
    assert planned.at(ns("2026-05-05T02:10:00"))[0] is False
    assert planned.at(ns("2026-05-05T02:30:00"))[0] is True
