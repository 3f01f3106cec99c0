"""Counting by day: as one would count row by row, wherever it is cut, and gaps with exact bounds."""

import math
from collections import Counter
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from buffer import quality_days
from edge.agent.day_counts import COUNTS, DayCounts, Gap, Rows, Watched, local_day, midnight, packed, unpacked
from edge.agent.plausibility import CODES
from edge.core.quality import UNREACHED, StatusCode

ZONE = ZoneInfo("Asia/Shanghai")
S = 10**9
DAY = local_day(ZONE, 1_767_225_600 * S)
BEGIN = midnight(ZONE, DAY)
TIMELY = 10 * S
TAGS = [Watched(1, "plc", 60 * S), Watched(2, "plc", 60 * S), Watched(5, "cnc", 0), Watched(9, "cnc", 600 * S)]
CODES_GIVEN = st.sampled_from(
    [0, 0, 0, *CODES.values(), StatusCode.BAD_NO_COMMUNICATION, StatusCode.BAD_DEVICE_FAILURE]
)
READINGS = st.lists(
    st.tuples(st.sampled_from([1, 2, 5, 9, 77]), st.integers(-3000, 3 * 86_400), CODES_GIVEN, st.integers(0, 40)),
    max_size=40,
)

Reading = tuple[int, int, int, int]


def rows(readings: list[Reading]) -> Rows:
    found = Rows()
    for tag, second, quality, late in readings:
        ts = BEGIN + second * S
        found.add(np.array([tag], np.int32), np.array([ts]), np.array([quality], np.uint32), ts + late * S)
    return found


def naive(readings: list[Reading]) -> Counter[tuple[int, int, str]]:
    """How many readings of each day and tag are of each kind."""
    found: Counter[tuple[int, int, str]] = Counter()
    for tag, second, quality, late in readings:
        if tag == 77 or quality in UNREACHED:
            continue
        kinds = {"received": True, "good": quality == 0, "timely": late <= 10}
        kinds |= {name: quality == code for name, code in CODES.items()}
        found.update({(DAY + second // 86_400, tag, name): 1 for name, holds in kinds.items() if holds})
    return found


def told(counts: DayCounts) -> Counter[tuple[int, int, str]]:
    return Counter(
        {
            (day, tag, name): count
            for day, tag, *values in counts.rows()
            for name, count in zip(COUNTS, values, strict=True)
            if count and name != "expected"
        }
    )


def fresh() -> DayCounts:
    counts = DayCounts(ZONE, TIMELY)
    counts.watch(TAGS, BEGIN)
    return counts


def test_counts_lie_on_file_as_they_are_counted() -> None:
    assert quality_days.COUNTS == COUNTS


@given(READINGS)
def test_columns_count_what_row_by_row_counts(readings: list[Reading]) -> None:
    counts = fresh()
    counts.take(rows(readings))
    assert told(counts) == naive(readings)


@given(READINGS, st.integers(0, 40))
def test_cut_and_restarted_anywhere_it_counts_the_same(readings: list[Reading], cut: int) -> None:
    whole, first, second = fresh(), fresh(), DayCounts(ZONE, TIMELY)
    whole.take(rows(readings))
    first.take(rows(readings[:cut]))
    second.restore(unpacked(packed(first.state())))
    second.take(rows(readings[cut:]))
    assert told(first) + told(second) == told(whole)
    for each in (whole, second):
        each.pass_time(BEGIN + 3 * 86_400 * S)
    owed = [sum(row[2] for row in each.rows() if row[1] == 1) for each in (whole, second)]
    assert owed == [3 * 1440] * 2


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.lists(st.integers(0, 400), max_size=4))
def test_a_gap_goes_from_the_first_reading_that_was_missed_to_the_next_that_came(
    steps: list[int], cuts: list[int]
) -> None:
    seconds = [0]
    for step in steps:
        seconds.append(seconds[-1] + 10 * step)
    counts = DayCounts(ZONE, TIMELY)
    counts.watch([Watched(1, "plc", 10 * S)], BEGIN)
    bounds = [-1, *sorted(cuts), math.inf]
    for low, high in pairwise(bounds):
        counts.take(rows([(1, second, 0, 0) for second in seconds if low < second / 10 <= high]))
    expected = [
        Gap(BEGIN + (one + 10) * S, BEGIN + other * S, 1, True) for one, other in pairwise(seconds) if other - one > 15
    ]
    assert counts.gaps == expected


def test_a_device_that_reports_by_itself_is_missed_from_the_mark_to_the_next_reading() -> None:
    counts = DayCounts(ZONE, TIMELY)
    counts.watch([Watched(1, "cnc", 0), Watched(2, "cnc", 0), Watched(3, "cnc", 0)], BEGIN)
    lost = StatusCode.BAD_NO_COMMUNICATION
    marks = [(tag, 100, lost, 0) for tag in (1, 2, 3)]
    counts.take(rows([(1, 10, 0, 0), (2, 50, lost, 0), (2, 60, 0, 0), *marks]))
    assert counts.gaps == [Gap(BEGIN + 50 * S, BEGIN + 60 * S, 2, False)]  # one tag of three is not the device
    assert counts.open_gaps(BEGIN + 300 * S, 90 * S) == [("cnc", BEGIN + 100 * S)]
    counts.take(rows([(1, 400, 0, 0), (2, 400, 0, 0), (3, 900, 0, 0)]))
    assert counts.gaps[1:] == [
        Gap(BEGIN + 100 * S, BEGIN + 400 * S, 1, True),
        Gap(BEGIN + 100 * S, BEGIN + 900 * S, 3, False),
    ]
    assert counts.open_gaps(BEGIN + 1000 * S, 90 * S) == []


def test_one_tag_that_is_missing_while_its_device_answers_is_a_gap_of_the_tag() -> None:
    counts = DayCounts(ZONE, TIMELY)
    counts.watch([Watched(1, "plc", 60 * S), Watched(2, "plc", 60 * S)], BEGIN)
    counts.take(rows([(tag, 60 * at, 0, 0) for at in range(60) for tag in (1, 2) if tag == 1 or not 10 <= at < 20]))
    assert counts.gaps == [Gap(BEGIN + 600 * S, BEGIN + 1200 * S, 2, False)]


def test_a_changed_interval_owes_the_new_one_from_then_on_and_a_tag_that_is_gone_owes_nothing() -> None:
    counts = DayCounts(ZONE, TIMELY)
    counts.watch([Watched(1, "plc", 60 * S), Watched(2, "plc", 60 * S)], BEGIN)
    counts.watch([Watched(1, "plc", 10 * S)], BEGIN + 3600 * S)
    counts.pass_time(BEGIN + 7200 * S)
    assert [row[:3] for row in counts.rows()] == [(DAY, 1, 60 + 360), (DAY, 2, 60)]


def test_a_day_with_a_changed_clock_has_as_many_hours_as_it_has() -> None:
    zone = ZoneInfo("Europe/Berlin")
    day = local_day(zone, 1_774_700_000 * S) + 1  # 29 March 2026
    counts = DayCounts(zone, TIMELY)
    counts.watch([Watched(1, "plc", 3600 * S)], midnight(zone, day))
    counts.pass_time(midnight(zone, day + 1))
    assert counts.rows()[0][:3] == (day, 1, 23)


def test_a_reading_with_an_impossible_time_is_of_the_day_on_which_it_came() -> None:
    counts = fresh()
    one = Rows()
    one.add(np.array([1], np.int32), np.array([0]), np.zeros(1, np.uint32), BEGIN + 5 * S)
    counts.take(one)
    assert [row[:2] for row in counts.rows()] == [(DAY, 1)]
