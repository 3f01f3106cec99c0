"""Derived tags and alarms over rows in event time: the same from any cut, after any restart."""

from dataclasses import replace
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.analytics.alarms import Alarms
from edge.analytics.conformance import check_operator
from edge.analytics.derived import DerivedTags
from edge.analytics.operator import EMPTY, Derived, Operator, Rows
from edge.core.batch import Event, Severity
from edge.core.quality import StatusCode

S = 10**9
T0 = 1_767_225_600 * S
BAD = int(StatusCode.BAD_TIMEOUT)


def derived(**tags: str) -> DerivedTags:
    settings = {}
    for name, of in tags.items():
        kind = "float64" if "+" in of or "(" in of else "bool"
        settings[f"line.{name}"] = {"of": of, "kind": kind, "unit": "", "class": "telemetry"}
    return DerivedTags(settings)


def rows(operator: Operator, *given: tuple[float, str, Any] | tuple[float, str, Any, int]) -> Rows:
    at = [T0 + round(each[0] * S) for each in given]
    slots = [list(operator.inputs).index(each[1]) for each in given]
    return Rows.of(slots, at, [each[2] for each in given], [each[3] if len(each) > 3 else 0 for each in given])


def told(operator: Operator, out: Derived) -> list[tuple[str, float, Any]]:
    return [(operator.outputs[r.output].name, (r.ts - T0) / S, r.value) for r in out.readings]


def test_a_derived_tag_changes_when_its_value_does() -> None:
    line = derived(busy="a.load > 80 and a.running")
    out = line.push(
        rows(line, (0, "a.load", 90), (1, "a.running", 0), (2, "a.running", 1), (3, "a.load", 95), (4, "a.load", 1)),
        T0 + 9 * S,
    )
    assert told(line, out) == [("busy", 1, False), ("busy", 2, True), ("busy", 4, False)]


def test_derived_tags_of_derived_tags_in_one_moment_without_glitches() -> None:
    line = derived(both="line.twice + a.x", twice="a.x + a.x")
    out = line.push(rows(line, (0, "a.x", 1), (1, "a.x", 2)), T0 + 2 * S)
    assert told(line, out) == [("twice", 0, 2), ("both", 0, 3), ("twice", 1, 4), ("both", 1, 6)]


def test_a_count_falls_when_readings_leave_its_window() -> None:
    line = derived(parts="count(a.part, 1min)")
    out = line.push(rows(line, (0, "a.part", 1), (10, "a.part", 2)), T0 + 20 * S)
    assert told(line, out) == [("parts", 0, 1), ("parts", 10, 2)]
    assert line.due() == T0 + 60 * S
    assert told(line, line.push(rows(line), T0 + 100 * S)) == [("parts", 60, 1), ("parts", 70, 0)]
    assert line.due() is None


def test_bad_quality_is_told_with_the_value_that_nobody_knows() -> None:
    line = derived(sum="a.x + a.y")
    out = line.push(rows(line, (0, "a.x", 1), (0, "a.y", 1), (1, "a.y", 0, BAD), (2, "a.y", 5)), T0 + 5 * S)
    assert [(reading.value, reading.quality) for reading in out.readings if reading.quality == 0] == [(2, 0), (6, 0)]
    assert [reading.quality for reading in out.readings] == [0, BAD, 0]


QUALITIES = st.sampled_from([0, 0, 0, BAD])
POINT = st.tuples(st.integers(0, 90), st.sampled_from(["a.x", "a.y"]), st.integers(-3, 12), QUALITIES)
POINTS = st.lists(POINT, min_size=1, max_size=25).map(lambda points: sorted(points, key=lambda point: point[:2]))


@settings(max_examples=40)
@given(POINTS)
def test_derived_tags_conform(points: list[tuple[int, str, int, int]]) -> None:
    def make() -> Operator:
        return derived(
            mean="avg(a.x, 20s)", top="max(a.x, 7s) + min(a.y, 9s)", n="count(a.y, 15s)", fast="rate(a.x, 10s)",
            step="delta(a.x) + prev(a.y)", busy="a.x > 5 and a.y > line.n",
        )  # fmt: skip

    check_operator(make, rows(make(), *points), T0 + 200 * S, rounds=2)


