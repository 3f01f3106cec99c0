"""The bill of a month under a two-part tariff (两部制电价), line by line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from edge.analytics.energy.power_factor import adjustment, power_factor
from edge.analytics.energy.tariff_rules import Rate

_CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Basic:
    """The basic charge: by the month's highest demand, or by the transformer's capacity.

    price      currency units a kW or kVA and month
    capacity   kVA of the transformers; None to bill the demand
    contract   kW agreed; demand above `over` times of it costs `excess` times the price
    """

    price: float
    capacity: float | None = None
    contract: float | None = None
    over: float = 1.05
    excess: float = 2.0


@dataclass(frozen=True, slots=True)
class Line:
    """One line: amount = quantity · price, rounded half up to cents."""

    name: str
    quantity: Decimal
    unit: str
    price: Decimal
    amount: Decimal


def bill(
    energy: Sequence[tuple[Rate, float, float]],
    *,
    fixed: Mapping[str, float] | None = None,
    fund: float = 0.0,
    basic: Basic | None = None,
    demand: float = 0.0,
    reactive: float | None = None,
    standard: int = 90,
) -> tuple[Sequence[Line], Decimal]:
    """Return the lines of a month's bill and their sum.

    Args:
        energy: rate, kWh and the price of a kWh that floats; a rate stands there twice if its price changed.
        fixed: what does not float, by name: losses, transmission, system operation; currency units a kWh.
        fund: government funds, currency units a kWh. They are not part of what the power factor adjusts.
        basic: the basic charge.
        demand: the month's highest demand in kW.
        reactive: kvarh of the month; None leaves the power factor out.
        standard: power factor asked for, in hundredths.

    Source: Σ kWh · price + basic charge + adjustment · (energy charge + basic charge - funds), as grid companies bill;
    demand beyond 105 % of the contract at twice the price is unverified and can be set.
    """
    lines: list[Line] = []
    for rate, kwh, price in energy:
        if kwh:
            lines.append(_line(f"energy {rate}", kwh, "kWh", price))
    total = sum((Decimal(repr(float(kwh))) for _, kwh, _ in energy), Decimal(0))
    for name, price in (fixed or {}).items():
        lines.append(_line(name, float(total), "kWh", price))
    adjusted = sum((line.amount for line in lines), Decimal(0))
    if basic is not None:
        charges = _basic(basic, demand)
        lines += charges
        adjusted += sum((line.amount for line in charges), Decimal(0))
    if reactive is not None and total > 0:
        percent = adjustment(power_factor(float(total), reactive), standard)
        amount = (adjusted * percent / 100).quantize(_CENT, ROUND_HALF_UP)
        lines.append(Line("power factor", adjusted, "", percent / 100, amount))
    if fund:
        lines.append(_line("government funds", float(total), "kWh", fund))
    return lines, sum((line.amount for line in lines), Decimal(0))


def _basic(basic: Basic, demand: float) -> list[Line]:
    if basic.capacity is not None:
        return [_line("basic charge, capacity", basic.capacity, "kVA", basic.price)]
    if basic.contract is None or demand <= basic.contract * basic.over:
        return [_line("basic charge, demand", max(demand, 0.0), "kW", basic.price)]
    within = basic.contract * basic.over
    return [
        _line("basic charge, demand", within, "kW", basic.price),
        _line("basic charge, above the contract", demand - within, "kW", basic.price * basic.excess),
    ]


def _line(name: str, quantity: float, unit: str, price: float) -> Line:
    amount, each = Decimal(repr(round(float(quantity), 6))), Decimal(repr(round(float(price), 10)))
    return Line(name, amount, unit, each, (amount * each).quantize(_CENT, ROUND_HALF_UP))
