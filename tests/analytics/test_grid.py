"""Intervals in the plant's local time."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.analytics.energy.grid import MINUTE_NS, Grid
from edge.core.interval import Level

SHANGHAI = Grid("Asia/Shanghai", {"early": 6 * 60, "late": 14 * 60, "night": 22 * 60})


def ns(text: str, zone: str = "Asia/Shanghai") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * 10**9


@pytest.mark.parametrize(
    ("level", "begin", "end"),
    [
        (Level.MINUTE, "2026-07-01T05:47:00", "2026-07-01T05:48:00"),
        (Level.QUARTER, "2026-07-01T05:45:00", "2026-07-01T06:00:00"),
        (Level.HOUR, "2026-07-01T05:00:00", "2026-07-01T06:00:00"),
        (Level.SHIFT, "2026-06-30T22:00:00", "2026-07-01T06:00:00"),
        (Level.DAY, "2026-07-01T00:00:00", "2026-07-02T00:00:00"),
        (Level.MONTH, "2026-07-01T00:00:00", "2026-08-01T00:00:00"),
    ],
)
def test_an_instant_lies_in_its_interval(level: Level, begin: str, end: str) -> None:
    found = SHANGHAI.interval(level, ns("2026-07-01T05:47:31"))
    assert (found.begin, found.end) == (ns(begin), ns(end))


def test_the_day_of_a_change_of_the_clock_has_more_or_fewer_minutes() -> None:
    berlin = Grid("Europe/Berlin")
    assert berlin.interval(Level.DAY, ns("2026-03-29T12:00:00", "Europe/Berlin")).minutes == 23 * 60
    assert berlin.interval(Level.DAY, ns("2026-10-25T12:00:00", "Europe/Berlin")).minutes == 25 * 60
    assert Level.SHIFT not in berlin.levels


def test_a_zone_half_an_hour_off_has_its_own_hours() -> None:
    found = Grid("Asia/Kolkata").interval(Level.HOUR, ns("2026-01-01T10:40:00", "Asia/Kolkata"))
    assert found.begin == ns("2026-01-01T10:00:00", "Asia/Kolkata")


@given(st.integers(ns("2024-01-01T00:00:00"), ns("2027-01-01T00:00:00")), st.sampled_from(list(Level)))
def test_intervals_of_a_level_follow_each_other_without_gap(ts: int, level: Level) -> None:
    here = SHANGHAI.interval(level, ts)
    assert here.begin <= ts < here.end
    assert SHANGHAI.interval(level, here.end).begin == here.end
    assert SHANGHAI.interval(level, here.begin) == here
    assert here.end % MINUTE_NS == 0