# Alarms.


def alarms(when: str = "a.x > 10", flood: int = 10, **settings: Any) -> Alarms:
    return many({"hot": {"when": when, **settings}}, flood)


def many(given: dict[str, dict[str, Any]], flood: int = 10) -> Alarms:
    defaults = {"for_ns": 0, "clear_for_ns": 0, "deadband": 0.0, "latch": False, "severity": "medium", "message": ""}
    return Alarms({
        "alarms": {name: defaults | each for name, each in given.items()}, "flood_limit": flood, "flood_ns": 600 * S,
    })  # fmt: skip


def events(out: Derived) -> list[tuple[float, str]]:
    return [((event.ts - T0) / S, event.kind.removeprefix("alarm_")) for event in out.events]


def steps(*given: tuple[float, float]) -> list[tuple[float, str, float]]:
    return [(second, "a.x", value) for second, value in given]


def test_an_alarm_stands_when_its_condition_has_held_for_so_long_and_ends_likewise() -> None:
    alarm = alarms(for_ns=30 * S, clear_for_ns=10 * S)
    out = alarm.push(rows(alarm, *steps((0, 11), (20, 9), (40, 11))), T0 + 69 * S)
    assert events(out) == []
    assert alarm.due() == T0 + 70 * S
    assert events(alarm.push(rows(alarm, *steps((75, 9))), T0 + 80 * S)) == [(70, "raised")]
    assert events(alarm.push(rows(alarm), T0 + 90 * S)) == [(85, "cleared")]


def test_a_chattering_input_is_one_alarm() -> None:
    alarm = alarms(clear_for_ns=30 * S)
    chatter = [(second * 0.5, 11 if second % 2 else 9) for second in range(600)]
    out = alarm.push(rows(alarm, *steps(*chatter, (300, 9))), T0 + 400 * S)
    assert events(out) == [(0.5, "raised"), (330, "cleared")]


def test_a_dead_band_keeps_an_alarm() -> None:
    alarm = alarms(deadband=2.0)
    out = alarm.push(rows(alarm, *steps((0, 11), (1, 9.5), (2, 10.5), (3, 8.5), (4, 7.9), (5, 9))), T0 + 9 * S)
    assert events(out) == [(0, "raised"), (4, "cleared")]


def test_what_nobody_knows_neither_raises_nor_ends_an_alarm() -> None:
    alarm = alarms(for_ns=10 * S)
    out = alarm.push(rows(alarm, (0, "a.x", 11), (5, "a.x", 0, BAD), (6, "a.x", 11)), T0 + 15 * S)
    assert events(out) == []
    out = alarm.push(rows(alarm, (17, "a.x", 0, BAD), (30, "a.x", 9)), T0 + 40 * S)
    assert events(out) == [(16, "raised"), (30, "cleared")]


def request(second: float, action: str, seconds: float | None = None) -> Event:
    facts = {"alarm": "hot", "action": action, "by": "li", "seconds": seconds}
    return Event(T0 + round(second * S), "gateway", "alarm_request", Severity.INFO, "", facts)


def ask(alarm: Alarms, second: float, action: str, seconds: float | None = None) -> list[tuple[float, str]]:
    asked = replace(EMPTY, events=[request(second, action, seconds)])
    return events(alarm.push(asked, T0 + round(second * S)))


def test_a_latched_alarm_waits_to_be_acknowledged() -> None:
    alarm = alarms(latch=True)
    out = alarm.push(rows(alarm, *steps((0, 11), (5, 9))), T0 + 6 * S)
    assert events(out) == [(0, "raised"), (5, "returned")]
    assert alarm.view()["alarms"][0]["state"] == "returned"
    assert ask(alarm, 20, "acknowledge") == [(20, "acknowledged"), (20, "cleared")]
    assert alarm.view()["alarms"] == []
    assert ask(alarm, 21, "acknowledge") == []


