"""Before and after a limit: operating state, confirmation, baselines, remaining life, novelty."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.analytics.condition.gate import Confirmed, ConfirmedZone, Gate
from edge.analytics.condition.statistics import novelty as n
from edge.analytics.condition.statistics.baseline import LEARN_COUNT, Baseline, speed_bin
from edge.analytics.condition.statistics.remaining import exponential, likelier, passage_share, wiener
from tests.analytics.recordings import DATA, needs_data


def test_the_gate_opens_after_starting_and_closes_at_once() -> None:
    gate = Gate(limit=4.0, hold_ns=5)
    seen = []
    for at, value in enumerate([0, 5, 5, 3.7, 5, 5, 5, 5, 3.7, 3.5, 5, math.nan, 5, 5]):
        gate.feed(at, value)
        seen.append(gate.is_settled(at))
    assert seen == [False] * 6 + [True] * 3 + [False] * 5
    switch = Gate(limit=None, hold_ns=0)
    switch.feed(0, 1.0)
    assert switch.is_settled(0)
    switch.feed(1, 0.0)
    assert not switch.is_settled(1)


@given(st.lists(st.booleans(), max_size=40))
def test_three_in_a_row_in_and_out(readings: list[bool]) -> None:
    confirmed = Confirmed()
    for last, reading in enumerate(readings):
        before = confirmed.is_on
        changed = confirmed.feed(reading)
        assert changed == (confirmed.is_on != before)
        if changed:
            assert readings[last - 2 : last + 1] == [not before] * 3


@pytest.mark.parametrize(
    ("readings", "zones"),
    [
        ("AAA", "..A"),
        ("AAACCC", "..AAAC"),
        ("AAACDC", "..AAAC"),
        ("AAACBD", "..AAAB"),
        ("AAACACACA", "..AAAAAAA"),
        ("AAADDDBAB", "..AAADDDB"),
        ("CDC", "..C"),
    ],
)
def test_a_zone_is_confirmed_by_three_readings_in_a_row(readings: str, zones: str) -> None:
    tracker, seen = ConfirmedZone(), ""
    for reading in readings:
        tracker.feed(reading)
        seen += tracker.zone or "."
    assert seen == zones
    assert not tracker.feed("")


def test_a_baseline_stands_also_with_much_rubbish_in_it() -> None:
    random = np.random.default_rng(1)
    values = np.where(np.arange(LEARN_COUNT) % 100 < 49, random.normal(2.0, 0.3, LEARN_COUNT), 2.0)
    values[: LEARN_COUNT // 5] = 500.0
    baseline = Baseline()
    for value in values:
        assert math.isnan(baseline.z(2.0))
        baseline.learn(float(value), is_well=True)
    assert baseline.median == pytest.approx(2.0, abs=0.2)
    assert baseline.high < 6
    assert Baseline.of(baseline.state()) == baseline


def test_a_bad_machine_and_a_bad_reading_teach_nothing_and_a_steady_one_is_not_too_narrow() -> None:
    baseline = Baseline()
    for _ in range(3 * LEARN_COUNT):
        baseline.learn(9.0, is_well=False)
        baseline.learn(math.nan, is_well=True)
    assert (baseline.is_ready, baseline.refused) == (False, 3 * LEARN_COUNT)
    for _ in range(LEARN_COUNT):
        baseline.learn(2.0, is_well=True)
    assert baseline.sigma == pytest.approx(0.1)
    assert baseline.high == pytest.approx(4.0)
    baseline.learn(100.0, is_well=True)
    assert baseline.median == 2.0


def test_speeds_within_a_tenth_share_a_bin() -> None:
    assert speed_bin(1480) == speed_bin(1500)
    assert speed_bin(1480) != speed_bin(1000)
    assert speed_bin(0) == speed_bin(math.nan) == 0


@pytest.mark.parametrize("t", [1.0, 8.0, 10.0, 12.0, 30.0])
def test_the_first_passage_is_inverse_gaussian(t: float) -> None:
    from scipy import stats

    way, drift, sigma2 = 10.0, 1.0, 0.5
    mean, shape = way / drift, way**2 / sigma2
    assert passage_share(t, way, drift, sigma2) == pytest.approx(
        stats.invgauss.cdf(t, mean / shape, scale=shape), abs=1e-12
    )


def test_eight_of_ten_lives_end_within_the_interval() -> None:
    random = np.random.default_rng(3)
    paths, known, limit = 1000, 40, 12.0
    steps = random.normal(0.1, 0.12, size=(paths, 1500))
    values = np.cumsum(steps, axis=1)
    inside = whole = 0
    for path in values:
        if path[:known].max() >= limit:
            continue
        end = int(np.argmax(path >= limit)) - (known - 1)
        found = wiener(range(known), path[:known].tolist(), limit)
        whole += 1
        inside += found.low <= end <= found.high + 1
    assert whole > 900
    assert 0.75 <= inside / whole <= 0.85


def test_an_exponential_rise_is_met_and_nothing_is_promised_without_one() -> None:
    times = [float(t) for t in range(30)]
    values = [1 + 0.1 * math.exp(0.1 * t) for t in times]
    found = exponential(times, values, 1.0, 11.0)
    assert found.median == pytest.approx(math.log(100) / 0.1 - 29, rel=0.02)
    assert found.low <= found.median <= found.high
    assert wiener(times, [5.0 - 0.1 * t for t in times], 10.0).high == math.inf
    assert wiener(times, times, 20.0).median == 0.0
    with pytest.raises(ValueError, match="3 points"):
        wiener(times[:3], times[:3], 20.0)


def test_means_over_the_time_between_scatter_less_and_the_interval_allows_for_it() -> None:
    random = np.random.default_rng(5)
    steps = random.normal(0.1 / 6, 0.12 / math.sqrt(6), size=(600, 6 * 900))
    paths = np.cumsum(steps, axis=1)
    known, limit = 40, 12.0
    inside = whole = 0
    for path in paths[(paths[:, : 6 * known].max(axis=1) < limit) & (paths.max(axis=1) >= limit)]:
        end = (int(np.argmax(path >= limit)) + 1) / 6 - known
        hours = path[: 6 * known].reshape(known, 6).mean(axis=1)
        found = wiener(range(known), hours.tolist(), limit, averaged=1.0)
        whole += 1
        inside += found.low - 0.5 <= end <= found.high + 0.5
    assert whole > 500
    assert 0.75 <= inside / whole <= 0.85


def test_the_likelier_of_both_rises_is_taken_and_both_where_it_is_open() -> None:
    random = np.random.default_rng(6)
    times = [float(t) for t in range(40)]
    bent = [1 + 0.05 * math.exp(0.1 * t + 0.02 * random.normal()) for t in times]
    assert likelier(times, bent, 1.0, 8.0) == exponential(times, bent, 1.0, 8.0)
    straight = [1.2 + 0.1 * t + 0.02 * random.normal() for t in times]
    assert likelier(times, straight, 1.0, 8.0) == wiener(times, straight, 8.0)
    short = [1.5, 1.52, 1.54, 1.57, 1.58, 1.61, 1.64, 1.66]
    both, one, other = (
        likelier(times[:8], short, 1.0, 3),
        wiener(times[:8], short, 3),
        exponential(times[:8], short, 1, 3),
    )
    assert both.low == min(one.low, other.low)
    assert both.high == max(one.high, other.high)
    below = [0.9, *straight[1:]]
    assert likelier(times, below, 1.0, 8.0) == wiener(times, below, 8.0)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(0, 2**31))
def test_novelty_is_its_definition(dimensions: int, seed: int) -> None:
    asked, parted = n.grow(dimensions, seed)
    random = np.random.default_rng(seed)
    shape = (n.TREES, 2 ** (n.DEPTH + 1) - 1)
    reference, row = random.integers(0, 60, shape), random.uniform(size=dimensions)
    results = []
    for way in (n.novelty, n.novelty_numpy):
        latest, out = np.zeros(shape, np.int64), np.empty(1)
        way(row, asked, parted, reference, latest, 25.0, out)
        results.append((out[0], latest.tolist()))
    assert results[0] == results[1]

    def mass(tree: int, node: int, depth: int) -> float:
        if reference[tree, node] <= 25 or node >= asked.shape[1]:
            return float(reference[tree, node] * 2**depth)
        side = 1 if row[asked[tree, node]] < parted[tree, node] else 2
        return mass(tree, 2 * node + side, depth + 1)

    assert results[0][0] == sum(mass(tree, 0, 0) for tree in range(n.TREES))


def test_strange_rows_score_below_familiar_ones() -> None:
    random = np.random.default_rng(4)
    trees = n.HalfSpaceTrees(5)
    assert math.isnan(trees.feed(np.zeros(5)))
    for _ in range(3 * n.WINDOW):
        trees.feed(random.normal(size=5))
    familiar = [trees.feed(random.normal(size=5)) for _ in range(100)]
    strange = [trees.feed(random.normal([4, -4, 4, 0, 0])) for _ in range(30)]
    pairs = [(a > b) + 0.5 * (a == b) for a in familiar for b in strange]
    assert np.mean(pairs) > 0.95


@needs_data
def test_a_run_to_failure_gives_no_alarm_in_its_first_half_and_one_before_its_end() -> None:
    with np.load(next((DATA / "femto").glob("*.npz"))) as archive:
        rms = archive["acc_mg"].astype(float).std(axis=1)
    baseline, alarm, first = Baseline(), Confirmed(), None
    for place, value in enumerate(rms.tolist()):
        baseline.learn(value, is_well=not alarm.is_on)
        if baseline.is_ready and alarm.feed(value > baseline.high) and first is None:
            first = place
    assert first is not None
    assert len(rms) // 2 < first < len(rms) - 1
