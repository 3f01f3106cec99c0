"""Time-of-use tariffs: dated rules of seasons, kinds of day and hours, turned into points where the rate changes."""

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from edge.analytics.energy.working_calendar import DayType, WorkingCalendar

MINUTES_OF_DAY = 24 * 60
NS_PER_S = 1_000_000_000
_DAYS_KEPT = 2 * 366


class Rate(StrEnum):
    """The periods of Chinese time-of-use tariffs; `curve` is an hour of a 24- or 96-point price list."""

    SHARP = "sharp"  # 尖峰
    PEAK = "peak"  # 高峰
    FLAT = "flat"  # 平段
    VALLEY = "valley"  # 低谷
    DEEP_VALLEY = "deep_valley"  # 深谷


RATES = tuple(Rate)
"""The rates in the order of their codes in a `Timetable`."""


@dataclass(frozen=True, slots=True)
class HourRule:
    """At which times one rate holds. What is empty holds always; the first rule of a list that fits an instant wins.

    months  1 to 12
    days    kinds of day
    dates   (first, last) within a year as (month, day), may go over the turn of the year
    spans   minutes of the day (from, to), `from` > `to` goes over midnight
    event   a named condition that must hold that day, e.g. a heat wave declared by the grid
    """

    rate: Rate
    months: frozenset[int] = frozenset()
    days: frozenset[DayType] = frozenset()
    dates: tuple[tuple[tuple[int, int], tuple[int, int]], ...] = ()
    spans: tuple[tuple[int, int], ...] = ()
    event: str = ""

    def on(self, day: date, kind: DayType, events: frozenset[str]) -> bool:
        """Whether the rule can hold on this day at all."""
        if self.event and self.event not in events:
            return False
        here = (day.month, day.day)
        return (
            (not self.months or day.month in self.months)
            and (not self.days or kind in self.days)
            and (not self.dates or any(_within(here, first, last) for first, last in self.dates))
        )


@dataclass(frozen=True, slots=True)
class Edition:
    """A tariff from one day on: the rules, and what each rate's price is made of.

    document  what it rests on, and how sure that is
    prices    currency units a kWh by rate; empty where only the hours are known
    fixed     the part of each price that does not float: grid fees, line losses, government funds
    """

    valid_from: date
    rules: tuple[HourRule, ...]
    prices: Mapping[Rate, float] = field(default_factory=dict)
    fixed: float = 0.0
    document: str = ""


@dataclass(frozen=True, slots=True)
class Timetable:
    """Rates over time: from `starts[i]` on it is `rate[i]`, until `starts[i + 1]`.

    starts  int64[n], nanoseconds since 1970 UTC, ascending
    rate    int8[n], place in `RATES`
    price   float64[n], currency units a kWh; NaN where no price is known
    """

    starts: NDArray[np.int64]
    rate: NDArray[np.int8]
    price: NDArray[np.float64]

    def at(self, ts: NDArray[np.int64]) -> NDArray[np.int8]:
        """Return the code of the rate at each instant."""
        return self.rate[np.searchsorted(self.starts, ts, "right") - 1]


