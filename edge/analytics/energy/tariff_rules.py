"""When which rate holds: dated rules of seasons, kinds of day and hours. Pure: a check asks it too."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from functools import lru_cache

from edge.analytics.energy.working_calendar import DayType

MINUTES_OF_DAY = 24 * 60


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

    document    what it rests on
    confidence  how sure that is
    prices      currency units a kWh by rate; empty where only the hours are known
    fixed       the part of each price that does not float: grid fees, line losses, government funds
    """

    valid_from: date
    rules: tuple[HourRule, ...]
    prices: Mapping[Rate, float] = field(default_factory=dict)
    fixed: float = 0.0
    document: str = ""
    confidence: str = ""


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
def changes_of_day(rules: tuple[HourRule, ...]) -> tuple[tuple[int, Rate], ...]:
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
