"""Event time: order, lateness, clocks that are set, quiet times, and states that are taken up anywhere."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.analytics.conformance import check_operator
from edge.analytics.operator import Reading, Rows
from edge.analytics.pipeline import BadOperatorState, BadState, Outcome, Pipeline
from edge.core.batch import Batch, Event, Lane, Severity
from edge.core.catalogue import Tag, ValueKind
from tests.analytics.operators import Total

S = 10**9
T0 = 1_767_225_600 * S
COUNT = Tag(7, "press", "count", ValueKind.INT64, "pcs")
SPEED = Tag(9, "press", "speed", ValueKind.FLOAT64, "rpm")


def pipeline() -> Pipeline:
    made = Pipeline([Total("press.total", "again"), Total()], 1 * S)
    made.learn([SPEED, COUNT])
    return made


def counts(*rows: tuple[float, int]) -> Batch:
    return Batch.of(Lane.INT, [COUNT.id] * len(rows), [T0 + round(s * S) for s, _ in rows], [v for _, v in rows])


def readings(outcome: Outcome, path: str = "press.total") -> list[tuple[float, int]]:
    return [((reading.ts - T0) / S, int(reading.value)) for where, reading in outcome.readings if where == path]


def totals(outcome: Outcome) -> list[Reading]:
    return [reading for path, reading in outcome.readings if path == "press.total"]


def test_a_reading_is_released_when_nothing_can_overtake_it() -> None:
    line = pipeline()
    assert readings(line.take([counts((5, 1))], T0)) == []
    assert readings(line.take([counts((4.5, 2))], T0)) == []
    assert readings(line.take([counts((6, 4))], T0)) == [(4.5, 2), (5, 3)]


def test_an_operator_reads_what_another_derives_in_the_same_step() -> None:
    line = pipeline()
    outcome = line.take([counts((1, 5), (2, 7))], T0)
    outcome.add(line.play([], T0 + 60 * S))
    assert readings(outcome) == [(1, 5), (2, 12)]
    assert readings(outcome, "press.again") == [(1, 5), (2, 17)]
    assert [((event.ts - T0) / S, event.facts["sum"]) for event in outcome.events] == [(12, 12), (12, 17)]


def test_what_comes_too_late_counts_from_where_it_came_and_what_is_older_than_its_tag_is_marked() -> None:
    line = pipeline()
    line.take([counts((10, 1), (20, 1))], T0)
    (first,) = totals(line.take([counts((5, 100))], T0))
    assert (first.ts - T0, first.value, first.revision) == (19 * S, 101, 1)


def test_event_time_goes_on_while_nothing_comes() -> None:
    line = pipeline()
    line.take([counts((10, 1))], stored=500 * S)
    assert line.wake() == 501 * S
    assert readings(line.pass_time(501 * S)) == [(10, 1)]
    assert line.wake() == 511 * S
    assert line.pass_time(510 * S).events == []
    assert [(event.ts - T0) / S for event in line.pass_time(511 * S).events] == [20, 20]
    assert line.wake() is None


def started(now_s: float) -> Event:
    return Event(T0 + round(now_s * S), "gateway", "gateway_started", Severity.INFO, "started")


def test_one_reading_of_the_far_future_does_not_stop_the_time() -> None:
    line = pipeline()
    line.take([started(0)], stored=T0)
    line.take([counts((3e8, 1))], stored=T0 + 1 * S)
    assert readings(line.take([counts((2, 10), (70, 100))], stored=T0 + 70 * S)) == [(1, 1), (2, 11)]
    assert readings(line.take([counts((140, 1000))], stored=T0 + 140 * S)) == [(70, 111)]


def test_a_clock_set_back_by_an_hour_neither_stops_readings_nor_moves_what_is_waited_for() -> None:
    line = pipeline()
    line.take([started(0)], stored=T0)
    line.take([counts((10, 1), (12, 1))], stored=T0 + 12 * S)
    line.take([Event(T0 - 3588 * S, "gateway", "clock_step", Severity.HIGH, "", {"step_s": -3600.0})], T0 + 12 * S)
    outcome = line.take([counts((-3587, 1), (-3570, 1))], stored=T0 + 30 * S)
    assert readings(outcome) == [(-3588, 2), (-3587, 3)]
    assert [(event.ts - T0) / S for event in outcome.events] == [-3577, -3577]


def test_a_device_whose_clock_was_set_back_is_taken_again_after_a_minute() -> None:
    line = pipeline()
    line.take([counts((100, 1))], stored=T0)
    line.take([counts((102, 1))], stored=T0 + 2 * S)
    (old,) = totals(line.take([counts((50, 1))], stored=T0 + 30 * S))
    (new,) = totals(line.take([counts((80, 1))], stored=T0 + 80 * S))
    assert (old.revision, new.revision) == (1, 0)


ROWS = st.lists(st.tuples(st.integers(0, 400), st.integers(-5, 5)), min_size=1, max_size=40)


@given(ROWS, st.randoms(use_true_random=False))
def test_taking_a_state_up_anywhere_changes_nothing(rows: list[tuple[int, int]], chance: random.Random) -> None:
    def run(restarts: float) -> tuple[list[tuple[str, Reading]], list[Event]]:
        line, out = pipeline(), Outcome()
        for number, (tenths, value) in enumerate(rows):
            out.add(line.take([counts((tenths / 10, value))], stored=T0 + number * S))
            if chance.random() < restarts:
                state = line.state()
                line = pipeline()
                assert line.restore(state) == []
                assert line.state() == state
        out.add(line.play([], T0 + 100 * S))
        return out.readings, out.events

    assert run(0.5) == run(0)


def test_a_damaged_state_is_refused_and_a_changed_pipeline_takes_up_what_it_knows() -> None:
    line = pipeline()
    line.take([counts((1, 5), (2, 7))], T0)
    state = line.state()
    for place in range(0, len(state), 7):
        with pytest.raises(BadState):
            pipeline().restore(state[:place] + bytes([state[place] ^ 1]) + state[place + 1 :])
    alone = Pipeline([Total()], 1 * S)
    alone.learn([COUNT])
    alone.restore(state)
    assert readings(alone.play([], T0 + 5 * S)) == [(2, 12)]
    other = Pipeline([Total("press.speed", "total")], 1 * S)
    other.learn([SPEED])
    other.restore(state)
    assert readings(other.play([], T0 + 5 * S)) == []


def test_an_operator_that_cannot_take_its_state_up_begins_anew_alone() -> None:
    class Strict(Total):
        def restore(self, state: Mapping[str, Any]) -> Sequence[str]:
            raise KeyError("what this version does not know")

    line = pipeline()
    line.take([counts((1, 5), (3, 7))], T0)
    strict = Pipeline([Total("press.total", "again"), Strict()], 1 * S)
    with pytest.raises(BadOperatorState, match="total"):
        strict.restore(line.state())
    strict = Pipeline([Total("press.total", "again"), Strict()], 1 * S)
    assert strict.restore(line.state(), {"total"}) == ["total"]
    strict.learn([COUNT])
    assert readings(strict.play([], T0 + 5 * S)) == [(3, 7)]


def test_operators_in_a_circle_are_refused() -> None:
    with pytest.raises(ValueError, match="circle"):
        Pipeline([Total("press.b", "a"), Total("press.a", "b")], 0)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(-5, 5)), min_size=1, max_size=20))
def test_the_operator_for_tests_conforms(rows: list[tuple[int, int]]) -> None:
    rows.sort(key=lambda row: row[0])
    at = [T0 + second * S for second, _ in rows]
    check_operator(Total, Rows.of([0] * len(rows), at, [value for _, value in rows]), T0 + 100 * S, rounds=3)


def test_conformance_finds_an_operator_that_forgets() -> None:
    class Forgetful(Total):
        def state(self) -> dict[str, int | None]:
            return {"sum": 0, "quiet": None}

    rows = Rows.of([0] * 30, [T0 + n * S for n in range(30)], list(range(30)))
    with pytest.raises(AssertionError):
        check_operator(Forgetful, rows, T0 + 60 * S)
