"""Meters: energy between two instants is the registers' difference, however the readings come."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.analytics.energy.marks import Mark
from edge.analytics.energy.meters import Meters
from edge.analytics.energy.spec import Change, MeterSpec

S = 10**9
MIN = 60 * S
BASE = 1_750_000_000 * S // MIN * MIN
Readings = list[tuple[int, float]]


def fill(spec: MeterSpec, readings: Sequence[tuple[int, float]], pieces: int = 1, **options: int) -> Meters:
    meters = Meters([spec], **options)
    for piece in range(pieces):
        part = readings[piece::pieces] if pieces > 1 else readings
        ts = np.array([BASE + at for at, _ in part], np.int64)
        meters.take(np.zeros(len(part), np.int32), ts, np.array([value for _, value in part], np.float64))
    return meters


def measure(meters: Meters, *edges: int) -> tuple[list[int], list[Mark]]:
    energy, marks = meters.measure(np.zeros(1, np.int32), np.array([BASE + edge for edge in edges], np.int64))
    return energy[0].tolist(), [Mark(mark) for mark in marks[0].tolist()]


def naive(readings: Readings, edge: int) -> Fraction:
    """Return a climbing register at an instant by a straight line between its neighbours, in millionths."""
    ordered = sorted(readings)
    if edge <= ordered[0][0]:
        return Fraction(round(ordered[0][1] * 1e6))
    for (t0, v0), (t1, v1) in pairwise(ordered):
        if t0 < edge <= t1:
            a, b = Fraction(round(v0 * 1e6)), Fraction(round(v1 * 1e6))
            return a + (b - a) * Fraction(edge - t0, t1 - t0)
    return Fraction(round(ordered[-1][1] * 1e6))


@st.composite
def climbing(draw: st.DrawFn) -> Readings:
    """Readings of one register, seconds to hours apart."""
    steps = draw(st.lists(st.tuples(st.integers(1, 4000), st.integers(0, 5000)), min_size=2, max_size=60))
    at, value, readings = 0, draw(st.integers(0, 10**6)), Readings()
    for seconds, hundredths in steps:
        at, value = at + seconds * S, value + hundredths
        readings.append((at, value / 100))
    return readings


edges_of = st.lists(st.integers(-10, 4000), min_size=2, max_size=12, unique=True).map(sorted)


@settings(max_examples=150)
@given(climbing(), edges_of, st.randoms(use_true_random=False), st.integers(1, 4))
def test_intervals_sum_to_the_difference_of_the_registers_in_any_order(
    readings: Readings, edges: list[int], random: Random, pieces: int
) -> None:
    grid = [edge * MIN for edge in edges]
    shuffled = readings[:]
    random.shuffle(shuffled)
    in_order, _ = measure(fill(MeterSpec("m"), readings), *grid)
    assert measure(fill(MeterSpec("m"), shuffled, pieces), *grid)[0] == in_order
    assert sum(in_order) == measure(fill(MeterSpec("m"), readings), grid[0], grid[-1])[0][0]
    for begin, end, energy in zip(grid, grid[1:], in_order, strict=False):
        assert abs(energy - (naive(readings, end) - naive(readings, begin))) <= 1
    whole, _ = measure(fill(MeterSpec("m"), shuffled), -MIN, readings[-1][0] + MIN)
    assert whole == [round(readings[-1][1] * 1e6) - round(readings[0][1] * 1e6)]


@given(climbing(), st.integers(100, 9_000))
def test_a_register_that_rolls_over_counts_on(readings: Readings, modulus: int) -> None:
    climbs = [b - a for (_, a), (_, b) in pairwise(readings)]
    if max(climbs) >= modulus / 10:
        return
    rolled = [(at, round(value % modulus, 2)) for at, value in readings]
    spec = MeterSpec("m", modulus=float(modulus))
    whole, marks = measure(fill(spec, rolled), -MIN, readings[-1][0] + MIN)
    assert whole == [round(readings[-1][1] * 1e6) - round(readings[0][1] * 1e6)]
    assert bool(marks[0] & Mark.ROLLED) == (int(readings[-1][1] // modulus) > int(readings[0][1] // modulus))


def test_the_published_roll_over_makes_no_spike() -> None:
    spec = MeterSpec("m", modulus=1_000_000.0)
    energy, marks = measure(fill(spec, [(0, 999_999.5), (MIN, 999_999.99), (2 * MIN, 0.25)]), 0, MIN, 2 * MIN)
    assert energy == [490_000, 260_000]
    assert marks == [Mark(0), Mark.ROLLED]


def test_a_gap_is_interpolated_marked_and_counted_once() -> None:
    meters = fill(MeterSpec("m"), [(0, 0.0), (MIN, 1.0), (121 * MIN, 121.0), (122 * MIN, 122.0)])
    energy, marks = measure(meters, 0, MIN, 61 * MIN, 121 * MIN, 122 * MIN)
    assert energy == [1_000_000, 60_000_000, 60_000_000, 1_000_000]
    assert marks == [Mark(0), Mark.GAP, Mark.GAP, Mark(0)]


def test_a_dip_that_comes_back_is_left_out() -> None:
    meters = fill(MeterSpec("m"), [(0, 100.0), (MIN, 3.0), (2 * MIN, 2.0), (3 * MIN, 101.0)])
    energy, marks = measure(meters, 0, MIN, 2 * MIN, 3 * MIN)
    assert sum(energy) == 1_000_000
    assert all(mark & Mark.GLITCH for mark in marks[:2])


def test_a_register_that_began_again_counts_what_it_shows_if_it_can_have() -> None:
    readings = [(0, 100.0), (MIN, 101.0), (2 * MIN, 0.5), (3 * MIN, 1.5), (4 * MIN, 2.5), (5 * MIN, 3.5)]
    known, marks = measure(fill(MeterSpec("m", top=0.1), readings), 0, 5 * MIN)
    assert known == [1_000_000 + 500_000 + 3_000_000]
    assert marks == [Mark.RESET]
    unknown, _ = measure(fill(MeterSpec("m"), readings), 0, 5 * MIN)
    assert unknown == [4_000_000], "without a known top what it shows after the reset is not believed"


def test_a_leap_that_the_meter_cannot_make_is_not_counted() -> None:
    readings = [(0, 0.0), (MIN, 1.0), (2 * MIN, 5000.0), (3 * MIN, 5001.0), (4 * MIN, 5002.0), (5 * MIN, 5003.0)]
    energy, marks = measure(fill(MeterSpec("m", top=0.1), readings), 0, 5 * MIN)
    assert energy == [4_000_000]
    assert marks == [Mark.JUMP]
    back, marks = measure(fill(MeterSpec("m", top=0.1), [*readings[:3], (3 * MIN, 3.0)]), 0, 3 * MIN)
    assert back == [3_000_000]
    assert marks == [Mark.GLITCH]


@settings(max_examples=60)
@given(st.permutations(range(9)), st.integers(1, 4))
def test_roll_over_reset_glitch_and_leap_come_out_the_same_in_any_order(order: list[int], pieces: int) -> None:
    values = (990.0, 995.0, 2.0, 1.0, 4.0, 0.0, 1.0, 2.0, 3.0)
    readings = [(number * MIN, value) for number, value in enumerate(values)]
    spec = MeterSpec("m", modulus=1000.0, top=0.2)
    expected = measure(fill(spec, readings), 0, 3 * MIN, 8 * MIN)
    assert measure(fill(spec, [readings[place] for place in order], pieces), 0, 3 * MIN, 8 * MIN) == expected


@settings(max_examples=60)
@given(st.permutations(range(6)))
def test_an_exchange_and_a_new_ratio_count_with_what_held_at_the_time(order: list[int]) -> None:
    readings = [(0, 100.0), (MIN, 101.0), (2 * MIN, 5.0), (3 * MIN, 6.0), (4 * MIN, 7.0), (5 * MIN, 9.0)]
    changes = (
        Change(BASE + MIN + 30 * S, per=2.0, end=101.5, start=4.0),
        Change(BASE + 4 * MIN + 30 * S, per=10.0),
    )
    meters = fill(MeterSpec("m", per=1.0, changes=changes), [readings[place] for place in order])
    energy, marks = measure(meters, 0, 2 * MIN, 4 * MIN, 5 * MIN)
    assert energy == [1_500_000 + 2_000_000, 4_000_000, 2_000_000 + 10_000_000]
    assert marks == [Mark.EXCHANGED, Mark(0), Mark.RATIO]


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(1, 300), st.floats(-50, 500)), min_size=2, max_size=40),
    st.randoms(use_true_random=False),
)
def test_a_power_is_integrated_by_trapezia_in_any_order(steps: list[tuple[int, float]], random: Random) -> None:
    at, readings = 0, Readings()
    for seconds, power in steps:
        at += seconds * S
        readings.append((at, power))
    expected = sum((p0 + p1) / 2 * (t1 - t0) / (3600 * S) for (t0, p0), (t1, p1) in pairwise(readings))
    shuffled = readings[:]
    random.shuffle(shuffled)
    energy, _ = measure(fill(MeterSpec("m", power=True), shuffled), 0, at + MIN)
    assert energy[0] == pytest.approx(expected * 1e6, abs=len(steps))


def test_part_of_a_power_between_two_readings_is_its_area() -> None:
    energy, _ = measure(fill(MeterSpec("m", power=True), [(0, 0.0), (60 * MIN, 60.0)]), 0, 30 * MIN, 60 * MIN)
    assert energy == [7_500_000, 22_500_000]


@given(climbing())
def test_few_points_remember_many_readings(readings: Readings) -> None:
    meters = fill(MeterSpec("m"), readings)
    cells = {(BASE + at) // MIN for at, _ in readings}
    assert int(meters._meters["count"][0]) <= 2 * len(cells)


def test_what_is_older_than_the_room_is_counted_as_late() -> None:
    meters = fill(MeterSpec("m"), [(minute * MIN, float(minute)) for minute in range(300)], room=256)
    assert meters.oldest(0) > BASE
    meters.take(np.zeros(1, np.int32), np.array([BASE], np.int64), np.zeros(1))
    assert meters.counts() == {"late": 1, "twice": 0}
    energy, _ = measure(meters, 200 * MIN, 299 * MIN)
    assert energy == [99_000_000]


def test_two_readings_of_one_instant_count_once() -> None:
    meters = fill(MeterSpec("m"), [(0, 1.0), (MIN, 2.0), (MIN, 2.0), (MIN, 1.5), (2 * MIN, 3.0)])
    assert measure(meters, 0, MIN, 2 * MIN)[0] == [1_000_000, 1_000_000]
    assert meters.counts()["twice"] == 2


def test_outside_what_was_read_nothing_is_claimed() -> None:
    meters = fill(MeterSpec("m"), [(0, 1.0), (10 * MIN, 2.0)])
    energy, marks = measure(meters, -5 * MIN, 0, 10 * MIN, 15 * MIN)
    assert energy == [0, 1_000_000, 0]
    assert marks == [Mark.MISSING, Mark(0), Mark.MISSING]
    assert measure(Meters([MeterSpec("m")]), 0, MIN) == ([0], [Mark.MISSING])


def test_a_late_reading_says_where_energy_changed() -> None:
    meters = fill(MeterSpec("m"), [(0, 0.0), (MIN, 1.0), (31 * MIN, 31.0), (32 * MIN, 32.0)])
    meters.dirty()
    meters.take(np.zeros(1, np.int32), np.array([BASE + 11 * MIN], np.int64), np.array([30.0]))
    (dirty,) = meters.dirty()
    assert (dirty.begin, dirty.end) <= (BASE + MIN, BASE + 32 * MIN)
    assert dirty.end >= BASE + 31 * MIN
    assert measure(meters, MIN, 11 * MIN, 31 * MIN)[0] == [29_000_000, 1_000_000]
    assert meters.dirty() == []