class Tariff:
    """A time-of-use tariff in all its editions, in one plant's time zone.

    Raises:
        ValueError: no edition, or an edition whose rules leave some hour without a rate.
    """

    def __init__(self, editions: Sequence[Edition], calendar: WorkingCalendar, timezone: str) -> None:
        if not editions:
            raise ValueError("a tariff needs at least one edition")
        self.editions = tuple(sorted(editions, key=lambda edition: edition.valid_from))
        self._calendar = calendar
        self._zone = ZoneInfo(timezone)
        self._events: dict[date, frozenset[str]] = {}
        self._days: dict[tuple[int, date], tuple[tuple[int, Rate], ...]] = {}
        for edition in self.editions:
            if bare := uncovered(edition.rules):
                raise ValueError(f"no rule covers {bare}")

    def declare(self, event: str, day: date) -> None:
        """Take note that a named condition, e.g. a heat wave, holds on this day."""
        self._events[day] = self._events.get(day, frozenset()) | {event}
        self._days.clear()

    def edition(self, day: date) -> Edition:
        """Return the edition in force on this day; before the first one, the first."""
        place = bisect_right([edition.valid_from for edition in self.editions], day)
        return self.editions[max(place - 1, 0)]

    def knows(self, day: date) -> bool:
        """Whether the rates of this day are certain: the calendar has its year, or no rule asks for kinds of day."""
        return self._calendar.knows(day) or not any(rule.days for rule in self.edition(day).rules)

    def between(self, start: int, end: int) -> Timetable:
        """Return the rates from the day of `start` to the day of `end`, both in nanoseconds since 1970 UTC."""
        first = datetime.fromtimestamp(start / NS_PER_S, UTC).astimezone(self._zone).date() - timedelta(days=1)
        last = datetime.fromtimestamp(end / NS_PER_S, UTC).astimezone(self._zone).date() + timedelta(days=1)
        starts, rates, prices = list[int](), list[Rate](), list[float | None]()
        for number in range((last - first).days + 1):
            day = first + timedelta(days=number)
            edition = self.edition(day)
            for minute, rate in self._day(edition, day):
                price = edition.prices.get(rate)
                if not rates or (rates[-1], prices[-1]) != (rate, price):
                    starts.append(self._instant(day, minute))
                    rates.append(rate)
                    prices.append(price)
        codes = np.array([RATES.index(rate) for rate in rates], np.int8)
        return Timetable(np.array(starts, np.int64), codes, np.array(prices, np.float64))

    def _instant(self, day: date, minute: int) -> int:
        local = datetime(day.year, day.month, day.day, minute // 60, minute % 60, tzinfo=self._zone)
        return int(local.timestamp()) * NS_PER_S

    def _day(self, edition: Edition, day: date) -> tuple[tuple[int, Rate], ...]:
        """Return where the rate changes on one day, as (minute, rate), from minute 0."""
        key = (self.editions.index(edition), day)
        if key not in self._days:
            events = self._events.get(day, frozenset())
            kind = self._calendar.day_type(day)
            self._days[key] = _changes(tuple(rule for rule in edition.rules if rule.on(day, kind, events)))
            while len(self._days) > _DAYS_KEPT:
                self._days.pop(next(iter(self._days)))
        return self._days[key]


def rate_of_day(rules: Sequence[HourRule]) -> list[Rate | None]:
    """Return the rate of each minute of a day on which these rules hold; None where none does."""
    minutes: list[Rate | None] = [None] * MINUTES_OF_DAY
    for rule in reversed(rules):
        for begin, end in rule.spans or ((0, MINUTES_OF_DAY),):
            for first, last in ((begin, end),) if begin < end else ((begin, MINUTES_OF_DAY), (0, end)):
                minutes[first:last] = [rule.rate] * (last - first)
    return minutes


def uncovered(rules: Sequence[HourRule]) -> str:
    """Return the first time of day, on some kind of day and season, that no rule covers, in words; empty if none."""
    always = [rule for rule in rules if not (rule.months or rule.days or rule.dates or rule.event)]
    if None not in rate_of_day(always):
        return ""
    for month in range(1, 13):
        for kind in DayType:
            # The 15th stands for its month; rules for dates come on top of what must cover without them.
            here = [rule for rule in rules if not rule.dates and rule.on(date(2024, month, 15), kind, frozenset())]
            minutes = rate_of_day(here)
            if None in minutes:
                bare = minutes.index(None)
                return f"{bare // 60:02d}:{bare % 60:02d}, month {month}, {kind}"
    return ""


@lru_cache(64)
def _changes(rules: tuple[HourRule, ...]) -> tuple[tuple[int, Rate], ...]:
    """Return where the rate changes on a day on which these rules hold. A year has few such lists."""
    changes = list[tuple[int, Rate]]()
    for minute, rate in enumerate(rate_of_day(rules)):
        if rate is not None and (not changes or changes[-1][1] != rate):
            changes.append((minute, rate))
    return tuple(changes)


def _within(here: tuple[int, int], first: tuple[int, int], last: tuple[int, int]) -> bool:
    return first <= here <= last if first <= last else here >= first or here <= last


_SPAN = re.compile(r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})")


def parse_span(text: str) -> tuple[int, int]:
    """Return (from, to) in minutes of the day of `11:00-17:00`; `22:00-06:00` goes over midnight.

    Raises:
        ValueError: it is not such a span; the message says why.
    """
    match = _SPAN.fullmatch(text.strip())
    if not match:
        raise ValueError("write from and to: 11:00-17:00")
    h1, m1, h2, m2 = (int(part) for part in match.groups())
    begin, end = h1 * 60 + m1, h2 * 60 + m2
    if m1 > 59 or m2 > 59 or begin >= MINUTES_OF_DAY or end > MINUTES_OF_DAY:
        raise ValueError("a day goes from 00:00 to 24:00")
    if begin == end:
        raise ValueError("from and to are the same; a whole day needs no `at`")
    return begin, end
