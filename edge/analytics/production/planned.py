"""Planned busy time from the shift calendar: which spans of which days work is planned for."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from edge.analytics.energy.grid import NS_PER_S
from edge.analytics.energy.working_calendar import WorkingCalendar
from edge.analytics.operator import NEVER

_DAY_MINUTES = 1440


class PlannedTime:
    """The spans of planned work. Without shifts all time is planned.

    Args:
        timezone: IANA name.
        shifts: of the plan: `from`, `to` (minutes of the day, `to` None for the begin of the next), `breaks`, `days`.
        calendar: holidays and make-up days.
    """

    def __init__(self, timezone: str, shifts: Sequence[Mapping[str, Any]], calendar: WorkingCalendar) -> None:
        self._zone = ZoneInfo(timezone)
        self._shifts = sorted(shifts, key=lambda shift: int(shift["from"]))
        self._calendar = calendar
        self._edges = lru_cache(16)(self._edges_around)

    def at(self, ts: int) -> tuple[bool, int]:
        """Return whether work is planned at an instant, and until when that holds at least."""
        if not self._shifts:
            return True, 2**62
        edges = self._edges(datetime.fromtimestamp(ts / NS_PER_S, self._zone).date())
        place = bisect_right(edges, ts)
        return place % 2 == 1, edges[place]

    def between(self, begin: int, end: int) -> int:
        """Return how much of a span is planned, in ns."""
        planned, at = 0, begin
        while at < end:
            is_planned, until = self.at(at)
            planned += (min(until, end) - at) * is_planned
            at = until
        return planned

    def _edges_around(self, day: date) -> list[int]:
        """Return begins and ends of planned spans around a day, in turns; the last lies behind the day."""
        spans = sorted(span for offset in (-1, 0, 1) for span in self._of_day(day + timedelta(days=offset)))
        edges: list[int] = []
        for begin, end in spans:
            if edges and begin <= edges[-1]:
                edges[-1] = max(edges[-1], end)
            else:
                edges += [begin, end]
        behind = self._instant(day + timedelta(days=2), 0)
        return [*edges, max(behind, edges[-1] + 1 if edges else NEVER)]

    def _of_day(self, day: date) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        for number, shift in enumerate(self._shifts):
            if shift["days"] and self._calendar.day_type(day) not in shift["days"]:
                continue
            begin, end = shift["from"], shift["to"]
            if end is None:
                end = self._shifts[(number + 1) % len(self._shifts)]["from"]
            end += _DAY_MINUTES * (end <= begin)
            at = begin
            for first, last in sorted(_after(begin, span) for span in shift["breaks"]):
                if at < min(first, end):
                    found.append((self._instant(day, at), self._instant(day, min(first, end))))
                at = max(at, last)
            if at < end:
                found.append((self._instant(day, at), self._instant(day, end)))
        return found

    def _instant(self, day: date, minute: int) -> int:
        day += timedelta(days=minute // _DAY_MINUTES)
        minute %= _DAY_MINUTES
        local = datetime(day.year, day.month, day.day, minute // 60, minute % 60, tzinfo=self._zone)
        return int(local.timestamp()) * NS_PER_S


def _after(begin: int, span: Sequence[int]) -> tuple[int, int]:
    """Return a break in minutes that do not lie before the shift's begin."""
    first, last = span
    first += _DAY_MINUTES * (first < begin)
    return first, last + _DAY_MINUTES * (-(-(first - last) // _DAY_MINUTES) if last <= first else 0)
