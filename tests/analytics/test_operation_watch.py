"""Tool wear by load: each operation against itself, learned from new tools only, the same from any cut."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.agent.configuration.analytics_plan import made_tags
from edge.agent.configuration.loader import examine
from edge.agent.configuration.loader import load as load_settings
from edge.analytics.condition.cutting.operation_watch import OperationWatch
from edge.analytics.condition.cutting.operations import SNIPPET, Sums, Wear
from edge.analytics.conformance import check_operator
from edge.analytics.operator import Derived, Output, Rows
from edge.analytics.registry import build
from edge.core.batch import Severity
from edge.core.quality import StatusCode
from tests import naive
from tests.agent.test_explain import EXAMPLE
from tests.analytics.test_watch import T0, S, machine

HOW = {
    "load": {"spindle": "%"}, "name": ["program", "step"], "tool": "tool", "changed": "insert",
    "changed_is_bool": False, "rise": 0.3, "runs": 8, "pause_ns": 2 * S, "shortest_ns": 2 * S,
}  # fmt: skip


def watch(**changes: Any) -> OperationWatch:
    cutting = {"tag": "cuts", "above": None, "hold_ns": S // 5}
    return OperationWatch(machine(operations=HOW | changes, cutting=cutting, running=None))


class Shop:
    """Makes the readings of a machine that cuts parts."""

    def __init__(self, seed: int = 1) -> None:
        self.rows: list[tuple[str, int, float | int | str]] = []
        self.at = T0
        self._random = np.random.default_rng(seed)

    def set(self, **values: float | int | str) -> "Shop":
        for tag, value in values.items():
            self.rows.append((tag, self.at, value))
        return self

    def cut(self, load: float, seconds: float = 10.0, noise: float = 0.5) -> "Shop":
        """Cut one run, with a reading of the load each 200 ms."""
        self.set(spindle=load, cuts=1)
        for _ in range(int(seconds * 5)):
            self.at += S // 5
            self.set(spindle=float(load + noise * self._random.normal()))
        self.set(cuts=0)
        self.at += 10 * S
        return self

    def part(self, program: str, load: float, tool: int = 1) -> "Shop":
        return self.set(program=program, step=10, tool=tool).cut(load)

    def read(self, operator: OperationWatch) -> Rows:
        slots = {path.partition(".")[2]: slot for slot, path in enumerate(operator.inputs)}
        tags, at, values = zip(*self.rows, strict=True)
        return Rows.of([slots[tag] for tag in tags], at, values)


def told(operator: OperationWatch, derived: Derived, name: str) -> list[Any]:
    return [each.value for each in derived.readings if operator.outputs[each.output].name == name]


def run(shop: Shop, **changes: Any) -> tuple[OperationWatch, Derived]:
    operator = watch(**changes)
    return operator, operator.push(shop.read(operator), shop.at)


def test_a_run_is_told_by_its_features() -> None:
    operator, found = run(Shop().set(program="O12", step=10, tool=7).cut(40.0, seconds=20, noise=0.0))
    assert told(operator, found, "operation") == ["O12/10"]
    assert told(operator, found, "operation_tool") == ["7"]
    assert told(operator, found, "operation_duration") == [20.0]
    for name, value in (("mean", 40), ("rms", 40), ("peak", 40), ("ripple", 0)):
        assert told(operator, found, f"spindle_operation_{name}") == [pytest.approx(value)]
    assert found.readings[0].ts == T0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 5), st.floats(-100, 100)), min_size=2, max_size=20))
def test_features_are_the_definition(pieces: list[tuple[float, float]]) -> None:
    sums = Sums()
    for seconds, value in pieces:
        sums.hold(value, round(seconds * S))
    for (_, before), (_, after) in itertools.pairwise(pieces):
        sums.step(after - before)
    found = sums.features()
    assert found is not None
    assert found == pytest.approx(naive.load_features(pieces), rel=1e-6, abs=1e-6)


def test_each_operation_has_its_own_baseline_and_its_own_alarm() -> None:
    shop = Shop()
    for _ in range(10):
        shop.part("light", 10.0).part("heavy", 60.0)
    for _ in range(4):
        shop.part("light", 14.0).part("heavy", 60.0)
    operator, found = run(shop)
    (event,) = found.events
    facts = event.facts
    assert (event.kind, event.severity) == ("condition_alarm", Severity.MEDIUM)
    assert event.message.startswith("pump-3.spindle_operation_mean shows tool wear in operation light/10, tool 1: 14")
    assert (facts["rule"], facts["operation"], facts["tool"], facts["unit"]) == ("tool wear", "light/10", "1", "%")
    assert facts["limit"] == pytest.approx(13.0, rel=0.03)
    assert facts["baseline"] == pytest.approx(10.0, rel=0.03)
    assert (facts["readings"], facts["baseline_of"]) == (3, "this tool")
    assert "convention" in str(facts["clause"])
    ((output, evidence),) = found.waveforms
    assert operator.outputs[output].name == facts["evidence"] == "spindle_operation_evidence"
    assert len(evidence) == SNIPPET
    assert evidence.samples.mean() == pytest.approx(14, rel=0.02)
    assert evidence.rate_hz == pytest.approx(SNIPPET / 10, rel=0.01)


def test_three_runs_take_it_in_and_three_out() -> None:
    shop = Shop()
    for load in [20.0] * 8 + [30.0, 30.0, 20.0, 30.0, 30.0, 30.0] + [20.0, 30.0, 20.0, 20.0, 20.0]:
        shop.part("a", load)
    _, found = run(shop)
    assert [event.kind for event in found.events] == ["condition_alarm", "condition_alarm_over"]


def test_a_new_insert_learns_anew_but_never_from_one_that_is_bad_from_the_start() -> None:
    shop = Shop()
    shop.set(insert=1)
    for load in [20.0] * 8 + [30.0] * 3:
        shop.part("a", load)
    shop.set(insert=2)
    for load in [30.0] * 12:
        shop.part("a", load)
    shop.set(insert=3)
    for load in [20.5] * 9:
        shop.part("a", load)
    operator, found = run(shop)
    kinds = [(event.kind, event.facts.get("baseline_of")) for event in found.events]
    assert kinds == [
        ("condition_alarm", "this tool"), ("condition_alarm_over", None),
        ("condition_alarm", "earlier tools"), ("condition_alarm_over", None),
    ]  # fmt: skip
    assert found.events[1].facts["tool_is_new"] is True
    assert operator.view()["learned"] == ["a/10 · 1 · spindle"]
    assert told(operator, found, "spindle_wear")[-1] == pytest.approx(0, abs=2)


def test_a_tool_that_stops_cutting_is_told() -> None:
    shop = Shop()
    for load in [20.0] * 8 + [3.0] * 3:
        shop.part("a", load)
    _, found = run(shop)
    assert [event.facts["rule"] for event in found.events] == ["tool lost"]


def test_a_tool_has_its_own_baseline() -> None:
    shop = Shop()
    for _ in range(9):
        shop.part("a", 20.0, tool=1).part("a", 35.0, tool=2)
    operator, found = run(shop)
    assert not found.events
    assert operator.view()["learned"] == ["a/10 · 1 · spindle", "a/10 · 2 · spindle"]


def test_a_short_pause_does_not_end_a_run_and_another_operation_does() -> None:
    shop = Shop().set(program="a", step=1, tool=1)
    for step in (1, 1, 2):
        shop.set(step=step, spindle=20.0, cuts=1)
        shop.at += 5 * S
        shop.set(cuts=0)
        shop.at += S
    operator, found = run(shop)
    assert told(operator, found, "operation") == ["a/1"]
    assert operator.due() == shop.at + S
    found = operator.push(Rows.of([], [], []), shop.at + S)
    assert told(operator, found, "operation") == ["a/2"]
    assert told(operator, found, "operation_duration") == [5.0]


def test_what_is_not_known_teaches_nothing() -> None:
    operator = watch()
    slots = {path.partition(".")[2]: slot for slot, path in enumerate(operator.inputs)}
    tags = ["program", "step", "tool", "spindle", "cuts", "spindle", "cuts"]
    values: list[float | int | str] = ["a", 1, 1, 20.0, 1, 20.0, 0]
    at = [T0] * 5 + [T0 + 5 * S, T0 + 10 * S]
    quality = [0] * 5 + [int(StatusCode.BAD_COMMUNICATION_ERROR), 0]
    found = operator.push(Rows.of([slots[tag] for tag in tags], at, values, quality), T0 + 20 * S)
    assert told(operator, found, "operation") == ["a/1"]
    assert told(operator, found, "spindle_operation_mean") == []


def test_wear_that_goes_on_has_a_trend_and_parts_left() -> None:
    wear = Wear()
    random = np.random.default_rng(2)
    for part in range(40):
        wear.feed(part, 20 * (1 + 0.01 * max(part - 8, 0)) + 0.1 * random.normal(), 8, 0.3)
    trend = wear.trend()
    assert trend is not None
    assert trend[0] == pytest.approx(1.0, rel=0.1)
    assert trend[1] == pytest.approx(0, abs=2)
    steady = Wear()
    for part in range(40):
        steady.feed(part, 20 + random.normal(), 8, 0.3)
    assert steady.trend() is None


def test_cut_anywhere_and_restarted_anywhere_it_gives_the_same() -> None:
    shop = Shop(3).set(insert=1)
    for load in [20.0] * 5 + [29.0] * 3 + [20.0] * 2:
        shop.part("a", load).part("b", 30.0)
    shop.set(insert=2).part("a", 20.0)
    rows = shop.read(watch())
    rows = rows.take(np.lexsort((rows.slot, rows.at)))
    found = check_operator(lambda: watch(runs=5), rows, shop.at + 20 * S, rounds=3)
    assert [event.facts["rule"] for event in found.events] == ["tool wear", "tool wear"]


def test_the_example_machine_tool_and_fan_are_watched_by_the_worker() -> None:
    folder = EXAMPLE.parent
    made: dict[str, Output] = {}
    for file in ("machine-tool.yaml", "fan.yaml"):
        configured = load_settings(folder / file)
        assert configured.analytics is not None
        made |= build(configured.analytics).outputs
        assert set(made_tags(configured.analytics)) <= set(made)
    units = {
        "cnc-7.z_load_wear": "%", "cnc-7.spindle_load_operation_mean": "%", "cnc-7.spindle_load_parts_left": "{part}",
        "cnc-7.head_chatter_frequency": "Hz", "fan-2.de_tracked_order_9": "m/s2", "fan-2.de_bpfo": "dB",
        "fan-2.i1_rotor_bars_lower": "dB", "fan-2.i1_bpfo": "dB", "fan-2.i1_supply_frequency": "Hz",
    }  # fmt: skip
    assert {path: made[path].unit for path in units} == units


def test_alarms_may_name_what_is_made(tmp_path: Path) -> None:
    plant = tmp_path / "plant.yaml"
    alarm = "\nalarms:\n  worn: {when: cnc-7.z_load_wear > 20 and cnc-7.head_chatter_index < 0.3}\n"
    plant.write_text((EXAMPLE.parent / "machine-tool.yaml").read_text("utf-8") + alarm, "utf-8")
    settings, problems = examine(plant)
    assert settings is not None
    assert not problems
