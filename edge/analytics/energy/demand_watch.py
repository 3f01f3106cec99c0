"""Demand as it goes: what it is, what it will be when the window closes, and the month's highest."""

from typing import Any

import numpy as np

from edge.analytics.energy.demand import forecast, needed_reduction, sliding_demand
from edge.analytics.energy.figures import Figures
from edge.analytics.energy.grid import MINUTE_NS, NS_PER_S, Grid
from edge.analytics.energy.load_forecast import LoadForecast
from edge.analytics.energy.marks import Mark
from edge.analytics.energy.meters import MILLIONTHS, Meters
from edge.analytics.energy.plan import DemandPlan
from edge.analytics.operator import NEVER, Derived
from edge.core.batch import Event, Severity
from edge.core.interval import Level

MONTHS_KEPT = 15
"""As long as months can be stated anew."""

RECENT_MINUTES = 3
"""The power of so many minutes is what a forecast expects to go on."""


class DemandWatch:
    """The demand of one meter. Windows follow each other in whole lengths from midnight UTC."""

    def __init__(self, plan: DemandPlan, place: int, meters: Meters, figures: Figures, grid: Grid) -> None:
        self.plan = plan
        self.place = place
        self._which = np.array([place], np.int32)
        self._meters, self._figures, self._grid = meters, figures, grid
        self._seen = NEVER
        self._warned = NEVER
        self._windows: dict[int, float] = {}  # by the minute that ends it
        self._given: dict[int, tuple[float, bool, int]] = {}  # power, whole, revision, by the minute that ends it
        self._highest: dict[int, float] = {}  # by month
        self._load = LoadForecast()

    def look(self, out: Derived) -> None:
        """Say what the demand will be when the window closes, and warn if that is above the limit."""
        latest = int(self._meters.latest()[self.place])
        window = self.plan.window * MINUTE_NS
        begin = latest // window * window
        if latest in (NEVER, self._seen, begin):
            return
        self._seen = latest
        since, _ = self._meters.measure(self._which, np.array([begin, latest], np.int64))
        recently = np.array([latest - RECENT_MINUTES * MINUTE_NS, latest], np.int64)
        recent, marks = self._meters.measure(self._which, recently)
        if marks[0, 0] & Mark.MISSING:
            return
        elapsed = (latest - begin) / MINUTE_NS
        energy, power = since[0, 0] / MILLIONTHS, recent[0, 0] / MILLIONTHS * 60 / RECENT_MINUTES
        expected = forecast(energy, elapsed, power, self.plan.window)
        self._figures.give(out, self.plan.meter, "demand_forecast", self._figures.tick, expected)
        limit = self.plan.limit
        if limit is not None and expected > limit and self._warned != begin:
            self._warned = begin
            reduce = needed_reduction(energy, elapsed, power, self.plan.window, limit)
            out.events.append(self._warning(expected, limit, reduce, begin + window))

    def _warning(self, expected: float, limit: float, reduce: float, closes: int) -> Event:
        name = self.plan.meter
        return Event(
            self._figures.tick,
            name,
            "demand_limit_expected",
            Severity.HIGH,
            f"demand of {name} will be {expected:.1f} kW when the window closes, above {limit:g} kW",
            {
                "forecast_kw": round(expected, 3),
                "limit_kw": limit,
                "reduce_by_kw": round(reduce, 3) if np.isfinite(reduce) else None,
                "closes_s": closes // NS_PER_S,
            },
        )

    def close(self, begin: int, end: int, out: Derived) -> None:
        """Give out the demand of every window that ends in (begin, end]; of one that was given out, if it differs."""
        window = self.plan.window * MINUTE_NS
        edges = np.arange(begin - window + MINUTE_NS, end + 1, MINUTE_NS, dtype=np.int64)
        energy, marks = self._meters.measure(self._which, edges)
        power, complete = sliding_demand(energy[0] / MILLIONTHS, (marks[0] & Mark.MISSING) == 0, self.plan.window)
        for number, (value, whole) in enumerate(zip(power.tolist(), complete.tolist(), strict=True)):
            minute = begin + number * MINUTE_NS
            before = self._given.get(minute)
            if before is not None and before[:2] == (value, whole):
                continue
            revision = 0 if before is None else before[2] + 1
            self._given[minute] = value, whole, revision
            mark = Mark(0) if whole else Mark.MISSING
            is_block = (minute + MINUTE_NS) % window == 0
            if is_block:
                first = minute + MINUTE_NS - window
                self._figures.give(out, self.plan.meter, "demand", first, value, mark, revision)
            self._figures.give(out, self.plan.meter, "demand_sliding", minute, value, mark, revision)
            if whole and (is_block or self.plan.sliding):
                self._windows[minute] = value

    def learn(self, begin: int, end: int, energy: float, out: Derived) -> None:
        """Take the energy of a quarter hour, and say what the next one will take."""
        local = self._grid.local(begin)
        self._load.push(local.hour * 4 + local.minute // 15, energy)
        expected = self._load.next()
        if expected is not None:
            self._figures.give(out, self.plan.meter, "energy_forecast_15min", end, expected)

    def fold(self, horizon: int) -> None:
        """Keep of windows that cannot change any more only the highest of each month."""
        for minute in [minute for minute in self._windows if minute < horizon]:
            month = self._grid.interval(Level.MONTH, minute).begin
            self._highest[month] = max(self._windows.pop(minute), self._highest.get(month, -np.inf))
        for minute in [minute for minute in self._given if minute < horizon]:
            del self._given[minute]
        for month in sorted(self._highest)[:-MONTHS_KEPT]:
            del self._highest[month]

    def give_highest(self, begin: int, end: int, mark: Mark, revision: int, out: Derived) -> None:
        """Give out the month's highest demand of complete windows."""
        highest = self.highest(begin, end)
        if np.isfinite(highest):
            self._figures.give(out, self.plan.meter, "demand_max_1mo", begin, highest, mark, revision)

    def highest(self, begin: int, end: int) -> float:
        """Return the highest demand of complete windows between two instants; minus infinity for none."""
        recent = [value for minute, value in self._windows.items() if begin <= minute < end]
        return max([*recent, self._highest.get(begin, -np.inf)])

    def state(self) -> list[Any]:
        """Return everything as CBOR types."""
        load = self._load.state()
        given = [[minute, *each] for minute, each in sorted(self._given.items())]
        return [self._seen, self._warned, sorted(self._windows.items()), sorted(self._highest.items()), given, load]

    def restore(self, state: list[Any]) -> None:
        """Take a state up."""
        self._seen, self._warned, windows, highest, given, load = state
        self._load.restore(load)
        self._given = {minute: (value, whole, revision) for minute, value, whole, revision in given}
        self._windows, self._highest = dict(windows), dict(highest)
