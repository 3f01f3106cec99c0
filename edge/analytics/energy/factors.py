"""Factors from energy to standard coal and CO2: dated rows, each with its document and how sure it is.

A figure always keeps the id of the row that made it. A changed factor is another row, never an overwrite.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any

CARBON_TO_CO2 = 44 / 12


class Purpose(StrEnum):
    """What a factor leads to. Equivalent (当量) and equal value (等价) of electricity are never mixed."""

    COAL_EQUIVALENT = "coal_equivalent"  # 当量值, kgce
    COAL_EQUAL = "coal_equal"  # 等价值, kgce
    CO2 = "co2"  # kgCO2


class Confidence(StrEnum):
    """How sure a row is: several sources agree, one good source, or not verified."""

    HIGH = "high"
    MEDIUM = "medium"
    UNVERIFIED = "unverified"


@dataclass(frozen=True, slots=True)
class Factor:
    """One row of a factor set.

    id          as results keep it: set/carrier/purpose/area/first day
    value       kgce or kgCO2 a unit
    unit        of the energy carrier: kWh, m3 (0 °C, 101.325 kPa), kg, t, MJ
    scope       1 burnt here, 2 bought as electricity or heat; 0 where it does not apply
    """

    id: str
    carrier: str
    purpose: Purpose
    value: float
    unit: str
    area: str
    scope: int
    valid_from: date
    valid_to: date | None
    document: str
    confidence: Confidence


class NoFactor(LookupError):
    """No row fits; the message says what is nearest."""


class FactorSet:
    """The rows of one or several sets."""

    def __init__(self, rows: Iterable[Factor]) -> None:
        self.rows = tuple(rows)

    @classmethod
    def of(cls, files: Iterable[Mapping[str, Any]]) -> "FactorSet":
        """Read factor files: `set`, `document`, and `factors`, a list of rows; a row says what differs from its set.

        Raises:
            ValueError: a row that is not whole, or two rows of one id.
        """
        rows: dict[str, Factor] = {}
        for content in files:
            for raw in content["factors"]:
                factor = _row(content, raw)
                if factor.id in rows:
                    raise ValueError(f"two factors are called {factor.id}")
                rows[factor.id] = factor
        return cls(rows.values())

    def find(
        self, carrier: str, purpose: Purpose, day: date, *, unit: str, area: str = "", factors: str = ""
    ) -> Factor:
        """Return the row that holds on a day: of this area if there is one, else of the nation; the newest of several.

        `factors` names the set to keep to, where several have the carrier for this purpose.

        Raises:
            NoFactor: there is none.
        """
        rows = [row for row in self.rows if row.purpose is purpose]
        own = [row for row in rows if row.carrier == carrier and row.id.partition("/")[0] == factors]
        named = own or rows
        fitting = [row for row in named if row.carrier == carrier and row.unit == unit and row.area in (area, "")]
        valid = [row for row in fitting if row.valid_from <= day and (row.valid_to is None or day <= row.valid_to)]
        if valid:
            return max(valid, key=lambda row: (row.area == area, row.valid_from))
        if fitting:
            spans = ", ".join(f"{row.valid_from}..{row.valid_to or ''}" for row in fitting)
            raise NoFactor(f"no {purpose} factor of {carrier} holds on {day}; there are {spans}")
        units = sorted({row.unit for row in named if row.carrier == carrier})
        if units:
            raise NoFactor(f"the {purpose} factor of {carrier} is per {', '.join(units)}, not per {unit}")
        near = difflib.get_close_matches(carrier, {row.carrier for row in named}, 2, 0.5)
        raise NoFactor(f"no {purpose} factor of {carrier}" + (f"; did you mean {' or '.join(near)}?" if near else ""))


def _row(content: Mapping[str, Any], raw: Mapping[str, Any]) -> Factor:
    get = {**content, **raw}.get
    purpose, area, begin = Purpose(str(get("purpose"))), get("area", ""), get("valid_from")
    if not isinstance(begin, date):
        raise ValueError(f"{raw} says no valid_from")
    if "fuel" in raw:
        value = fuel_co2(**raw["fuel"])
    elif isinstance(get("value"), int | float):
        value = float(get("value", 0.0))
    else:
        raise ValueError(f"{raw} has neither value nor fuel")
    if purpose is Purpose.CO2 and get("scope") not in (1, 2, 3):
        raise ValueError(f"{raw} says no scope: 1 burnt here, 2 bought as electricity or heat, 3 else")
    name = "/".join(part for part in (content["set"], raw["carrier"], purpose, area, str(begin)) if part)
    return Factor(
        name,
        raw["carrier"],
        purpose,
        value,
        get("unit", ""),
        area,
        get("scope", 0),
        begin,
        get("valid_to"),
        get("document", ""),
        Confidence(get("confidence", "unverified")),
    )


def fuel_co2(net_calorific: float, carbon: float, oxidation: float) -> float:
    """Return kgCO2 a unit of a fuel: NCV · carbon content · oxidation · 44/12 (GB/T 32150).

    Args:
        net_calorific: MJ a unit (GJ/t is MJ/kg; GJ/10⁴ m³ is 0.1 MJ/m³).
        carbon: tC/GJ, which is kgC/MJ.
        oxidation: share that is burnt, 0 to 1.
    """
    return net_calorific * carbon * oxidation * CARBON_TO_CO2


def normal_cubic_metres(volume: float, temperature_c: float = 20.0, pressure_kpa: float = 101.325) -> float:
    """Return a gas volume at 0 °C and 101.325 kPa (Nm³). Suppliers often bill at 20 °C: 0.9318 Nm³ a m³."""
    return volume * (273.15 / (273.15 + temperature_c)) * (pressure_kpa / 101.325)
