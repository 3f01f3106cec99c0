"""A meter's own registers by rate (DL/T 645 tariffs) against what the account makes of its total by the tariff.

The meter splits by its own clock and its own table of hours. Where both splits differ by more than its class allows,
one of the two is wrong, or the configured tariff is not the one that the meter was set to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge.analytics.energy.book import NOT_ISSUED, Page
from edge.analytics.energy.figures import Figures
from edge.analytics.energy.grid import Grid
from edge.analytics.energy.marks import DOUBTFUL, Mark
from edge.analytics.energy.meters import MILLIONTHS
from edge.analytics.energy.names import BILLED
from edge.analytics.energy.plan import Metered
from edge.analytics.energy.tariff_rules import RATES, Rate
from edge.analytics.operator import Derived
from edge.core.batch import Event, Severity
from edge.core.interval import Level


@dataclass(frozen=True, slots=True)
class Compared:
    """Energy of one rate in an interval: split here, shown by the meter, and by how much they may differ."""

    rate: Rate
    own: float
    meter: float
    tolerance: float

    @property
    def difference(self) -> float:
        """What was split here less what the meter shows."""
        return self.own - self.meter

    @property
    def agrees(self) -> bool:
        """Whether the two are one within the tolerance."""
        return abs(self.difference) <= self.tolerance


def compare(
    own: Mapping[Rate, float], meter: Mapping[Rate, float], percent: float, resolution: float, edge: float
) -> list[Compared]:
    """Return how the energies of an interval compare, by rate, for the rates that the meter has a register of.

    Args:
        own, meter: energy by rate.
        percent: accuracy class.
        resolution: energy of a register's last digit; two may be lost, one at each end.
        edge: share of the energy that may be split differently where a rate ends between two readings.
    """
    between = edge * abs(sum(own.values()))
    return [
        Compared(
            rate,
            own.get(rate, 0.0),
            shown,
            percent / 100 * max(own.get(rate, 0.0), shown) + 2 * resolution + between + 1e-9,
        )
        for rate, shown in meter.items()
    ]


def deviation(compared: list[Compared]) -> float:
    """Return the share of energy in percent that stands under another rate; 0 without energy."""
    total = max(sum(each.own for each in compared), sum(each.meter for each in compared))
    return 100 * misplaced(compared) / total if total > 0 else 0.0


def misplaced(compared: list[Compared]) -> float:
    """Return the energy that stands under another rate."""
    return sum(abs(each.difference) for each in compared) / 2


class RateWatch:
    """Compares the registers by rate of all meters that have some.

    Args:
        registers: for a meter's place the places of its registers by rate.
    """

    def __init__(
        self, meters: Sequence[Metered], registers: Mapping[int, Mapping[Rate, int]], figures: Figures, grid: Grid
    ) -> None:
        self._meters, self._registers, self._figures, self._grid = meters, registers, figures, grid
        self._differ: dict[str, bool] = {}
        self._hours: dict[str, dict[int, float]] = {}  # energy of recent hours under another rate, beyond tolerance

    def give(self, level: Level, page: Page, place: int, mark: Mark, revision: int, out: Derived) -> None:
        """Give out how the meter's own registers by rate compare with the tariff; tell when they begin to differ."""
        registers = self._registers.get(place, {})
        if not registers or any(page.revision[other] == NOT_ISSUED for other in registers.values()):
            return
        meter, begin = self._meters[place], page.interval.begin
        own = dict[Rate, float]()
        for (code, _), energy in page.by_price(place).items():
            own[RATES[code]] = own.get(RATES[code], 0.0) + energy / MILLIONTHS
        shown = {rate: page.energy[other] / MILLIONTHS for rate, other in registers.items()}
        edge = meter.edge_s / 60 / page.interval.minutes
        compared = compare(own, shown, meter.percent, meter.resolution, edge)
        both = mark | page.marks_of(list(registers.values()))
        for each in compared if level in BILLED else ():
            name = f"energy_meter_{each.rate}_{level}"
            self._figures.give(out, meter.name, name, begin, each.meter, both, revision)
            name = f"rate_difference_{each.rate}_{level}"
            self._figures.give(out, meter.name, name, begin, each.difference, both, revision)
        self._figures.give(out, meter.name, f"rate_deviation_{level}", begin, deviation(compared), both, revision)
        if both & DOUBTFUL:
            return
        hours = self._hours.setdefault(meter.name, {})
        if level is Level.HOUR:
            hours[begin] = 0.0 if all(each.agrees for each in compared) else misplaced(compared)
        elif level is Level.DAY:
            here = sum(energy for hour, energy in hours.items() if begin <= hour < page.interval.end)
            self._hours[meter.name] = {hour: energy for hour, energy in hours.items() if hour >= begin}
            self._tell(meter, compared, here, begin, out)

    def _tell(self, meter: Metered, compared: list[Compared], by_hour: float, begin: int, out: Derived) -> None:
        """Tell when the verdict of a day is another one: sums over a day may hide a clock that is wrong by an hour."""
        differ = by_hour > 0 or any(not each.agrees for each in compared)
        if self._differ.get(meter.name, False) == differ:
            return
        self._differ[meter.name] = differ
        day = self._grid.local(begin).date()
        facts: dict[str, str | float] = {
            str(each.rate): f"{each.own:g} here, {each.meter:g} in the meter, {each.tolerance:g} allowed"
            for each in compared
        }
        facts |= {"day": str(day), "verdict": "differ" if differ else "agree", "other_rate_by_hour": round(by_hour, 6)}
        message = f"{meter.name}: its own registers by rate agree with the tariff again since {day}"
        if differ:
            energy = max(by_hour, misplaced(compared))
            message = (
                f"{meter.name}: {energy:.1f} {meter.unit} of {day} stand under another rate in its own registers; "
                "its clock or its table of hours is another"
            )
        severity = Severity.MEDIUM if differ else Severity.INFO
        out.events.append(Event(self._figures.tick, meter.name, "rate_registers", severity, message, facts))

    def state(self) -> list[Any]:
        """Return everything as CBOR types."""
        hours = [[name, sorted(each.items())] for name, each in sorted(self._hours.items())]
        return [dict(sorted(self._differ.items())), hours]

    def restore(self, state: Sequence[Any]) -> None:
        """Take a state up."""
        self._differ = dict(state[0])
        self._hours = {name: dict(hours) for name, hours in state[1]}
