"""What the energy account is asked for, as it travels to the worker: JSON types in, checked columns out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from edge.analytics.energy.bill import Basic
from edge.analytics.energy.factors import Confidence, Factor, Purpose
from edge.analytics.energy.spec import Change, MeterSpec
from edge.analytics.energy.tariff_rules import Edition, HourRule, Rate
from edge.analytics.energy.working_calendar import DayType, WorkingCalendar

ELECTRICITY = "electricity"


@dataclass(frozen=True, slots=True)
class RateRegister:
    """A meter's own register of one rate: its path, and what happened to it."""

    tag: str
    spec: MeterSpec


@dataclass(frozen=True, slots=True)
class Metered:
    """A meter of the account.

    name      the device its figures stand under
    carrier   what flows, as the factors call it
    unit      what its figures are in: kWh, m3, t, MJ, kg
    tag       path of the register or power it is read from
    spec      how its readings become energy
    tariff    whether it is billed by the tariff
    reactive  its reactive register, in kvarh; None without
    power     path of a power tag to compare the register with
    voltages  paths of the three line voltages
    rates     its own registers by rate
    resolution  energy of the last digit of those
    edge_s    seconds that may lie between readings of those
    percent   accuracy class
    calibrated_until  when its calibration ends, if that is known
    is_bought  whether it comes from outside, and so counts in the site's coal and CO2
    """

    name: str
    carrier: str
    unit: str
    tag: str
    spec: MeterSpec
    tariff: bool
    reactive: str | None
    power: tuple[str, float] | None
    voltages: tuple[str, ...]
    percent: float
    calibrated_until: date | None
    is_bought: bool
    rates: Mapping[Rate, RateRegister]
    resolution: float
    edge_s: float


@dataclass(frozen=True, slots=True)
class Part:
    """A meter within a sum: how much of it counts, below zero for what is taken off."""

    meter: str
    weight: float


@dataclass(frozen=True, slots=True)
class Virtual:
    """A figure made of meters. `parent` is the meter of a balance whose residual this is; None for a plain sum."""

    name: str
    tag: str
    unit: str
    parts: tuple[Part, ...]
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class Process:
    """A group of meters, of whatever flows: its energy by carrier, its cost, coal and CO2."""

    name: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class DemandPlan:
    """How demand is measured: window and slip in minutes, and the limit in kW at which one is warned."""

    meter: str
    window: int
    sliding: bool
    limit: float | None


@dataclass(frozen=True, slots=True)
class BillPlan:
    """What a month's bill has besides energy: see `bill`."""

    fixed: Mapping[str, float]
    fund: float
    basic: Basic | None

    @property
    def extra(self) -> float:
        """What of a price does not float."""
        return sum(self.fixed.values()) + self.fund


@dataclass(frozen=True, slots=True)
class EnergyPlan:
    """Everything the account is asked for."""

    timezone: str
    shifts: Mapping[str, int]
    meters: tuple[Metered, ...]
    virtual: tuple[Virtual, ...]
    processes: tuple[Process, ...]
    editions: tuple[Edition, ...]
    events: tuple[tuple[str, date], ...]
    calendar: WorkingCalendar
    curve: tuple[tuple[int, float], ...]
    currency: str
    demand: tuple[DemandPlan, ...]
    bill: BillPlan | None
    factors: tuple[Factor, ...]
    area: str
    factor_set: str
    standard: int
    late_ns: int
    patience_ns: int