def test_a_shelved_alarm_is_silent_and_comes_back() -> None:
    alarm = alarms()
    assert ask(alarm, 0, "shelve", 60) == [(0, "shelved")]
    assert events(alarm.push(rows(alarm, *steps((5, 11))), T0 + 10 * S)) == []
    assert alarm.due() == T0 + 60 * S
    assert events(alarm.push(rows(alarm), T0 + 61 * S)) == [(60, "unshelved"), (60, "raised")]
    assert ask(alarm, 70, "shelve") == [(70, "shelved")]
    assert alarm.due() is None
    assert ask(alarm, 80, "unshelve") == [(80, "unshelved")]


def test_in_a_flood_only_what_is_urgent_is_told_at_once() -> None:
    settings = {f"a{n}": {"when": f"a.x > {n}"} for n in range(8)} | {"fire": {"when": "a.x > 7", "severity": "high"}}
    alarm = many(settings, flood=4)
    out = alarm.push(rows(alarm, *steps(*((n, n + 0.5) for n in range(9)))), T0 + 10 * S)
    raised = [event.facts["alarm"] for event in out.events if event.kind == "alarm_raised"]
    assert raised == ["a0", "a1", "a2", "a3", "fire"]
    assert sum(event.kind == "alarm_flood_started" for event in out.events) == 1
    out = alarm.push(rows(alarm), T0 + 900 * S)
    (ended,) = [event for event in out.events if event.kind == "alarm_flood_ended"]
    assert ended.facts["held_back"] == 4
    assert sorted(str(event.facts["alarm"]) for event in out.events if event.kind == "alarm_raised") == [
        "a4", "a5", "a6", "a7",
    ]  # fmt: skip


def test_an_alarm_says_what_it_saw() -> None:
    alarm = alarms("a.x > 10 and a.y > 1", severity="high", message="look at the pump")
    out = alarm.push(rows(alarm, (0, "a.x", 11.5), (0, "a.y", 2)), T0 + S)
    (event,) = out.events
    assert (event.source, event.severity) == ("a", Severity.HIGH)
    assert event.message == "hot stands: look at the pump"
    assert event.facts == {"alarm": "hot", "when": "a.x > 10 and a.y > 1", "since": T0, "a.x": 11.5, "a.y": 2}


@settings(max_examples=40)
@given(POINTS, st.booleans())
def test_alarms_conform(points: list[tuple[int, str, int, int]], latch: bool) -> None:
    def make() -> Operator:
        return many({
            "slow": {"when": "a.x > 5", "for_ns": 7 * S, "clear_for_ns": 5 * S, "deadband": 2.0, "latch": latch},
            "window": {"when": "avg(a.x, 10s) > 4 or count(a.y, 20s) < 1", "severity": "high"},
            "quick": {"when": "a.y > 3"},
        }, flood=2)  # fmt: skip

    check_operator(make, rows(make(), *points), T0 + 1000 * S, rounds=2)


def test_changed_alarms_begin_anew_and_the_others_go_on() -> None:
    before = many({"hot": {"when": "a.x > 10"}, "cold": {"when": "a.x < 99"}, "gone": {"when": "a.x > 1"}})
    before.push(rows(before, *steps((0, 11))), T0 + S)
    after = many({"hot": {"when": "a.x > 12"}, "cold": {"when": "a.x < 99"}})
    assert after.restore(cbor2.loads(cbor2.dumps(before.state()))) == ["hot"]
    out = after.push(rows(after, *steps((2, 13))), T0 + 2 * S)
    assert [(event.kind, event.facts["alarm"]) for event in out.events] == [
        ("alarm_cleared", "hot"), ("alarm_cleared", "gone"), ("alarm_raised", "hot"),
    ]  # fmt: skip


@pytest.mark.parametrize("by", [-3600, 3600])
def test_a_clock_that_is_set_moves_delays(by: int) -> None:
    alarm = alarms(for_ns=30 * S)
    alarm.push(rows(alarm, *steps((0, 11))), T0 + 10 * S)
    alarm.shift(by * S)
    assert alarm.due() == T0 + (30 + by) * S
