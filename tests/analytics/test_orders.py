"""Order tracking: pulses to angle, blocks to orders, a bearing at changing speed; and when there is none."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.analytics.condition.bearing.bearings import bearing
from edge.analytics.condition.bearing.diagnosis import diagnose
from edge.analytics.condition.bearing.lines import P_FALSE_ALARM
from edge.analytics.condition.signal.spectrum import power_spectrum
from edge.analytics.condition.turning import orders as o
from edge.analytics.condition.turning import tacho as t
from edge.analytics.condition.turning.follow import followed
from tests import naive

F64 = NDArray[np.float64]
RATE = 12800.0
LEVELS = st.sampled_from([-1.0, 0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 1.0])
GEOMETRY = bearing("6205")


@settings(max_examples=150, deadline=None)
@given(st.lists(LEVELS, max_size=40))
@pytest.mark.parametrize("way", [t.edges, t._edges_numpy])
def test_edges_are_the_definition(way: Any, samples: list[float]) -> None:
    out = np.empty(40)
    count = way(np.array(samples, float), 0.35, 0.5, 0.65, out)
    assert out[:count].tolist() == pytest.approx(naive.edges(samples, 0.35, 0.5, 0.65))


def test_more_edges_than_fit_are_counted() -> None:
    out = np.zeros(2)
    assert t.edges(np.array([0.0, 1, 0, 1, 0, 1]), 0.3, 0.5, 0.7, out) == 3
    assert out.tolist() == [0.5, 2.5]


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 20), st.integers(0, 2**31))
@pytest.mark.parametrize("way", [t.cubic, t._cubic_numpy])
def test_a_cubic_goes_through_its_four_knots(way: Any, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = np.cumsum(rng.uniform(0.5, 2, size)), rng.normal(size=size)
    at = np.sort(np.append(rng.uniform(x[0] - 1, x[-1] + 1, 20), x))
    out = np.empty(at.size)
    way(x, y, at, out)
    assert out.tolist() == pytest.approx([naive.cubic(x.tolist(), y.tolist(), each) for each in at], abs=1e-7)


@pytest.mark.parametrize("ways", [(o.spline, o.spline_at), (o._spline_numpy, o._spline_at_numpy)])
@pytest.mark.parametrize("size", [41, 64])
def test_a_spline_is_the_solution_of_its_linear_system(ways: tuple[Any, Any], size: int) -> None:
    rng = np.random.default_rng(size)
    samples, at = rng.normal(size=size), np.append(rng.uniform(0, size - 1, 30), [0.0, size - 1.0])
    coefficients, out = np.empty(size), np.empty(at.size)
    ways[0](samples, coefficients)
    ways[1](coefficients, at, out)
    assert out.tolist() == pytest.approx(naive.spline(samples.tolist(), at.tolist()), abs=1e-12)


def chirp(pulses: int = 1, seconds: float = 10.0) -> tuple[F64, F64, F64]:
    """Return turns, a tacho, and acceleration with orders 1, 2.5 and 17 while the speed goes from 600 to 3000 rpm."""
    time = np.arange(int(seconds * RATE)) / RATE
    turns = 10 * time + 20 * time**2 / seconds
    tacho = np.where(turns * pulses % 1 < 0.3, 5.0, 0.0) + 0.02 * np.random.default_rng(0).normal(size=time.size)
    parts = ((1, 1.0), (2.5, 0.5), (17, 0.2))
    return turns, tacho, np.sum([size * np.cos(2 * np.pi * k * turns + k) for k, size in parts], axis=0)


@pytest.mark.parametrize("pulses", [1, 4, 60])
def test_a_run_up_keeps_amplitudes_within_one_percent_and_lines_within_one_bin(pulses: int) -> None:
    turns, tacho, samples = chirp(pulses)
    track = t.tacho_track(tacho, RATE, pulses)
    assert track.span == pytest.approx(turns[-1], abs=2.1)
    slowest, mean, fastest = track.hz()
    assert (slowest, mean, fastest) == pytest.approx((10, 30, 50), rel=0.06)
    found = o.order_amplitudes(samples, RATE, track, [1, 2.5, 17])
    assert found == pytest.approx(np.array([1.0, 0.5, 0.2]) / np.sqrt(2), rel=0.01)
    resampled, a_turn = o.in_angle(samples, RATE, track, 18)
    places, power = power_spectrum(resampled, a_turn)
    for order in (1, 2.5, 17):
        near = np.abs(places - order) < 0.4
        line = np.abs(places - order) <= 2.01 * places[1]  # Hann's main lobe, moved by a bin at most
        assert abs(places[near][np.argmax(power[near])] - order) <= places[1]
        assert power[near & ~line].sum() < 0.01 * power[near].sum()


def test_without_order_tracking_the_same_lines_are_smeared() -> None:
    _, _, samples = chirp()
    places, power = power_spectrum(samples, RATE)
    line = power[(places > 170) & (places < 850)]
    assert line.max() < 0.02 * line.sum()


def test_what_is_above_the_highest_order_does_not_fold_down() -> None:
    turns, tacho, samples = chirp()
    loud = samples + np.where(turns < 100, 3 * np.cos(2 * np.pi * 111.3 * turns), 0)
    found = o.order_amplitudes(loud, RATE, t.tacho_track(tacho, RATE, 1), [1, 2.5, 17])
    assert found == pytest.approx(np.array([1.0, 0.5, 0.2]) / np.sqrt(2), rel=0.015)


def test_marks_that_are_not_equally_spaced_are_put_where_they_are() -> None:
    turns, _, samples = chirp()
    marks = (0.0, 0.22, 0.52, 0.74)
    tacho = np.where(np.min([np.abs((turns - mark + 0.05) % 1 - 0.05) for mark in marks], axis=0) < 0.04, 5.0, 0.0)
    track = t.tacho_track(tacho, RATE, 4)
    found = o.order_amplitudes(samples, RATE, track, [1, 2.5, 17, 16, 18])
    assert found[:3] == pytest.approx(np.array([1.0, 0.5, 0.2]) / np.sqrt(2), rel=0.01)
    assert max(found[3:]) < 0.02 * found[2]


def pulse_times(count: int = 120) -> F64:
    return np.asarray(np.cumsum(np.linspace(0.1, 0.02, count)))


def test_missing_and_additional_pulses_are_told_and_do_no_harm() -> None:
    times = pulse_times()
    track = t.track_of(np.delete(times, [40, 41, 80]), 1)
    assert (track.missing, track.additional, track.span) == (3, 0, 119)
    extra = np.sort(np.append(times, [times[30] + 0.01, times[60] + 0.03]))
    track = t.track_of(extra, 1)
    assert (track.missing, track.additional, track.span) == (0, 2, 119)
    assert np.array_equal(track.seconds, times)


def test_an_irregular_tacho_is_no_speed() -> None:
    rng = np.random.default_rng(5)
    with pytest.raises(t.NoSpeed, match="irregular") as caught:
        t.track_of(np.cumsum(rng.exponential(0.05, 200)), 1)
    assert caught.value.code == "irregular_pulses"


@pytest.mark.parametrize(
    ("samples", "code"),
    [
        (np.zeros(20000), "no_pulses"),
        (np.random.default_rng(1).normal(size=20000), "no_pulses"),
        (np.full(20000, np.nan), "no_pulses"),
        (np.where(np.arange(20000) % 6000 < 1000, 5.0, 0.0), "too_few_turns"),
    ],
)
def test_no_pulses_are_no_speed(samples: F64, code: str) -> None:
    with pytest.raises(t.NoSpeed) as caught:
        t.tacho_track(samples, RATE, 1)
    assert caught.value.code == code


def test_a_speed_that_changes_too_much_for_one_block_is_refused() -> None:
    with pytest.raises(t.NoSpeed) as caught:
        o.in_angle(np.zeros(200_000), RATE, t.track_of(np.cumsum(np.geomspace(0.5, 0.02, 300)), 1), 5)
    assert caught.value.code == "unsteady"


def wavering(order: float | None, seed: int = 0, seconds: float = 8.0) -> tuple[F64, F64]:
    """Return acceleration and tacho of a shaft whose speed wavers by 30 %, with a fault that passes at an order."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    turns = np.cumsum(1480 / 60 * (1 + 0.3 * np.sin(2 * np.pi * 0.09 * time))) / RATE
    samples = rng.normal(size=time.size) + 2 * np.cos(2 * np.pi * turns)
    ring = np.arange(200) / RATE
    tone = 2 * np.exp(-ring / 3e-3) * np.sin(2 * np.pi * 3000 * ring)
    for start in np.flatnonzero(np.diff(np.floor(turns * order * 0.995))) if order else ():
        samples[start : start + 200] += tone[: time.size - start]
    return samples, np.where(turns % 1 < 0.1, 5.0, 0.0)


