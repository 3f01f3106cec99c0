"""Drift: what of an amplitude depends on its neighbours, what spread is believed, and when it creeps away."""

import cbor2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.analytics.condition.statistics.drift import BLOCKS, LEARN_HOURS, LEARN_HOURS_MAX, Drift
from edge.analytics.condition.statistics.independence import across_halves, dependence, independent

F64 = NDArray[np.float64]
BLOCK = 600 * 10**9


def follows(count: int, share: float, seed: int = 1) -> F64:
    """Return values of spread 1 that each keep a share of the one before."""
    random = np.random.default_rng(seed)
    values = np.empty(count)
    values[0] = random.normal()
    for place in range(1, count):
        values[place] = share * values[place - 1] + np.sqrt(1 - share**2) * random.normal()
    return values


def test_a_mean_is_taken_over_as_many_values_as_depend_on_each_other() -> None:
    assert dependence(follows(2000, 0.0)) == 1
    assert dependence(np.full(50, 7.0)) == 1
    for share in (0.5, 0.8, 0.9):
        values = follows(20_000, share)
        count = dependence(values)
        assert count == pytest.approx(2 * (1 + share) / (1 - share), rel=0.25)
        means = values[: len(values) // count * count].reshape(-1, count).mean(axis=1)
        assert abs(np.corrcoef(means[1:], means[:-1])[0, 1]) < 0.25


def test_the_spread_is_wide_enough_in_nine_of_ten_and_grows_by_what_wanders() -> None:
    found = [independent(follows(60, 0.0, seed), 14) for seed in range(200)]
    usual = [each for each in found if each.count == 1]
    assert len(usual) > 180
    assert np.mean([each.sigma > 1 for each in usual]) == pytest.approx(0.9, abs=0.06)
    assert np.mean([abs(each.mean) < each.bias * each.sigma for each in usual]) > 0.75
    assert independent(follows(168, 0.98), 14).count == 0
    rows = np.linspace(0, 1, 100)[:, None]
    assert np.sqrt(np.mean(across_halves(rows) ** 2)) > 1.7 * rows.std()


def feed(drift: Drift, hours: F64, start: int = 0, is_well: bool = True) -> list[tuple[int, float]]:
    """Feed each hour as medians over ten minutes; return when the alarm turns, in hours, and the mean."""
    turns = []
    for place in range(len(hours) * BLOCKS):
        at = (start * BLOCKS + place) * BLOCK
        mean = drift.feed(at, float(hours[place // BLOCKS]), is_well=is_well)
        if mean is not None:
            turns.append((start + place // BLOCKS, mean))
    return turns


def test_a_week_is_learned_only_of_a_machine_that_is_well() -> None:
    drift, week = Drift(), 1 + 0.06 * follows(LEARN_HOURS, 0.3)
    feed(drift, week * 3, is_well=False)
    assert drift.usual is None
    assert not drift.seen
    feed(drift, week)
    assert drift.usual is not None
    assert drift.usual.mean == pytest.approx(1.0, abs=0.03)
    assert 1 <= drift.usual.count <= 6


def test_a_creep_is_seen_and_seen_as_over_and_half_a_year_is_quiet() -> None:
    drift = Drift()
    assert feed(drift, 1 + 0.06 * follows(LEARN_HOURS + 24 * 180, 0.5, 3)) == []
    away = 1.2 + 0.06 * follows(200, 0.5, 4)
    ((begin, mean),) = feed(drift, away, 5000)
    assert begin < 5100
    assert drift.is_on
    assert mean > drift.limit(mean) > 1.06
    since, _ = drift.leaning[0]
    assert since >= 5000 * BLOCKS * BLOCK
    ((end, _),) = feed(drift, 1 + 0.06 * follows(300, 0.5, 5), 5200)
    assert end < 5500


def test_what_depends_on_itself_for_weeks_is_not_judged() -> None:
    drift = Drift()
    feed(drift, 1 + 0.06 * follows(LEARN_HOURS_MAX, 0.995, 6))
    assert drift.is_refused
    assert feed(drift, np.full(500, 2.0)) == []


def test_its_state_is_the_whole_of_it() -> None:
    hours = 1 + 0.06 * follows(LEARN_HOURS + 60, 0.3, 7)
    hours[-30:] += 0.4
    whole, cut = Drift(), Drift()
    expected, found = feed(whole, hours), []
    for place in range(len(hours)):
        found += feed(cut, hours[place : place + 1], place)
        cut = Drift.of(cbor2.loads(cbor2.dumps(cut.state())))
    assert found == expected
    assert len(found) == 1
    assert cut == whole


def test_a_quiet_amplitude_is_judged_after_a_week_whatever_its_hours_depend_on() -> None:
    drift = Drift()
    feed(drift, 1 + 0.01 * np.sin(np.arange(LEARN_HOURS) / 24 * 2 * np.pi))
    assert drift.usual is not None
    assert (drift.usual.count, drift.usual.sigma) == (1, 0.05)
    assert feed(drift, np.full(24, 1.2), LEARN_HOURS)[0][0] < LEARN_HOURS + 8
