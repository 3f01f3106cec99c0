"""Process values watched together: learned while the machine runs and is well, judged by rows that share nothing."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.agent.configuration.loader import load
from edge.analytics.condition.process.names import figures_of
from edge.analytics.condition.process.section import WatchSection, plan
from edge.analytics.condition.process.watch import ProcessWatch, make
from edge.analytics.conformance import check_operator
from edge.analytics.operator import Derived, Operator, Rows
from edge.analytics.registry import build
from edge.core.batch import Event, Severity
from edge.core.quality import StatusCode
from tests.agent.test_explain import EXAMPLE

F64 = NDArray[np.float64]
S = 10**9
T0 = 1_767_225_600 * S
ROW = 6
"""Steps of a row; a step is a second here."""

BAD = int(StatusCode.BAD_COMMUNICATION_ERROR)
UNITS = ("degC", "bar", "A", "m3/h")
TAGS = ("temperature", "pressure", "current", "flow")


def settings(**changes: Any) -> dict[str, Any]:
    return {
        "name": "cooling", "tags": {f"pump.{tag}": unit for tag, unit in zip(TAGS, UNITS, strict=True)},
        "running": None, "speed": None, "state": None, "learn_ns": 60 * ROW * S, "every_ns": S, "max_age_ns": 5 * S,
        "rules": ["t2", "spe", "ewma", "cusum"], "zones": [],
    } | changes  # fmt: skip


def watch(**changes: Any) -> ProcessWatch:
    (made,) = make({"watches": [settings(**changes)]})
    assert isinstance(made, ProcessWatch)
    return made


def plant(steps: int, seed: int = 1) -> F64:
    """Return a row a second of four values that follow the load, one and the same plant for all seeds."""
    random = np.random.default_rng(seed)
    load = random.normal(size=steps)
    own = random.normal(size=(steps, len(TAGS))) * [0.3, 0.02, 0.2, 0.4]
    return np.array([60, 4.0, 20, 50]) + load[:, None] * [0.8, -0.1, 1.0, 2.0] + own


def rows_of(values: F64, start: int = 0, quality: int = 0, first: int = 0) -> Rows:
    """Return values as readings in the middle of their second."""
    steps, width = values.shape
    at = np.repeat(T0 + (start + np.arange(steps)) * S + S // 2, width).tolist()
    return Rows.of(np.tile(first + np.arange(width), steps).tolist(), at, values.ravel().tolist(), quality)


def feed(operator: Operator, values: F64, start: int, **more: int) -> Derived:
    return operator.push(rows_of(values, start, **more), T0 + (start + len(values)) * S)


def learned(**changes: Any) -> ProcessWatch:
    operator = watch(**changes)
    done = feed(operator, plant(61 * ROW), 0)
    assert [event.kind for event in done.events] == ["process_learned"]
    return operator


def alarms(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.kind, str(event.facts["rule"])) for event in events if event.kind.startswith("process_alarm")]


def told(operator: ProcessWatch, derived: Derived, name: str) -> list[Any]:
    return [each.value for each in derived.readings if operator.outputs[each.output].name == name]


def test_a_sensor_that_leaves_the_others_is_named_with_value_limit_and_evidence() -> None:
    operator = learned()
    healthy = feed(operator, plant(20 * ROW, 2), 400)
    assert healthy.events == []
    assert max(told(operator, healthy, "spe")) < told(operator, healthy, "spe_limit")[0]
    wrong = plant(10 * ROW, 3)
    wrong[:, 1] += 0.6
    done = feed(operator, wrong, 600)
    event = next(event for event in done.events if event.facts["rule"] == "spe")
    assert (event.kind, event.severity, event.source) == ("process_alarm", Severity.MEDIUM, "cooling")
    facts = event.facts
    assert facts["cause"] == "pump.pressure"
    assert str(facts["contributions"]).startswith("pump.pressure ")
    assert float(str(facts["value"])) > float(str(facts["limit"]))
    assert facts["cause_value"] == pytest.approx(4.6, abs=0.1)
    assert facts["cause_usual"] == pytest.approx(4.0, abs=0.1)
    assert (facts["cause_unit"], facts["readings"]) == ("bar", 3)
    assert "Jackson & Mudholkar" in str(facts["source"])
    assert (facts["tag"], facts["unit"], facts["clause"]) == ("spe", "", facts["source"])
    # The rows that it stands on are sent with it: of the statistic, and of each value.
    assert float(str(facts["values"]).split()[-1]) == pytest.approx(facts["value"], rel=1e-5)
    rows = {
        words.split()[0]: [float(each) for each in words.split()[1:]]
        for words in str(facts["evidence_rows"]).split("; ")
    }
    means = [np.sort(wrong[k * ROW : (k + 1) * ROW, 1])[1:-1].mean() for k in range(3)]
    assert rows.keys() == {f"pump.{tag}" for tag in TAGS}
    assert rows["pump.pressure"] == pytest.approx(means, rel=1e-5)
    assert (facts["from"], facts["to"]) == ("2026-01-01T00:10:00.000000Z", "2026-01-01T00:10:18.000000Z")
    assert str(told(operator, done, "cause")[0]).startswith("pump.pressure")


def test_three_rows_in_and_three_out_and_one_outlier_is_none() -> None:
    operator = learned()
    wild = plant(4 * ROW, 4)
    wild[3] *= 3
    assert feed(operator, wild, 402).events == []
    shifted = plant(7 * ROW, 5)
    shifted[: 2 * ROW, 1] += 0.8
    assert alarms(feed(operator, shifted, 432).events) == []
    shifted[: 3 * ROW, 1] += 0.8
    events = feed(operator, shifted, 480).events
    spe = [event for event in events if event.facts.get("rule") == "spe"]
    assert [(event.kind, event.ts) for event in spe] == [
        ("process_alarm", T0 + (480 + 3 * ROW) * S),
        ("process_alarm_over", T0 + (480 + 6 * ROW) * S),
    ]


def test_nothing_is_learned_or_alarmed_while_it_stands_or_starts() -> None:
    operator = watch(running={"tag": "pump.on", "above": None, "hold_ns": 20 * S})
    (on,) = (slot for slot, path in enumerate(operator.inputs) if path == "pump.on")
    odd = plant(200) * 5

    def both(values: F64, runs: bool, start: int) -> Derived:
        gate = Rows.of([on], [T0 + start * S], [float(runs)])
        joined = Rows.concat([gate, rows_of(values, start)])
        return operator.push(joined, T0 + (start + len(values)) * S)

    assert both(odd, False, 0) == Derived()
    assert both(odd[:20], True, 200) == Derived()
    assert operator.view()["learned"] == {}
    assert [event.kind for event in both(plant(60 * ROW + 5), True, 222).events] == ["process_learned"]
    assert both(odd, False, 600).events == []
    assert both(odd[:25], True, 800) == Derived()


def test_a_machine_in_zone_c_teaches_nothing() -> None:
    operator = watch(zones=["pump.velocity_zone"])
    zone = operator.inputs.index("pump.velocity_zone")
    operator.push(Rows.of([zone], [T0], ["C"]), T0)
    refused = feed(operator, plant(100 * ROW), 1)
    assert [(event.kind, event.facts["because"]) for event in refused.events] == [
        ("process_learning_refused", "pump.velocity_zone")
    ]
    operator.push(Rows.of([zone], [T0 + 700 * S], ["B"]), T0 + 700 * S)
    assert [event.kind for event in feed(operator, plant(61 * ROW), 701).events] == ["process_learned"]


def test_a_bad_or_old_value_is_never_good() -> None:
    operator = learned()
    values = plant(5 * ROW, 6)
    slots, times = np.tile(np.arange(4), len(values)), np.repeat(T0 + (402 + np.arange(len(values))) * S, 4)
    quality = np.where(slots == 2, BAD, 0).tolist()
    done = operator.push(Rows.of(slots.tolist(), times.tolist(), values.ravel().tolist(), quality), T0 + 432 * S)
    assert [event.kind for event in done.events] == ["process_watch_blind"]
    assert done.events[0].facts["missing"] == "pump.current"
    assert [(operator.outputs[each.output].name, each.quality) for each in done.readings if each.quality] == [
        ("t2", int(StatusCode.BAD_NO_COMMUNICATION)), ("spe", int(StatusCode.BAD_NO_COMMUNICATION)),
    ]  # fmt: skip
    seen = feed(operator, plant(4 * ROW, 7), 432)
    assert [event.kind for event in seen.events] == ["process_watch_sees"]
    late = feed(operator, plant(5 * ROW, 8)[:, :3], 456)
    assert [event.facts["missing"] for event in late.events] == ["pump.flow"]


def test_values_that_come_at_different_times_are_held_until_they_are_too_old() -> None:
    quick = feed(operator := learned(), plant(20 * ROW, 2)[:, :3], 402)
    assert told(operator, quick, "t2") == [] or len(told(operator, quick, "t2")) < 3
    slow = learned(max_age_ns=60 * S)
    slow.push(Rows.of([3], [T0 + 402 * S], [50.0]), T0 + 402 * S)
    assert len(told(slow, feed(slow, plant(5 * ROW, 2)[:, :3], 402), "t2")) == 5


def test_each_speed_and_each_state_is_learned_apart() -> None:
    operator = watch(speed="pump.rpm", state="pump.program")
    rpm, program = (operator.inputs.index(f"pump.{name}") for name in ("rpm", "program"))

    def at(speed: float, name: str, values: F64, start: int) -> Derived:
        mode = Rows.of([rpm, program], [T0 + start * S] * 2, [speed, name])
        return operator.push(Rows.concat([mode, rows_of(values, start)]), T0 + (start + len(values)) * S)

    assert [event.facts["state"] for event in at(1500, "rinse", plant(61 * ROW), 0).events] == ["rinse"]
    assert [event.facts["state"] for event in at(900, "rinse", plant(61 * ROW) * 0.6, 400).events] == ["rinse"]
    assert at(1490, "rinse", plant(10 * ROW, 2), 800).events == []
    assert at(900, "rinse", plant(10 * ROW, 2) * 0.6, 900).events == []
    assert alarms(at(1500, "rinse", plant(4 * ROW, 2) * 0.6, 1000).events)
    assert at(1500, "dry", plant(4 * ROW, 2) * 0.6, 1100).events == []
    mode = Rows.of([rpm], [T0 + 1200 * S], [1500.0], BAD)
    unknown = operator.push(Rows.concat([mode, rows_of(plant(60) * 2, 1200)]), T0 + 1260 * S)
    assert unknown == Derived()


def test_a_slow_drift_is_seen_by_ewma_and_cusum_of_the_value_alone() -> None:
    operator = watch(learn_ns=150 * ROW * S)
    (event,) = feed(operator, plant(151 * ROW), 0).events
    assert event.facts["not_alone"] == ""
    values = plant(400 * ROW, 9)
    assert feed(operator, values, 1000).events == []
    values[:, 0] += 0.6
    done = feed(operator, values, 4000)
    found = [event for event in done.events if event.facts["rule"] in ("ewma", "cusum")]
    assert {(event.kind, event.facts["rule"], event.facts["tag"]) for event in found} == {
        ("process_alarm", "ewma", "pump.temperature"), ("process_alarm", "cusum", "pump.temperature"),
    }  # fmt: skip
    assert all(event.severity is Severity.LOW and event.facts["unit"] == "degC" for event in found)
    (ewma,) = (event for event in found if event.facts["rule"] == "ewma")
    assert 60 < float(str(ewma.facts["limit"])) < float(str(ewma.facts["value"])) < 60.7
    means = [float(each) for each in str(ewma.facts["values"]).split()]
    assert ewma.facts["readings"] == len(means) == 15
    assert np.mean(means[-5:]) > 60.3
    assert ewma.facts["clause"] == "EWMA of independent means, weight 0.1"
    assert str(ewma.facts["from"]) < str(ewma.facts["to"])
    assert told(operator, done, "ewma_pump_temperature")[-1] > 1
    back = feed(operator, plant(400 * ROW, 10), 6400)
    assert {("process_alarm_over", "ewma"), ("process_alarm_over", "cusum")} <= set(alarms(back.events))


def test_run_rules_and_novelty_are_there_by_choice() -> None:
    chosen = ["t2", "western_electric", "nelson", "novelty"]
    operator = watch(learn_ns=110 * ROW * S, rules=chosen)
    assert [name for name, _, _ in figures_of(settings(rules=chosen))] == ["t2", "t2_limit", "cause", "novelty"]
    feed(operator, plant(111 * ROW), 0)
    values = plant(300 * ROW, 3)
    values[-20 * ROW :, 3] += 1.3
    done = feed(operator, values, 1000)
    ran = [event for event in done.events if event.facts["rule"] == "western_electric"]
    assert any(event.facts["detail"] == "eight in a row on one side" for event in ran)
    novelty = told(operator, done, "novelty")
    assert len(novelty) == 51
    assert all(0 <= each <= 9 for each in novelty)
    assert not any("novelty" in event.message for event in done.events)


def test_values_that_depend_on_each_other_for_long_are_not_judged_alone() -> None:
    random = np.random.default_rng(5)
    steps = 200 * ROW
    wander = np.cumsum(random.normal(size=steps)) * 0.1
    values = plant(steps)
    values[:, 3] += wander
    operator = watch(learn_ns=199 * ROW * S)
    (event,) = feed(operator, values, 0).events
    assert event.facts["not_alone"] == "pump.flow"
    assert "pump.flow" in event.message


def test_the_clock_that_is_set_moves_what_is_held() -> None:
    operator = learned(max_age_ns=60 * S)
    hour = 3600 * S
    operator.shift(hour)
    done = operator.push(Rows.of([0], [T0 + hour + 367 * S], [60.0]), T0 + hour + 400 * S)
    assert len(told(operator, done, "t2")) > 3


def test_the_example_is_planned_and_its_alarm_reads_what_the_watch_makes() -> None:
    plan = load(EXAMPLE.with_name("watch.yaml")).analytics
    assert plan is not None
    kinds = {part["kind"]: part["settings"] for part in plan["parts"]}
    (planned,) = kinds["process"]["watches"]
    assert planned["tags"]["pump-3.flow"] == "m3/h"
    assert planned["running"] == {"tag": "pump-3.current", "above": 4.0, "hold_ns": 1800 * S}
    pipeline = build(plan)
    assert {"cooling.t2", "cooling.cause"} <= pipeline.outputs.keys()


def test_it_is_the_same_from_any_cut_and_after_any_restart() -> None:
    chosen = ["t2", "spe", "ewma", "cusum", "nelson", "western_electric", "novelty"]
    running = {"tag": "pump.on", "above": None, "hold_ns": 3 * S}
    changes = {"running": running, "rules": chosen, "learn_ns": 15 * ROW * S, "state": "pump.program"}
    operator = watch(**changes)
    on, program = operator.inputs.index("pump.on"), operator.inputs.index("pump.program")
    values = plant(26 * ROW, 11)
    values[21 * ROW :, 2] += 9
    parts = [Rows.of([program, on], [T0, T0], ["rinse", 1.0]), rows_of(values[:50], 1)]
    parts += [Rows.of([on], [T0 + 51 * S], [0.0]), Rows.of([on], [T0 + 60 * S], [1.0])]
    parts += [rows_of(values[50:], 61), rows_of(values[:9], 170, quality=BAD), rows_of(values[:20, :2], 180)]
    whole = check_operator(lambda: watch(**changes), Rows.concat(parts), T0 + 220 * S, rounds=2)
    assert ("process_alarm", "spe") in alarms(whole.events) or ("process_alarm", "t2") in alarms(whole.events)
    assert whole.readings


@pytest.mark.parametrize(("every", "days"), [(60, 6), (300, 6), (40, 4), (30, 3)])
def test_six_days_are_learned_or_as_many_rows(every: float, days: float) -> None:
    section = WatchSection.model_validate({"tags": ["pump.flow"], "every": f"{every}s"})
    assert plan("cooling", section, {}, [])["learn_ns"] == days * 86_400 * S
