"""What an interval comes to: energy, rates and cost, coal and CO2, power factor, sums of meters, and the site's."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.analytics.energy.balance import Branch, Verdict, balance
from edge.analytics.energy.bill import bill
from edge.analytics.energy.book import NOT_ISSUED, Page
from edge.analytics.energy.carbon import SCOPES, Carbon
from edge.analytics.energy.demand_watch import DemandWatch
from edge.analytics.energy.factors import Purpose
from edge.analytics.energy.figures import Figures
from edge.analytics.energy.grid import Grid
from edge.analytics.energy.marks import DOUBTFUL, Mark
from edge.analytics.energy.meters import MILLIONTHS
from edge.analytics.energy.names import BILLED, COMPARED, SITE, STATED, carriers_of
from edge.analytics.energy.plan import ELECTRICITY, BillPlan, EnergyPlan, Metered, Process, Virtual
from edge.analytics.energy.power_factor import adjustment, power_factor
from edge.analytics.energy.rate_watch import RateWatch
from edge.analytics.energy.tariff_rules import RATES, Rate
from edge.analytics.energy.tariff_watch import TariffWatch, words_of
from edge.analytics.operator import Derived
from edge.core.batch import Event, Severity
from edge.core.interval import Level

CALIBRATION_DAYS = 30
DEVIATION_MAX = 5.0
"""Percent by which integrated power may differ from the register over a day."""

AGREE, DIFFER = "agree", "differ"


@dataclass(frozen=True, slots=True)
class Companions:
    """For a meter's place the places of what is read beside it: reactive register, power, own registers by rate."""

    reactive: Mapping[int, int]
    from_power: Mapping[int, int]
    by_rate: Mapping[int, Mapping[Rate, int]]

    def of(self, place: int) -> set[int]:
        """Return all companions of a meter."""
        found = {each[place] for each in (self.reactive, self.from_power) if place in each}
        return found | set(self.by_rate.get(place, {}).values())