def read_plan(raw: Mapping[str, Any]) -> EnergyPlan:
    """Return the plan that JSON types say. They come from a checked configuration: nothing is explained here.

    Raises:
        KeyError, ValueError: they are not whole.
    """
    below = {
        name for each in raw.get("virtual", ()) if each.get("parent") for name, _ in each["parts"]
        if name != each["parent"]
    }  # fmt: skip
    return EnergyPlan(
        raw["timezone"],
        raw.get("shifts", {}),
        tuple(_meter(each, each["name"] in below) for each in raw["meters"]),
        tuple(
            Virtual(each["name"], each["tag"], each["unit"], _parts(each["parts"]), each.get("parent"))
            for each in raw.get("virtual", ())
        ),
        tuple(Process(each["name"], _parts(each["parts"])) for each in raw.get("processes", ())),
        tuple(_edition(each) for each in raw.get("editions", ())),
        tuple((name, date.fromisoformat(day)) for name, days in raw.get("events", {}).items() for day in days),
        WorkingCalendar.of(raw.get("calendar") or {"years": {}}),
        tuple((begin, price) for begin, price in raw.get("curve", ())),
        raw.get("currency", "CNY"),
        tuple(DemandPlan(**each) for each in raw.get("demand", ())),
        _bill(raw.get("bill")),
        tuple(_factor(each) for each in raw.get("factors", ())),
        raw.get("area", ""),
        raw.get("factor_set", ""),
        raw.get("standard", 90),
        round(raw.get("late_s", 3600) * 1e9),
        round(raw.get("patience_s", 1800) * 1e9),
    )


def _meter(raw: Mapping[str, Any], is_below: bool) -> Metered:
    spec = MeterSpec(
        raw["name"],
        raw.get("integrate", False),
        raw.get("per", 1.0),
        raw.get("modulus", 0.0),
        raw.get("top"),
        tuple(Change(**change) for change in raw.get("changes", ())),
    )
    power = raw.get("power")
    return Metered(
        raw["name"],
        raw.get("carrier", ELECTRICITY),
        raw.get("unit", "kWh"),
        raw["tag"],
        spec,
        raw.get("tariff", False),
        raw.get("reactive"),
        (power["tag"], power["per"]) if power else None,
        tuple(raw.get("voltages", ())),
        raw.get("class", 1.0),
        date.fromisoformat(raw["calibrated_until"]) if raw.get("calibrated_until") else None,
        raw.get("bought", not is_below),
        {
            Rate(rate): RateRegister(
                each["tag"],
                MeterSpec(
                    f"{raw['name']} {rate}",
                    per=spec.per,
                    modulus=spec.modulus,
                    top=spec.top,
                    changes=tuple(Change(**change) for change in each.get("changes", ())),
                ),
            )
            for rate, each in raw.get("rates", {}).items()
        },
        raw.get("resolution", 0.0),
        max(raw.get("every_s", 60.0), 60.0),
    )


def _bill(raw: Mapping[str, Any] | None) -> BillPlan | None:
    if raw is None:
        return None
    return BillPlan(raw["fixed"], raw["fund"], Basic(**raw["basic"]) if raw["basic"] else None)


def _parts(raw: Sequence[Sequence[Any]]) -> tuple[Part, ...]:
    return tuple(Part(meter, weight) for meter, weight in raw)


def _edition(raw: Mapping[str, Any]) -> Edition:
    return Edition(
        date.fromisoformat(raw["valid_from"]),
        tuple(
            HourRule(
                Rate(rule["rate"]),
                frozenset(rule.get("months", ())),
                frozenset(DayType(day) for day in rule.get("days", ())),
                tuple((tuple(first), tuple(last)) for first, last in rule.get("dates", ())),
                tuple((begin, end) for begin, end in rule.get("spans", ())),
                rule.get("event", ""),
            )
            for rule in raw["rules"]
        ),
        {Rate(rate): price for rate, price in raw.get("prices", {}).items()},
        raw.get("fixed", 0.0),
        raw.get("document", ""),
        raw.get("confidence", ""),
    )


def _factor(raw: Mapping[str, Any]) -> Factor:
    ends = raw.get("valid_to")
    return Factor(
        raw["id"],
        raw["carrier"],
        Purpose(raw["purpose"]),
        raw["value"],
        raw["unit"],
        raw.get("area", ""),
        raw.get("scope", 0),
        date.fromisoformat(raw["valid_from"]),
        date.fromisoformat(ends) if ends else None,
        raw.get("document", ""),
        Confidence(raw.get("confidence", "unverified")),
    )
