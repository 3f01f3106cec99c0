"""Control charts: against their definitions, and their average run lengths against published ones."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.analytics.condition.statistics import control as c
from tests import naive

F64 = NDArray[np.float64]
Step = Callable[[F64], NDArray[np.bool_]]
PATHS = 4000
values = st.lists(st.floats(-4, 4, width=16), min_size=1, max_size=40)


def chart(way: object, *settings: float) -> Callable[[int], Step]:
    def make(channels: int) -> Step:
        state, alarm = np.zeros((channels, 2)), np.zeros(channels, bool)

        def step(z: F64) -> NDArray[np.bool_]:
            way(z, *settings, state, alarm)  # type: ignore[operator]
            return alarm

        return step

    return make


def settled_ewma(channels: int) -> Step:
    """Return the chart long after its start, as the published runs after a shift are of."""
    state, alarm = np.zeros((channels, 2)), np.zeros(channels, bool)
    state[:, 1] = 1000

    def step(z: F64) -> NDArray[np.bool_]:
        c.ewma(z, c.EWMA_WEIGHT, c.EWMA_LIMIT, state, alarm)
        return alarm

    return step


def runs(mask: int) -> Callable[[int], Step]:
    def make(channels: int) -> Step:
        state, fired = np.zeros((channels, c.RUNS_STATE), np.int64), np.zeros(channels, np.int64)
        previous = np.full(channels, np.nan)

        def step(z: F64) -> NDArray[np.bool_]:
            c.run_rules(z, previous, state, fired)
            alarm: NDArray[np.bool_] = (fired & mask) != 0
            return alarm

        return step

    return make


@settings(max_examples=60, deadline=None)
@given(values)
@pytest.mark.parametrize("way", [c.ewma, c.ewma_numpy])
def test_ewma_is_its_definition(way: object, z: list[float]) -> None:
    step = chart(way, 0.2, 2.7)(1)
    assert [bool(step(np.array([value]))[0]) for value in z] == naive.ewma(z, 0.2, 2.7)


@settings(max_examples=60, deadline=None)
@given(values)
@pytest.mark.parametrize("way", [c.cusum, c.cusum_numpy])
def test_cusum_is_its_definition(way: object, z: list[float]) -> None:
    step = chart(way, 0.5, 4.0)(1)
    assert [bool(step(np.array([value]))[0]) for value in z] == naive.cusum(z, 0.5, 4.0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([-3.5, -2.5, -1.5, -0.7, -0.2, 0.2, 0.7, 1.5, 2.5, 3.5]), min_size=1, max_size=60))
@pytest.mark.parametrize("way", [c.run_rules, c.run_rules_numpy])
def test_run_rules_are_their_definitions(way: object, z: list[float]) -> None:
    state, fired, previous = np.zeros((1, c.RUNS_STATE), np.int64), np.zeros(1, np.int64), np.full(1, np.nan)
    for value, expected in zip(z, naive.run_rules(z), strict=True):
        way(np.array([value]), previous, state, fired)  # type: ignore[operator]
        assert {bit for bit in range(len(c.RULES)) if int(fired[0]) >> bit & 1} == expected


def test_each_rule_can_fire() -> None:
    saw, rise = [0.5, -0.5] * 7, [-0.9, -0.6, -0.3, 0.3, 0.6, 0.9]
    shown = {
        0: [3.1], 1: [0.1] * 9, 2: rise, 3: saw, 4: [2.1, 0, 2.1], 5: [1.1, 1.1, 0, 1.1, 1.1],
        6: [0.1, 0.1, -0.1] * 5, 7: [1.1, 1.1, -1.1] * 3, 8: [0.1] * 8,
    }  # fmt: skip
    assert list(shown) == list(range(len(c.RULES)))
    for rule, z in shown.items():
        assert rule in naive.run_rules(z)[-1], c.RULES[rule]


def test_a_bad_value_changes_nothing() -> None:
    step, state = runs(c.NELSON)(1), chart(c.cusum, 0.5, 4.0)(1)
    for _ in range(8):
        assert not step(np.array([0.1]))[0]
    assert not step(np.array([np.nan]))[0]
    assert step(np.array([0.1]))[0]
    for value, expected in ((3.0, False), (np.nan, False), (3.0, True), (np.nan, False)):
        assert state(np.array([value]))[0] == expected


def average_run_length(make: Callable[[int], Step], shift: float) -> float:
    step, random = make(PATHS), np.random.default_rng(20)
    length, running = np.zeros(PATHS), np.ones(PATHS, bool)
    now = 0
    while running.any():
        now += 1
        alarm = step(random.normal(shift, size=PATHS))
        length[running & alarm] = now
        running &= ~alarm
    return float(length.mean())


@pytest.mark.parametrize(
    ("make", "shift", "published"),
    [
        (chart(c.ewma, c.EWMA_WEIGHT, c.EWMA_LIMIT), 0.0, 500.0),
        (chart(c.cusum, 0.5, 4.0), 0.0, 168.0),
        (chart(c.cusum, 0.5, 4.0), 1.0, 8.38),
        (chart(c.cusum, c.CUSUM_SLACK, c.CUSUM_LIMIT), 0.0, 465.0),
        (chart(c.cusum, c.CUSUM_SLACK, c.CUSUM_LIMIT), 1.0, 10.4),
        (runs(1), 0.0, 370.4),
        (runs(c.WESTERN_ELECTRIC), 0.0, 91.75),
        (settled_ewma, 0.5, 31.3),
        (settled_ewma, 1.0, 10.3),
        (runs(1), 1.0, 43.9),
        (runs(c.WESTERN_ELECTRIC), 1.0, 9.22),
    ],
    ids=[
        "ewma-0", "cusum4-0", "cusum4-1", "cusum5-0", "cusum5-1", "rule1-0", "western-electric-0",
        "ewma-0.5", "ewma-1", "rule1-1", "western-electric-1",
    ],
)  # fmt: skip
def test_average_run_lengths_are_the_published_ones(
    make: Callable[[int], Step], shift: float, published: float
) -> None:
    assert average_run_length(make, shift) == pytest.approx(published, rel=0.05)


def test_limits_for_a_wanted_run_length_keep_it() -> None:
    assert c.cusum_limit(0.5, 465) == pytest.approx(c.CUSUM_LIMIT, abs=0.02)
    assert c.cusum_limit(0.5, 168) == pytest.approx(4.0, abs=0.02)
    assert average_run_length(chart(c.cusum, 1.0, c.cusum_limit(1.0, 60)), 0.0) == pytest.approx(60, rel=0.1)
    assert average_run_length(chart(c.ewma, 0.1, c.ewma_limit(60)), 0.0) > 60
