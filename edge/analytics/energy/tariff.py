"""Time-of-use tariffs over time: the points where rate or price change, for any stretch of a plant's time."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from edge.analytics.energy.tariff_rules import RATES, Edition, Rate, changes_of_day, uncovered
from edge.analytics.energy.working_calendar import WorkingCalendar

NS_PER_S = 1_000_000_000
_DAYS_KEPT = 2 * 366


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
            self._days[key] = changes_of_day(tuple(rule for rule in edition.rules if rule.on(day, kind, events)))
            while len(self._days) > _DAYS_KEPT:
                self._days.pop(next(iter(self._days)))
        return self._days[key]