class Statement:
    """Gives out the pages of the books."""

    def __init__(
        self,
        plan: EnergyPlan,
        figures: Figures,
        grid: Grid,
        companions: Companions,
        watches: Mapping[str, DemandWatch],
    ) -> None:
        self._plan, self._figures, self._grid = plan, figures, grid
        self._companions, self._watches = companions, watches
        self._reactive, self._from_power = companions.reactive, companions.from_power
        self._rates = RateWatch(plan.meters, companions.by_rate, figures, grid)
        self._place = {meter.name: place for place, meter in enumerate(plan.meters)}
        self._carbon = Carbon(plan, grid)
        self._tariffs = TariffWatch(plan.editions)
        self._verdicts: dict[str, str] = {}
        self._calibrations: dict[str, str] = {}

    def give(self, level: Level, page: Page, meters: NDArray[np.intp], out: Derived) -> None:
        """Give out what one interval comes to for some meters, and every sum that they are part of."""
        due = set(meters.tolist())
        changed = {place for place in due if place < len(self._plan.meters)}
        # A companion changes figures of its meter too.
        every = range(len(self._plan.meters))
        changed |= {at for at in every if page.revision[at] != NOT_ISSUED and self._companions.of(at) & due}
        begin = page.interval.begin
        for place in sorted(changed):
            meter, mark, revision = self._plan.meters[place], page.mark(place), self._revision(page, place)
            if place in due:
                value, own = page.energy[place] / MILLIONTHS, int(page.revision[place])
                self._figures.give(out, meter.name, f"energy_{level}", begin, value, mark, own)
                if level is Level.QUARTER and meter.name in self._watches and own == 0:
                    self._watches[meter.name].learn(begin, page.interval.end, value, out)
            if level in (Level.HOUR, Level.DAY) and meter.power:
                self._give_deviation(level, page, place, mark, revision, out)
            if level in STATED:
                self._give_cost(level, page, place, mark, revision, out)
                self._give_carbon(level, page, place, mark, revision, out)
            if level in BILLED:
                self._give_power_factor(level, page, place, mark, revision, out)
            if level in COMPARED:
                self._rates.give(level, page, place, mark, revision, out)
            if level is Level.DAY:
                self._tell_calibration(meter, page, out)
            if level is Level.MONTH and meter.name in self._watches:
                self._watches[meter.name].give_highest(begin, page.interval.end, mark, revision, out)
        for virtual in self._plan.virtual:
            self._give_virtual(level, page, virtual, changed, out)
        for process in self._plan.processes:
            self._give_process(level, page, process, changed, out)
        if level in STATED:
            self._give_site(level, page, changed, out)

    def _revision(self, page: Page, place: int) -> int:
        """Return the revision of figures that are made of a meter and its companions."""
        return sum(max(int(page.revision[other]), 0) for other in {place, *self._companions.of(place)})

    def _give_deviation(self, level: Level, page: Page, place: int, mark: Mark, revision: int, out: Derived) -> None:
        """Compare the register with the integrated power; tell when they differ over a day, and when no longer."""
        other = self._from_power[place]
        if page.revision[other] != NOT_ISSUED and page.energy[place]:
            percent = 100 * (page.energy[other] - page.energy[place]) / page.energy[place]
            both = mark | page.mark(other)
            name = self._plan.meters[place].name
            self._figures.give(out, name, f"power_deviation_{level}", page.interval.begin, percent, both, revision)
            if level is Level.DAY and not both & DOUBTFUL:
                self._tell_deviation(name, percent, page, out)

    def _tell_deviation(self, name: str, percent: float, page: Page, out: Derived) -> None:
        differ, key = abs(percent) > DEVIATION_MAX, f"{name} power"
        if (self._verdicts.get(key, AGREE) == DIFFER) == differ:
            return
        self._verdicts[key] = DIFFER if differ else AGREE
        day = self._grid.local(page.interval.begin).date()
        message = f"{name}: its power, integrated over {day}, is {percent:+.1f} % off its register"
        message += "; a ratio or a unit is wrong, or the power is read too seldom" if differ else ": they agree again"
        facts: dict[str, str | float] = {"percent": round(percent, 3), "day": str(day), "verdict": self._verdicts[key]}
        severity = Severity.MEDIUM if differ else Severity.INFO
        out.events.append(Event(self._figures.tick, name, "power_deviation", severity, message, facts))

    def _give_cost(self, level: Level, page: Page, place: int, mark: Mark, revision: int, out: Derived) -> None:
        meter = self._plan.meters[place]
        if not (meter.tariff and self._plan.editions):
            return
        by_rate = dict[int, int]()
        for (_, rate, _), energy in sorted(page.charged.items()):
            by_rate[rate] = by_rate.get(rate, 0) + int(energy[place])
        begin, cost = page.interval.begin, page.cost(place)
        if level is Level.DAY and revision == 0:
            self._tariffs.tell(meter.name, self._grid.local(begin).date(), self._figures.tick, out)
        for code, energy_of in by_rate.items():
            name, value = f"energy_{RATES[code]}_{level}", energy_of / MILLIONTHS
            self._figures.give(out, meter.name, name, begin, value, mark, revision)
        if cost is not None:
            self._figures.give(out, meter.name, f"cost_{level}", begin, cost, mark, revision)
        if cost is not None and level is Level.MONTH and self._plan.bill:
            self._give_bill(self._plan.bill, page, place, mark, revision, out)

    def _give_bill(self, asked: BillPlan, page: Page, place: int, mark: Mark, revision: int, out: Derived) -> None:
        """Give out the month's bill, and its lines as an event."""
        name, begin, end = self._plan.meters[place].name, page.interval.begin, page.interval.end
        other = self._reactive.get(place)
        watch = self._watches.get(name)
        lines, total = bill(
            [
                (RATES[rate], energy / MILLIONTHS, price - asked.extra)
                for (rate, price), energy in sorted(page.by_price(place).items())
            ],
            fixed=asked.fixed,
            fund=asked.fund,
            basic=asked.basic,
            demand=max(watch.highest(begin, end), 0.0) if watch else 0.0,
            reactive=None if other is None else page.energy[other] / MILLIONTHS,
            standard=self._plan.standard,
        )
        self._figures.give(out, name, f"bill_{Level.MONTH}", begin, float(total), mark, revision)
        first, last = self._grid.local(begin).date(), self._grid.local(end).date()
        month = first.strftime("%Y-%m")
        facts = {line.name: f"{line.quantity} {line.unit} x {line.price} = {line.amount}" for line in lines}
        held = [words_of(edition) for edition in self._tariffs.held(first, last)]
        facts["tariff"] = "; ".join(f"{each['valid_from']} {each['document']}".rstrip() for each in held)
        facts |= {"month": month, "revision": str(revision), "total": str(total)}
        message = f"{name}: the bill of {month} comes to {total}"
        out.events.append(Event(self._figures.tick, name, "energy_bill", Severity.INFO, message, facts))

    def _give_carbon(self, level: Level, page: Page, place: int, mark: Mark, revision: int, out: Derived) -> None:
        meter = self._plan.meters[place]
        for name, purpose in self._carbon.purposes:
            amount = self._carbon.of(place, purpose, page.interval.begin, page.by_since(place))
            if amount is not None:
                self._carbon.tell(meter, purpose, amount, self._figures.tick, out)
                self._figures.give(out, meter.name, f"{name}_{level}", page.interval.begin, amount.kg, mark, revision)

    def _give_power_factor(self, level: Level, page: Page, place: int, mark: Mark, revision: int, out: Derived) -> None:
        meter, other = self._plan.meters[place], self._reactive.get(place)
        if other is None or page.revision[other] == NOT_ISSUED or page.energy[place] <= 0:
            return
        both = mark | page.mark(other)
        hundredths = power_factor(page.energy[place] / MILLIONTHS, page.energy[other] / MILLIONTHS)
        percent = float(adjustment(hundredths, self._plan.standard))
        begin = page.interval.begin
        self._figures.give(out, meter.name, f"power_factor_{level}", begin, hundredths / 100, both, revision)
        self._figures.give(out, meter.name, f"power_factor_adjustment_{level}", begin, percent, both, revision)

    def _give_virtual(self, level: Level, page: Page, virtual: Virtual, changed: set[int], out: Derived) -> None:
        places = [self._place[part.meter] for part in virtual.parts]
        if not changed.intersection(places) or any(page.revision[place] == NOT_ISSUED for place in places):
            return
        value = math.fsum(part.weight * page.energy[at] for part, at in zip(virtual.parts, places, strict=True))
        mark = page.marks_of(places)
        revision = sum(int(page.revision[place]) for place in places)
        name, begin = f"{virtual.tag}_{level}", page.interval.begin
        self._figures.give(out, virtual.name, name, begin, value / MILLIONTHS, mark, revision)
        if virtual.parent is not None and level is Level.DAY and not mark & Mark.MISSING:
            self._judge(virtual, self._place[virtual.parent], page, out)

    def _judge(self, virtual: Virtual, parent: int, page: Page, out: Derived) -> None:
        """Say what the residual of a balance means, when it means something else than the day before."""
        branches = [
            Branch(page.energy[place] / MILLIONTHS, self._plan.meters[place].percent, sign, abs(part.weight))
            for part in virtual.parts
            if (place := self._place[part.meter]) != parent
            for sign in (1 if part.weight < 0 else -1,)
        ]
        found = balance(Branch(page.energy[parent] / MILLIONTHS, self._plan.meters[parent].percent), branches)
        if self._verdicts.get(virtual.name) == found.verdict:
            return
        self._verdicts[virtual.name] = found.verdict
        severity = Severity.INFO if found.verdict is Verdict.WITHIN_TOLERANCE else Severity.MEDIUM
        words = {
            Verdict.WITHIN_TOLERANCE: f"agrees with the meters below: {found.residual:+.1f}",
            Verdict.UNMETERED_LOAD: f"{found.residual:.1f} are in no meter below",
            Verdict.CHILDREN_EXCEED_PARENT: f"the meters below show {-found.residual:.1f} more",
        }[found.verdict]
        message = f"{virtual.name}: {words}, of {found.parent:.1f} {virtual.unit}; tolerance {found.tolerance:.1f}"
        facts = {name: round(getattr(found, name), 6) for name in ("residual", "tolerance", "parent", "children")}
        facts = {"verdict": found.verdict, **facts}
        out.events.append(Event(self._figures.tick, virtual.name, "energy_balance", severity, message, facts))

    def _give_process(self, level: Level, page: Page, process: Process, changed: set[int], out: Derived) -> None:
        """Give out the energy of a group of meters by carrier, and its cost, coal and CO2."""
        places = {self._place[part.meter]: part.weight for part in process.parts}
        if not changed.intersection(places) or any(page.revision[place] == NOT_ISSUED for place in places):
            return
        begin, mark = page.interval.begin, page.marks_of(list(places))
        revision = sum(int(page.revision[place]) for place in places)
        for carrier, name in carriers_of(self._plan, process).items():
            here = {at: weight for at, weight in places.items() if self._plan.meters[at].carrier == carrier}
            value = math.fsum(weight * page.energy[at] for at, weight in here.items()) / MILLIONTHS
            self._figures.give(out, process.name, f"{name}_{level}", begin, value, mark, revision)
        if level not in STATED:
            return
        for name, purpose in self._carbon.purposes:
            amounts = [
                (self._carbon.of(at, purpose, begin, page.by_since(at)), weight) for at, weight in places.items()
            ]
            known = [amount.kg * weight for amount, weight in amounts if amount is not None]
            if known:
                self._figures.give(out, process.name, f"{name}_{level}", begin, math.fsum(known), mark, revision)
        electric = {at: weight for at, weight in places.items() if self._plan.meters[at].carrier == ELECTRICITY}
        if self._plan.editions and electric:
            costs = [page.cost(at) for at in electric]
            if all(cost is not None for cost in costs):
                value = math.fsum(cost * weight for cost, weight in zip(costs, electric.values(), strict=True) if cost)
                self._figures.give(out, process.name, f"cost_{level}", begin, value, mark, revision)

    def _give_site(self, level: Level, page: Page, changed: set[int], out: Derived) -> None:
        """Give out the site's coal and CO2: the sum over what is bought, all carriers; and with which rows."""
        here = [place for place, meter in enumerate(self._plan.meters) if meter.is_bought]
        if not changed.intersection(here) or any(page.revision[place] == NOT_ISSUED for place in here):
            return
        begin, revision = page.interval.begin, sum(int(page.revision[place]) for place in here)
        facts: dict[str, str | int] = {"level": str(level), "begin": begin, "revision": revision}
        for name, purpose in self._carbon.purposes:
            amounts = {
                at: each for at in here if (each := self._carbon.of(at, purpose, begin, page.by_since(at))) is not None
            }
            if not amounts:
                continue
            mark = page.marks_of(list(amounts))
            kg = math.fsum(amount.kg for amount in amounts.values())
            self._figures.give(out, SITE, f"{name}_{level}", begin, kg, mark, revision)
            for scope in SCOPES if purpose is Purpose.CO2 else ():
                kg = math.fsum(amount.of_scope(scope) for amount in amounts.values())
                self._figures.give(out, SITE, f"co2_scope{scope}_{level}", begin, kg, mark, revision)
            for at, amount in amounts.items():
                facts |= {f"{self._plan.meters[at].name} {name} {row}": text for row, text in amount.words()}
        if level is Level.MONTH and len(facts) > 3:
            message = f"coal and CO2 of the month that begins on {self._grid.local(begin).date()}, with the rows used"
            out.events.append(Event(self._figures.tick, SITE, "carbon_statement", Severity.INFO, message, facts))

    def _tell_calibration(self, meter: Metered, page: Page, out: Derived) -> None:
        """Tell once that a calibration ends within a month, and once that it has ended."""
        if meter.calibrated_until is None:
            return
        left = (meter.calibrated_until - self._grid.local(page.interval.end).date()).days
        stage = "ended" if left < 0 else "ends" if left <= CALIBRATION_DAYS else ""
        if stage and self._calibrations.get(meter.name) != f"{stage} {meter.calibrated_until}":
            self._calibrations[meter.name] = f"{stage} {meter.calibrated_until}"
            message = f"the calibration of {meter.name} {stage} on {meter.calibrated_until}"
            facts: dict[str, str | int] = {"calibrated_until": str(meter.calibrated_until), "days_left": left}
            severity = Severity.MEDIUM if left < 0 else Severity.LOW
            out.events.append(Event(self._figures.tick, meter.name, "calibration_due", severity, message, facts))

    def state(self) -> list[Any]:
        """Return everything as CBOR types."""
        kept = (self._verdicts, self._calibrations)
        told = self._rates.state(), self._carbon.state(), self._tariffs.state()
        return [*(dict(sorted(each.items())) for each in kept), *told]

    def restore(self, state: list[Any]) -> dict[str, str]:
        """Take a state up; return which factors have changed, by id: figures have to be stated anew."""
        verdicts, calibrations, differ, carbon, *tariffs = state
        for each in tariffs:  # a state of before has none
            self._tariffs.restore(each)
        self._rates.restore(differ)
        self._verdicts, self._calibrations = dict(verdicts), dict(calibrations)
        return self._carbon.restore(carbon)
