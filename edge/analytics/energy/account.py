"""The energy account: from meters to energy, cost, demand, coal and CO2 by interval, with corrections.

It works at ticks, one a minute of event time. At a tick everything that came up to it has been taken; a minute is given
out at the first tick after a later reading of its meter, so that nothing is guessed. A reading that comes later still
lands in its minute: every figure that it changes is given out again with a higher revision.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edge.analytics.energy.balance import Branch, Verdict, balance
from edge.analytics.energy.book import NOT_ISSUED, Book, Page
from edge.analytics.energy.demand import forecast, needed_reduction, sliding_demand
from edge.analytics.energy.factors import Factor, FactorSet, NoFactor, Purpose
from edge.analytics.energy.grid import MINUTE_NS, NS_PER_S, Grid, Level
from edge.analytics.energy.meters import MILLIONTHS, Mark, Meters, MeterSpec, shuffled, unshuffled
from edge.analytics.energy.plan import DemandPlan, EnergyPlan, Virtual, read_plan
from edge.analytics.energy.power_factor import adjustment, power_factor
from edge.analytics.energy.power_quality import voltage_unbalance
from edge.analytics.energy.tariff import RATES, Timetable
from edge.analytics.operator import NEVER, Derived, Operator, Output, Reading, Rows
from edge.core.batch import Event, Severity
from edge.core.catalogue import ValueKind
from edge.core.data_class import DataClass
from edge.core.quality import StatusCode, bad_mask

RECENT_MINUTES = 3
"""The power of so many minutes is what a forecast expects to go on."""

DOUBTFUL = Mark.GAP | Mark.RESET | Mark.JUMP | Mark.GLITCH | Mark.MISSING
"""With one of these a figure is uncertain; a roll-over, an exchange and a new ratio are accounted for exactly."""

PLAIN = Mark(0)

SUMMED = (Level.QUARTER, Level.HOUR, Level.SHIFT, Level.DAY, Level.MONTH)
STATED = (Level.DAY, Level.MONTH)
"""Levels for which cost, rates, coal, CO2 and power factor are stated."""

COAL, CO2, SITE = "standard_coal", "co2", "site"
_NO_PRICE = (-1, -1.0)


class EnergyAccount(Operator):
    """The account of one plant. Made from an `EnergyPlan`; see there."""

    KIND: ClassVar[str] = "energy"

    def __init__(self, plan: EnergyPlan) -> None:
        self.name = "energy"
        self._plan = plan
        self._grid = Grid(plan.timezone, plan.shifts)
        specs = [meter.spec for meter in plan.meters]
        self._place = {meter.name: place for place, meter in enumerate(plan.meters)}
        readers: dict[str, list[int]] = {}
        for place, meter in enumerate(plan.meters):
            readers.setdefault(meter.tag, []).append(place)
        self._reactive: dict[int, int] = {}
        self._from_power: dict[int, int] = {}
        for place, meter in enumerate(plan.meters):
            if meter.reactive:
                self._reactive[place] = len(specs)
                readers.setdefault(meter.reactive, []).append(len(specs))
                specs.append(MeterSpec(f"{meter.name} reactive", per=meter.spec.per, modulus=meter.spec.modulus))
            if meter.power:
                self._from_power[place] = len(specs)
                readers.setdefault(meter.power[0], []).append(len(specs))
                specs.append(MeterSpec(f"{meter.name} power", power=True, per=meter.power[1]))
        self._specs = specs
        self.meters = Meters(specs, room=2 * plan.late_ns // MINUTE_NS + 64)
        voltages = [path for meter in plan.meters for path in meter.voltages]
        self.inputs = list(dict.fromkeys([*readers, *voltages]))
        self._readers = [readers.get(path, []) for path in self.inputs]
        self._voltages = {
            place: [self.inputs.index(path) for path in meter.voltages]
            for place, meter in enumerate(plan.meters)
            if len(meter.voltages) == 3
        }
        self._last_voltage: dict[int, float] = {}
        self._factors = FactorSet(plan.factors)
        self._levels = [level for level in SUMMED if level in self._grid.levels]
        self._books = {level: Book(level, self._grid, len(specs)) for level in self._levels}
        self._tick = NEVER
        self._until = np.full(len(specs), NEVER, np.int64)
        self._minutes = np.zeros((len(specs), plan.late_ns // MINUTE_NS + 1), np.int64)
        self._revisions: dict[tuple[int, int], int] = {}
        self._timetable: Timetable | None = None
        self._timetable_ends = NEVER
        self._warned: dict[int, int] = {}
        self._windows: dict[tuple[int, int], float] = {}
        self._highest: dict[tuple[int, int], float] = {}
        self._in_use: dict[tuple[int, str], str] = {}
        self._verdicts: dict[str, str] = {}
        self._late = 0
        self.outputs: list[Output] = []
        self._output: dict[tuple[str, str], int] = {}
        self._declare()

    def _declare(self) -> None:
        """Say which tags there are."""
        for place, meter in enumerate(self._plan.meters):
            own = (meter.tag,)
            self._add(meter.name, "energy_1min", meter.unit, own)
            for level in self._levels:
                self._add(meter.name, f"energy_{level}", meter.unit, own)
            if place in self._from_power and meter.power:
                self._add(meter.name, "power_deviation_1h", "%", (meter.tag, meter.power[0]))
            if place in self._voltages:
                self._add(meter.name, "voltage_unbalance", "%", meter.voltages)
            for level in STATED:
                for name, unit in ((COAL, "kg"), (CO2, "kg")):
                    self._add(meter.name, f"{name}_{level}", unit, own)
                if meter.tariff and self._plan.tariff:
                    for rate in RATES:
                        self._add(meter.name, f"energy_{rate}_{level}", meter.unit, own)
                    self._add(meter.name, f"cost_{level}", "", own)
                if place in self._reactive and meter.reactive:
                    both = (meter.tag, meter.reactive)
                    self._add(meter.name, f"power_factor_{level}", "", both)
                    self._add(meter.name, f"power_factor_adjustment_{level}", "%", both)
        for level in STATED:
            for name in (COAL, CO2):
                self._add(SITE, f"{name}_{level}", "kg", tuple(meter.tag for meter in self._plan.meters))
        for demand in self._plan.demand:
            own = (self._plan.meters[self._place[demand.meter]].tag,)
            for name in ("demand", "demand_sliding", "demand_forecast", "demand_max_1mo"):
                self._add(demand.meter, name, "kW", own)
        for virtual in self._plan.virtual:
            tags = tuple(self._plan.meters[self._place[part.meter]].tag for part in virtual.parts)
            for level in self._levels:
                self._add(virtual.name, f"{virtual.tag}_{level}", virtual.unit, tags)

    def _add(self, device: str, name: str, unit: str, inputs: tuple[str, ...]) -> None:
        self._output[device, name] = len(self.outputs)
        self.outputs.append(Output(device, name, ValueKind.FLOAT64, unit, inputs, DataClass.ENERGY))

    # ------------------------------------------------------------------ event time

    def push(self, rows: Rows, now: int) -> Derived:
        """Take readings and return what they close, and what they correct."""
        out = Derived()
        done = 0
        if self._tick == NEVER and len(rows):
            self._tick = int(rows.at[0]) // MINUTE_NS * MINUTE_NS
        while self._tick != NEVER and self._tick + MINUTE_NS <= now:
            self._tick += MINUTE_NS
            last = int(np.searchsorted(rows.at, self._tick, "right"))
            self._take(rows.take(slice(done, last)))
            done = last
            self._settle(out)
        self._take(rows.take(slice(done, len(rows))))
        return out

    def due(self) -> int | None:
        """Return the next tick, as long as there are readings to settle."""
        return None if self._tick == NEVER else self._tick + MINUTE_NS

    def shift(self, by: int) -> None:
        """Keep to whole minutes after the clock was set."""
        if self._tick != NEVER:
            self._tick = (self._tick + by) // MINUTE_NS * MINUTE_NS

    def _take(self, rows: Rows) -> None:
        if not len(rows):
            return
        usable = ~bad_mask(rows.quality)
        for slots in self._voltages.values():
            for slot in slots:
                shown = np.flatnonzero(usable & (rows.slot == slot) & ~rows.is_old)
                if len(shown):
                    self._last_voltage[slot] = float(rows.value[shown[-1]])
        widest = max((len(readers) for readers in self._readers), default=0)
        for turn in range(widest):
            places = np.array([readers[turn] if len(readers) > turn else -1 for readers in self._readers], np.int32)
            meter = places[rows.slot]
            mine = usable & (meter >= 0)
            self.meters.take(meter[mine], rows.ts[mine], rows.value[mine])

    def _settle(self, out: Derived) -> None:
        """Give out what is known at this tick."""
        self._correct(out)
        self._close_minutes(out)
        for demand in self._plan.demand:
            self._watch(demand, out)
        for place, slots in self._voltages.items():
            if all(slot in self._last_voltage for slot in slots):
                value = voltage_unbalance(*(self._last_voltage[slot] for slot in slots))
                self._give(out, self._plan.meters[place].name, "voltage_unbalance", self._tick, value)
        for level in self._levels:
            book = self._books[level]
            for page, meters in book.issue(self._until, self._tick, self._plan.patience_ns):
                self._state_page(level, page, meters, out)
            book.forget(self._tick - self._plan.late_ns - self._plan.patience_ns, self._until)
        horizon = self._tick - self._plan.late_ns
        for key in [key for key in self._revisions if key[1] < horizon // MINUTE_NS]:
            del self._revisions[key]
        self._fold_windows(horizon)
        late = self.meters.counts()["late"]
        if late > self._late:
            self._tell_late(late - self._late, out)
            self._late = late

    def _tell_late(self, number: int, out: Derived) -> None:
        message = (
            f"{number} readings of meters came later than what is kept; their energy lies between their neighbours"
        )
        out.events.append(
            Event(self._tick, self.name, "readings_too_late", Severity.LOW, message, {"readings": number})
        )

    # ------------------------------------------------------------------ minutes

    def _close_minutes(self, out: Derived) -> None:
        """Give out every minute that a later reading has closed."""
        latest = self.meters.latest()
        for place in np.flatnonzero((self._until == NEVER) & (latest != NEVER)).tolist():
            # The first minute is not whole; it begins with the first reading.
            self._until[place] = self.meters.earliest(place) // MINUTE_NS * MINUTE_NS
        ends = np.where(latest == NEVER, NEVER, latest // MINUTE_NS * MINUTE_NS)
        spans = dict[tuple[int, int], list[int]]()
        for place in np.flatnonzero((ends > self._until) & (self._until != NEVER)).tolist():
            spans.setdefault((int(self._until[place]), int(ends[place])), []).append(place)
        for (begin, end), places in spans.items():
            which = np.array(places, np.int32)
            edges = np.arange(begin, end + 1, MINUTE_NS, dtype=np.int64)
            energy, marks = self.meters.measure(which, edges)
            self._until[which] = end
            for number, minute in enumerate(edges[:-1].tolist()):
                self._post(minute, which, energy[:, number], 1, marks[:, number], out)
                self._minutes[which, self._ring(minute)] = energy[:, number]
            for demand in self._plan.demand:
                if self._place[demand.meter] in places:
                    self._demand(demand, begin, end, 0, out)

    def _ring(self, minute: int) -> int:
        return minute // MINUTE_NS % self._minutes.shape[1]

    def _correct(self, out: Derived) -> None:
        """Measure again what late readings touched, and post the differences."""
        for dirty in self.meters.dirty():
            place, until = dirty.meter, int(self._until[dirty.meter])
            oldest = max(self._tick - self._plan.late_ns, self.meters.oldest(place)) // MINUTE_NS * MINUTE_NS
            begin = max(dirty.begin // MINUTE_NS * MINUTE_NS, oldest)
            end = min(-(-dirty.end // MINUTE_NS) * MINUTE_NS, until)
            if until == NEVER or begin >= end:
                continue
            which = np.array([place], np.int32)
            edges = np.arange(begin, end + 1, MINUTE_NS, dtype=np.int64)
            energy, marks = self.meters.measure(which, edges)
            for number, minute in enumerate(edges[:-1].tolist()):
                before = self._minutes[place, self._ring(minute)]
                moved = energy[0, number] - before
                if moved:
                    self._revisions[place, minute // MINUTE_NS] = (
                        self._revisions.get((place, minute // MINUTE_NS), 0) + 1
                    )
                    self._post(minute, which, np.array([moved]), 0, marks[:, number], out, energy[0, number])
                    self._minutes[place, self._ring(minute)] = energy[0, number]
            for demand in self._plan.demand:
                if self._place[demand.meter] == place:
                    last = min(end + (demand.window - 1) * MINUTE_NS, until)
                    worst = max(
                        (self._revisions.get((place, at // MINUTE_NS), 0) for at in edges[:-1].tolist()), default=0
                    )
                    if worst:
                        self._demand(demand, begin, last, worst, out)

    def _post(
        self,
        minute: int,
        which: NDArray[np.int32],
        energy: NDArray[np.int64],
        known: int,
        marks: NDArray[np.int64],
        out: Derived,
        whole: int | None = None,
    ) -> None:
        """Put one minute of some meters into the books and give it out; `whole` is the value a correction leads to."""
        price = self._price(minute)
        counted = np.full(len(which), known, np.int64)
        for book in self._books.values():
            book.post(minute, which, energy, counted, marks, price)
        for place, value, mark in zip(which.tolist(), energy.tolist(), marks.tolist(), strict=True):
            if place < len(self._plan.meters):
                shown = value if whole is None else int(whole)
                revision = self._revisions.get((place, minute // MINUTE_NS), 0)
                name = self._plan.meters[place].name
                self._give(out, name, "energy_1min", minute, shown / MILLIONTHS, Mark(mark), revision)

    def _price(self, minute: int) -> tuple[int, float]:
        """Return rate and price that hold in a minute."""
        if self._plan.tariff is None:
            return _NO_PRICE
        table = self._timetable
        if table is None or not int(table.starts[0]) <= minute < self._timetable_ends:
            day = 86_400 * NS_PER_S
            table = self._timetable = self._plan.tariff.between(minute - 2 * day, minute + 40 * day)
            self._timetable_ends = minute + 39 * day
        place = int(np.searchsorted(table.starts, minute, "right")) - 1
        price = float(table.price[place])
        return int(table.rate[place]), -1.0 if np.isnan(price) else price

    # ------------------------------------------------------------------ demand

    def _watch(self, demand: DemandPlan, out: Derived) -> None:
        """Say what the demand is, and what it will be when the window closes."""
        place = self._place[demand.meter]
        window = demand.window * MINUTE_NS
        latest = int(self.meters.latest()[place])
        if latest == NEVER:
            return
        begin = latest // window * window
        which = np.array([place], np.int32)
        energy, _ = self.meters.measure(which, np.array([begin, latest], np.int64))
        recent, seen = self.meters.measure(which, np.array([latest - RECENT_MINUTES * MINUTE_NS, latest], np.int64))
        if seen[0, 0] & Mark.MISSING or latest == begin:
            return
        elapsed = (latest - begin) / MINUTE_NS
        so_far, power = energy[0, 0] / MILLIONTHS, recent[0, 0] / MILLIONTHS * 60 / RECENT_MINUTES
        expected = forecast(so_far, elapsed, power, demand.window)
        if self._tick - latest < window:
            self._give(out, demand.meter, "demand_forecast", self._tick, expected)
        if demand.limit is not None and expected > demand.limit and self._warned.get(place) != begin:
            self._warned[place] = begin
            reduce = needed_reduction(so_far, elapsed, power, demand.window, demand.limit)
            out.events.append(
                Event(
                    self._tick,
                    demand.meter,
                    "demand_limit_expected",
                    Severity.HIGH,
                    f"demand of {demand.meter} will be {expected:.1f} kW when the window closes, "
                    f"above {demand.limit:g} kW",
                    {
                        "forecast_kw": round(expected, 3),
                        "limit_kw": demand.limit,
                        "reduce_by_kw": round(reduce, 3) if np.isfinite(reduce) else None,
                        "closes": (begin + window) // NS_PER_S,
                    },
                )
            )

    def _demand(self, demand: DemandPlan, begin: int, end: int, revision: int, out: Derived) -> None:
        """Give out the demand of every window that ends in (begin, end]."""
        place = self._place[demand.meter]
        window = demand.window * MINUTE_NS
        edges = np.arange(begin - window + MINUTE_NS, end + 1, MINUTE_NS, dtype=np.int64)
        energy, marks = self.meters.measure(np.array([place], np.int32), edges)
        power, complete = sliding_demand(energy[0] / MILLIONTHS, (marks[0] & Mark.MISSING) == 0, demand.window)
        for number, (value, whole) in enumerate(zip(power.tolist(), complete.tolist(), strict=True)):
            closes = begin + (number + 1) * MINUTE_NS
            mark = PLAIN if whole else Mark.MISSING
            block = closes % window == 0
            if block:
                self._give(out, demand.meter, "demand", closes - window, value, mark, revision)
            self._give(out, demand.meter, "demand_sliding", closes - MINUTE_NS, value, mark, revision)
            if whole and (block or demand.sliding):
                self._windows[place, closes - MINUTE_NS] = value

    def _fold_windows(self, horizon: int) -> None:
        """Keep of windows that cannot change any more only the highest of each month."""
        for place, minute in [key for key in self._windows if key[1] < horizon]:
            month = self._grid.interval(Level.MONTH, minute).begin
            value = self._windows.pop((place, minute))
            self._highest[place, month] = max(value, self._highest.get((place, month), -np.inf))

    def _highest_demand(self, place: int, begin: int, end: int) -> float:
        recent = [value for (of, at), value in self._windows.items() if of == place and begin <= at < end]
        return max([*recent, self._highest.get((place, begin), -np.inf)])

    # ------------------------------------------------------------------ intervals

    def _state_page(self, level: Level, page: Page, meters: NDArray[np.intp], out: Derived) -> None:
        """Give out what one interval comes to for some meters, and every sum that they are part of."""
        changed = {int(place) for place in meters if place < len(self._plan.meters)}
        # A meter's companions change its figures too.
        for companions in (self._reactive, self._from_power):
            changed |= {place for place, other in companions.items() if other in meters and page.revision[place] >= 0}
        for place in sorted(changed):
            meter = self._plan.meters[place]
            mark = self._mark(page, place)
            revision = self._revision(page, place)
            if place in meters:
                value = page.energy[place] / MILLIONTHS
                self._give(
                    out, meter.name, f"energy_{level}", page.interval.begin, value, mark, int(page.revision[place])
                )
            if level is Level.HOUR and place in self._from_power:
                other = self._from_power[place]
                if page.revision[other] != NOT_ISSUED and page.energy[place]:
                    value = 100 * (page.energy[other] - page.energy[place]) / page.energy[place]
                    mark |= self._mark(page, other)
                    self._give(out, meter.name, "power_deviation_1h", page.interval.begin, value, mark, revision)
            if level in STATED:
                self._state_meter(level, page, place, mark, revision, out)
        for virtual in self._plan.virtual:
            self._state_virtual(level, page, virtual, changed, out)
        if level in STATED:
            self._state_site(level, page, changed, out)

    def _revision(self, page: Page, place: int) -> int:
        """Return the revision of figures that are made of a meter and its companions."""
        others = [place, self._reactive.get(place, place), self._from_power.get(place, place)]
        return sum(max(int(page.revision[other]), 0) for other in dict.fromkeys(others))

    def _mark(self, page: Page, place: int) -> Mark:
        mark = Mark(int(page.marks[place]))
        return mark if page.known[place] >= page.interval.minutes else mark | Mark.MISSING

    def _state_meter(self, level: Level, page: Page, place: int, mark: Mark, revision: int, out: Derived) -> None:
        meter, begin = self._plan.meters[place], page.interval.begin
        if meter.tariff and self._plan.tariff:
            by_rate, cost, priced = dict[int, int](), 0.0, True
            for (rate, price), energy in sorted(page.priced.items()):
                by_rate[rate] = by_rate.get(rate, 0) + int(energy[place])
                cost += energy[place] / MILLIONTHS * price
                priced &= price >= 0 or not energy[place]
            for code, energy_of in by_rate.items():
                name = f"energy_{RATES[code]}_{level}"
                self._give(out, meter.name, name, begin, energy_of / MILLIONTHS, mark, revision)
            if priced:
                self._give(out, meter.name, f"cost_{level}", begin, cost, mark, revision)
        for name, purpose in ((COAL, Purpose.COAL_EQUIVALENT), (CO2, Purpose.CO2)):
            factor = self._factor(place, purpose, page, out)
            if factor is not None:
                value = page.energy[place] / MILLIONTHS * factor.value
                self._give(out, meter.name, f"{name}_{level}", begin, value, mark, revision)
        other = self._reactive.get(place)
        if other is not None and page.revision[other] != NOT_ISSUED and page.energy[place] > 0:
            both = mark | self._mark(page, other)
            hundredths = power_factor(page.energy[place] / MILLIONTHS, page.energy[other] / MILLIONTHS)
            self._give(out, meter.name, f"power_factor_{level}", begin, hundredths / 100, both, revision)
            percent = float(adjustment(hundredths, self._plan.standard))
            self._give(out, meter.name, f"power_factor_adjustment_{level}", begin, percent, both, revision)
        if level is Level.MONTH and any(demand.meter == meter.name for demand in self._plan.demand):
            highest = self._highest_demand(place, begin, page.interval.end)
            if np.isfinite(highest):
                self._give(out, meter.name, "demand_max_1mo", begin, highest, mark, revision)

    def _factor(self, place: int, purpose: Purpose, page: Page, out: Derived) -> Factor | None:
        """Return the factor of a meter that holds in an interval, and tell when it is another than before."""
        meter = self._plan.meters[place]
        day = self._grid.local(page.interval.begin).date()
        try:
            found = self._factors.find(
                meter.carrier, purpose, day, unit=meter.unit, area=self._plan.area, factors=self._plan.factor_set
            )
        except NoFactor:
            return None
        if self._in_use.get((place, purpose)) != found.id:
            self._in_use[place, purpose] = found.id
            out.events.append(
                Event(
                    self._tick,
                    meter.name,
                    "factor_in_use",
                    Severity.INFO,
                    f"{purpose} of {meter.name} is computed with {found.value:g} kg/{found.unit}, {found.document}",
                    {
                        "factor": found.id,
                        "value": found.value,
                        "unit": found.unit,
                        "scope": found.scope,
                        "document": found.document,
                        "confidence": found.confidence,
                    },
                )
            )
        return found

    def _state_virtual(self, level: Level, page: Page, virtual: Virtual, changed: set[int], out: Derived) -> None:
        places = [self._place[part.meter] for part in virtual.parts]
        if not changed.intersection(places) or any(page.revision[place] == NOT_ISSUED for place in places):
            return
        value = sum(part.weight * page.energy[place] for part, place in zip(virtual.parts, places, strict=True))
        mark = PLAIN
        for place in places:
            mark |= self._mark(page, place)
        revision = sum(int(page.revision[place]) for place in places)
        begin = page.interval.begin
        self._give(out, virtual.name, f"{virtual.tag}_{level}", begin, value / MILLIONTHS, mark, revision)
        if virtual.parent is not None and level is Level.DAY and not mark & Mark.MISSING:
            self._judge(virtual, self._place[virtual.parent], page, out)

    def _judge(self, virtual: Virtual, place: int, page: Page, out: Derived) -> None:
        """Say what the residual of a balance means, when it means something else than the day before."""
        branches = [
            Branch(
                page.energy[self._place[part.meter]] / MILLIONTHS,
                self._plan.meters[self._place[part.meter]].percent,
                1 if part.weight < 0 else -1,
                abs(part.weight),
            )
            for part in virtual.parts
            if part.meter != virtual.parent
        ]
        found = balance(Branch(page.energy[place] / MILLIONTHS, self._plan.meters[place].percent), branches)
        if self._verdicts.get(virtual.name) == found.verdict:
            return
        self._verdicts[virtual.name] = found.verdict
        severity = Severity.INFO if found.verdict is Verdict.WITHIN_TOLERANCE else Severity.MEDIUM
        out.events.append(
            Event(
                self._tick,
                virtual.name,
                "energy_balance",
                severity,
                f"{virtual.name}: {found.residual:.1f} of {found.parent:.1f} {virtual.unit} are in no meter below",
                {
                    "verdict": found.verdict,
                    "residual": round(found.residual, 6),
                    "tolerance": round(found.tolerance, 6),
                    "parent": round(found.parent, 6),
                    "children": round(found.children, 6),
                },
            )
        )

    def _state_site(self, level: Level, page: Page, changed: set[int], out: Derived) -> None:
        """Give out the site's coal and CO2: the sum of the meters at its boundary."""
        below = {self._place[part.meter] for virtual in self._plan.virtual if virtual.parent for part in virtual.parts
                 if part.meter != virtual.parent}  # fmt: skip
        boundary = [place for place in range(len(self._plan.meters)) if place not in below]
        if not changed.intersection(boundary) or any(page.revision[place] == NOT_ISSUED for place in boundary):
            return
        for name, purpose in ((COAL, Purpose.COAL_EQUIVALENT), (CO2, Purpose.CO2)):
            found = [(place, self._factor(place, purpose, page, out)) for place in boundary]
            values = [page.energy[place] / MILLIONTHS * factor.value for place, factor in found if factor is not None]
            if values:
                mark = PLAIN
                for place, factor in found:
                    mark |= self._mark(page, place) if factor is not None else PLAIN
                revision = sum(int(page.revision[place]) for place in boundary)
                self._give(out, SITE, f"{name}_{level}", page.interval.begin, math.fsum(values), mark, revision)

    def _give(
        self, out: Derived, device: str, name: str, ts: int, value: float, mark: Mark = PLAIN, revision: int = 0
    ) -> None:
        quality = StatusCode.UNCERTAIN if mark & DOUBTFUL else StatusCode.GOOD
        out.readings.append(Reading(self._output[device, name], ts, float(value), quality, revision, self._tick))

    # ------------------------------------------------------------------ state

    def state(self) -> Mapping[str, Any]:
        """Return everything as CBOR types."""
        return {
            "specs": [repr(spec) for spec in self._specs],
            "meters": self.meters.state(),
            "tick": self._tick,
            "until": self._until.tolist(),
            "minutes": shuffled(self._minutes),
            "revisions": [[*key, revision] for key, revision in sorted(self._revisions.items())],
            "books": {level: book.state() for level, book in self._books.items()},
            "warned": sorted(self._warned.items()),
            "windows": [[*key, value] for key, value in sorted(self._windows.items())],
            "highest": [[*key, value] for key, value in sorted(self._highest.items())],
            "in use": [[*key, factor] for key, factor in sorted(self._in_use.items())],
            "verdicts": dict(sorted(self._verdicts.items())),
            "voltage": sorted(self._last_voltage.items()),
            "late": self._late,
        }

    def restore(self, state: Mapping[str, Any]) -> Sequence[str]:
        """Take a state up. A meter whose settings changed begins anew."""
        old = {spec: place for place, spec in enumerate(state["specs"])}
        places = {old[repr(spec)]: place for place, spec in enumerate(self._specs) if repr(spec) in old}
        before, here = list(places), list(places.values())
        self.meters.restore(state["meters"], places)
        self._tick = state["tick"]
        self._until[here] = np.array(state["until"], np.int64)[before]
        kept = unshuffled(state["minutes"], np.int64).reshape(len(old), -1)
        if kept.shape[1] == self._minutes.shape[1]:
            self._minutes[here] = kept[before]
        self._revisions = {(places[m], minute): each for m, minute, each in state["revisions"] if m in places}
        for level, pages in state["books"].items():
            if level in self._books:
                self._books[Level(level)].restore(pages, places)
        self._warned = {places[m]: begin for m, begin in state["warned"] if m in places}
        self._windows = {(places[m], at): value for m, at, value in state["windows"] if m in places}
        self._highest = {(places[m], at): value for m, at, value in state["highest"] if m in places}
        self._in_use = {(places[m], purpose): factor for m, purpose, factor in state["in use"] if m in places}
        self._verdicts = dict(state["verdicts"])
        if len(places) == len(self._specs):
            self._last_voltage = dict(state["voltage"])
        self._late = state["late"]
        return [spec.name for spec in self._specs if repr(spec) not in old]


def make(settings: Mapping[str, Any]) -> Sequence[Operator]:
    """Return the operators of the plan's part `energy`."""
    return [EnergyAccount(read_plan(settings))]
