"""Tariffs: which rate holds at which instant."""

from collections import Counter
from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from edge.analytics.energy.tariff import Tariff
from edge.analytics.energy.tariff_rules import RATES, Edition, HourRule, Rate, parse_span, uncovered
from edge.analytics.energy.working_calendar import DayType, WorkingCalendar

CONFIG = Path(__file__).parents[2] / "config"
ZONE = ZoneInfo("Asia/Shanghai")
CHINA = WorkingCalendar.of(YAML(typ="safe").load(CONFIG / "calendars/china.yaml"))
CHONGQING = (
    HourRule(Rate.SHARP, months=frozenset({1, 7, 8, 12}), spans=((720, 840),)),
    HourRule(Rate.PEAK, spans=((660, 1020), (1200, 1320))),
    HourRule(Rate.VALLEY, spans=((0, 480),)),
    HourRule(Rate.FLAT),
)


def tariff(*rules: HourRule) -> Tariff:
    return Tariff([Edition(date(2020, 1, 1), rules or CHONGQING)], CHINA, "Asia/Shanghai")


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZONE).timestamp()) * 10**9


def rate_at(plan: Tariff, text: str) -> Rate:
    at = ns(text)
    return RATES[int(plan.between(at, at).at(np.array([at]))[0])]


@pytest.mark.parametrize(
    ("at", "rate"),
    [
        ("2024-07-01T11:00:00", Rate.PEAK),
        ("2024-07-01T10:59:59", Rate.FLAT),
        ("2024-07-01T12:00:00", Rate.SHARP),
        ("2024-07-01T14:00:00", Rate.PEAK),
        ("2024-04-01T12:30:00", Rate.PEAK),
        ("2024-04-01T00:00:00", Rate.VALLEY),
        ("2024-04-01T08:00:00", Rate.FLAT),
        ("2024-04-01T23:59:59", Rate.FLAT),
    ],
)
def test_the_rates_of_chongqing_change_at_their_hours(at: str, rate: Rate) -> None:
    assert rate_at(tariff(), at) is rate


@pytest.mark.parametrize(
    ("month", "hours"),
    [
        (7, {Rate.VALLEY: 8, Rate.FLAT: 8, Rate.PEAK: 6, Rate.SHARP: 2}),
        (4, {Rate.VALLEY: 8, Rate.FLAT: 8, Rate.PEAK: 8}),
    ],
)
def test_a_day_has_its_hours_of_each_rate(month: int, hours: dict[Rate, int]) -> None:
    begin = ns(f"2024-{month:02d}-03T00:00:00")
    table = tariff().between(begin, begin)
    codes = table.at(begin + np.arange(1440, dtype=np.int64) * 60 * 10**9)
    assert Counter(RATES[code] for code in codes) == {rate: number * 60 for rate, number in hours.items()}


def test_a_period_goes_over_midnight_and_over_the_turn_of_the_year() -> None:
    plan = tariff(
        HourRule(Rate.DEEP_VALLEY, dates=(((12, 30), (1, 2)),), spans=((600, 840),)),
        HourRule(Rate.VALLEY, spans=((1320, 360),)),
        HourRule(Rate.FLAT),
    )
    assert rate_at(plan, "2024-05-05T23:30:00") is Rate.VALLEY
    assert rate_at(plan, "2024-05-06T05:59:00") is Rate.VALLEY
    assert rate_at(plan, "2024-05-06T06:00:00") is Rate.FLAT
    assert rate_at(plan, "2025-01-02T12:00:00") is Rate.DEEP_VALLEY
    assert rate_at(plan, "2025-01-03T12:00:00") is Rate.FLAT


def test_kinds_of_day_follow_the_decree() -> None:
    plan = tariff(HourRule(Rate.DEEP_VALLEY, days=frozenset({DayType.HOLIDAY}), spans=((600, 840),)), *CHONGQING)
    assert rate_at(plan, "2026-02-17T11:00:00") is Rate.DEEP_VALLEY
    assert CHINA.day_type(date(2026, 2, 14)) is DayType.WORKDAY  # a Saturday worked to make up
    assert CHINA.day_type(date(2026, 2, 17)) is DayType.HOLIDAY
    assert CHINA.day_type(date(2026, 3, 7)) is DayType.WEEKEND
    assert plan.knows(date(2026, 1, 1))
    assert not plan.knows(date(2031, 1, 1))
    assert tariff().knows(date(2031, 1, 1)), "no rule asks for kinds of day"


def test_an_event_of_a_day_brings_its_rate() -> None:
    plan = tariff(HourRule(Rate.SHARP, spans=((720, 840),), event="heat"), *CHONGQING[1:])
    assert rate_at(plan, "2024-06-10T13:00:00") is Rate.PEAK
    plan.declare("heat", date(2024, 6, 10))
    assert rate_at(plan, "2024-06-10T13:00:00") is Rate.SHARP
    assert rate_at(plan, "2024-06-11T13:00:00") is Rate.PEAK


def test_a_new_edition_holds_from_its_day() -> None:
    later = Edition(date(2024, 6, 1), (HourRule(Rate.FLAT),), {Rate.FLAT: 0.5})
    plan = Tariff([later, Edition(date(2020, 1, 1), CHONGQING)], CHINA, "Asia/Shanghai")
    assert rate_at(plan, "2024-05-31T23:59:59") is Rate.FLAT
    assert rate_at(plan, "2024-05-31T12:00:00") is Rate.PEAK
    assert rate_at(plan, "2024-06-01T00:00:00") is Rate.FLAT
    table = plan.between(ns("2024-06-03T00:00:00"), ns("2024-06-03T00:00:00"))
    assert table.price[-1] == 0.5


@settings(max_examples=40)
@given(st.integers(0, 1439), st.integers(0, 1439), st.integers(1, 12))
def test_every_instant_has_exactly_one_rate(begin: int, end: int, month: int) -> None:
    spans = ((begin, end),) if begin != end else ()
    rules = (HourRule(Rate.PEAK, months=frozenset({month}), spans=spans), HourRule(Rate.FLAT))
    table = tariff(*rules).between(ns("2024-01-01T00:00:00"), ns("2024-12-31T00:00:00"))
    assert (np.diff(table.starts) > 0).all()
    assert (np.diff(table.rate) != 0).all()


def test_hours_without_a_rate_are_found() -> None:
    rules = (HourRule(Rate.PEAK, spans=((480, 1200),)), HourRule(Rate.VALLEY, spans=((0, 480),)))
    assert uncovered(rules).startswith("20:00")
    with pytest.raises(ValueError, match="no rule covers 20:00"):
        tariff(*rules)
    assert not uncovered(CHONGQING)


@pytest.mark.parametrize("wrong", ["8-9", "25:00-26:00", "08:00", "08:00-08:00", "08:61-09:00"])
def test_a_wrong_span_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"write from|a day goes|same"):
        parse_span(wrong)


def test_a_span_is_read() -> None:
    assert parse_span("11:00-17:00") == (660, 1020)
    assert parse_span("22:00 - 06:30") == (1320, 390)
    assert parse_span("00:00-24:00") == (0, 1440)
