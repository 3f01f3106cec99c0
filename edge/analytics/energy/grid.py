"""The intervals that figures are given for, in the plant's local time: quarter hours, hours, shifts, days, months."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from edge.core.interval import Level

NS_PER_S = 1_000_000_000
MINUTE_NS = 60 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Interval:
    """From `begin` up to but not including `end`, ns since 1970 UTC."""

    begin: int
    end: int

    @property
    def minutes(self) -> int:
        """How many minutes it has: a day of a change of the clock has 60 more or less."""
        return (self.end - self.begin) // MINUTE_NS


class Grid:
    """The intervals of one time zone and shift plan.

    Args:
        timezone: IANA name.
        shifts: name of each shift to its begin in minutes of the day, in order of the day; empty for none.
    """

    def __init__(self, timezone: str, shifts: Mapping[str, int] | None = None) -> None:
        self._zone = ZoneInfo(timezone)
        self._shifts = sorted((shifts or {}).values())
        self.levels = tuple(level for level in Level if level is not Level.SHIFT or self._shifts)
        self._of_hour = lru_cache(64)(self._hour)
        self._of_day = lru_cache(64)(self._day)

    def interval(self, level: Level, ts: int) -> Interval:
        """Return the interval of a level that an instant lies in."""
        if level is Level.MINUTE:
            begin = ts - ts % MINUTE_NS
            return Interval(begin, begin + MINUTE_NS)
        if level is Level.QUARTER:
            # Every time zone of today is whole quarters of an hour from UTC.
            begin = ts - ts % (15 * MINUTE_NS)
            return Interval(begin, begin + 15 * MINUTE_NS)
        if level is Level.HOUR:
            return self._of_hour(ts // (15 * MINUTE_NS))
        return self._of_day(level, ts // (15 * MINUTE_NS))

    def local(self, ts: int) -> datetime:
        """Return an instant in the plant's time."""
        return datetime.fromtimestamp(ts / NS_PER_S, UTC).astimezone(self._zone)

    def _hour(self, quarter: int) -> Interval:
        ts = quarter * 15 * MINUTE_NS
        begin = ts - self.local(ts).minute * MINUTE_NS
        return Interval(begin, begin + 60 * MINUTE_NS)

    def _day(self, level: Level, quarter: int) -> Interval:
        ts = quarter * 15 * MINUTE_NS
        day = self.local(ts).date()
        if level is Level.DAY:
            return Interval(self._instant(day), self._instant(day + timedelta(days=1)))
        if level is Level.MONTH:
            first = day.replace(day=1)
            return Interval(self._instant(first), self._instant((first + timedelta(days=31)).replace(day=1)))
        edges = [
            self._instant(day + timedelta(days=offset), minute) for offset in (-1, 0, 1, 2) for minute in self._shifts
        ]
        place = max(place for place, edge in enumerate(edges) if edge <= ts)
        return Interval(edges[place], edges[place + 1])

    def _instant(self, day: date, minute: int = 0) -> int:
        local = datetime(day.year, day.month, day.day, minute // 60, minute % 60, tzinfo=self._zone)
        return int(local.timestamp()) * NS_PER_S