@pytest.mark.parametrize(("family", "fault"), [("bpfo", "outer_race"), ("bpfi", "inner_race"), (None, "none")])
def test_a_bearing_at_changing_speed_is_judged_over_the_angle(family: str | None, fault: str) -> None:
    samples, tacho = wavering(GEOMETRY.orders[family] if family else None)
    track = t.tacho_track(tacho, RATE, 1)
    found = diagnose(samples, RATE, 60 * track.hz()[1], GEOMETRY.orders, track=track)
    assert found.verdict.fault == fault
    assert diagnose(samples, RATE, 1480, GEOMETRY.orders).verdict.fault == "none"
    if family:
        assert found.verdict.p_false_alarm is not None
        assert found.verdict.p_false_alarm <= P_FALSE_ALARM
        assert found.lines[family].hz == pytest.approx(GEOMETRY.orders[family] * track.hz()[1])


def test_the_shafts_own_line_is_followed_only_where_it_stands_out() -> None:
    samples, tacho = wavering(None)
    exact, found = t.tacho_track(tacho, RATE, 1), followed(samples, RATE, 16, 34)
    assert found.hz() == pytest.approx(exact.hz(), rel=0.03)
    assert o.order_amplitudes(samples, RATE, found, [1])[0] == pytest.approx(2 / np.sqrt(2), rel=0.03)
    rng = np.random.default_rng(3)
    for _ in range(5):
        with pytest.raises(t.NoSpeed) as caught:
            followed(rng.normal(size=samples.size), RATE, 16, 34)
        assert caught.value.code == "no_line"
    with pytest.raises(t.NoSpeed) as caught:
        followed(samples[:2000], RATE, 16, 34)
    assert caught.value.code == "too_few_turns"
