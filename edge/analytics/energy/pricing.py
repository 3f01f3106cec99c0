"""What a minute's energy is charged with: rate, price, and the instant since which the same rows hold."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from edge.analytics.energy.grid import MINUTE_NS, NS_PER_S
from edge.analytics.energy.plan import EnergyPlan
from edge.analytics.energy.tariff import Tariff, Timetable
from edge.analytics.energy.tariff_rules import RATES, HourRule
from edge.analytics.operator import NEVER

Charge = tuple[int, int, float]
"""Since when the same factors and prices hold (ns), the rate's code or -1, and the price a unit or -1 for unknown."""

CURVE_STEP_MAX_NS = 60 * MINUTE_NS
"""A price of a list holds until the next one, an hour at most: where the list ends, the hours of the tariff hold."""

_DAY_NS = 86_400 * NS_PER_S


class Pricing:
    """The tariff of a plan by the minute. Energy of one interval is kept apart by `Charge`, so that a factor or an
    edition that begins inside a month counts from its day on."""

    def __init__(self, plan: EnergyPlan) -> None:
        self._plan = plan
        self._zone = ZoneInfo(plan.timezone)
        self._tariff = Tariff(plan.editions, plan.calendar, plan.timezone) if plan.editions else None
        if self._tariff is not None:
            for event, day in plan.events:
                self._tariff.declare(event, day)
        self._timetable: Timetable | None = None
        self._timetable_ends = NEVER
        days = {row.valid_from for row in plan.factors} | {edition.valid_from for edition in plan.editions}
        days |= {row.valid_to + timedelta(days=1) for row in plan.factors if row.valid_to is not None}
        self._since = [self._instant(day) for day in sorted(days)]

    def at(self, minute: int) -> Charge:
        """Return what a minute is charged with."""
        place = bisect_right(self._since, minute) - 1
        since = self._since[place] if place >= 0 else NEVER
        if self._tariff is None:
            return since, -1, -1.0
        table = self._timetable
        if table is None or not int(table.starts[0]) <= minute < self._timetable_ends:
            table = self._timetable = self._tariff.between(minute - 2 * _DAY_NS, minute + 40 * _DAY_NS)
            self._timetable_ends = minute + 39 * _DAY_NS
        place = int(np.searchsorted(table.starts, minute, "right")) - 1
        price = self._curve_price(minute, float(table.price[place]))
        return since, int(table.rate[place]), -1.0 if np.isnan(price) else price

    def _curve_price(self, minute: int, otherwise: float) -> float:
        """Return the price of the list of prices, if it has one for a minute."""
        curve = self._plan.curve
        place = bisect_right(curve, (minute, np.inf)) - 1
        if place < 0 or minute - curve[place][0] >= CURVE_STEP_MAX_NS:
            return otherwise
        return curve[place][1]

    def _instant(self, day: date) -> int:
        return int(datetime(day.year, day.month, day.day, tzinfo=self._zone).timestamp()) * NS_PER_S

    # ------------------------------------------------------------------ what changes

    def prices(self) -> list[list[Any]]:
        """Return what each rate costs from which day on, CBOR types."""
        return [
            [edition.valid_from.isoformat(), {str(rate): price for rate, price in sorted(edition.prices.items())}]
            for edition in (self._tariff.editions if self._tariff else ())
        ]

    def hours(self) -> list[str]:
        """Return when which rate holds, as text, to find out whether it has changed."""
        return [
            f"{edition.valid_from} {[_words(rule) for rule in edition.rules]}"
            for edition in (self._tariff.editions if self._tariff else ())
        ] + [f"{event} {day}" for event, day in sorted(self._plan.events)]

    def again(self, charge: Charge, begin: int, before: Sequence[Sequence[Any]]) -> Charge:
        """Return the charge of energy that was posted under older prices; one of a list of prices stays as it is."""
        since, code, price = charge
        if code < 0:
            return charge
        day = datetime.fromtimestamp(max(since, begin) / NS_PER_S, UTC).astimezone(self._zone).date().isoformat()
        rate = str(RATES[code])
        old, new = _price(before, day, rate), _price(self.prices(), day, rate)
        return charge if old != price else (since, code, new)


def _words(rule: HourRule) -> str:
    """Return a rule as text that is the same in every process."""
    when = sorted(rule.months), sorted(rule.days), rule.dates, rule.spans, rule.event
    return f"{rule.rate} {when}"


def _price(editions: Sequence[Sequence[Any]], day: str, rate: str) -> float:
    """Return the price of a rate on a day, -1 where there is none."""
    held: Mapping[str, float] = {}
    for number, (valid_from, prices) in enumerate(editions):
        if valid_from <= day or not number:
            held = prices
    return held.get(rate, -1.0)
