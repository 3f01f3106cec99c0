"""Control charts of parts: learned from single values, judged by the rules of the books."""

from typing import Any

import numpy as np
import pytest

from edge.agent.configuration.loader import load
from edge.analytics.condition.process.spc import Spc, make
from edge.analytics.conformance import check_operator
from edge.analytics.operator import Derived, Rows
from edge.core.batch import Severity
from edge.core.quality import StatusCode
from tests.agent.test_explain import EXAMPLE

S = 10**9
T0 = 1_767_225_600 * S


def settings(**changes: Any) -> dict[str, Any]:
    return {
        "name": "bore", "tag": "gauge.bore", "each": None, "unit": "mm", "learn": 100, "rules": ["western_electric"],
    } | changes  # fmt: skip


def chart(**changes: Any) -> Spc:
    (made,) = make({"charts": [settings(**changes)]})
    assert isinstance(made, Spc)
    return made


def feed(operator: Spc, values: list[float], start: int = 0, quality: int = 0) -> Derived:
    at = [T0 + (start + place) * S for place in range(len(values))]
    return operator.push(Rows.of([0] * len(values), at, values, quality), at[-1])


def parts(count: int, seed: int = 1) -> list[float]:
    found: list[float] = np.random.default_rng(seed).normal(25.0, 0.01, count).tolist()
    return found


def test_centre_and_sigma_are_those_of_single_values_and_their_ranges() -> None:
    values = parts(100)
    (event,) = feed(chart(), values).events
    assert event.kind == "spc_learned"
    assert event.facts["centre"] == pytest.approx(np.mean(values))
    assert event.facts["sigma"] == pytest.approx(np.abs(np.diff(values)).mean() / 1.128)


def test_a_shift_is_told_with_its_rule_and_the_parts_it_stands_on() -> None:
    operator = chart()
    feed(operator, parts(100))
    done = feed(operator, [25.0, 24.999, 25.008, 25.05], 100)
    (event,) = done.events
    assert (event.kind, event.severity, event.source) == ("spc_alarm", Severity.MEDIUM, "bore")
    assert event.facts["detail"] == "one beyond 3 sigma"
    assert (event.facts["value"], event.facts["unit"]) == (25.05, "mm")
    assert event.facts["values"] == "25 24.999 25.008 25.05"
    z = [each.value for each in done.readings if operator.outputs[each.output].name == "z"]
    assert z[-1] == pytest.approx(0.05 / 0.01, abs=1)
    assert [event.kind for event in feed(operator, [25.0, 24.999, 25.001], 110).events] == ["spc_alarm_over"]


def test_a_bad_reading_is_no_part() -> None:
    operator = chart()
    feed(operator, [99.0] * 50, quality=int(StatusCode.BAD_COMMUNICATION_ERROR))
    (event,) = feed(operator, parts(100), 50).events
    assert event.facts["centre"] == pytest.approx(25.0, abs=0.01)


def test_with_a_counter_equal_parts_count_and_readings_between_do_not() -> None:
    operator = chart(each="press.count", learn=20)
    rows = Rows.of([0], [T0], [25.0])
    operator.push(rows, T0)
    for number in range(21):
        at = T0 + (10 * number + 10) * S
        between = Rows.of([1, 0], [at, at + S], [float(number), 25.0 + number % 2])
        events = operator.push(between, at + S).events
    assert [event.kind for event in events] == ["spc_learned"]
    assert operator.view() == {"learned": 1.0, "alarmed": []}


def test_in_control_it_alarms_as_often_as_the_books_say() -> None:
    operator = chart(learn=1000)
    values = parts(9000, 3)
    events = feed(operator, values).events
    begun = [event for event in events if event.kind == "spc_alarm"]
    assert 8000 / 91.75 * 0.5 < len(begun) < 8000 / 91.75 * 1.2


def test_the_example_is_planned() -> None:
    analytics = load(EXAMPLE.with_name("spc.yaml")).analytics
    assert analytics is not None
    (part,) = (part for part in analytics["parts"] if part["kind"] == "spc")
    assert part["settings"]["charts"][0]["unit"] == "mm"


@pytest.mark.parametrize("each", [None, "press.count"])
def test_it_is_the_same_from_any_cut_and_after_any_restart(each: str | None) -> None:
    rules = ["western_electric", "nelson", "ewma", "cusum"]
    values = parts(60, 5)
    values[40:] = [value + 0.03 for value in values[40:]]
    slots, times, read = [], [], []
    for number, value in enumerate(values):
        slots += [0, 1] if each else [0]
        times += [T0 + number * S] * (2 if each else 1)
        read += [value, float(number)] if each else [value]
    whole = check_operator(lambda: chart(rules=rules, each=each, learn=20), Rows.of(slots, times, read), T0 + 70 * S)
    assert {"spc_learned", "spc_alarm"} <= {event.kind for event in whole.events}
