"""Standard coal and CO2 of intervals: by the factor that holds on each day, and which row that was."""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from edge.analytics.energy.factors import Factor, FactorSet, NoFactor, Purpose
from edge.analytics.energy.grid import Grid
from edge.analytics.energy.meters import MILLIONTHS
from edge.analytics.energy.names import CO2, COAL, COAL_EQUAL, has_equal_value
from edge.analytics.energy.plan import EnergyPlan, Metered
from edge.analytics.operator import Derived
from edge.core.batch import Event, Severity

SCOPES = (1, 2)


class Carbon:
    """The factors of a plan, and which of them are in use."""

    def __init__(self, plan: EnergyPlan, grid: Grid) -> None:
        self._plan, self._grid = plan, grid
        self._factors = FactorSet(plan.factors)
        self._in_use: dict[tuple[str, str], str] = {}
        self.purposes = [(COAL, Purpose.COAL_EQUIVALENT), (CO2, Purpose.CO2)]
        if has_equal_value(plan):
            self.purposes.insert(1, (COAL_EQUAL, Purpose.COAL_EQUAL))

    def of(self, place: int, purpose: Purpose, begin: int, energy: Mapping[int, int]) -> "Amount | None":
        """Return what energy of a meter comes to; None where no factor holds on a day that has energy.

        Args:
            place: the meter's.
            purpose: coal or CO2.
            begin: where the interval begins.
            energy: millionths, by the instant since which the same factors hold.
        """
        meter = self._plan.meters[place]
        parts = list[tuple[Factor, int]]()
        for since, amount in sorted(energy.items()):
            found = self._find(meter, purpose, self._grid.local(max(since, begin)).date())
            if found is None and amount:
                return None
            if found is not None:
                parts.append((found, amount))
        return Amount(parts) if parts else None

    def _find(self, meter: Metered, purpose: Purpose, day: date) -> Factor | None:
        # Equal value differs for what is made of other energy; a fuel has one value for both.
        for asked in (purpose, Purpose.COAL_EQUIVALENT) if purpose is Purpose.COAL_EQUAL else (purpose,):
            try:
                return self._factors.find(
                    meter.carrier, asked, day, unit=meter.unit, area=self._plan.area, factors=self._plan.factor_set
                )
            except NoFactor:
                continue
        return None

    def tell(self, meter: Metered, purpose: Purpose, amount: "Amount", tick: int, out: Derived) -> None:
        """Tell when a meter's figures are made with another row than before."""
        for found, _ in amount.parts:
            if self._in_use.get((meter.name, purpose)) == found.id:
                continue
            self._in_use[meter.name, purpose] = found.id
            message = f"{purpose} of {meter.name} is computed with {found.value:g} kg/{found.unit}, {found.document}"
            facts: dict[str, str | float] = {
                "factor": found.id,
                "value": found.value,
                "unit": found.unit,
                "scope": found.scope,
            }
            facts |= {"document": found.document, "confidence": found.confidence}
            out.events.append(Event(tick, meter.name, "factor_in_use", Severity.INFO, message, facts))

    # ------------------------------------------------------------------ state

    def state(self) -> list[Any]:
        """Return everything as CBOR types."""
        return [[[*key, factor] for key, factor in sorted(self._in_use.items())], self._rows()]

    def restore(self, state: Sequence[Any]) -> dict[str, str]:
        """Take a state up; return which rows have changed: the id, and what it was and is."""
        in_use, before = state
        now = self._rows()
        changed = {
            key: f"{before.get(key, 'none')} -> {now.get(key, 'none')}"
            for key in sorted({*before, *now})
            if before.get(key) != now.get(key)
        }
        # After a change each factor is told again.
        self._in_use = {} if changed else {(meter, purpose): factor for meter, purpose, factor in in_use}
        return changed

    def _rows(self) -> dict[str, str]:
        """Return by id what the figures are computed with, to find out whether it has changed."""
        return {
            row.id: f"{row.value:.10g} kg/{row.unit} scope {row.scope} from {row.valid_from} to {row.valid_to or 'now'}"
            for row in sorted(self._factors.rows, key=lambda row: row.id)
        }


class Amount:
    """What energy comes to: its parts as (factor, millionths of the unit)."""

    def __init__(self, parts: Sequence[tuple[Factor, int]]) -> None:
        self.parts = parts

    @property
    def kg(self) -> float:
        """The sum in kg."""
        return math.fsum(energy / MILLIONTHS * factor.value for factor, energy in self.parts)

    def of_scope(self, scope: int) -> float:
        """Return the kg of one scope."""
        return Amount([part for part in self.parts if part[0].scope == scope]).kg

    def words(self) -> Iterator[tuple[str, str]]:
        """Yield for each row its id, and what was computed with it."""
        for factor, energy in self.parts:
            yield factor.id, f"{energy / MILLIONTHS:g} {factor.unit} x {factor.value:g}"
