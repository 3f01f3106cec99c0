"""Which days are worked: weekends, public holidays and the working days that make up for them, as dated data."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import Any

_SATURDAY = 5


class DayType(StrEnum):
    """What a tariff or a shift plan asks of a day. A weekend day that is worked to make up for another is a workday."""

    WORKDAY = "workday"
    WEEKEND = "weekend"
    HOLIDAY = "holiday"


@dataclass(frozen=True, slots=True)
class WorkingCalendar:
    """The days that differ from the plain week, by the years that are known.

    years     what the data covers; in another year only the plain week is known
    holidays  days off by decree
    workdays  weekend days that are worked to make up
    """

    years: frozenset[int] = frozenset()
    holidays: frozenset[date] = frozenset()
    workdays: frozenset[date] = frozenset()

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "WorkingCalendar":
        """Read the data of a calendar file: `years: {2026: {holidays: {name: 01-01..01-03}, workdays: [01-04]}}`.

        Raises:
            ValueError: a day that is none, with the text that names it.
        """
        holidays, workdays = set[date](), set[date]()
        for year, decree in data["years"].items():
            for span in decree.get("holidays", {}).values():
                holidays.update(_days(int(year), str(span)))
            for span in decree.get("workdays", ()):
                workdays.update(_days(int(year), str(span)))
        return cls(frozenset(int(year) for year in data["years"]), frozenset(holidays), frozenset(workdays))

    def day_type(self, day: date) -> DayType:
        """Return what kind of day this is."""
        if day in self.holidays:
            return DayType.HOLIDAY
        if day.weekday() >= _SATURDAY and day not in self.workdays:
            return DayType.WEEKEND
        return DayType.WORKDAY

    def knows(self, day: date) -> bool:
        """Whether the decree of this day's year is in the data."""
        return day.year in self.years


def _days(year: int, span: str) -> list[date]:
    """Return the days of `MM-DD` or `MM-DD..MM-DD`."""
    first, _, last = span.partition("..")
    begin = date.fromisoformat(f"{year}-{first.strip()}")
    end = date.fromisoformat(f"{year}-{(last or first).strip()}")
    return [begin + timedelta(days=day) for day in range((end - begin).days + 1)]
